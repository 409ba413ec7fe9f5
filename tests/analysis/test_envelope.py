"""Approach 1 on loss curves whose envelope is known: runs that follow the law at every step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.analysis.designs import BALANCED, LEANING, exponent, loss, optimum
from workbench.analysis.envelope import envelope


def with_curves(p, sizes=24, noise=0.0, seed=0, skip=()):
    """Runs of `sizes` sizes with curves of 60 points, losses on the law (a constant learning rate, so to say)."""
    rng = np.random.default_rng(seed)
    params = np.geomspace(1e7, 1e11, sizes)
    rows, curves = [], {}
    for i, n in enumerate(params):
        tokens = np.geomspace(2e8, 2e12, 60)
        values = loss(p, n, tokens) * np.exp(noise * rng.standard_normal(60))
        rows.append((f"r{i}", n, tokens[-1], 6 * n * tokens[-1], values[-1]))
        curves[f"r{i}"] = pd.DataFrame({"step": np.arange(1.0, 61), "tokens": tokens, "loss": values})
    frame = pd.DataFrame(rows, columns=["run", "params", "tokens", "flops", "loss"])
    table = workbench.load(frame)
    return dataclasses.replace(table, curves={r: c for r, c in curves.items() if r not in skip})


@pytest.mark.parametrize("p", [BALANCED, LEANING], ids=["balanced", "leaning"])
def test_exponents_of_the_envelope_are_those_of_the_law(p):
    found = envelope(with_curves(p), n=100)
    slopes = found.exponents()
    # 24 sizes over four decades: steps of 0.17 decades in N, and a line through the steps
    assert slopes.loc["params", "exponent"] == pytest.approx(exponent(p), abs=0.02)
    assert slopes.loc["tokens", "exponent"] == pytest.approx(1 - exponent(p), abs=0.02)
    assert slopes.loc["params", "low"] <= exponent(p) <= slopes.loc["params", "high"]
    used = found.frame[found.frame["used"]]
    assert np.abs(np.log(used["params"] / optimum(p, used["flops"]))).max() < 1.2 * np.log(1e4) / 23
    np.testing.assert_allclose(6 * used["params"] * used["tokens"], used["flops"], rtol=1e-9)


def test_frontier_of_the_envelope_knows_size_data_and_loss():
    found = envelope(with_curves(BALANCED), n=100)
    at = np.array([1e20, 1e22, 1e24])
    frame = found.frontier(at).frame
    best = optimum(BALANCED, at)
    np.testing.assert_allclose(frame["params"], best, rtol=0.15)
    np.testing.assert_allclose(frame["loss"], loss(BALANCED, best, at / 6 / best), rtol=0.01)
    assert (frame["loss_low"] <= frame["loss"]).all() and (frame["loss"] <= frame["loss_high"]).all()


def test_edges_are_flagged_by_brute_force():
    table = with_curves(BALANCED, sizes=8)
    found = envelope(table, levels=60, n=20)
    for row in found.frame.itertuples():
        reached = {
            n: np.exp(np.interp(np.log(row.flops), np.log(6 * n * c["tokens"]), np.log(c["loss"])))
            for n, c in ((table.frame.set_index("run").loc[r, "params"], table.curves[r]) for r in table.curves)
            if 6 * n * c["tokens"].iloc[0] <= row.flops * (1 + 1e-9)
            and row.flops <= 6 * n * c["tokens"].iloc[-1] * (1 + 1e-9)
        }
        best = min(reached, key=reached.get)
        assert row.params == pytest.approx(best) and row.loss == pytest.approx(reached[best], rel=1e-9)
        assert row.used == (min(reached) < best < max(reached))
    assert 0 < found.frame["used"].sum() < len(found.frame)
    assert set(found.flagged["note"]) <= {
        "the best size is the largest or smallest that reaches this compute",
        "fewer than three sizes reach this compute",
    }


def test_final_losses_of_several_lengths_make_an_envelope_without_the_warning():
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e11, 17), np.geomspace(2e8, 2e12, 30)))
    frame = pd.DataFrame({"params": n, "tokens": d, "loss": loss(BALANCED, n, d)})
    found = envelope(frame, n=50)
    assert found.points == "final" and not any("schedule" in note for note in found.notes)
    assert found.exponents().loc["params", "exponent"] == pytest.approx(exponent(BALANCED), abs=0.03)
    curves = envelope(with_curves(BALANCED, sizes=6), n=10)
    assert curves.points == "curves" and any("decay" in note for note in curves.notes)


def test_noise_is_smoothed_on_request():
    table = with_curves(BALANCED, noise=0.01)
    raw, smooth = (envelope(table, smooth=s, n=10) for s in (1, 9))
    errors = []
    for found in (raw, smooth):
        used = found.frame[found.frame["used"]]
        best = optimum(BALANCED, used["flops"])
        errors.append(np.abs(used["loss"] / loss(BALANCED, best, used["flops"] / 6 / best) - 1).mean())
    assert errors[1] < 0.5 * errors[0]


def test_runs_without_a_usable_curve_are_left_out_and_named():
    table = with_curves(BALANCED, sizes=8, skip=("r2",))
    curves = dict(table.curves)
    curves["r3"] = curves["r3"].assign(loss=np.nan)
    curves["r4"] = curves["r4"].rename(columns={"loss": "train_loss"})
    found = envelope(dataclasses.replace(table, curves=curves), n=10)
    assert found.left_out == {"r2": "no curve", "r3": "its curve has 0 usable points", "r4": "its curve has no loss"}
    assert found.n_runs == 5


def test_one_size_has_an_envelope_and_no_exponent():
    found = envelope(with_curves(BALANCED, sizes=1), n=10)
    assert found.trend is None and np.isnan(found.exponents().loc["params", "exponent"])
    with pytest.raises(ValueError, match="no optimum away from the edges"):
        found.frontier()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"points": "checkpoints"}, "auto, curves, final"),
        ({"levels": 1}, "at least 2"),
        ({"smooth": 4}, "odd"),
        ({"level": 0}, "between 0 and 1"),
        ({"points": "final"}, "several lengths"),
    ],
)
def test_bad_arguments_say_what_is_allowed(options, words):
    with pytest.raises(ValueError, match=words):
        envelope(with_curves(BALANCED, sizes=3), **options)
