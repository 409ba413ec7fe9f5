"""JSON Lines: one object a line, for each run or for each step of one run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from workbench.runs.json_columns import read_columns
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.strict_json import flatten, loads

__all__ = ["JsonLines", "log_of", "parse_lines"]


class JsonLines(Reader):
    """A record a line. Torn and foreign lines are skipped and reported with their numbers."""

    name = "JSON Lines"
    general = True
    suffixes = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

    def sniff(self, path: Path, head: bytes) -> bool:
        lines = [line for line in head.decode("utf-8-sig", "replace").splitlines() if line.strip()]
        if len(lines) < 2:  # one object alone is a JSON document and means the same
            return False
        if _is_object(lines[0]):
            return True
        # the last line of the head may be cut by the head's own length
        seen = lines[:-1] if len(lines) > 2 else lines
        return 2 * sum(_is_object(line) for line in seen) >= len(seen)

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        frame, skipped = read_columns(text, parse_lines)
        if not len(frame):
            raise LoadError("no line of it is a JSON object")
        counts = {"read": len(frame), "skipped": dict(Counter(reason for _, reason in skipped))}
        return Log(frame, messages=_told(skipped, messages), **counts)


def log_of(records: list[dict[str, Any]], skipped: list[tuple[int, str]], messages: list[str]) -> Log:
    """A log of these records that tells which lines were skipped and why."""
    left_out = dict(Counter(reason for _, reason in skipped))
    return Log.of_records(records, messages=_told(skipped, messages), read=len(records), skipped=left_out)


def _told(skipped: list[tuple[int, str]], messages: list[str]) -> list[str]:
    if not skipped:
        return messages
    shown = "; ".join(f"line {line}: {reason}" for line, reason in skipped[:5])
    more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return [*messages, f"{len(skipped)} lines were skipped ({shown}{more})"]


def parse_lines(text: str) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str]]]:
    """Objects of a JSON Lines text.

    Returns:
        ``(line number, flattened object)`` for each whole line, and ``(line number, reason)`` for each
        line that was skipped. Lines count from 1; empty lines are neither.
    """
    records: list[tuple[int, dict[str, Any]]] = []
    skipped: list[tuple[int, str]] = []
    # only newlines end a line: JSON text may hold U+2028 and other separators that splitlines() cuts at
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip("\x00 \t\r"):
            if "\x00" in line:
                skipped.append((number, "zero bytes left by a crash"))
            continue
        try:
            value = loads(line)
        except ValueError:
            skipped.append((number, "cut off" if number == len(lines) else "not JSON"))
            continue
        if isinstance(value, dict):
            records.append((number, flatten(value)))
        else:
            skipped.append((number, "not an object"))
    return records, skipped


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(loads(line), dict)
    except ValueError:
        return False
