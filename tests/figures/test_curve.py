"""The curve figure holds the right runs, the right curve and says what was left out."""

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.figures.conftest import layers, rows
from workbench import figures


def test_points_are_the_fitted_runs_with_their_error(fit, runs):
    drawn = pd.DataFrame(rows(figures.curve(fit, band=False), "runs")).set_index("run")
    frame = runs.frame.set_index("run")
    assert set(drawn.index) == set(frame.index)
    assert drawn["x"].to_numpy() == pytest.approx(frame["tokens"][drawn.index].to_numpy(), rel=1e-5)
    assert drawn["y"].to_numpy() == pytest.approx(frame["loss"][drawn.index].to_numpy(), rel=1e-5)
    p = fit.params
    expected = p["E"] + p["A"] * frame["params"] ** -p["alpha"] + p["B"] * frame["tokens"] ** -p["beta"]
    assert drawn["predicted"].to_numpy() == pytest.approx(expected[drawn.index].to_numpy(), rel=1e-5)
    error = 100 * (expected / frame["loss"] - 1)
    assert drawn["error"].to_numpy() == pytest.approx(error[drawn.index].to_numpy(), abs=1e-3)


@pytest.mark.parametrize("x", ["tokens", "params", "flops", "tokens_per_param"])
def test_curves_follow_the_law_whatever_the_axis(fit, x):
    """Each line holds one input; the other follows from C = 6ND and M = D/N, worked out by hand here."""
    line = pd.DataFrame(layers(figures.curve(fit, x=x, band=False), "line")[0])
    p = fit.params
    for label, part in line.groupby("group"):
        held, at = workbench.units.parse_number(label), part["x"].to_numpy()
        n, d = {
            "tokens": (held, at),
            "params": (at, held),
            "flops": (held, at / 6 / held),
            "tokens_per_param": (held, at * held),
        }[x]
        expected = p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p["beta"]
        assert part["y"].to_numpy() == pytest.approx(expected, rel=2e-3)  # labels carry three digits


def test_band_contains_the_curve_and_widens_with_the_level(fit):
    widths = []
    for level in (0.5, 0.95):
        band = pd.DataFrame(layers(figures.curve(fit, level=level, n=80), "area")[0])
        assert ((band["low"] <= band["y"] * 1.002) & (band["y"] <= band["high"] * 1.002)).all()
        widths.append((band["high"] - band["low"]).mean())
    assert widths[1] > 1.5 * widths[0]


def test_left_out_runs_are_hollow_and_counted(runs):
    bad = runs.frame.drop(columns="problem").copy()
    bad.loc[3, "loss"] = np.nan
    fit = workbench.fit(workbench.load(bad), "chinchilla", starts=64).without(["run 1", "run 2"])
    chart = figures.curve(fit, band=False)
    assert "33 runs" in figures.text(chart)
    assert "3 left out (2 hollow, 1 without coordinates)" in figures.text(chart)
    solid, hollow = layers(chart, "point")
    assert {r["run"] for r in hollow} == {"run 1", "run 2"}
    assert all(r["why"] == "taken out" for r in hollow)
    assert {r["run"] for r in solid}.isdisjoint({"run 1", "run 2", "run 3"})
    without = figures.curve(fit, band=False, excluded=False)
    assert len(layers(without, "point")) == 1 and "not drawn" in figures.text(without)


def test_floor_is_drawn_only_where_it_is_identified(runs, fit):
    assert any("E = 1.6" in str(r) or "E = 1.7" in str(r) for r in layers(figures.curve(fit, band=False), "rule"))
    falling_faster = runs.derive(loss=lambda f: 10 * f["flops"] ** -0.05 * np.exp(-0.002 * np.log(f["flops"]) ** 2))
    driven = workbench.fit(falling_faster, "power_constant", starts=64)
    assert "E" in driven.diagnostics.unidentified
    assert layers(figures.curve(driven, band=False), "rule") == []


def test_unseen_runs_are_diamonds_with_the_interval_of_one_run(runs):
    small, large = runs.where("flops < 1e18"), runs.where("flops >= 1e18")
    fit = workbench.fit(small, "chinchilla", starts=64)
    chart = figures.curve(fit, extra=large, n=80)
    diamonds = layers(chart, "point")[-1]
    assert {r["run"] for r in diamonds} == set(large.frame["run"])
    assert all(r["low"] < r["high"] for r in diamonds)
    assert f"{len(large)} not seen by the fit" in figures.text(chart)
    assert figures.curve(fit, extra=large.frame.drop(columns="run"), n=20)
    with pytest.raises(ValueError, match="'tokens'"):
        figures.curve(fit, extra=large.frame.drop(columns="tokens"), n=20)


def test_many_sizes_are_binned_into_ranges(runs):
    spread = runs.frame.drop(columns=["problem", "flops"]).copy()
    spread["params"] *= np.linspace(0.8, 1.25, len(spread))
    spread["flops"] = 6 * spread["params"] * spread["tokens"]
    chart = figures.curve(workbench.fit(workbench.load(spread), "chinchilla", starts=64), band=False)
    labels = {r["group"] for r in rows(chart, "runs")}
    assert len(labels) == 6 and all(" – " in label for label in labels)
    assert "mean of each range" in figures.text(chart)


def test_colour_is_doubled_by_shape(fit, runs):
    encoding = next(
        layer for layer in figures.curve(fit, band=False).to_dict()["layer"] if layer.get("name") == "runs"
    )["encoding"]
    assert encoding["color"]["field"] == encoding["shape"]["field"] == "group"
    ranges = encoding["color"]["scale"]["range"], encoding["shape"]["scale"]["range"]
    assert len(set(ranges[0])) == len(set(ranges[1])) == 6


def test_colouring_a_one_input_law_by_another_column_keeps_its_curve(runs):
    named = runs.derive(recipe=["A", "B"] * 18)
    chart = figures.curve(workbench.fit(named, "power_constant", starts=64), color="recipe", band=False)
    assert {r["group"] for r in rows(chart, "runs")} == {"A", "B"}
    line = next(layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == "line")
    assert "value" in line["encoding"]["color"]


def test_extend_draws_further(fit):
    line = pd.DataFrame(layers(figures.curve(fit, extend=1e12, band=False), "line")[0])
    assert line["x"].max() == pytest.approx(1e12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": "seconds"}, "choose one of params, tokens, flops, tokens_per_param"),
        ({"color": "recipe"}, "no column 'recipe'"),
        ({"extend": -1}, "positive number"),
        ({"extend": "far"}, "positive number"),
        ({"level": 2}, "level"),
    ],
)
def test_bad_arguments_give_one_sentence(fit, arguments, words):
    with pytest.raises(ValueError, match=words):
        figures.curve(fit, n=10, **arguments)


def test_inside_finds_the_runs_of_a_brush(fit, runs):
    frame = runs.frame
    box = {"x": [1e9, 1e8], "y": [3.0, 4.0]}
    expected = frame["run"][frame["tokens"].between(1e8, 1e9) & frame["loss"].between(3, 4)]
    assert set(figures.inside(fit, box)) == set(expected)
    assert figures.inside(fit, {}) == []
    assert set(figures.inside(fit, {"x": [1e15, 1e17]}, x="flops")) == set(
        frame["run"][frame["flops"].between(1e15, 1e17)]
    )


def test_the_method_of_a_fit_draws_the_same(fit):
    assert fit.plot(n=20).to_dict() == figures.curve(fit, n=20).to_dict()
