"""One look for every figure: fonts, sizes, colours, shapes and titles.

The look is an Altair theme, so that figures carry no configuration of their own and can be put side by
side with ``|`` and ``&``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import altair as alt

from workbench.units import QUANTITIES, quantity

__all__ = ["ACCENT", "CATEGORIES", "GREY", "HEIGHT", "INK", "SHAPES", "WIDTH", "empty", "sequence", "spoken", "title"]

#: Size of a figure in pixels, axes and legend included: fits a notebook cell and one printed column.
WIDTH, HEIGHT = 720, 430

INK, GREY, RULE = "#1f2328", "#667085", "#e6e8ec"
#: Colour of what the fit has not seen (held-out and fresh runs): Okabe and Ito's vermilion.
ACCENT = "#D55E00"
#: Okabe and Ito's colours, distinguishable with the common colour deficiencies; yellow is left out
#: because a point in it vanishes on white.
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C510A", "#000000")
#: Doubles every colour, for print in grey and for eyes that see colours differently.
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
#: Viridis without its palest end, dark to light.
_VIRIDIS = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39")

_CHARACTERS = 120  # of the subtitle in one line of WIDTH pixels


@alt.theme.register("workbench", enable=False)
def _theme() -> alt.theme.ThemeConfig:
    font = "Liberation Sans, Arial, Helvetica, sans-serif"
    return {
        "config": {
            "font": font,
            "background": "white",
            "padding": 8,
            "autosize": {"type": "fit", "contains": "padding"},
            "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT},
            "title": {
                "anchor": "start", "frame": "bounds", "color": INK, "fontSize": 16, "fontWeight": 600,
                "subtitleColor": GREY, "subtitleFontSize": 12, "subtitleLineHeight": 16, "subtitlePadding": 5,
                "offset": 14,
            },
            "axis": {
                "labelColor": INK, "labelFontSize": 12, "labelLimit": 220, "titleColor": INK, "titleFontSize": 13,
                "titleFontWeight": 500, "titlePadding": 9, "gridColor": RULE, "gridWidth": 1, "domainColor": "#98a2b3",
                "tickColor": "#98a2b3", "tickSize": 4, "labelOverlap": "greedy",
            },
            "legend": {
                "labelColor": INK, "labelFontSize": 12, "titleColor": INK, "titleFontSize": 12, "titleFontWeight": 500,
                "titleLimit": 220, "labelLimit": 180, "symbolSize": 80, "rowPadding": 3,
            },
            "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": 600, "titleColor": INK},
            "text": {"color": INK, "fontSize": 12},
        }
    }  # fmt: skip


def title(text: str, *parts: str) -> alt.Title:
    """A title with a grey subtitle of `parts`, joined by middle dots and wrapped to the figure's width."""
    lines: list[str] = []
    for part in filter(None, parts):
        if lines and len(lines[-1]) + len(part) + 3 <= _CHARACTERS:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, _CHARACTERS)
    return alt.Title(_shorten(text, 84), subtitle=lines) if lines else alt.Title(_shorten(text, 84))


def spoken(column: str) -> str:
    """`column` in the middle of a title: ``training tokens``; names that are not the workbench's stay as they are."""
    meaning = quantity(column).meaning
    return meaning.lower() if column in QUANTITIES else meaning


def _shorten(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def sequence(n: int) -> list[str]:
    """`n` colours from dark to light for ordered groups."""
    if n <= 1:
        return [CATEGORIES[0]]
    last = len(_VIRIDIS) - 1
    return [_blend(i * last / (n - 1)) for i in range(n)]


def _blend(position: float) -> str:
    low = min(int(position), len(_VIRIDIS) - 2)
    share = position - low
    pair = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _VIRIDIS[low : low + 2]]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*pair, strict=True))


def shapes(n: int) -> list[str]:
    """`n` mark shapes, repeating after eight."""
    return [SHAPES[i % len(SHAPES)] for i in range(n)]


def empty(heading: str, why: str | Sequence[str]) -> alt.Chart:
    """A figure that holds no data and says why, for a view that must show something.

    Args:
        heading: what is missing.
        why: one sentence a reader can act on.
    """
    words = [why] if isinstance(why, str) else list(why)
    lines = [line for word in words for line in textwrap.wrap(word, 88)] or [""]
    return (
        alt.Chart(alt.InlineData(values=[{}]), title=title(heading), width=WIDTH, height=120 + 18 * len(lines))
        .mark_text(align="center", color=GREY, fontSize=13, lineHeight=18, text=lines)
        .encode()
    )
