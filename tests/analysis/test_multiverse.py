"""The multiverse: every optimum, every share and every answer against an independent computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import workbench
from tests.fits.conftest import chinchilla_frame
from workbench.analysis.allocation import allocation
from workbench.analysis.choices import Choice
from workbench.analysis.conclusions import ask
from workbench.analysis.multiverse import multiverse
from workbench.analysis.spread import filled, shares
from workbench.engine.objective import Objective
from workbench.laws import get
from workbench.runs.load import load

SHARED = Path(__file__).parents[3] / "shared" / "runs" / "chinchilla" / "digitised_points.csv"
shared = pytest.mark.skipif(not SHARED.is_file(), reason=f"the public run logs are not at {SHARED}")
BUDGET = 5.88e23


@pytest.fixture(scope="module")
def published():
    return multiverse(SHARED, "chinchilla", flops=BUDGET)


@pytest.fixture(scope="module")
def drawn():
    return multiverse(chinchilla_frame(n=60), "chinchilla", flops=1e22)


def ratio_by_hand(p: dict[str, float], budget: float) -> float:
    """Hoffmann et al. 2022, eq. 4: N_opt = G (C/6)^(beta/(alpha+beta)), and D = C / 6N."""
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    n = g * (budget / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))
    return budget / 6 / n**2


@shared
def test_published_sensitivities(published):
    """Tokens per parameter at Chinchilla's compute, by BFGS from many starts, to the digits of that computation."""
    frame = published.frame
    assert len(frame) >= 200
    known = {
        ("keep all", "free"): {"log-huber 0.001": 6.8, "huber 0.001": 3.8, "log-mse": 2.0, "log-mae": 6.5},
        ("drop 5 highest", "free"): {"log-huber 0.001": 17.9, "huber 0.001": 15.6, "log-mse": 14.2, "log-mae": 18.3},
        ("keep all", "beta = alpha"): {"log-huber 0.001": 25},
        ("drop 5 highest", "beta = alpha"): {"log-huber 0.001": 24},
    }
    everything = frame[frame["subset"] == "all"]
    for (outliers, exponents), values in known.items():
        part = everything[(everything["outliers"] == outliers) & (everything["exponents"] == exponents)]
        found = part.set_index("objective")["estimate"]
        for objective, value in values.items():
            assert found[objective] == pytest.approx(value, rel=0.03), (outliers, exponents, objective)


@shared
def test_published_filters():
    subsets = [Choice("subset", "all")] + [
        Choice("subset", e, keep=e) for e in ("params <= 1e9", "tokens_per_param <= 18", "tokens_per_param >= 22")
    ]
    few = ("objective", "exponents")
    found = multiverse(SHARED, flops=BUDGET, choices=subsets, drop=few).frame
    found = found[found["outliers"] == "drop 5 highest"].set_index("subset")
    expected = {"params <= 1e9": (2.1, 118), "tokens_per_param <= 18": (32, 107), "tokens_per_param >= 22": (1.5, 123)}
    for option, (ratio, runs) in expected.items():
        # 32 and 1.5 are printed to two digits
        assert found["estimate"][option] == pytest.approx(ratio, rel=0.035) and found["n_runs"][option] == runs


@shared
def test_outliers_and_objective_are_named_when_the_analyst_keeps_all_sizes():
    found = multiverse(SHARED, flops=BUDGET, drop=("subset", "exponents"))
    moves = found.moves()
    assert list(moves["moves"][:2]) == ["outliers", "objective"]
    assert "the outlier rule" in found.verdict and "277" not in found.verdict
    # the shares again, from pandas' group means
    frame = found.frame.assign(log=np.log(found.frame["estimate"]))
    for name in ("outliers", "objective"):
        share = frame.groupby(name)["log"].mean().var(ddof=0) / frame["log"].var(ddof=0)
        assert moves.set_index("moves")["share"][name] == pytest.approx(share, rel=1e-9)


@shared
def test_a_random_subset_is_what_the_ordinary_fit_finds(published):
    rng = np.random.default_rng(5)
    for row in [0, *rng.choice(len(published), 14, replace=False)]:
        again = published.refit(int(row))
        value = published.frame["objective_value"][row]
        assert value <= again.value * (1 + 1e-6), str(published.specs[row])
        assert again.n_runs == published.frame["n_runs"][row]
        if abs(value / again.value - 1) < 1e-9:
            expected = ratio_by_hand(again.params, BUDGET)
            assert published.frame["estimate"][row] == pytest.approx(expected, rel=1e-3)


def test_every_analysis_of_drawn_runs_is_an_optimum(drawn):
    rng = np.random.default_rng(0)
    for row in rng.choice(len(drawn), 12, replace=False):
        again = drawn.refit(int(row))
        assert drawn.frame["objective_value"][row] == pytest.approx(again.value, rel=1e-6), str(drawn.specs[row])


def test_least_absolute_deviations_of_a_power_law_by_linear_programming():
    """A pure power law is linear in logarithms, so that the optimum is that of one linear program."""
    rng = np.random.default_rng(3)
    x = np.geomspace(1e6, 1e9, 40)
    y = 30 * x**-0.1 * np.exp(0.02 * rng.standard_t(2, 40))
    frame = pd.DataFrame({"params": x, "loss": y})
    found = multiverse(frame, "power", question="alpha", options={"x": "params"})
    row = found.frame[(found.frame["objective"] == "log-mae") & (found.frame["outliers"] == "keep all")]
    row = row[row["subset"] == "all"].iloc[0]
    design = np.stack([np.ones(40), -np.log(x)], axis=1)
    sides = np.block([[design, -np.eye(40)], [-design, -np.eye(40)]])
    right = np.concatenate([np.log(y), -np.log(y)])
    best = linprog([0, 0, *np.ones(40)], A_ub=sides, b_ub=right, bounds=[(None, None)] * 2 + [(0, None)] * 40)
    assert row["objective_value"] == pytest.approx(best.fun, rel=1e-9)
    assert row["estimate"] == pytest.approx(best.x[1], rel=1e-6)


def test_optimal_allocation_is_the_published_formula():
    law = get("chinchilla")
    rng = np.random.default_rng(0)
    theta = np.stack([rng.uniform(1, 2, 50), rng.uniform(100, 900, 50), rng.uniform(300, 9000, 50),
                      rng.uniform(0.25, 0.5, 50), rng.uniform(0.25, 0.5, 50)], axis=1)  # fmt: skip
    ratio, params, loss = allocation(law, {"N": "params", "D": "tokens"}, theta, 1e22)
    expected = [ratio_by_hand(dict(zip(law.symbols, t, strict=True)), 1e22) for t in theta]
    assert ratio == pytest.approx(expected, rel=1e-3)
    assert 6 * params**2 * ratio == pytest.approx(np.full(50, 1e22))
    at = law.predict(theta, {"N": [1.0], "D": [1.0]})  # shapes only: the loss is that of the law at the optimum
    assert at.shape == (50, 1)
    direct = [law.predict(t, {"N": n, "D": n * r})[()] for t, n, r in zip(theta, params, ratio, strict=True)]
    assert loss == pytest.approx(np.ravel(direct), rel=1e-12)


def test_questions(drawn):
    base = drawn.fit
    columns, theta = base.points.columns, base.theta[None]
    p = base.params
    assert ask("exponent", base, flops=1e21).answer(base.law, columns, theta)[0] == pytest.approx(
        p["beta"] / (p["alpha"] + p["beta"]), rel=1e-3
    )
    loss = ask("loss", base, params=1e9, tokens=2e10).answer(base.law, columns, theta)[0]
    assert loss == pytest.approx(p["E"] + p["A"] * 1e9 ** -p["alpha"] + p["B"] * 2e10 ** -p["beta"])
    assert ask("parameter E", base).answer(base.law, columns, theta)[0] == p["E"]
    assert ask(lambda law, theta: theta[0] + 1, base).answer(base.law, columns, theta)[0] == p["E"] + 1
    default = ask(None, base)
    largest = float((base.points.x["N"] * base.points.x["D"]).max()) * 6
    assert "10 times the largest" in default.why and f"{float(f'{10 * largest:.2g}'):.3g}" in default.text
    for bad, words in (("nonsense", "nobody can answer"), ("loss", "is missing")):
        with pytest.raises(ValueError, match=words):
            ask(bad, base, **({"params": 1e9} if bad == "loss" else {}))
    with pytest.raises(ValueError, match="positive number"):
        ask("tokens_per_param", base, flops=-1)


def test_shares_are_sobol_indices_of_a_known_function():
    """f = a + b c on independent two-valued factors: variances by hand."""
    a, b, c = np.meshgrid([0.0, 3.0], [-1.0, 1.0], [-2.0, 2.0], indexing="ij")
    table = shares(a + b * c, ["a", "b", "c"]).set_index("dimensions")
    variance_a, variance_bc = 1.5**2, 4.0
    total = variance_a + variance_bc
    assert table["share"][("a",)] == pytest.approx(variance_a / total)
    assert table["share"][("b", "c")] == pytest.approx(variance_bc / total)
    assert table["share"][("b",)] == pytest.approx(0, abs=1e-12)
    assert table["total"][("b",)] == pytest.approx(variance_bc / total)
    assert table["share"].sum() == pytest.approx(1)


def test_missing_analyses_are_filled_by_main_effects():
    grid = np.add.outer(np.array([0.0, 1.0, 5.0]), np.array([0.0, 2.0, 3.0, 7.0]))
    holes = grid.copy()
    holes[1, 2] = holes[2, 0] = np.nan
    assert filled(holes) == pytest.approx(grid, abs=1e-6)


def test_moves_add_up_and_the_summary_is_that_of_the_frame(drawn):
    moves = drawn.moves()
    assert moves["share"].sum() == pytest.approx(1, abs=1e-9)
    values = drawn.frame["estimate"][drawn.frame["counted"]]
    s = drawn.summary(below=20, above=20)
    assert s["median"] == pytest.approx(values.median()) and s["max"] == values.max()
    assert s["share_below"] == pytest.approx((values < 20).mean())
    low, high = drawn.frame[["low", "high"]].iloc[0]
    assert s["inside"] == pytest.approx(values.between(low, high).mean())
    names, share = drawn.deciding
    assert 0 < share <= 1 and all(f"{share:.0%}" in drawn.verdict for _ in names)


def test_bootstrap_intervals_are_those_of_the_ordinary_fit():
    few = [Choice("subset", "all"), Choice("subset", "large", keep="params > 3e8")]
    found = multiverse(chinchilla_frame(n=80), flops=1e22, choices=few, drop=("outliers", "exponents"), n=300)
    assert found.frame[["low", "high"]].notna().all(axis=None)
    for row in (0, len(found) // 2 + 1):
        fitted = found.refit(row)
        plain = fitted.draws(300)
        answers = [ratio_by_hand(dict(zip(fitted.law.symbols, t, strict=True)), 1e22) for t in plain]
        expected = np.log(np.percentile(answers, [2.5, 97.5]))
        width = expected[1] - expected[0]
        # the same resamples: only ones with two valleys may differ
        assert np.log(found.frame[["low", "high"]].iloc[row].to_numpy(float)) == pytest.approx(
            expected, abs=0.1 * width
        )


def test_dimensions_that_do_not_apply_say_why(drawn):
    assert set(drawn.skipped) == {"size", "compute", "checkpoints", "lr"}
    assert all(len(why) > 10 for why in drawn.skipped.values())


def rich_runs(seed: int = 0):
    """Runs with two counts, measured compute, several learning rates and curves."""
    rng = np.random.default_rng(seed)
    frame = chinchilla_frame(seed, n=60, noise=0.003)
    frame = pd.concat([frame.assign(lr=lr) for lr in (1e-3, 3e-3)], ignore_index=True)
    frame.loc[frame["lr"] == 1e-3, "loss"] *= 1.02
    frame["params_non_embedding"] = frame["params"] * 0.8 - 1e6
    frame["flops"] = 6.3 * frame["params"] * frame["tokens"]
    frame["run"] = [f"r{i}" for i in range(len(frame))]
    table = load(frame)
    curves = {}
    for run, loss in zip(table.frame["run"], table.frame["loss"], strict=True):
        steps = np.arange(0, 1001, 100.0)
        curves[run] = pd.DataFrame({"step": steps, "loss": loss * (1 + 0.3 * (1 - steps / 1000))})
        curves[run].loc[8, "loss"] = loss * 0.9 if rng.random() < 0.1 else curves[run]["loss"][8]
    from dataclasses import replace

    return replace(table, curves=curves)


def test_every_dimension_applies_where_the_runs_allow_it():
    runs = rich_runs()
    found = multiverse(runs, flops=1e22, drop=("objective", "outliers", "subset", "exponents"))
    assert set(found.varied) == {"size", "compute", "checkpoints", "lr"}
    frame = found.frame.set_index(["size", "compute", "checkpoints", "lr"])
    best = frame.xs("best of each cell", level="lr")
    pooled = frame.xs("all pooled", level="lr")
    assert (best["n_runs"] * 2 == pooled["n_runs"]).all() and (pooled["n_runs"] == 120).all()
    # by hand: non-embedding parameters, and tokens from measured compute, of the better learning rate
    rows = runs.frame[runs.frame["lr"] == 3e-3]
    counted = pd.DataFrame({"params": rows["params_non_embedding"], "loss": rows["loss"]})
    counted["tokens"] = rows["flops"] / (6 * rows["params"])
    by_hand = workbench.fit(counted, "chinchilla")
    row = frame.loc[("params_non_embedding", "tokens = C/6N", "final", "best of each cell")]
    assert row["objective_value"] == pytest.approx(by_hand.value, rel=1e-6)
    assert row["estimate"] == pytest.approx(ratio_by_hand(by_hand.params, 1e22), rel=1e-3)


def test_own_choices_and_bad_ones():
    frame = chinchilla_frame(n=40)
    own = [Choice("objective", "narrow", objective=Objective("log-huber", 1e-4)), Choice("objective", "squares",
           objective=Objective("log-mse"))]  # fmt: skip
    found = multiverse(frame, choices=own, drop=["outliers", "subset", "exponents"])
    assert list(found.frame["objective"]) == ["narrow", "squares"]
    for words, arguments in {
        "no dimension 'colour'": {"drop": "colour"},
        "cannot evaluate": {"choices": [Choice("mine", "a"), Choice("mine", "b", keep="nothing > 3")]},
        "same name": {"choices": [Choice("mine", "a"), Choice("mine", "a")]},
        "n is 1": {"n": 1},
        "column of the result": {"choices": [Choice("low", "a"), Choice("low", "b")]},
    }.items():
        if words == "cannot evaluate":
            bad = multiverse(frame, drop=["outliers", "subset", "exponents", "objective"], **arguments)
            assert bad.frame["note"].str.contains("nothing").all() and "None of" in bad.verdict
            continue
        with pytest.raises(ValueError, match=words):
            multiverse(frame, **arguments)


def test_analyses_with_too_few_runs_are_marked_rows():
    few = [Choice("subset", "all"), Choice("subset", "three", keep=lambda f: np.arange(len(f)) < 3)]
    found = multiverse(chinchilla_frame(n=40), choices=few, drop=["outliers", "exponents", "objective"])
    assert list(found.frame["counted"]) == [True, False]
    assert "3 runs for 5 free parameters" in found.frame["note"][1]


def test_everything_leaves_as_strict_json_and_escaped_html():
    frame = chinchilla_frame(n=40)
    bad = [Choice("mine", "<script>"), Choice("mine", "b", keep="params > 2e8")]
    found = multiverse(frame, choices=bad, drop=["outliers", "subset", "exponents"])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["law"] == "chinchilla"
    assert "<script>" not in found._repr_html_() and "&lt;script&gt;" in found._repr_html_()


def test_progress_and_cancelling():
    seen = []
    multiverse(chinchilla_frame(n=40), drop=["subset"], tick=lambda fraction, what: seen.append(fraction))
    assert seen == sorted(seen) and seen[-1] == 1.0

    def stop(fraction, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        multiverse(chinchilla_frame(n=40), drop=["subset"], tick=stop)


def test_the_known_entropy_lies_within_the_multiverse_of_shipped_runs():
    from workbench.shipped import sweep

    found = multiverse(sweep("bigram"), question="parameter E", drop=["checkpoints", "size", "exponents"])
    s = found.summary()
    assert s["q05"] < 4.81201 < s["max"]
    assert s["q25"] == pytest.approx(4.812, rel=0.02) and s["q75"] == pytest.approx(4.812, rel=0.02)


@shared
def test_unprompted_the_objective_and_the_five_points_are_what_moves_the_default_analysis(published):
    """6.8 with all points; 2.0 under squares; 17.9 without the five highest losses: one choice changed at a time."""
    alone = published.alone().set_index(["dimension", "option"])["estimate"]
    assert alone["objective", "log-mse"] == pytest.approx(2.0, rel=0.03)
    assert alone["outliers", "drop 5 highest"] == pytest.approx(17.9, rel=0.03)
    said = published.one_by_one
    assert said.index("the objective") < said.index("the subset") and "18 (drop 5 highest)" in said
    assert said in repr(published)


@shared
def test_one_change_at_a_time_is_an_ordinary_fit_with_that_argument(published):
    runs = workbench.load(SHARED)
    tied = workbench.fit(runs, "chinchilla", tied={"beta": "alpha"})
    alone = published.alone().set_index(["dimension", "option"])
    assert alone["estimate"]["exponents", "beta = alpha"] == pytest.approx(
        float(tied.plan(BUDGET).frame["tokens_per_param"].iloc[0]), rel=1e-3
    )
