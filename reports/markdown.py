"""Markdown as HTML with formulas as MathML, which browsers set without scripts."""

import html
import re
from itertools import pairwise
from typing import Literal

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["to_html"]

FENCE = re.compile(r"(```.*?```)", re.DOTALL)
INLINE = re.compile(r"\$`?([^$`\n]+)`?\$")
MARK = "\ue000{}\ue001"
"""Stands for a formula in a line while Markdown is read, which would take its backslashes and underscores."""


def _formula(latex: str, display: Literal["inline", "block"]) -> str:
    return convert(latex.strip(), display=display)


def _anchors(tokens: list[Token]) -> None:
    """Give headings the anchors that Markdown viewers give them."""
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", inline.content.lower())
            opened.attrSet("id", words.replace(" ", "-"))


def _fence(self, tokens: list[Token], index: int, options, env) -> str:
    token = tokens[index]
    if token.info.strip() == "math":
        return f'<div class="scroll" tabindex="0">{_formula(token.content, "block")}</div>\n'
    return f'<pre tabindex="0"><code>{html.escape(token.content)}</code></pre>\n'


def to_html(text: str) -> str:
    """Markdown with tables, and formulas in `math` fences or between dollars, as an HTML fragment."""
    formulas: list[str] = []

    def marked(match: re.Match[str]) -> str:
        formulas.append(_formula(match[1], "inline"))
        return MARK.format(len(formulas) - 1)

    pieces = [piece if piece.startswith("```") else INLINE.sub(marked, piece) for piece in FENCE.split(text)]
    reader = MarkdownIt("commonmark").enable("table")
    reader.add_render_rule("fence", _fence)
    tokens = reader.parse("".join(pieces))
    _anchors(tokens)
    page = reader.renderer.render(tokens, reader.options, {})
    for k, formula in enumerate(formulas):
        page = page.replace(MARK.format(k), formula)
    return page
