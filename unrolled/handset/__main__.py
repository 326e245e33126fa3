"""`python -m unrolled.handset --steps 32 --out handset.pt`: a checkpoint with hand-set weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Group, Parameter

from unrolled.checkpoint import save_checkpoint
from unrolled.cli import module_app, print_table, run_app
from unrolled.evaluate import score_errors, times_within
from unrolled.files import require_output_file
from unrolled.handset.construct import RAMPS, RIDGE, construct
from unrolled.models.record import record_of
from unrolled.options import ProcessOptions
from unrolled.provenance import command_line, provenance

STEPS = 32
"""Iterations where none are given."""
SAMPLES = 64
"""Sequences behind the printed errors."""


OF_DIT = Parameter(group=Group.create_ordered("DiT, the default of --model"))
OF_RELU = Parameter(group=Group.create_ordered("ReluTransformer, with --model relu"))


def handset(
    *,
    algorithm: Literal[
        "gradient_descent", "chebyshev", "preconditioned", "conjugate_gradient", "closed_form"
    ] = "chebyshev",
    steps: int | None = None,
    model: Literal["dit", "relu"] = "dit",
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    t_range: tuple[float, float] = (1e-3, 8.0),
    dtype: Literal["float64", "float32"] = "float64",
    norm: Annotated[Literal["none", "layer"], OF_DIT] = "none",
    dominance: Annotated[float | None, OF_DIT] = None,
    heads: int | None = None,
    ramps: Annotated[int, OF_DIT] = RAMPS,
    ridge: Annotated[float, OF_DIT] = RIDGE,
    tolerance: float | None = None,
    error: Annotated[float | None, OF_DIT] = None,
    truncation: Annotated[int | None, OF_RELU] = None,
    multiplication_layers: Annotated[int | None, OF_RELU] = None,
    out: Path = Path("handset.pt"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """What score error has a transformer whose forward pass is a solver, because its weights are set by hand?

    Example: `python -m unrolled.handset --algorithm chebyshev --steps 32 --out handset.pt`

    The answer is its error against the exact score, and a checkpoint that goes wherever a trained one does:
    `python -m probes.attention`, `python -m reports.compare`.

    Parameters
    ----------
    algorithm
        The solver. In a DiT, gradient descent and Chebyshev take one block for each step; preconditioned takes 1, 3, 5
        blocks for 1, 2, 3 steps; closed_form takes one block, for an Ornstein-Uhlenbeck process alone. In a
        ReluTransformer, gradient descent and Chebyshev take 2 blocks for each step; conjugate gradient takes 11.
    steps
        Iterations of the solver; 32 where not given. The closed form has none.
    model
        A DiT, or the ReluTransformer of the theory.
    t_range
        Diffusion times the model accepts.
    dtype
        Numbers of the weights and of the forward pass.
    norm
        Normalisation; "layer" is LayerNorm made linear by constants that dominate it.
    dominance
        Size of the constants that dominate LayerNorm. Without this option: 1e6 in float64 and 1e4 in float32.
    heads
        Most attention heads in a block; fewer hold the kernel less exactly.
    ramps
        SiLU ramps of the time features.
    ridge
        Ridge of the least squares behind the weights of the preconditioner.
    tolerance
        Refuse to write a model whose predicted error is above this. For gradient descent and Chebyshev that is the
        largest deviation from the iterates of the solver, and says nothing of how far the solver is from the score; for
        the others it is the error of the score.
    error
        Relative error of the score that the closed form is to stay below at every t; 1e-5 where not given.
    truncation
        Lags below which the model holds the covariance.
    multiplication_layers
        Build gradient descent from the published modules, with that many layers per multiplication.
    out
        Checkpoint to write.
    overwrite
        Replace `out` if it exists.
    """
    require_output_file("out", out, overwrite)
    data = process.process()
    chosen = _given(
        heads=heads, ramps=ramps, ridge=ridge, tolerance=tolerance, norm=norm, dominance=dominance, error=error,
        truncation=truncation, multiplication_layers=multiplication_layers,
    )  # fmt: skip
    if steps is None and algorithm != "closed_form":
        steps = STEPS
    made = construct(data, algorithm, steps, model, t_range=t_range, dtype=getattr(torch, dtype), **chosen)
    options = {
        "algorithm": algorithm, "steps": steps, "model": model, "process": asdict(process), "ramps": ramps,
        "ridge": ridge,
    }  # fmt: skip
    record = {**provenance(), "command": command_line(), "seed": process.spatial_seed, "device": "cpu", "dtype": dtype}
    save_checkpoint(out, made, data, options, record)
    errors = score_errors(made, data, times_within(t_range), SAMPLES, dtype=getattr(torch, dtype))
    rows = [(f"{t:g}", f"{data.condition_number(t):.3g}", f"{error:.2e}") for t, error in errors.items()]
    print_table(f"relative score error, {SAMPLES} fresh samples, exact score as truth", ("t", "kappa_t", "error"), rows)
    sizes = record_of(made).sizes
    print(", ".join(f"{name} {value:g}" for name, value in sizes.items()) + f"; wrote {out}")


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not at their default: the other model's are refused, not ignored."""
    default = {"norm": "none", "ramps": RAMPS, "ridge": RIDGE}
    return {name: value for name, value in options.items() if value != default.get(name)}


app = module_app("unrolled.handset", handset)

if __name__ == "__main__":
    run_app(app)
