"""Byte pairs: nothing is lost, the frequent pair is merged first, and the text decides alone."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from workbench.probes.tasks import byte_pairs
from workbench.probes.tasks.byte_pairs import BytePairs, learn
from workbench.probes.tasks.corpus import stdlib

TEXT = bytes(stdlib().tokens[:60_000])


def slow(text, merges):
    """The textbook algorithm on lists of words, pair by pair."""
    words = Counter(re.findall(byte_pairs._WORD, text))
    split = {word: list(word) for word in words}
    found = []
    for token in range(256, 256 + merges):
        pairs = Counter()
        for word, ids in split.items():
            for pair in itertools.pairwise(ids):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        for ids in split.values():
            i = 0
            while i < len(ids) - 1:
                if (ids[i], ids[i + 1]) == best:
                    ids[i : i + 2] = [token]
                i += 1
    return tuple(found), split


def test_merges_and_tokens_are_those_of_the_textbook_algorithm():
    pairs = learn(TEXT[:20_000], 60)
    merges, split = slow(TEXT[:20_000], 60)
    assert pairs.merges == merges
    expected = [token for word in re.findall(byte_pairs._WORD, TEXT[:20_000]) for token in split[word]]
    assert pairs.encode(TEXT[:20_000]).tolist() == expected


def test_runs_of_one_byte_are_merged_from_the_left():
    pairs = BytePairs(((97, 97), (256, 97)))
    assert [pairs.encode(b"a" * n).tolist() for n in (1, 2, 3, 4, 5)] == [
        [97], [256], [257], [256, 256], [256, 257],
    ]  # fmt: skip


def test_every_text_comes_back():
    pairs = learn(TEXT, 200)
    rng = np.random.default_rng(0)
    for text in (TEXT, b"", b"\0", "größe ∑ \t\r\n".encode(), rng.integers(0, 256, 5000).astype(np.uint8).tobytes()):
        tokens = pairs.encode(text)
        assert pairs.decode(tokens) == text
        assert tokens.dtype == np.uint16
    assert len(pairs.encode(TEXT)) < 0.6 * len(TEXT)
    assert int(pairs.encode(TEXT).max()) < pairs.vocab == 456


def test_long_texts_are_cut_where_nothing_changes(monkeypatch):
    pairs = learn(TEXT, 300)
    whole = pairs.encode(TEXT)
    monkeypatch.setattr(byte_pairs, "_PIECE", 1000)
    assert len(byte_pairs._pieces(TEXT)) > 10
    assert np.array_equal(BytePairs(pairs.merges).encode(TEXT), whole)
    assert learn(TEXT, 300) == pairs


def test_too_much_is_refused():
    with pytest.raises(ValueError, match="smaller vocabulary"):
        learn(b"ab", 5)
    with pytest.raises(ValueError, match="8192"):
        learn(TEXT, 70_000)
