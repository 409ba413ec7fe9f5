"""Pictures are alike where nobody could see a difference, and only there."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd
import pytest

from workbench.figures.alike import alike, similar
from workbench.figures.render import png

RNG = np.random.default_rng(0)
X = np.linspace(0, 1, 60)
LOW, HIGH = np.sort(RNG.uniform(0, 1, (2, 60)), axis=0)


def drawn(low=LOW, high=HIGH, title="median 4.8122, middle half 4.8082–4.817", width=400, color="#888888"):
    """Sixty thin bars with a point each, as a specification curve has them."""
    frame = pd.DataFrame({"x": X, "low": low, "high": high, "mid": (low + high) / 2})
    base = alt.Chart(frame, width=width, height=200, title=title).encode(alt.X("x"))
    bars = base.mark_rule(color=color).encode(alt.Y("low", scale=alt.Scale(domain=[0, 1])), alt.Y2("high"))
    return png((bars + base.mark_circle(size=20).encode(alt.Y("mid"))).to_dict())


BEFORE = drawn()


def test_a_picture_is_like_itself_and_the_last_digits_do_not_matter():
    assert alike(BEFORE, BEFORE)
    noise = RNG.standard_normal((2, 60))
    for size in (1e-9, 1e-6, 1e-4):  # 1e-4 of the axis is a fiftieth of a pixel
        assert alike(BEFORE, drawn(LOW + size * noise[0], HIGH + size * noise[1])), size


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "median 4.8123, middle half 4.8082–4.817"},
        {"width": 401},
        {"color": "#444444"},
        {"high": np.where(np.arange(60) == 30, HIGH + 0.05, HIGH)},
        {"high": np.where(np.arange(60) == 30, np.nan, HIGH)},
    ],
    ids=["a digit", "a pixel wider", "another colour", "one bar by a twentieth of the axis", "one bar missing"],
)
def test_what_can_be_seen_is_a_difference(changed):
    other = drawn(**changed)
    assert not alike(BEFORE, other) and not alike(other, BEFORE)


def test_pictures_whose_marks_have_moved_a_little_are_similar():
    lower = drawn(LOW - 0.02, HIGH - 0.02)
    assert not alike(BEFORE, lower) and similar(BEFORE, lower) and similar(lower, BEFORE)


@pytest.mark.parametrize(
    "changed",
    [{"width": 420}, {"color": "#222222"}, {"low": LOW[::-1], "high": HIGH[::-1]}, {"low": np.full(60, np.nan)}],
    ids=["a twentieth wider", "another colour", "bars elsewhere", "no bars"],
)
def test_another_picture_is_not_similar(changed):
    assert not similar(BEFORE, drawn(**changed)) and not similar(drawn(**changed), BEFORE)
