"""Data pruning, with its theory against known constants and its solver against a general one."""

import numpy as np
import pytest
from scipy.optimize import minimize

from workbench.phenomena import find
from workbench.phenomena.scale.data_pruning import max_margin, pruned_error
from workbench.testing.phenomena import PhenomenonContract


class TestDataPruning(PhenomenonContract):
    phenomenon = find("data_pruning")


def test_many_examples_at_random_give_the_known_constant():
    # maximal stability 0.5005 / alpha; no learner beats Bayes' 0.442 / alpha (Engel, Van den Broeck 2001)
    assert 500 * pruned_error(500.0) == pytest.approx(0.5005, abs=5e-4)
    assert all(pruned_error(float(a)) > 0.442 / a for a in (8, 32, 128))


def test_examples_on_the_boundary_obey_covers_capacity():
    # labels of points on the boundary are coin flips to the student: up to two per dimension tell nothing
    assert pruned_error(1.8, 1e-6) == pytest.approx(0.5, abs=1e-3)
    assert pruned_error(2.2, 1e-6) < 1e-3


def test_keeping_everything_is_the_same_from_both_ends():
    assert pruned_error(3.0, 1.0, "easy") == pytest.approx(pruned_error(3.0, 1.0, "hard"), rel=1e-3)


def test_the_plane_is_that_of_a_general_solver():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 4))
    x[:, 0] = np.abs(x[:, 0])
    rule = {"type": "ineq", "fun": lambda w: x @ w - 1, "jac": lambda w: x}
    found = minimize(lambda w: w @ w / 2, np.array([50.0, 0, 0, 0]), jac=lambda w: w, constraints=rule, tol=1e-12)
    ours = max_margin(x)
    assert found.success and (x @ ours).min() > 0
    np.testing.assert_allclose(ours / np.linalg.norm(ours), found.x / np.linalg.norm(found.x), atol=1e-5)
