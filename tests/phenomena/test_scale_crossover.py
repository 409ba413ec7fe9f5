"""Crossover of a transformer and an LSTM."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

from workbench.phenomena import find
from workbench.phenomena.scale.crossover import SIZES, crossing, lead, moved_by
from workbench.testing.phenomena import PhenomenonContract


class TestCrossover(PhenomenonContract):
    phenomenon = find("crossover")


def _laws(first: float, second: float) -> pd.DataFrame:
    """Exact power laws that cross at a budget of 1."""
    flops = np.geomspace(1e-4, 1e8, 7)
    rows = [("first", c, c**-first) for c in flops] + [("second", c, c**-second) for c in flops]
    return pd.DataFrame(rows, columns=["role", "flops", "loss"])


@pytest.mark.parametrize(("first", "second", "price"), [(0.3, 0.6, 2.0), (0.1, 0.5, 10.0), (0.34, 0.65, 0.5)])
def test_a_price_moves_the_crossing_of_power_laws_as_said(first, second, price):
    """Against the root found numerically, and against the crossing of lines through tabulated laws."""
    root = math.exp(brentq(lambda x: -first * x + second * (x - math.log(price)), -50, 50))
    assert moved_by(price, first, second) == pytest.approx(root)
    budgets = np.geomspace(1.0, 1e4, 9)
    assert crossing(budgets, lead(_laws(first, second), budgets, price)) == pytest.approx(root, rel=1e-6)


def test_equal_exponents_never_cross():
    budgets = np.geomspace(1.0, 1e4, 9)
    ahead = lead(_laws(0.4, 0.4), budgets, price=2.0)
    assert ahead == pytest.approx(0.4 * math.log(2))  # at half the FLOPs, whatever the budget
    assert math.isnan(crossing(budgets, ahead))


def test_a_budget_without_runs_has_no_answer():
    assert np.isnan(lead(_laws(0.3, 0.6), [1e-5, 1e9])).all()
    assert np.isnan(lead(_laws(0.3, 0.6), [1e-4], price=2.0)).all()


@pytest.mark.parametrize("budget", ["cpu", "gpu"])
def test_the_budgets_of_both_models_agree(budget):
    """At equal tokens the FLOPs of the two differ by at most 5 %."""
    sweep = find("crossover").sweep("effect", budget, 0)
    flops = {}
    for probe in sweep:
        flops.setdefault((probe.width, probe.tokens), {})[probe.model] = probe.flops
    assert len(flops) == len(SIZES[budget])
    assert all(0.95 < pair["transformer"] / pair["lstm"] < 1 for pair in flops.values())


def test_other_seeds_draw_other_languages():
    seen = [{p.language_seed for p in find("crossover").sweep("effect", "cpu", seed)} for seed in (0, 1)]
    assert not seen[0] & seen[1]
