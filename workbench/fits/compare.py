"""`compare`: several laws on the same runs, judged by fit, by parsimony and by prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.engine.objective import Objective
from workbench.fits.fit import Fit, fit
from workbench.fits.holdout import cross_validate, score, split
from workbench.fits.points import check_target, gather
from workbench.late import late
from workbench.laws.base import Law, get
from workbench.runs.load import load
from workbench.runs.table import RunTable

__all__ = ["Comparison", "check_per_law", "compare", "for_law"]

#: Laws compared when nobody says which.
DEFAULT_LAWS = ("chinchilla", "chinchilla_tied", "kaplan", "over_training", "power_constant", "constant")


@dataclass(frozen=True)
class Comparison:
    """Laws against laws.

    Attributes:
        frame: one row a law, best first: ``law``, ``title``, ``parameters`` (free), ``objective`` (summed),
            ``log_likelihood``, ``aicc``, ``bic``, ``delta_aicc`` (above the best), ``cv_error``,
            ``heldout_error`` (mean absolute, relative), ``heldout_bias``, ``heldout_coverage``, ``note``.
        fits: law name -> `Fit` on the runs that were not held out.
        predictions: law name -> one row a held-out run; empty without a hold-out.
        failed: law name -> why it could not be fitted.
        holdout: what was held out, in words.
        n_runs: runs every law was fitted to.
        ranked_by: column of `frame` the order follows.
    """

    frame: pd.DataFrame
    fits: dict[str, Fit]
    predictions: dict[str, pd.DataFrame]
    failed: dict[str, str]
    holdout: str
    n_runs: int
    ranked_by: str

    panel = late("workbench.panels.compare:panel", "An interactive panel on this comparison's laws and runs.")
    plot = late(
        "workbench.figures.comparison:comparison", "Predicted against measured for every law, held-out runs marked."
    )

    @property
    def best(self) -> Fit:
        """The fit that ranks first."""
        return self.fits[self.frame["law"].iloc[0]]

    def table(self, digits: int = 3) -> pd.DataFrame:
        """`frame` for reading: percentages, differences to the best, rounded to `digits`."""

        def percent(v):
            return "—" if not np.isfinite(v) else f"{float(f'{100 * v:.{digits}g}'):g} %"

        out = pd.DataFrame({"law": self.frame["title"], "parameters": self.frame["parameters"]})
        for column, name in (("delta_aicc", "ΔAICc"), ("delta_bic", "ΔBIC")):
            out[name] = [f"{v:.1f}" if np.isfinite(v) else "—" for v in self.frame[column]]
        out["CV error"] = [percent(v) for v in self.frame["cv_error"]]
        if self.holdout:
            out["held-out error"] = [percent(v) for v in self.frame["heldout_error"]]
            out["held-out bias"] = [percent(v) for v in self.frame["heldout_bias"]]
            out["inside 95 %"] = ["—" if not np.isfinite(v) else f"{v:.0%}" for v in self.frame["heldout_coverage"]]
        out["note"] = self.frame["note"]
        return out

    def to_dict(self) -> dict:
        """The comparison as strict JSON types, laws in order."""
        rows = [
            {k: (None if isinstance(v, float) and not np.isfinite(v) else v) for k, v in row.items()}
            for row in self.frame.to_dict(orient="records")
        ]
        for row in rows:
            row["params"] = {s: float(v) for s, v in self.fits[row["law"]].params.items()}
        return {
            "n_runs": self.n_runs,
            "holdout": self.holdout or None,
            "n_held_out": len(next(iter(self.predictions.values()))) if self.predictions else 0,
            "ranked_by": self.ranked_by,
            "laws": rows,
            "failed": self.failed,
        }

    def __repr__(self) -> str:
        head = f"Comparison of {len(self.frame)} laws on {self.n_runs} runs, ranked by {self.ranked_by}"
        return (
            head + (f", held out: {self.holdout}" if self.holdout else "") + "\n" + self.table().to_string(index=False)
        )

    def _repr_html_(self) -> str:
        caption = f"{len(self.frame)} laws on the same {self.n_runs} runs, ranked by {escape(self.ranked_by)}"
        if self.holdout:
            caption += f"; held out: {escape(self.holdout)}"
        failed = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in self.failed.items())
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{caption}</figcaption>{table}{f'<ul>{failed}</ul>' if failed else ''}</figure>"


def compare(
    runs: Any,
    laws: Sequence[str | Law] = DEFAULT_LAWS,
    *,
    holdout: Any = None,
    y: str = "loss",
    x: str | None = None,
    where: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    objective: str = "log-huber",
    delta: float = 1e-3,
    n: int = 400,
    seed: int = 0,
    tick: Callable[[float, str], None] | None = None,
) -> Comparison:
    """Fit several laws to the same runs and rank them.

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        laws: names of laws, or `Law` instances. One that cannot be fitted is listed as failed.
        holdout: larger runs to judge by: an expression, or the share of the largest; see
            `holdout.split`. With a hold-out, laws are ranked by the error on it, else by AICc.
        y, x, where, objective, delta, seed: as in `fit`; `x` goes to the laws of one input.
        inputs, fixed: as in `fit`, for every law that has the symbol (``{"E": 1.7}``), or by law
            (``{"chinchilla": {"E": 1.7}}``).
        cluster: column whose equal values are resampled, and left out in cross-validation, together.
        n: bootstrap resamples for the held-out intervals.
        tick: called with the fraction done and the law at work; may raise to cancel.

    Returns:
        A `Comparison`. AICc and BIC use the likelihood the objective implies, its scale counted as a
        parameter (Burnham and Anderson 2002, eq. 2.4; Schwarz 1978).

    Raises:
        ValueError: no law given or a name unknown, a hold-out that selects nothing or everything, or no
            law that could be fitted.
    """
    if isinstance(laws, str | Law):
        laws = [laws]
    chosen = [get(law) for law in laws]
    if not chosen:
        raise ValueError("no laws to compare; give at least one name, `workbench laws` lists them")
    if len({law.name for law in chosen}) < len(chosen):
        raise ValueError(f"a law is named twice in {', '.join(law.name for law in chosen)}; name each once")
    table = load(runs)
    total = len(table)
    table = table if where is None else table.where(where)
    if not len(table):
        raise ValueError(
            f"where={where!r} selects none of the {total} runs; loosen it"
            if total
            else "the table has no runs to compare laws on"
        )
    held_out, description = None, ""
    if holdout is not None:
        table, held_out, description = split(table, holdout)
    # What is wrong with every law alike is said once, and not once a law.
    objective = Objective(objective, delta)
    check_target(table, y)
    options = {"y": y, "objective": objective, "seed": seed, "cluster": cluster}
    settings = {
        law.name: {
            "x": x if len(law.inputs) == 1 else None,
            "inputs": for_law(law, inputs, [i.symbol for i in law.inputs]),
        }
        for law in chosen
    }
    for name, given in (("inputs", inputs), ("fixed", fixed)):
        check_per_law(given, chosen, name)
    table = _common(table, chosen, settings, y)

    fits, predictions, failed, rows = {}, {}, {}, []
    for i, law in enumerate(chosen):
        if tick is not None:
            tick(i / len(chosen), law.title)
        try:
            held = for_law(law, fixed, law.symbols)
            fitted = fit(table, law, fixed=held, **settings[law.name], **options)
            scores = {}
            if held_out is not None:
                scores, predictions[law.name] = score(fitted, held_out, n)
        except ValueError as reason:
            failed[law.name] = str(reason)
            continue
        fits[law.name] = fitted
        rows.append(_row(law, fitted, scores))
    if not rows:
        raise ValueError("no law could be fitted: " + "; ".join(f"{k}: {v}" for k, v in failed.items()))
    if tick is not None:
        tick(1.0, "done")
    frame = pd.DataFrame(rows)
    for criterion in ("aicc", "bic"):
        frame[f"delta_{criterion}"] = frame[criterion] - frame[criterion].min()
    ranked_by = "heldout_error" if held_out is not None else "aicc"
    frame = frame.sort_values([ranked_by, "parameters"], na_position="last", kind="stable", ignore_index=True)
    n_runs = next(iter(fits.values())).n_runs
    return Comparison(frame, fits, predictions, failed, description, n_runs, ranked_by)


def for_law(law: Law, given: Mapping[str, Any] | None, symbols: Sequence[str]) -> dict[str, Any]:
    """The part of `given` meant for `law`: what is under its name, and common entries for symbols it has."""
    common = {k: v for k, v in (given or {}).items() if not isinstance(v, Mapping) and k in symbols}
    own = next((v for k, v in (given or {}).items() if isinstance(v, Mapping) and k == law.name), {})
    return {**common, **own}


def check_per_law(given: Mapping[str, Any] | None, laws: Sequence[Law], name: str) -> None:
    """Raise a ValueError if an entry of `given` is for none of `laws`: a slip would change nothing, silently."""
    known = {s for law in laws for s in (law.symbols if name == "fixed" else [i.symbol for i in law.inputs])}
    for key, value in (given or {}).items():
        if isinstance(value, Mapping) and key not in {law.name for law in laws}:
            raise ValueError(f"{name} names the law {key!r}, which is not among {', '.join(x.name for x in laws)}")
        if not isinstance(value, Mapping) and key not in known:
            raise ValueError(f"{name} names {key!r}, which no law here has; the symbols are {', '.join(sorted(known))}")


def _common(table: RunTable, laws: Sequence[Law], settings: Mapping[str, dict[str, Any]], y: str) -> RunTable:
    """Only the runs every law can use: criteria on different points cannot be compared."""
    keep = np.ones(len(table), dtype=bool)
    for law in laws:
        try:
            used = gather(law, table, y, **settings[law.name]).frame["run"]
        except ValueError:
            continue  # this law will fail, and say why, when it is fitted
        keep &= table.frame["run"].isin(used).to_numpy()
    return table.where(keep) if keep.any() else table


def _row(law: Law, fitted: Fit, scores: dict[str, float]) -> dict[str, Any]:
    n, k = fitted.n_runs, len(fitted.problem.free) + 1
    ll = fitted.log_likelihood
    aicc = 2 * k - 2 * ll + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf
    notes = [] if fitted.diagnostics.converged else ["did not converge"]
    if fitted.diagnostics.unidentified:
        notes.append(f"not identified: {', '.join(fitted.diagnostics.unidentified)}")
    return {
        "law": law.name,
        "title": law.title,
        "parameters": k - 1,
        "objective": fitted.value,
        "log_likelihood": ll,
        "aicc": aicc,
        "bic": k * np.log(n) - 2 * ll,
        "cv_error": cross_validate(fitted),
        "heldout_error": scores.get("mean_abs_error", np.nan),
        "heldout_bias": scores.get("bias", np.nan),
        "heldout_coverage": scores.get("coverage", np.nan),
        "note": "; ".join(notes),
    }
