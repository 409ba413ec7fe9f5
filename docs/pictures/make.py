"""Take the pictures of the panels in a real JupyterLab: ``python docs/pictures/make.py [NAME ...]`` (needs Chromium).

Each cell of ``tests/panels/cells.py`` becomes ``docs/pictures/NAME-panel.png``: the panel alone, in 256 colours or
fewer, under 150 kB.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.panels.cells import CELLS  # noqa: E402
from tests.panels.lab import chromium_path, open_lab  # noqa: E402

#: Most bytes of a picture, and the numbers of colours tried.
MOST, COLOURS = 150_000, (256, 128, 64, 32, 16)
#: Room around the panel in pixels.
MARGIN = 8


def main(names: list[str]) -> None:
    """Take the pictures called `names`, or all."""
    chromium = chromium_path()
    if chromium is None:
        raise SystemExit("no Chromium found; install it, for example with apt-get install chromium")
    unknown = sorted(set(names) - set(CELLS))
    if unknown:
        raise SystemExit(f"no panel is called {', '.join(unknown)}; there are {', '.join(sorted(CELLS))}")
    high = {"width": 1180, "height": 2400}  # what lies below the page would not be on the picture
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        open_lab(Path(folder), chromium, viewport=high) as lab,
    ):
        for panel in names or sorted(CELLS):
            lab.open(panel, CELLS[panel])
            lab.run()
            lab.quiet(4.0)
            path = HERE / f"{panel}-panel.png"
            path.write_bytes(small(taken(lab)))
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def taken(lab) -> Image.Image:
    """The panel of the first cell, and the room around it that is nobody else's."""
    lab.page.mouse.move(0, 0)
    box = lab.panel().bounding_box()
    # sideways only: above and below lie the borders of the cell
    clip = {"x": box["x"] - MARGIN, "y": box["y"], "width": box["width"], "height": box["height"]}
    return cropped(Image.open(io.BytesIO(lab.page.screenshot(clip=clip))).convert("RGB"))


def cropped(image: Image.Image) -> Image.Image:
    """`image` without the empty room on its right."""
    ground = Image.new("RGB", image.size, image.getpixel((image.width - 1, image.height - 1)))
    box = ImageChops.difference(image, ground).getbbox() or (0, 0, *image.size)
    return image.crop((0, 0, min(box[2] + MARGIN, image.width), min(box[3] + MARGIN, image.height)))


def small(image: Image.Image) -> bytes:
    """PNG bytes of `image` in as many colours as fit."""
    for colours in COLOURS:
        held = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(held, "png", optimize=True)
        if held.tell() <= MOST:
            break
    return held.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
