"""Groups of runs, each with a label, a colour and a shape."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.style import CATEGORIES, sequence, shapes
from workbench.units import human

__all__ = ["Groups", "group"]

#: More values than this cannot be told apart by colour and shape; they are binned or pooled.
MOST_GROUPS = 12
_BINS = 6


@dataclass(frozen=True)
class Groups:
    """Which group each row belongs to.

    Attributes:
        of: label of each row.
        labels: all labels in the order of the legend.
        colours: one colour a label.
        centres: representative value of each label, for numeric groups; else empty.
        binned: whether a label stands for a range of values.
    """

    of: np.ndarray
    labels: list[str]
    colours: list[str]
    centres: dict[str, float]
    binned: bool

    def colour(self, title: str | None) -> alt.Color:
        """The colour channel of field ``group``; layers that share it must all give the same `title`."""
        return alt.Color("group:N", scale=alt.Scale(domain=self.labels, range=self.colours), legend=self._legend(title))

    def shape(self, title: str | None) -> alt.Shape:
        """The shape channel of field ``group``."""
        scale = alt.Scale(domain=self.labels, range=shapes(len(self.labels)))
        return alt.Shape("group:N", scale=scale, legend=self._legend(title))

    def _legend(self, title: str | None) -> alt.Legend | None:
        return alt.Legend(title=title, symbolOpacity=1) if len(self.labels) > 1 else None


def group(values: pd.Series) -> Groups:
    """Groups of the values of one column.

    Numbers keep their order and run from dark to light; more than twelve are binned into six ranges of
    equal width on a logarithmic scale. Words get distinct colours; beyond the eleventh they are pooled
    as "other".
    """
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return _numbers(values.to_numpy(float))
    words = values.astype(str).to_numpy()
    counted = pd.Series(words).value_counts()
    labels = (
        sorted(counted.index) if len(counted) <= MOST_GROUPS else [*sorted(counted.index[: MOST_GROUPS - 1]), "other"]
    )
    of = np.where(np.isin(words, labels), words, "other")
    colours = list(CATEGORIES) if len(labels) <= len(CATEGORIES) else sequence(len(labels))
    return Groups(of, labels, colours[: len(labels)], {}, False)


def _numbers(values: np.ndarray) -> Groups:
    finite = np.unique(values[np.isfinite(values)])
    if not finite.size:
        return Groups(np.full(values.size, "unknown"), ["unknown"], [CATEGORIES[0]], {}, False)
    if finite.size <= MOST_GROUPS:
        named = dict(zip(finite, _distinct(finite), strict=True))
        of = np.array([named.get(v, "unknown") for v in values])
        centres = {label: float(v) for v, label in named.items()}
        labels, binned = list(named.values()), False
    else:
        of, centres = _bins(values, finite)
        labels, binned = list(centres), True
    if (of == "unknown").any():
        labels = [*labels, "unknown"]
    return Groups(of, labels, sequence(len(labels)), centres, binned)


def _distinct(values: np.ndarray) -> list[str]:
    """Labels with as few digits as keep them apart."""
    for digits in (3, 4, 6, 9, 15):
        labels = [human(float(v), digits) for v in values]
        if len(set(labels)) == len(labels):
            return labels
    return [repr(float(v)) for v in values]


def _bins(values: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    log = finite[0] > 0
    scale = np.log if log else np.asarray
    edges = np.linspace(scale(finite[0]), scale(finite[-1]), _BINS + 1)
    index = np.clip(
        np.searchsorted(edges, scale(np.where(np.isfinite(values), values, finite[0])), side="right") - 1, 0, _BINS - 1
    )
    of = np.full(values.size, "unknown", dtype=object)
    centres = {}
    for k in range(_BINS):
        inside = (index == k) & np.isfinite(values)
        if inside.any():
            low, high = (np.exp(edges[k + i]) if log else edges[k + i] for i in (0, 1))
            label = " – ".join(human(float(f"{edge:.2g}")) for edge in (low, high))
            of[inside] = label
            centres[label] = float(np.exp(np.log(values[inside]).mean()) if log else values[inside].mean())
    return of.astype(str), centres
