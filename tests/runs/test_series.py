"""Smoothing, spikes, divergence, envelopes and limits, against brute force, pandas and statistics."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.runs.series import clip_outliers, diverged, envelope, halflife_of, smooth, spikes

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True)


def brute_smooth(at, values, halflife):
    """The defining sums, one by one."""
    out = np.full(len(values), np.nan)
    for i in range(len(values)):
        if not np.isfinite(values[i]):
            continue
        total = weight = 0.0
        for j in range(i + 1):
            if np.isfinite(values[j]):
                w = 2.0 ** (-(at[i] - at[j]) / halflife)
                total, weight = total + w * values[j], weight + w
        out[i] = total / weight
    return out


@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 120),
    scale=st.sampled_from([1e-3, 0.3, 10.0, 3000.0]),
    gaps=st.sampled_from([0.0, 0.2, 0.9]),
)
def test_smoothing_is_its_definition_on_uneven_points_with_gaps(seed, n, scale, gaps):
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(size=n) * rng.choice([0, 1, 40], size=n))
    values = rng.normal(size=n) * 10 ** rng.uniform(-3, 3)
    values[rng.random(n) < gaps] = rng.choice([np.nan, np.inf])
    np.testing.assert_allclose(smooth(at, values, scale), brute_smooth(at, values, scale), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("halflife", [2.0, 700.0])
def test_smoothing_of_long_uneven_series_is_that_of_pandas(halflife):
    rng = np.random.default_rng(1)
    at = np.cumsum(rng.integers(1, 60, size=4000)).astype(float)
    values = 3 + rng.normal(size=at.size)
    times = pd.to_datetime(at.astype("int64"), unit="s")
    theirs = pd.Series(values).ewm(halflife=pd.Timedelta(seconds=halflife), times=times, adjust=True).mean()
    np.testing.assert_allclose(smooth(at, values, halflife), theirs, rtol=1e-10)


@pytest.mark.parametrize("weight", [0.1, 0.6, 0.99])
def test_even_spacing_gives_tensorboards_debiased_average(weight):
    values = 5 / np.arange(1, 300) ** 0.3 + np.random.default_rng(2).normal(size=299) / 10
    last, theirs = 0.0, []
    for i, value in enumerate(values, 1):  # vz_line_chart2's loop: average, then divide by 1 - weight^i
        last = last * weight + (1 - weight) * value
        theirs.append(last / (1 - weight**i))
    at = 250.0 * np.arange(values.size)
    np.testing.assert_allclose(smooth(at, values, halflife_of(weight, 250.0)), theirs, rtol=1e-10)


def test_smoothing_does_not_depend_on_how_densely_a_constant_stretch_was_logged():
    """Each half-life halves what is left of a step, wherever the points lie."""
    at = np.array([-200.0, *np.linspace(-100, 0, 41), 10.0, 20.0])
    values = np.where(at <= 0, 1.0, 0.0)
    got = smooth(at, values, 10.0)
    assert got[:42] == pytest.approx(1.0)
    assert smooth(np.array([0.0, 10.0]), np.array([1.0, 0.0]), 10.0)[1] == pytest.approx(1 / 3)


def test_smoothing_nothing_and_bad_arguments():
    values = np.array([1.0, np.nan, 3.0])
    np.testing.assert_array_equal(smooth(np.arange(3), values, 0), values)
    assert smooth(np.array([]), np.array([]), 3.0).size == 0
    assert halflife_of(0.0) == 0.0
    for wrong in (
        lambda: smooth([0, 1], [1.0], 1.0),
        lambda: smooth([1, 0], [1.0, 1.0], 1.0),
        lambda: smooth([0, 1], [1.0, 1.0], -1.0),
        lambda: halflife_of(1.0),
    ):
        with pytest.raises(ValueError, match=r"give|sort"):
            wrong()


def noisy(rng, n=2000, noise=0.02, slope=0.2):
    return (1.5 + 6 * np.arange(1, n + 1) ** -slope) * np.exp(noise * rng.standard_normal(n))


def test_planted_spikes_are_all_found_where_they_are():
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = noisy(rng)
        places = 100 + 60 * np.sort(rng.choice(30, size=8, replace=False))
        values[places] *= np.exp(rng.uniform(0.6, 2.0, size=8))  # 30 standard deviations and more
        values[places + 1] *= 1.3  # it comes down over two points; the peak counts
        assert spikes(values).tolist() == places.tolist()


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("noise", [0.005, 0.2])
def test_false_spikes_are_rarer_than_one_in_a_hundred_thousand(slope, noise):
    rng = np.random.default_rng(4)
    n, curves = 5000, 80
    found = sum(spikes(noisy(rng, n, noise, slope)).size for _ in range(curves))
    # at the stated rate of 1e-5 there are 4 in 400,000 points on average, and 11 or more once in 350 tests
    assert found <= 10


def test_the_past_alone_decides_so_that_a_growing_log_keeps_its_spikes():
    values = noisy(np.random.default_rng(5), 600)
    values[[150, 300, 450]] *= 3
    all_of_them = spikes(values)
    assert all_of_them.tolist() == [150, 300, 450]
    for stop in (151, 299, 301, 500):
        assert spikes(values[:stop]).tolist() == [i for i in all_of_them if i < stop]


def test_gaps_are_passed_over_and_indices_count_them():
    values = noisy(np.random.default_rng(6), 400)
    values[200] *= 4
    spread = np.full(800, np.nan)
    spread[::2] = values
    assert spikes(spread).tolist() == [400]


def test_a_smooth_or_stepping_curve_has_no_spikes_but_a_jump_has_one():
    assert spikes(6 * np.arange(1, 3000) ** -0.3).size == 0
    assert spikes(np.full(500, 2.0)).size == 0
    down = np.r_[np.full(300, 3.0), np.full(300, 2.0)]
    assert spikes(down).size == 0
    assert spikes(down[::-1]).tolist() == [300]
    assert spikes(np.array([1.0, 2.0, 9.0])).size == 0


def test_series_with_negative_values_are_judged_as_they_are():
    values = np.random.default_rng(7).normal(size=1000)
    values[500] = 40.0
    assert spikes(values).tolist() == [500]


def test_what_a_search_for_spikes_cannot_do():
    with pytest.raises(ValueError, match="window"):
        spikes(np.ones(10), window=2)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], False),
        ([np.nan, np.nan], False),
        ([2.0], False),
        ([5, 4, 3, 2.5, 2.4, 2.3], False),
        ([5, 4, 3, np.inf], True),
        ([5, 4, 3, np.nan], True),
        ([5, 4, np.nan, 3, 2.9, np.nan], False),  # logged every other row
        ([5, np.nan, np.nan, 4, np.nan, np.nan, 3, np.nan, np.nan, np.nan, np.nan, np.nan], True),
        ([5, 4, 3, 2, 2, 2, 6, 8, 9, 9, 9], True),
        ([5, 4, 3, 2, 2, 2, 9, 2, 2, 2], False),  # a spike that comes back
        ([5, 4, 3, 2, 2, 2, 2, 2, 2.15, 2.15, 2.15], False),  # overfits a little
        ([3, 3, 3, 4, 6, 9, 9, 9], True),  # never learned anything
    ],
)
def test_divergence_by_its_rule(values, verdict):
    assert diverged(np.array(values, dtype=float)) is verdict


def test_flat_noise_does_not_diverge():
    rng = np.random.default_rng(8)
    assert not any(diverged(3 * np.exp(0.01 * rng.standard_normal(200))) for _ in range(200))


def test_envelope_of_curves_on_one_grid_is_plain_statistics():
    rng = np.random.default_rng(9)
    x, ys = np.arange(50.0), rng.normal(size=(7, 50))
    found = envelope({f"run {i}": (x, y) for i, y in enumerate(ys)})
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_allclose(found["mean"], ys.mean(axis=0))
    np.testing.assert_array_equal(found["low"], ys.min(axis=0))
    np.testing.assert_array_equal(found["high"], ys.max(axis=0))
    assert (found["n"] == 7).all()
    inner = envelope([(x, y) for y in ys], band=0.5)
    np.testing.assert_allclose(inner["low"], np.quantile(ys, 0.25, axis=0))
    np.testing.assert_allclose(inner["high"], np.quantile(ys, 0.75, axis=0))


def brute_envelope(curves, gap):
    """Row by row: who is there, and what each says."""
    rows = []
    for at in sorted({x for xs, ys in curves for x, y in zip(xs, ys, strict=True) if np.isfinite(y)}):
        here = []
        for xs, ys in curves:
            known = [(x, y) for x, y in zip(xs, ys, strict=True) if np.isfinite(y)]
            for x, y in known:
                if x == at:
                    here.append(y)
            for (a, ya), (b, yb) in itertools.pairwise(known):
                if a < at < b and b - a <= gap:
                    here.append(ya + (yb - ya) * (at - a) / (b - a))
        if here:
            rows.append((at, np.mean(here), min(here), max(here), len(here)))
    return np.array(rows)


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1))
def test_envelope_neither_extrapolates_nor_bridges_holes(seed):
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(int(rng.integers(1, 6))):
        x = np.sort(rng.choice(60, size=int(rng.integers(1, 30)), replace=False)).astype(float)
        y = rng.normal(size=x.size)
        y[rng.random(x.size) < 0.3] = np.nan
        curves.append((x, y))
    found, truth = envelope(curves, gap=5.0), brute_envelope(curves, 5.0)
    # positions at which no curve is finite are no rows
    if not truth.size:
        assert found.empty
    else:
        np.testing.assert_allclose(found.to_numpy(float), truth, rtol=1e-12, atol=1e-12)


def test_by_itself_the_envelope_finds_holes_and_follows_logarithmic_spacing():
    x = np.r_[np.arange(0, 40.0), np.arange(70.0, 100)]
    found = envelope([(x, np.ones(x.size)), (np.arange(100.0), np.zeros(100))])
    assert found.set_index("x")["n"].loc[[39, 40, 55, 69, 70]].tolist() == [2, 1, 1, 1, 2]
    spread = 2.0 ** np.arange(14)
    found = envelope([(spread, spread), (np.unique(np.r_[spread, 3000.0]), np.zeros(15))])
    assert found.set_index("x").loc[3000.0, ["n", "high"]].tolist() == [2, 3000]


def test_a_grid_of_ones_own_and_a_thinned_one():
    x = np.arange(0, 10_000.0)
    found = envelope([(x, x)], grid=[-1, 0.5, 9_999, 12_000])
    assert found["x"].tolist() == [0.5, 9_999]
    assert found["mean"].tolist() == [0.5, 9_999]
    thinned = envelope([(x, x)])
    assert len(thinned) == 2000
    assert thinned["x"].isin(x).all()
    assert thinned["x"].iloc[[0, -1]].tolist() == [0, 9_999]
    assert envelope([]).empty and envelope([(np.array([1.0]), np.array([np.nan]))]).empty


def test_bad_envelopes():
    for wrong in (
        lambda: envelope([], band=2),
        lambda: envelope([], gap=0),
        lambda: envelope([(np.ones(2), np.ones(3))]),
    ):
        with pytest.raises(ValueError, match="give"):
            wrong()


def test_limits_leave_out_planted_outliers_and_nothing_else():
    rng = np.random.default_rng(10)
    bulk = 3 * np.exp(0.1 * rng.standard_normal(2000))
    planted = np.array([200.0, 1e6, 0.01])
    low, high, left = clip_outliers(np.r_[bulk, planted, np.nan, np.inf])
    beyond = (bulk < low) | (bulk > high)
    assert left == 3 + beyond.sum()
    # P(|z| > 3.29) = 0.001: of 2000 points about 2, and 12 or more once in a million
    assert beyond.sum() < 12
    assert low in bulk and high in bulk


def test_limits_of_what_has_no_outliers_are_its_ends():
    assert clip_outliers(np.linspace(1, 5, 100)) == (1, 5, 0)
    assert clip_outliers(np.geomspace(1, 1e9, 100)) == (1, pytest.approx(1e9), 0)
    assert clip_outliers(np.full(7, 2.0)) == (2, 2, 0)
    assert clip_outliers([-1.0, 0.0, 1.0]) == (-1, 1, 0)
    nothing = clip_outliers([np.nan, np.inf])
    assert np.isnan(nothing.low) and np.isnan(nothing.high) and nothing.left_out == 0
    assert clip_outliers([-5.0, 1.0, 2.0], log=True) == (1, 2, 0)
