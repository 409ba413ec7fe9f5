"""`replicates`: which recipe is better, judged by seeds, and how many more seeds would tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from workbench.analysis.outcome import Outcome, probable, rounded, strict
from workbench.analysis.pairwise import CORRECTIONS, corrected, pair, seeds_needed
from workbench.fits.points import check_target
from workbench.late import late
from workbench.runs.load import load

__all__ = ["CORRECTIONS", "Replicates", "replicates", "seeds_needed"]

#: Below this many seeds a standard deviation is hardly known, and more than a small p is asked for.
FEW = 5


@dataclass(frozen=True, repr=False)
class Replicates(Outcome):
    """Recipes with seed replicates.

    Attributes:
        frame: one row a recipe, best mean first: ``recipe``, ``n``, ``mean``, ``sd`` (of one run), ``low``,
            ``high`` (t interval of the mean), ``letters`` (recipes that share a letter cannot be told apart).
        pairs: one row a pair, ``better`` and ``worse`` by their means: ``difference`` of the means (by how much
            the one is better, so never negative), ``low``, ``high`` (simultaneous), ``t``, ``degrees``, ``p``
            (uncorrected), ``p_adjusted``, ``supported``, ``more_seeds`` (of each recipe, for the power asked; 0
            where supported, NaN where unknown), ``note``.
        runs: one row a run that counted: ``recipe``, ``run``, ``value``.
        left_out: run id -> why it did not count.
        y: the compared column.
        by: the column that names the recipe.
        better: ``lower`` or ``higher``.
        correction: one of `CORRECTIONS`.
        level: nominal coverage; 1 - level is the familywise size of the tests.
        power: of the test that `more_seeds` asks for.
    """

    frame: pd.DataFrame
    pairs: pd.DataFrame
    runs: pd.DataFrame
    left_out: dict[str, str]
    y: str
    by: str
    better: str
    correction: str
    level: float
    power: float

    plot = late("workbench.figures.replicates:replicates", "A dot a seed, means with intervals, recipes sorted.")

    @property
    def wins(self) -> list[tuple[str, str]]:
        """Every supported ``(better, worse)``: a partial order, best first."""
        good = self.pairs[self.pairs["supported"]]
        return list(zip(good["better"], good["worse"], strict=True))

    @property
    def winner(self) -> str | None:
        """The recipe that beats every other with support, or None."""
        beaten = {a: {w for b, w in self.wins if b == a} for a in self.frame["recipe"]}
        others = set(self.frame["recipe"])
        return next((a for a, worse in beaten.items() if worse == others - {a}), None)

    @property
    def verdict(self) -> str:
        """One sentence: who beats whom, who cannot be told apart, and what it would take."""
        beats: dict[str, list[str]] = {}
        for a, b in self.wins:
            beats.setdefault(a, []).append(b)
        parts = [f"{a} beats {_and(b)}" for a, b in beats.items()]
        open_pairs = self.pairs[~self.pairs["supported"]]
        tail = "."
        if len(open_pairs):
            first = open_pairs.iloc[0]
            rest = f" and {len(open_pairs) - 1} more pair{'s' if len(open_pairs) > 2 else ''}" * (len(open_pairs) > 1)
            parts.append(f"cannot tell {first['better']} from {first['worse']}{rest}")
            tail = f": {self._hint(first)}."
        text = "; ".join(parts) + tail
        return text[0].upper() + text[1:] if text.startswith("cannot") else text

    def table(self, digits: int = 3) -> pd.DataFrame:
        """One row a recipe, means rounded to where the spread begins to matter."""
        f = self.frame
        sd = f["sd"].to_numpy(float)
        known = sd[np.isfinite(sd) & (sd > 0)]
        places = int(np.clip(digits - 1 - np.floor(np.log10(known.min())), 0, 12)) if known.size else 4
        out = pd.DataFrame({self.by: f["recipe"], "seeds": f["n"]})
        out["mean"] = [f"{v:.{places}f}" for v in f["mean"]]
        out[f"{self.level:.0%} interval"] = [
            "—" if not np.isfinite(lo) else f"{lo:.{places}f} to {hi:.{places}f}"
            for lo, hi in zip(f["low"], f["high"], strict=True)
        ]
        out["spread of one run"] = [rounded(v, 2) for v in sd]
        out["letters"] = f["letters"]
        return out

    def pair_table(self, digits: int = 2) -> pd.DataFrame:
        """One row a pair: difference, interval, corrected p, and what can be said."""
        p = self.pairs
        out = pd.DataFrame({"better": p["better"], "worse": p["worse"]})
        out["difference"] = [rounded(v, digits) for v in p["difference"]]
        out[f"{self.level:.0%} interval"] = [
            "—" if not np.isfinite(lo) else f"{rounded(lo, digits)} to {rounded(hi, digits)}"
            for lo, hi in zip(p["low"], p["high"], strict=True)
        ]
        out[f"p ({self.correction})"] = [probable(v, 10_000) for v in p["p_adjusted"]]
        out["verdict"] = [
            f"{row['better']} beats {row['worse']}" if row["supported"] else f"cannot tell: {self._hint(row)}"
            for _, row in p.iterrows()
        ]
        return out

    def to_dict(self) -> dict:
        """The answer as strict JSON types."""
        return strict(
            {
                "y": self.y,
                "by": self.by,
                "better": self.better,
                "correction": self.correction,
                "level": self.level,
                "power": self.power,
                "winner": self.winner,
                "verdict": self.verdict,
                "recipes": self.frame,
                "pairs": self.pairs,
                "left_out": dict(list(self.left_out.items())[:50]),
            }
        )

    def _hint(self, row: pd.Series) -> str:
        if row["note"]:
            return row["note"]
        more = row["more_seeds"]
        if not np.isfinite(more):
            return "no number of seeds would tell a difference this small"
        seeds = "seed" if more == 1 else "seeds"
        return f"with {more:.0f} more {seeds} of each it could, if the difference is as seen (power {self.power:g})"


def replicates(
    runs: Any,
    by: str = "recipe",
    y: str = "loss",
    *,
    better: str = "lower",
    correction: str = "games-howell",
    groups: Sequence[Any] | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> Replicates:
    """Compare recipes by their seed replicates.

    Means are compared pair by pair without assuming equal spread (Welch 1947), corrected for the number of
    pairs. A pair with fewer than 5 seeds on a side, where a standard deviation is hardly known, also needs
    intervals of the two means that do not overlap. What is not supported is "cannot tell", with the number of
    further seeds of each recipe for which the corrected test would find a true difference as large as the one
    seen, spreads as seen, with the power asked (noncentral t).

    Args:
        runs: a table of runs, one a seed, or anything `workbench.load` takes.
        by: column that names the recipe.
        y: column to compare. Runs without a finite value are left out and listed: if they diverged, the
            means are those of the runs that did not.
        better: whether ``lower`` or ``higher`` is better.
        correction: ``games-howell``: studentized range with Welch's degrees (Games and Howell 1976);
            ``holm``: Welch's t with Holm's steps (Holm 1979; its intervals are Bonferroni's); ``tukey``:
            one spread pooled over all recipes (Tukey and Kramer), which needs equal spread and then gets by
            with two seeds.
        groups: the recipes to compare; default all.
        level: nominal coverage of the intervals; 1 - level is the familywise size.
        power: wanted of a repeated experiment.

    Returns:
        A `Replicates`.

    Raises:
        ValueError: no such column, or fewer than two recipes with a value.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"no correction is called {correction!r}; choose one of {', '.join(CORRECTIONS)}")
    if better not in ("lower", "higher"):
        raise ValueError(f"better is {better!r}; say whether 'lower' or 'higher' values are better")
    for name, value in (("level", level), ("power", power)):
        if not (isinstance(value, int | float) and 0 < value < 1):
            raise ValueError(
                f"{name} is {value!r}; it lies between 0 and 1, such as {0.95 if name == 'level' else 0.8}"
            )
    samples, rows, left_out = _samples(runs, by, y, groups)
    sign = 1.0 if better == "lower" else -1.0
    order = sorted(samples, key=lambda g: sign * samples[g].mean())
    n = np.array([samples[g].size for g in order])
    mean = np.array([samples[g].mean() for g in order])
    own = np.array([samples[g].std(ddof=1) if samples[g].size > 1 else np.nan for g in order])
    spread, degrees = own, n - 1.0
    if correction == "tukey":
        total = (n - 1).sum()
        pooled = np.sqrt(np.nansum((n - 1) * np.nan_to_num(own) ** 2) / total) if total else np.nan
        spread, degrees = np.full(len(order), pooled), np.full(len(order), float(total))
    with np.errstate(all="ignore"):
        reach = stats.t.ppf(0.5 + level / 2, np.maximum(degrees, 1)) * spread / np.sqrt(n)
    usable = np.isfinite(spread) & (degrees >= 1)
    reach = np.where(usable, reach, np.nan)
    frame = pd.DataFrame({"recipe": order, "n": n, "mean": mean, "sd": own, "low": mean - reach, "high": mean + reach})
    pairs = pd.DataFrame(
        [
            pair(order[i], order[k], sign * (mean[k] - mean[i]), spread[[i, k]], n[[i, k]], degrees[[i, k]], correction)
            for i, k in combinations(range(len(order)), 2)
        ]
    )
    pairs = corrected(pairs, len(order), correction, level)
    by_name = frame.set_index("recipe")
    apart = np.array(
        [
            by_name["high" if sign > 0 else "low"][a] * sign < by_name["low" if sign > 0 else "high"][b] * sign
            for a, b in zip(pairs["better"], pairs["worse"], strict=True)
        ],
        dtype=bool,
    )
    few = pairs["fewest"].to_numpy() < FEW
    below = (pairs["p_adjusted"] < 1 - level).to_numpy() & (pairs["difference"] > 0).to_numpy()
    pairs["supported"] = below & (apart | ~few | (correction == "tukey"))
    doubtful = below & ~pairs["supported"].to_numpy()
    wary = f"the test is significant, but fewer than {FEW} seeds with overlapping intervals do not carry a winner"
    pairs.loc[doubtful, "note"] = wary
    pairs["more_seeds"] = [
        0.0 if row.supported else seeds_needed(row.difference, row.spreads, row.sizes, row.alpha, power, row.rest)
        for row in pairs.itertuples()
    ]
    frame["letters"] = _letters(order, pairs)
    columns = ["better", "worse", "difference", "low", "high", "t", "degrees", "p", "p_adjusted", "supported"]
    pairs = pairs[[*columns, "more_seeds", "note"]]
    return Replicates(frame, pairs, rows, left_out, y, by, better, correction, float(level), float(power))


def _samples(runs: Any, by: str, y: str, groups: Sequence[Any] | None):
    table = load(runs)
    check_target(table, y)
    if by not in table:
        raise ValueError(f"there is no column {by!r} to compare by; this table has {', '.join(table.frame.columns)}")
    frame = table.frame
    value = frame[y].to_numpy(float)
    named = frame[by].notna().to_numpy()
    label = frame[by].astype(str).to_numpy()
    left_out = {}
    for run, problem, v, known in zip(frame["run"], frame["problem"], value, named, strict=True):
        if not known:
            left_out[str(run)] = f"{by} is missing"
        elif not np.isfinite(v):
            left_out[str(run)] = f"{y} is missing or not finite"
        elif problem:
            left_out[str(run)] = f"marked: {problem}"
    keep = ~frame["run"].astype(str).isin(left_out).to_numpy()
    wanted = sorted(set(label[keep])) if groups is None else [str(g) for g in groups]
    samples = {g: value[keep & (label == g)] for g in wanted}
    missing = [g for g, v in samples.items() if not v.size]
    if missing:
        raise ValueError(f"{by!r} has no run with {y} for {missing[0]!r}; it has {', '.join(sorted(set(label[keep])))}")
    if len(samples) < 2:
        raise ValueError(
            f"{by!r} names {len(samples)} recipe{'s' if len(samples) != 1 else ''} with a value of {y}; comparing "
            "takes at least two"
        )
    chosen = keep & np.isin(label, wanted)
    rows = pd.DataFrame({"recipe": label[chosen], "run": frame["run"][chosen].astype(str), "value": value[chosen]})
    return samples, rows.reset_index(drop=True), left_out


def _letters(order: list[str], pairs: pd.DataFrame) -> list[str]:
    """Compact letter display by insertion and absorption (Piepho 2004, doi 10.1198/1061860043515).

    Two recipes share a letter exactly if no difference between them is supported.
    """
    columns = [frozenset(order)]
    for a, b in pairs.loc[pairs["supported"], ["better", "worse"]].itertuples(index=False):
        split = []
        for column in columns:
            split += [column - {a}, column - {b}] if {a, b} <= column else [column]
        columns = [c for c in dict.fromkeys(split) if not any(c < other for other in split)]
    position = {g: i for i, g in enumerate(order)}
    columns.sort(key=lambda c: sorted(position[g] for g in c))
    names = [chr(ord("a") + i) if i < 26 else f"a{i}" for i in range(len(columns))]
    return ["".join(name for name, c in zip(names, columns, strict=True) if g in c) for g in order]


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
