"""`python -m reports.build --out DIR`: a site of what was found: an overview, a page for each experiment, the claims,
and a page about models."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from jinja2 import Environment, PackageLoader, select_autoescape

from reports.compare import Page, compare_page
from reports.experiment import find_experiment
from reports.markdown import to_html
from reports.report import markdown, origin_in_words
from theory.page import PAGE as THEORY
from unrolled.cli import DeviceOption, module_app, resolve_device, run_app
from unrolled.files import atomic_path, require_writable_folder

__all__ = ["Entry", "committed", "write_site"]

RESULTS = Path(__file__).parent / "results"
MODELS = "models/index.html"
ORDER = ("trained", "trained_depth", "wrong_stories", "depth", "unet", "free_maps", "baselines", "efficiency", "ball")
"""Experiments that come first on the overview, in this order; the others follow by name."""
SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z])")
ELSEWHERE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
"""A link of a page of the repository to another one, which the site does not have."""
SHORT = 330
"""Characters of a finding on the overview, in whole sentences."""


@dataclass(frozen=True)
class Entry:
    """What the site says of one experiment.

    Attributes:
        name: of the experiment.
        folder: with its committed files.
        question: in one sentence.
        finding: in words.
        table: as Markdown.
        command: that makes the results again.
        origin: where they come from, in words.
    """

    name: str
    folder: Path
    question: str
    finding: str
    table: str
    command: str
    origin: str

    @property
    def sentences(self) -> list[str]:
        """Those of the finding."""
        return SENTENCE.split(self.finding)

    @property
    def start(self) -> str:
        """The first sentences of the finding, as many as are short together."""
        first, *others = self.sentences
        for sentence in others:
            if len(first) + len(sentence) > SHORT:
                break
            first += f" {sentence}"
        return first


def committed(results: Path = RESULTS) -> list[Entry]:
    """The experiments with committed results, the most important ones first."""
    entries = []
    for record_file in results.glob("*/provenance.json"):
        folder, record = record_file.parent, json.loads(record_file.read_text())
        experiment = find_experiment(folder.name)
        table = experiment.read(folder / f"{experiment.stem}.csv", "results")
        entries.append(
            Entry(
                experiment.name, folder, experiment.question, experiment.finding(table),
                markdown(experiment.table(table)), record["command"], origin_in_words(experiment, record),
            )
        )  # fmt: skip
    return sorted(entries, key=lambda entry: (_place(entry.name), entry.name))


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def write_site(entries: Sequence[Entry], models: Page | None, out: Path) -> list[Path]:
    """Write the pages, each whole or not at all; what was written.

    Args:
        entries: of `committed`.
        models: what the page about models says, which is in the folder `models`; None for a site without it.
        out: a folder that exists.
    """
    environment = Environment(loader=PackageLoader("reports", "."), autoescape=select_autoescape(("html", "jinja")))
    pages = [("Overview", "index.html"), *([("Models", MODELS)] if models else []), ("Theory", "theory.html")]
    written = []

    def write(file: str, template: str, **values: Any) -> None:
        text = environment.get_template(f"templates/{template}").render(pages=pages, here=file, **values)
        with atomic_path(out / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(out / file)

    style = Path(__file__).parent / "templates" / "site.css"
    files = [style, *(entry.folder / f"{entry.name}.{kind}" for entry in entries for kind in ("png", "csv"))]
    for file in files:
        with atomic_path(out / file.name) as temporary:
            shutil.copyfile(file, temporary)
        written.append(out / file.name)
    for entry in entries:
        write(
            f"{entry.name}.html", "experiment.html.jinja", name=entry.name, question=entry.question,
            finding=entry.sentences, figure=f"{entry.name}.png", data=f"{entry.name}.csv", table=to_html(entry.table),
            command=entry.command, origin=entry.origin,
        )  # fmt: skip
    write("theory.html", "text.html.jinja", title="Claims", text=to_html(ELSEWHERE.sub(r"\1", THEORY.read_text())))
    cards = [
        {"file": f"{e.name}.html", "figure": f"{e.name}.png", "question": e.question, "start": e.start} for e in entries
    ]
    said = models or Page()
    figure = said.figure and f"models/{said.figure}"
    write(
        "index.html", "overview.html.jinja", cards=cards, models=MODELS, sentences=said.sentences, figure=figure,
        process=said.process,
    )  # fmt: skip
    return written


def build(
    *,
    out: Path,
    ckpt: Annotated[tuple[Path, ...], Parameter(negative=())] = (Path("example:ou"),),
    samples: int = 512,
    steps: int = 30,
    seed: int = 0,
    device: DeviceOption = "auto",
) -> None:
    """What was found about diffusion transformers on sequences?

    Example: `python -m reports.build --ckpt example:ou --out site`

    The answer is a folder of pages that opens from disk: an overview, a page for each experiment with committed
    results, the claims, and a page about the checkpoints as `reports.compare` writes it.

    Parameters
    ----------
    out
        Folder of the site; index.html is its first page.
    ckpt
        Checkpoint; repeat the option for several. The first on a Gaussian process is on the overview.
    samples
        As in reports.compare.
    steps
        As in reports.compare.
    seed
        Seed of everything random on the page about models.
    """
    require_writable_folder("out", out)
    models = compare_page(list(ckpt), out / "models", samples, steps, seed, resolve_device(device), "../index.html")
    written = write_site(committed(), models, out)
    print(f"wrote {out / 'index.html'} and {len(written) - 1} files beside it")


app = module_app("reports.build", build)

if __name__ == "__main__":
    run_app(app)
