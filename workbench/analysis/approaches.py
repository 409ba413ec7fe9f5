"""The three approaches of Hoffmann et al. 2022 side by side on the same runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.envelope import Envelope, envelope
from workbench.analysis.frontier import Frontier, frontier
from workbench.analysis.isoflop import IsoFLOP, isoflop
from workbench.fits.fit import fit as fit_law
from workbench.fits.result import Fit
from workbench.late import late
from workbench.laws.base import Law
from workbench.runs.load import load
from workbench.units import human

__all__ = ["Approaches", "approaches"]

_NAMES = {1: "envelope", 2: "isoflop", 3: "parametric"}


@dataclass(frozen=True, repr=False)
class Approaches:
    """Up to three answers to one question.

    Attributes:
        frame: one row an approach: ``approach``, ``a`` and ``b`` (exponents of size and data) with ``_low`` and
            ``_high``, ``params`` and ``tokens`` at `budget` with ``_low`` and ``_high``, ``n_runs``, ``levels``
            (compute levels, budgets or None), ``flagged``, ``note``.
        frontiers: name -> `Frontier` over the runs' compute, for the approaches that gave one.
        budget: FLOP at which size and data are compared.
        level: nominal coverage.
        envelope, isoflop, fit: what each rests on; None where it failed, with the reason in `frame`.
    """

    frame: pd.DataFrame
    frontiers: dict[str, Frontier]
    budget: float
    level: float
    envelope: Envelope | None = field(default=None)
    isoflop: IsoFLOP | None = field(default=None)
    fit: Fit | None = field(default=None)

    plot = late("workbench.figures.frontier:frontier", "Optimal size and data against compute, approaches overlaid.")

    def table(self, digits: int = 3) -> pd.DataFrame:
        """One row an approach, in people's numbers."""

        def cell(row, name, show):
            if not np.isfinite(row[name]):
                return "—"
            return f"{show(row[name])} ({show(row[name + '_low'])}–{show(row[name + '_high'])})"

        rows = self.frame.to_dict("records")
        out = pd.DataFrame({"approach": self.frame["approach"]})
        out["a: N_opt ~ C^a"] = [cell(r, "a", lambda v: f"{v:.{digits}f}") for r in rows]
        out["b: D_opt ~ C^b"] = [cell(r, "b", lambda v: f"{v:.{digits}f}") for r in rows]
        for name in ("params", "tokens"):
            out[f"{name} at {self.budget:.3g} FLOP"] = [cell(r, name, lambda v: human(v, digits)) for r in rows]
        out["rests on"] = self.frame["rests_on"]
        out["note"] = self.frame["note"]
        return out

    def __repr__(self) -> str:
        lines = []
        for r in self.frame.to_dict("records"):
            slope = f"a = {r['a']:.3f} ({r['a_low']:.3f} to {r['a_high']:.3f})" if np.isfinite(r["a"]) else "no answer"
            lines.append(f"{r['approach']}: " + "; ".join(filter(None, (slope, r["rests_on"], r["note"]))))
        return f"Three approaches, N_opt ~ C^a, {self.level:.0%} intervals:\n  " + "\n  ".join(lines)

    def _repr_html_(self) -> str:
        caption = f"Three approaches to the compute-optimal size, {self.level:.0%} intervals in brackets"
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{escape(caption)}</figcaption>{table}</figure>"


def approaches(
    runs: Any,
    *,
    y: str = "loss",
    params: str = "params",
    where: str | None = None,
    law: str | Law = "chinchilla",
    at: float | None = None,
    level: float = 0.95,
    n: int = 1000,
    seed: int = 0,
    envelope_options: Mapping[str, Any] | None = None,
    isoflop_options: Mapping[str, Any] | None = None,
) -> Approaches:
    """Envelope, isoFLOP minima and a parametric law on the same runs (Hoffmann et al. 2022, section 3).

    They share the runs but not their assumptions; where intervals do not overlap, at least one of those
    assumptions is wrong. Each approach that cannot be carried out says why, and the others go on.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        y: column to minimise.
        params: column that stands for N.
        where: only runs that satisfy this expression.
        law: law of approach 3.
        at: budget in FLOP at which size and data are compared; default the largest compute of a run.
        level: nominal coverage.
        n: bootstrap resamples of each.
        seed: seed of all three.
        envelope_options, isoflop_options: further arguments of `envelope` and `isoflop`.

    Raises:
        ValueError: no approach can be carried out; the sentence gives the reason of each.
    """
    table = load(runs)
    table = table if where is None else table.where(where)
    common = {"y": y, "params": params, "level": level, "n": n, "seed": seed}
    made: dict[int, Any] = {}
    failed: dict[int, str] = {}

    def attempt(which: int, make) -> None:
        try:
            made[which] = make()
        except ValueError as error:
            failed[which] = str(error)

    attempt(1, lambda: envelope(table, **{**common, **(envelope_options or {})}))
    attempt(2, lambda: isoflop(table, **{**common, **(isoflop_options or {})}))
    attempt(3, lambda: fit_law(table, law, y=y, inputs=None if params == "params" else {"N": params}, seed=seed))
    if not made:
        raise ValueError(
            "no approach works on these runs: " + "; ".join(f"{_NAMES[k]}: {w}" for k, w in failed.items())
        )
    low, high = _range(made)
    budget = high if at is None else float(at)
    grid = np.geomspace(low, max(high, budget), 25)
    rows, frontiers = [], {}
    for which in (1, 2, 3):
        row = {"approach": f"{which} {_NAMES[which]}", **_empty()}
        source = made.get(which)
        row["note"] = failed.get(which, "")
        if source is not None:
            row |= _facts(which, source)
            try:
                there = frontier(source, [budget], level=level, n=n)
                frontiers[row["approach"]] = frontier(source, grid, level=level, n=n)
                row |= _answer(there)
            except ValueError as error:
                row["note"] = "; ".join(filter(None, (row["note"], str(error))))
        rows.append(row)
    return Approaches(pd.DataFrame(rows), frontiers, budget, level, made.get(1), made.get(2), made.get(3))


def _empty() -> dict[str, Any]:
    numbers = {f"{c}{end}": np.nan for c in ("a", "b", "params", "tokens") for end in ("", "_low", "_high")}
    return {**numbers, "n_runs": 0, "levels": None, "flagged": 0, "rests_on": "", "note": ""}


def _answer(there: Frontier) -> dict[str, Any]:
    slopes, spot = there.exponents(), there.frame.iloc[0]
    out = {"note": spot["note"]} if spot["note"] else {}
    for letter, name in (("a", "params"), ("b", "tokens")):
        for end, column in (("", "exponent"), ("_low", "low"), ("_high", "high")):
            out[letter + end] = slopes.loc[name, column]
            out[name + end] = spot[name + end]
    return out


def _facts(which: int, source: Any) -> dict[str, Any]:
    if which == 3:
        words = f"{source.n_runs} runs" + (
            f", {len(source.points.left_out)} left out" if source.points.left_out else ""
        )
        unsure = ", ".join(source.diagnostics.unidentified)
        note = f"not identified: {unsure}" if unsure else ""
        return {"n_runs": source.n_runs, "rests_on": words, "note": note}
    used, total = int(source.frame["used"].sum()), len(source.frame)
    runs = source.n_runs if which == 1 else len(source.points)
    what = "levels" if which == 1 else "budgets"
    words = f"{runs} runs, {used} of {total} {what}" + (
        f", {len(source.left_out)} runs left out" if source.left_out else ""
    )
    flags = f"{total - used} of {total} {what} flagged" if which == 2 and used < total else ""
    note = "; ".join(source.notes) if which == 1 else flags
    return {"n_runs": runs, "levels": total, "flagged": total - used, "rests_on": words, "note": note}


def _range(made: Mapping[int, Any]) -> tuple[float, float]:
    """Smallest and largest compute of the runs behind the approaches."""
    spans = []
    for which, source in made.items():
        if which == 3:
            x = source.points.frame
            flops = x["flops"] if "flops" in x else 6 * x["params"] * x["tokens"]
        else:
            flops = source.frame["flops"]
        flops = flops[np.isfinite(flops) & (flops > 0)]
        spans.append((flops.min(), flops.max()))
    return float(min(s[0] for s in spans)), float(max(s[1] for s in spans))
