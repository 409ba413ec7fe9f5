"""From a Vega-Lite specification to PNG bytes; as a program, from stdin to stdout, beside a busy process.

The converter holds Python's lock for as long as it draws, a second or two, so that a thread would stop the
process it runs in. Started by its path this file imports the converter and nothing else of the workbench::

    python -P picture.py 6.1 2 < figure.json > figure.png
"""

from __future__ import annotations

import io
import sys

import vl_convert
from PIL import Image

__all__ = ["draw"]


def draw(spec: str, vega_lite: str, scale: float) -> bytes:
    """The specification, as JSON, as PNG bytes.

    The colours are reduced to a palette of 256, which nobody sees and which makes the picture, and every
    notebook that holds it, about five times smaller.

    Args:
        spec: Vega-Lite, as JSON.
        vega_lite: its version, such as ``6.1``.
        scale: picture pixels per chart pixel.
    """
    image = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, vl_version=vega_lite, scale=scale)))
    small = io.BytesIO()
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(draw(sys.stdin.buffer.read().decode(), sys.argv[1], float(sys.argv[2])))
