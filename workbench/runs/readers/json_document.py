"""One JSON value in a file: a list of runs, an object of columns, or one run with all its settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.runs.curves import final_values, is_step
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.strict_json import dumps, flatten, loads

__all__ = ["JsonDocument"]


class JsonDocument(Reader):
    """A JSON document. NaN and Infinity are accepted on reading, as Python and JavaScript write them."""

    name = "JSON"
    general = True
    suffixes = (".json", ".json.gz")

    def sniff(self, path: Path, head: bytes) -> bool:
        text = head.decode("utf-8-sig", "replace").lstrip()
        if not text.startswith(("{", "[")) or head.startswith(b"version https://git-lfs"):
            return False
        from workbench.runs.readers.json_lines import JsonLines

        return not JsonLines().sniff(path, head)

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        try:
            value = loads(text)
        except ValueError as error:
            raise LoadError(f"it is not one whole JSON document ({error})") from None
        if isinstance(value, dict) and len(value) == 1 and _records(next(iter(value.values()))):
            value = next(iter(value.values()))  # {"runs": [...]}
        if isinstance(value, list):
            if value and not _records(value):
                raise LoadError("it is a JSON list of something else than runs; each item must be an object")
            return Log.of_records([flatten(item) for item in value], messages=messages)
        if not isinstance(value, dict) or not value:
            raise LoadError("it holds no run: give an object, a list of objects or an object of columns")
        columns = _columns(value)
        if columns is not None:
            return Log(pd.DataFrame(columns, dtype=object), messages=messages)
        row, curve = _one_run(value)
        if curve is None:
            return Log.of_records([row], messages=messages, settled=True)
        # the run's own statements win over the last point of its curve
        row = {**{key: v for key, v in final_values(curve).items() if key not in row}, **row}
        return Log.of_records([row], curves={0: curve}, messages=messages, settled=True)


def _records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _columns(value: dict[str, Any]) -> dict[str, list[Any]] | None:
    """The columns of ``{"N": [...], "loss": [...]}`` or of pandas' ``{"N": {"0": ...}, ...}``, else None."""
    items = list(value.values())
    if all(isinstance(v, dict) for v in items) and items[0]:
        index = list(items[0])
        if all(list(v) == index for v in items) and all(key.isdigit() for key in index):
            return {name: list(v.values()) for name, v in value.items()}
    if all(_scalars(v) for v in items) and len({len(v) for v in items}) == 1:
        return value
    return None


def _scalars(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)


def _one_run(value: dict[str, Any]) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Settings of one run, flattened, and its curve if the document holds one."""
    row: dict[str, Any] = {}
    curve = None
    for prefix, mapping in _groups(value, ""):
        found, used = _curve_of(mapping) if curve is None else (None, set())
        curve = found if curve is None else curve
        for key, item in mapping.items():
            if key in used or (isinstance(item, dict) and item):
                continue
            if _records(item):
                history = _history(item) if curve is None else None
                if history is not None:
                    curve = history
                    continue
                for label, entry in _labelled(item):
                    row.update({f"{prefix}{key}[{label}].{k}": _cell(v) for k, v in flatten(entry).items()})
            else:
                row[f"{prefix}{key}"] = _cell(item)
    return row, curve


def _groups(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield prefix, value
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _groups(item, f"{prefix}{key}.")


def _curve_of(mapping: dict[str, Any]) -> tuple[pd.DataFrame | None, set[str]]:
    """Lists of equal length next to a list of steps, as a frame, and their keys."""
    for key, steps in mapping.items():
        if is_step(key) and _scalars(steps) and len(steps) > 1:
            used = {k for k, v in mapping.items() if _scalars(v) and len(v) == len(steps)}
            if len(used) > 1:
                return pd.DataFrame({k: mapping[k] for k in mapping if k in used}, dtype=object), used
    return None, set()


def _history(items: list[dict[str, Any]]) -> pd.DataFrame | None:
    """A list of records that each carry a step, such as a trainer's ``log_history``."""
    if len(items) < 2 or not all(any(is_step(key) for key in item) for item in items):
        return None
    return Log.of_records([flatten(item) for item in items]).frame


def _labelled(items: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Items of a list with what tells them apart: a name that each of them states, else their position.

    Results on several data sets come as a list; `results[c4_val].loss` says which is which, whatever
    their order. Of a path the last folder is used, if it is enough.
    """
    for key in items[0]:
        names = [_name(item.get(key)) for item in items]
        if all(names) and len(set(names)) == len(items) > 1:
            folders = [name.rstrip("/").split("/")[-2] if name.count("/") else name for name in names]
            return list(zip(folders if len(set(folders)) == len(items) else names, items, strict=True))
    return [(str(i), item) for i, item in enumerate(items)]


def _name(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and len(value) <= 200 else ""


def _cell(value: Any) -> Any:
    """A list or an empty object as text; numbers, text and truth values as they are."""
    return dumps(value) if isinstance(value, list | dict) else value
