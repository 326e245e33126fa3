"""Training on a finite set: the same sequences always, the rule that stops, resuming, and a UNet beside a DiT."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import generator
from unrolled import InputError, SeriesData, draw_training_set, load_checkpoint, save_checkpoint
from unrolled.diffusion import denoising_loss
from unrolled.models.dit import DiTSizes
from unrolled.models.unet import UNet, UNetConfig, UNetSizes
from unrolled.options import ProcessOptions, TrainConfig, train_config
from unrolled.train.batches import noisy_pairs
from unrolled.train.finite import CHECK_STEPS, PATIENCE, EarlyStopping
from unrolled.train.trainer import Trainer, make_data

CPU = torch.device("cpu")
FEW = TrainConfig(
    process=ProcessOptions(length=8, dim=2),
    dit=DiTSizes(width=32, depth=1, heads=2, ramps=16),
    unet=UNetSizes(channels=(16, 32)),
    t_range=(0.01, 4.0),
    samples=4,
    steps=2000,
    batch=8,
)
"""Four sequences, which 11000 weights learn by heart."""


def finish(trainer: Trainer, until: int = 10**9) -> Trainer:
    for _ in trainer.run():
        if trainer.step == until:
            break
    return trainer


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def finished() -> Trainer:
    return finish(Trainer(FEW, make_data(FEW), CPU))


def test_the_set_is_learned_by_heart_and_the_rule_stops(finished):
    rule = finished.stopping
    assert finished.step < FEW.steps
    assert finished.step - rule.step == max(FEW.steps // 5, PATIENCE * CHECK_STEPS)
    assert rule.losses["training loss"] < rule.losses["held-out loss"]
    assert finished.result is rule.model and not torch.equal(weights(finished.result), weights(finished.averaged))


def test_the_kept_model_has_the_lowest_held_out_loss(finished):
    """Judged on other sequences and noise, the kept model still beats the last one: overfitting is not noise."""
    batch = noisy_pairs(make_data(FEW).sample(512, generator(5)).float(), FEW.t_range, generator(6))
    with torch.no_grad():
        kept, last = (float(denoising_loss(model, *batch).mean()) for model in (finished.result, finished.averaged))
    assert kept < last


def test_every_batch_is_from_the_set(finished):
    x0 = finished.source.sample(64, generator(1))
    drawn = draw_training_set(make_data(FEW), 4, FEW.seed).float()
    assert all(any(torch.equal(row, member) for member in drawn) for row in x0)


def test_held_out_sequences_are_none_of_the_set():
    data = make_data(FEW)
    training = draw_training_set(data, 4, FEW.seed)
    rule = EarlyStopping(training, data, FEW, CPU)
    held_out = torch.cat([x0 for x0, _, _ in rule._sets["held-out loss"]])
    assert not any(bool((held_out == row.float()).all(dim=(1, 2)).any()) for row in training)


def test_the_same_command_gives_the_same_bits(finished):
    again = finish(Trainer(FEW, make_data(FEW), CPU))
    assert again.step == finished.step and torch.equal(weights(again.result), weights(finished.result))


@pytest.mark.parametrize("at", ["before the first check", "between checks"])
def test_a_resumed_run_equals_the_uninterrupted_one(finished, tmp_path, at):
    data, path = make_data(FEW), tmp_path / "run.pt"
    half = finish(Trainer(FEW, data, CPU), until=CHECK_STEPS // 2 if at.startswith("before") else finished.step - 150)
    save_checkpoint(path, half.result, data, {}, {}, training=half.state())
    checkpoint = load_checkpoint(path)
    resumed = Trainer(FEW, data, CPU)
    resumed.load_state(checkpoint.training, checkpoint.model)
    finish(resumed)
    assert resumed.step == finished.step and resumed.stopping.step == finished.stopping.step
    for ours, theirs in ((resumed.result, finished.result), (resumed.averaged, finished.averaged)):
        assert torch.equal(weights(ours), weights(theirs))


@given(losses=st.lists(st.floats(0.1, 2.0), min_size=1, max_size=40), steps=st.integers(1, 20000))
def test_the_rule(losses, steps):
    """Against the rule as its sentence says it: stop when the lowest loss is as old as the patience."""
    config = replace(FEW, steps=steps)
    rule = EarlyStopping(torch.zeros(1, 8, 2), make_data(config), config, CPU)
    patience = max(steps // 5, 500)
    for k, loss in enumerate(losses, 1):
        rule._keep_if_best(torch.nn.Identity(), CHECK_STEPS * k, loss)
        lowest = losses[:k].index(min(losses[:k])) + 1
        assert rule.step == CHECK_STEPS * lowest
        assert rule.stops(CHECK_STEPS * k) == (CHECK_STEPS * (k - lowest) >= patience)


def test_a_loss_that_is_no_number_is_not_kept():
    rule = EarlyStopping(torch.zeros(1, 8, 2), make_data(FEW), FEW, CPU)
    rule._keep_if_best(torch.nn.Identity(), CHECK_STEPS, math.nan)
    assert rule.model is None


def test_windows_of_a_series_are_drawn_without_replacement():
    frames = torch.arange(60, dtype=torch.float64)[:, None] - 29.5
    data = SeriesData([frames], 8, held_out=0.25)
    count = len(data.starts["train"])
    assert len(torch.unique(data.training_set(count, generator())[:, 0, 0])) == count
    with pytest.raises(
        InputError, match=rf"^samples: {count + 1} is not accepted; accepted: an integer in \[1, {count}\]"
    ):
        data.training_set(count + 1)


def test_options_of_old_checkpoints():
    """Before there was a UNet, the sizes of the DiT stood under "model", with its diffusion times."""
    old = {"model": {"width": 32, "depth": 1, "t_range": (0.01, 4.0)}, "steps": 7}
    assert train_config(old) == TrainConfig(dit=DiTSizes(width=32, depth=1), t_range=(0.01, 4.0), steps=7)


@pytest.mark.parametrize(("length", "channels"), [(8, (16, 32)), (7, (16, 16, 32)), (1, (16, 16))])
def test_a_unet_is_a_score_model(tmp_path, length, channels):
    """Shapes for lengths that the coarsest resolution does not divide, times for every sequence, and its checkpoint."""
    config = UNetConfig(length=length, dim=3, channels=channels)
    network = UNet(config).eval()
    torch.nn.init.normal_(network.net.out_block.final_conv1d_2.weight, generator=generator())
    x, t = torch.randn(2, length, 3, generator=generator()), torch.tensor([0.1, 2.0])
    score = network(x, t)
    assert score.shape == x.shape and score.dtype == x.dtype
    for k in range(2):  # each sequence is treated by itself, at its own time
        torch.testing.assert_close(score[k : k + 1], network(x[k : k + 1], float(t[k])), rtol=1e-4, atol=1e-4)
    data = make_data(TrainConfig(process=ProcessOptions(length=length, dim=3)))
    save_checkpoint(tmp_path / "unet.pt", network, data, {}, {})
    assert torch.equal(load_checkpoint(tmp_path / "unet.pt").model(x, t), score)


def test_a_unet_trains():
    config = replace(FEW, model="unet", samples=None, steps=60, batch=32)
    losses = [float(loss) for loss in Trainer(config, make_data(config), CPU).run()]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_a_unet_starts_from_its_seed_and_leaves_the_global_one_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    networks = [UNet(UNetConfig(length=8, dim=2, channels=(16,))) for _ in range(2)]
    torch.manual_seed(3)
    for network in networks:
        network.reset_parameters(generator(4))
    assert torch.equal(weights(networks[0]), weights(networks[1])) and torch.equal(torch.rand(1), expected)
    assert not networks[0](torch.ones(1, 8, 2), 0.1).any()  # the score starts at 0, as that of a DiT


@pytest.mark.parametrize("channels", [(), (24,), (16, 0)])
def test_channels_that_cannot_be_grouped_are_named(channels):
    with pytest.raises(InputError, match=r"^channels: .* is not accepted; accepted: "):
        UNetSizes(channels=channels)
