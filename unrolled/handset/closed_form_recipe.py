"""The closed form as a recipe: widths for the error that is asked for, and what can be had where that cannot."""

import math
from typing import NoReturn

import torch

from unrolled.checks import InputError, refuse
from unrolled.handset.closed_form import closed_form_dit
from unrolled.handset.closed_form_error import choose_rule, closed_form_error, held_matrix_errors
from unrolled.handset.drafts import DiTDraft, finish_dit, prediction_times
from unrolled.handset.options import DiTOptions
from unrolled.handset.ou_inverse import ou_lengthscale
from unrolled.models.dit import DiT
from unrolled.models.record import record_of
from unrolled.process import GaussianProcess

__all__ = ["ERROR", "closed_form_recipe"]

ERROR = 1e-5
"""Error of the score where none is asked for."""
SHARES = (0.8, 0.4, 0.1, 0.01)
"""Shares of the error that the widths may cost, tried in turn; gates and rounding take the rest."""


def closed_form_recipe(process: GaussianProcess, steps: int | None, options: DiTOptions) -> DiT:
    """One block for an Ornstein-Uhlenbeck process, with the fewest widths whose error stays below the one asked for.

    Raises:
        InputError: another kernel; steps other than 1; an error that the gates, the dtype or `heads` do not allow.
    """
    ou_lengthscale(process)
    if steps not in (None, 1):
        refuse("steps", steps, "1 or None: the closed form is one block")
    if options.fit_length is not None:
        refuse("fit_length", options.fit_length, "None: the images of the closed form know the length")
    asked = ERROR if options.error is None else options.error
    times = prediction_times(options.t_range)
    least = math.inf
    for share in SHARES:
        rule = choose_rule(process, times, share * asked, options.dtype)
        form = closed_form_dit(process, rule, options.t_range, options.ramps, options.dtype)
        error = closed_form_error(process, form, times)
        if float(error.max()) <= asked:
            heads = form.model.config.heads
            if options.heads is not None and heads > options.heads:
                refuse("heads", options.heads, f"an integer >= {heads}, five for each of {len(rule.widths)} widths")
            draft = DiTDraft(
                form.model, form.stream, form.fitter, *held_matrix_errors(process, form, times), form.widths, 1, [0],
                error,
            )  # fmt: skip
            made = finish_dit("closed_form", process, options, draft)
            error = torch.tensor(record_of(made).predicted_error)
            if float(error.max()) <= asked:
                return made
        least = min(least, float(error.max()))
    _refuse_error(asked, least, options)


def _refuse_error(asked: float, least: float, options: DiTOptions) -> NoReturn:
    """Say what can be had: the least error that was found, up to its second digit."""
    unit = 10.0 ** (math.floor(math.log10(least)) - 1)
    raise InputError(
        f"error: {asked:g} is not accepted; accepted: a number >= {math.ceil(1.05 * least / unit) * unit:.2g}, which"
        f" {options.ramps} ramps and {options.dtype} can hold at t in [{options.t_range[0]:g}, {options.t_range[1]:g}]"
    )
