"""The fit card: everything a reader needs before believing a fit, and what nobody has stated.

The items follow the reproduction checklist of Li, Kudugunta and Zettlemoyer 2025, "(Mis)Fitting: A
Survey of Scaling Laws" (arXiv 2502.18969), in our words. What the program knows it fills in; what only
the people who trained the runs know is taken from ``runs.attributes`` (`RunTable.with_attributes`), and
what is missing is printed as missing.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.units import axis_title, human

if TYPE_CHECKING:
    from workbench.fits.result import Fit

__all__ = ["QUESTIONS", "Card", "card"]

NOT_STATED = "not stated"

#: What only the people who trained the runs can say: attribute name -> question.
QUESTIONS = {
    "training_data": "Which data were the models trained on, and was any of it repeated?",
    "parameter_count": "Are parameters counted with or without embeddings?",
    "flop_count": "Is compute measured, counted exactly, or 6ND?",
    "architecture": "Which architecture, and does its shape change with scale?",
    "hyperparameters": "How were learning rate and batch size chosen, and do they change with scale?",
    "schedule": "Which learning-rate schedule, and does it end with each run?",
    "checkpoints": "Are the points final losses, or checkpoints of longer runs?",
    "metric": "On which data and how is the loss measured?",
    "hardware": "On which hardware and in which precision?",
    "released": "Are training code, checkpoints and raw points released?",
}


@dataclass(frozen=True)
class Card:
    """A filled-in card.

    Attributes:
        title: law and data in one line.
        formula: LaTeX.
        parameters: one row a parameter: estimate and an interval per method.
        sections: section -> list of ``(item, value)``.
        warnings: what to know before using a number.
    """

    title: str
    formula: str
    parameters: pd.DataFrame
    sections: dict[str, list[tuple[str, str]]]
    warnings: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """Items nobody has stated."""
        return [item for rows in self.sections.values() for item, value in rows if value == NOT_STATED]

    def ask(self) -> str:
        """The call that answers what nobody has stated, to be filled in once; empty if nothing is missing."""
        keys = [key for key, question in QUESTIONS.items() if question in self.missing]
        lines = [f'    {key}="...",  # {QUESTIONS[key]}' for key in keys]
        return "\n".join(["runs = runs.state(", *lines, ")"]) if keys else ""

    def to_dict(self) -> dict:
        """The card as JSON types."""
        return {
            "title": self.title,
            "formula": self.formula,
            "parameters": self.parameters.rename_axis("symbol").reset_index().to_dict(orient="records"),
            "sections": {s: dict(rows) for s, rows in self.sections.items()},
            "warnings": list(self.warnings),
            "missing": self.missing,
        }

    def __repr__(self) -> str:
        lines = [self.title, f"  L = {self.formula}", "", self.parameters.to_string(), ""]
        lines += [f"! {w}" for w in self.warnings]
        for section, rows in self.sections.items():
            lines.append(section)
            lines += [f"  {item}: {value}" for item, value in rows]
        if self.missing:
            lines += ["", "State what is missing once, and it is kept beside the runs:", self.ask()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.parameters.to_html(escape=True, border=0)
        warnings = "".join(f"<li>⚠ {escape(w)}</li>" for w in self.warnings)
        sections = ""
        for section, rows in self.sections.items():
            cells = "".join(
                f"<tr><td style='text-align:left;opacity:.7'>{escape(i)}</td>"
                f"<td style='text-align:left{';font-style:italic' if v == NOT_STATED else ''}'>{escape(v)}</td></tr>"
                for i, v in rows
            )
            missing = sum(v == NOT_STATED for _, v in rows)
            note = f" — {missing} not stated" if missing else ""
            sections += f"<details><summary>{escape(section)}{note}</summary><table>{cells}</table></details>"
        if self.missing:
            sections += (
                "<details><summary>State what is missing once, and it is kept beside the runs</summary>"
                f"<pre>{escape(self.ask())}</pre></details>"
            )
        return (
            f"<div class='wb-card'><b>{escape(self.title)}</b><div>$L = {escape(self.formula)}$</div>{table}"
            f"<ul style='list-style:none;padding-left:0'>{warnings}</ul>{sections}</div>"
        )


def card(
    fit: Fit, methods: tuple[str, ...] = ("recommended", "bootstrap", "profile", "jacobian"), level: float = 0.95
) -> Card:
    """The card of `fit`.

    Args:
        fit: the fit.
        methods: interval methods to show side by side; the recommended one comes first, under its own name.
        level: nominal coverage.
    """
    return Card(
        title=f"{fit.law.title}: {fit.points.target} of {fit.n_runs} runs",
        formula=fit.law.latex,
        parameters=_parameters(fit, methods, level),
        sections={
            "Hypothesis": _hypothesis(fit),
            "Training setup": [(q, str(fit.runs.attributes.get(k, NOT_STATED))) for k, q in QUESTIONS.items()],
            "Data": _data(fit),
            "Fitting": _fitting(fit),
        },
        warnings=fit.diagnostics.warnings,
    )


def _parameters(fit: Fit, methods: tuple[str, ...], level: float) -> pd.DataFrame:
    out = pd.DataFrame(index=pd.Index(fit.law.symbols, name=""))
    chosen = fit.recommended.method
    # Each method once, in the order given, the recommended one by its own name.
    for method in dict.fromkeys(chosen if m == "recommended" else m for m in methods):
        table = fit.intervals(method, level)
        if "estimate" not in out:
            out["estimate"] = [f"{v:.5g}" for v in table["estimate"]]
        out[f"{level:.0%} {method}"] = [_interval(row) for row in table.itertuples()]
        notes = table["note"]
    out["note"] = notes
    return out


def _interval(row) -> str:
    if row.note == "fixed":
        return "fixed"
    if not row.identified:
        return "not identified" if row.note and "degrees" not in row.note else "—"
    return f"{row.low:.4g} – {row.high:.4g}"


def _hypothesis(fit: Fit) -> list[tuple[str, str]]:
    rows = [("Form", fit.law.latex), ("Source", fit.law.reference)]
    rows += [(f"Input {symbol}", axis_title(column)) for symbol, column in fit.points.columns.items()]
    held = [f"{s} = {v:g}" for s, v in fit.problem.fixed.items()] + [f"{s} = {o}" for s, o in fit.problem.tied.items()]
    rows.append(("Free parameters", ", ".join(fit.problem.free_symbols) or "none"))
    rows.append(("Fixed or tied", ", ".join(held) or "none"))
    return rows


def _data(fit: Fit) -> list[tuple[str, str]]:
    p = fit.points
    rows = [("Runs fitted", str(fit.n_runs)), ("Filter", fit.where or "none")]
    shown = list(dict.fromkeys([*p.columns.values(), "params", "tokens", "flops", "tokens_per_param", p.target]))
    for column in shown:
        if column in p.frame and pd.api.types.is_numeric_dtype(p.frame[column]):
            values = p.frame[column].to_numpy(float)
            values = values[np.isfinite(values)]
            if values.size:
                note = fit.runs.notes.get(column, "")
                span = human(values.min()) if np.ptp(values) == 0 else f"{human(values.min())} to {human(values.max())}"
                rows.append((axis_title(column), span + (f" ({note})" if note else "")))
    reasons = Counter(p.left_out.values())
    left = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(5))
    rows.append(("Left out", f"{len(p.left_out)} ({left})" if left else "none"))
    if "seed" in p.frame:
        rows.append(("Seeds", str(p.frame["seed"].nunique())))
    rows.append(("Fingerprint of the points", _fingerprint(fit)))
    return rows


def _fingerprint(fit: Fit) -> str:
    """Hash of the numbers fitted, so that two cards can be seen to speak of the same points."""
    stacked = np.stack([*fit.points.x.values(), fit.points.y, fit.points.weights])
    return hashlib.sha256(np.ascontiguousarray(stacked).tobytes()).hexdigest()[:12]


def _fitting(fit: Fit) -> list[tuple[str, str]]:
    from workbench import __version__

    d, objective = fit.diagnostics, fit.problem.objective
    rows = [
        ("Objective", objective.name + (f", delta = {objective.delta:g}" if objective.shape == "huber" else "")),
        ("Space", "logarithm of the loss" if objective.in_logs else "the loss itself"),
        ("Value", f"{fit.value:.6g}, summed over runs"),
        ("Weights", "equal" if np.ptp(fit.points.weights) == 0 else "given, one per run"),
        ("Optimizer", "damped Newton on the robust objective, exact derivatives, no grid"),
        ("Resampled", _resampled(fit)),
        ("Recommended interval", f"{fit.recommended.method}: {fit.recommended.why}"),
        ("Starts", f"{d.starts} screened, {d.walked} walked, {d.agreeing} reached the best optimum (seed {fit.seed})"),
        # Powers of ten: the digits of a gradient that is zero to rounding differ from machine to machine.
        ("Converged", f"{'yes' if d.converged else 'no'}, gradient below {_power_of_ten(max(d.gradient, 1e-6))}"),
        ("Condition of the Jacobian", f"below {_power_of_ten(d.condition)}"),
        ("Degrees of freedom", str(fit.degrees)),
        ("Workbench", __version__),
    ]
    return rows


def _resampled(fit: Fit) -> str:
    by = f"by {fit.points.grouped_by}" if fit.points.grouped_by else "run by run"
    return by + (f", within {fit.points.stratified_by}" if fit.points.stratified_by else "")


def _power_of_ten(value: float) -> str:
    return f"1e{math.ceil(math.log10(value) - 1e-9)}" if np.isfinite(value) and value > 0 else "infinity"
