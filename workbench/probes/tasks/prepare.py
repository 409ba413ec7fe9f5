"""Prepare a text of one's own: split it by documents, learn a vocabulary, write tokens and checksum. No torch here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from workbench.probes.tasks.byte_pairs import learn
from workbench.probes.tasks.corpus import write_corpus, write_json

__all__ = ["prepare"]


def prepare(
    documents: Iterable[tuple[str, bytes]], folder: str | os.PathLike, vocab: int, *, name: str,
    heldout: float = 0.02, sample: int = 2**26,
) -> Path:  # fmt: skip
    """Split documents, learn a byte-pair vocabulary, and write the text with `write_corpus`.

    Args:
        documents: (group, text in UTF-8); documents of one group (a book, a package) are all on one side.
        folder: where to; the vocabulary is kept there too, as ``byte_pairs.json``.
        vocab: number of tokens, 256 (bytes) to 8192.
        name: what to call it in a run's provenance.
        heldout: share of the groups held out, chosen by the hash of their names.
        sample: bytes of training text, about, that the vocabulary is learned from; whole documents, spread evenly.

    Returns:
        The path of the JSON, for `register`.

    Raises:
        ValueError: a part is empty, or the text is too short for the vocabulary.
    """
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for group, text in documents:
        parts[_share(group) < heldout].append(text + b"\0")
    if not all(parts):
        raise ValueError(f"heldout={heldout} leaves {len(parts[0])} and {len(parts[1])} documents; both need some.")
    size = sum(map(len, parts[0]))
    every = max(1, -(-size // sample))
    pairs = learn(b"".join(parts[0][::every]), vocab - 256)
    train, held = (np.concatenate([pairs.encode(part) for part in _batches(texts)]) for texts in parts)
    path = write_corpus(folder, train, held, vocab, name=name, heldout_bytes=sum(map(len, parts[1])))
    write_json(Path(folder) / "byte_pairs.json", {"merges": pairs.merges})
    return path


def _batches(texts: list[bytes], size: int = 2**24) -> Iterator[bytes]:
    """The texts joined to some that are about `size` long; each ends with a zero byte, where no word goes on."""
    batch, length = [], 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if length >= size:
            yield b"".join(batch)
            batch, length = [], 0
    yield b"".join(batch)


def _share(name: str) -> float:
    """A number in [0, 1) that the name alone decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
