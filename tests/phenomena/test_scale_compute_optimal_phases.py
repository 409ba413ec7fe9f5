"""The regimes of compute-optimal scaling: exponents against the published forms, curves against simulated SGD."""

import numpy as np
import pytest

from workbench.figures.phase_plane import _TERMS
from workbench.phenomena import find
from workbench.phenomena.scale.compute_optimal_phases import REGIMES, exponents, plane, regime, terms
from workbench.phenomena.scale.random_feature_curves import loss_curve, matrix_curve
from workbench.testing.phenomena import PhenomenonContract


class TestComputeOptimalPhases(PhenomenonContract):
    phenomenon = find("compute_optimal_phases")


#: Loss and size exponents as commonly quoted from Paquette et al. 2024.
PUBLISHED = {
    "Ia": lambda a, b: ((2 * a + 2 * b - 1) / (2 * a + 1), 1 / (2 * a + 1)),
    "Ib": lambda a, b: (a + b - 0.5, 0.5),
    "Ic": lambda a, b: (
        -a * (2 * a + 2 * b - 1) / (a * (2 * b - 3) - 2 * b + 1),
        (1 - 2 * (a + b)) / (2 * (a * (2 * b - 3) - 2 * b + 1)),
    ),
    "II": lambda a, b: ((2 * a + 2 * b - 1) / (2 * (a + b)), b / (a + b)),
    "III": lambda a, b: ((4 * a - 1) / (4 * a), 0.5),
    "IVa": lambda a, b: (a, 0.5),
    "IVb": lambda a, b: (
        -(1 - 2 * a) * (2 * a + 2 * b - 1) / (2 * (2 * a * b + a - 2 * b)),
        (a - b) / (2 * a * b + a - 2 * b),
    ),
}


@pytest.mark.parametrize("name", REGIMES)
def test_exponents_are_the_published_ones_all_over_the_regime(name):
    cells = plane()
    cells = cells[cells["regime"] == name]
    assert len(cells) >= 20 and regime(*REGIMES[name]) == name
    for row in cells.itertuples():
        assert (row.loss, row.size) == pytest.approx(PUBLISHED[name](row.alpha, row.beta), abs=1e-9)
        assert exponents(row.alpha, row.beta) == (row.loss, row.size)


def test_the_exact_recursion_is_that_of_simulated_sgd():
    alpha, beta, d, chains = 1.0, 0.7, 6, 4000
    steps = np.array([1.0, 3, 10, 30])
    exact = matrix_curve(alpha, beta, d, steps, 5)
    j = np.arange(1, 100 * d + 1.0)
    rate = 0.5 / (j ** (-2 * alpha)).sum()
    w = np.random.default_rng(5).standard_normal((len(j), d)) / d**0.5  # the same draw as matrix_curve's
    rng = np.random.default_rng(0)
    theta = np.zeros((chains, d))
    found = []
    for step in range(1, 31):
        x = rng.standard_normal((chains, len(j))) * j**-alpha
        features = x @ w
        theta -= rate * ((features * theta).sum(1) - x @ j**-beta)[:, None] * features
        if step in steps:
            found.append((((theta @ w.T - j**-beta) * j**-alpha) ** 2).sum(1).mean())
    np.testing.assert_allclose(exact, found, rtol=0.04)


def test_the_equation_is_the_mean_over_random_matrices():
    steps, equation = loss_curve(0.4, 0.9, 150, 1e5)
    matrices = np.mean([matrix_curve(0.4, 0.9, 150, steps, seed) for seed in range(30)], axis=0)
    np.testing.assert_allclose(matrices, equation, rtol=0.08)


def test_the_sliders_of_the_plane_draw_the_same_terms():
    for alpha, beta in REGIMES.values():
        drawn = {}
        for name, (p, q, valid) in _TERMS.items():
            scope = {"alpha": alpha, "beta": beta, "max": max}
            if eval(valid.replace("&&", "and"), {}, scope):
                drawn[name] = (eval(p, {}, scope), eval(q, {}, scope))
        expected = terms(alpha, beta)
        assert set(drawn) == set(expected)
        for name in drawn:
            assert drawn[name] == pytest.approx(expected[name])
