"""Shuffled order without a table: the place of an example in an epoch is computed, not sorted for.

A sort needs the whole epoch in memory before its first batch. A keyed bijection of 0 ... n - 1 costs only
what is asked for, whatever n is, so millions of text windows and hundreds of members cost nothing up front.
"""

from __future__ import annotations

from workbench.probes import late_torch as torch
from workbench.probes.tasks.random import hash_counters

__all__ = ["shuffled"]

_ROUNDS = 6
_POSITIVE = 2**63 - 1


def shuffled(keys: torch.Tensor, epochs: torch.Tensor, index: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Where a keyed permutation of 0 ... n - 1 sends `index`; a pure function of its arguments.

    A Feistel network on an a x b rectangle that just holds n, left and walked again where it falls outside
    n (Black & Rogaway 2002, "Ciphers with arbitrary finite domains", cycle walking and generalized Feistel).

    Args:
        keys: stream keys (int64), `random.stream_key`.
        epochs: a permutation of its own for each (int64).
        index: 0 ... n - 1 (int64).
        sizes: n (int64), below 2^52. The four broadcast.

    Returns:
        int64 of the broadcast shape.
    """
    keys, epochs, index, sizes = torch.broadcast_tensors(keys, epochs, index, sizes)
    a = sizes.double().sqrt().ceil().long()
    b = (sizes + a - 1) // a
    place = _network(keys, epochs, index, a, b)
    # At most a - 1 of the a b places lie outside, so few are walked, and few times.
    while bool((outside := place >= sizes).any()):
        place = torch.where(outside, _network(keys, epochs, place, a, b), place)
    return place


def _network(
    keys: torch.Tensor, epochs: torch.Tensor, place: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    left, right = place // b, place % b  # in a, in b
    for turn in range(_ROUNDS):
        if turn % 2:
            right = (right + _hash(keys, epochs, left, turn) % b) % b
        else:
            left = (left + _hash(keys, epochs, right, turn) % a) % a
    return left * b + right


def _hash(keys: torch.Tensor, epochs: torch.Tensor, half: torch.Tensor, turn: int) -> torch.Tensor:
    return hash_counters(keys, epochs * _ROUNDS + turn, half) & _POSITIVE
