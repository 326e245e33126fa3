"""Names of operators: what is known gets its own name, what is nobody's gets none, and a wrong name cannot come out."""

import numpy as np
import pytest
import torch
from torch import nn

from probes.controls.networks import other_kernel, white_noise
from probes.inputs import untrained_networks
from probes.modes.naming import NEAR, NO_SCORE, NOBODY, OTHER_KERNEL, OWN, WHITE_NOISE, candidates_of, name_operator
from reports.experiments.wrong_stories import decoy
from tests.builders import checkpoint_of, generator, make, random_dit
from unrolled import DiT, Exponential, GaussianProcess, InputError, Polynomial, alpha, construct, relative_error
from unrolled.generated import affine_score

T = 0.1


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    return make(6, 2, Exponential(3))


def sequences(process: GaussianProcess, n: int = 80, seed: int = 0, t: float = T) -> torch.Tensor:
    return process.noisy(n, t, generator(seed))


def distance(process: GaussianProcess, f, g, t: float = T) -> float:
    """The same distance by dense formulas in the coordinates of x."""
    (a, b), (c, d) = (affine_score(each, process.length, process.dim, t) for each in (f, g))
    covariance, gap = process.noisy_covariance(t), a - c
    shift = gap @ (alpha(t) * process.mean.flatten()) + b - d
    square = (gap @ covariance * gap).sum() + shift.square().sum()
    return float((square / torch.linalg.inv(covariance).trace()).sqrt())


@pytest.mark.parametrize("kernel", [Exponential(3), Polynomial(4, 1)])
@pytest.mark.parametrize("t", [0.01, 0.2, 1.0, 3.0])
def test_every_candidate_has_its_own_name(kernel, t):
    """Data of any mean: the scores themselves are named at every t, and rooms are halves of the least distances."""
    process = make(6, 2, kernel)
    candidates = candidates_of(process)
    assert set(candidates) == {OWN, WHITE_NOISE, OTHER_KERNEL, NO_SCORE}
    for name, score in candidates.items():
        named = name_operator(score, process, sequences(process, t=t), t, candidates)
        assert named.name == named.nearest == name and named.distance < 1e-6
        gaps = [distance(process, score, other, t) for key, other in candidates.items() if key != name]
        near = NEAR * max(1.0, distance(process, score, candidates[NO_SCORE], t))
        assert named.room == pytest.approx(min(min(gaps) / 2, near), rel=1e-8)


class Shifted(nn.Module):
    """A score and a share of the way to another one."""

    def __init__(self, first, second, share: float):
        super().__init__()
        self.first, self.second, self.share = first, second, share

    def forward(self, x, t):
        return (1 - self.share) * self.first(x, t) + self.share * self.second(x, t)


def test_distances_are_those_of_dense_formulas_and_the_middle_is_nobodys(process):
    """On the way from one candidate to another the name is the first, nobody's from the middle on, then the second."""
    candidates = candidates_of(process)
    names = []
    for share in (0.0, 0.25, 0.45, 0.5, 0.55, 0.75, 1.0):
        model = Shifted(candidates[WHITE_NOISE], candidates[OWN], share)
        named = name_operator(model, process, sequences(process), T, candidates)
        assert named.distance == pytest.approx(distance(process, model, candidates[named.nearest]), rel=1e-6, abs=1e-7)
        names.append(named.name)
    assert names[0] == WHITE_NOISE and names[-1] == OWN and names[3] == NOBODY
    assert names == sorted(names, key=[WHITE_NOISE, NOBODY, OWN].index)


def test_a_wrong_name_cannot_come_out(process):
    """Random affine models, near and far: whatever is named is nearer to its name than to any other candidate."""
    candidates = candidates_of(process)
    x, seen = sequences(process), set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        share = np.eye(len(candidates))[seed % 4] if seed < 8 else rng.dirichlet([0.3] * len(candidates))
        noise = torch.from_numpy(rng.standard_normal((12, 12))) * (0.01 if seed < 8 else rng.choice([0.01, 0.1, 3.0]))

        def model(x, t, share=share, noise=noise):
            mixed = sum(float(w) * score(x, t) for w, score in zip(share, candidates.values(), strict=True))
            return mixed + (x.flatten(1) @ noise.T).reshape(x.shape)

        named = name_operator(model, process, x, T, candidates)
        by_name = {name: distance(process, model, score) for name, score in candidates.items()}
        seen.add(named.name)
        assert named.name == NOBODY or by_name[named.name] == min(by_name.values())
        assert (named.name == NOBODY) == (min(by_name.values()) >= named.room * (1 - 1e-9))
    assert seen == {OWN, WHITE_NOISE, OTHER_KERNEL, NO_SCORE, NOBODY}


class Bent(nn.Module):
    """A score and what no affine map can be: third Hermite polynomials of the whitened coordinates."""

    def __init__(self, score, process: GaussianProcess, size: float):
        super().__init__()
        self.score, self.size = score, size
        inverse = torch.linalg.inv(torch.linalg.cholesky(process.noisy_covariance(T)))
        self.whiten = lambda x: (x - alpha(T) * process.mean).flatten(1) @ inverse.T

    def forward(self, x, t):
        y = self.whiten(x)
        return self.score(x, t) + self.size * (y**3 - 3 * y).reshape(x.shape)


def test_what_is_not_affine_changes_no_name_but_with_few_sequences(process):
    """The distance of a bent model is that of its affine part: unbiased over runs, to 4.5 standard errors. Few noisy
    sequences make a name harder to get, not easier."""
    candidates = candidates_of(process)
    model = Bent(Shifted(candidates[OWN], candidates[WHITE_NOISE], 0.1), process, 0.3)
    straight = Shifted(candidates[OWN], candidates[WHITE_NOISE], 0.1)
    truth = distance(process, straight, candidates[OWN]) ** 2
    found = [name_operator(model, process, sequences(process, 160, seed), T, candidates) for seed in range(40)]
    squares = np.array([each.distance**2 for each in found])
    assert abs(squares.mean() - truth) < 4.5 * squares.std(ddof=1) / 40**0.5 + 0.1 * truth
    assert {each.name for each in found} <= {OWN, NOBODY}
    wild = Bent(candidates[OWN], process, 30.0)
    assert name_operator(wild, process, sequences(process), T, candidates).name == NOBODY
    with pytest.raises(InputError, match="^samples: "):
        name_operator(model, process, sequences(process, 20), T, candidates)


def test_hand_set_models_have_the_name_of_the_data_they_were_set_for(process):
    """Right weights, weights for white noise (a score that is linear in x alone), for another kernel, and a decoy."""
    candidates, x = candidates_of(process), sequences(process)
    built = {
        OWN: construct(process, "preconditioned", 1),
        OTHER_KERNEL: construct(other_kernel(process, 1.0), "preconditioned", 1),
        WHITE_NOISE: white_noise(process).exact_score(),
    }
    for name, model in built.items():
        assert name_operator(model, process, x, T, candidates).name == name
    assert name_operator(decoy(built[OWN]), process, x, T, candidates).name == NOBODY


def test_untrained_networks_have_no_score_and_random_ones_are_nobodys(process):
    candidates, x = candidates_of(process), sequences(process).float()
    checkpoint = checkpoint_of(random_dit(length=6, dim=2), process)
    for fresh in untrained_networks(checkpoint, 2, seed=0):
        assert name_operator(fresh, process, x, T, candidates).name == NO_SCORE
    assert name_operator(checkpoint.model, process, x, T, candidates).name == NOBODY


def test_a_decoy_has_the_same_maps_and_another_score(process):
    """Queries, keys and values of every block are those of the model; only the outputs of heads are exchanged."""
    model = construct(process, "preconditioned", 1)
    other = decoy(model)
    assert isinstance(other, DiT)
    before, after = model.state_dict(), other.state_dict()
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {"blocks.0.attention.out.weight"}
    for name in changed:
        assert torch.equal(before[name].sort(dim=1).values, after[name].sort(dim=1).values)
    x = sequences(process)
    exact = process.score(x, T)
    errors = [relative_error(each(x, T).detach(), exact) for each in (model, other)]
    assert errors[0] < 0.05 and errors[1] > 5 * errors[0]
