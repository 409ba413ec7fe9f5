"""Influence: every left-out answer against a refit, and the five points that a published controversy hangs on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame
from workbench.analysis.influence import influence
from workbench.runs.load import load

SHARED = Path(__file__).parents[3] / "shared" / "runs" / "chinchilla" / "digitised_points.csv"
shared = pytest.mark.skipif(not SHARED.is_file(), reason=f"the public run logs are not at {SHARED}")


@pytest.fixture(scope="module")
def fitted():
    frame = chinchilla_frame(n=40)
    frame["recipe"] = np.where(np.arange(40) % 4 == 0, "<b>odd</b>", "even")
    return workbench.fit(load(frame), "chinchilla", objective="log-mse")


@pytest.fixture(scope="module")
def found(fitted):
    return influence(fitted, flops=1e22, by="recipe")


def ratio(p, budget=1e22):
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    n = g * (budget / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))
    return budget / 6 / n**2


def test_each_run_left_out_is_a_refit_without_it(fitted, found):
    assert len(found.frame) == 40
    for row in (0, 7, 39):
        run = found.frame.iloc[row]
        again = workbench.fit(fitted.runs.drop(run["run"]), "chinchilla", objective="log-mse")
        assert run["without"] == pytest.approx(ratio(again.params), rel=2e-3)
        assert run["change"] == pytest.approx(np.log(run["without"] / found.estimate))
    assert (found.frame["change"].abs().diff().dropna() <= 1e-12).all()


def test_groups_left_out(fitted, found):
    by_name = found.groups.set_index("group")
    assert by_name["runs"].to_dict() == {"<b>odd</b>": 10, "even": 30}
    again = workbench.fit(fitted.runs.where("recipe == 'even'"), "chinchilla", objective="log-mse")
    assert by_name["without"]["<b>odd</b>"] == pytest.approx(ratio(again.params), rel=2e-3)


def test_greedy_starts_with_the_most_influential_run(found):
    for rule, sign in (("greedy up", 1), ("greedy down", -1)):
        expected = found.frame.iloc[int(np.argmax(sign * found.frame["change"].to_numpy()))]["run"]
        assert found.taken(rule, 1) == [expected]
        path = found.paths[found.paths["rule"] == rule]
        assert (sign * path["change"].diff().dropna() > 0).all(), "each run taken out moves it further"


def test_smallest_set_leaves_the_interval(fitted, found):
    ids, value = found.smallest
    if ids:
        again = workbench.fit(fitted.runs.drop(ids), "chinchilla", objective="log-mse")
        assert value == pytest.approx(ratio(again.params), rel=5e-3)
        assert not found.low <= value <= found.high


@shared
def test_five_points_surface_unprompted():
    """Besiroglu et al. 2024 drop the five highest losses; the allocation at Chinchilla's compute hangs on them."""
    runs = workbench.load(SHARED)
    found = workbench.fit(runs, "chinchilla").influence(flops=5.88e23)
    five = set(runs.frame.nlargest(5, "loss")["run"])
    rule, ids, without = found.natural
    assert set(ids) == five and rule == "highest loss"
    assert found.estimate == pytest.approx(6.8, rel=0.03) and without == pytest.approx(17.9, rel=0.03)
    assert "5 of highest loss" in found.verdict and found.frame["run"][0] in five
    assert set(found.taken("greedy up", 4)) < five, "the greedy search finds them without knowing the losses' order"


def test_planted_outliers_are_found():
    frame = chinchilla_frame(n=100, noise=0.002, tails=30)
    planted = frame.nlargest(2, "params").index
    frame.loc[planted, "loss"] *= [1.5, 1.4]
    fitted = workbench.fit(frame, "chinchilla", objective="log-mse")
    found = fitted.influence("alpha")
    assert set(found.natural[1]) == set(fitted.points.frame["run"][planted])


def test_what_leaves_is_strict_and_escaped(found):
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["runs"]
    assert "<b>" not in found._repr_html_()


def test_bad_input(fitted):
    with pytest.raises(ValueError, match="no column 'colour'"):
        influence(fitted, by="colour")
    with pytest.raises(ValueError, match="none can be left out"):
        influence(workbench.fit(chinchilla_frame(n=6), "chinchilla"))
