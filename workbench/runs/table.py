"""`RunTable`: one row a run, canonical names and units, and what is known about how each column came about."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.files import write_whole
from workbench.late import late
from workbench.runs import statements
from workbench.runs.columns import TEXT, nearest
from workbench.runs.curves import Curves
from workbench.units import QUANTITIES, quantity

if TYPE_CHECKING:
    from workbench.runs.report import Provenance

__all__ = ["RunTable", "arrange"]


@dataclass(frozen=True, eq=False, repr=False)
class RunTable:
    """Training runs, one a row. Methods return new tables; nothing is changed in place.

    Attributes:
        frame: a pandas DataFrame with the text column `run` (unique ids) first, canonical quantities next
            (float64, in the units of `units`), other columns, and `problem` last: empty for a sound run,
            else one sentence on what is wrong with it. Not to be modified; take a copy.
        units: numeric column -> unit, empty for a pure count.
        notes: column -> how it came about: ``from 'Model Size'``, ``derived: flops / (6 params)``.
        messages: what loading wants to tell: skipped lines, renamed runs, unreadable files.
        sources: paths the runs were read from.
        curves: run id -> frame with `step` and metrics, for the runs that logged a curve.
        attributes: free statements about these runs, e.g. answers for a fit's card.
        origin: the one file or folder they were loaded from, empty where there is none.
        provenance: run id -> the log it came from and what was made of it; `report` shows it.
    """

    frame: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    curves: Mapping[str, pd.DataFrame] = field(default_factory=Curves)
    attributes: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    explore = late("workbench.panels.runs:panel", "A panel on these runs: find, look, leave out, choose points.")
    plot = late("workbench.figures.runs:scatter", "One point a run, as an Altair chart.")
    pick = late("workbench.runs.checkpoints:pick", "The runs with the numbers of one point of each curve.")
    report = late("workbench.runs.report:report", "Where the runs came from, what was skipped, renamed and derived.")
    duplicates = late("workbench.runs.duplicates:duplicates", "Groups of runs that are one run under several names.")
    with_architecture = late(
        "workbench.runs.with_architecture:with_architecture", "Adds sizes and FLOPs counted from the architecture."
    )
    follow = late("workbench.runs.follow:follow", "Reads what is appended to these runs' logs while they grow.")

    compare = late("workbench.panels.compare:panel", "Laws, or groups of these runs, side by side, as a panel.")
    multiverse = late(
        "workbench.panels.multiverse:panel", "One conclusion under every defensible analysis, as a panel."
    )
    frontier = late("workbench.panels.frontier:panel", "Approaches 1, 2 and 3 at a budget to be dragged, as a panel.")
    planner = late("workbench.panels.planner:panel", "Size, tokens, loss and next probes for a budget, as a panel.")

    def __post_init__(self) -> None:
        numeric = self.frame.select_dtypes("number").columns
        units = {name: quantity(name).unit or self.units.get(name, "") for name in numeric}
        object.__setattr__(self, "units", units)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, columns: Mapping[str, Any] | None = None, *, name: str = "run"
    ) -> RunTable:
        """The runs in a DataFrame; the same as `workbench.load` of it, with ids ``name:0``, ``name:1``, ...

        Raises:
            TypeError: `frame` is no DataFrame.
            ValueError: columns are ambiguous, or `columns` names one that is not there.
        """
        from workbench.runs.load import load  # load builds RunTables, so that it cannot be imported above

        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"from_frame takes a pandas DataFrame, got {type(frame).__name__}; use load for paths")
        return load(frame, columns, name=name)

    @property
    def ids(self) -> list[str]:
        """The runs' ids, in the order of the rows."""
        return self.frame["run"].tolist()

    @property
    def good(self) -> RunTable:
        """The runs without a problem."""
        return self._rows((self.frame["problem"] == "").to_numpy())

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, name: str) -> pd.Series:
        """One column.

        Raises:
            KeyError: there is no such column; the message lists them and suggests the nearest.
        """
        if not isinstance(name, str) or name not in self.frame:
            raise KeyError(f"no column {name!r}; {nearest(str(name), self.frame.columns)}")
        return self.frame[name]

    def __contains__(self, name: object) -> bool:
        return name in self.frame.columns

    def where(self, condition: str | Any) -> RunTable:
        """The runs for which a condition holds; possibly none.

        Args:
            condition: an expression over the columns such as ``params > 1e8 and lr < 0.01`` (odd names in
                backticks: ```` `results[c4].loss` < 3 ````), a boolean per row, or a function that takes
                the frame and returns one.

        Raises:
            ValueError: the expression cannot be evaluated or does not give one truth value per row.
        """
        if isinstance(condition, str):
            chosen = self._evaluate(condition)
            shown = repr(condition)
        else:
            chosen = condition(self.frame) if callable(condition) else condition
            shown = "the condition"
        chosen = self._per_row(chosen, shown)
        if not pd.api.types.is_bool_dtype(chosen.dtype):
            raise ValueError(f"{shown} is not true or false for each run; write a comparison such as 'params > 1e8'")
        return self._rows(chosen.fillna(False).to_numpy(bool))

    def derive(self, **columns: str | float | Iterable[float] | Callable[[pd.DataFrame], Any]) -> RunTable:
        """A table with columns added or replaced.

        Args:
            **columns: name -> expression over the columns (``flops="6 * params * tokens"``), one value per
                row, a number, or a function of the frame. Later ones may use earlier ones.

        Raises:
            ValueError: an expression fails, or the number of values is not that of the runs.
        """
        table = self
        for name, value in columns.items():
            if name in ("run", "problem"):
                raise ValueError(f"derive cannot replace {name!r}; ids and problems come from loading")
            if isinstance(value, str):
                values, note = table._evaluate(value), f"derived: {value}"
            elif callable(value):
                values, note = value(table.frame), f"derived by {getattr(value, '__name__', 'a function')}"
            else:
                values, note = value, "derived: given values"
            series = table._per_row(values, f"derive({name}=...)")
            if pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype):
                series = series.astype(float)
            elif name in QUANTITIES and name not in TEXT:
                raise ValueError(f"derive({name}=...) gives {series.dtype} values; {name} takes numbers")
            frame = arrange(table.frame.assign(**{name: series}))
            table = replace(table, frame=frame, notes={**table.notes, name: note})
        return table

    def drop(self, ids: str | Iterable[str]) -> RunTable:
        """The table without these runs.

        Raises:
            KeyError: a run does not exist; the nearest id is suggested.
        """
        unwanted = [ids] if isinstance(ids, str) else list(ids)
        known = set(self.ids)
        for run in unwanted:
            if run not in known:
                raise KeyError(f"no run {run!r}; {nearest(str(run), self.ids, 'runs')}")
        return self._rows(~self.frame["run"].isin(unwanted).to_numpy())

    def with_attributes(self, **attributes: Any) -> RunTable:
        """The table with statements about its runs added or replaced."""
        return replace(self, attributes={**self.attributes, **attributes})

    def state(self, **answers: Any) -> RunTable:
        """A table with statements about its runs, which are also kept beside what it was loaded from.

        The questions are those of a fit's card (`workbench.fits.card.QUESTIONS`); other names are kept too.
        Asked once: the next `workbench.load` of the same path finds the answers.

        Args:
            **answers: name -> text or number; None takes a statement back.

        Raises:
            OSError: the answers cannot be written there.
            ValueError: the runs come from no one path, or an answer is no text or number.
        """
        if not self.origin:
            raise ValueError(
                "these runs were not loaded from one file or folder, so there is no place to keep statements; "
                "use with_attributes(...), or save them with to_csv and load that"
            )
        statements.write(self.origin, answers)
        merged = {**self.attributes, **answers}
        return replace(self, attributes={k: v for k, v in merged.items() if v is not None})

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write the frame under its canonical names; `load` reads the same values back.

        The file appears whole or not at all.

        Raises:
            FileNotFoundError: the folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"no folder {str(path.parent)!r} to write {path.name!r} to; create it first")
        # a reader takes a line that starts with # for a comment unless the cell is quoted
        quoting = csv.QUOTE_NONNUMERIC if any(run.startswith("#") for run in self.ids) else csv.QUOTE_MINIMAL
        text = self.frame.to_csv(index=False, quoting=quoting, lineterminator="\n")
        return write_whole(path, text)

    def summary(self) -> pd.DataFrame:
        """One row per numeric column: n (finite values), min, median, max, unit, note."""
        rows = {}
        for name, unit in self.units.items():
            values = self.frame[name].to_numpy()
            finite = values[np.isfinite(values)]
            low, middle, high = (f(finite) if finite.size else np.nan for f in (np.min, np.median, np.max))
            rows[name] = (finite.size, low, middle, high, unit, self.notes.get(name, ""))
        columns = ["n", "min", "median", "max", "unit", "note"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("quantity")

    def to_dict(self) -> dict[str, Any]:
        """The table as strict JSON types; what is missing or not finite is None.

        Each of `runs` has its ``id``, its ``problem``, the ``format`` of its log, its columns (settings, canonical
        quantities and final metrics), under ``points`` the length of its curve (None if it can no longer be read),
        and under ``skipped`` why records of its log were left out and how many. A column of one of these names is
        called ``id_logged``, ``points_logged`` and so on. Logs that could not be read are in ``unreadable``, each with
        its ``path`` and the ``reason``.
        """
        report = self.report()
        names = [c for c in self.frame.columns if c not in ("run", "problem")]
        keys = [f"{name}_logged" if name in ("id", "format", "points", "skipped") else name for name in names]
        runs = []
        for run, problem, *values in self.frame[["run", "problem", *names]].itertuples(index=False, name=None):
            origin = report.origins[run]
            if origin.reason:
                continue
            row = dict(zip(keys, map(_json, values), strict=True))
            said = {"points": self._points(run), "skipped": dict(origin.skipped)}
            runs.append({"id": run, "problem": problem, "format": origin.format, **row, **said})
        return {
            "n_runs": len(runs),
            "runs": runs,
            "unreadable": report.unreadable,
            "units": dict(self.units),
            "notes": dict(self.notes),
            "messages": list(self.messages),
        }

    def __repr__(self) -> str:
        from workbench.runs.display import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        from workbench.runs.display import to_html

        return to_html(self)

    def _points(self, run: str) -> int | None:
        try:
            return len(self.curves[run]) if run in self.curves else 0
        except (ValueError, OSError):  # its file has gone or was damaged since
            return None

    def _rows(self, chosen: np.ndarray) -> RunTable:
        frame = self.frame[chosen].reset_index(drop=True)
        curves = self.curves.select(frame["run"]) if isinstance(self.curves, Curves) else self.curves
        return replace(self, frame=frame, curves=curves)

    def _evaluate(self, expression: str) -> Any:
        bare = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "", expression)
        try:
            if "@" in bare or "__" in bare:
                raise ValueError("it may use columns and functions only, neither @ nor names with __")
            # empty scopes: an expression sees the columns and nothing of the program around it
            values = self.frame.eval(expression, engine="python", local_dict={}, global_dict={})
            if isinstance(values, pd.DataFrame):
                raise ValueError("= assigns and == compares, and only the latter makes sense here")
            return values
        except Exception as error:
            raise ValueError(f"cannot evaluate {expression!r}: {self._explain(error)}") from None

    def _explain(self, error: Exception) -> str:
        missing = re.match(r"name '(.*)' is not defined", str(error))
        if missing:
            hint = nearest(missing[1].removeprefix("BACKTICK_QUOTED_STRING_"), self.frame.columns)
            return f"there is no column {missing[1]!r}; {hint}"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return f"{reason}; {nearest('', self.frame.columns)}; names with blanks or dots take backticks"

    def _per_row(self, values: Any, shown: str) -> pd.Series:
        if np.ndim(values) == 0:
            return pd.Series([values] * len(self), index=self.frame.index, dtype=None if len(self) else float)
        series = pd.Series(np.asarray(values) if not isinstance(values, pd.Series) else values.array)
        if len(series) != len(self):
            raise ValueError(f"{shown} gives {len(series)} values for {len(self)} runs; give one for each run")
        return series


def arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with `run` first, canonical quantities in the order of `units.QUANTITIES`, `problem` last."""
    canonical = [name for name in QUANTITIES if name in frame.columns]
    others = [c for c in frame.columns if c not in QUANTITIES and c not in ("run", "problem")]
    return frame[["run", *canonical, *others, "problem"]]


def _json(value: Any) -> Any:
    """One cell as a number, text, truth value or None."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float) else str(value)
