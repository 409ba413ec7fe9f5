"""Whether two pictures show the same, so that another processor's last digit is not taken for a change.

Two machines agree on a fit to some digits and no further. In a chart that is a line a hundredth of a pixel higher:
its soft edges get other shades, the palette is chosen anew, and thousands of pixels differ by what nobody sees.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

__all__ = ["alike", "similar"]

#: Pixels a side of the tiles that are compared: a letter of a chart's text is 10 to 20 of them high.
TILE = 32
#: Levels of 255 by which a pixel has to change to be seen: more than a soft edge does that moves by a tenth of a pixel.
SEEN = 40
#: Pixels of a tile that may be seen to change: a digit that becomes another changes twice as many or more.
ALLOWED = 24
#: Parts a side into which two pictures are cut to be called similar, and levels by which the mean of a part may differ.
PARTS, NEAR = 8, 8
#: Share of its width or height by which a similar picture may be larger.
GROWN = 0.02


def alike(one: bytes, other: bytes) -> bool:
    """Whether two pictures look the same: of one size, and no tile in which more than a few pixels visibly differ.

    Args:
        one, other: PNG files.
    """
    if one == other:
        return True
    pixels = [np.asarray(_opened(data), dtype=int) for data in (one, other)]
    if pixels[0].shape != pixels[1].shape:
        return False
    seen = np.abs(pixels[0] - pixels[1]).max(axis=2) > SEEN
    height, width = (-(-length // TILE) * TILE for length in seen.shape)
    tiles = np.zeros((height, width), dtype=bool)
    tiles[: seen.shape[0], : seen.shape[1]] = seen
    return bool(tiles.reshape(height // TILE, TILE, width // TILE, TILE).sum(axis=(1, 3)).max() <= ALLOWED)


def similar(one: bytes, other: bytes) -> bool:
    """Whether two pictures show the same but for marks that lie a little elsewhere: of nearly one size, and in every
    part of much the same colour.

    Args:
        one, other: PNG files.
    """
    if one == other:
        return True
    pictures = [_opened(data) for data in (one, other)]
    sizes = np.array([picture.size for picture in pictures], dtype=float)
    if (np.abs(sizes[0] - sizes[1]) > GROWN * sizes[0]).any():
        return False
    means = [np.asarray(picture.resize((PARTS, PARTS), Image.Resampling.BOX), dtype=int) for picture in pictures]
    return bool(np.abs(means[0] - means[1]).max() <= NEAR)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")
