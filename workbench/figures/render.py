"""From a chart to a picture: PNG and text for notebooks, files for everything else.

Altair's own default sends HTML that fetches Vega from the internet and writes run names into a script
block as they are; nothing here does either.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from workbench.figures import picture

__all__ = ["FORMATS", "png", "png_beside", "save", "svg", "text"]

FORMATS = ("png", "svg", "html", "json")
_SCALE = 2  # PNG pixels per chart pixel, for print and dense screens
_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; \
style-src 'unsafe-inline'; img-src data: blob:">
<style>body{{margin:24px;font-family:sans-serif}}</style></head>
<body><figure id="figure" role="img" aria-label="{title}"></figure>
<script>{bundle}</script>
<script type="application/json" id="spec">{spec}</script>
<script>vegaEmbed("#figure", JSON.parse(document.getElementById("spec").textContent), {{actions: {{export: true, \
source: false, compiled: false, editor: false}}}});</script>
</body></html>
"""


def png(chart: Any) -> bytes:
    """`chart` as PNG bytes, two pixels per chart pixel, in a palette of 256 colours."""
    return picture.draw(json.dumps(_spec(chart)), _VEGA_LITE, _SCALE)


async def png_beside(chart: Any) -> bytes:
    """As `png`, in a process of its own, while this one goes on; for the event loop of a notebook.

    Raises:
        RuntimeError: the process could not draw it; its last line says why.
    """
    command = (sys.executable, "-P", picture.__file__, _VEGA_LITE, str(_SCALE))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        made, said = await process.communicate(json.dumps(_spec(chart)).encode())
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(said.decode("utf-8", "replace").strip().rpartition("\n")[2] or "the picture was not drawn")
    return made


def svg(chart: Any) -> str:
    """`chart` as SVG text."""
    return vl_convert.vegalite_to_svg(_spec(chart), vl_version=_VEGA_LITE)


def size(image: bytes) -> dict[str, int]:
    """Width and height at which a `png` is to be shown, in chart pixels."""
    width, height = struct.unpack(">II", image[16:24])
    return {"width": width // _SCALE, "height": height // _SCALE}


def text(chart: Any) -> str:
    """`chart` in words: ``Figure: title — subtitle``."""
    heading = _spec(chart).get("title") or {}
    if isinstance(heading, str):
        heading = {"text": heading}
    words = [_joined(heading.get(key, "")) for key in ("text", "subtitle")]
    return "Figure: " + (" — ".join(w for w in words if w) or "untitled")


def save(chart: Any, path: str | Path) -> Path:
    """Write `chart` to a file; the suffix chooses PNG, SVG, a self-contained HTML page, or Vega-Lite JSON.

    The HTML page works with no network and forbids itself one.

    Returns:
        The path written.

    Raises:
        ValueError: a suffix that names none of these; the sentence lists them.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise ValueError(f"a figure cannot be saved as {path.name!r}; end the name in .{', .'.join(FORMATS)}")
    if kind == "png":
        path.write_bytes(png(chart))
        return path
    if kind == "svg":
        content = svg(chart)
    elif kind == "json":
        content = json.dumps(_spec(chart), indent=1)
    else:
        # "<" as an escape: a run called </script> must not end the block it is quoted in.
        spec = json.dumps(_spec(chart)).replace("<", "\\u003c")
        bundle = vl_convert.javascript_bundle(vl_version=_VEGA_LITE).replace("</script", "<\\/script")
        content = _PAGE.format(title=escape(text(chart)), bundle=bundle, spec=spec)
    path.write_text(content, encoding="utf-8")
    return path


#: What no font draws and XML forbids, so that the renderer would refuse the whole figure for one run's name.
_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 0xFFFE, 0xFFFF], "\ufffd")


def _spec(chart: Any) -> dict[str, Any]:
    return _drawable(chart if isinstance(chart, dict) else chart.to_dict())


def _drawable(value: Any) -> Any:
    """`value` with a replacement character for every control character in its text."""
    if isinstance(value, str):
        return value.translate(_CONTROL)
    if isinstance(value, dict):
        return {_drawable(key): _drawable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_drawable(one) for one in value]
    return value


def _joined(words: Any) -> str:
    return words if isinstance(words, str) else " ".join(words)


def _render(spec: dict[str, Any], **metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The renderer called "workbench": a PNG shown at its chart size, and the words."""
    image = png(spec)
    return {"image/png": image, "text/plain": text(spec)}, {"image/png": size(image)}


alt.renderers.register("workbench", _render)
