"""Draws of all parameters together: as wide as exact theory says, and which bootstrap they come from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import workbench


def line(n: int, seed: int = 0) -> pd.DataFrame:
    flops = np.geomspace(1e17, 1e20, n)
    noise = 0.01 * np.random.default_rng(seed).standard_normal(n)
    return pd.DataFrame({"flops": flops, "loss": 20 * flops**-0.05 * np.exp(noise)})


def test_of_few_runs_they_are_as_wide_as_students_interval():
    # a power law under squares of log loss is a straight line, whose interval is exact
    wide, resampled = [], []
    for seed in range(20):
        runs = line(8, seed)
        fit = workbench.fit(runs, "power", objective="log-mse", starts=4)
        exact = stats.linregress(np.log(runs["flops"]), np.log(runs["loss"])).stderr * stats.t.ppf(0.975, 6)
        at = fit.law.symbols.index("alpha")
        for draws, found in ((fit.joint_draws(2000), wide), (fit.draws(2000), resampled)):
            low, high = np.percentile(draws[:, at], [2.5, 97.5])
            found.append((high - low) / 2 / exact)
    assert 0.95 < np.mean(wide) < 1.35
    assert np.mean(resampled) < 0.9, "runs drawn again are what these draws replace"


def test_where_the_objective_is_nearly_a_median_runs_are_drawn_again():
    fit = workbench.fit(line(12), "power", objective="log-huber", delta=1e-4, starts=4)
    assert np.array_equal(fit.joint_draws(50), fit.draws(50))


def test_where_one_run_alone_determines_a_parameter_runs_are_drawn_again():
    runs = pd.concat([line(8), line(8).iloc[:1].assign(flops=1e3)], ignore_index=True)
    runs["tokens"] = [1e9] * 8 + [1e7]  # the only run with other tokens
    runs["params"] = runs["flops"] / 6 / runs["tokens"]
    fit = workbench.fit(runs, "multiplicative", objective="log-mse", fixed={"E": 0.0}, starts=8)
    assert np.isfinite(fit.joint_draws(50)).all(axis=1).mean() > 0.4
    assert np.array_equal(fit.joint_draws(50), fit.draws(50), equal_nan=True)


@pytest.mark.parametrize(("n", "fragment"), [(0, "at least 1"), (2.5, "whole number"), (True, "whole number")])
def test_bad_numbers_of_draws_are_refused(n, fragment):
    with pytest.raises(ValueError, match=fragment):
        workbench.fit(line(8), "power", starts=4).joint_draws(n)


def test_without_degrees_of_freedom_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="leave nothing to resample"):
        workbench.fit(line(3), "power_constant", starts=4).joint_draws(10)
