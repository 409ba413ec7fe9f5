"""Derivatives by dual numbers against central differences, rule by rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.engine.dual import value_and_tangents

X = np.array([0.3, 1.0, 2.5, 40.0])
#: Seven terms in four sums, as many as X has points.
TERMS = np.array([0.1, 0.5, 1.0, 1.5, 0.3, 2.0, 0.7])

FORMULAS = {
    "add and subtract": lambda x, a, b: 2 + a - x * b - (1 - b),
    "multiply and divide": lambda x, a, b: x * a / (1 + b) + 3 / a + a / x,
    "power of a parameter": lambda x, a, b: a**2 + (x + b) ** -0.5 + a ** np.float64(3),
    "parameter as exponent": lambda x, a, b: x**-a + (x + b) ** a + 2.0**b,
    "exp and log": lambda x, a, b: np.exp(-a * x / 50) + np.log(x * b) + np.expm1(a / 9) + np.log1p(b),
    "log2 and log10": lambda x, a, b: np.log2(a * x) + np.log10(b + x),
    "roots and squares": lambda x, a, b: np.sqrt(a + x) + np.square(b) + np.reciprocal(a),
    "tanh and abs": lambda x, a, b: np.tanh(a - x) + np.abs(b - 30.0),
    "maximum and minimum": lambda x, a, b: np.maximum(a, x) + np.minimum(b * x, 2.0),
    "where": lambda x, a, b: np.where(x > 1, a * x, b),
    "logaddexp": lambda x, a, b: np.logaddexp(a * x, b),
    "sums of stretches": lambda x, a, b: np.add.reduceat(a * TERMS + b**TERMS + b, [0, 1, 4, 6], axis=-1),
    "negative": lambda x, a, b: -a * x + np.negative(b),
}


@pytest.mark.parametrize("name", FORMULAS)
@given(a=st.floats(0.2, 3.0), b=st.floats(0.2, 3.0))
def test_rule_agrees_with_central_differences(name, a, b):
    formula = FORMULAS[name]
    theta = np.array([[a, b]])
    dual = value_and_tangents(formula, [X], theta)
    np.testing.assert_allclose(dual.value[0], formula(X, a, b), rtol=1e-12)
    for j in range(2):
        step = np.zeros(2)
        step[j] = 1e-6
        up, down = formula(X, *(theta[0] + step)), formula(X, *(theta[0] - step))
        numeric = (up - down) / 2e-6
        tangent = dual.tangents.get(j, np.zeros((1, X.size)))[0]
        # A kink within the step of x or of the other branch has no derivative to compare.
        smooth = np.abs(numeric - tangent) < 1e-4 * (1 + np.abs(numeric))
        near_kink = (np.abs(a - X) < 1e-5) | (np.abs(b * X - 2.0) < 1e-5 * X)
        assert (smooth | near_kink).all()


def test_parameters_a_term_does_not_use_cost_nothing():
    dual = value_and_tangents(lambda x, a, b: x * a, [X], np.ones((3, 2)))
    assert set(dual.tangents) == {0} and dual.value.shape == (3, 4)


def test_an_unknown_function_is_refused_and_not_silently_constant():
    with pytest.raises(TypeError):
        value_and_tangents(lambda x, a: np.arctan(a * x), [X], np.ones((1, 1)))
