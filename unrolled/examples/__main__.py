"""`python -m unrolled.examples --out DIR`: train the examples of the package again."""

import tempfile
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from unrolled.checkpoint import load_checkpoint, save_checkpoint
from unrolled.cli import module_app, run_app
from unrolled.examples import EXAMPLES
from unrolled.files import require_output_file, require_writable_folder
from unrolled.options import train_config
from unrolled.train.__main__ import app as train_app
from unrolled.train.trainer import Trainer

FIRST = 8
"""Losses of the first steps that a file holds, so that they can be reproduced without the rest."""


def examples(*, out: Path, overwrite: Annotated[bool, Parameter(negative=())] = False) -> None:
    """How were the checkpoints of the package trained?

    Example: `python -m unrolled.examples --out examples`

    The answer is the files, trained again: `ou`, `polynomial`, `weather` and `unet`, each as `python -m unrolled.train`
    trains it with the options in its record, without the state of the optimiser.

    Parameters
    ----------
    out
        Folder for the files.
    overwrite
        Replace files that exist.
    """
    require_writable_folder("out", out)
    for name in EXAMPLES:
        require_output_file("out", out / f"{name}.pt", overwrite)
    for name, options in EXAMPLES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.pt"
            train_app([*options, "--device", "cpu", "--out", str(path)], exit_on_error=False)
            run = load_checkpoint(path)
        trainer = Trainer(train_config(run.config), run.data, torch.device("cpu"))
        losses = [float(loss) for loss, _ in zip(trainer.run(), range(FIRST), strict=False)]
        command = " ".join(["python -m unrolled.train", *options])
        record = {**run.provenance, "command": command, "first_losses": losses}
        save_checkpoint(out / f"{name}.pt", run.model, run.data, run.config, record, run.history)


app = module_app("unrolled.examples", examples)

if __name__ == "__main__":
    run_app(app)
