"""Our own run folders: ``<root>/<id>/{spec.json, status.json, metrics.jsonl, log.txt}``.

They are written so that a killed process loses nothing it had synced and a reader never sees half a
record. `metrics.jsonl` is append-only, one writer, one whole line in one write; its first line states
the schema. `spec.json` and `status.json` are replaced as a whole. NaN and infinities are stored as
``{"$float": "nan"}`` (`workbench.runs.strict_json`), so that every line is strict JSON.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.runs.columns import nearest
from workbench.runs.readers.base import LoadError, Log
from workbench.runs.readers.json_lines import parse_lines
from workbench.runs.strict_json import dumps, loads

__all__ = ["SCHEMA", "STATES", "RunFolder"]

SCHEMA = 1
STATES = ("created", "running", "finished", "cancelled", "failed", "diverged")
_HEADER = {"schema": SCHEMA, "kind": "metrics"}
_SYNC_EVERY = 1.0  # seconds a record may wait for its fsync


class RunFolder:
    """One run on disk. `create` gives the writing side, `open` the reading side; both may do both.

    Attributes:
        path: the folder.
        id: its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._synced = 0.0

    @classmethod
    def create(cls, root: str | os.PathLike, id: str, spec: Mapping[str, Any]) -> RunFolder:
        """The folder ``root/id`` with this spec, made if it is not there yet.

        Raises:
            ValueError: `id` cannot name a folder, or the folder holds another spec.
            TypeError: `spec` is no mapping of numbers, texts and lists.
        """
        if (
            not isinstance(id, str)
            or not id
            or len(id.encode()) > 200
            or id.startswith(".")
            or set(id) & set("/\\\x00")
        ):
            raise ValueError(
                f"a run's id names a folder, so it cannot be {str(id)[:60]!r}; use letters, digits, - and _"
            )
        if not isinstance(spec, Mapping):
            raise TypeError(f"a spec is a mapping from names to values, got {type(spec).__name__}")
        folder = cls(Path(root) / id)
        written = dumps({**spec, "schema": SCHEMA}, sort_keys=True, indent=1)
        folder.path.mkdir(parents=True, exist_ok=True)
        file = folder.path / "spec.json"
        if not file.exists():
            _write_whole(file, written, replace=False)
        elif _torn(file, written):
            _write_whole(file, written, replace=True)
        if dumps(folder.spec, sort_keys=True, indent=1) != written:
            raise ValueError(f"{str(folder.path)!r} holds a run with another spec; give this one another id")
        if not (folder.path / "status.json").exists():
            folder.set_status("created")
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike) -> RunFolder:
        """The run folder at `path`.

        Raises:
            FileNotFoundError: there is no ``spec.json``.
        """
        folder = cls(Path(path))
        if not (folder.path / "spec.json").is_file():
            raise FileNotFoundError(f"{str(path)!r} is not a run folder: it has no spec.json")
        return folder

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def spec(self) -> dict[str, Any]:
        """What was asked for, ``schema`` included.

        Raises:
            LoadError: ``spec.json`` is damaged or of a newer schema.
        """
        return _read_object(self.path / "spec.json")

    @property
    def status(self) -> dict[str, Any]:
        """``state`` (one of `STATES`), ``heartbeat`` (seconds since 1970) and further fields; may be empty."""
        file = self.path / "status.json"
        return _read_object(file) if file.exists() else {}

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the metrics, as one line; on disk within a second, or after `sync`.

        Raises:
            TypeError: `record` is no mapping, or holds what JSON cannot.
            OSError: the line could not be written whole, e.g. as the disk is full.
        """
        if not isinstance(record, Mapping):
            raise TypeError(f"a record is a mapping such as {{'step': 1, 'loss': 3.2}}, got {type(record).__name__}")
        line = dumps(record) + "\n"
        if self._descriptor is None:
            self._descriptor = self._open_metrics()
        self._write(line)
        if time.monotonic() - self._synced >= _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Force every record so far to the disk; a record is safe once this has returned."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; a later `append` opens the metrics again."""
        if self._descriptor is not None:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def set_status(self, state: str, **fields: Any) -> None:
        """Replace ``status.json``; the heartbeat is the present time unless given.

        Raises:
            ValueError: `state` is not one of `STATES`.
        """
        if state not in STATES:
            raise ValueError(f"no status {state!r}; {nearest(str(state), STATES, 'states')}")
        status = {"schema": SCHEMA, "state": state, "heartbeat": time.time(), **fields}
        _write_whole(self.path / "status.json", dumps(status, indent=1), replace=True)

    def metrics(self) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
        """Every whole record of the metrics.

        Returns:
            A frame with one row a record, cells as written (None where a record lacks a key), and
            ``(line number, reason)`` for every line that was skipped.

        Raises:
            LoadError: the file was written by a newer version.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return pd.DataFrame(), []
        records, skipped = parse_lines(file.read_bytes().decode("utf-8", "replace"))
        rows = []
        for _, record in records:
            if record.get("kind") == "metrics" and "schema" in record:
                _check_schema(record["schema"], file)
            else:
                rows.append(record)
        return Log.of_records(rows).frame, skipped

    def verify(self) -> list[str]:
        """What is wrong with the folder, in sentences; empty if nothing is."""
        findings = []
        for name in ("spec.json", "status.json"):
            if not (self.path / name).exists():
                findings.append(f"{name} is missing")
                continue
            try:
                content = _read_object(self.path / name)
            except LoadError as error:
                findings.append(str(error))
                continue
            if name == "status.json" and content.get("state") not in STATES:
                findings.append(f"status.json has the unknown state {content.get('state')!r}")
        file = self.path / "metrics.jsonl"
        if file.exists():
            try:
                findings += [f"metrics.jsonl line {line}: {reason}" for line, reason in self.metrics()[1]]
            except LoadError as error:
                findings.append(str(error))
            data = file.read_bytes()
            if data and not _starts_with_header(data):
                findings.append("metrics.jsonl does not state its schema on line 1")
            if data and not data.endswith(b"\n"):
                findings.append("metrics.jsonl does not end in a newline")
        return findings

    def _open_metrics(self) -> int:
        """A descriptor for appending, the file repaired: a header there, the last line ended."""
        file = self.path / "metrics.jsonl"
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._descriptor = descriptor
        try:
            data = file.read_bytes()
            if data and not data.endswith(b"\n"):
                self._write("\n")
            if not _starts_with_header(data):
                self._write(dumps(_HEADER) + "\n")
            os.fsync(descriptor)
            _sync_folder(self.path)
        except BaseException:  # the disk may still be full: the next append must find the file unrepaired
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            raise
        self._synced = time.monotonic()
        return descriptor

    def _write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        written = os.write(self._descriptor, data)
        if written != len(data):
            # the next append reopens, which ends the torn line first
            os.close(self._descriptor)
            self._descriptor = None
            raise OSError(
                f"only {written} of {len(data)} bytes of a record reached {str(self.path)!r}; is the disk full?"
            )


def _torn(file: Path, whole: str) -> bool:
    """Whether `file` holds the beginning of `whole` and nothing else."""
    found, wanted = file.read_bytes(), whole.encode("utf-8", "backslashreplace")
    return len(found) < len(wanted) and wanted.startswith(found)


def _starts_with_header(data: bytes) -> bool:
    first = data.split(b"\n", 1)[0]
    try:
        return loads(first.decode("utf-8", "replace")) == _HEADER
    except ValueError:
        return False


def _check_schema(schema: Any, file: Path) -> None:
    if schema != SCHEMA:
        raise LoadError(
            f"{file.name} has schema {schema!r}; this version reads schema {SCHEMA}, so update the workbench"
        )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{file.name} cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise LoadError(f"{file.name} is not a JSON object")
    _check_schema(value.get("schema"), file)
    return value


def _write_whole(file: Path, text: str, *, replace: bool) -> None:
    """Write `file` so that it is there whole or not at all, also after a crash.

    With `replace` False a file that another process made meanwhile stays.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(text + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        if replace:
            temporary.replace(file)
        else:
            with contextlib.suppress(FileExistsError):
                _link(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(file.parent)


def _link(temporary: Path, file: Path) -> None:
    try:
        os.link(temporary, file)  # fails if the file exists, which a rename would not
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        temporary.replace(file)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
