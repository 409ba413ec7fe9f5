"""Tests of a shared exponent: F by linear algebra, error rates by simulation."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.analysis.exponents import equal_exponents


def groups(seed: int, exponents=(0.05, 0.05), n: int = 20, noise: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    flops = np.geomspace(1e17, 1e21, n)
    parts = []
    for k, alpha in enumerate(exponents):
        loss = (2 + 0.2 * k) * (flops / 1e19) ** -alpha * np.exp(noise * rng.standard_normal(n))
        parts.append(pd.DataFrame({"flops": flops, "loss": loss, "recipe": f"r{k}"}))
    return pd.concat(parts, ignore_index=True)


def analysis_of_covariance(frame: pd.DataFrame) -> tuple[float, float]:
    """F and p of "one slope for all groups", by two least-squares problems."""
    x, y = np.log(frame["flops"] / 1e19).to_numpy(), np.log(frame["loss"]).to_numpy()
    own = pd.get_dummies(frame["recipe"]).to_numpy(float)
    many, few = np.hstack([own, own * x[:, None]]), np.column_stack([own, x])
    rss = [np.linalg.lstsq(design, y, rcond=None)[1][0] for design in (few, many)]
    q, rest = many.shape[1] - few.shape[1], len(y) - many.shape[1]
    f = (rss[0] - rss[1]) / q / (rss[1] / rest)
    return f, stats.f.sf(f, q, rest)


@pytest.mark.parametrize(("seed", "exponents"), [(0, (0.05, 0.05)), (1, (0.05, 0.052)), (2, (0.05, 0.053, 0.047))])
def test_f_is_that_of_the_analysis_of_covariance(seed, exponents):
    frame = groups(seed, exponents)
    found = equal_exponents(frame, "recipe", n=50, objective="log-mse", starts=16)
    f, p = analysis_of_covariance(frame)
    row = found.tests.set_index("test").loc["F"]
    assert row["statistic"] == pytest.approx(f, rel=1e-5) and found.p == pytest.approx(p, rel=1e-5)
    assert found.rests_on == "F" and row["degrees"] == len(exponents) - 1


def test_the_shared_exponent_is_the_pooled_slope():
    frame = groups(3, (0.05, 0.06))
    found = equal_exponents(frame, "recipe", n=50, objective="log-mse", starts=16)
    x = np.log(frame["flops"])
    slopes = (
        -frame.assign(x=x, y=np.log(frame["loss"]))
        .groupby("recipe")[["x", "y"]]
        .apply(lambda g: stats.linregress(g["x"], g["y"]).slope)
    )
    # the design is the same in both groups, so that pooling is the plain mean
    assert found.frame["shared"].tolist() == pytest.approx([slopes.mean()] * 2, rel=1e-5)
    assert found.frame["estimate"].tolist() == pytest.approx(slopes.tolist(), rel=1e-5)
    assert found.differences["difference"][0] == pytest.approx(slopes.iloc[0] - slopes.iloc[1], rel=1e-4)


@pytest.mark.long
def test_false_positives_keep_to_five_percent():
    trials = 60
    p = np.array(
        [
            equal_exponents(groups(100 + seed), "recipe", n=150, objective="log-mse", starts=4).tests["p"]
            for seed in range(trials)
        ]
    )  # F, likelihood ratio, bootstrap
    for column in (0, 2):
        wrong = int((p[:, column] < 0.05).sum())
        assert wrong <= stats.binom.ppf(0.9995, trials, 0.05), column
    # Nor is the test so cautious that it never speaks: p is spread over the whole range.
    assert stats.kstest(p[:, 0], "uniform").pvalue > 1e-3


def test_a_clear_difference_is_found_by_robust_fits_too():
    found = [equal_exponents(groups(seed, (0.05, 0.056)), "recipe", n=150, delta=0.01, starts=4) for seed in range(12)]
    # The difference is 4 standard errors, so that F has power above .95; a robust fit may lose some of it.
    assert sum(one.rejected for one in found) >= 9
    assert all(one.rests_on == "bootstrap" for one in found)
    inside = [one.differences["low"][0] <= -0.006 <= one.differences["high"][0] for one in found]
    assert sum(inside) >= 9


def test_outliers_do_not_fool_the_robust_test():
    frame = groups(4)
    frame.loc[frame.index[-2:], "loss"] *= 1.25  # two runs of one group went wrong at the large end
    robust = equal_exponents(frame, "recipe", n=200, starts=8)
    alone = groups(4)
    clean = equal_exponents(alone, "recipe", n=200, starts=8, objective="log-mse")
    moved = equal_exponents(frame, "recipe", n=200, starts=8, objective="log-mse")
    truth = clean.differences["difference"][0]
    assert abs(robust.differences["difference"][0] - truth) < 0.5 * abs(moved.differences["difference"][0] - truth)


def test_floors_stay_each_groups_own_and_any_parameter_may_be_tested():
    """Ten experiments with floors .3 apart and one exponent."""
    flops = np.geomspace(1e17, 1e22, 30)
    exponent_rejected, floor_rejected = 0, 0
    for seed in range(10):
        rng = np.random.default_rng(50 + seed)
        frame = pd.concat(
            [pd.DataFrame({"flops": flops, "loss": e + 300 * flops**-0.13, "recipe": f"E {e}"}) for e in (1.6, 1.9)],
            ignore_index=True,
        )
        frame["loss"] *= np.exp(0.002 * rng.standard_normal(60))
        options = {"law": "power_constant", "objective": "log-mse", "n": 30, "starts": 16}
        exponent_rejected += equal_exponents(frame, "recipe", **options).rejected
        floor = equal_exponents(frame, "recipe", parameter="E", **options)
        floor_rejected += floor.rejected
    assert exponent_rejected <= 3  # Binomial(10, .05) is above with probability 0.1 %
    assert floor_rejected == 10 and floor.shared == ("E",) and "E differs between" in floor.verdict
    assert floor.frame["group"].tolist() == ["E 1.6", "E 1.9"]


def test_json_is_strict_and_html_escaped():
    frame = groups(0).replace({"recipe": {"r0": "<script>"}})
    found = equal_exponents(frame, "recipe", n=40, starts=8)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "<script>" not in found._repr_html_() and "&lt;script&gt;" in found._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"by": "family"}, "no column 'family'"),
        ({"by": "recipe", "groups": ["r0"]}, "at least two"),
        ({"by": "recipe", "parameter": "gamma"}, "no parameter 'gamma' to share"),
        ({"by": "recipe", "law": "constant"}, "has no exponent"),
        ({"by": "recipe", "fixed": {"alpha": 0.05}}, "fixed or tied"),
        ({"by": "recipe", "level": 1.5}, "between 0 and 1"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        equal_exponents(groups(0), **arguments)


def test_a_group_without_degrees_of_freedom_is_named():
    frame = groups(0)
    frame = frame[(frame["recipe"] == "r0") | (frame.index % 10 == 0)]
    with pytest.raises(ValueError, match="group r1 has 2 runs for 2 free parameters"):
        equal_exponents(frame, "recipe")
