"""Curves of runs: axes, smoothing, means, what is clipped, marked and told."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tests.figures.conftest import rows
from workbench import figures
from workbench.figures.data import thin
from workbench.figures.run_curves import datasets, draw_lines, run_curves
from workbench.figures.run_lines import run_lines
from workbench.figures.run_rows import thinned
from workbench.panels.live_chart import split
from workbench.runs import series
from workbench.runs.load import load
from workbench.runs.logged import RunSeries, axes_logged, metrics_logged, ordered
from workbench.runs.search import search

STEPS = np.arange(1, 1001.0)


def table(curves, **columns):
    n = len(curves)
    base = {"run": list(curves), "params": np.geomspace(1e6, 1e8, n), "steps": 1000.0, "tokens": 5e6, "flops": 3e12}
    frame = pd.DataFrame({**base, **columns, "loss": [c["loss"].iloc[-1] for c in curves.values()]})
    return dataclasses.replace(load(frame), curves=curves)


def curve(loss, step=STEPS, **more):
    return pd.DataFrame({"step": step, "loss": loss, **more})


@pytest.fixture
def runs():
    return table({f"r{i}": curve(2 + i + STEPS**-0.5) for i in range(4)}, kind=["a", "a", "b", "b"])


def test_axes_that_were_not_logged_follow_from_the_step(runs):
    held = RunSeries(runs)
    assert held.pair("r0", "loss", "tokens")[0] == pytest.approx(STEPS * 5000)
    assert held.pair("r0", "loss", "flops")[0] == pytest.approx(STEPS * 3e9)
    assert held.pair("r0", "loss", "progress")[0] == pytest.approx(STEPS / 1000)
    assert held.pair("r0", "loss", "seconds") is None, "speed is not known, and not made up"
    timed = table({"r": curve(2 + 1 / STEPS, seconds=30 + 2 * STEPS)})
    assert RunSeries(timed).pair("r", "loss", "relative_time")[0] == pytest.approx(2 * (STEPS - 1))
    assert axes_logged(timed)[:5] == ["step", "tokens", "flops", "seconds", "relative_time"]
    assert metrics_logged(timed) == ["loss"]


@pytest.mark.parametrize(
    "step", [STEPS, np.sort(np.random.default_rng(0).uniform(1, 1000, 1000))], ids=["even", "uneven"]
)
def test_smoothing_is_the_debiased_average_of_the_full_series(step):
    """Against the definition, sum_j w_ij v_j / sum_j w_ij with w_ij = 2^(-(t_i - t_j) / h)."""
    loss = 3 + np.random.default_rng(1).standard_normal(1000)
    held = RunSeries(table({"r": curve(loss, step)}))
    span = step[-1] - step[0]
    at, got = held.smoothed("r", "loss", "step", 5.0)
    for i in (0, 1, 70, 999):
        weights = 2.0 ** (-(step[i] - step[: i + 1]) / (0.05 * span))
        assert got[i] == pytest.approx(weights @ loss[: i + 1] / weights.sum(), rel=1e-9)
    assert got == pytest.approx(series.smooth(step, loss, 0.05 * span), rel=1e-9)
    assert held.final("r", "loss", 5.0) == got[-1] and at.size == 1000


def test_ordering_by_smoothed_values_is_not_fooled_by_the_last_point(runs):
    loss = np.full(1000, 4.5)
    loss[-1] = 0.1
    noisy = table({**runs.curves, "lucky": curve(loss)})
    assert ordered(noisy, "loss").ids[0] == "lucky"
    assert ordered(noisy, "smoothed", smooth=5.0).ids == ["r0", "r1", "r2", "lucky", "r3"]
    assert ordered(noisy, "smoothed", True, smooth=5.0).ids == ["r3", "lucky", "r2", "r1", "r0"]
    with pytest.raises(ValueError, match="no column 'lss'"):
        ordered(runs, "lss")


def test_thinning_without_a_loop_keeps_what_thinning_keeps():
    y = np.random.default_rng(0).standard_normal(10_000).cumsum()
    at = np.arange(1, 10_001.0)
    for log in (False, True):
        assert thinned(y, 100, at, log).tolist() == thin(y, 100, np.log(at) if log else at).tolist()
    assert thinned(np.zeros(1000), 50, at[:1000], False).size <= 50


def test_a_mean_is_the_mean_where_all_have_logged_and_its_members_where_not(runs):
    shorter = dict(runs.curves) | {"r3": curve(5 + STEPS[:500] ** -0.5, STEPS[:500])}
    lines = run_lines(dataclasses.replace(runs, curves=shorter), "loss", "step", group="kind", log_x=False)
    band = lines.panes[0].bands.set_index("group")
    b = band.loc["b"]
    early, late = b["x"] < 500, b["x"] > 501
    assert b["mean"][early] == pytest.approx(np.interp(b["x"][early], STEPS, 4.5 + STEPS**-0.5))
    assert b["mean"][late] == pytest.approx(np.interp(b["x"][late], STEPS, 4 + STEPS**-0.5)), "only r2 is left"
    assert set(b["n"][early]) == {2} and set(b["n"][late]) == {1}
    assert b["high"][early] - b["low"][early] == pytest.approx(1.0)
    out = run_lines(runs, "loss", "step", group="kind", left_out=["r0"], log_x=False).panes[0].bands.set_index("group")
    assert set(out.loc["a"]["n"]) == {1}


def test_a_mean_does_not_bridge_a_hole():
    step = np.concatenate([STEPS[:400], STEPS[600:]])
    runs = table({"r0": curve(2 + 0 * step, step), "r1": curve(4 + 0 * STEPS)}, kind="a")
    band = run_lines(runs, "loss", "step", group="kind", log_x=False).panes[0].bands.iloc[0]
    inside = (band["x"] > 401) & (band["x"] < 600)
    assert set(band["mean"][inside]) == {4.0} and set(band["mean"][~inside]) == {3.0}


def test_outliers_are_cut_and_told_and_spikes_stand_at_the_edge():
    loss = 2 + STEPS**-0.5 + 0.001 * np.random.default_rng(0).standard_normal(1000)
    wild = loss.copy()
    wild[700] = 5e4
    chart = run_curves(table({"r0": curve(loss), "r1": curve(wild)}))
    told = figures.text(chart)
    assert "1 run above" in told and "up to 50k" in told and "1 spike in 1 run" in told
    drawn = {row["run"]: row["y"] for row in rows(chart, "curves")}
    assert None in drawn["r1"] and None not in drawn["r0"], "the line breaks where it leaves the picture"
    spike = rows(chart, "events")[0]
    assert spike["run"] == "r1" and spike["logged"] == 5e4 and spike["y"] < 100
    json.dumps(chart.to_dict(), allow_nan=False)
    assert max(v for row in rows(run_curves(table({"r1": curve(wild)}), clip=False), "curves") for v in row["y"]) == 5e4


def test_a_plain_curve_is_not_clipped(runs):
    assert "clipped" not in figures.text(run_curves(runs))


def test_divergence_is_marked_at_the_end():
    broken = 2 + STEPS**-0.5
    broken[900:] = np.nan
    chart = run_curves(table({"r0": curve(broken), "r1": curve(2 + STEPS**-0.5)}))
    (event,) = rows(chart, "events")
    assert (event["run"], event["kind"], event["x"]) == ("r0", "diverged", 900.0)
    assert "1 run diverged" in figures.text(chart)


def test_left_out_and_marked_runs_are_told_and_look_different(runs):
    chart = run_curves(runs, left_out=["r0"], marked=["r1"])
    drawn = {row["run"]: row for row in rows(chart, "curves")}
    assert drawn["r0"]["out"] == 1 and drawn["r1"]["width"] > drawn["r2"]["width"]
    assert "1 left out (dashed), 1 marked (bold)" in figures.text(chart)


@pytest.mark.parametrize("options", [{}, {"group": "kind"}, {"facet": "kind"}], ids=["runs", "means", "panes"])
def test_every_view_has_rows_of_its_name_to_replace(runs, options):
    lines = run_lines(runs, "loss", "step", **options)
    _, data = split(draw_lines(lines).to_dict())
    assert set(datasets(lines)) <= set(data)


def test_panes_share_their_axes_and_hold_their_runs(runs):
    chart = run_curves(runs, facet="kind").to_dict()
    panes = chart["concat"]
    assert [p["title"]["text"] for p in panes] == ["kind: a", "kind: b"]
    scales = [[layer["encoding"]["y"]["scale"] for layer in p["layer"]] for p in panes]
    assert scales[0][0] == scales[1][0]
    names = [{row["run"] for row in chart["datasets"][p["layer"][0]["data"]["name"]]} for p in panes]
    assert names == [{"r0", "r1"}, {"r2", "r3"}]


def test_of_many_runs_some_are_drawn_and_that_is_told():
    runs = table({f"r{i}": curve(2 + i + STEPS[:50] ** -0.5, STEPS[:50]) for i in range(300)})
    lines = run_lines(runs, "loss", "step", marked=["r1"])
    drawn = lines.panes[0].curves["run"].tolist()
    assert len(drawn) in (120, 121) and {"r0", "r1", "r299"} <= set(drawn)
    first = run_lines(runs, "loss", "step", ordered="loss, lowest first").panes[0].curves["run"].tolist()
    assert first == [f"r{i}" for i in range(120)]
    assert "of them drawn (evenly chosen)" in figures.text(draw_lines(lines))


def test_a_linear_axis_where_a_value_is_not_positive(runs):
    below = table({"r0": curve(1 - STEPS / 500)})
    chart = run_curves(below)
    assert "linear axis" in figures.text(chart)
    step = np.arange(0, 100.0)
    assert "0 is off the logarithmic axis" in figures.text(run_curves(table({"r": curve(2 + 1 / (step + 1), step)})))


def test_what_cannot_be_drawn_is_said(runs):
    with pytest.raises(ValueError, match="the curves hold loss, step"):
        run_curves(runs, "accuracy")
    with pytest.raises(ValueError, match="no column 'colour'"):
        run_curves(runs, color="colour")


def test_scatter_takes_runs_out_and_marks_them(runs):
    chart = figures.scatter(runs, "params", left_out=["r0"], marked=["r1"])
    drawn = {row["run"]: row for row in rows(chart, "runs")}
    assert drawn["r0"]["out"] == 1 and drawn["r1"]["size"] > drawn["r2"]["size"]
    assert "1 left out (hollow)" in figures.text(chart) and "1 marked (large)" in figures.text(chart)


def test_search_finds_words_patterns_and_conditions(runs):
    named = table({"a<b": curve(STEPS), "Wide seed1": curve(STEPS), "wide seed2": curve(STEPS)}, note=["x", None, "y"])
    assert search(named, "wide").ids == ["Wide seed1", "wide seed2"]
    assert search(named, "seed1 WIDE").ids == ["Wide seed1"]
    assert search(named, r"/seed\d$/").ids == ["Wide seed1", "wide seed2"]
    assert search(named, "params > 5e6").ids == ["Wide seed1", "wide seed2"]
    assert search(named, "a<b").ids == ["a<b"], "a name that looks like a condition"
    assert search(named, "  ").ids == named.ids
    for text, said in (
        ("/(/", "no regular expression"),
        ("lr > 1", "no column 'lr'"),
        ("zebra", "no run of 3 matches"),
    ):
        with pytest.raises(ValueError, match=said):
            search(named, text)
