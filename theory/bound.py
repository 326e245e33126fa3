"""`python -m theory.bound`: the numbers of the theory for one's own process, next to what the built models measure.

Every bound printed is a side of a relation that a claim certifies. For a model that is built its record's deviation
from the solver is part of the bound: rounding, and what its gates leave.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from theory.dit_sizes import gate_norms
from theory.registry import find
from theory.sizes import covariance_values, process_values, solver_nodes
from unrolled.checks import require_number
from unrolled.cli import module_app, print_table, run_app
from unrolled.diffusion import add_noise, relative_error
from unrolled.gaussian import kl_divergence, total_variation_bound, total_variation_of_kl, wasserstein2
from unrolled.generated import generated_law, marginal_law, relative_score_error, standard_law
from unrolled.handset import construct
from unrolled.handset.construct import RAMPS, RIDGE
from unrolled.handset.dit_parts import head_dim_for
from unrolled.handset.preconditioner_weights import expected_errors
from unrolled.handset.truncation import TruncatedCovariance, truncate
from unrolled.kernels import Exponential, Polynomial, RoughPolynomial
from unrolled.models.record import record_of
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess
from unrolled.progress import track

__all__ = ["guarantee", "solver_rows", "tail_bound", "truncation_for"]

LARGEST_TIME = 8.0
TIMES = (1e-6, 50.0)
"""Diffusion times that are accepted: models are built from them to twice the last, and hold e^t."""
LEAST_ERROR = 1e-13
"""Smallest error that is accepted: float64 rounds to a thousandth of it."""
MOST_PARAMETERS = 3e7
"""Larger models are not built: these take 240 MB in float64."""
MOST_APPLICATIONS = 8
ROUNDING = 1e-9
"""How near to 1 a condition number counts as 1."""
LAW_SIZE = 16
"""N d up to which the law of generated samples is computed."""
EXACT_SIZE = 64
"""N d up to which the measured error is a root mean square over the process, not over a few sequences."""
SEQUENCES = 32
Row = tuple[str, ...]
SOLVERS = (
    ("DiT", "gradient_descent"), ("DiT", "chebyshev"), ("DiT", "preconditioned"),
    ("ReLU", "gradient_descent"), ("ReLU", "chebyshev"), ("ReLU", "conjugate_gradient"),
)  # fmt: skip


def tail_bound(process: GaussianProcess, lags: int) -> tuple[str, float]:
    """(name of the claim, its bound on delta_J); ("", 0) at J = N."""
    kernel, known = process.temporal, {"J": lags, "N": process.length}
    if lags >= process.length:
        return "", 0.0
    name = f"tail-{getattr(kernel, 'name', '')}".replace("_", "-")
    if isinstance(kernel, Polynomial) and kernel.power < 1:
        name += "-heavy"
    if isinstance(kernel, Polynomial | RoughPolynomial) and kernel.power == 1:
        name += "-harmonic"
    if isinstance(kernel, Exponential) and kernel.power == 1:
        return "tail-ou", find("tail-ou").evaluate(known, rho=math.exp(-1 / kernel.lengthscale))
    claim = find(name)
    shapes = {"ell": "lengthscale", "p": "power", "nu": "smoothness"}
    values = {**known, **{letter: getattr(kernel, field, math.nan) for letter, field in shapes.items()}}
    return name, claim.evaluate({str(letter): values[str(letter)] for letter in claim.expression.free_symbols})


def _steps(process: GaussianProcess, algorithm: str, kappa: float, t: float, eps: float) -> int | None:
    """The number of steps K that the claims ask for; None if the preconditioner does not reach eps."""
    if algorithm == "preconditioned":
        errors = enumerate(expected_errors(process, t, MOST_APPLICATIONS, RIDGE), start=1)
        return next((j for j, error in errors if error <= eps), None)
    if kappa <= 1 + ROUNDING:  # a multiple of the identity: one step is exact
        return 1
    claim = find("gd-depth" if algorithm == "gradient_descent" else "chebyshev-depth")
    return max(1, math.ceil(claim.evaluate(kappa=kappa, epsilon=eps / _norm_factor(algorithm, kappa))))


def _norm_factor(algorithm: str, kappa: float) -> float:
    """What a relative error in the norm of the solver is in the 2-norm at most: conjugate gradient's is the C-norm."""
    return find("cg-two-norm").evaluate(kappa=kappa) if algorithm == "conjugate_gradient" else 1.0


def _solver_error(algorithm: str, kappa: float, steps: int) -> float:
    """What `steps` steps leave of a solution in exact arithmetic, relative, in the 2-norm, at most."""
    of = "GD error" if algorithm == "gradient_descent" else "Chebyshev error"
    error = find("convergence-measured").evaluate({"kappa": kappa, "K": steps}, of=of)
    return error * _norm_factor(algorithm, kappa)


def _sizes(
    process: GaussianProcess,
    covariance: TruncatedCovariance,
    model: str,
    algorithm: str,
    steps: int,
    t_range: tuple[float, float],
) -> dict[str, float]:
    claim = find(f"sizes-{model.lower()}-{algorithm.replace('_', '-')}")
    values: dict[Any, float] = process_values(process, steps, t_range)
    if model == "ReLU":
        values |= covariance_values(covariance, algorithm, steps, t_range)
    else:
        values |= gate_norms(process, solver_nodes(algorithm, steps), t_range)
    letters = {str(relation.lhs): {str(symbol) for symbol in relation.rhs.free_symbols} for relation in claim.statement}
    named = {str(symbol): value for symbol, value in values.items()}
    return {
        letter: claim.evaluate({name: named[name] for name in wanted}, of=letter) for letter, wanted in letters.items()
    }  # fmt: skip


def truncation_for(process: GaussianProcess, t: float, eps: float) -> TruncatedCovariance:
    """The smallest J that changes the solution at t by eps/2 at most, N if there is none."""
    first = truncate(process, None, t).lags
    candidates = (TruncatedCovariance(process, lags) for lags in range(first, process.length + 1))
    return next(
        candidate
        for candidate in candidates
        if candidate.lags == process.length or candidate.relative_error(t) <= eps / 2
    )


def _parameters(process: GaussianProcess, model: str, sizes: dict[str, float], steps: int) -> float:
    """Number of weights of the model; for a DiT, of its blocks alone."""
    if model == "DiT":
        attention = 4 * sizes["D"] * sizes["M"] * head_dim_for(process.dim)
        return sizes["L"] * (attention + 6 * sizes["D"] * RAMPS + 2 * sizes["D"] * sizes["H"])
    values = {
        **{name: sizes[name] for name in ("D", "L", "M")},
        "H": sizes.get("H", 16.0 * sizes["D"]),
        "N": process.length,
    }
    return find("parameter-count").evaluate(values, d=process.dim, n_phi=3 + steps)


@torch.no_grad()
def _measured(process: GaussianProcess, model: Callable[[Tensor, float], Tensor], algorithm: str, t: float) -> float:
    """Relative error of the score: exact where the model is affine and N d small, otherwise over a few sequences."""
    if algorithm != "conjugate_gradient" and process.length * process.dim <= EXACT_SIZE:
        return relative_score_error(model, process, t)  # pyright: ignore
    generator = torch.Generator().manual_seed(0)
    x0 = process.sample(SEQUENCES, generator)
    x = add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=torch.float64))
    return relative_error(model(x, t), process.score(x, t))


def _built(
    process: GaussianProcess, algorithm: str, steps: int, t: float, lags: int | None, dtype: torch.dtype
) -> tuple[float, float]:
    """(deviation from the solver that the record of the built model predicts at t, measured error of its score)."""
    options = {} if lags is None else {"model": "relu", "truncation": lags}
    built = construct(process, algorithm, steps, t_range=(t, max(LARGEST_TIME, 2 * t)), dtype=dtype, **options)
    with torch.no_grad():
        measured = _measured(process, lambda x, at: built(x.to(dtype), at).double(), algorithm, t)
    return record_of(built).predicted_error[0], measured


def solver_rows(process: GaussianProcess, t: float, eps: float, dtype: torch.dtype = torch.float64) -> list[Row]:
    """For each solver and model: K, D, L, M, B, R, the bound on the relative score error at t in the 2-norm, and what
    the built model measures.

    The bound is that of claim score-error-budget: truncation, what K steps leave, and the deviation of the built model
    from the solver. A model that is not built has the bound of exact arithmetic. For conjugate gradient, whose record
    bounds its error in the C-norm, cg-two-norm makes one in the 2-norm of it. What a preconditioned model leaves is an
    expectation, and called so.
    """
    t_range = (t, max(LARGEST_TIME, 2 * t))
    covariance = truncation_for(process, t, eps)
    rows = []
    for model, algorithm in track(SOLVERS, "constructions", "model"):
        low, high = (process if model == "DiT" else covariance).extreme_eigenvalues(t)
        kappa = high / low
        name = f"{model}, {algorithm.replace('_', ' ')}"
        lags = covariance.lags if model == "ReLU" else None
        tail = covariance.relative_error(t) if model == "ReLU" else 0.0
        steps = _steps(process, algorithm, kappa, t, (eps - tail) / (1 + tail))
        if steps is None:
            rows.append((name, f"> {MOST_APPLICATIONS}", *[""] * 6, "not reached"))
            continue
        sizes = _sizes(process, covariance, model, algorithm, steps, t_range)
        built = None
        if _parameters(process, model, sizes, steps) <= MOST_PARAMETERS:
            built = _built(process, algorithm, steps, t, lags, dtype)
        rows.append((
            name, str(steps), *(f"{sizes[letter]:.0f}" for letter in "DLM"),
            f"{'<= ' if algorithm == 'preconditioned' else ''}{sizes['B']:.1e}",
            f"{sizes['R']:.1e}" if "R" in sizes else "inf",
            _error_bound(process, algorithm, t, kappa, steps, tail, built),
            "not built: too large" if built is None else f"{built[1]:.1e}",
        ))  # fmt: skip
    return rows


def _error_bound(
    process: GaussianProcess, algorithm: str, t: float, kappa: float, steps: int, tail: float,
    built: tuple[float, float] | None,
) -> str:  # fmt: skip
    """The bound in words: rounded up, so that what is printed is a bound too."""
    if algorithm == "preconditioned":
        *_, error = (last for _, last in zip(range(steps), expected_errors(process, t, steps, RIDGE), strict=False))
        return f"{error if built is None else built[0]:.1e} expected"
    if algorithm == "conjugate_gradient" and built is not None:
        error = tail + (1 + tail) * built[0] * _norm_factor(algorithm, kappa)
    else:
        error = tail + (1 + tail) * _solver_error(algorithm, kappa, steps) + (0.0 if built is None else built[0])
    return f"{_rounded_up(error):.1e}{' in exact arithmetic' if built is None else ''}"


def _rounded_up(number: float) -> float:
    """To two digits."""
    if number == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit * (1 - 1e-12)) * unit


def guarantee(process: GaussianProcess, t: float, eps: float) -> dict[str, float]:
    """KL_T, the integral E of E|s|^2, and the bounds on KL and TV between p_t and what a score of relative error eps
    generates from N(0, I) at T = 8 with the continuous-time reverse SDE."""
    t_range = (t, max(LARGEST_TIME, 2 * t))
    spectrum = (process.temporal_eigen[0][:, None] * process.spatial_eigen[0]).flatten().tolist()
    claim = find("score-energy")
    energy = sum(claim.evaluate(c_0=max(value, 1e-300), t_0=t_range[0], T=t_range[1]) for value in spectrum)
    terminal = kl_divergence(marginal_law(process, t_range[1]), standard_law(len(spectrum)))
    kl = find("guarantee").evaluate(KL_T=terminal, epsilon=eps, E=energy)
    return {"KL_T": terminal, "E": energy, "KL": kl, "TV": total_variation_of_kl(kl)}


def _generated(process: GaussianProcess, t: float, eps: float) -> str:
    """KL, W2 and TV of a built preconditioned model, where it is small enough."""
    if process.length * process.dim > LAW_SIZE:
        return f"not measured: N d = {process.length * process.dim} > {LAW_SIZE}"
    steps = _steps(process, "preconditioned", 1.0, t, eps)
    if steps is None:
        return "not measured: the preconditioned model does not reach eps"
    t_range = (t, max(LARGEST_TIME, 2 * t))
    model = construct(process, "preconditioned", steps, t_range=t_range)
    law = generated_law(model, process.length, process.dim, t_range, rtol=1e-7)
    truth = marginal_law(process, t)
    distances = f"KL {kl_divergence(truth, law):.2e}, W2 {wasserstein2(truth, law):.2e}"
    return f"{distances}, TV at most {total_variation_bound(truth, law):.2e}"


def bound(
    *,
    process: ProcessOptions = ProcessOptions(),
    t: float = 0.01,
    eps: float = 1e-3,
    float32: bool = False,
) -> None:
    """What does the theory say about a process at diffusion time t, and what do models that are built for it measure?

    Example: `python -m theory.bound --length 64 --lengthscale 8 --t 0.01 --eps 1e-3`

    The answer is the condition number, and for every construction its sizes, its error bound and the error of the built
    model; then what that error means for samples.

    Parameters
    ----------
    t
        Diffusion time. The models are built for this time and later ones.
    eps
        Relative score error to reach.
    float32
        Build the models in float32: their bounds then have its rounding floor.
    """
    require_number("t", t, *TIMES, closed="low high")
    require_number("eps", eps, LEAST_ERROR, 1, closed="low")
    data = process.process()
    low, high = data.extreme_eigenvalues(t)
    g, s = data.temporal_eigen[0], data.spatial_eigen[0]
    limit = find("kappa-noise").evaluate(g_N=float(g[-1]), s_d=float(s[-1]), tau=math.expm1(t))
    covariance = truncation_for(data, t, eps)
    name, tail = tail_bound(data, covariance.lags)
    delta = 2 * float(data.temporal_covariance[0, covariance.lags :].sum())
    print_table(
        f"{data}, t = {t:g}, float64",
        ("quantity", "value"),
        [
            ("m_t", f"{low:.3g}"), ("L_t", f"{high:.3g}"), ("kappa_t", f"{high / low:.4g}"),
            ("1 + |Gamma| |Sigma|/tau "
             "(kappa-noise)", f"{limit:.4g}"), ("lags J that leave eps/2", str(covariance.lags)),
            ("delta_J", f"{delta:.3g}"), (f"bound on it ({name or 'none of its own'})", f"{tail:.3g}"),
            ("a_J/m_J (truncation-solution)", f"{covariance.relative_error(t):.3g}"),
        ],
    )  # fmt: skip
    print_table(
        f"to reach a relative score error of {eps:g}",
        ("construction", "K", "D", "L", "M", "B", "R", "error bound", "measured"),
        solver_rows(data, t, eps, torch.float32 if float32 else torch.float64),
    )
    bounds = guarantee(data, t, eps)
    print_table(
        f"samples at t = {t:g} from N(0, I) at T = {max(LARGEST_TIME, 2 * t):g}, score error {eps:g} at every t",
        ("quantity", "value"),
        [
            ("KL(p_T || N(0, I))", f"{bounds['KL_T']:.3g}"), ("integral of E|s|^2", f"{bounds['E']:.4g}"),
            ("KL at most (guarantee)", f"{bounds['KL']:.3g}"), ("TV at most", f"{bounds['TV']:.3g}"),
            ("preconditioned model", _generated(data, t, eps)),
        ],
    )  # fmt: skip


app = module_app("theory.bound", bound)

if __name__ == "__main__":
    run_app(app)
