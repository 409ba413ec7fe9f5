"""A sweep before it is trained: what is varied, one point for runs that lie at the same place, with its price."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from workbench.figures.axes import scaled
from workbench.figures.data import MOST_ROWS, embed
from workbench.figures.groups import Groups, group
from workbench.figures.style import CATEGORIES, GREY, HEIGHT, WIDTH, title
from workbench.probes.listing import listing
from workbench.probes.sweep import Sweep
from workbench.units import axis_title, human, quantity

if TYPE_CHECKING:
    from workbench.probes.cost import Cost

__all__ = ["axes_of", "sweep_map"]

#: Most points that are written on.
_MOST_WORDS = 40
#: Columns that follow from the size or are no question of the picture.
_SIZES = ("params", "params_non_embedding", "width", "depth", "heads")
_GIVEN = ("run", "bucket", "params_non_embedding")


def sweep_map(
    sweep: Sweep, cost: Cost | None = None, *, x: str | None = None, y: str | None = None, color: str | None = None
) -> alt.LayerChart:
    """What a sweep varies: parameters against tokens where both differ, else the settings that do.

    Runs that share a place are one point, the larger the more there are. Points that would lie on each other and
    differ in colour are moved apart sideways; the subtitle says so. With a price, each point carries its seconds.

    Args:
        sweep: the probes.
        cost: their price, `Sweep.cost`; the seconds of a bucket are shared out evenly among its runs.
        x, y: columns of `workbench.probes.listing.listing`; default what `axes_of` chooses.
        color: such a column to colour by; default another setting that differs.

    Raises:
        ValueError: there is no such column, or the price is of another sweep.
    """
    frame = listing(sweep)
    for name in (x, y, color):
        if name is not None and name not in frame.columns:
            raise ValueError(f"there is no column {name!r} to draw; there are {', '.join(frame.columns)}")
    chosen = axes_of(frame)
    x, y = x or chosen[0], y or chosen[1]
    color = color if color is not None else (chosen[2] if chosen[2] not in (x, y) else None)
    seconds = _seconds(frame, cost)
    groups = group(frame[color]) if color else _one(len(frame))
    points = _points(frame, x, y, groups, seconds)
    moved = _dodge(points, groups) if color and not _words(frame[x]) else False
    heading = axis_title(color) if color else None
    axes = (_axis(alt.X, "x", points, frame, x, "at" if moved else "x"), _axis(alt.Y, "y", points, frame, y, "y"))
    colour, shape = groups.colour(heading), groups.shape(heading)
    tips = [alt.Tooltip("x_text:N", title=quantity(x).meaning), alt.Tooltip("y_text:N", title=quantity(y).meaning)]
    tips += [alt.Tooltip("group:N", title=quantity(color).meaning)] if color else []
    tips += [alt.Tooltip("runs:Q", title="Runs"), alt.Tooltip("flops:N", title="Training compute of all (FLOP)")]
    tips += [alt.Tooltip("price:N", title="Time of all")] if cost is not None else []
    tips += [alt.Tooltip("more:N", title="Differing in")]
    most = int(points["runs"].max())
    drawn = points if len(points) <= MOST_ROWS else points.iloc[np.linspace(0, len(points) - 1, MOST_ROWS).astype(int)]
    base = alt.Chart(embed(drawn))
    sizes = alt.Size(
        "runs:Q", scale=alt.Scale(domain=[1, max(most, 2)], range=[90, 90 if most == 1 else 340]), legend=None
    )
    marks = base.mark_point(filled=True, opacity=0.9).encode(*axes, colour, shape, sizes, tooltip=tips)
    layers = [marks.properties(name="points")]
    worded = cost is not None and len(drawn) <= _MOST_WORDS and not moved
    if worded:
        words = base.mark_text(dy=-14, color=GREY, fontSize=11)
        layers.append(words.encode(*axes, alt.Text("price:N")))
    buckets = int(frame["bucket"].nunique())
    others = [n for n in frame.columns if n not in (*_GIVEN, x, y, color, "flops", "params", "tokens")]
    others = [n for n in others if not (n in _SIZES and "params" in (x, y))]
    others = [n for n in others if not (_words(frame[n]) and (frame[n] == "–").any())]
    return alt.layer(*layers).properties(
        width=WIDTH, height=HEIGHT,
        title=title(
            f"The sweep: {len(sweep)} run{'' if len(sweep) == 1 else 's'}",
            f"{buckets} bucket{'' if buckets == 1 else 's'} of equal shape",
            f"{_flop(frame['flops'].sum())} FLOP in all",
            "" if cost is None else f"about {_time(cost.seconds)} on {cost.machine.device}",
            "labels: time of a point's runs" if worded else "",
            f"up to {most} runs a point (larger), differing in {', '.join(others)}" if most > 1 and others else "",
            "points at one place are moved apart sideways" if moved else "",
            f"{len(drawn)} of {len(points)} points drawn" if len(drawn) < len(points) else "",
        ),
    )  # fmt: skip


def axes_of(frame: pd.DataFrame) -> tuple[str, str, str | None]:
    """Columns for x, y and colour that show best in what the runs of a `listing` differ."""
    differing = [n for n in frame.columns if n not in _GIVEN and n != "flops" and frame[n].nunique() > 1]
    sized = "params" in differing
    settings = [n for n in differing if n not in ("params", "tokens", "seed") and not (sized and n in _SIZES)]
    # a setting that some parts lack differs because the part does
    settings = [n for n in settings if not (_words(frame[n]) and (frame[n] == "–").any())]
    numbers = [n for n in settings if not _words(frame[n])]
    words = sorted((n for n in settings if _words(frame[n])), key=lambda n: n not in ("task", "model", "optimizer"))
    places = [n for n in ("params", "tokens") if n in differing] + numbers
    if not places and words:
        return words[0], next(iter(words[1:]), "flops"), next(iter(words[2:]), None)
    if len(places) < 2:
        places += [n for n in ("params", "tokens") if n not in places] if not places else ["flops"]
    left = [n for n in [*places[2:], *words] if n in settings]
    return places[0], places[1], next(iter(left), None)


def _points(frame: pd.DataFrame, x: str, y: str, groups: Groups, seconds: np.ndarray | None) -> pd.DataFrame:
    """One row a place and group: how many runs, their compute and time, and in what else they differ."""
    places = pd.DataFrame({"x": frame[x], "y": frame[y], "group": groups.of})
    more = [n for n in frame.columns if n not in (*_GIVEN, x, y, "params", "tokens", "flops")]
    rows = []
    for (at, up, label), where in places.groupby(["x", "y", "group"], sort=False).groups.items():
        one = frame.loc[where]
        spread = [f"{n} {_several(one[n])}" for n in more if one[n].nunique() > 1]
        time = "" if seconds is None else _time(float(seconds[where].sum()))
        rows.append(
            {
                "x": at, "y": up, "group": label, "runs": len(one), "price": time,
                "flops": _flop(one["flops"].sum()), "more": "; ".join(spread) or "nothing",
                "x_text": _text(at), "y_text": _text(up),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _dodge(points: pd.DataFrame, groups: Groups) -> bool:
    """Move points of one place and several groups sideways; whether any was."""
    points["at"] = points["x"].astype(float)
    crowded = points.groupby(["x", "y"])["group"].transform("size") > 1
    if not crowded.any():
        return False
    places = np.unique(points["x"].to_numpy(float))
    log = bool((places > 0).all())
    position = np.log(places) if log else places
    room = float(np.diff(position).min()) if len(position) > 1 else (math.log(2) if log else max(abs(position[0]), 1.0))
    order = {label: i for i, label in enumerate(groups.labels)}
    share = points["group"].map(order).to_numpy(float) / max(len(order) - 1, 1) - 0.5
    shift = min(0.16 * (len(order) - 1), 0.6) * room * share
    x = points["x"].to_numpy(float)
    points["at"] = np.where(crowded, x * np.exp(shift) if log else x + shift, x)
    return True


def _axis(channel: type, field: str, points: pd.DataFrame, frame: pd.DataFrame, name: str, drawn: str) -> Any:
    if _words(frame[name]):
        labels = list(dict.fromkeys(frame[name].astype(str)))
        return channel(f"{field}:N", sort=labels, axis=alt.Axis(title=axis_title(name), labelAngle=0))
    values = np.concatenate([points[field].to_numpy(float), points[drawn].to_numpy(float)])
    return scaled(channel, drawn, values, axis_title(name), log=bool((values > 0).all()), pad=0.08)


def _seconds(frame: pd.DataFrame, cost: Cost | None) -> np.ndarray | None:
    """Each run's share of the seconds of its bucket."""
    if cost is None:
        return None
    counts = frame["bucket"].value_counts().sort_index().to_numpy()
    if counts.tolist() != cost.buckets["runs"].tolist():
        raise ValueError("this price is of another sweep; take sweep.cost() of the one that is drawn.")
    return (cost.buckets["seconds"].to_numpy(float) / counts)[frame["bucket"].to_numpy()]


def _one(runs: int) -> Groups:
    return Groups(np.full(runs, "runs"), ["runs"], [CATEGORIES[0]], {}, False)


def _words(values: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(values)


def _several(values: pd.Series) -> str:
    shown = list(dict.fromkeys(values))
    return ", ".join(map(_text, shown[:4])) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def _flop(value: float) -> str:
    """``3.9e10``, as budgets are written."""
    digits, _, power = f"{float(value):.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else human(float(value), 4)


def _time(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 99 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 99 else f"{seconds:.0f} s"
