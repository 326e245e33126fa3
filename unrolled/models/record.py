"""What a hand-set model says of itself: the `.construction` record of each class of model."""

from dataclasses import asdict, dataclass
from typing import Any, TypeVar, overload

from unrolled.checks import InputError

__all__ = ["Construction", "DiTConstruction", "ReluConstruction", "record_of"]


@dataclass(frozen=True, kw_only=True)
class Construction:
    """How a hand-set model was made, and what it should therefore do; plain values, so that it travels in a checkpoint.

    Attributes:
        algorithm: a solver of `unrolled.handset.construct`.
        steps: iterations of the solver; for "preconditioned", applications of P_j, of 1, 2, 2, .. blocks; 1 for
            "closed_form", whose only iterate is the score.
        iterate_blocks: index of the block after which iterate 1, 2, .. stands in the stream.
        subspaces: name -> [first channel, number of channels] of the residual stream.
        sizes: D width, L blocks, M heads, H hidden units of an MLP, each the largest of any block, B largest
            Frobenius norm of a weight matrix, R clipping radius (infinite: a DiT does not clip).
        t_range: diffusion times.
        dtype: of the parameters.
        kernel_error: sup error over lags of the kernel that the heads hold; for "closed_form", over the entries of B
            (`unrolled.handset.ou_inverse`) at all of `times`.
        operator_error: spectral norm of the held Gamma minus Gamma, or of the held B minus B.
        times: diffusion times of the lists below.
        spectrum: [m_t, L_t] at each time.
        predicted_error: largest error, over all steps, of the iterate against the reference iterate, relative to the
            exact solution, at each time; for "preconditioned", expected relative error of the score after the last
            application; for "closed_form", bound on the relative root mean square error of the score, at times
            between too; for "conjugate_gradient", bound on the relative C-norm error of the score.
    """

    algorithm: str
    steps: int
    iterate_blocks: list[int]
    subspaces: dict[str, list[int]]
    sizes: dict[str, float]
    t_range: list[float]
    dtype: str
    kernel_error: float
    operator_error: float
    times: list[float]
    spectrum: list[list[float]]
    predicted_error: list[float]

    def state(self) -> dict[str, Any]:
        """Plain values; the class of the record, called with them, gives the record back."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DiTConstruction(Construction):
    """The record of a hand-set DiT.

    Attributes:
        gate_errors: largest error of each gate, relative for the structural ones, absolute for fitted weights, in units
            of the score for those of "closed_form".
        widths: b of each channel of log(c - Z_i), in the order of the subspace `sinks`; for "closed_form" that is the
            width of each head.
        fit_length: N up to which the heads hold the kernel to `kernel_error`, see `extend`.
        ramps: SiLU ramps of the time features.
        ridge: of the preconditioner's weights; None where there are none.
        dominance: B of the constants that make LayerNorm linear; None without LayerNorm.
        neutralisation_error: expected relative change of the score by LayerNorm at each of `times`, part of
            predicted_error; None without LayerNorm.
    """

    gate_errors: dict[str, float]
    widths: list[float]
    fit_length: int
    ramps: int
    ridge: float | None = None
    dominance: float | None = None
    neutralisation_error: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class ReluConstruction(Construction):
    """The record of a hand-set ReluTransformer.

    Attributes:
        truncation: J; the reference is the solver with C_{t,J}, the covariance cut off at lag J.
        truncation_error: bound on the relative difference of the solutions with C_{t,J} and with C_t at each of
            `times`.
    """

    truncation: int
    truncation_error: list[float]


Record = TypeVar("Record", bound=Construction)


@overload
def record_of(model: object) -> Construction: ...


@overload
def record_of(model: object, kind: type[Record]) -> Record: ...


def record_of(model: object, kind: type[Construction] = Construction) -> Construction:
    """The record of a hand-set model, of the class `kind`.

    Raises:
        InputError: a model without such a record.
    """
    record = getattr(model, "construction", None)
    if not isinstance(record, kind):
        raise InputError(
            f"model: {type(model).__name__} without a {kind.__name__} is not accepted; accepted: a hand-set model"
        )
    return record
