"""`python -m reports.handset --out DIR`: every hand-set construction with its sizes and measured errors, as a table."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from unrolled.cli import module_app, run_app
from unrolled.diffusion import add_noise, relative_error
from unrolled.files import require_writable_folder, write_csv
from unrolled.handset import construct, hidden_iterates
from unrolled.handset.iterates import reference_iterates
from unrolled.models.record import record_of
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess
from unrolled.progress import track

__all__ = ["CONSTRUCTIONS", "markdown", "measure"]

TIMES = (0.001, 0.01, 0.1, 1.0, 5.0)
SAMPLES = 8
CONSTRUCTIONS: dict[str, dict[str, Any]] = {
    "DiT, gradient descent": {"algorithm": "gradient_descent", "steps": 16},
    "DiT, Chebyshev": {"algorithm": "chebyshev", "steps": 16},
    "DiT, Chebyshev, LayerNorm": {"algorithm": "chebyshev", "steps": 16, "norm": "layer"},
    "DiT, preconditioned, 1": {"algorithm": "preconditioned", "steps": 1},
    "DiT, preconditioned, 2": {"algorithm": "preconditioned", "steps": 2},
    "DiT, preconditioned, 3": {"algorithm": "preconditioned", "steps": 3},
    "ReLU, gradient descent": {"algorithm": "gradient_descent", "steps": 4, "model": "relu"},
    "the same, published modules of 8 layers": {
        "algorithm": "gradient_descent", "steps": 4, "model": "relu", "multiplication_layers": 8,
    },
    "the same, published modules of 24 layers": {
        "algorithm": "gradient_descent", "steps": 4, "model": "relu", "multiplication_layers": 24,
    },
    "ReLU, Chebyshev": {"algorithm": "chebyshev", "steps": 16, "model": "relu"},
    "ReLU, conjugate gradient": {"algorithm": "conjugate_gradient", "steps": 8, "model": "relu"},
}  # fmt: skip


@torch.no_grad()
def measure(process: GaussianProcess, options: dict[str, Any]) -> dict[str, Any]:
    """Sizes, and the largest error over t and steps, in float64 and float32.

    The error is the deviation of an iterate from that of the reference solver over the norm of the exact score (root
    mean squares over sequences); for the preconditioned models, which have no other reference, that of the score from
    the exact one.
    """
    row: dict[str, Any] = {}
    for dtype, name in ((torch.float64, "float64"), (torch.float32, "float32")):
        model = construct(process, dtype=dtype, **options)
        record = record_of(model)
        worst = 0.0
        for t in TIMES:
            generator = torch.Generator().manual_seed(0)
            x0 = process.sample(SAMPLES, generator)
            x = add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=torch.float64)).to(dtype)
            exact = process.score(x.double(), t)
            if record.algorithm == "preconditioned":
                worst = max(worst, relative_error(model(x, t), exact))
                continue
            expected = reference_iterates(record, process, x, t)
            for ours, theirs in zip(hidden_iterates(model, process, x, t), expected, strict=True):
                worst = max(worst, float((ours.double() - theirs).norm() / exact.norm()))
        if dtype == torch.float64:
            sizes = record.sizes
            row = {
                "steps": record.steps, "blocks L": int(sizes["L"]), "heads M": int(sizes["M"]),
                "width D": int(sizes["D"]), "hidden H": int(sizes["H"]), "largest weight B": sizes["B"],
            }  # fmt: skip
        row[f"error, {name}"] = worst
        row[f"predicted, {name}"] = max(record.predicted_error)
    return row


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, numbers that are not counts to two digits."""

    def cell(value: object) -> str:
        return f"{value:.1e}" if isinstance(value, float) else str(value)

    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [[cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def handset(
    *,
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    out: Path = Path("handset-table"),
) -> None:
    """Write handset.csv and print it as Markdown: every construction, its sizes and its errors at t = 0.001 .. 5.

    Parameters
    ----------
    out
        Folder for the file.
    """
    data = process.process()
    require_writable_folder("out", out)
    rows = []
    for name, options in track(CONSTRUCTIONS.items(), "constructions", "model"):
        rows.append({"construction": name, **measure(data, options)})
    table = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(table, out / "handset.csv")
    print(markdown(table))
    print(f"wrote {out / 'handset.csv'}")


app = module_app("reports.handset", handset)

if __name__ == "__main__":
    run_app(app)
