"""`python -m reports.compare --ckpt run.pt --out DIR`: one page that sets models, exact score and truth side by
side."""

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from cyclopts import Parameter
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure

from probes.attention.figures import decay_figure, map_figure
from probes.attention.report import interval_cell
from probes.attention.study import AttentionStudy, best_families, study_attention
from probes.decay.fit import MIN_LAGS
from probes.figures import save_figure
from probes.inputs import has_attention
from probes.modes.naming import NEAR
from probes.targets import truth_name
from reports.answer import answer
from reports.answer_words import answer_figure, answer_table, sentences
from reports.experiments.wrong_stories import sentences as story_sentences
from reports.experiments.wrong_stories import table as story_table
from reports.figures import covariance_figure, error_figure, loss_figure
from reports.measure import error_table, folded, generate, same_process
from reports.networks import parameter_count
from reports.stories import committed_stories
from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.checks import InputError, require_integer
from unrolled.cli import module_app, resolve_device, run_app
from unrolled.evaluate import times_within
from unrolled.files import atomic_path, require_writable_folder, write_csv
from unrolled.progress import Progress
from unrolled.provenance import command_line, provenance

__all__ = ["Page", "compare_page"]

ERROR_TIMES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)
"""Diffusion times of the score-error curves."""


def compare(
    *,
    ckpt: Annotated[list[Path], Parameter(negative=())],
    out: Path,
    samples: int = 512,
    steps: int = 30,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """How do checkpoints compare with the exact score, and with each other?

    Example: `python -m reports.compare --ckpt run.pt --ckpt handset.pt --out report`

    The answer is one self-contained HTML page, with its figures as PNG and its data as CSV beside it.

    Parameters
    ----------
    ckpt
        Checkpoint; repeat the option for several.
    out
        Folder for index.html and the files beside it.
    samples
        Fresh sequences behind the score errors, and generated sequences behind the covariances.
    steps
        Steps of the probability-flow sampler.
    seed
        Seed of everything random on the page.
    device
        auto is CUDA where there is one.
    """
    compare_page(ckpt, out, samples, steps, seed, resolve_device(device))


@dataclass(frozen=True)
class Page:
    """What a page says first.

    Attributes:
        sentences: what was found of the first Gaussian process; none where no checkpoint is of one.
        figure: the file that shows it, beside index.html.
        process: the data in words.
    """

    sentences: Sequence[str] = ()
    figure: str | None = None
    process: str = ""


def compare_page(
    ckpt: Sequence[Path],
    out: Path,
    samples: int,
    steps: int,
    seed: int,
    target: torch.device,
    home: str | None = None,
) -> Page:
    """Write the page that `compare` writes.

    Args:
        ckpt: checkpoints.
        out: folder for index.html and the files beside it.
        samples: behind errors and covariances.
        steps: of the sampler.
        seed: of everything random on the page.
        target: where the models run.
        home: a page that this one links to.

    Raises:
        InputError: a number, a file or a folder that cannot be used.
    """
    for name, value, least in (("samples", samples, 2), ("steps", steps, 1)):
        require_integer(name, value, least)
    checkpoints = [load_checkpoint(path) for path in ckpt]
    for path, checkpoint in zip(ckpt, checkpoints, strict=True):
        if has_attention(checkpoint) and checkpoint.data.length < MIN_LAGS:
            raise InputError(f"ckpt: {str(path)!r} has {checkpoint.data.length} frames; accepted: at least {MIN_LAGS}")
    require_writable_folder("out", out)
    keys = file_keys(ckpt)
    groups = _groups(keys, checkpoints)
    runs, errors, answers = [], [], []
    with Progress(total=4 * len(ckpt) + len(groups), title="report", unit="part") as bar:
        for group in groups:
            bar.say("models beside " + ", ".join(name for name, _ in group))
            answers.append(_answered(group, len(answers), out, seed, target))
            bar.update()
        for key, checkpoint in zip(keys, checkpoints, strict=True):
            run, table = _run(key, checkpoint, out, samples, steps, seed, target, bar)
            runs.append(run)
            if checkpoint.exact:
                errors.append(table.assign(run=run["name"]))
    page: dict[str, Any] = {"error_figure": None, "answers": answers, "stories": _stories(out)}
    if errors:
        table = pd.concat(errors, ignore_index=True)
        write_csv(table, out / "score_error.csv")
        page["error_figure"] = _embed(error_figure(table), out / "score_error.png")
    origin = {**provenance(), "command": command_line(), "seed": seed, "device": str(target)}
    environment = Environment(loader=PackageLoader("reports", "."), autoescape=select_autoescape(("html", "jinja")))
    html = environment.get_template("page.html.jinja").render(
        title="What does a trained diffusion transformer compute?",
        runs=runs,
        samples=samples,
        page=list(origin.items()),
        home=home,
        **page,
    )
    with atomic_path(out / "index.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(f"wrote {out / 'index.html'}")
    if not answers:
        return Page()
    return Page(tuple(answers[0]["sentences"]), "answer.png", answers[0]["process"])


def _run(key: str, checkpoint: Checkpoint, out: Path, samples: int, steps: int, seed: int, device, bar: Progress):
    """The page's section on one checkpoint, and its error table."""
    t_range = checkpoint.t_range
    bar.say(f"{key}: score error")
    times = times_within(t_range, ERROR_TIMES) or [t_range[0]]
    scored = replace(checkpoint, model=folded(checkpoint.model))
    table = error_table(scored, times, samples, seed + 1, device)
    bar.update()
    bar.say(f"{key}: generated sequences")
    generated = generate(scored, samples, steps, seed, device)
    bar.update()
    bar.say(f"{key}: attention")
    study = None
    if has_attention(checkpoint):
        study = study_attention(checkpoint, times_within(t_range) or [t_range[0]], seed=seed, device=device)
    bar.update()
    bar.say(f"{key}: figures")
    tables = {"errors": table, "generated": generated.by_lag, "generated_errors": generated.errors}
    for name, content in tables.items():
        write_csv(content, out / f"{key}_{name}.csv")
    name = truth_name(checkpoint)
    section = {
        "key": key,
        "name": key.replace("_", " "),
        "exact": checkpoint.exact,
        "summary": _summary(checkpoint),
        "errors": _html(table),
        "loss_figure": None if checkpoint.exact else _embed(loss_figure(table), out / f"{key}_loss.png"),
        "generated": generated,
        "generated_errors": _html(generated.errors),
        "covariance_figure": _embed(covariance_figure(generated, name), out / f"{key}_covariance.png"),
        "truth_name": name,
        "attention": None if study is None else _attention(key, study, checkpoint, out),
        "settings": _settings(checkpoint),
    }
    bar.update()
    return section, table


def _groups(keys: list[str], checkpoints: list[Checkpoint]) -> list[list[tuple[str, Checkpoint]]]:
    """Checkpoints with an exact score, those of one process together, under the names they have on the page."""
    groups: list[list[tuple[str, Checkpoint]]] = []
    for key, checkpoint in zip(keys, checkpoints, strict=True):
        if checkpoint.exact:
            named = (key.replace("_", " "), checkpoint)
            group = next((g for g in groups if same_process(g[0][1].process, checkpoint.process)), None)
            groups.append([named]) if group is None else group.append(named)
    return groups


def _answered(
    group: list[tuple[str, Checkpoint]], number: int, out: Path, seed: int, device: torch.device
) -> dict[str, Any]:
    """What the page says first: what was found of the checkpoints of one process."""
    found = answer(group, seed, device)
    stem = "answer" if number == 0 else f"answer_{number + 1}"
    table = answer_table(found)
    write_csv(table, out / f"{stem}.csv")
    _, *others = (name for name in table.columns if name.startswith("longest mode"))
    table = table.drop(columns=others)
    return {
        "process": found.process,
        "sentences": list(sentences(found)),
        "figure": _embed(answer_figure(found), out / f"{stem}.png"),
        "table": _html(table.assign(**{name: table[name].map(_count) for name in ("blocks", "parameters")}), 2),
        "file": f"{stem}.csv",
    }


def _stories(out: Path) -> dict[str, Any]:
    """What the page says of wrong stories: committed results about the networks that ship with the package."""
    results = committed_stories()
    write_csv(results, out / "wrong_stories.csv")
    return {"table": _html(story_table(results), 2), "sentences": story_sentences(results), "near": f"{NEAR:.0%}"}


def _attention(key: str, study: AttentionStudy, checkpoint: Checkpoint, out: Path) -> dict[str, Any]:
    """What the section says of attention, with its files."""
    for name, content in {"attention": study.profiles, "fits": study.fits}.items():
        write_csv(content, out / f"{key}_{name}.csv")
    truth = checkpoint.process.temporal_covariance.numpy()
    return {
        "decay_figure": _embed(decay_figure(study.middle, study.truth, study.truth_name), out / f"{key}_decay.png"),
        "map_figure": _embed(map_figure(study.middle, truth, study.truth_name), out / f"{key}_maps.png"),
        "samples": study.middle.profiles.shape[2],
        "deviation": f"{max(profiles.deviation for profiles in study.attention):.0e}",
        "middle_t": study.middle.t,
        "fits": _html(_fit_rows(study)),
    }


def file_keys(paths: Sequence[Path]) -> list[str]:
    """A short name for each file, safe in file names and anchors; `quick/run.pt` is quick, equal ones are numbered.

    A number that would give the name of another file is passed over.
    """
    names = [path.parent.name if path.stem == "run" and path.parent.name else path.stem for path in paths]
    names = [re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "run" for name in names]
    keys: list[str] = []
    for name in names:
        key, number = name, 1
        while names.count(name) > 1 and (key in names or key in keys):
            key, number = f"{name}_{number}", number + 1
        keys.append(key)
    return keys


def _summary(checkpoint: Checkpoint) -> str:
    data, process = checkpoint.data, checkpoint.process
    sizes = f"{process.length} frames of {process.dim} values"
    count = parameter_count(checkpoint.model)
    parameters = type(checkpoint.model).__name__ + (f", {count:,} parameters" if count else ", without parameters")
    if checkpoint.exact:
        return (
            f"Gaussian process: {sizes}, {process.temporal}; condition number of C_t"
            f" {process.condition_number(0.01):.0f}"
            f" at t = 0.01. {parameters}."
        )
    source = data.description.get("source", "a series")
    return (
        f"Real data ({source}): {sizes}. What is called covariance here is the empirical one of the training windows,"
        f" known only up to its bootstrap interval. {parameters}."
    )


def _fit_rows(study: AttentionStudy) -> pd.DataFrame:
    """The family of the largest R^2 for the truth, the inverse of C_t and every head, at the middle time, and which
    family each head can be said to be."""
    at_t = study.fits[study.fits["t"].isin([study.middle.t, 0.0])]  # the truth has no t and stands at 0
    best = best_families(pd.DataFrame(at_t), ["layer", "head", "kind"])
    named = study.choices[study.choices["t"] == study.middle.t].set_index(["layer", "head"])["answer"]
    rows = []
    for row in best.to_dict("records"):
        of_head = row["kind"] == "attention"
        other = study.truth_name if row["kind"] == "true covariance" else "inverse of C_t"
        numbers = {"amplitude": "amplitude", "floor": "floor", "r2": "R²", "held_out_error": "held-out error"}
        rows.append(
            {
                "curve": f"layer {row['layer']} head {row['head']}" if of_head else other, "best family": row["family"],
                "lengthscale": interval_cell(row, "lengthscale"), "power": interval_cell(row, "power"),
                **{shown: row[name] for name, shown in numbers.items()},
                "family": named[row["layer"], row["head"]] if of_head else "",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _settings(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Configuration and provenance as (name, value) pairs."""
    pairs: list[tuple[str, str]] = []
    for name, value in {**checkpoint.config, **checkpoint.provenance}.items():
        if isinstance(value, dict):
            pairs.append((name, ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)))
        else:
            pairs.append((name, str(value)))
    pairs += [(f"data: {name}", str(value)) for name, value in checkpoint.data.description.items()]
    return pairs


def _count(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"


def _html(table: pd.DataFrame, digits: int = 4) -> str:
    """A table with numbers to so many significant digits."""

    def number(value: float) -> str:
        return "–" if math.isnan(value) else f"{value:.{digits}g}"

    return table.to_html(index=False, border=0, float_format=number, na_rep="–")


def _embed(figure: Figure, path: Path) -> str:
    """Save a figure as PNG and return it as a data URI."""
    save_figure(figure, path)
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


app = module_app("reports.compare", compare)

if __name__ == "__main__":
    run_app(app)
