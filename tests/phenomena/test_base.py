"""Claims and verdicts, estimates against theory, and phenomena that do what they must not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.phenomena import Claim, Paper, Phenomenon, find, phenomena
from workbench.phenomena.base import THEMES, verdict
from workbench.phenomena.estimates import Estimate, bootstrap, exact, mean, proportion, slope


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.9, 2.1, "shown"), (1.0, 3.0, "shown"), (0.9, 2.0, "undecided"), (2.0, 3.1, "undecided"),
        (0.0, 9.0, "undecided"), (0.0, 0.99, "refuted"), (3.01, 4.0, "refuted"), (math.nan, math.nan, "undecided"),
    ],
)  # fmt: skip
def test_a_claim_is_shown_by_a_whole_interval_only(low, high, expected):
    claim = Claim("slope", 1.0, 3.0, source="theory")
    assert verdict(claim, Estimate((low + high) / 2, low, high, 5)) == expected


def test_one_sided_claims():
    claim = Claim("gain", 5.0, math.inf, source="paper")
    assert claim.range == "at least 5" and Claim("loss", -math.inf, -1.0, source="paper").range == "at most -1"
    assert verdict(claim, Estimate(9, 6, math.inf, 3)) == "shown"
    assert verdict(claim, Estimate(3, -math.inf, 4, 3)) == "refuted"


@pytest.mark.parametrize(
    ("low", "high", "more", "said"), [(2.0, 1.0, {}, "empty"), (1.0, 3.0, {"rival": 2.0}, "rival")]
)
def test_senseless_claims_are_refused(low, high, more, said):
    with pytest.raises(ValueError, match=said):
        Claim("slope", low, high, source="theory", **more)


def test_intervals_cover_what_they_should():
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(1.0, 7.0), 5)
    seeds = np.tile(np.arange(5), 6)
    hits = dict.fromkeys(["mean", "slope", "seeds", "share"], 0)
    trials = 1000
    for _ in range(trials):
        found = mean(3 + rng.standard_normal(6))
        hits["mean"] += found.low <= 3 <= found.high
        y = 2 * x + rng.standard_normal(x.size)
        found = slope(x, y)
        hits["slope"] += found.low <= 2 <= found.high
        # what the points of one seed share spoils the plain interval, not that over seeds
        found = slope(x, y + 0.5 * x * rng.standard_normal(5)[seeds], seeds=seeds)
        hits["seeds"] += found.low <= 2 <= found.high
        found = proportion(rng.binomial(40, 0.05), 40)
        hits["share"] += found.low <= 0.05 <= found.high
    # three standard errors of a count of 1000 at 95 %; Wilson's interval covers 95 % only on average over shares
    for kind, tolerance in (("mean", 0.021), ("slope", 0.021), ("seeds", 0.021), ("share", 0.04)):
        assert abs(hits[kind] / trials - 0.95) < tolerance, (kind, hits)


def test_a_slope_in_logarithms_is_the_exponent():
    x = np.geomspace(1, 1e4, 9)
    found = slope(x, 7 * x**-1.5, log=True)
    assert math.isclose(found.value, -1.5, rel_tol=1e-9) and found.high - found.low < 1e-6
    assert found.low <= found.value <= found.high


def test_the_bootstrap_agrees_with_theory_for_a_mean():
    groups = list(np.random.default_rng(1).standard_normal((200, 1)))
    found = bootstrap(groups, lambda some: float(np.concatenate(some).mean()), n=2000)
    half = stats.norm.ppf(0.975) * np.std(groups) / math.sqrt(200)
    assert abs((found.high - found.low) / 2 / half - 1) < 0.1
    assert exact(3.0, 0.5) == Estimate(3.0, 2.5, 3.5, 1)


@pytest.mark.parametrize("call", [lambda: mean([1]), lambda: slope([1, 2], [1, 2]), lambda: proportion(0, 0)])
def test_too_little_is_refused(call):
    with pytest.raises(ValueError, match="needs"):
        call()


@pytest.mark.parametrize(
    ("estimate", "digits", "text"),
    [
        (Estimate(2.014, 1.951, 2.082, 9), 3, "2.01 [1.95, 2.08]"),
        (Estimate(-0.5, -0.52, -0.48, 9), 2, "−0.50 [−0.52, −0.48]"),
        (Estimate(20.3, 19.2, 21.4, 9), 2, "20 [19, 21]"), (Estimate(3.0, 3.0, 3.0, 1), 2, "3.0"),
        (Estimate(math.nan, math.nan, math.nan, 0), 2, "not measured"), (Estimate(0.0, 0.0, 0.0, 1), 2, "0.00"),
    ],
)  # fmt: skip
def test_numbers_are_rounded_to_the_same_decimal(estimate, digits, text):
    assert estimate.text(digits) == text


class Slope(Phenomenon):
    """A line of slope 2, and a flat one."""

    name, title, question = "line", "Line", "How steep?"
    papers = (Paper("A", "B", "C"),)
    claims = (Claim("slope", 1.8, 2.2, source="theory", rival=1.0),)
    control, outcome, caveats = "The line is flat.", ("y",), ("None.",)
    steepness = 2.0

    def experiment(self, arm, budget, seed, tell):
        rng = np.random.default_rng([seed, arm == "control"])
        x = np.arange(20.0)
        return pd.DataFrame({"x": x, "y": self.steepness * x * (arm == "effect") + 0.1 * rng.standard_normal(20)})

    def measure(self, runs):
        return {"slope": slope(runs["x"], runs["y"])}

    def figure(self, runs):
        raise NotImplementedError


class Wrong(Slope):
    """The same with another exponent."""

    steepness = 1.5


def test_a_wrong_slope_and_shuffled_outcomes_do_not_hold():
    right, wrong = Slope(), Wrong()
    runs = right.run(tell=lambda done: None)
    assert right.report(runs).holds and "1 shown" in right.report(runs).sentence
    assert not wrong.report(wrong.run(tell=lambda done: None)).shown
    assert not right.report(right.shuffled(runs)).holds
    swapped = runs.assign(arm=runs["arm"].map({"effect": "control", "control": "effect"}))
    assert not right.report(swapped).holds


def test_shuffling_keeps_to_the_arm():
    runs = Slope().run(tell=lambda done: None)
    dealt = Slope().shuffled(runs)
    for arm in ("effect", "control"):
        one, other = (frame.loc[frame["arm"] == arm, "y"] for frame in (runs, dealt))
        assert sorted(one) == sorted(other) and list(one) != list(other)


def test_bad_budgets_and_missing_arms_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="cpu, gpu"):
        Slope().run("tpu")
    with pytest.raises(ValueError, match="'control'"):
        Slope().report(Slope().run(tell=lambda done: None).query("arm == 'effect'"))
    with pytest.raises(ValueError, match="choose one of"):
        find("cold fusion")


def test_a_bar_is_drawn_unless_somebody_listens(capsys):
    Slope().run()
    assert "Line: done" in capsys.readouterr().err
    Slope().run(tell=lambda done: None)
    assert capsys.readouterr().err == ""


def test_every_phenomenon_has_a_contract_and_a_theme():
    from pathlib import Path

    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert phenomena()
    for name, one in phenomena().items():
        assert one.theme in THEMES and f'find("{name}")' in tests, name
