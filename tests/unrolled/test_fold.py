"""A folded model is the plain one, and what is not constant is refused by name."""

import copy

import pytest
import torch
from torch import nn

from tests.builders import generator, make, noisy, random_dit
from unrolled import Exponential, GaussianProcess, Matern, construct, fold, relative_error
from unrolled.folding.folded import Folded
from unrolled.models.fixed_attention import FixedAttention, freeze

EPS = torch.finfo(torch.float64).eps
HAND_SET = {
    "gradient_descent": {"steps": 6},
    "chebyshev": {"steps": 8},
    "preconditioned": {"steps": 2},
}


def maps_of(model) -> list[torch.Tensor]:
    """Maps that a trained model might have on average: softmax of noise."""
    config = model.config
    tokens = config.registers + config.length
    noise = torch.randn(config.depth, config.heads, tokens, tokens, generator=generator(7))
    return list(noise.softmax(dim=-1))


def permuted(model):
    """The same function with the heads and the hidden units of every block in another order: what rounding changes."""
    other = copy.deepcopy(model)
    for block in other.block_list:
        heads, head_dim = block.attention.heads, block.attention.head_dim
        order = torch.arange(heads * head_dim).view(heads, head_dim).flip(0).flatten()
        rows = torch.cat([order + part * len(order) for part in range(3)])
        attention, (inner, _, outer) = block.attention, block.mlp
        attention.qkv.load_state_dict({"weight": attention.qkv.weight[rows], "bias": attention.qkv.bias[rows]})
        attention.out.load_state_dict({"weight": attention.out.weight[:, order], "bias": attention.out.bias})
        units = torch.arange(inner.out_features).flip(0)
        inner.load_state_dict({"weight": inner.weight[units], "bias": inner.bias[units]})
        outer.load_state_dict({"weight": outer.weight[:, units], "bias": outer.bias})
    return other


@torch.no_grad()
def assert_same(folded, model, process: GaussianProcess, dtype=torch.float64) -> None:
    """At many t, one by one, again, and together: no further apart than 30 times what another order of the plain
    model's sums changes, or rounding of the score itself."""
    times = [1e-3, 0.02, 0.4, 7.9]
    every = torch.tensor(times, dtype=torch.float64)
    x = torch.cat([noisy(process, t, 1) for t in times]).to(dtype)
    plain, other = model(x, every), permuted(model)(x, every)
    many = process.length * process.dim
    for k, t in enumerate(times):
        size = float(plain[k].norm())
        allowed = 30 * max(float((other[k] - plain[k]).norm()), 30 * torch.finfo(dtype).eps * size)
        assert float((folded(x, every)[k] - plain[k]).norm()) <= allowed
        assert float((folded(x[k : k + 1], t)[0] - plain[k]).norm()) <= allowed
        asked = x[k : k + 1].expand(many, -1, -1)  # often enough for a matrix
        assert float((folded(asked, t)[-1] - plain[k]).norm()) <= allowed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("algorithm", HAND_SET)
@pytest.mark.parametrize(
    ("length", "dim", "kernel"), [(24, 3, Exponential(6)), (2, 1, Matern(4)), (1, 2, Exponential(2))]
)
def test_every_hand_set_dit(algorithm, length, dim, kernel, dtype):
    process = make(length, dim, kernel)
    model = construct(process, algorithm, **HAND_SET[algorithm], dtype=dtype)
    folded = fold(model)
    assert isinstance(folded, Folded) and folded.linear is not None
    assert_same(folded, model, process, dtype)


def test_heads_of_a_solver_are_summed():
    """One map for each value of a frame replaces all heads, and equal blocks share them."""
    process = make(24, 3, Exponential(6))
    model = construct(process, "chebyshev", 4)
    folded = fold(model)
    attention = [block.attention for block in folded.network.block_list]
    assert all(isinstance(each, FixedAttention) for each in attention)
    assert all(each.maps.shape == (3, 25, 25) for each in attention) and model.config.heads > 40
    assert all(each is attention[0] for each in attention)
    # Each map is Gamma times an eigenvalue of Sigma.
    expected = process.spatial_eigen[0][:, None, None] * process.temporal_covariance
    torch.testing.assert_close(attention[0].maps[:, 1:, 1:], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"norm": "none"}, {"registers": 2}, {"norm": "none", "registers": 1}], ids=str)
def test_a_trained_dit_is_refused_and_folded_once_its_maps_are_frozen(options):
    model = random_dit(length=10, dim=2, **options).double()
    with pytest.raises(ValueError, match=r"^model: block 0, heads 0, 1: queries or keys read .* accepted: a DiT whose"):
        fold(model)
    frozen = freeze(model, maps_of(model))
    folded = fold(frozen)
    x = torch.randn(3, 10, 2, generator=generator(), dtype=torch.float64)
    for t in (0.01, 0.5, torch.tensor([0.01, 0.5, 3.0])):
        assert relative_error(folded(x, t), frozen(x, t).detach()) <= 1e4 * EPS
    assert folded.linear is None  # its MLPs are not affine


def test_frozen_maps_are_what_the_attention_uses():
    """Frozen at its own maps for one sequence and t, a model gives its own score there, and no other elsewhere."""
    model = random_dit(length=7, dim=2, registers=1).double()
    x = torch.randn(1, 7, 2, generator=generator(), dtype=torch.float64)
    maps: list[torch.Tensor] = []

    def keep(attention, arguments, _):
        query, key, _ = attention.qkv(arguments[0]).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        maps.append((query @ key.mT / attention.head_dim**0.5).softmax(dim=-1)[0])

    handles = [block.attention.register_forward_hook(keep) for block in model.block_list]
    expected = model(x, 0.3)
    for handle in handles:
        handle.remove()
    frozen = freeze(model, maps)
    torch.testing.assert_close(frozen(x, 0.3), expected, rtol=1e-12, atol=1e-12)
    assert relative_error(frozen(x + 1, 0.3).detach(), model(x + 1, 0.3).detach()) > 1e-4
    with pytest.raises(ValueError, match=r"^maps: shapes .* accepted: \(2, 8, 8\) for each of 2 blocks"):
        freeze(model, maps[:1])


@pytest.fixture
def solver():
    return construct(make(8, 2, Exponential(3)), "chebyshev", 3)


@torch.no_grad()
def test_a_map_that_reads_x_is_refused(solver):
    x = solver.construction.subspaces["x"][0]
    solver.block_list[1].attention.qkv.weight[0, x] = 1e-9
    with pytest.raises(ValueError, match="^model: block 1, heads 0: queries or keys read what depends on x"):
        fold(solver)


@torch.no_grad()
def test_a_map_that_moves_with_t_is_refused(solver):
    position = solver.construction.subspaces["position"][0]
    solver.block_list[2].modulation.weight[solver.config.width + position, 5] = 1e-9
    with pytest.raises(ValueError, match=r"^model: block 2, heads 0, .*: queries or keys are scaled or shifted with t"):
        fold(solver)


@torch.no_grad()
def test_a_block_that_writes_the_position_is_refused(solver):
    position = solver.construction.subspaces["position"][0]
    solver.block_list[2].mlp[2].bias[position] = 1e-9
    with pytest.raises(ValueError, match="^model: block 0, heads 0, .*: queries or keys read what depends on x"):
        fold(solver)


@torch.no_grad()
def test_an_mlp_without_its_pairs_is_not_called_affine(solver):
    """One bit in one weight of one hidden unit: the attention is folded still, and the function is the same."""
    process = make(8, 2, Exponential(3))
    weight = solver.block_list[1].mlp[0].weight
    unit, channel = weight.nonzero()[0].tolist()
    weight[unit, channel] *= 1 + 4 * EPS
    folded = fold(solver)
    assert folded.linear is None
    assert_same(folded, solver, process)


@torch.no_grad()
def test_channels_that_only_the_mlp_reaches_are_followed(solver):
    """A pair of hidden units moves x into a channel that the next block's heads read."""
    sinks = solver.construction.subspaces["sinks"][0]
    mlp, x = solver.block_list[0].mlp, solver.construction.subspaces["x"][0]
    for unit, sign in zip(range(2), (1.0, -1.0), strict=True):
        mlp[0].weight[unit], mlp[2].weight[:, unit] = 0, 0
        mlp[0].weight[unit, x], mlp[2].weight[sinks, unit] = sign, sign
    with pytest.raises(ValueError, match="^model: block 0, heads 0: queries or keys read what depends on x"):
        fold(solver)


def test_layer_norm_is_refused_by_name():
    model = construct(make(8, 2, Exponential(3)), "chebyshev", 3, norm="layer")
    with pytest.raises(ValueError, match="^model: block 0, heads 0, .*: queries or keys read LayerNorm"):
        fold(model)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), GaussianProcess(4, Exponential(2), [[1.0]]).exact_score()], ids=str)
def test_other_models_are_refused(model):
    with pytest.raises(ValueError, match=r"^model: \w+ is not accepted; accepted: a DiT"):
        fold(model)


def test_a_fold_is_a_copy_that_gives_gradients_in_x(solver):
    process = make(8, 2, Exponential(3))
    folded, x = fold(solver), noisy(process, 0.1).requires_grad_()
    (ours,) = torch.autograd.grad(folded(x, 0.1).square().sum(), x)
    (theirs,) = torch.autograd.grad(solver(x, 0.1).square().sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    before = folded(x, 0.1).detach()
    with torch.no_grad():
        solver.position.mul_(2)
    assert torch.equal(folded(x, 0.1), before)
    with pytest.raises(ValueError, match="^t: "):
        folded(x, 100.0)
    with pytest.raises(ValueError, match="^x: shape"):
        folded(x[:, :3], 0.1)


def test_few_matrices_are_kept(solver, monkeypatch):
    monkeypatch.setattr("unrolled.folding.folded.CACHE", 3 * 16**2 * 8)
    folded, x = fold(solver), torch.randn(16, 8, 2, dtype=torch.float64)
    for t in (0.1, 0.2, 0.3, 0.1, 0.4, 0.5):
        folded(x, t)
    assert [key[0] for key in folded._known] == [0.1, 0.4, 0.5]
    assert all(known.matrix is not None for known in folded._known.values())
