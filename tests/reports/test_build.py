"""The site says what the committed results say, and nothing on it leads nowhere or leaves the folder."""

import html
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from reports.build import build, committed, write_site
from reports.compare import Page
from reports.experiment import experiment_names
from reports.markdown import to_html
from theory.page import PAGE

SAID = Page(("A first sentence about x < y.", "A second one."), "answer.png", "a process of 4 frames")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    (out / "models").mkdir()
    for name in ("index.html", "answer.png"):
        (out / "models" / name).write_text("")
    write_site(committed(), SAID, out)
    return out


def test_every_experiment_with_results_has_a_page_and_a_card(site):
    overview, entries = (site / "index.html").read_text(), committed()
    assert {entry.name for entry in entries} <= set(experiment_names()) and len(entries) >= 10
    for entry in entries:
        text = html.unescape((site / f"{entry.name}.html").read_text())
        assert entry.question in text and all(sentence in text for sentence in entry.sentences)
        assert " ".join(entry.sentences) == entry.finding and entry.command in text
        assert f'href="{entry.name}.html"' in overview and entry.start in html.unescape(overview)
        assert entry.finding.startswith(entry.start)
    places = [overview.index(f'href="{entry.name}.html"') for entry in entries]
    assert places == sorted(places) and entries[0].name == "trained"


def test_the_overview_begins_with_the_answer(site):
    overview = (site / "index.html").read_text()
    first, second = (overview.index(html.escape(sentence)) for sentence in SAID.sentences)
    assert first < second < overview.index("models/answer.png") < overview.index("Experiments")


def test_links_lead_somewhere_and_nothing_leaves_the_folder(site):
    for page in site.glob("*.html"):
        text = page.read_text()
        anchors = set(re.findall(r'\bid="([^"]+)"', text))
        links = re.findall(r'(?:href|src)="([^"]+)"', text)
        assert links and "<script" not in text and "url(" not in (site / "site.css").read_text()
        for link in links:
            file, _, anchor = link.partition("#")
            assert not re.match(r"\w+:", link) and (not file or (site / file).is_file()), (page.name, link)
            assert not anchor or anchor in anchors, (page.name, link)


def test_pages_are_well_formed(site):
    """Every element is closed and every attribute quoted: the body of each page is XML, but for entities and voids."""
    for page in site.glob("*.html"):
        body = re.search(r"<body>.*</body>", page.read_text(), re.DOTALL)
        assert body is not None
        closed = re.sub(r"<(img|br|hr)\b([^>]*?)/?>", r"<\1\2/>", body[0])
        ElementTree.fromstring(re.sub(r"&(?!amp;|lt;|gt;|quot;|#)\w+;", " ", closed))


def test_every_formula_of_the_claims_is_set(site):
    text = (site / "theory.html").read_text()
    source = PAGE.read_text()
    assert text.count('display="block"') == source.count("```math") > 100
    assert "$" not in re.sub(r"<(code|pre)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)


def test_markdown_keeps_formulas_whole():
    formula = "```math\n\\frac{1}{2}\n```"
    text = to_html(
        f"# A head\n\nFor $a_{{1}} < b,\\; c$ and `x_1`:\n\n{formula}\n\n| a | b |\n| --- | --- |\n| 1 | $2$ |\n"
    )
    assert '<h1 id="a-head">' in text and text.count("<math") == 3 and "<mfrac>" in text
    assert "<code>x_1</code>" in text and "<msub>" in text and "<em>" not in text and "<td>1</td>" in text


@pytest.mark.slow
def test_the_command_builds_a_whole_site(tmp_path):
    build(out=tmp_path / "site", ckpt=(Path("example:ou"),), samples=16, steps=2)
    overview = (tmp_path / "site" / "index.html").read_text()
    assert "the trained network example ou" in overview and (tmp_path / "site" / "models" / "answer.png").is_file()
    assert 'href="../index.html"' in (tmp_path / "site" / "models" / "index.html").read_text()
    assert sum(file.stat().st_size for file in (tmp_path / "site").rglob("*") if file.is_file()) < 15e6
