"""Uniform and normal numbers, whole numbers and permutations from counters (`tasks.random`).

Everything here is a pure function of (key, sequence, position) and comes out in the same bits on every
device, in any order and any chunk: the arithmetic is on integers, or on float64 numbers chosen so that no
operation rounds, with one correctly rounded conversion to float32 at the end. The one thing that a machine
computes for itself is the table of normal quantiles; it is rounded to multiples of 2^-26, so mathematics
libraries that differ in their last digits agree on it up to an entry in ten million.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from workbench.probes import late_torch as torch
from workbench.probes.tasks.random import hash_counters
from workbench.probes.tasks.shuffle import shuffled

__all__ = ["epoch_rows", "integers", "normal_rows", "normals", "permutation", "uniform_rows", "uniforms"]

_LOW = 2**32 - 1
#: Quantiles are tabulated in octaves of the tail probability, each cut into 2^_CUTS equal cells.
_OCTAVES, _CUTS = 32, 8
_GRID = 2.0**26
_FRACTION = 22
#: Numbers drawn at a time: on a CPU temporaries stay in its cache, in memory that the system need not map anew.
_PIECE = {"cpu": 2**14, "cuda": 2**24}


def uniforms(keys: torch.Tensor, sequences: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Uniform numbers in (0, 1), float32: odd multiples of 2^-24, so never 0 or 1, mean exactly 1/2.

    Args:
        keys, sequences, positions: counters (int64) that broadcast; `random.stream_key` makes keys.
    """
    return _uniform((hash_counters(keys, sequences, positions) >> 32) & _LOW)


def integers(keys: torch.Tensor, sequences: torch.Tensor, positions: torch.Tensor, below: int) -> torch.Tensor:
    """Whole numbers 0 ... below - 1 (int64), each of probability 1 / below to within 2^-32; below <= 2^31."""
    return (((hash_counters(keys, sequences, positions) >> 32) & _LOW) * below) >> 32


def normals(keys: torch.Tensor, sequences: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, float32, by inversion of the distribution function.

    Interpolated in a table: off by less than 1e-6 from the exact quantile of a uniform number of 32 bits,
    so the largest is 6.3. Moments are right to 1e-5.
    """
    return _quantile((hash_counters(keys, sequences, positions) >> 32) & _LOW)


def uniform_rows(keys: torch.Tensor, sequences: torch.Tensor, count: int) -> torch.Tensor:
    """As `normal_rows`, uniform numbers in (0, 1)."""
    return _rows(keys, sequences, count, _uniform)


def normal_rows(keys: torch.Tensor, sequences: torch.Tensor, count: int) -> torch.Tensor:
    """`count` standard normal numbers for every (key, sequence), which broadcast: [..., count], float32.

    As `normals`, but two of them share one hash and they are drawn in pieces that fit a cache, which makes it
    several times faster; the numbers are others than those of `normals`. The first m do not depend on `count`.
    """
    return _rows(keys, sequences, count, _quantile)


def permutation(keys: torch.Tensor, epoch: torch.Tensor | int, n: int) -> torch.Tensor:
    """A random order of 0 ... n - 1 for every key and epoch (broadcast): [..., n] (int64)."""
    epoch = torch.as_tensor(epoch, dtype=torch.int64, device=keys.device)
    bits = hash_counters(keys[..., None], epoch[..., None], torch.arange(n, device=keys.device))
    return torch.argsort(bits, dim=-1, stable=True)


def epoch_rows(keys: torch.Tensor, sizes: list[int], first_step: int, count: int, batch: int) -> torch.Tensor:
    """Row numbers of training sets, drawn without replacement within an epoch: [count, E, batch] (int64).

    Args:
        keys: [E] one stream a member.
        sizes: rows of each member's training set, E of them.
        first_step, count: the steps asked for.
        batch: rows a step. Where it equals the size, every step has all rows in their own order.

    An epoch that ends within a batch is followed by the next one there, so every row is seen equally often.
    """
    size = torch.tensor(sizes, device=keys.device)[:, None]  # [E, 1]
    examples = torch.arange(first_step * batch, (first_step + count) * batch, device=keys.device).view(count, 1, batch)
    epoch, index = examples // size, examples % size
    return torch.where(size == batch, index, shuffled(keys[:, None], epoch, index, size))


def _rows(keys: torch.Tensor, sequences: torch.Tensor, count: int, convert: Callable) -> torch.Tensor:
    """Numbers [..., count] from `convert` of 32-bit words, two words a hash."""
    keys, sequences = torch.broadcast_tensors(keys, sequences)
    shape, pairs = keys.shape, (count + 1) // 2
    keys, sequences = keys.reshape(-1, 1), sequences.reshape(-1, 1)
    positions = torch.arange(pairs, dtype=torch.int64, device=keys.device)
    rows = torch.empty(len(keys), pairs, 2, device=keys.device)
    piece = max(1, _PIECE[keys.device.type] // (2 * pairs))
    for start in range(0, len(keys), piece):
        part = slice(start, start + piece)
        bits = hash_counters(keys[part], sequences[part], positions)
        rows[part, :, 0] = convert((bits >> 32) & _LOW)
        rows[part, :, 1] = convert(bits & _LOW)
    return rows.flatten(1)[:, :count].reshape(*shape, count)


def _uniform(word: torch.Tensor) -> torch.Tensor:
    """Odd multiples of 2^-24 (float32, exact) from the upper 23 bits of 32-bit words (int64)."""
    return ((word >> 9) * 2 + 1).to(torch.float32) * 2.0**-24


def _quantile(word: torch.Tensor) -> torch.Tensor:
    """Normal quantiles (float32) of 32-bit words (int64): bit 31 is the sign, the rest p = (2 k + 1) / 2^33 < 1/2."""
    value, slope = _table(str(word.device))
    # The float64 of 2 k + 1 is exact; its bits hold octave and cell side by side, and below them the fraction.
    bits = ((word & (2**31 - 1)) << 1).add_(1).to(torch.float64).view(torch.int64)
    cell = (bits >> (52 - _CUTS)).add_((word >> 31) * (_OCTAVES << _CUTS)).sub_(1023 << _CUTS)
    fraction = ((bits >> (52 - _CUTS - _FRACTION)) & (2**_FRACTION - 1)).to(torch.float64).mul_(2.0**-_FRACTION)
    # value and slope are multiples of 2^-26 below 8, the fraction one of 2^-22: nothing here rounds in float64
    return fraction.mul_(slope.take(cell)).add_(value.take(cell)).to(torch.float32)


@lru_cache(maxsize=8)
def _table(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantile at the start of every cell, and its change across the cell; [2 signs * octaves * 2^cuts] (float64)."""
    cells = 2**_CUTS
    numbers = 2.0 ** np.arange(_OCTAVES)[:, None] * (1 + np.arange(cells) / cells)  # 2 k + 1 at a cell's start
    edges = np.append(numbers.ravel(), 2.0**_OCTAVES)
    quantiles = np.round(ndtri(edges / 2.0 ** (_OCTAVES + 1)) * _GRID) / _GRID
    start, change = quantiles[:-1], np.diff(quantiles)
    return tuple(torch.tensor(np.append(one, -one), device=device) for one in (start, change))
