"""Crossings against closed forms, published curves, Fieller's interval and the t distribution."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

import workbench
from tests.fits.conftest import TRUTH
from workbench.analysis.crossover import crossover

CLIP = {"A": 57.862, "s": 18.391, "alpha": 0.2266, "E": 0.1112}
MAMMUT = {"A": 125.357, "s": 19.289, "alpha": 0.2557, "E": 0.1011}


def line_frame(seed: int, exponents=(0.05, 0.06), noise: float = 0.01, n: int = 40) -> pd.DataFrame:
    """Two power laws that cross at 1e20."""
    rng = np.random.default_rng(seed)
    flops = np.geomspace(1e17, 1e21, n)
    parts = [
        pd.DataFrame({"flops": flops, "loss": 2 * (flops / 1e20) ** -a * np.exp(noise * rng.standard_normal(n))})
        for a in exponents
    ]
    return pd.concat([p.assign(recipe=name) for p, name in zip(parts, ("old", "new"), strict=True)], ignore_index=True)


def test_published_curves_of_clip_and_mammut_cross_where_they_should():
    """ImageNet-1k error of Nezhurina et al. 2025: at 10^10.83 GFLOP and an error of .315."""
    law = "shifted_power_constant"
    found = crossover((law, CLIP), (law, MAMMUT), along="gflops", between=(1e8, 1e13), labels=("CLIP", "MaMMUT"))

    def value(p, x):
        return p["E"] + p["A"] * (x + p["s"]) ** -p["alpha"]

    root = brentq(lambda u: value(CLIP, 10**u) - value(MAMMUT, 10**u), 9, 12)
    assert np.log10(found.at) == pytest.approx(root, abs=1e-8)
    # The coefficients are printed to three or four digits, which moves the crossing by a hundredth of a decade.
    assert np.log10(found.at) == pytest.approx(10.83, abs=0.02) and found.value == pytest.approx(0.315, abs=0.001)
    assert found.first == "CLIP" and "MaMMUT overtakes CLIP" in found.verdict
    gap = found.frame["a"].iloc[-1] - found.frame["b"].iloc[-1]
    assert gap == pytest.approx(0.016, abs=0.0005)  # 1.6 points at 1e13


def test_power_laws_cross_in_closed_form():
    found = crossover(("power", {"A": 20, "alpha": 0.05}), ("power", {"A": 30, "alpha": 0.06}), between=(1e10, 1e30))
    assert found.at == pytest.approx((30 / 20) ** (1 / 0.01), rel=1e-9)
    assert (found.low, found.high, found.never) == (found.at, found.at, 0.0)
    assert found.probability(1e12) == 1.0 and found.probability([1e29])[0] == 0.0


def fieller(frame: pd.DataFrame, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of where two least-squares lines cross (Fieller 1954), on the logarithm of compute."""
    a, b = (frame[frame["recipe"] == g] for g in ("old", "new"))
    x = np.log(frame["flops"] / 1e20).to_numpy()
    new = (frame["recipe"] == "new").to_numpy(float)
    design = np.column_stack([1 - new, (1 - new) * x, new, new * x])
    y = np.log(frame["loss"]).to_numpy()
    beta, rss, *_ = np.linalg.lstsq(design, y, rcond=None)
    degrees = len(a) + len(b) - 4
    cov = rss[0] / degrees * np.linalg.inv(design.T @ design)
    contrast = np.array([[1, 0, -1, 0], [0, 1, 0, -1]])
    (top, slope), v = contrast @ beta, contrast @ cov @ contrast.T
    t2 = stats.t.ppf(0.5 + level / 2, degrees) ** 2
    # (top + slope u)^2 <= t^2 Var(top + slope u)
    roots = np.roots([slope**2 - t2 * v[1, 1], 2 * (top * slope - t2 * v[0, 1]), top**2 - t2 * v[0, 0]])
    return tuple(1e20 * np.exp(np.sort(roots)))


@pytest.mark.parametrize("seed", range(3))
def test_interval_is_near_fiellers(seed):
    frame = line_frame(seed, n=60)
    found = crossover(frame, by="recipe", groups=["old", "new"], law="power", objective="log-mse", starts=16)
    low, high = np.log(fieller(frame))
    assert np.isfinite([found.low, found.high]).all() and found.low < found.at < found.high
    width = high - low
    assert np.log(found.low) == pytest.approx(low, abs=0.25 * width)
    assert np.log(found.high) == pytest.approx(high, abs=0.25 * width)


def test_probability_is_that_of_the_difference_of_two_lines():
    frame = line_frame(7, n=60)
    found = crossover(frame, by="recipe", groups=["old", "new"], law="power", objective="log-mse", n=2000, starts=16)
    at, curve, run = np.array([2e19, 5e19, 1e20, 2e20]), [], []
    parts = [frame[frame["recipe"] == g] for g in ("old", "new")]
    for scale in at:
        mean, spread, noise = [], [], []
        for part in parts:
            line = stats.linregress(np.log(part["flops"]), np.log(part["loss"]))
            x, centre = np.log(scale), np.log(part["flops"]).mean()
            rest = np.log(part["loss"]) - line.intercept - line.slope * np.log(part["flops"])
            s2 = (rest**2).sum() / (len(part) - 2)
            mean.append(line.intercept + line.slope * x)
            spread.append(s2 / len(part) + line.stderr**2 * (x - centre) ** 2)
            noise.append(s2)
        gap = mean[1] - mean[0]
        curve.append(stats.norm.cdf(gap / np.sqrt(sum(spread))))
        run.append(stats.norm.cdf(gap / np.sqrt(sum(spread) + sum(noise))))
    assert found.probability(at) == pytest.approx(np.array(curve), abs=0.08)
    assert found.probability(at, "run") == pytest.approx(np.array(run), abs=0.08)
    # One run decides less than many would.
    assert (np.abs(found.probability(at, "run") - 0.5) <= np.abs(found.probability(at) - 0.5) + 0.05).all()


def test_two_fits_of_the_same_design_are_resampled_independently():
    frame = line_frame(3)
    found = crossover(frame, by="recipe", law="power", objective="log-mse", starts=16)
    ours, theirs = (c.draws(1000, seed)[:, 1] for c, seed in ((found.a, 11), (found.b, 12)))
    assert abs(stats.pearsonr(ours, theirs)[0]) < 0.12  # 1000 independent draws: 0.1 at four standard errors


def test_parallel_laws_never_cross_and_it_says_so():
    parallel = line_frame(0, exponents=(0.05, 0.05))
    parallel.loc[parallel["recipe"] == "new", "loss"] *= 0.9
    found = crossover(parallel, by="recipe", law="power", objective="log-mse", starts=16)
    assert np.isnan(found.at) and found.never > 0.95 and not found.crossings
    assert found.always_a == found.never or found.always_b == found.never
    assert "new is better than old everywhere between" in found.verdict
    assert np.isinf(found.low) or np.isinf(found.high)


def test_an_interval_may_have_no_end():
    """Nearly parallel and noisy: often no crossing within the range, and the interval then is open."""
    found = crossover(line_frame(5, exponents=(0.05, 0.0515), noise=0.02), by="recipe", law="power", starts=16)
    assert 0.05 < found.never < 0.95
    assert np.isinf(found.low) or np.isinf(found.high)
    assert "beyond" in found.verdict or "below" in found.verdict or "everywhere" in found.verdict


def test_extrapolation_is_said():
    frame = line_frame(1, noise=0.002)
    frame = frame[(frame["recipe"] == "old") | (frame["flops"] < 1e19)]
    found = crossover(frame, by="recipe", law="power", objective="log-mse", starts=16)
    largest = frame.loc[frame["recipe"] == "new", "flops"].max()
    assert found.extrapolation == pytest.approx(found.at / largest) and found.extrapolation > 5
    assert "times the largest run of the shorter series" in found.verdict


def test_frontiers_of_size_and_data_are_the_closed_form():
    """At the optimum of E + A/N^a + B/D^b with C = 6ND (Hoffmann et al. 2022, eq. 4)."""
    other = {**TRUTH, "E": 1.8, "B": 2600.0}
    found = crossover(("chinchilla", TRUTH), ("chinchilla", other), between=(1e18, 1e24))

    def frontier(p, c):
        g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
        n = g * (c / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))
        return p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * (c / 6 / n) ** -p["beta"]

    assert found.frame["a"].to_numpy() == pytest.approx(frontier(TRUTH, found.frame["flops"].to_numpy()), rel=1e-7)
    root = brentq(lambda u: frontier(TRUTH, 10**u) - frontier(other, 10**u), 18, 24)
    assert np.log10(found.at) == pytest.approx(root, abs=1e-5)


def test_an_input_may_be_held():
    found = crossover(
        ("chinchilla", TRUTH),
        ("chinchilla", {**TRUTH, "E": 1.7, "B": 3000.0}),
        along="tokens",
        held={"params": 1e9},
        between=(1e8, 1e13),
    )
    # only E and B differ: 0.12 = (3000 - 2085) D^-beta
    assert found.at == pytest.approx((915 / 0.12) ** (1 / TRUTH["beta"]), rel=1e-6)


def test_higher_may_be_better_and_json_is_strict():
    found = crossover(
        ("power", {"A": 20, "alpha": 0.05}), ("power", {"A": 30, "alpha": 0.06}), between=(1e10, 1e30), better="higher"
    )
    assert found.first == "B" and found.probability(1e29) == 1.0
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["at"] == pytest.approx(found.at) and len(again["curve"]) == len(found.frame)
    bad = crossover(
        ("power", {"A": 2, "alpha": 0.05}), ("power", {"A": 3, "alpha": 0.06}), between=(1, 9), labels=("<b>", "c")
    )
    assert "<b>" not in bad._repr_html_() and "&lt;b&gt;" in bad._repr_html_()
    json.dumps(bad.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"by": "family"}, "no column 'family'"),
        ({"by": "recipe", "groups": ["old", "older"]}, "no value 'older'"),
        ({}, "give two fits"),
        ({"by": "recipe", "better": "larger"}, "'lower' or 'higher'"),
        ({"by": "recipe", "level": 95}, "between 0 and 1"),
        ({"by": "recipe", "between": (1e20, 1e19)}, "the smaller first"),
        ({"by": "recipe", "held": {"params": 1e9}}, "held names 'params'"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        crossover(line_frame(0), **{"law": "power", **arguments})


def test_what_is_no_curve_is_refused():
    frame = line_frame(0)
    one = workbench.fit(frame.assign(tokens=frame["flops"] / 1e9), "power", x="tokens", starts=16)
    two = workbench.fit(frame, "power", starts=16)
    with pytest.raises(ValueError, match="name one with along="):
        crossover(one, two)
    with pytest.raises(ValueError, match="no curve along 'params'"):
        crossover(one, two, along="params")
    with pytest.raises(ValueError, match="takes A, alpha"):
        crossover(("power", {"A": 1}), two)
    with pytest.raises(ValueError, match="give a Fit"):
        crossover("power", two)
    with pytest.raises(ValueError, match="give between="):
        crossover(("power", {"A": 2, "alpha": 0.1}), ("power", {"A": 3, "alpha": 0.2}))
    with pytest.raises(ValueError, match="choose 'curve' or 'run'"):
        crossover(two, two).probability(1e18, "noise")
