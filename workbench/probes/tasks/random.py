"""Counter-based random numbers: the draw at (stream, sequence, position) is a pure function of these three.

A generator with state would tie the numbers to the order of the calls. A hash of the counter gives the
same bits on every device, in any order, in any chunk, and for any subset of a stack (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"). The hash is the finalizer of SplitMix64 (Steele, Lea &
Flood 2014), whose constants are from David Stafford's Mix13.
"""

from __future__ import annotations

from workbench.probes import late_torch as torch

__all__ = ["hash_counters", "mix", "stream_key"]


def _signed(value: int) -> int:
    """The 64-bit pattern `value` as the signed integer that torch.int64 understands."""
    return (value & (2**64 - 1)) - (2**64 if value & 2**63 else 0)


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _signed(0x94D049BB133111EB)


def _xor_shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts int64 arithmetically; masking the copied sign bits makes the shift logical
    return x ^ ((x >> bits) & ((1 << (64 - bits)) - 1))


def mix(x: torch.Tensor) -> torch.Tensor:
    """A bijection of 64-bit integers (int64, wrapping) whose output bits look independent."""
    x = _xor_shift(x, 30) * _MULTIPLIER_1
    x = _xor_shift(x, 27) * _MULTIPLIER_2
    return _xor_shift(x, 31)


def stream_key(seed: int, purpose: int) -> int:
    """The key of the stream of `seed` for one `purpose` (a small integer below 16).

    Different (seed, purpose) pairs have different keys, because `mix` is a bijection.
    """
    return int(mix(torch.tensor(seed * 16 + purpose + 1, dtype=torch.int64) * _GOLDEN))


def hash_counters(keys: torch.Tensor, sequences: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """64 random bits for every (key, sequence, position); the three broadcast (int64)."""
    return mix(mix(keys + (sequences + 1) * _GOLDEN) + (positions + 1) * _GOLDEN)
