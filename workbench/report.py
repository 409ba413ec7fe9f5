"""A self-contained HTML page: headings, prose, tables and pictures, with no script and no network.

The page forbids itself both (Content-Security-Policy), so a run called ``<script>`` is a name and a
colleague may open it from an e-mail. Pictures are SVG inside ``img``, which never runs anything.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import __version__
from workbench.figures.render import svg, text
from workbench.files import write_whole

__all__ = ["Report"]

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.7rem;line-height:1.2;margin-bottom:.2rem} h2{font-size:1.2rem;margin-top:2.2rem}
.lead{color:#555;margin-top:0} figure{margin:1rem 0} figcaption{color:#555;font-size:.9rem}
img{max-width:100%;height:auto;background:#fff} .scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #ddd} th{border-bottom:2px solid #999}
td{white-space:nowrap} th:first-child,td:first-child{text-align:left}
.words td{white-space:normal;text-align:left;vertical-align:top} .words td:first-child{width:22rem}
.key{font-size:1.05rem;border-left:4px solid #0072b2;padding-left:.8rem}
footer{margin-top:3rem;color:#666;font-size:.85rem;border-top:1px solid #ddd;padding-top:.5rem}
@media (prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}.lead,figcaption,footer{color:#aaa}
th,td{border-color:#444} img{border-radius:4px}}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1><p class="lead">{lead}</p>
{body}
<footer>Written by scaling-workbench {version}. {footer}</footer></body></html>
"""


@dataclass
class Report:
    """A page under construction; every method adds to its end.

    Attributes:
        title: heading of the page.
        lead: one sentence under it.
        footer: provenance, in a sentence.
    """

    title: str
    lead: str = ""
    footer: str = ""
    _parts: list[str] = field(default_factory=list, repr=False)

    def heading(self, words: str) -> None:
        """A section heading."""
        self._parts.append(f"<h2>{escape(words)}</h2>")

    def say(self, words: str, key: bool = False) -> None:
        """A paragraph of plain text; `key` sets off the sentence a reader should take home."""
        self._parts.append(f"<p{' class=key' if key else ''}>{escape(words)}</p>")

    def table(self, frame: pd.DataFrame, caption: str = "", words: bool = False) -> None:
        """A table; every cell is escaped. `words`: cells hold sentences, which wrap and start at the left."""
        if frame.index.name:
            frame = frame.reset_index(allow_duplicates=True)
        body = frame.to_html(index=False, escape=True, border=0, na_rep="—", classes="words" if words else None)
        note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f'<figure>{note}<div class="scroll">{body}</div></figure>')

    def figure(self, chart: Any) -> None:
        """An Altair chart as a picture; its title and subtitle are the alternative text."""
        picture = base64.b64encode(svg(chart).encode()).decode()
        self._parts.append(
            f'<figure><img alt="{escape(text(chart))}" src="data:image/svg+xml;base64,{picture}"></figure>'
        )

    def html(self) -> str:
        """The whole page."""
        return _PAGE.format(
            title=escape(self.title),
            lead=escape(self.lead),
            style=_STYLE,
            body="\n".join(self._parts),
            version=__version__,
            footer=escape(self.footer),
        )

    def write(self, path: str | Path) -> Path:
        """Write the page whole or not at all; returns its absolute path.

        Raises:
            OSError: the folder cannot be written.
        """
        path = Path(path).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, self.html())
