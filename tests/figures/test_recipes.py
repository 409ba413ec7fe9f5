"""Figures of recipes against recipes: what is drawn is what was found, in words and in marks."""

import json

import numpy as np
import pandas as pd
import pytest

from workbench.analysis.crossover import crossover
from workbench.analysis.multiplier import multiplier
from workbench.analysis.replicates import replicates
from workbench.analysis.rolling import rolling_origin
from workbench.figures.render import png, text


def drawn(chart, *fields):
    """Every data set of a chart that has these fields, as frames."""
    frames = [pd.DataFrame(rows) for rows in chart.to_dict()["datasets"].values() if rows]
    return [f for f in frames if set(fields) <= set(f)]


@pytest.fixture(scope="module")
def two():
    rng = np.random.default_rng(0)
    flops = np.geomspace(1e17, 1e20, 12)
    parts = []
    for a, b, recipe in ((300, 0.13, "base"), (900, 0.155, "<new>")):
        loss = (1.7 + a * flops**-b) * np.exp(0.003 * rng.standard_normal(12))
        parts.append(pd.DataFrame({"flops": flops, "loss": loss, "recipe": recipe}))
    return pd.concat(parts, ignore_index=True)


def test_crossover_draws_both_curves_the_runs_and_the_place(two):
    found = crossover(two, by="recipe", groups=["base", "<new>"], n=200, starts=32)
    chart = found.plot()
    curves = drawn(chart, "x", "y", "low", "high", "group")[0]
    for label, key in (("base", "a"), ("<new>", "b")):
        mine = curves[curves["group"] == label]
        assert mine["y"].to_numpy() == pytest.approx(found.frame[key].to_numpy(), rel=1e-5)
        assert mine["high"].to_numpy() == pytest.approx(found.frame[f"{key}_high"].to_numpy(), rel=1e-5)
    runs = drawn(chart, "run", "x", "y")[0]
    assert sorted(runs["y"]) == pytest.approx(sorted(two["loss"]), rel=1e-5)
    strips = drawn(chart, "x", "x2")
    assert strips and strips[0][["x", "x2"]].iloc[0].tolist() == pytest.approx([found.low, found.high], rel=1e-5)
    assert any(len(f) == 1 and f["x"][0] == pytest.approx(found.at, rel=1e-5) for f in drawn(chart, "x"))
    chance = drawn(chart, "x", "y", "kind")[0]
    assert chance["y"].between(0, 1).all() and set(chance["kind"]) == {"in expectation", "one run of each"}
    assert found.verdict in text(chart) and png(chart)


def test_crossover_of_published_curves_claims_no_certainty():
    laws = ("power", {"A": 20, "alpha": 0.05}), ("power", {"A": 30, "alpha": 0.06})
    chart = crossover(*laws, between=(1e10, 1e30)).plot()
    assert "no uncertainty is known" in text(chart) and "Probability" not in json.dumps(chart.to_dict())
    assert png(chart)


def test_multiplier_draws_its_rows(two):
    found = multiplier(two, by="recipe", groups=["base", "<new>"], n=100, starts=32)
    chart = found.plot()
    rows = drawn(chart, "x", "y", "low", "high")[0]
    assert rows["y"].to_numpy() == pytest.approx(found.frame["multiplier"].to_numpy(), rel=1e-5)
    assert found.verdict in text(chart) and png(chart)


def test_replicates_draw_a_dot_a_seed_and_sort_by_mean():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"recipe": np.repeat(["a", "b", "c"], 6), "loss": 3 + 0.001 * rng.standard_normal(18)})
    frame.loc[frame["recipe"] == "b", "loss"] -= 0.01
    frame.loc[0, "loss"] = np.nan
    found = replicates(frame)
    chart = found.plot()
    dots = drawn(chart, "run", "x", "offset")[0]
    assert sorted(dots["x"]) == pytest.approx(sorted(frame["loss"].dropna()), rel=1e-5)
    means = drawn(chart, "letters", "x", "low")[0]
    assert means["x"].is_monotonic_increasing and means["group"][0].startswith("b (6 seeds)")
    assert means["letters"].tolist()[0] not in means["letters"].tolist()[1:]
    assert "1 run without a usable value left out" in text(chart) and png(chart)


def test_rolling_draws_errors_in_percent_against_extrapolation():
    rng = np.random.default_rng(0)
    flops = np.geomspace(1e17, 1e21, 25)
    runs = pd.DataFrame({"flops": flops, "loss": (1.7 + 400 * flops**-0.14) * np.exp(0.004 * rng.standard_normal(25))})
    found = rolling_origin(runs, ["power_constant", "power", "chinchilla"], n=30, windows=5)
    chart = found.plot()
    points = drawn(chart, "extrapolation", "error", "kind")[0]
    assert sorted(points["error"]) == pytest.approx(sorted(100 * found.frame["error"]), rel=1e-4)
    assert (points["kind"] == "inside the interval").sum() == found.frame["inside"].sum()
    ranges = drawn(chart, "range", "value")
    for column in ("error", "coverage"):
        wanted = pytest.approx((100 * found.summary[column]).to_numpy(), rel=1e-4)
        assert any(f["value"].to_numpy() == wanted for f in ranges)
    assert "could not be judged: chinchilla" in text(chart) and png(chart)
