"""The checkpoints that ship with the package: they load by name, are small, and were trained as they say."""

import subprocess
from pathlib import Path

import pytest
import torch

from unrolled import InputError, example, load_checkpoint, score_errors
from unrolled.examples import EXAMPLES, example_file
from unrolled.options import train_config
from unrolled.train.trainer import Trainer, make_data

CPU = torch.device("cpu")
LARGEST = 1_500_000
"""Bytes of a file."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_small_and_loads_by_its_name(name):
    assert example_file(name).stat().st_size < LARGEST
    checkpoint = load_checkpoint(f"example:{name}")
    assert checkpoint.path == example_file(name) and not checkpoint.training
    for ours, theirs in zip(checkpoint.model.parameters(), example(name).model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_first_steps_of_an_example_are_reproduced(name):
    """From its options alone, the data included; 8 steps of float32 differ by sums in another order."""
    checkpoint = example(name)
    config = train_config(checkpoint.config)
    trainer = Trainer(config, make_data(config), CPU)
    first = checkpoint.provenance["first_losses"]
    losses = [float(loss) for loss, _ in zip(trainer.run(), first, strict=False)]
    assert losses == pytest.approx(first, rel=1e-4)
    other = [float(loss) for loss, _ in zip(Trainer(config, make_data(config), CPU).run(), range(1), strict=False)]
    assert other[0] == losses[0] and losses[0] != losses[-1]


@pytest.mark.parametrize("name", ["ou", "polynomial", "unet"])
def test_an_example_is_trained(name):
    """Its error is that of a trained network: an untrained one has 1."""
    checkpoint = example(name)
    assert max(score_errors(checkpoint.model, checkpoint.process, [0.01, 0.2, 3.0], samples=64).values()) < 0.1


def test_an_unknown_example_is_named():
    with pytest.raises(
        InputError, match=r"^example: 'cosine' is not accepted; accepted: 'ou', 'polynomial', 'weather', 'unet'$"
    ):
        load_checkpoint("example:cosine")


def test_the_files_are_tracked():
    """*.pt is ignored everywhere else; a checkout without its examples would pass every other test of a wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(["git", "ls-files", "unrolled/examples/*.pt"], cwd=root, capture_output=True, text=True)
    assert {Path(line).stem for line in done.stdout.split()} == set(EXAMPLES)
