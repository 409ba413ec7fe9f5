"""What every reader promises, as tests to inherit.

A new reader is tested by one small subclass::

    class TestDelimited(ReaderContract):
        reader = Delimited
        suffix = ".csv"
        line_based = True

        def write(self, path, frame):
            frame.to_csv(path, index=False)
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from workbench.runs.load import LoadError, load
from workbench.runs.readers.base import Reader, find, peek
from workbench.runs.table import RunTable

__all__ = ["ReaderContract", "sample"]

#: Names that try to leave their cell: markup, paths, line breaks, comments, formulas, direction marks.
HOSTILE = (
    "<script>alert(1)</script>", "../../x", "a\nb", "\u202egnp", "#1", "=1+1", 'say "a,b"', "a;b\tc", "x" * 10_000,
    "&amp;", "a\x00b",
)  # fmt: skip

#: Bytes that mean something in one text format or another.
_TELLING = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\r\n", b";", b"\t", b"#", b"-", b".", b"e9", b"1e999",
    b"nan", b"inf", b"null", b"true", b"\\", b"\\ud800", b"\xef\xbb\xbf", b"\x1f\x8b", b"9" * 30, b"0",
    b"step", b"loss", b"",
)  # fmt: skip


def fuzz() -> int:
    """How many random mutations each format is read with: 400, ten thousand over all formats; ``WORKBENCH_FUZZ=N``."""
    return int(os.environ.get("WORKBENCH_FUZZ", "400"))


def sample() -> pd.DataFrame:
    """Three runs whose numbers need all digits of a double."""
    return pd.DataFrame(
        {
            "run": ["a", "b", "c"],
            "params": [44_000_001.0, 1.6e9 / 3, 7.0e10],
            "tokens": [3.2e9, 1.1e11 / 7, 1.4e12],
            "loss": [3.141592653589793, 2.718281828459045, 1.9500000000000002],
        }
    )


@contextmanager
def _damaged(rng: random.Random, files: list[Path]) -> Iterator[None]:
    """One of `files` with a few of its bytes changed, put in, taken out, doubled or cut off; mended afterwards."""
    file = rng.choice(files)
    whole = file.read_bytes()
    damaged = bytearray(whole)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(damaged) + 1)
        kind = rng.randrange(7)
        if kind == 0 and place < len(damaged):
            damaged[place] ^= 1 << rng.randrange(8)
        elif kind == 1:  # what means something in a text
            damaged[place : place + 1] = rng.choice(_TELLING)
        elif kind == 2:  # a length or a number
            damaged[place : place + 4] = rng.choice((b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", rng.randbytes(4)))
        elif kind == 3:  # a part is lost, or is there twice
            other = rng.randrange(len(damaged) + 1)
            low, high = sorted((place, other))
            damaged[low:high] = b"" if rng.random() < 0.3 else damaged[low:high] * rng.choice((1, 2))
            del damaged[4 * len(whole) + 100 :]
        elif kind == 4 and rng.random() < 0.2:
            del damaged[place:]
        else:
            damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    file.write_bytes(damaged)
    try:
        yield
    finally:
        file.write_bytes(whole)


def _points(curve: pd.DataFrame) -> set[tuple[float, float]]:
    """Every number of a curve with its step; which of two losses is called loss may depend on what was logged later."""
    return {
        (step, value)
        for name in curve.columns
        if name != "step"
        for step, value in zip(curve["step"], curve[name], strict=True)
        if isinstance(value, float) and np.isfinite(value)
    }


class ReaderContract:
    """Inherit, name the class ``Test...``, set the attributes, define `write`.

    Attributes:
        reader: the `Reader` subclass.
        suffix: ending of the file it reads; empty for a folder.
        names: run names to be read back; fewer where the format cannot hold some.
        checked: whether the format holds checksums, so that not even a flipped bit may change a number.
        line_based: whether each line is one run, so that whole lines before a cut must survive.
        mutations: how many random damages are loaded and shown; `fuzz` times as many are read only.
    """

    reader: ClassVar[type[Reader]]
    suffix: ClassVar[str] = ""
    names: ClassVar[tuple[str, ...]] = HOSTILE
    line_based: ClassVar[bool] = False
    checked: ClassVar[bool] = False
    mutations: ClassVar[int] = 50

    def write(self, path: Path, frame: pd.DataFrame) -> None:
        """Write the runs in `frame` (run, params, tokens, loss) in the reader's format."""
        raise TypeError("a ReaderContract needs write(path, frame)")

    def make(self, folder: Path, frame: pd.DataFrame | None = None) -> Path:
        """A log of `frame` (default `sample`) in `folder`."""
        path = folder / f"log{self.suffix}"
        self.write(path, sample() if frame is None else frame)
        return path

    def files(self, path: Path) -> list[Path]:
        """The files that make up a log."""
        return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]

    def test_values_are_read_exactly(self, tmp_path):
        table = load(self.make(tmp_path))
        assert (table["problem"] == "").all()
        pd.testing.assert_frame_equal(
            table.frame[["run", "params", "tokens", "loss"]], sample(), check_exact=True, check_dtype=False
        )

    def test_it_is_registered_and_found_by_content(self, tmp_path):
        path = self.make(tmp_path)
        if self.reader.folders:
            found = {type(find(p)) for p in (path, *path.iterdir()) if p.is_dir()}
            assert self.reader in found
        else:
            odd = path.rename(tmp_path / "log.unknown")
            assert type(find(odd)) is self.reader

    def test_other_formats_are_left_to_their_readers(self, tmp_path):
        others = {
            "CSV": b"run,params,loss\na,1,2\nb,2,1\nc,3,1\n",
            "JSON": json.dumps([{"run": "a", "loss": 2.0}, {"run": "b", "loss": 1.0}], indent=1).encode(),
            "JSON Lines": b'{"run": "a", "loss": 2.0}\n{"run": "b", "loss": 1.0}\n',
            "Parquet": b"PAR1" + bytes(range(100)) + b"PAR1",
            "prose": b"Permission is granted, free of charge,\nto any person, to deal,\nwithout limit.\n",
            "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        }
        for name, content in others.items():
            if name == self.reader.name:
                continue
            path = tmp_path / f"other{len(name)}"
            path.write_bytes(content)
            if not self.reader.folders:
                assert not self.reader().sniff(path, peek(path)), f"{self.reader.name} claims {name}"
        assert not (self.reader.folders and self.reader().sniff(tmp_path, b""))

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        path = self.make(tmp_path)
        points = {run: _points(curve) for run, curve in load(path).curves.items()}
        for file in self.files(path):
            whole = file.read_bytes()
            for cut in range(len(whole)):
                file.write_bytes(whole[:cut])
                try:
                    table = load(path)
                except LoadError:
                    table = None
                if table is not None:
                    self.check_no_invention(table, f"{file.name} cut at byte {cut}")
                    self.check_no_new_points(table, points, f"{file.name} cut at byte {cut}")
                if self.line_based:
                    header = self.reader.name == "CSV"
                    records = whole[:cut].count(b"\n") - header
                    if records > 0:
                        assert table is not None and len(table.good) >= records, f"cut at byte {cut} lost a whole line"
            file.write_bytes(whole)

    def check_no_invention(self, table: RunTable, where: str) -> None:
        """Every number of a sound row is one that the run of this name logged."""
        truth = sample().set_index("run")
        good = table.good.frame
        for column in ("params", "tokens", "loss"):
            if column not in good:
                continue
            for run, value in zip(good["run"], good[column], strict=True):
                if np.isfinite(value):
                    assert run in truth.index, f"{where}: invented the run {run!r}"
                    assert value == truth[column][run], f"{where}: invented {column} = {value!r} of run {run!r}"

    def check_no_new_points(self, table: RunTable, points: dict[str, set], where: str) -> None:
        """Every point of every curve is one that the whole log's curve of this run has."""
        for run, curve in table.curves.items():
            new = _points(curve) - points.get(run, set())
            assert not new, f"{where}: invented points of run {run!r}: {sorted(new)[:3]}"

    def test_damaged_bytes_never_raise_anything_but_value_errors(self, tmp_path):
        path = self.make(tmp_path)
        rng = random.Random(0)
        for _ in range(self.mutations):
            with _damaged(rng, self.files(path)):
                try:
                    table = load(path)
                    table._repr_html_()
                    _ = [*table.curves.values(), table.report().text(), table.to_dict()]
                except ValueError:
                    continue
                if self.checked:
                    self.check_no_invention(table, "damaged")

    def test_random_mutations_of_its_bytes_are_read_or_refused(self, tmp_path):
        path, reader = self.make(tmp_path), self.reader()
        single = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
        logs = [p for p in single if p.is_dir() == reader.folders and reader.sniff(p, b"" if p.is_dir() else peek(p))]
        assert logs, "the reader does not know its own log"
        rng = random.Random(1)
        files = self.files(path)
        for _ in range(fuzz()):
            with _damaged(rng, files):
                for one in logs:
                    try:
                        log = reader.read(one)
                        curves = [log.curves[row] for row in log.curves]
                    except (LoadError, FileNotFoundError):
                        continue
                    assert log.frame.columns.is_unique and all(isinstance(h, str) for h in log.frame.columns)
                    assert all(row in range(len(log.frame)) for row in (*log.curves, *log.problems))
                    assert all(isinstance(curve, pd.DataFrame) for curve in curves)
                    assert all(isinstance(n, int) and n > 0 for n in log.skipped.values())

    def test_an_empty_file_is_refused_in_a_sentence_and_marked_among_others(self, tmp_path):
        path = self.make(tmp_path)
        if path.is_dir():
            return
        path.write_bytes(b"")
        try:
            load(path)
        except LoadError as error:
            assert "empty" in str(error)
        else:
            raise AssertionError("an empty file was loaded")
        (tmp_path / "sound.csv").write_text("run,loss\na,2.0\nb,3.0\n")
        table = load(tmp_path)
        assert sorted(table.ids) == ["a", "b", "log"]
        assert "empty" in table.where("run == 'log'")["problem"].iloc[0]

    def test_hostile_names_pass_through(self, tmp_path):
        n = len(self.names)
        frame = pd.DataFrame({"run": self.names, "params": np.arange(1.0, n + 1), "tokens": 1e9, "loss": 2.0})
        table = load(self.make(tmp_path, frame))
        by_params = dict(zip(table["params"], table["run"], strict=True))
        assert [by_params[k] for k in range(1, n + 1)] == list(self.names)
        html = table._repr_html_()
        assert "<script" not in html and "\u202e" not in html
        again = load(table.to_csv(tmp_path / "again.csv"))
        assert again.ids == table.ids

    def test_reading_changes_nothing(self, tmp_path):
        path = self.make(tmp_path)
        before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in self.files(path)}
        table = load(path)
        list(table.curves.values())
        assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in self.files(path)} == before
        # nothing of the log is needed any more: a table outlives its files
        if not self.reader.folders:
            path.unlink()
        else:
            shutil.rmtree(path)
        assert len(table.where("params > 0")) == 3
