"""Keras' ``CSVLogger``: one line an epoch."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

from workbench.runs.history import History, lazy
from workbench.runs.readers.base import LoadError, Log, Reader, read_text
from workbench.runs.run_row import run_row

__all__ = ["KerasCsv"]

_SEPARATORS = (",", ";", "\t", "|", " ")


class KerasCsv(Reader):
    """A table that can only be the curve of one run over epochs: ``epoch``, then what was logged, in Keras' order.

    It is recognised where all of this holds: the first column is ``epoch`` and counts 0, 1, 2, ... or goes on from
    a later epoch; ``loss`` is among the others; these are sorted by name, or sorted and followed by a ``val_`` of
    each; there is no column of steps or runs. A table with validation may begin at any epoch, one without must begin
    at 0, as a table of runs with 1, 2, 3, ... epochs each is something else.

    Beside ``val_loss`` the column ``loss`` is called ``train_loss``, which is what Keras means by it.

    Keras does not log optimizer steps. The curve's ``step`` is the number of epochs that have passed (the logged
    epoch, which begins at 0, and one), and so is its ``epochs``; the run has ``epochs`` and no ``steps``.
    """

    name = "Keras CSV"

    def sniff(self, path: Path, head: bytes) -> bool:
        if not head.lstrip(b"\xef\xbb\xbf").startswith(b"epoch"):
            return False
        # the last line of the beginning of a long file may be cut off
        lines = head.decode("utf-8-sig", "replace").splitlines()[: 50 if head.endswith(b"\n") else -1][:50]
        return len(lines) > 1 and _separator(lines) is not None

    def read(self, path: Path) -> Log:
        text, messages = read_text(path)
        whole, _, rest = text.rpartition("\n")
        lines = whole.splitlines()
        separator = _separator(lines[:50]) if lines else None
        if separator is None:
            raise LoadError("it does not look like a table of Keras' CSVLogger any more")
        header, *rows = _rows(whole + "\n", separator)
        history, skipped = History(), {"is cut off": int(bool(rest.strip())), "is damaged": 0}
        again = 0
        for row in rows:
            epoch = _epoch(row[0])
            if epoch is None or len(row) != len(header):
                skipped["is damaged"] += 1
                continue
            metrics = {_meant(name, header): _value(cell) for name, cell in zip(header[1:], row[1:], strict=True)}
            again += history.last_step is not None and epoch + 1 <= history.records[-1][0]
            history.add(epoch + 1, {"epochs": float(epoch + 1), **{k: v for k, v in metrics.items() if v is not None}})
        if not history.records:
            raise LoadError("none of its lines is whole")
        messages.append("Keras logs no optimizer steps; the steps of its curves are epochs")
        if again:
            messages.append(f"{path.name}: its epochs begin anew {again} times; of one epoch the later line counts")
        if skipped["is cut off"]:
            messages.append(f"{path.name}: the last line is cut off and was skipped")
        final = {name: value for name, value in history.final().items() if name != "epochs"}
        return Log.of_records(
            [run_row({"epochs": float(history.last_step)}, {}, final)],
            curves=lazy({0: history}),
            messages=messages,
            settled=True,
            read=len(history.records),
            skipped={why: n for why, n in skipped.items() if n},
        )


def _meant(name: str, header: list[str]) -> str:
    """Keras' ``loss`` is that of training; beside ``val_loss`` it must not be taken for the one that counts."""
    return "train_loss" if name == "loss" and "val_loss" in header else name


def _rows(text: str, separator: str) -> list[list[str]]:
    """Cells of all lines that are not empty, the header first."""
    csv.field_size_limit(2**31 - 1)
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv.Error as error:
        raise LoadError(f"its table is damaged ({error})") from None


def _separator(lines: list[str]) -> str | None:
    """What separates the cells, if header and epochs are those of Keras; else None."""
    for separator in _SEPARATORS:
        if not lines[0].startswith(f"epoch{separator}"):
            continue
        try:
            header, *rows = _rows("\n".join(lines), separator)
        except LoadError:
            continue
        if _is_header(header) and _counts([row[0] for row in rows], validated=any(map(_is_val, header))):
            return separator
    return None


def _is_header(header: list[str]) -> bool:
    names = header[1:]
    plain = [name for name in names if not _is_val(name)]
    if header[0] != "epoch" or "loss" not in plain or len(set(names)) < len(names) or not all(names):
        return False
    if {name.strip().lower() for name in names} & {"step", "steps", "global_step", "iter", "run", "id", "name", "seed"}:
        return False
    validated = [name for name in names if _is_val(name)]
    mirrored = plain == sorted(plain) and names == plain + [f"val_{name}" for name in plain]
    return mirrored or (names == sorted(names) and all(name.removeprefix("val_") in plain for name in validated))


def _counts(cells: list[str], validated: bool) -> bool:
    """Whether cells are numbers of epochs, one after the other or begun again; lines of a later fit may follow."""
    epochs = [_epoch(cell) for cell in cells]
    if not epochs or None in epochs or (epochs[0] != 0 and not validated) or (len(epochs) < 2 and not validated):
        return False
    return all(after in (before + 1, 0) for before, after in itertools.pairwise(epochs))


def _is_val(name: str) -> bool:
    return name.startswith("val_")


def _epoch(cell: str) -> int | None:
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 10 else None


def _value(cell: str) -> float | str | None:
    """A number, text, or None for ``NA``, which Keras writes where training stopped before a metric was known."""
    if cell in ("", "NA"):
        return None
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell
