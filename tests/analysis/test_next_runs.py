"""The next run: predicted narrowing against refits, against exact linear design, and against a known answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame
from workbench.analysis.next_runs import next_runs
from workbench.fits.intervals import t_quantile


@pytest.fixture(scope="module")
def fitted():
    return workbench.fit(chinchilla_frame(1, n=60, tails=50.0), "chinchilla", objective="log-mse")


def test_predicted_narrowing_is_what_the_formula_of_least_squares_gives_with_the_run_added(fitted):
    answer = next_runs(fitted, "alpha", budget=1e22, n=1)
    best = answer.chosen.iloc[0]
    n, d = fitted.points.x["N"], fitted.points.x["D"]
    p = fitted.params

    def jacobian(n, d):
        a, b = p["A"] * n ** -p["alpha"], p["B"] * d ** -p["beta"]
        total = p["E"] + a + b
        # in log E, log A, log B, log alpha, log beta: the coordinates of positive parameters
        terms = [p["E"] + 0 * n, a, b, -a * p["alpha"] * np.log(n), -b * p["beta"] * np.log(d)]
        return np.stack(terms, axis=1) / total[:, None]

    before = jacobian(n, d)
    added = jacobian(np.append(n, best["params"]), np.append(d, best["tokens"]))
    widths = [np.sqrt(np.linalg.inv(j.T @ j)[3, 3]) for j in (before, added)]
    assert best["narrowing"] == pytest.approx(1 - widths[1] / widths[0], rel=1e-4)
    s = np.sqrt((fitted.residuals**2).sum() / fitted.degrees)
    assert answer.half_width == pytest.approx(t_quantile(0.95, fitted.degrees) * s * widths[0], rel=1e-4)


def test_the_promise_is_kept_on_average_by_runs_really_added():
    """Adding the chosen run many times over shrinks the interval as foretold."""
    frame = chinchilla_frame(2, n=40, tails=50.0)
    fitted = workbench.fit(frame, "chinchilla", objective="log-mse")
    answer = next_runs(fitted, "loss", budget=1e24, n=1, params=1e11, tokens=1e12)
    best = answer.chosen.iloc[0]
    rng = np.random.default_rng(0)
    noise = np.sqrt((fitted.residuals**2).sum() / fitted.degrees)
    widths = []
    for _ in range(40):
        truth = fitted.law.predict(fitted.theta, {"N": best["params"], "D": best["tokens"]})
        row = {"params": best["params"], "tokens": best["tokens"], "loss": truth.item() * np.exp(noise * rng.normal())}
        again = workbench.fit(pd.concat([frame, pd.DataFrame([row])]), "chinchilla", objective="log-mse", starts=64)
        widths.append(next_runs(again, "loss", budget=1e24, n=1, params=1e11, tokens=1e12).half_width)
    assert np.mean(widths) == pytest.approx(answer.chosen["half_width"].iloc[0], rel=0.12)
    assert np.mean(widths) < answer.half_width


def test_a_straight_line_extrapolated_wants_a_run_at_the_far_end():
    """For y = a + b u asked beyond the data, the variance falls most by a point as far out as allowed."""
    flops = np.geomspace(1e17, 1e20, 12)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"flops": flops, "loss": 20 * flops**-0.05 * np.exp(0.01 * rng.normal(size=12))})
    fitted = workbench.fit(frame, "power", objective="log-mse")
    candidates = {"flops": np.geomspace(1e17, 1e21, 30)}
    answer = next_runs(fitted, "loss", budget=1e22, n=1, candidates=candidates, flops=1e23)
    assert answer.frame["flops"][answer.frame["narrowing"].argmax()] == pytest.approx(1e21)


def test_the_budget_holds_and_each_run_narrows_further(fitted):
    answer = next_runs(fitted, budget=2e21, n=4)
    assert answer.chosen["flops"].sum() <= 2e21
    widths = [answer.half_width, *answer.chosen["half_width"]]
    assert (np.diff(widths) < 0).all() and 1 <= len(answer.chosen) <= 4
    assert "tokens per parameter" in answer.verdict.lower() and "if the law holds" in answer.verdict
    answer.plot().to_dict()


def test_bad_input_is_one_sentence(fitted):
    with pytest.raises(ValueError, match="buys none"):
        next_runs(fitted, budget=1.0)
    with pytest.raises(ValueError, match="lacks the column 'tokens'"):
        next_runs(fitted, budget=1e22, candidates={"params": [1e9]})
    with pytest.raises(ValueError, match="budget is -1"):
        next_runs(fitted, budget=-1)
