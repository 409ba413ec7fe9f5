"""Ticks and their labels, as Vega really draws them."""

import re

import altair as alt
import numpy as np
import pytest
import vl_convert

from workbench import figures
from workbench.figures.axes import linear_ticks, log_ticks, scaled


def drawn_labels(values, log=True):
    """Texts in the SVG of a chart whose only axis is the one under test."""
    x = scaled(alt.X, "x", values, None, log=log)
    chart = alt.Chart(alt.InlineData(values=[{"x": float(v)} for v in values])).mark_point().encode(x)
    svg = vl_convert.vegalite_to_svg(chart.to_dict(), vl_version="6.4")
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_counts_read_as_people_write_them():
    assert {"100", "1k", "100k", "1M"} <= set(drawn_labels([90, 1.2e6]))
    assert {"1B", "10B", "1T"} <= set(drawn_labels([1e9, 1.2e12]))
    assert {"10M", "100M", "1B", "10B"} <= set(drawn_labels([1e7, 2e10]))


def test_an_axis_beyond_1e15_has_powers_throughout():
    assert drawn_labels([1e18, 1e24]) == ["1e18", "1e19", "1e20", "1e21", "1e22", "1e23", "1e24"]
    assert "100T" not in drawn_labels([1e14, 1e18])
    assert "2e18" in drawn_labels([1e18, 1e20])


@pytest.mark.parametrize(("low", "high"), [(2.0, 4.0), (3.1, 3.4), (2.001, 2.004), (1.5, 9.0), (0.8, 1.3)])
def test_losses_within_a_decade_still_have_ticks(low, high):
    labels = drawn_labels([low, high])
    assert 3 <= len(labels) <= 12
    assert all(low * 0.9 <= float(label) <= high * 1.1 for label in labels)


def test_tiny_and_negative_values():
    assert "1e-5" in drawn_labels([1e-6, 1e-2])
    assert {"−1", "0", "1"} <= set(drawn_labels([-1.2, 1.2], log=False))


@pytest.mark.parametrize("span", [1.0001, 1.3, 4, 30, 1e3, 1e6, 1e12, 1e40])
def test_ticks_lie_inside_are_few_and_ascend(span):
    ticks = log_ticks(2.0, 2.0 * span, 6)
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(ticks)
    assert ticks[0] >= 2 * (1 - 1e-9) and ticks[-1] <= 2 * span * (1 + 1e-9)


def test_linear_ticks_are_round():
    assert linear_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert linear_ticks(-0.3, 0.3, 6) == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("values", [[], [np.nan], [5.0], [-1.0, 0.0]])
def test_nothing_to_show_still_gives_an_axis(values):
    for log in (True, False):
        low, high = scaled(alt.X, "x", values, None, log=log)["scale"].to_dict()["domain"]
        assert low < high


def test_titles_hold_units(fit):
    spec = figures.curve(fit, band=False).to_dict()
    titles = {
        layer["encoding"][c]["axis"]["title"]
        for layer in spec["layer"]
        for c in "xy"
        if "axis" in layer["encoding"].get(c, {})
    }
    assert titles == {"Training tokens D", "Loss L (nats/token)"}
    assert "Training compute C (FLOP), counted as 6ND" in str(figures.curve(fit, x="flops", band=False).to_dict())
