"""Byte-pair vocabulary: bytes, and pairs merged in the order of their frequency. No torch here.

Sennrich et al. 2016 (arXiv 1508.07909), on bytes. Text is first cut into words (letters, digits, punctuation,
white space; a single space goes with the word behind it), and pairs never cross a cut. The same text gives
the same vocabulary everywhere: counts are whole numbers, and of equally frequent pairs the one with the smaller
ids is merged.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["BytePairs", "learn"]

_WORD = re.compile(rb"\x00| ?[A-Za-z_]+| ?[0-9]+| ?[^\sA-Za-z_0-9\x00]+|\s+(?!\S)|\s+")
#: A letter begins a word behind a zero byte, and behind a line break that stands alone.
_CUT = re.compile(rb"(?<=\x00)[A-Za-z_]|(?<=\S\n)[A-Za-z_]")
_BETWEEN = -1
#: Text that is encoded at a time, bytes.
_PIECE = 2**24
#: Largest vocabulary that is learned; the counts of all pairs are a table.
_MOST = 8192


@dataclass(frozen=True)
class BytePairs:
    """A vocabulary: token ids 0 ... 255 are bytes, 256 + i is the pair `merges[i]`.

    Attributes:
        merges: pairs of token ids, in the order in which they are merged.
    """

    merges: tuple[tuple[int, int], ...]

    @property
    def vocab(self) -> int:
        """Number of token ids."""
        return 256 + len(self.merges)

    def encode(self, text: bytes) -> np.ndarray:
        """Token ids [n] (uint16) of a text."""
        found = [np.zeros(0, np.uint16)]
        for start, stop in _pieces(text):
            words = _WORD.findall(text, start, stop)
            different = sorted(set(words))
            number = {word: i for i, word in enumerate(different)}
            tokens, lengths = self._merged(different)
            which = np.fromiter((number[word] for word in words), np.int64, len(words))
            size = lengths[which]
            first = np.cumsum(lengths) - lengths
            within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
            found.append(tokens[np.repeat(first[which], size) + within])
        return np.concatenate(found)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """The text of token ids; the inverse of `encode`."""
        texts = [bytes([i]) for i in range(256)]
        for a, b in self.merges:
            texts.append(texts[a] + texts[b])
        return b"".join(texts[token] for token in tokens)

    def _merged(self, words: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of all words in a row (uint16), and how many each has."""
        ids, _ = _joined(words)
        for token, (a, b) in enumerate(self.merges, 256):
            kept = _places(ids, a, b)
            if len(kept):
                ids[kept] = token
                ids = np.delete(ids, kept + 1)
        ends = np.flatnonzero(ids == _BETWEEN)
        return ids[ids != _BETWEEN].astype(np.uint16), np.diff(ends, prepend=-1) - 1


def learn(text: bytes, merges: int) -> BytePairs:
    """The vocabulary of 256 + `merges` tokens of a text.

    Raises:
        ValueError: the text has not as many pairs, or they would be more than can be counted.
    """
    vocab = 256 + merges
    if not 256 <= vocab <= _MOST:
        raise ValueError(f"{merges} merges make {vocab} tokens; between 256 and {_MOST} are possible.")
    counts = Counter(word for start, stop in _pieces(text) for word in _WORD.findall(text, start, stop))
    words = sorted(counts)
    times = np.array([counts[word] for word in words], np.int64)
    ids, owner = _joined(words)
    pairs = np.zeros(vocab * vocab, np.int64)  # how often the pair a V + b occurs
    _count(pairs, ids, times[owner], vocab)
    found: list[tuple[int, int]] = []
    for token in range(256, vocab):
        best = int(pairs.argmax())
        if not pairs[best]:
            raise ValueError(f"the text has pairs for {len(found)} merges only; ask for a smaller vocabulary.")
        a, b = divmod(best, vocab)
        kept = _places(ids, a, b)
        # Only words that hold the pair change: their pairs leave the count and come back merged.
        changed = np.zeros(len(words), bool)
        changed[owner[kept]] = True
        here = changed[owner]
        _count(pairs, ids[here], -times[owner[here]], vocab)
        ids[kept] = token
        stays = np.ones(len(ids), bool)
        stays[kept + 1] = False
        ids, owner, here = ids[stays], owner[stays], here[stays]
        _count(pairs, ids[here], times[owner[here]], vocab)
        found.append((a, b))
    return BytePairs(tuple(found))


def _count(pairs: np.ndarray, ids: np.ndarray, times: np.ndarray, vocab: int) -> None:
    """Add `times` to the counts of the pairs that begin at each place."""
    inside = np.flatnonzero((ids[:-1] != _BETWEEN) & (ids[1:] != _BETWEEN))
    np.add.at(pairs, ids[inside] * vocab + ids[inside + 1], times[inside])


def _joined(words: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """All words in one array of ids (int64), `_BETWEEN` behind each, and the number of its word at each place."""
    lengths = np.array([len(word) + 1 for word in words])
    ids = np.full(lengths.sum(), _BETWEEN, np.int64)
    inside = np.ones(len(ids), bool)
    inside[np.cumsum(lengths) - 1] = False
    ids[inside] = np.frombuffer(b"".join(words), np.uint8)
    return ids, np.repeat(np.arange(len(words)), lengths)


def _places(ids: np.ndarray, a: int, b: int) -> np.ndarray:
    """Where the pair (a, b) begins; of overlapping ones (a = b) every second from the left."""
    places = np.flatnonzero((ids[:-1] == a) & (ids[1:] == b))
    if a != b or not len(places):
        return places
    run = np.concatenate([[0], np.cumsum(np.diff(places) != 1)])  # which run of equal ids
    first = places[np.searchsorted(run, run)]
    return places[(places - first) % 2 == 0]


def _pieces(text: bytes) -> list[tuple[int, int]]:
    """Stretches of a long text that end where a word begins, so that cutting changes no word."""
    cuts = [0]
    while cuts[-1] < len(text):
        cut = cuts[-1] + _PIECE
        match = _CUT.search(text, cut) if cut < len(text) else None
        cuts.append(match.start() if match else len(text))
    return list(itertools.pairwise(cuts))
