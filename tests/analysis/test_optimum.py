"""Optima of sweeps whose truth is known; sweeps that have none are marked; the shipped tuning runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom

import workbench
from workbench.analysis.optimum import optimum
from workbench.shipped import sweep

GRID = 0.01 * 2.0 ** np.arange(-3, 4)


def bowl(lr, best):
    """A loss that rises faster above the best learning rate than below it, lowest exactly at `best`."""
    u = np.log(lr / best)
    return 3.0 * (1 + 0.03 * (np.exp(-0.5 * u) + 0.5 * np.exp(1.0 * u)))


def table(best=0.01, noise=0.002, seeds=2, seed=0, grid=GRID, **columns):
    rng = np.random.default_rng(seed)
    lr = np.repeat(grid, seeds)
    loss = bowl(lr, best) * np.exp(noise * rng.normal(size=lr.size))
    return pd.DataFrame({"lr": lr, "loss": loss, **columns})


def test_bowl_is_lowest_where_it_says():
    assert minimize_scalar(lambda u: bowl(np.exp(u), 1.0), bounds=(-2, 2), method="bounded").x == pytest.approx(
        0, abs=1e-5
    )


@pytest.mark.parametrize("best", [0.006, 0.01, 0.017])
def test_finds_a_minimum_between_the_settings_of_the_grid(best):
    row = optimum(table(best, noise=1e-6)).frame.iloc[0]
    assert row["status"] == "ok"
    assert row["lr"] == pytest.approx(best, rel=0.05)  # a cubic is not the truth; the grid's step is a factor of 2
    assert row["loss"] == pytest.approx(bowl(best, best), rel=1e-3)


def test_a_parabola_in_logarithms_is_found_exactly():
    """From a parabola both the minimum and the plateau are in closed form."""
    lr = np.repeat(np.geomspace(1e-3, 1e-1, 9), 2)
    loss = np.exp(0.5 + 0.02 * np.log(lr / 0.013) ** 2)
    row = optimum(pd.DataFrame({"lr": lr, "loss": loss})).frame.iloc[0]
    half = np.exp(np.sqrt(np.log(1.0025) / 0.02))
    assert row["lr"] == pytest.approx(0.013, rel=1e-4)
    assert row["lr_plateau_low"] == pytest.approx(0.013 / half, rel=0.01)
    assert row["lr_plateau_high"] == pytest.approx(0.013 * half, rel=0.01)
    assert row["loss"] == pytest.approx(np.exp(0.5), rel=1e-6)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Nominal 95 %: at most as many misses as chance makes once in a thousand at a true coverage of 93 %."""
    sims, held, closed = 120, 0, 0
    for i in range(sims):
        best = 0.01 * 2 ** np.random.default_rng(1000 + i).uniform(-0.5, 0.5)
        row = optimum(table(best, noise=0.003, seed=i)).frame.iloc[0]
        low, high = np.nan_to_num(row["lr_low"], nan=0.0), np.nan_to_num(row["lr_high"], nan=np.inf)
        held += low <= best <= high
        closed += row["status"] == "ok"
    assert held >= binom.ppf(0.001, sims, 0.93)
    assert held <= binom.ppf(0.9999, sims, 0.985)  # intervals that always hold it say nothing
    assert closed > 0.8 * sims


def test_noise_of_one_run_is_estimated():
    found = [optimum(table(noise=0.004, seed=i, seeds=4)).frame["noise"].iloc[0] for i in range(12)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.004, rel=0.15)
    assert optimum(table(), noise=0.05).frame["lr_sigma"].iloc[0] > optimum(table()).frame["lr_sigma"].iloc[0]


def test_more_seeds_narrow_the_interval():
    width = [
        np.log(f["lr_high"] / f["lr_low"]).iloc[0]
        for f in (optimum(table(seeds=s, noise=0.002), noise=0.002).frame for s in (2, 8))
    ]
    assert width[1] == pytest.approx(width[0] / 2, rel=0.2)


def many():
    """Cells of every kind: sound, at both edges, too few, falling on both sides, diverged above, all bad."""
    humped = pd.DataFrame({"lr": GRID, "loss": 3 + 0.2 * np.cos(np.linspace(-3, 3, 7)), "width": 5.0})
    diverged = table(0.3, width=6.0)
    lost = pd.DataFrame({"lr": [0.16, 0.16], "loss": [np.nan, np.inf], "width": 6.0})
    parts = [
        table(0.01, width=1.0),
        table(0.3, width=2.0),
        table(0.0003, width=3.0),
        table(width=4.0, grid=GRID[:3]),
        humped,
        diverged,
        lost,
        pd.DataFrame({"lr": GRID, "loss": np.nan, "width": 7.0}),
    ]
    return pd.concat(parts, ignore_index=True)


def test_cells_without_an_optimum_are_marked_rows():
    found = optimum(many(), "lr", "width")
    frame = found.frame.set_index("width")
    assert frame["status"].tolist() == ["ok", "edge", "edge", "too few", "not convex", "edge", "too few"]
    assert frame["lr"].notna().tolist() == [True] + [False] * 6
    # best at the largest of 0.00125 .. 0.08: the optimum lies above the setting before
    assert frame.loc[2.0, "lr_low"] == pytest.approx(0.04) and np.isnan(frame.loc[2.0, "lr_high"])
    assert frame.loc[3.0, "lr_high"] == pytest.approx(0.0025) and np.isnan(frame.loc[3.0, "lr_low"])
    # the runs at 0.16 diverged, so that the optimum is bounded on both sides
    assert frame.loc[6.0, "lr_low"] == pytest.approx(0.04) and frame.loc[6.0, "lr_high"] == pytest.approx(0.16)
    assert "failed" in frame.loc[6.0, "note"]
    assert found.left_out == {"loss missing or not positive": 9}
    assert found.runs.good.frame["width"].tolist() == [1.0]
    assert len(found.runs) == 7 and len(found.table()) == 7
    assert "1 ok" in repr(found)


def test_two_settings_at_once():
    rng = np.random.default_rng(0)
    lr, batch = (v.ravel() for v in np.meshgrid(0.01 * 2.0 ** np.arange(-3, 4), 2.0 ** np.arange(14, 21)))
    x, y = np.log(lr / 0.012), np.log(batch / 1.5e5)
    loss = 3 * np.exp(0.02 * x**2 + 0.008 * y**2 - 0.012 * x * y + 0.0005 * rng.normal(size=x.size))
    runs = pd.DataFrame({"lr": lr, "batch_tokens": batch, "loss": loss, "params": 1e8})
    found = optimum(runs, ("lr", "batch_tokens"), "params")
    row = found.frame.iloc[0]
    assert row["status"] == "ok"
    assert row["lr_low"] < 0.012 < row["lr_high"] < 1.2 * row["lr_low"]
    assert row["batch_tokens_low"] < 1.5e5 < row["batch_tokens_high"]
    # the ellipse 0.02 x^2 - 0.012 x y + 0.008 y^2 = log 1.0025 reaches furthest in x where y is best for it
    half = np.sqrt(np.log(1.0025) / (0.02 - 0.012**2 / (4 * 0.008)))
    assert np.log(row["lr_plateau_high"] / row["lr"]) == pytest.approx(half, rel=0.1)
    assert {"lr_weight", "batch_tokens_weight"} <= set(found.runs.frame.columns)
    saddle = runs.assign(loss=3 * np.exp(0.02 * x**2 - 0.02 * y**2))
    assert optimum(saddle, ("lr", "batch_tokens")).frame["status"].iloc[0] in {"edge", "not convex"}


def test_step_law_is_recovered_from_the_optima_of_its_sweeps():
    rng = np.random.default_rng(5)
    parts = []
    for n in (6e7, 2e8, 6e8):
        for d in (2e9, 1e10, 5e10):
            best = 1.79 * n**-0.713 * d**0.307
            grid = best * 2.0 ** (np.arange(-3, 4) + rng.uniform(-0.5, 0.5))
            parts.append(table(best, 0.001, seed=int(n + d) % 1000, grid=grid, params=n, tokens=d))
    found = optimum(pd.concat(parts), "lr", ["params", "tokens"])
    fitted = found.fit("step_law")
    table_ = fitted.intervals("jacobian", level=0.99)
    assert fitted.n_runs == 9
    assert table_.low["a"] < -0.713 < table_.high["a"] and table_.low["b"] < 0.307 < table_.high["b"]
    assert fitted.params["a"] == pytest.approx(-0.713, abs=0.05)
    direct = workbench.fit(found.runs, "step_law", y="lr", weights="lr_weight", objective="log-mse")
    assert direct.params == fitted.params


def test_better_known_optima_weigh_more():
    parts = [table(0.01, 0.0005, width=64.0), table(0.012, 0.01, width=128.0, seed=3)]
    found = optimum(pd.concat(parts), "lr", "width")
    sigma, weight = found.frame["lr_sigma"], found.runs["lr_weight"]
    assert sigma[0] < sigma[1]
    assert weight[0] / weight[1] == pytest.approx((sigma[1] / sigma[0]) ** 2)


def test_shipped_tuning_runs_scale_about_inversely_with_width():
    """Adam in the standard parametrization with one learning rate for all layers: theory has lr ~ 1 / width."""
    tuning = workbench.load(sweep("bigram") / "tuning.csv")
    found = optimum(tuning, "lr", ["width", "tokens"])
    assert len(found.frame) == 77 and found.frame["runs"].sum() == 1130
    assert found.frame["status"].isin(["ok", "open"]).mean() > 0.9
    inside = found.good
    for cell, rows in tuning.frame.groupby(["width", "tokens"]):
        row = inside[(inside["width"] == cell[0]) & (inside["tokens"] == cell[1])]
        if len(row):  # within a factor of 4 of the best run
            means = rows.groupby("lr")["loss"].mean()
            assert abs(np.log2(row["lr"].iloc[0] / means.idxmin())) < 2
    fitted = found.fit("step_law", inputs={"N": "width"})
    low, high = fitted.intervals("jacobian").loc["a", ["low", "high"]]
    assert -1.3 < low < high < -0.8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"over": "learning_rate"}, "learning_rate"),
        ({"over": ("lr", "loss")}, "different columns"),
        ({"over": ("lr", "a", "b")}, "one or two"),
        ({"within": "widht"}, "widht"),
        ({"y": "los"}, "los"),
        ({"window": 1}, "window"),
        ({"level": 95}, "level"),
        ({"plateau": 0}, "plateau"),
        ({"noise": "none"}, "noise"),
        ({"where": "lr > 5"}, "no run"),
    ],
)
def test_bad_arguments_give_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        optimum(table(), **arguments)


def test_fit_of_a_column_that_was_not_swept():
    with pytest.raises(ValueError, match="not swept"):
        optimum(table()).fit("step_law", over="batch_tokens")
