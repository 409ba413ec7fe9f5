"""Intrinsic dimension and label sharpness, with their theory against direct integrals."""

import numpy as np
import pytest
from scipy.special import beta

from workbench.phenomena import find
from workbench.phenomena.scale.intrinsic_dimension import nearest_error
from workbench.testing.phenomena import PhenomenonContract


class TestIntrinsicDimension(PhenomenonContract):
    phenomenon = find("intrinsic_dimension")


@pytest.mark.parametrize(("d", "ball"), [(1, 2.0), (2, np.pi), (3, 4 * np.pi / 3)])
def test_distances_are_those_of_evenly_spread_points(d, ball):
    # n independent points in a unit volume without an edge: P(nearest farther than r) = (1 - V r^d)^n, so that the mean
    # of r^2 is a beta function
    n = 10**5
    square = ball ** (-2 / d) * (2 / d) * beta(2 / d, n + 1)
    assert nearest_error(n, d, 1.0) == pytest.approx(np.sqrt(square / d), rel=1e-4)


def test_the_exact_error_on_a_circle():
    # on a circle of length 1 the mean squared distance to the nearest of n points is 1 / (2 (n + 1) (n + 2))
    assert nearest_error(10**6, 1, 3.0) == pytest.approx(3 / np.sqrt(2 * (10**6 + 1) * (10**6 + 2)), rel=1e-5)
