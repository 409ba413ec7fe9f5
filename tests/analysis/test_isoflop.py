"""Approach 2 against the closed-form optimum of the additive law, in bias, in coverage and on bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import workbench
from tests.analysis.designs import BALANCED, LEANING, exponent, isoflop_frame, loss, optimum
from workbench.analysis.isoflop import isoflop


def off(found) -> np.ndarray:
    """log of each minimum over the true optimum."""
    return np.log(found.frame["params"] / optimum(LEANING, found.frame["flops"])).to_numpy()


def test_parabola_is_biased_where_curves_lean_and_the_default_is_not():
    frame = isoflop_frame(LEANING, sizes=10, reach=2.5)
    shared, parabola = (isoflop(frame, method=m, n=20) for m in ("shared", "parabola"))
    assert shared.method == isoflop(frame, n=20).method
    # without noise: the parabola misses by ten percent of N, the default by nothing
    assert (off(parabola) < -0.1).all()
    assert np.abs(off(shared)).max() < 1e-3
    assert shared.exponents().loc["params", "exponent"] == pytest.approx(exponent(LEANING), abs=1e-4)
    assert shared.shared[0] == pytest.approx([0.30, 0.50], abs=1e-3)


def test_sizes_that_drift_about_the_optimum_bias_the_cubic_less_than_the_parabola_biases_minima():
    frame = isoflop_frame(LEANING, reach=1.5)
    cubic, parabola = (np.abs(off(isoflop(frame, method=m, n=20))).mean() for m in ("cubic", "parabola"))
    assert cubic < 0.1 * parabola


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(7)
    runs, hits, minima = 60, 0, []
    for seed in range(runs):
        frame = isoflop_frame(LEANING, np.geomspace(1e19, 1e21, 5), 6, drift=0.5, noise=0.003, rng=rng)
        found = isoflop(frame, n=150, seed=seed)
        slope = found.exponents().loc["params"]
        hits += slope["low"] <= exponent(LEANING) <= slope["high"]
        used = found.frame[found.frame["used"]]
        minima += used["params_low"].le(optimum(LEANING, used["flops"])).tolist()
        minima += used["params_high"].ge(optimum(LEANING, used["flops"])).tolist()
        assert slope["high"] - slope["low"] < 0.15
    assert hits >= binom.ppf(0.001, runs, 0.95)
    # each end should miss in 2.5 percent; minima of one study share exponents, hence the width
    assert 0.95 <= np.mean(minima) <= 0.995


def test_scatter_between_budgets_widens_the_exponent_not_the_minima():
    rng = np.random.default_rng(3)
    budgets = np.geomspace(1e19, 1e22, 8)
    calm = isoflop_frame(BALANCED, budgets, noise=0.001, rng=rng)
    shaken = calm.copy()
    # each budget's curve is shifted as a whole, as by a learning rate tuned for some of them
    for part in np.split(np.arange(len(calm)), 8):
        shift = np.exp(0.3 * rng.standard_normal())
        shaken.loc[part, "loss"] = loss(BALANCED, calm["params"][part] * shift, calm["tokens"][part] / shift)
    quiet, loud = (isoflop(f, n=300) for f in (calm, shaken))
    width = [(e.high - e.low) for e in (x.exponents().loc["params"] for x in (quiet, loud))]
    assert loud.trend.scatter == pytest.approx(0.3, rel=0.6) and quiet.trend.scatter < 0.05
    assert width[1] > 3 * width[0]
    slope = loud.exponents().loc["params"]
    assert slope["low"] < exponent(BALANCED) < slope["high"]


def test_runs_that_miss_their_budget_do_not_mislead_the_default():
    frame = isoflop_frame(LEANING, jitter=0.04)
    missed = [
        np.abs(off(isoflop(frame, budgets=[1e19, 1e20, 1e21, 1e22], tolerance=0.3, method=m, n=20)))
        for m in ("shared", "cubic")
    ]
    assert missed[0].max() < 2e-3 < missed[1].mean()


def test_budgets_are_found_given_or_named():
    frame = isoflop_frame(LEANING, jitter=0.01).assign(group=np.repeat(list("abcd"), 7))
    found = isoflop(frame, n=20)
    assert len(found.frame) == 4 and "within ±10%" in repr(found) and "28 runs in 4 budgets" in repr(found)
    named = isoflop(frame, budget="group", n=20)
    np.testing.assert_allclose(found.frame["params"], named.frame["params"], rtol=1e-9)
    given = isoflop(frame, budgets=[1e20, 1e21], n=20)
    assert given.frame["flops"].tolist() == [1e20, 1e21] and len(given.left_out) == 14
    assert set(given.left_out.values()) == {"compute is not within ±10% of a budget"}


def test_flags_say_why():
    budgets = [1e19, 1e20, 1e21, 1e22, 1e23]
    frame = isoflop_frame(LEANING, budgets, sizes=9)
    turned = frame["flops"] == 1e20
    frame.loc[turned, "loss"] = 6 - frame.loc[turned, "loss"]
    frame = frame.drop(index=frame.index[frame["flops"] == 1e21][2:])
    for method in ("shared", "cubic", "parabola"):
        found = isoflop(frame, budgets=budgets, method=method, n=50)
        flagged = found.flagged.set_index("flops")["note"]
        assert list(flagged.index) == [1e20, 1e21]
        assert "minimum" in flagged[1e20] and "2 sizes" in flagged[1e21]
        # the exponent rests on the three others alone
        if method != "cubic":
            rest = isoflop(frame[~frame["flops"].isin([1e20, 1e21])], method=method, n=50)
            slopes = [x.exponents().loc["params", "exponent"] for x in (found, rest)]
            assert slopes[0] == pytest.approx(slopes[1], abs=0.02)


def test_a_minimum_outside_the_sizes_is_not_accepted():
    frame = isoflop_frame(BALANCED, sizes=14, reach=2.5)
    wrong = frame[(frame["flops"] != 1e22) | (frame["params"] > 1.3 * optimum(BALANCED, 1e22))]
    last = isoflop(wrong, n=50).frame.iloc[-1]
    assert not last["used"] and "below the smallest size" in last["note"]


def test_bad_runs_are_left_out_and_named():
    frame = isoflop_frame(BALANCED, noise=0.001)
    clean = isoflop(frame, n=20)
    worse = pd.concat([frame, frame.iloc[[3, 10, 17]]], ignore_index=True)
    worse.loc[28, "loss"], worse.loc[29, "loss"], worse.loc[30, "params"] = np.nan, np.inf, -1.0
    spiked = worse.copy()
    spiked.loc[11, "loss"] = 9.0
    found, marked = isoflop(worse, n=20), isoflop(spiked, n=20)
    np.testing.assert_allclose(found.frame["params"], clean.frame["params"], rtol=1e-9)
    assert len(found.left_out) == 3 and len(marked.left_out) == 4
    assert any("diverged" in why for why in marked.left_out.values())


def test_one_budget_gives_a_minimum_and_no_exponent():
    found = isoflop(isoflop_frame(BALANCED, (1e20,), noise=0.001), n=50)
    assert found.frame["params"][0] == pytest.approx(optimum(BALANCED, 1e20), rel=0.1)
    slope = found.exponents().loc["params"]
    assert np.isnan(slope["exponent"]) and "one budget" in slope["note"]
    with pytest.raises(ValueError, match="one optimum"):
        found.frontier(1e21)


def test_tokens_follow_from_how_the_runs_count_compute():
    frame = isoflop_frame(BALANCED)
    frame["flops"] *= 1.5  # 9 ND: the optimum is the same, its compute is counted differently
    found = isoflop(frame, n=20).frame
    np.testing.assert_allclose(found["params"], optimum(BALANCED, found["flops"] / 1.5), rtol=2e-3)
    np.testing.assert_allclose(9 * found["params"] * found["tokens"], found["flops"], rtol=1e-6)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"method": "spline"}, "shared, cubic, parabola"),
        ({"level": 1.2}, "between 0 and 1"),
        ({"n": 0}, "whole number"),
        ({"tolerance": -1}, "ten percent"),
        ({"budgets": [1e30]}, "no run lies within"),
        ({"budgets": "many"}, "positive numbers of FLOP"),
        ({"budget": "cell"}, "no column 'cell'"),
        ({"y": "accuracy"}, "no numeric column 'accuracy'"),
        ({"params": "width"}, "no column 'width'"),
        ({"where": "params < 0"}, "none is left"),
    ],
)
def test_bad_arguments_say_what_is_allowed(options, words):
    with pytest.raises(ValueError, match=words):
        isoflop(isoflop_frame(BALANCED), **options)


def test_too_few_sizes_everywhere_says_what_to_do():
    with pytest.raises(ValueError, match="none with 4 sizes"):
        isoflop(isoflop_frame(BALANCED, sizes=3))
    with pytest.raises(ValueError, match="needs 'tokens' or 'flops'"):
        isoflop(pd.DataFrame({"params": [1e6, 1e7], "loss": [3.0, 2.0]}))


def test_a_grid_of_sizes_and_lengths_is_taken_in_bands():
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 11), np.geomspace(1e8, 1e12, 13)))
    found = isoflop(workbench.load(pd.DataFrame({"params": n, "tokens": d, "loss": loss(LEANING, n, d)})), n=20)
    assert "bands" in found.grouping
    used = found.frame[found.frame["used"]]
    assert len(used) >= 5
    np.testing.assert_allclose(used["params"], optimum(LEANING, used["flops"]), rtol=0.01)
