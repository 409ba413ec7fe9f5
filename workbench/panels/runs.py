"""The runs panel: find runs, look at their curves, take runs out, and choose which point of each enters a fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from workbench import figures
from workbench.figures.run_curves import draw_lines
from workbench.figures.run_lines import RunLines, run_lines
from workbench.figures.run_words import along_title, spaced
from workbench.panels.base import Panel, guarded
from workbench.panels.fit_state import source
from workbench.panels.runs_actions import RunsActions
from workbench.panels.runs_controls import RunsControls
from workbench.panels.runs_drawing import RunsDrawing
from workbench.panels.runs_live import Live
from workbench.panels.runs_rows import PAGE
from workbench.panels.runs_state import RunsState, chosen_source, first_state, points_source
from workbench.runs.checkpoints import ALONG, pick
from workbench.runs.load import load
from workbench.runs.logged import SMOOTHED, RunSeries, metrics_logged, ordered
from workbench.runs.search import search
from workbench.runs.table import RunTable
from workbench.units import quantity

__all__ = ["RunsPanel", "RunsState", "panel"]

NOTHING = "No run to draw"
#: Fields whose change leaves the drawing as it is, so that rows alone are replaced.
_SAME_DRAWING = {"smooth", "left_out", "marked", "brushes"}
#: Fields that the figure does not depend on.
_NOT_DRAWN = {
    "page",
    "policy",
    "k",
    "along",
    "at",
    "span",
    "live",
    "filter",
    "sort",
    "descending",
    "tags",
    "parallel",
    "brushes",
}


class RunsPanel(RunsActions, RunsDrawing, Panel):
    """Look at a table of runs and at their curves, by hand.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        state: where to start; default the loss over tokens.
        name: the variable that holds `runs` in the code the panel writes.

    Attributes:
        runs: the table, read anew as its logs grow where that is asked for.
        chosen: the runs that the filter lets through, with their tags, in the order of the table.
    """

    State = RunsState

    def __init__(self, runs: Any, state: RunsState | None = None, *, name: str = "runs") -> None:
        self.runs: RunTable = load(runs)
        self.name = name
        self._syncing, self._reloaded = False, False
        self._coordinates: Any = None  # what the parallel coordinates show
        self._why = ""
        self._take(self.runs)
        super().__init__(state or first_state(self.runs))
        self._live = Live(self)
        self.controls = RunsControls(self.runs, self._table_told)
        self.children = (
            self.controls.above(), self.message, self.report, self.chart, self.controls.below(), self.copy
        )  # fmt: skip
        self.share(self.runs)
        wanted = self._state
        try:
            self.chosen = self._choose(wanted)
            self._check(wanted)
        except (ValueError, KeyError) as error:
            self._why = str(error.args[0])
        self._advise()
        self._show_state()
        self._connect()
        self.redraw(self._draw_full)
        if wanted.live:
            self._live.start()

    def _take(self, runs: RunTable) -> None:
        """Make `runs` the table that is shown."""
        self.runs, self.chosen = runs, runs
        self._series = RunSeries(runs)
        self._curved = bool(metrics_logged(runs))
        self._view: tuple[Any, RunTable] | None = None
        self._numbers: tuple[pd.DataFrame, str, RunLines] | None = None
        self._picked: tuple[pd.DataFrame, str, RunTable] | None = None
        self._smoothed: dict[tuple, float] = {}

    def figure(self) -> alt.TopLevelMixin:
        """The curves of the state; one point a run where no run logged a curve; else why there is nothing."""
        if self._why:
            return figures.empty(NOTHING, self._why)
        self._settle()
        if self._curved:
            return draw_lines(self._lines(self._state))
        return figures.scatter(self.chosen, **self._scatter_arguments())

    def table(self) -> pd.DataFrame:
        """The runs that the filter lets through, in the order shown, with ``marked`` and ``left_out``."""
        self._settle()
        frame = self.chosen.frame
        more = {"marked": frame["run"].isin(self._state.marked), "left_out": frame["run"].isin(self._state.left_out)}
        if SMOOTHED in [c["key"] for c in self._columns()] and SMOOTHED not in frame:
            more[SMOOTHED] = [self._last(run) for run in frame["run"]]
        return frame.assign(**more)

    def points(self) -> RunTable:
        """What a fit takes: the runs shown without those left out, each with the numbers of the point chosen.

        Raises:
            ValueError: the policy cannot be followed, as with a brush on an axis that is no quantity of the table.
        """
        self._settle()
        frame, key = self.chosen.frame, self._state.replace(page=0, marked=(), live=False).to_json()
        if self._picked is None or self._picked[0] is not frame or self._picked[1] != key:
            out = self._present(self._state.left_out)
            self._picked = (frame, key, pick(self.chosen.drop(out), self._state.policy, **self._policy(self._state)))
        return self._picked[2]

    def code(self) -> str:
        """The same runs, figure and points as calls of public functions."""
        if self._why:
            words = f"{source(NOTHING)}, {source(self._why)}"
            return f"import workbench.figures\n\nfigure = workbench.figures.empty({words})\n"
        s = self._state
        reload = (self.runs.origin or list(self.runs.sources)) if self._reloaded else None
        imports, lines = chosen_source(s, self.name, reload)
        if self._curved:
            imports.append("from workbench.figures.run_curves import run_curves")
            arguments, call = {"y": s.y, "x": s.x, **self._line_arguments(s)}, "run_curves"
        else:
            imports.append("from workbench.figures import scatter")
            arguments, call = self._scatter_arguments(), "scatter"
        given = [f"    {k}={source(v)}," for k, v in arguments.items()]
        lines += [f"figure = {call}(", "    chosen,", *given, ")"]
        imports.append("from workbench.runs.checkpoints import pick")
        lines.append(points_source(s, self._present(s.left_out), self._policy(s)))
        return "\n".join([*sorted(imports, key=lambda line: (line.startswith("from"), line)), "", *lines, ""])

    def _line_arguments(self, s: RunsState) -> dict[str, Any]:
        kept = self._present(s.left_out), self._present(s.marked)
        return {
            "log_x": s.log_x, "log_y": s.log_y, "smooth": s.smooth, "color": s.color, "group": s.group,
            "facet": s.facet, "clip": s.clip, "events": s.events, "left_out": kept[0], "marked": kept[1],
            "ordered": self._order(s), "note": self._note(s),
        }  # fmt: skip

    def _scatter_arguments(self) -> dict[str, Any]:
        s = self._state
        return {
            "x": s.x, "y": s.y, "color": s.color or s.group or None, "log_x": s.log_x, "log_y": s.log_y,
            "left_out": self._present(s.left_out), "marked": self._present(s.marked), "note": self._note(s),
        }  # fmt: skip

    def _present(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are among the runs shown."""
        known = set(self.chosen.ids)
        return [run for run in ids if run in known]

    def _order(self, s: RunsState) -> str:
        if not s.sort:
            return ""
        name = f"smoothed {quantity(s.y).meaning.lower()}" if s.sort == SMOOTHED else quantity(s.sort).meaning.lower()
        return f"{name}, {'highest' if s.descending else 'lowest'} first"

    def _note(self, s: RunsState) -> str:
        if not s.filter:
            return ""
        return f"filter {s.filter:.60}: {spaced(len(self.chosen))} of {spaced(len(self.runs))} runs"

    def _policy(self, s: RunsState) -> dict[str, Any]:
        """Arguments of the checkpoint policy."""
        options: dict[str, Any] = {"metric": s.y}
        if s.policy == "last":
            options["k"] = s.k
        elif s.policy == "at":
            options |= {"along": s.along, "at": s.at if s.at is not None else self._reach(s)[2]}
        elif s.policy == "all" and s.span:
            along = "steps" if s.x == "step" else s.x
            if along not in ALONG:
                raise ValueError(
                    f"a range along {along_title(s.x).lower()} is no range of training; brush over steps, tokens, "
                    "compute or seconds"
                )
            options |= {"along": along, "within": [*s.span]}
        return options

    def _reach(self, s: RunsState) -> tuple[float, float, float]:
        """Lowest and highest place of the policy ``at``, and where it starts: the smallest end of a run."""
        column = s.along if s.along in self.runs else ""
        ends = self.runs[column].to_numpy(float) if column else pd.Series(dtype=float).to_numpy()
        ends = ends[ends > 0]
        if not ends.size:
            return 1.0, 10.0, 1.0
        low, high = float(ends.min()), float(ends.max())
        return low / 1000, high * 1.001, float(f"{low:.4g}")

    @guarded
    def grown(self, table: RunTable) -> None:
        """The logs have grown: show `table`, with everything else as it was."""
        before = self.runs
        self._take(table)
        self._reloaded = True
        try:
            self.chosen = self._choose(self._state)
            self._check(self._state)
            self._why = ""
        except (ValueError, KeyError):
            self._take(before)
            self.chosen = self._choose(self._state)
            raise
        self._advise()
        self._show_state()
        self.redraw(self._draw_full)

    def look(self) -> bool:
        """Read what the logs have gained, now; whether there was anything. `state.live` does so by itself."""
        return self._live.look()

    def close(self) -> None:
        """Look at the logs no more, and take the panel off the screen."""
        self._live.stop()
        super().close()

    def _choose(self, s: RunsState) -> RunTable:
        """The runs of `s`: tagged, filtered, sorted."""
        more = (s.y, s.smooth) if s.sort == SMOOTHED else ()
        key = (id(self.runs.frame), tuple(sorted(s.tags.items())), s.filter, s.sort, s.descending, more)
        if self._view is None or self._view[0] != key:
            runs = self.runs
            if s.tags:
                runs = runs.derive(tag=lambda frame: frame["run"].map(s.tags).fillna(""))
            runs = search(runs, s.filter)
            if s.sort:
                runs = ordered(runs, s.sort, s.descending, y=s.y, smooth=s.smooth)
            self._view = (key, runs)
        return self._view[1]

    def _settle(self) -> None:
        """Bring the order of the rows up to date."""
        if not self._why:
            self.chosen = self._choose(self._state)

    def _check(self, s: RunsState) -> None:
        """Whether `s` can be drawn.

        Raises:
            ValueError: why not.
        """
        if not len(self.chosen):
            raise ValueError("this table has no runs; load a file or folder that holds some, or loosen what chose them")
        if self._curved:
            self._lines(s)
        else:
            figures.scatter(self.chosen, s.x, s.y)
        self._policy(s)

    def _lines(self, s: RunsState) -> RunLines:
        """The numbers of the figure."""
        frame, key = self.chosen.frame, s.replace(**{n: getattr(_BLANK, n) for n in _NOT_DRAWN}).to_json()
        if self._numbers is None or self._numbers[0] is not frame or self._numbers[1] != key:
            numbers = run_lines(self.chosen, s.y, s.x, **self._line_arguments(s), series=self._series)
            self._numbers = (frame, key, numbers)
        return self._numbers[2]

    def _apply(self, state: RunsState) -> bool:
        """Move to `state` if it can be shown; else say why not and stay."""
        before, chosen = self._state, self.chosen
        changed = {n for n in vars(state) if getattr(state, n) != getattr(before, n)}
        try:
            if changed != {"smooth"}:  # while that slider moves, rows sorted by smoothed values stay where they are
                self.chosen = self._choose(state)
            if not changed <= _SAME_DRAWING | {"page", "live"}:
                self._check(state)
        except (ValueError, KeyError) as error:
            self.chosen = chosen
            self.tell(error)
            return False
        self._why = ""
        self._state = state
        self._advise()
        if state.page * PAGE >= max(len(self.chosen), 1) or "filter" in changed or "sort" in changed:
            self._state = self._state.replace(page=0)
        if {"left_out", "marked"} & changed and self.shared is not None:
            self.shared.change(self, left_out=state.left_out, marked=state.marked)
        if "live" in changed:
            self._live.start() if state.live else self._live.stop()
        if changed <= {"page", "live", "span", "k", "along", "at", "policy", "parallel"}:
            self.redraw_part(self._draw_below)
        elif changed <= _SAME_DRAWING | {"page"}:
            self.redraw(self._draw_full, self._draw_quick)
        else:
            self.redraw(self._draw_full)
        return True

    def _advise(self) -> None:
        """Say what is missing in a table that holds little; else clear the line."""
        frame, y = self.runs.frame, self._state.y
        if self._why:
            self.tell(self._why)
        elif len(frame) == 1 and not self._curved:
            self.tell("there is one run, and it logged no curve; load more runs to compare it with")
        elif not self._curved and y in frame and not frame[y].notna().any():
            self.tell(f"no run has a value of {y!r}; choose another metric, or load the logs that hold it")
        else:
            self.tell(None)


_BLANK = RunsState()


def panel(of: RunTable | Any, **state: Any) -> RunsPanel:
    """A runs panel on a table of runs.

    Args:
        of: a `RunTable`, or anything `workbench.load` takes.
        state: fields of `RunsState` that differ.

    Raises:
        ValueError: no such setting.
    """
    runs = load(of)
    return RunsPanel(runs, RunsState.of(**{**vars(first_state(runs)), **state}))
