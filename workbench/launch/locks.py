"""Locks that the kernel releases when their holder dies, so that none is ever stale.

A lock is ``flock`` on an open file. It belongs to the open file description: a child process that
inherits the descriptor holds the same lock, which is free only when the last holder is gone. Nothing is
read out of a lock file, and a lock file that is left behind means nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path

__all__ = ["Lock", "held", "runtime_folder"]

#: Names another folder for the machine-wide locks, e.g. in tests.
RUNTIME = "WORKBENCH_RUNTIME"


class Lock:
    """An exclusive lock that this process holds on `path`; a context manager that releases it.

    Attributes:
        path: the lock file.
        descriptor: of the open file; give it to a child process to share the lock.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    @classmethod
    def wait(cls, path: Path) -> Lock:
        """The lock, waiting for whoever holds it now.

        Raises:
            OSError: the file cannot be made, or its file system has no locks.
        """
        lock = None
        while lock is None:
            lock = cls._take(path, fcntl.LOCK_EX)
        return lock

    @classmethod
    def attempt(cls, path: Path) -> Lock | None:
        """The lock, or None if somebody holds it.

        Raises:
            OSError: the file cannot be made, or its file system has no locks.
        """
        return cls._take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def _take(cls, path: Path, how: int) -> Lock | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, how)
            # A cleaner may have unlinked the file meanwhile; a lock on a file without a name guards nothing.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return cls(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise OSError(
                    error.errno, f"the file system of {str(path.parent)!r} has no file locks; choose another folder"
                ) from None
            raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Let go; harmless when done twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def held(path: Path) -> bool:
    """Whether some process, this one included, holds the lock on `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock: two processes that ask at the same moment do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def runtime_folder() -> Path:
    """The folder of this user's machine-wide locks, made if it is not there yet.

    It is the same for every process of the user whatever its environment (``XDG_RUNTIME_DIR`` and ``TMPDIR``
    differ between a terminal and a notebook server), unless ``WORKBENCH_RUNTIME`` names another.

    Raises:
        PermissionError: somebody else owns a folder of that name.
    """
    named = os.environ.get(RUNTIME)
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder
    base = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    folder = base / f"scaling-workbench-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{str(folder)!r} is not a folder of yours; set {RUNTIME} to a folder that is")
    return folder
