"""Prepare a text of one's own: split it by documents, learn a vocabulary, write tokens and checksum. No torch here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from workbench.probes.tasks.byte_pairs import learn
from workbench.probes.tasks.corpus import FORMAT, digest, write_json

__all__ = ["prepare", "write_corpus"]


def write_corpus(
    folder: str | os.PathLike, train: np.ndarray, heldout: np.ndarray, vocab: int, *, name: str,
    heldout_bytes: int | None = None,
) -> Path:  # fmt: skip
    """Write a prepared text as ``tokens.npy`` and ``corpus.json`` in `folder`; returns the path of the JSON.

    Args:
        folder: made if absent.
        train, heldout: token ids [n] of documents that are in no other of the two.
        vocab: number of token ids, at most 65536.
        name: what to call it in a run's provenance.
        heldout_bytes: bytes of the evaluation text in UTF-8, so that bits per byte can be told.

    Raises:
        ValueError: a token is outside the vocabulary, or a part is empty.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (len(train) and len(heldout)):
        raise ValueError(f"a text needs both parts; got {len(train)} training and {len(heldout)} held-out tokens.")
    low = min(int(train.min()), int(heldout.min()))
    high = max(int(train.max()), int(heldout.max()))
    if not 0 <= low <= high < vocab <= 2**16:
        raise ValueError(f"tokens {low} to {high} do not fit vocab={vocab}, which must be at most 65536.")
    tokens = np.concatenate([train, heldout]).astype("<u2")
    np.save(folder / "tokens.npy", tokens)
    meta = {FORMAT: 1, "file": "tokens.npy", "name": name, "sha256": digest(tokens), "vocab": int(vocab),
            "heldout_from": len(train), "heldout_bytes": heldout_bytes}  # fmt: skip
    write_json(folder / "corpus.json", meta)
    return folder / "corpus.json"


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
