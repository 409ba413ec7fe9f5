"""A notebook as one HTML file that needs nothing: no network, no kernel, no other file.

Panels that left what they need in their outputs (`workbench.panels.explorer_embed`) go on answering their sliders;
everything else is shown as it was saved. The page comes from a notebook that may come from anybody: its HTML is
cleaned, its panels are data that are checked, and the page allows itself no script but its own (by hash), no
network, no form and no frame.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import secrets
from html import escape
from pathlib import Path
from typing import Any

import vl_convert

from workbench import __version__
from workbench.export.clean import clean, plain
from workbench.export.mathml import mathml
from workbench.export.panels import MEDIA, checked
from workbench.figures.render import _VEGA_LITE
from workbench.files import write_whole
from workbench.notebooks import _read

__all__ = ["CODE", "export", "page"]

#: What becomes of the code: behind a line to click, open, or left out.
CODE = ("folded", "shown", "hidden")
#: Size that a page should stay under, in bytes; a larger one is written and said to be large.
LARGE = 5_000_000
_HERE = Path(__file__).parent

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; {policy}style-src 'unsafe-inline'; \
img-src data:; base-uri 'none'; form-action 'none'">
<meta name="referrer" content="no-referrer"><meta name="generator" content="scaling-workbench {version}">
<title>{title}</title><style>{style}</style></head>
<body><main>
{body}
<footer>Made by scaling-workbench {version} from {name}.{said}</footer>
</main>{scripts}</body></html>
"""


def export(notebook: str | Path, to: str | Path | None = None, *, code: str = "folded") -> Path:
    """Write a notebook as one HTML file.

    Args:
        notebook: the file.
        to: the HTML file; default beside the notebook, under its name.
        code: ``folded``, ``shown`` or ``hidden``.

    Returns:
        The path written, whole or not at all.

    Raises:
        ValueError: the file is no notebook, or `code` is none of the three.
        OSError: it cannot be read or written.
    """
    notebook = Path(notebook)
    content = page(_read(notebook), notebook.name, code=code)
    target = Path(to) if to is not None else notebook.with_suffix(".html")
    return write_whole(target, content)


def page(book: Any, name: str = "a notebook", *, code: str = "folded") -> str:
    """The HTML of a notebook.

    Args:
        book: the notebook, as nbformat reads it.
        name: what it is called in the footer.
        code: as in `export`.

    Raises:
        ValueError: `code` is none of the three.
    """
    if code not in CODE:
        raise ValueError(f"code is {code!r}; choose one of {', '.join(CODE)}")
    body, live = [], 0
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            body.append(_markdown(source))
        elif cell["cell_type"] == "code":
            body.append(_code(source, code))
            for output in _shown(cell.get("outputs", [])):
                made, alive = _output(output)
                live += alive
                body.append(made)
    scripts = [_vega(), (_HERE / "page.js").read_text(encoding="utf-8")] if live else []
    policy = "".join(f"'sha256-{_hash(s)}' " for s in scripts)
    said = f" {live} panel{'s answer' if live != 1 else ' answers'} sliders without a kernel." if live else ""
    return _PAGE.format(
        policy=f"script-src {policy.strip()}; " if scripts else "",
        version=__version__,
        title=escape(_title(book) or name),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        body="\n".join(body),
        name=escape(name),
        said=said,
        scripts="".join(f"<script>{s}</script>" for s in scripts),
    )


@functools.cache
def _vega() -> str:
    bundle = vl_convert.javascript_bundle("globalThis.workbenchVega = {vegaEmbed};", vl_version=_VEGA_LITE)
    return f"{{{bundle}\n}}".replace("</script", "<\\/script")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _title(book: Any) -> str:
    for cell in book["cells"]:
        words = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown" and words.startswith("#"):
            return words.splitlines()[0].lstrip("# ")
    return ""


def _markdown(source: str) -> str:
    import mistune

    formulas: list[str] = []
    mark = secrets.token_hex(8)

    class Renderer(mistune.HTMLRenderer):
        def inline_math(self, text: str) -> str:
            return self._put(text, False)

        def block_math(self, text: str) -> str:
            return self._put(text, True)

        def _put(self, text: str, block: bool) -> str:
            formulas.append(mathml(text, block))
            return f"{mark}-{len(formulas) - 1}-"

    convert = mistune.create_markdown(renderer=Renderer(escape=False), plugins=["table", "strikethrough", "math"])
    html = clean(convert(source))
    for i, formula in enumerate(formulas):  # after the cleaning, which knows no mathematics; these are ours
        html = html.replace(f"{mark}-{i}-", formula)
    return html


def _code(source: str, code: str) -> str:
    if code == "hidden" or not source.strip():
        return ""
    text = f'<pre tabindex="0" role="group" aria-label="Code"><code>{escape(source)}</code></pre>'
    lines = source.count("\n") + 1
    return (
        text
        if code == "shown"
        else f"<details><summary>Code, {lines} line{'s' * (lines > 1)}</summary>{text}</details>"
    )


def _shown(outputs: list[Any]) -> list[Any]:
    """Outputs without a live view alone, which is nothing without its kernel."""
    return [o for o in outputs if "data" not in o or set(o["data"]) != {"application/vnd.jupyter.widget-view+json"}]


def _output(output: Any) -> tuple[str, bool]:
    """One output as HTML, and whether it is a panel that lives."""
    kind = output["output_type"]
    if kind == "stream":
        return _box(f"<pre>{escape(plain(''.join(output.get('text', ''))))}</pre>"), False
    if kind == "error":
        return _box(f'<pre class="wb-error">{escape(plain(chr(10).join(output.get("traceback", []))))}</pre>'), False
    data = output.get("data", {})
    text = plain("".join(data.get("text/plain", "")))
    held = checked(data[MEDIA]) if MEDIA in data else None
    if held is not None:
        return _live(held, _picture(data, held["title"])), True
    picture = _picture(data, text)
    if picture:
        return _box(picture), False
    if "text/html" in data:
        return _box(clean("".join(data["text/html"]))), False
    for form in ("text/markdown", "text/latex"):
        if form in data:
            return _box(_markdown("".join(data[form]))), False
    return _box(f"<pre>{escape(text)}</pre>") if text else "", False


def _box(inside: str) -> str:
    # tables and lines of text may be wider than the page: the keyboard must be able to scroll them
    reach = ' tabindex="0" role="group" aria-label="Output"' if "<pre" in inside or "<table" in inside else ""
    return f'<div class="wb-output"{reach}>{inside}</div>'


def _picture(data: Any, words: str) -> str:
    """The picture of an output, in the page; empty if there is none."""
    for form in ("image/png", "image/jpeg", "image/gif", "image/svg+xml"):
        if form in data:
            held = "".join(data[form])
            raw = held.encode() if form == "image/svg+xml" else base64.b64decode(held, validate=False)
            held = base64.b64encode(raw).decode()  # whatever it was, it is base64 now
            return f'<img alt="{escape(words[:500])}" src="data:{form};base64,{held}"{_width(raw, form)}>'
    return ""


def _width(raw: bytes, form: str) -> str:
    """Width at which a PNG of this project is shown: it has two pixels for each of the figure."""
    if form != "image/png" or raw[:8] != b"\x89PNG\r\n\x1a\n":
        return ""
    width = int.from_bytes(raw[16:20], "big")
    return f' width="{width // 2}"' if width >= 900 else ""


def _live(held: dict[str, Any], picture: str) -> str:
    # "<" as an escape: nothing in it may end the block it stands in
    block = json.dumps(held, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    label = escape(f"{held['title']}: a figure that answers the sliders below it")
    return (
        f'<section class="wb-live wb-wide" aria-label="{label}">{picture}'
        f'<script type="application/json">{block}</script></section>'
    )
