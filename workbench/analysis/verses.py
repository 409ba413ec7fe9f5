"""`Multiverse`: what all analyses together say, and which choice made the difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from workbench.analysis.choices import DIMENSIONS, Specification
from workbench.analysis.conclusions import Question
from workbench.analysis.spread import closed_share, filled, shares
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.late import late
from workbench.units import human

__all__ = ["Multiverse", "rounding"]

#: The decisions named in the verdict explain at least this share of the spread, if three of them can.
NAMED = 0.75


@dataclass(frozen=True, repr=False)
class Multiverse:
    """One question, answered by every combination of choices.

    Attributes:
        frame: one row an analysis, the default one first: the option taken in each dimension, then
            ``estimate`` (the conclusion), ``low`` and ``high`` (NaN without resamples), ``objective_value``,
            ``n_runs``, ``note`` (why it is not to be believed, else empty), ``default`` and ``counted``:
            whether it enters the distribution, which takes an estimate and an empty note.
        question: what was asked.
        specs: the analyses, in the order of the rows.
        dimensions: dimension -> its options, the default one first.
        skipped: dimension -> why it was not varied.
        fit: the fit that all analyses vary.
        n: resamples behind each interval; the default analysis has one even if this is 0.
        level: nominal coverage.
        theta: ``[S, P]`` parameters of each analysis in the order of the rows, NaN where nothing was fitted;
            None where an analysis is more than one fit.
    """

    frame: pd.DataFrame
    question: Question
    specs: tuple[Specification, ...]
    dimensions: dict[str, tuple[str, ...]]
    skipped: dict[str, str]
    fit: Fit
    n: int
    level: float
    theta: np.ndarray | None = None

    panel = late("workbench.panels.multiverse:panel", "An interactive panel on these analyses.")
    plot = late(
        "workbench.figures.multiverse:multiverse", "Every analysis' answer, sorted, above the choices behind it."
    )

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def varied(self) -> list[str]:
        """The dimensions with more than one option."""
        return [d for d, options in self.dimensions.items() if len(options) > 1]

    @property
    def estimates(self) -> np.ndarray:
        """The conclusions that count."""
        return self.frame["estimate"].to_numpy(float)[self.frame["counted"].to_numpy(bool)]

    @property
    def default(self) -> pd.Series:
        """The row of the default analysis."""
        return self.frame.iloc[0]

    @cached_property
    def in_logs(self) -> bool:
        """Whether answers are compared by ratio: all are positive."""
        return bool(self.estimates.size and (self.estimates > 0).all())

    def summary(self, below: float | None = None, above: float | None = None) -> pd.Series:
        """The distribution of the conclusion over the analyses that count, each with equal weight.

        Args:
            below, above: thresholds; the share of analyses whose conclusion lies strictly beyond each is
                added.

        Returns:
            ``analyses``, ``counted``, ``median``, ``q05``, ``q25``, ``q75``, ``q95``, ``min``, ``max``,
            ``default`` with ``default_low`` and ``default_high``, ``inside``: the share of analyses within
            the default one's interval, and ``share_below``, ``share_above`` if asked for.
        """
        values = self.estimates
        points = np.percentile(values, [50, 5, 25, 75, 95, 0, 100]) if values.size else np.full(7, np.nan)
        low, high = float(self.default["low"]), float(self.default["high"])
        inside = float(((values >= low) & (values <= high)).mean()) if values.size and np.isfinite(low) else np.nan
        out = {"analyses": len(self), "counted": values.size}
        out |= dict(zip(("median", "q05", "q25", "q75", "q95", "min", "max"), map(float, points), strict=True))
        out |= {"default": float(self.default["estimate"]), "default_low": low, "default_high": high, "inside": inside}
        if below is not None:
            out["share_below"] = float((values < below).mean()) if values.size else np.nan
        if above is not None:
            out["share_above"] = float((values > above).mean()) if values.size else np.nan
        return pd.Series(out, name=self.question.text)

    @cached_property
    def _shares(self) -> tuple[pd.DataFrame, int]:
        """Shares of every set of dimensions, and how many analyses were filled in."""
        names = self.varied
        values = np.where(self.frame["counted"], self.frame["estimate"], np.nan).astype(float)
        if self.in_logs:
            with np.errstate(all="ignore"):
                values = np.log(values)
        grid = values.reshape([len(self.dimensions[d]) for d in self.dimensions])
        grid = grid.reshape([len(self.dimensions[d]) for d in names] or [1])
        # An option under which nothing could be concluded cannot be compared with the others.
        for axis in range(grid.ndim):
            known = np.isfinite(grid).any(axis=tuple(a for a in range(grid.ndim) if a != axis))
            grid = np.compress(known, grid, axis=axis) if known.any() else grid
        if not names or not np.isfinite(grid).any():
            return pd.DataFrame(columns=["dimensions", "order", "share", "total"]), 0
        return shares(filled(grid), names), int((~np.isfinite(grid)).sum())

    def moves(self) -> pd.DataFrame:
        """Which choices move the conclusion: its variance over the analyses, split among dimensions.

        The variance is of the logarithm where all answers are positive. Analyses that do not count are
        filled in by main effects, so that the split stays exact; the verdict says how many they are.

        Returns:
            One row a dimension and one a pair, largest first, then ``three or more together``: ``share`` of
            the variance (they add up to 1), ``total`` for dimensions (the share of everything it takes
            part in), ``lowest`` and ``highest`` option, with the mean conclusion ``at_lowest`` and
            ``at_highest`` (the geometric mean in logs).
        """
        table, _ = self._shares
        counted = self.frame[self.frame["counted"]]
        rows = []
        for found in table[table["order"] <= 2].itertuples():
            row = {"moves": " × ".join(found.dimensions), "order": found.order, "share": found.share}
            row |= {"total": found.total, "lowest": "", "at_lowest": np.nan, "highest": "", "at_highest": np.nan}
            if found.order == 1:
                values = np.log(counted["estimate"]) if self.in_logs else counted["estimate"]
                means = values.groupby(counted[found.dimensions[0]], sort=False).mean()
                means = np.exp(means) if self.in_logs else means
                row |= {"lowest": means.idxmin(), "at_lowest": float(means.min())}
                row |= {"highest": means.idxmax(), "at_highest": float(means.max())}
            rows.append(row)
        columns = ["moves", "order", "share", "total", "lowest", "at_lowest", "highest", "at_highest"]
        out = pd.DataFrame(rows, columns=columns).sort_values(["order", "share"], ascending=[True, False])
        higher = float(table["share"][table["order"] > 2].sum())
        if (table["order"] > 2).any():
            out.loc[len(out)] = ["three or more together", 3, higher, np.nan, "", np.nan, "", np.nan]
        return out.reset_index(drop=True)

    def alone(self) -> pd.DataFrame:
        """What each option does on its own: the default analysis with that one choice changed.

        Returns:
            One row an option, the largest change first: ``dimension``, ``option``, ``estimate``, ``low``,
            ``high``, ``n_runs``, and ``change``: the ratio to the default's answer, or the difference where
            answers need not be positive.
        """
        names, default = list(self.dimensions), self.default
        other = self.frame[names].ne(default[names]).sum(axis=1) == 1
        rows = self.frame[other & self.frame["counted"]]
        changed = rows[names].ne(default[names]).idxmax(axis=1) if len(rows) else pd.Series(dtype=object)
        out = pd.DataFrame(
            {
                "dimension": changed.to_numpy(),
                "option": [rows.loc[i, d] for i, d in changed.items()],
                **{c: rows[c].to_numpy() for c in ("estimate", "low", "high", "n_runs")},
            }
        )
        base = float(default["estimate"])
        out["change"] = out["estimate"] / base if self.in_logs else out["estimate"] - base
        with np.errstate(all="ignore"):
            size = np.abs(np.log(out["change"].astype(float))) if self.in_logs else out["change"].abs()
        return out.iloc[np.argsort(-size.to_numpy(float), kind="stable")].reset_index(drop=True)

    @property
    def one_by_one(self) -> str:
        """What each decision does on its own, in a sentence; empty if none moves the answer by a twentieth."""
        alone = self.alone()
        if not len(alone) or not self.default["counted"]:
            return ""
        scale = np.log(1.05) if self.in_logs else 0.05 * abs(float(self.default["estimate"]))
        size = np.abs(np.log(alone["change"].astype(float))) if self.in_logs else alone["change"].abs()
        alone = alone[size > scale]
        number = rounding(float(self.estimates.min()), float(self.estimates.max()))
        parts = []
        for dimension, rows in alone.groupby("dimension", sort=False):
            said = ", ".join(f"{number(r.estimate)} ({r.option})" for r in rows.head(3).itertuples())
            parts.append(f"the {DIMENSIONS.get(dimension, dimension)} {said}")
        if not parts:
            return ""
        return (
            f"Changed alone, each takes the default's {number(float(self.default['estimate']))} to: {'; '.join(parts)}."
        )

    @cached_property
    def deciding(self) -> tuple[list[str], float]:
        """The fewest dimensions that explain three quarters of the spread (at most three), and what they explain."""
        table, _ = self._shares
        best: list[str] = []
        share = 0.0
        while len(best) < 3 and share < NAMED:
            rest = [d for d in self.varied if d not in best]
            if not rest or not len(table):
                break
            # By what it takes part in: two choices may matter only together.
            gain = {d: closed_share(table, {*best, d}) for d in rest}
            if max(gain.values()) - share < 1e-9:
                break
            best.append(max(gain, key=gain.get))
            share = gain[best[-1]]
        return best, share

    @property
    def verdict(self) -> str:
        """What a cautious person would sign, in a sentence or three."""
        s = self.summary()
        if not s["counted"]:
            return f"None of {len(self)} analyses gives an answer to {self.question.text} that is to be believed."
        what = self.question.text
        number = rounding(s["min"], s["max"])
        text = f"Across {s['counted']:.0f} defensible analyses {what} lies between "
        text += f"{number(s['min'])} and {number(s['max'])} (nine of ten {number(s['q05'])}–{number(s['q95'])}, "
        text += f"middle half {number(s['q25'])}–{number(s['q75'])})"
        names, share = self.deciding
        if names and s["max"] > s["min"]:
            words = [f"the {DIMENSIONS.get(d, d)}" for d in names]
            listed = words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"
            text += f"; {listed} {'explain' if len(words) > 1 else 'explains'} {share:.0%} of the spread"
        if not self.default["counted"]:
            text += f"; the default analysis is not to be believed: {self.default['note']}"
        elif np.isfinite(s["inside"]):
            only = "only " if s["inside"] < self.level - 0.1 else ""
            text += (
                f"; the ordinary {self.level:.0%} interval of the default analysis, "
                f"{number(s['default_low'])}–{number(s['default_high'])}, covers {only}{s['inside']:.0%} of them"
            )
        left = len(self) - int(s["counted"])
        text += f"; {left} more are left out because they could not settle their own parameters" if left else ""
        return text + "."

    def refit(self, row: int) -> Fit:
        """One analysis done again by `workbench.fit`, from scratch.

        Raises:
            ValueError: there is no such row, or the analysis cannot be fitted.
        """
        from workbench.analysis.multiverse import spec_points

        if not 0 <= row < len(self):
            raise ValueError(f"row is {row!r}; this multiverse has rows 0 to {len(self) - 1}")
        spec = self.specs[row]
        table, inputs = spec_points(self.fit, spec)
        problem = self.fit.problem
        return fit(
            table,
            self.fit.law,
            y=self.fit.points.target,
            inputs=inputs,
            weights="weight_of_point",
            fixed={**problem.fixed, **spec.pairs("fixed")},
            tied={**problem.tied, **spec.pairs("tied")},
            objective=spec.one("objective", problem.objective),
            cluster="cluster_of_point",
            seed=self.fit.seed,
        )

    def table(self, digits: int = 3) -> pd.DataFrame:
        """`moves` for reading: shares in percent, the two extreme options of each dimension."""
        moves = self.moves()
        out = pd.DataFrame(
            {"choice": [" × ".join(DIMENSIONS.get(d, d) for d in m.split(" × ")) for m in moves["moves"]]}
        )
        out["explains"] = [f"{v:.0%}" for v in moves["share"]]
        out["with interactions"] = ["—" if np.isnan(v) else f"{v:.0%}" for v in moves["total"]]
        for side in ("lowest", "highest"):
            pairs = zip(moves[side], moves[f"at_{side}"], strict=True)
            out[side] = [f"{human(v, digits)} ({option})" if option else "—" for option, v in pairs]
        return out

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON types: question, verdict, summary, moves, dimensions, what was skipped, one entry an analysis."""
        return {
            "question": self.question.text,
            "chosen": self.question.why or None,
            "verdict": self.verdict,
            "law": self.fit.law.name,
            "n": self.n,
            "level": self.level,
            "summary": {k: _plain(v) for k, v in self.summary().items()},
            "dimensions": {d: list(o) for d, o in self.dimensions.items()},
            "skipped": dict(self.skipped),
            "alone": [{k: _plain(v) for k, v in row.items()} for row in self.alone().to_dict(orient="records")],
            "moves": [{k: _plain(v) for k, v in row.items()} for row in self.moves().to_dict(orient="records")],
            "analyses": [{k: _plain(v) for k, v in row.items()} for row in self.frame.to_dict(orient="records")],
        }

    def _notes(self) -> list[str]:
        lines = [self.one_by_one] if self.one_by_one else []
        lines += [f"asked {self.question.why}"] if self.question.why else []
        filled_in = self._shares[1]
        if filled_in:
            lines.append(f"{filled_in} of {len(self)} analyses filled in by main effects to split the spread")
        return lines + [f"not varied: {DIMENSIONS.get(d, d)} ({why})" for d, why in self.skipped.items()]

    def __repr__(self) -> str:
        return "\n".join([self.verdict, "", self.table().to_string(index=False), "", *self._notes()]).rstrip()

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, escape=True, border=0)
        notes = "".join(f"<li>{escape(line)}</li>" for line in self._notes())
        caption = f"<figcaption>{escape(self.verdict)}</figcaption>"
        return f"<figure>{caption}{table}{f'<ul>{notes}</ul>' if notes else ''}</figure>"


def rounding(low: float, high: float) -> Callable[[float], str]:
    """Numbers in words, with as many digits as keep the ends of the range apart, and at least two."""
    width = (high - low) / max(abs(low), abs(high)) if high > low else 1.0
    digits = int(np.clip(2 - np.floor(np.log10(width)), 2, 8)) if width < 0.5 else 2
    return lambda value: human(value, digits)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
