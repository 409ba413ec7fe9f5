"""Texts as tokens: the Python standard library's own source, and prepared token files. No torch here.

A prepared text is a JSON file beside a file of little-endian uint16 tokens (``.npy`` or raw)::

    {"workbench_corpus": 1, "file": "tokens.npy", "sha256": "...", "vocab": 4096, "heldout_from": 81234567,
     "heldout_bytes": 4000123, "name": "..."}

Tokens before `heldout_from` are for training, the rest for evaluation: whoever prepares the text splits it by
documents. `sha256` is of the tokens' bytes, without the header of an ``.npy`` file. It names the text: a
probe holds it, never a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sysconfig
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from workbench.probes.tasks.byte_pairs import BytePairs, learn

__all__ = [
    "Corpus", "corpora_folder", "corpus", "prepared", "read_corpus", "register", "stdlib", "write_corpus", "write_json",
]  # fmt: skip

#: Key of the JSON of a prepared text; its value is the version.
_FORMAT = "workbench_corpus"
_SKIPPED = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True)
class Corpus:
    """A text as tokens.

    Attributes:
        tokens: [N] uint8 or uint16, memory-mapped where it is a file; training text first.
        vocab: number of token ids V.
        heldout_from: tokens before this place are for training, the rest for evaluation.
        sha256: of the text; what names it.
        heldout_bytes: bytes of the evaluation text in UTF-8; None if not known.
        about: what else a reader should know, JSON-ready.
    """

    tokens: np.ndarray = field(repr=False)
    vocab: int
    heldout_from: int
    sha256: str
    heldout_bytes: int | None
    about: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """Where the text is from and how long it is; goes into a run's provenance."""
        held = len(self.tokens) - self.heldout_from
        return {**self.about, "text_sha256": self.sha256, "train_text_tokens": self.heldout_from,
                "heldout_text_tokens": held}  # fmt: skip


def corpus(name: str, checksum: str = "", vocab: int = 256) -> Corpus:
    """The text ``stdlib`` or ``prepared``; it must have this checksum (the start of it suffices).

    Raises:
        FileNotFoundError: no prepared text with this checksum is registered here.
        ValueError: the text here is another one, or its vocabulary is.
    """
    found = stdlib(vocab) if name == "stdlib" else prepared(checksum)
    if not found.sha256.startswith(checksum):
        raise ValueError(
            f"the standard library's source here (Python {platform.python_version()}) has checksum "
            f"{found.sha256[:16]}, not {checksum}; run the probe with the Python it was made for, or without checksum."
        )
    if found.vocab != vocab:
        raise ValueError(f"vocab={vocab} is not the vocabulary of this text; set vocab={found.vocab}.")
    return found


@lru_cache(maxsize=4)
def stdlib(vocab: int = 256) -> Corpus:
    """Source of the standard library of this Python, without tests: some 12 MB, licence PSF-2.0.

    Files in the order of their paths, each followed by one zero byte; `Corpus.sha256` is of these bytes. A
    twelfth of the top-level modules and packages, chosen by the hash of their names, is the evaluation
    text; a package is never split, because its files resemble each other.

    Args:
        vocab: 256 is bytes; more are bytes and pairs (`byte_pairs`), learned on the training part. That takes
            some seconds, once: the pairs are kept in `corpora_folder`.
    """
    documents = _sources(Path(sysconfig.get_path("stdlib")))
    if not documents:
        raise FileNotFoundError("this Python comes without the source of its standard library; prepare a text instead.")
    checksum = hashlib.sha256(b"".join(text for _, text in documents)).hexdigest()
    parts = [
        b"".join(text for path, text in documents if _heldout(path) == held) for held in (False, True)
    ]  # train, held out
    about = {"text": "stdlib", "python": platform.python_version(), "documents": len(documents)}
    if vocab == 256:
        encoded = [np.frombuffer(part, np.uint8) for part in parts]
    else:
        pairs = _byte_pairs(checksum, parts[0], vocab)
        encoded = [pairs.encode(part) for part in parts]
    return Corpus(np.concatenate(encoded), vocab, len(encoded[0]), checksum, len(parts[1]), about)


def _byte_pairs(checksum: str, train: bytes, vocab: int) -> BytePairs:
    """The vocabulary learned on this text, from the last time if there was one."""
    kept = corpora_folder() / "byte_pairs" / f"{checksum[:16]}-{vocab}.json"
    try:
        merges = tuple((int(a), int(b)) for a, b in json.loads(kept.read_text())["merges"])
        if len(merges) == vocab - 256:
            return BytePairs(merges)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # absent or not what it should be: learned again
    pairs = learn(train, vocab - 256)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"sha256": checksum, "merges": pairs.merges})
    except OSError:
        pass  # where nothing can be written, it is learned each time
    return pairs


def _sources(root: Path) -> list[tuple[str, bytes]]:
    """(path, bytes and a zero byte) of every module, without tests and without what belongs to one machine."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in _SKIPPED and not f.startswith("config-")]
        for name in files:
            if name.endswith(".py") and not name.startswith(("_sysconfigdata", "sitecustomize")):
                path = Path(folder, name)
                found.append((path.relative_to(root).as_posix(), path.read_bytes() + b"\0"))
    return sorted(found)


def _heldout(path: str) -> bool:
    top = path.split("/")[0].removesuffix(".py")
    return int.from_bytes(hashlib.sha256(top.encode()).digest()[:4], "big") % 12 == 0


def corpora_folder() -> Path:
    """Where prepared texts are registered: ``$WORKBENCH_CORPORA``, or ``~/.workbench/corpora``."""
    return Path(os.environ.get("WORKBENCH_CORPORA") or Path.home() / ".workbench" / "corpora")


def prepared(checksum: str) -> Corpus:
    """The registered text whose SHA-256 begins with `checksum`, memory-mapped.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, or its file does not hold what its JSON says.
    """
    return _prepared(checksum, str(corpora_folder()))


@lru_cache(maxsize=8)
def _prepared(checksum: str, folder: str) -> Corpus:
    matching = {}
    for path in sorted([*Path(folder).glob("*.json"), *Path(folder).glob("*/*.json")]):
        try:
            meta = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(meta, dict) and meta.get(_FORMAT) == 1 and str(meta.get("sha256")).startswith(checksum):
            matching.setdefault(meta["sha256"], path)
    if not matching:
        raise FileNotFoundError(f"no text with checksum {checksum} is registered in {folder}; register(its JSON file).")
    if len(matching) > 1:
        raise ValueError(f"several texts in {folder} have checksum {checksum}; give more of its digits.")
    return read_corpus(next(iter(matching.values())))


def register(path: str | os.PathLike) -> str:
    """Make a prepared text known on this machine; returns its checksum for `Probe(checksum=...)`.

    Args:
        path: its JSON file. The tokens stay where they are.

    Raises:
        ValueError: the file does not hold what its JSON says.
    """
    path = Path(path)
    found = read_corpus(path)
    folder = corpora_folder()
    folder.mkdir(parents=True, exist_ok=True)
    meta = json.loads(path.read_text())
    meta["file"] = str((path.parent / meta["file"]).resolve())
    write_json(folder / f"{found.sha256}.json", meta)
    _prepared.cache_clear()
    return found.sha256


def read_corpus(path: Path) -> Corpus:
    """A prepared text from its JSON file; its checksum is verified.

    Raises:
        ValueError: no such format, or the tokens are not those of the checksum.
    """
    meta = json.loads(Path(path).read_text())
    if not isinstance(meta, dict) or meta.get(_FORMAT) != 1:
        raise ValueError(f"{path} does not describe a prepared text; write one with write_corpus().")
    file = Path(path).parent / meta["file"]
    # Copy-on-write: torch wants memory it could write to; nobody does.
    tokens = np.load(file, mmap_mode="c") if file.suffix == ".npy" else np.memmap(file, "<u2", "c")
    vocab, split = int(meta["vocab"]), int(meta["heldout_from"])
    if tokens.dtype != np.dtype("<u2") or tokens.ndim != 1 or not 0 < split < len(tokens):
        raise ValueError(f"{file} must hold uint16 tokens in one dimension, heldout_from={split} among them.")
    if _digest(tokens) != meta["sha256"]:
        raise ValueError(f"{file} does not have the checksum {meta['sha256'][:16]} that {path} gives; copy it again.")
    about = {"text": str(meta.get("name", "prepared"))}
    return Corpus(tokens, vocab, split, meta["sha256"], meta.get("heldout_bytes"), about)


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
    meta = {_FORMAT: 1, "file": "tokens.npy", "name": name, "sha256": _digest(tokens), "vocab": int(vocab),
            "heldout_from": len(train), "heldout_bytes": heldout_bytes}  # fmt: skip
    write_json(folder / "corpus.json", meta)
    return folder / "corpus.json"


def _digest(tokens: np.ndarray) -> str:
    """SHA-256 of the tokens' bytes, in hexadecimal digits."""
    found = hashlib.sha256()
    for start in range(0, len(tokens), 2**24):
        found.update(np.ascontiguousarray(tokens[start : start + 2**24]).data)
    return found.hexdigest()


def write_json(path: Path, meta: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(meta, indent=1) + "\n")
    scratch.replace(path)
