"""Gather the text of the language-model sweep: the C code and the documentation of the Linux kernel.

    apt-get download linux-source-6.1
    python data/language_model/corpus.py linux-source-6.1_*.deb --out corpus

Debian's package `linux-source-6.1` (GPL-2.0 and compatible licences, file by file) is the source. Documents are
its files *.c, *.h, *.rst and *.txt of 200 to 200,000 bytes that are not register tables, each once, in the order
of the SHA-256 of their paths, until --megabytes of text are reached; a byte 0 ends each. Documents whose hash
begins with a multiple of 64 are held out. Bytes are the tokens (V = 256). The text itself is not shipped:
`corpus.json` records what makes it again, and its checksums say whether it did.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
from pathlib import Path

SUFFIXES = (".c", ".h", ".rst", ".txt")
#: Generated tables of register addresses: a quarter of the tree, and no text.
TABLES = ("asic_reg/", "/dt-bindings/", "Documentation/devicetree/")
SIZES = range(200, 200_001)
HELD_OUT = 64


def documents(deb: Path):
    """Path inside the tree and content of every file of the package's tar."""
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as outer:
        member = next(m for m in outer.getmembers() if m.name.endswith(".tar.xz"))
        with lzma.open(outer.extractfile(member)) as source, tarfile.open(fileobj=source, mode="r|") as tree:
            for entry in tree:
                path = entry.name.partition("/")[2]
                wanted = path.endswith(SUFFIXES) and entry.size in SIZES and not any(t in path for t in TABLES)
                if entry.isfile() and wanted:
                    yield path, tree.extractfile(entry).read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deb", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=300)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[str, bytes]] = {}
    for path, content in documents(options.deb):
        if b"\0" not in content:
            found.setdefault(hashlib.sha256(content).hexdigest(), (path, content))
    order = sorted(found.values(), key=lambda document: hashlib.sha256(document[0].encode()).digest())
    parts: dict[str, list[bytes]] = {"train": [], "heldout": []}
    total = 0
    for path, content in order:
        if total >= options.megabytes * 10**6:
            break
        first = hashlib.sha256(path.encode()).digest()[-1]
        parts["heldout" if first % HELD_OUT == 0 else "train"].append(content + b"\0")
        total += len(content) + 1
    facts = {
        "source": "Debian package linux-source-6.1", "file": options.deb.name, "licence": "GPL-2.0 and compatible",
        "deb_sha256": hashlib.sha256(options.deb.read_bytes()).hexdigest(), "tokens": "bytes", "vocab": 256,
        "megabytes": options.megabytes, "documents_available": len(found),
    }  # fmt: skip
    for name, documents_of in parts.items():
        text = b"".join(documents_of)
        (options.out / f"{name}.bin").write_bytes(text)
        facts[name] = {"bytes": len(text), "documents": len(documents_of), "sha256": hashlib.sha256(text).hexdigest()}
    (options.out / "corpus.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
