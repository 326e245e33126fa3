"""The answer of a page: its figures against plain computations, and words that turn round with the numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from reports.answer import SEQUENCES, Answer, answer
from reports.answer_words import answer_figure, answer_table, sentences
from reports.stories import UNET, unet_beside
from tests.builders import checkpoint_of, generator, make
from unrolled import DiT, DiTConfig, Exponential, Logarithmic, draw_training_set, example, fit_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found() -> Answer:
    """A small network of random weights on an Ornstein-Uhlenbeck process."""
    process = make(6, 2, Exponential(3))
    model = DiT(DiTConfig(length=6, dim=2, width=16, depth=1, heads=2, ramps=16, t_range=(0.01, 4.0)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator(3))
    return answer([("net", checkpoint_of(model, process))], 0, CPU)


def test_errors_are_those_of_their_definition(found):
    """Error in all and in the longest mode, from scores and eigenvectors, for the affine estimate of the page."""
    process = make(6, 2, Exponential(3))
    x = process.noisy(SEQUENCES, 0.2, torch.Generator().manual_seed(0))
    errors = found.errors.set_index(["model", "t"])
    assert (errors.loc["exact score"] == 0).all(axis=None)
    assert float(errors.loc["hand-set, closed form", "error"].max()) <= 1e-5
    for model in ("hand-set, preconditioned", "affine, 10000 sequences", "net"):
        assert (errors.loc[model] > 0).all(axis=None)
    model = fit_model("affine", draw_training_set(process, 10_000, 0), (0.01, 4.0)).model
    residual, score = model(x, 0.2) - process.score(x, 0.2), torch.linalg.inv(process.noisy_covariance(0.2))
    longest = torch.linalg.eigh(process.temporal_covariance).eigenvectors[:, -1]
    part = torch.kron(longest[None], torch.eye(2, dtype=torch.float64))  # a sequence -> its values in the longest mode
    expected = {
        "error": residual.square().sum(dim=(1, 2)).mean() / score.trace(),  # E|score|^2 = tr C_t^{-1}
        "longest": (residual.flatten(1) @ part.T).square().sum(dim=1).mean() / (part @ score @ part.T).trace(),
    }
    for name, square in expected.items():
        ours = float(errors.loc[("affine, 10000 sequences", 0.2), name])
        assert ours == pytest.approx(float(square) ** 0.5, rel=1e-9)


def test_every_model_is_in_table_and_figure(found):
    table = answer_table(found)
    assert list(table.model) == list(found.models.model) and table.notna().all()[["error, t = 0.2"]].all()
    assert table.set_index("model").loc["net", "parameters"] > 0
    assert len(answer_figure(found).axes) == 2


def test_a_process_without_recipes_has_no_closed_form():
    process = make(6, 1, Logarithmic(3, 1))
    model = DiT(DiTConfig(length=6, dim=1, width=8, depth=1, heads=1, ramps=16, t_range=(0.05, 2.0)))
    found = answer([("net", checkpoint_of(model, process))], 0, CPU)
    assert "hand-set, closed form" not in set(found.models.model)
    assert "hand-set, preconditioned" in set(found.models.model)


def words(found: Answer) -> str:
    return " ".join(sentences(found))


def test_the_words_turn_round_with_the_numbers(found):
    linear = found.linear.assign(linear=0.9, low=0.85, high=0.95)
    better = replace(found, linear=linear)
    assert "needs nothing that is not linear" in words(better) and "makes net worse" not in words(better)
    worse = replace(found, linear=linear.assign(linear=1.5, low=1.4, high=1.6))
    assert "needs nothing" not in words(worse) and "makes net worse" in words(worse)
    other = found.errors.assign(longest=np.where(found.errors.model == "net", 2 * found.errors.error, 0.0))
    assert "most wrong where the dependence is longest" in words(replace(found, errors=other))
    other = found.errors.assign(longest=found.errors.error)
    assert "no worse where the dependence is longest" in words(replace(found, errors=other))
    perfect = found.errors.assign(error=found.errors.error.where(found.errors.model != "net", 1e-12))
    assert "have no less error" in words(replace(found, errors=perfect))
    assert "times less error" in words(found)


def test_a_unet_of_the_results_stands_beside_its_own_process_only():
    process = example("ou").process
    errors, sizes = unet_beside(process, [0.01, 0.2])
    assert list(errors.t) == [0.01, 0.2] and set(errors.model) == {UNET} and (errors.error < 1).all()
    assert len(sizes) == 1 and int(sizes.parameters.iloc[0]) == 338308 and sizes.blocks.isna().all()
    others = [make(32, 4, Exponential(4)), make(6, 2, Exponential(3))]  # another mean; another length
    assert all(table.empty for other in others for table in unet_beside(other, [0.01]))


def test_the_words_about_a_unet_turn_round_with_the_numbers(found):
    assert "UNet" not in words(found)
    own = found.errors[found.errors.model == "net"]
    models = pd.concat([found.models, pd.DataFrame([{"model": UNET, "parameters": 10}])], ignore_index=True)

    def beside(factor):
        errors = pd.concat([found.errors, own.assign(model=UNET, error=own.error * factor)], ignore_index=True)
        return replace(found, errors=errors, models=models)

    less, no_less = "has less error than net at t = ", "has no less error than net at t = "
    assert f"{less}0.01, 0.05, 0.2, 1, 3 (" in words(beside(0.5)) and no_less not in words(beside(0.5))
    assert f"{no_less}0.01, 0.05, 0.2, 1, 3 (" in words(beside(2.0)) and less not in words(beside(2.0))
    mixed = words(beside(np.where(own.t > 0.1, 2.0, 0.5)))
    assert f"{less}0.01, 0.05 (" in mixed and f"{no_less}0.2, 1, 3 (" in mixed
    assert UNET in set(answer_table(beside(1.0)).model) and len(answer_figure(beside(1.0)).axes) == 2


def test_without_a_trained_network_nothing_is_claimed(found):
    assert words(replace(found, linear=pd.DataFrame())) == ""
