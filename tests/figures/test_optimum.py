"""Figures of optima hold every minimum, interval and bound, and say what they leave out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.analysis.test_optimum import many, table
from tests.figures.conftest import layers, rows
from workbench import figures
from workbench.analysis.optimum import optimum


@pytest.fixture(scope="module")
def found():
    return optimum(many(), "lr", "width")


def test_minimum_interval_and_plateau_are_where_the_table_has_them(found):
    chart = found.plot()
    row = found.frame.iloc[0]
    (minimum,) = rows(chart, "minimum")
    assert minimum["x"] == pytest.approx(row["lr"], rel=1e-5) and minimum["y"] == pytest.approx(row["loss"], rel=1e-5)
    bars = [b for part in layers(chart, "rule") for b in part]
    assert all(b["low"] == pytest.approx(row["lr_low"], rel=1e-5) for b in bars)
    assert all(b["plateau_high"] == pytest.approx(row["lr_plateau_high"], rel=1e-5) for b in bars)
    curve = pd.DataFrame(rows(chart, "curves"))
    assert curve["x"][curve["y"].idxmin()] == pytest.approx(row["lr"], rel=0.05)


def test_cells_without_a_minimum_are_marked(found):
    chart = found.plot()
    assert {r["group"] for r in rows(chart, "edge above")} == {"2", "6"}
    assert {r["group"] for r in rows(chart, "edge below")} == {"3"}
    assert {r["group"] for r in rows(chart, "no minimum")} == {"4", "5"}
    words = figures.text(chart)
    assert "best at an end of the sweep" in words and "9 runs left out" in words


def test_cells_can_be_chosen_and_many_are_thinned():
    parts = [table(0.01, width=float(w), seed=w) for w in range(1, 31)]
    found = optimum(pd.concat(parts), "lr", "width")
    assert "12 of 30 cells" in figures.text(found.plot())
    chosen = found.plot(cells="width < 4")
    assert {r["group"] for r in rows(chosen, "minimum")} == {"1", "2", "3"}
    assert figures.png(chosen)[:4] == b"\x89PNG"
    for bad, words in (({"cells": "width > 99"}, "none of the 30"), ({"cells": "depth == 1"}, "depth")):
        with pytest.raises(ValueError, match=words):
            found.plot(**bad)


def test_scaling_draws_the_fitted_law_and_bounds():
    parts = [
        table(2.0 / w, 0.001, seed=w, grid=2.0 / w * 2.0 ** np.arange(-3, 4), width=w) for w in (64, 128, 256, 512)
    ]
    parts.append(table(2.0, 0.001, width=1024, grid=2.0 ** np.arange(-6.0, -1.0)))
    found = optimum(pd.concat(parts), "lr", "width")
    fitted = found.fit("width_transfer")
    low, high = fitted.intervals("jacobian", level=0.99).loc["p", ["low", "high"]]
    assert low < 1.0 < high and fitted.params["p"] == pytest.approx(1.0, abs=0.1)
    chart = found.plot_scaling(fitted)
    line = pd.DataFrame(rows(chart, "law"))
    expected = fitted.params["kappa"] * line["x"] ** -fitted.params["p"]
    assert line["y"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)
    assert len(rows(chart, "ok")) == 4
    (bound,) = rows(chart, "bounds up")
    assert bound["x"] == 1024 and bound["y"] == pytest.approx(0.125)
    assert "1 cells without an optimum" in figures.text(chart)
    with pytest.raises(ValueError, match="no column of the cells"):
        found.plot_scaling(fitted, x="depth")


def test_two_swept_columns_are_drawn_in_their_plane():
    lr, batch = (v.ravel() for v in np.meshgrid(0.01 * 2.0 ** np.arange(-3, 4), 2.0 ** np.arange(14, 21)))
    x, y = np.log(lr / 0.012), np.log(batch / 1.5e5)
    loss = 3 * np.exp(0.02 * x**2 + 0.008 * y**2 - 0.012 * x * y)
    found = optimum(pd.DataFrame({"lr": lr, "batch_tokens": batch, "loss": loss}), ("lr", "batch_tokens"))
    chart = found.plot()
    (minimum,) = rows(chart, "minimum")
    assert (minimum["x"], minimum["y"]) == pytest.approx((0.012, 1.5e5), rel=1e-3)
    ring = pd.DataFrame(rows(chart, "plateau"))
    x, y = np.log(ring["x"] / 0.012), np.log(ring["y"] / 1.5e5)
    np.testing.assert_allclose(0.02 * x**2 + 0.008 * y**2 - 0.012 * x * y, np.log(1.0025), rtol=1e-2)
    assert len(rows(chart, "tried")) == 49


def test_markup_in_a_cell_name_stays_text(tmp_path):
    found = optimum(table(recipe="<script>alert(1)</script>"), "lr", "recipe")
    page = figures.save(found.plot(), tmp_path / "f.html").read_text()
    assert "<script>alert(1)" not in page and "<script>alert(1)" not in found._repr_html_()
