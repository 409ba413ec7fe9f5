"""Draws from Markov chains, many sequences at once, bit-identical on every device and in every chunk."""

from __future__ import annotations

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.tasks.alias import alias_tables
from workbench.probes.tasks.random import hash_counters

__all__ = ["MarkovSampler"]

_LOW = 2**32 - 1
_ALIAS_BITS = 16


class MarkovSampler:
    """Sequences of K chains over V states, each from its stationary distribution.

    Args:
        chains: pairs of a transition matrix P [V, V] and its stationary distribution pi [V].
        device: where the tables live and the draws happen.

    A draw hashes (key, sequence, position) to 64 bits: the upper half picks the column, the lower half
    decides between it and its alias. Probabilities are exact to 2^-32 / V.
    """

    def __init__(self, chains: list[tuple[np.ndarray, np.ndarray]], device: torch.device) -> None:
        self.vocab = len(chains[0][1])
        # Row V of each chain holds pi, so that the first position is drawn like every other one.
        packed = []
        for transition, stationary in chains:
            threshold, alias = alias_tables(np.vstack([transition, stationary[None]]))
            packed.append((threshold << _ALIAS_BITS) | alias)
        self.tables = torch.from_numpy(np.stack(packed)).to(device).view(-1)  # [K (V + 1) V]
        self.several = len(chains) > 1

    def draw(
        self, keys: torch.Tensor, sequences: torch.Tensor, length: int, chains: torch.Tensor | None = None
    ) -> torch.Tensor:
        """States [length, n] (int64) of the n sequences (keys[i], sequences[i]).

        Args:
            keys: [n] stream keys (int64), `random.stream_key`.
            sequences: [n] sequence numbers within their streams (int64).
            length: positions to draw.
            chains: [n] which chain each sequence follows; left out, all follow chain 0.

        Time is the leading dimension because each position depends on the one before: one position of
        all sequences is one contiguous row and costs five kernels, however many sequences there are.
        """
        v = self.vocab
        positions = torch.arange(length, dtype=torch.int64, device=keys.device)[:, None]
        bits = hash_counters(keys, sequences, positions)  # [length, n]
        column = (((bits >> 32) & _LOW) * v) >> 32
        # Kept when low < threshold. Threshold and alias share one word, so compare above the alias bits.
        low = ((bits & _LOW) + 1) << _ALIAS_BITS
        cell = column if chains is None or not self.several else column + chains * (v * (v + 1))
        states = torch.empty_like(column)
        state = torch.full_like(keys, v)
        for t in range(length):
            word = self.tables.take(torch.add(cell[t], state, alpha=v))
            state = torch.where(word >= low[t], column[t], word & (2**_ALIAS_BITS - 1))
            states[t] = state
        return states
