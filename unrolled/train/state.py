"""The state of a training run in a checkpoint, compared with the run that it is for before anything of it is used.

The optimiser's fused kernel writes through the sizes of its parameters. Moments of another size would be memory of
somebody else.
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.checks import InputError, refuse, require_integer, require_number
from unrolled.options import fits

__all__ = ["SCHEDULE", "require_training_state"]

SCHEDULE = ("last_epoch", "_step_count", "_last_lr")
"""What moves in the state of the schedule; the rest follows from the options of the run."""
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
MOVING: dict[str, Any] = {"lr": float, "betas": tuple[float, float]}
"""Options of the optimiser that the schedule changes."""


def require_training_state(state: dict[str, Any], optimiser: torch.optim.Optimizer, steps: int) -> None:
    """Refuse a state that is not of a run of `steps` steps with this optimiser.

    Raises:
        InputError: a part that does not fit.
        KeyError: a part that is missing.
    """
    step = require_integer("step", state["step"], 0, steps)
    require_number("seconds", state["seconds"], above=0, closed="low")
    require_integer("averaged_steps", state["averaged_steps"], 0)
    for name, kind in zip(SCHEDULE, (int, int, list[float]), strict=True):
        if not fits(value := state["schedule"][name], kind):
            refuse(f"schedule {name}", value, "what the schedule of a run holds")
    if state["schedule"]["last_epoch"] != step:
        refuse("schedule last_epoch", state["schedule"]["last_epoch"], f"{step}, the step of the run")
    losses = state.get("losses", torch.zeros(0))  # absent in files of format 1
    if not isinstance(losses, Tensor) or losses.ndim != 1 or not losses.is_floating_point():
        raise InputError("losses: are not accepted; accepted: a vector of real numbers")
    if "stopping" in state:
        require_integer("stopping step", state["stopping"]["step"], 0, step)
        require_number("stopping lowest", state["stopping"]["lowest"])
    _require_optimiser_state(state["optimiser"], optimiser)


def _require_optimiser_state(state: dict[str, Any], optimiser: torch.optim.Optimizer) -> None:
    own, groups = optimiser.state_dict()["param_groups"], state["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in own]:
        raise InputError("optimiser: its groups are not accepted; accepted: those of the parameters of the run")
    for ours, group in zip(own, groups, strict=True):
        for name in ours.keys() & group.keys():
            if not fits(group[name], MOVING[name]) if name in MOVING else group[name] != ours[name]:
                refuse(f"optimiser {name}", group[name], f"{ours[name]!r}, that of the run")
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for k, moments in state["state"].items():
        parameter = parameters[require_integer("optimiser parameter", k, 0, len(parameters) - 1)]
        if set(moments) != MOMENTS:
            refuse("optimiser moments", sorted(map(str, moments)), ", ".join(sorted(MOMENTS)))
        for name, value in moments.items():
            like = torch.zeros(()) if name == "step" else parameter
            layout = (value.shape, value.dtype, value.is_contiguous()) if isinstance(value, Tensor) else None
            if layout != (like.shape, like.dtype, like.is_contiguous()):
                raise InputError(
                    f"optimiser: {name} of parameter {k} is not accepted; accepted: {like.dtype} of shape"
                    f" {tuple(like.shape)}"
                )
