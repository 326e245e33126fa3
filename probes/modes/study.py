"""The operator that checkpoints compute, at several t, as tables: by eigenmode, by lag, and the parts of the error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from probes.inputs import noisy_batches
from probes.modes.operator import Coordinates, JacobianFit, RegressionFit, fewest_sequences, score_residuals
from probes.modes.parts import PARTS, Estimate, Judged, estimates, influence_of
from unrolled.checkpoint import Checkpoint
from unrolled.checks import InputError
from unrolled.diffusion import ScoreModel, alpha, sigma
from unrolled.process import GaussianProcess

__all__ = ["JACOBIANS", "Method", "ModeStudy", "enough_sequences", "operator_estimates", "study_modes"]

Method = Literal["regression", "jacobian"]
"""How the best affine map is found."""
JACOBIANS = 20
"""Sequences whose Jacobians are taken, in each of two fits."""
BATCH = 128
"""Sequences drawn at once."""


@dataclass(frozen=True)
class ModeStudy:
    """What `study_modes` found, in tidy tables; of several checkpoints the mean, with intervals over checkpoints.

    Attributes:
        modes: a row per (kind, t, mode), kind "temporal" (eigenvectors of Gamma) or "spatial" (of Sigma), mode 1 of the
            largest eigenvalue: eigenvalue; error, relative to the score in that mode, with `low` and `high`; `affine`,
            the affine part of it; gain, the slope of the output on the score, with its interval; share of the whole
            squared error.
        influence: a row per (t, lag), signed lags: influence and the truth `inverse`, see
            `probes.modes.parts.influence_of`, the interval of the influence, and `forced`, how far from the truth it
            can be at most for a map of this error.
        parts: a row per (t, part): squared error relative to that of a score of 0, its share, their intervals.
        errors: a row per t: relative score error with its interval.
        checkpoints: how many.
    """

    modes: pd.DataFrame
    influence: pd.DataFrame
    parts: pd.DataFrame
    errors: pd.DataFrame
    checkpoints: int

    @property
    def times(self) -> list[float]:
        """The diffusion times, ascending."""
        return list(self.errors.t)


def enough_sequences(values: int) -> int:
    """Sequences of a study of N d = `values` numbers: eight times as many in a fit as it has unknowns in a row."""
    return 3 * max(8 * values, fewest_sequences(values), 200)


def operator_estimates(
    model: ScoreModel, process: GaussianProcess, x: torch.Tensor, t: float, exact: bool = True,
    method: Method = "regression", jacobians: int = JACOBIANS,
) -> dict[str, Estimate]:  # fmt: skip
    """Every figure of `probes.modes.parts.estimates` for a model at one t.

    Args:
        model: anything called as model(x, t).
        process: of the data, whose score is the truth.
        x: (n, N, d) sequences X_t, as the model takes them; fits use two thirds, the last third judges them.
        t: diffusion time.
        exact: whether `x` has the law of the process.
        method: least squares, or the mean Jacobian.
        jacobians: sequences in each of the two mean Jacobians.

    Raises:
        InputError: too few sequences, or a model without a gradient.
    """
    coordinates = Coordinates(process, t)
    y = coordinates.whitened(x.cpu())
    r = coordinates.rotated(score_residuals(model, process, x, t))
    *fitted, judging = zip(x.tensor_split(3), y.tensor_split(3), r.tensor_split(3), strict=True)
    if method == "regression":
        fits = [RegressionFit(y_of, r_of) for _, y_of, r_of in fitted]
    else:
        fits = [JacobianFit(model, coordinates, x_of[:jacobians], y_of, r_of, t) for x_of, y_of, r_of in fitted]
    values = y.shape[1]
    covariance = torch.eye(values, dtype=torch.float64) if exact else torch.cov(y.T)
    centre = torch.zeros(values, dtype=torch.float64) if exact else y.mean(dim=0)
    return estimates(fits[0], fits[1], Judged(*judging[1:], covariance, centre), coordinates)


def study_modes(
    checkpoints: Sequence[Checkpoint],
    times: Sequence[float],
    samples: int,
    seed: int = 0,
    device: torch.device | None = None,
    method: Method = "regression",
    progress: Callable[[], object] = lambda: None,
) -> ModeStudy:
    """The tables of one checkpoint with intervals over sequences, or of several with intervals over checkpoints.

    Args:
        checkpoints: of one data, such as training seeds.
        times: diffusion times.
        samples: sequences at each t, such as `enough_sequences`.
        seed: of sequences and noise; all checkpoints see the same ones.
        device: where the models run; the CPU where not given.
        method: least squares, or the mean Jacobian.
        progress: called after each checkpoint and t.

    Raises:
        InputError: checkpoints of different data, too few samples, or a model without a gradient.
    """
    device = device or torch.device("cpu")
    first = checkpoints[0]
    _require_same_data(checkpoints)
    by_time: list[tuple[float, dict[str, Estimate]]] = []
    for t in times:
        found = []
        for checkpoint in checkpoints:
            x = torch.cat(list(noisy_batches(checkpoint, t, samples, BATCH, seed, device)))
            model = checkpoint.model.to(device)
            found.append(operator_estimates(model, checkpoint.process, x, t, checkpoint.exact, method))
            progress()
        by_time.append((t, found[0] if len(found) == 1 else _over_checkpoints(found)))
    tables = [
        pd.concat([table(first.process, t, figures) for t, figures in by_time], ignore_index=True)
        for table in (_mode_rows, _influence_rows, _part_rows, _error_rows)
    ]
    return ModeStudy(tables[0], tables[1], tables[2], tables[3], len(checkpoints))


def _require_same_data(checkpoints: Sequence[Checkpoint]) -> None:
    """Refuse checkpoints whose processes differ."""
    first = checkpoints[0].process
    for checkpoint in checkpoints[1:]:
        other = checkpoint.process
        same = (other.length, other.dim) == (first.length, first.dim) and all(
            torch.equal(getattr(first, name), getattr(other, name))
            for name in ("temporal_covariance", "spatial_covariance", "mean")
        )
        if not same:
            raise InputError(
                f"ckpt: {checkpoint.path} and {checkpoints[0].path} are of different data; accepted: checkpoints of the"
                " same data, such as training seeds"
            )


def _over_checkpoints(found: Sequence[dict[str, Estimate]]) -> dict[str, Estimate]:
    """Means over checkpoints, and their standard errors."""
    values = {name: np.stack([each[name].value for each in found]) for name in found[0]}
    count = len(found)
    return {
        name: Estimate(value.mean(axis=0), value.std(axis=0, ddof=1) / count**0.5, count - 1)
        for name, value in values.items()
    }


def _mode_rows(process: GaussianProcess, t: float, figures: dict[str, Estimate]) -> pd.DataFrame:
    tables = []
    for kind, values in (("temporal", process.temporal_eigen[0]), ("spatial", process.spatial_eigen[0])):
        error, gain = figures[f"{kind} error"], figures[f"{kind} gain"]
        columns = {
            "eigenvalue": values.numpy(), "error": error.value, "gain": gain.value,
            "share": figures[f"{kind} share"].value, "low": error.interval[0].clip(min=0), "high": error.interval[1],
            "affine": figures[f"{kind} affine"].value, "gain_low": gain.interval[0], "gain_high": gain.interval[1],
        }  # fmt: skip
        table = pd.DataFrame({name: column[::-1] for name, column in columns.items()})
        table.insert(0, "mode", np.arange(1, len(table) + 1))
        table.insert(0, "t", t)
        table.insert(0, "kind", kind)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _influence_rows(process: GaussianProcess, t: float, figures: dict[str, Estimate]) -> pd.DataFrame:
    """By signed lag: key frame minus query frame."""
    coordinates = Coordinates(process, t)
    truth = influence_of(-torch.diag(1 / coordinates.eigenvalues.flatten()), coordinates).numpy()
    n = process.length
    found = figures["influence"]
    return pd.DataFrame(
        {
            "t": t, "lag": np.arange(1 - n, n), "influence": found.value, "inverse": truth,
            "low": found.interval[0], "high": found.interval[1],
            "forced": _forced(process, t, float(figures["error"].value[0])),
        }
    )  # fmt: skip


def _forced(process: GaussianProcess, t: float, error: float) -> np.ndarray:
    """(2N-1,) largest distance of the influence from the truth at relative score error `error`.

    With R = W + C_t^{-1} and P_l the shift by l frames the distance is |tr P_l' R| / (d (N - |l|)), by Cauchy and
    Schwarz at most |R C_t^{1/2}|_F |C_t^{-1/2} P_l'|_F / (d (N - |l|)), and the first norm is at most the root mean
    square score error (derived).
    """
    inverse = 1 / process.eigenvalues(t)
    u = process.temporal_eigen[1]
    diagonal = (u**2 @ inverse.sum(dim=1)).numpy()  # of the spatial traces of C_t^{-1}
    size = error * float(inverse.sum()) ** 0.5
    n = process.length
    sums = [diagonal[max(0, lag) : n + min(0, lag)].sum() for lag in range(1 - n, n)]
    pairs = n - np.abs(np.arange(1 - n, n))
    return size * np.sqrt(sums) / (process.dim * pairs)


def _part_rows(process: GaussianProcess, t: float, figures: dict[str, Estimate]) -> pd.DataFrame:
    rows = []
    for name in PARTS:
        part, share = figures[f"{name} part"], figures[f"{name} share"]
        rows.append(
            {
                "t": t, "part": name, "square": part.value[0], "low": part.interval[0][0],
                "high": part.interval[1][0], "share": share.value[0], "share_low": share.interval[0][0],
                "share_high": share.interval[1][0],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _error_rows(process: GaussianProcess, t: float, figures: dict[str, Estimate]) -> pd.DataFrame:
    error = figures["error"]
    low, high = error.interval
    mean_value = float(process.spatial_eigen[0].mean())
    decided = (sigma(t) / alpha(t)) ** 2 / mean_value
    return pd.DataFrame([{"t": t, "error": error.value[0], "low": low[0], "high": high[0], "decided": decided}])
