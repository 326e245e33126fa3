"""The spatial probe: exact where the answer is known, silent where there is none."""

from typing import cast

import numpy as np
import pytest
import torch

from probes.spatial.__main__ import app
from probes.spatial.gains import diagonal_share, random_bases, spatial_gains
from probes.spatial.study import study_spatial
from tests.builders import checkpoint_of, generator, random_dit, refused, run
from unrolled import Exponential, GaussianProcess, random_spatial_covariance
from unrolled.handset import construct
from unrolled.models.dit import Block


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_a_random_basis_has_the_share_of_its_dimensions(dim):
    """Mean 2/(d+2); n draws of numbers in [0, 1] deviate by 5 standard errors <= 2.5/sqrt(n) once in 10^6."""
    draws = torch.randn(dim, dim, generator=generator(dim), dtype=torch.float64)
    shares = np.concatenate([diagonal_share((draws @ draws.T).numpy(), each) for each in random_bases(dim, 4000, 0)])
    assert shares.mean() == pytest.approx(2 / (dim + 2), abs=2.5 / np.sqrt(4000))
    assert shares.min() >= 0 and shares.max() <= 1 + 1e-12


def test_share_is_one_in_the_eigenbasis_and_undefined_for_multiples_of_the_identity():
    basis = next(random_bases(4, 1, 3))
    gain = basis[0].T @ np.diag([1.0, 2.0, 5.0, 7.0]) @ basis[0]
    assert diagonal_share(gain, np.linalg.eigh(gain)[1][None])[0] == pytest.approx(1, abs=1e-12)
    assert (
        np.isnan(diagonal_share(3 * np.eye(4), basis)).all() and np.isnan(diagonal_share(np.zeros((4, 4)), basis)).all()
    )


def test_first_layer_is_the_product_of_its_matrices():
    """Without normalisation, what the first layer's heads write is linear in the data: G is that of the weights
    alone."""
    model = random_dit(norm="none", registers=1).double()
    x = torch.randn(3, 6, 2, generator=generator(1), dtype=torch.float64)
    found = spatial_gains(model, x, 0.3)
    block = cast(Block, model.blocks[0])
    c = model.time(torch.tensor([[0.3]], dtype=torch.float64))
    scale = 1 + block.modulation(c).chunk(6, dim=-1)[1].flatten()
    for head in range(2):
        rows = slice(head * 8, (head + 1) * 8)
        value = block.attention.qkv.weight[2 * 16 :][rows]
        b = block.attention.out.weight[:, rows] @ value @ (scale[:, None] * model.embed.weight)
        # Central differences of a linear map: rounding over the step, 1e-16/1e-4, with a margin of 1000.
        np.testing.assert_allclose(found.heads[0, head], (b.T @ b).detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "algorithm"), [("dit", "chebyshev"), ("relu", "gradient_descent")])
def test_hand_set_models_work_in_the_eigenbasis(kind, algorithm):
    process = GaussianProcess(8, Exponential(3), random_spatial_covariance(3, generator=generator(4)))
    model = construct(process, algorithm, 3, model=kind, heads=12)
    table = study_spatial(checkpoint_of(model, process), [0.2], samples=4)
    heads = table.query("kind == 'head' and share.notna()")
    assert len(heads) > 0 and float(heads.share.min()) > 1 - 1e-6
    assert float(table.query("kind == 'score'").share.iloc[0]) == pytest.approx(1, abs=1e-9)
    assert not (table.query("kind == 'untrained'").p_corrected < 0.05).any()
    # Corrected among the heads of one network: some of the hand-set ones stay below 1, where the number of heads shows.
    assert (heads.p_corrected < 1).any() and table.query("kind == 'score'").p_corrected.isna().all()
    for kind in ("head", "untrained"):
        order = table[(table.kind == kind) & table.p.notna()].sort_values("p")
        stepped = np.minimum(1, np.maximum.accumulate(order.p * np.arange(len(order), 0, -1)))
        np.testing.assert_allclose(order.p_corrected, stepped, rtol=1e-14)


def test_p_values_in_two_dimensions_are_those_of_an_angle():
    """G_0 is traceless: in a basis turned by a uniform angle its share is cos^2 of twice the angle, so that a share of
    s or more has the probability (2/pi) arccos sqrt(s). p-values of 9999 bases are within 5 binomial standard
    errors."""
    process = GaussianProcess(6, Exponential(3), random_spatial_covariance(2, generator=generator(4)))
    table = study_spatial(checkpoint_of(random_dit(), process), [0.2, 1.0], samples=4)
    assert table.share.between(0.02, 0.98).sum() >= 6 and table.share.notna().all()
    expected = 2 / np.pi * np.arccos(np.sqrt(table.share))
    assert (np.abs(table.p - expected) <= 5 * np.sqrt(expected * (1 - expected) / 9999) + 1 / 10_000).all()


def test_command(tmp_path, capsys):
    from unrolled.handset.__main__ import app as handset_app

    path = tmp_path / "h.pt"
    run(handset_app, "--algorithm", "chebyshev", "--steps", 2, "--length", 8, "--dim", 2, "--heads", 12, "--out", path)
    run(app, "--ckpt", path, "--t", 0.1, "--samples", 4, "--out", tmp_path / "out")
    assert "score of the model" in capsys.readouterr().out
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"spatial.csv", "summary.json", "spatial.png"}
    assert refused(capsys, app, "--ckpt", path, "--t", 100).startswith("error: t: ")
    assert refused(capsys, app, "--ckpt", path, "--samples", 0).startswith("error: samples: ")
    flat = tmp_path / "flat.pt"
    run(handset_app, "--steps", 2, "--length", 8, "--dim", 2, "--spatial", "identity", "--heads", 12, "--out", flat)
    assert "distinct eigenvalues" in refused(capsys, app, "--ckpt", flat)
