"""SQLite databases of trackers, opened so that nothing is written: neither to the file nor next to it.

SQLite itself is not as harmless as its read-only mode sounds. A database in write-ahead mode gets files
``-wal`` and ``-shm`` beside it from any reader that is allowed to make them, and one that a killed program
left behind is first repaired by whoever opens it. So there are three ways in:

* a ``-wal`` file with content lies beside the database: both are copied to a temporary folder and opened there.
* the database is in write-ahead mode and has no such file: it is opened as immutable, without any lock; if
  it has changed when everything is read, what was read is refused.
* otherwise it is opened read-only with SQLite's ordinary locks, for one query at a time. A writer waits for
  a query at most, and a database that stays locked is refused after `PATIENCE` seconds. Where a killed program left
  half a transaction in the file and a ``-journal`` to undo it, both are copied, and it is undone in the copy.

SQLite keeps no checksums of its pages: a bit that flipped inside a number cannot be noticed by anybody.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.runs.readers.base import LoadError

__all__ = ["PATIENCE", "connect", "is_sqlite", "rows", "schema", "tables"]

#: Seconds that a locked database is waited for.
PATIENCE = 3.0

_MAGIC = b"SQLite format 3\x00"
_BESIDE = ("-wal", "-journal")
#: A file changed a moment ago may change again without a later time stamp.
_SETTLED = 0.02
_ATTEMPTS = 20


def is_sqlite(head: bytes) -> bool:
    """Whether a file that begins with `head` is an SQLite database."""
    return head.startswith(_MAGIC)


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads the database at `path` and changes nothing.

    Text that is no UTF-8 is read with replacement characters. A file that was cut off is opened too; `rows`
    gives what is left.

    Raises:
        LoadError: the file is no database, is locked or damaged, or any query within fails; one sentence.
    """
    try:
        with ExitStack() as stack:
            yield _open(Path(path).resolve(), stack)
    except sqlite3.Error as error:
        raise LoadError(_sentence(error)) from None
    except OSError as error:
        raise LoadError(f"its SQLite database cannot be opened ({error.strerror or error})") from None


def tables(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """The tables of a database (no views) and the names of their columns."""
    found = {}
    names, _ = rows(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")
    for (name,) in names:
        if isinstance(name, str):
            columns, _ = rows(connection, "SELECT name FROM pragma_table_info(?)", (name,))
            found[name] = {column for (column,) in columns if isinstance(column, str)}
    return found


def rows(
    connection: sqlite3.Connection, query: str, parameters: tuple[Any, ...] = ()
) -> tuple[list[tuple[Any, ...]], str]:
    """All rows of a query that can be read, and what is wrong with the others: a sentence, empty if nothing is.

    A damaged page ends a query; the rows before it, perhaps none, are returned. Queries over whole tables should
    say ``NOT INDEXED``, as an index may be damaged where the table is not.

    Raises:
        sqlite3.Error: the database is locked or the query is wrong; within `connect` it becomes a `LoadError`.
    """
    found: list[tuple[Any, ...]] = []
    try:
        for row in connection.execute(query, parameters):
            found.append(row)
    except sqlite3.Error as error:
        if not _is_damage(error):
            raise
        return found, _sentence(error)
    return found, ""


def schema(path: Path) -> dict[str, frozenset[str]]:
    """Tables and columns of the database at `path`, for recognising whose it is; empty if it cannot be read.

    The answer is remembered while the file does not change, as every reader of a database asks.
    """
    try:
        path = Path(path).resolve()
        return _schema(path, tuple(_stamp(file) for file in (path, *_beside(path))))
    except (LoadError, OSError):
        return {}


@lru_cache(maxsize=64)
def _schema(path: Path, stamps: tuple[Any, ...]) -> dict[str, frozenset[str]]:
    with connect(path) as connection:
        return {name: frozenset(columns) for name, columns in tables(connection).items()}


def _open(path: Path, stack: ExitStack) -> sqlite3.Connection:
    with path.open("rb") as file:
        head = file.read(100)
    if head.startswith(b"\x1f\x8b"):
        raise LoadError("it is an SQLite database packed with gzip; unpack it first")
    if not is_sqlite(head):
        raise LoadError("it is not an SQLite database")
    beside = _beside(path)
    if any(file.name.endswith("-wal") for file in beside):
        return _connection(_copy(path, stack), "mode=rw", stack)
    if 2 in head[18:20]:
        stack.callback(_unchanged, path, _stamp(path))
        return _connection(path, "mode=ro&immutable=1", stack)
    connection = _connection(path, "mode=ro", stack)
    if beside:
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if _is_damage(error) or "locked" in str(error):
                raise
            # a journal that nobody works with asks for writing; a damaged schema is found by who asks for tables
            return _connection(_copy(path, stack), "mode=rw", stack)
    return connection


def _connection(path: Path, options: str, stack: ExitStack) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?{options}"  # as_uri quotes ?, # and %
    connection = stack.enter_context(closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)))
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    for pragma in (
        "trusted_schema = OFF",  # no functions out of a foreign schema
        "cell_size_check = ON",
        "mmap_size = 0",  # a file that shrinks must not end the process
        "writable_schema = ON",  # else a file that is too short is refused as a whole
        "query_only = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _unchanged(path: Path, before: tuple[str, int, int]) -> None:
    """Refuse what was read without a lock from a database that was written meanwhile."""
    if _stamp(path) != before:
        raise LoadError("its SQLite database was written to while it was read; load it again")


def _beside(path: Path) -> list[Path]:
    """The files with content that belong to the last transactions of the database at `path`."""
    found = []
    for ending in _BESIDE:
        file = path.with_name(path.name + ending)
        try:
            if file.stat().st_size:
                found.append(file)
        except OSError:
            continue
    return found


def _copy(path: Path, stack: ExitStack) -> Path:
    """A copy of the database and of what lies beside it, from one moment, in a folder that `stack` removes.

    The write-ahead log may grow meanwhile: SQLite ignores what is not whole. But while a program moves the log
    into the database, or rewrites the database in place, a copy would mix two states; then it is made again.

    Raises:
        LoadError: the database was never at rest.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workbench-")))
    for _ in range(_ATTEMPTS):
        before = _state(path)
        if time.time() - path.stat().st_mtime > _SETTLED:
            for file in folder.iterdir():
                file.unlink()
            for file in (path, *_beside(path)):
                try:
                    shutil.copyfile(file, folder / ("copy" + file.name.removeprefix(path.name)))
                except FileNotFoundError:  # a transaction ended
                    break
            if _state(path) == before:
                return folder / "copy"
        time.sleep(PATIENCE / _ATTEMPTS / 2)
    raise LoadError("its SQLite database is being written to; load it again when the program has paused or ended")


def _state(path: Path) -> list[Any]:
    """What must not change while a copy is made: the database, and which log belongs to it."""
    state: list[Any] = [_stamp(path)]
    for file in _beside(path):
        try:
            with file.open("rb") as stream:
                state.append((file.name, stream.read(32)))
            if file.name.endswith("-journal"):
                state.append(_stamp(file))
        except OSError:
            state.append(file.name)
    return state


def _stamp(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return path.name, stat.st_size, stat.st_mtime_ns


def _is_damage(error: sqlite3.Error) -> bool:
    return any(words in str(error) for words in ("malformed", "not a database", "disk I/O"))


def _sentence(error: sqlite3.Error) -> str:
    said = str(error)
    if "locked" in said or "busy" in said:
        return f"its SQLite database is locked by a program that writes to it; load it again later ({said})"
    if _is_damage(error):
        return f"its SQLite database is damaged or cut off ({said})"
    return f"its SQLite database cannot be read ({said})"
