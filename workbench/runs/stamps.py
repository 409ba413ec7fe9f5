"""What changes whenever a log is written, found without reading it: sizes, times and inodes of its files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from workbench.runs.readers.base import Reader

__all__ = ["Stamps"]

#: What stands for the size of something that is no file: a folder, a link to a folder, a link to nowhere.
_FOLDER, _LINK, _NOTHING = -1, -2, -3
#: A file written so shortly before it was read may be written again without a new time (file systems of 1 or 2 s).
_YOUNG = 2_000_000_000


class Stamps:
    """What changes when files are written, each looked at once."""

    def __init__(self) -> None:
        self._folders: dict[str, list[tuple]] = {}
        self._now = time.time_ns()

    def of(self, path: Path, reader: Reader) -> str:
        name = os.fspath(path)
        try:
            if path.is_dir():
                seen = list(self._below(name))
            elif reader.general:
                about = path.stat()
                seen = [("", about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)]
            else:  # one program's logs may be several files side by side, a link's beside what it leads to
                folders = {os.fspath(path.absolute().parent), os.fspath(path.resolve().parent)}
                seen = [one for folder in sorted(folders) for one in self._beside(folder) if one[1] >= 0]
        except OSError:
            return ""
        if any(self._now - one[2] < _YOUNG for one in seen if one[1] >= 0):
            return ""
        return _digest(seen)

    def tree(self, root: str) -> str:
        """The same for all that lies below a folder; empty for what is none, or cannot be looked at."""
        try:
            seen = list(self._below(root)) if Path(root).is_dir() else []
        except (OSError, ValueError):
            return ""
        if not seen or any(one[1] == _LINK for one in seen):  # what it leads to may change unseen
            return ""
        return _digest(seen)

    def _below(self, root: str) -> Iterator[tuple]:
        waiting = [root]
        while waiting:
            here = waiting.pop()
            for one in self._beside(here):
                yield f"{here[len(root) :]}/{one[0]}", *one[1:]
                if one[1] == _FOLDER:
                    waiting.append(os.path.join(here, one[0]))  # noqa: PTH118

    def _beside(self, folder: str) -> list[tuple]:
        """Name, size (or what it is instead), times and inode of everything in a folder."""
        if folder not in self._folders:
            found = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        found.append((entry.name, _FOLDER, 0, 0, 0))
                        continue
                    if entry.is_symlink() and entry.is_dir():
                        found.append((entry.name, _LINK, 0, 0, 0))
                        continue
                    try:
                        about = entry.stat()
                    except OSError:  # a link to nowhere
                        found.append((entry.name, _NOTHING, 0, 0, 0))
                        continue
                    found.append((entry.name, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino))
            found.sort()
            self._folders[folder] = found
        return self._folders[folder]


def _digest(seen: list[tuple]) -> str:
    return hashlib.blake2b(repr(sorted(seen)).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
