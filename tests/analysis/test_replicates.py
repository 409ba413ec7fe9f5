"""Seed replicates: scipy's tests, published tables, error rates by simulation, and a public speed-run's seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.analysis.pairwise import CORRECTIONS, range_tail, seeds_needed
from workbench.analysis.replicates import replicates

TRACK = Path(__file__).parents[3] / "shared" / "runs" / "nanogpt_logs" / "track3"


def seeds(seed: int, means, n, sd=0.001) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = np.broadcast_to(n, len(means))
    spread = np.broadcast_to(sd, len(means))
    parts = [
        pd.DataFrame({"recipe": f"r{i}", "loss": m + s * rng.standard_normal(k)})
        for i, (m, k, s) in enumerate(zip(means, sizes, spread, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("q", "recipes", "degrees"), [(3.1, 4, 6.3), (9.8, 4, 2.0), (3.5, 3, 1.5), (2.0, 10, 60), (4.2, 6, 500)]
)
def test_studentized_range_is_scipys(q, recipes, degrees):
    assert range_tail(q, recipes, degrees) == pytest.approx(stats.studentized_range.sf(q, recipes, degrees), abs=1e-8)


def test_critical_values_of_the_printed_table():
    """Upper 5 % points of the studentized range (Pearson and Hartley 1966, table 29)."""
    for recipes, degrees, q in ((3, 10, 3.877), (4, 20, 3.958), (5, 5, 5.673), (10, 60, 4.646)):
        assert range_tail(q, recipes, degrees) == pytest.approx(0.05, abs=1e-4)


def test_two_recipes_are_welchs_test():
    frame = seeds(0, [3.0, 3.001], [6, 9], [0.001, 0.003])
    a, b = (frame.loc[frame["recipe"] == g, "loss"] for g in ("r0", "r1"))
    welch = stats.ttest_ind(a, b, equal_var=False)
    interval = welch.confidence_interval(0.95)
    for correction in ("games-howell", "holm"):
        row = replicates(frame, correction=correction).pairs.iloc[0]
        assert row["p"] == pytest.approx(welch.pvalue) and row["degrees"] == pytest.approx(welch.df)
        assert row["p_adjusted"] == pytest.approx(welch.pvalue, abs=1e-8)
        sign = 1 if row["better"] == "r1" else -1
        ends = sorted(sign * v for v in (interval.low, interval.high))
        assert [row["low"], row["high"]] == pytest.approx(ends, rel=1e-6)


def test_tukey_is_scipys():
    frame = seeds(1, [3.0, 3.001, 3.002, 3.002], [4, 5, 6, 7])
    samples = [frame.loc[frame["recipe"] == f"r{i}", "loss"] for i in range(4)]
    theirs = stats.tukey_hsd(*samples)
    ends = theirs.confidence_interval(0.95)
    for _, row in replicates(frame, correction="tukey").pairs.iterrows():
        i, k = int(row["better"][1]), int(row["worse"][1])
        assert row["p_adjusted"] == pytest.approx(theirs.pvalue[i, k], abs=1e-7)
        assert [row["low"], row["high"]] == pytest.approx([ends.low[k, i], ends.high[k, i]], rel=1e-5)


def test_games_howell_is_scipys():
    frame = seeds(2, [3.0, 3.001, 3.003], [5, 8, 6], [0.001, 0.002, 0.0005])
    samples = [frame.loc[frame["recipe"] == f"r{i}", "loss"] for i in range(3)]
    theirs = stats.tukey_hsd(*samples, equal_var=False)
    for _, row in replicates(frame).pairs.iterrows():
        i, k = int(row["better"][1]), int(row["worse"][1])
        assert row["p_adjusted"] == pytest.approx(theirs.pvalue[i, k], abs=1e-7)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_equal_recipes_are_rarely_told_apart(n):
    """Familywise error with equal means and spreads 1 to 3: at most 5 %."""
    trials = 60
    wrong = sum(bool(replicates(seeds(s, [3.0] * 3, n, [0.001, 0.002, 0.003])).wins) for s in range(trials))
    assert wrong <= stats.binom.ppf(0.9995, trials, 0.05)


def test_a_clear_difference_is_named():
    found = replicates(seeds(3, [3.0, 3.01, 3.02], 6))
    assert found.wins == [("r0", "r1"), ("r0", "r2"), ("r1", "r2")] and found.winner == "r0"
    assert found.frame["letters"].tolist() == ["a", "b", "c"]
    assert found.verdict == "r0 beats r1 and r2; r1 beats r2."
    assert replicates(seeds(3, [3.0, 3.01, 3.02], 6), better="higher").winner == "r2"


def test_few_seeds_with_overlapping_intervals_name_no_winner():
    frame = pd.DataFrame({"recipe": ["a"] * 3 + ["b"] * 3, "loss": [3.000, 3.001, 3.002, 3.003, 3.004, 3.0055]})
    found = replicates(frame)
    row = found.pairs.iloc[0]
    assert row["p_adjusted"] < 0.05 and not row["supported"] and found.winner is None
    assert "fewer than 5 seeds with overlapping intervals" in found.verdict and "beats" not in found.verdict


def test_seeds_needed_gives_the_power_by_simulation():
    difference, sd, have = 0.001, (0.001, 0.0015), (3, 5)
    more = seeds_needed(difference, sd, have)
    rng = np.random.default_rng(0)

    def power(k):
        a = rng.normal(0, sd[0], (4000, have[0] + k))
        b = rng.normal(difference, sd[1], (4000, have[1] + k))
        return (stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < 0.05).mean()

    at, before = power(int(more)), power(int(more) - 6)
    assert 0.77 < at < 0.85 and before < at - 0.02


def test_seeds_needed_is_the_textbooks():
    """Two-sided t test at 5 %, power .8, difference of one standard deviation: 17 in each group (Cohen 1988)."""
    assert seeds_needed(1.0, (1.0, 1.0), (2, 2)) == 15
    assert seeds_needed(0.5, (1.0, 1.0), (2, 2)) == 62  # 64 in each group
    assert np.isnan(seeds_needed(0.0, (1.0, 1.0), (5, 5))) and np.isnan(seeds_needed(1.0, (1.0, np.nan), (5, 1)))


def test_letters_are_shared_exactly_where_nothing_is_supported():
    rng = np.random.default_rng(0)
    for trial in range(8):
        found = replicates(seeds(trial, 3 + 0.002 * rng.standard_normal(6), 5))
        letters = dict(zip(found.frame["recipe"], found.frame["letters"], strict=True))
        for _, row in found.pairs.iterrows():
            shared = set(letters[row["better"]]) & set(letters[row["worse"]])
            assert bool(shared) != row["supported"]


def test_one_seed_and_copies_of_one_run_tell_nothing():
    lonely = replicates(pd.DataFrame({"recipe": ["a", "b", "b"], "loss": [3.0, 3.1, 3.1001]}))
    assert lonely.winner is None and "a has one seed" in lonely.verdict and np.isnan(lonely.frame["sd"][0])
    copies = replicates(pd.DataFrame({"recipe": ["a", "a", "b", "b"], "loss": [3.0, 3.0, 3.1, 3.1]}))
    assert copies.winner is None and "copies of one run" in copies.verdict
    pooled = replicates(seeds(0, [3.0, 3.02, 3.04], [1, 6, 6]), correction="tukey")
    assert ("r0", "r1") in pooled.wins  # one spread for all lends a single seed an interval


def test_runs_that_diverged_are_left_out_and_listed():
    frame = seeds(0, [3.0, 3.1], 5).assign(run=[f"run {i}" for i in range(10)])
    frame.loc[2, "loss"] = np.nan
    found = replicates(frame)
    assert list(found.left_out) == ["run 2"] and found.frame["n"].tolist() == [4, 5]
    assert found.frame["mean"][0] == pytest.approx(frame["loss"][:5].mean())


def test_json_is_strict_and_html_escaped():
    found = replicates(seeds(0, [3.0, 3.1], [1, 4]).replace({"recipe": {"r1": "<script>"}}))
    json.dumps(found.to_dict(), allow_nan=False)
    assert "<script>" not in found._repr_html_() and "&lt;script&gt;" in found._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"by": "model"}, "no column 'model' to compare by"),
        ({"y": "accuracy"}, "no numeric column 'accuracy'"),
        ({"correction": "bonferroni"}, "choose one of games-howell"),
        ({"better": "low"}, "'lower' or 'higher'"),
        ({"groups": ["r0"]}, "names 1 recipe"),
        ({"groups": ["r0", "r7"]}, "for 'r7'"),
        ({"power": 80}, "between 0 and 1, such as 0.8"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        replicates(seeds(0, [3.0, 3.1], 4), **arguments)


@pytest.fixture(scope="module")
def track():
    if not TRACK.is_dir():
        pytest.skip(f"the public run logs are not at {TRACK}")
    rows = []
    for path in sorted(TRACK.glob("*/*.txt")):
        found = re.findall(r"^step:(\d+)/(\d+) val_loss:([\d.]+)", path.read_text(errors="replace"), re.MULTILINE)
        assert found[-1][0] == found[-1][1], "the last validation is at the last step"
        rows.append({"run": path.stem, "recipe": path.parent.name.split("_")[1], "loss": float(found[-1][2])})
    return pd.DataFrame(rows)


def test_four_recipes_of_a_speed_run(track):
    """Final losses of Keller Jordan's modded-nanogpt, track 3; means and numbers as its README gives them."""
    found = replicates(track)
    table = found.frame.set_index("recipe")
    means = {"adamh": 3.27414, "muonh": 3.27821, "normuonh": 3.27728, "skylight001": 3.27708}
    assert table["mean"].to_dict() == pytest.approx(means, abs=6e-6)
    assert table["n"].to_dict() == {"adamh": 5, "muonh": 10, "normuonh": 10, "skylight001": 8}
    samples = [track.loc[track["recipe"] == g, "loss"] for g in means]
    theirs = stats.tukey_hsd(*samples, equal_var=False)  # Games and Howell's
    for _, row in found.pairs.iterrows():
        i, k = (list(means).index(row[side]) for side in ("better", "worse"))
        assert row["p_adjusted"] == pytest.approx(theirs.pvalue[i, k], abs=1e-6)
    # adamh ends lower than each of the others; those three cannot be told apart, whatever the correction.
    for correction in CORRECTIONS:
        wins = replicates(track, correction=correction).wins
        assert sorted(wins) == [("adamh", "muonh"), ("adamh", "normuonh"), ("adamh", "skylight001")]
    assert found.winner == "adamh" and table["letters"].to_dict() == {
        "adamh": "a", "skylight001": "b", "normuonh": "b", "muonh": "b"
    }  # fmt: skip
