"""Networks whose maps do not see the data, against the formulas of what they should be."""

import copy

import pytest
import torch

from reports.free_maps import PositionBlock, dictionary_maps, with_dictionary_maps, with_position_maps
from reports.networks import trained_network
from unrolled.models.dit import DiT, DiTConfig
from unrolled.models.fixed_attention import freeze

SIZES = DiTConfig(length=6, dim=2, width=20, depth=2, heads=5, head_dim=4)


def random(make) -> DiT:
    """A network whose gates and outputs are not zero."""
    generator = torch.Generator().manual_seed(0)
    model = make(SIZES, generator)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.eval()


def test_maps_of_positions_are_those_of_softmax_at_the_positions():
    """At one t the network equals one whose maps are fixed to the softmax of q k' read from the positions."""
    model, t = random(with_position_maps), 0.3
    c = model.time(torch.full((1, 1), t, dtype=torch.float64))
    maps = []
    for block in model.block_list:
        shift, scale, *_ = block.modulation(c).chunk(6, dim=-1)
        read = (1 + scale) * block.norm(model.position) + shift
        q, k, _ = block.attention.qkv(read).unflatten(-1, (3, 5, 4)).permute(2, 0, 3, 1, 4)
        maps.append(torch.softmax(q @ k.mT / 2, dim=-1)[0])
    plain = DiT(SIZES)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1))
    expected = freeze(plain, maps)(x, t)
    assert torch.allclose(model(x, t), expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))
    assert not torch.allclose(plain(x, t), expected, rtol=1e-2)
    many = model(x, torch.full((3,), t))
    assert torch.allclose(many, model(x, t), rtol=1e-4, atol=1e-5 * float(many.detach().abs().max()))


def test_a_copy_reads_its_own_positions():
    model = random(with_position_maps)
    other = copy.deepcopy(model)
    assert all(isinstance(block, PositionBlock) for block in other.block_list)
    with torch.no_grad():
        model.position.zero_()
    x = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(1))
    before = other(x, 0.3)
    assert not torch.allclose(model(x, 0.3), before)
    with torch.no_grad():
        other.position.zero_()
    assert torch.equal(model(x, 0.3), other(x, 0.3))


def test_dictionary_maps_look_at_a_frame_and_its_images():
    maps = dictionary_maps(6, 10)
    places = [lambda i: i, lambda i: -i, lambda i: 10 - i, lambda i: i - 10, lambda i: i + 10]
    for k, width in enumerate((2.0, 0.5)):
        c = 1.001 * (1 + (torch.pi / width) ** 0.5)
        for m, place in enumerate(places):
            for i in range(6):
                for j in range(6):
                    expected = torch.exp(torch.tensor(-width * (place(i) - j) ** 2)) / c
                    assert maps[5 * k + m, i, j] == pytest.approx(float(expected), rel=1e-6, abs=1e-30)
    assert bool((maps.sum(dim=-1) < 1).all()) and len(dictionary_maps(6, 30)) == 30


@pytest.mark.parametrize("make", [with_position_maps, with_dictionary_maps])
def test_they_train(make):
    options = {"process": {"length": 6, "dim": 2}, "dit": {"width": 20, "depth": 1, "heads": 5, "head_dim": 4},
               "steps": 60, "batch": 32}  # fmt: skip
    made, _ = trained_network(options, make)
    fresh = make(made.model.config, torch.Generator().manual_seed(0))
    assert type(made.model.blocks[0]) is type(fresh.blocks[0])
    moved = [name for name, value in made.model.named_parameters() if not torch.equal(value, fresh.get_parameter(name))]
    assert {"position", "head.out.weight", "blocks.0.attention.out.weight"} <= set(moved)
    x = made.process.noisy(64, 1.0, torch.Generator().manual_seed(2)).float()
    exact = made.process.score(x.double(), 1.0)
    assert float((made.model(x, 1.0) - exact).norm() / exact.norm()) < 0.8  # an untrained one has 1


def test_maps_that_see_the_data_are_not_built():
    model = random(with_dictionary_maps)
    assert "qkv" not in dict(model.blocks[0].attention.named_modules())
