"""Bad input to `fit` gets one sentence that says what was given and what is allowed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame

GOOD = chinchilla_frame(0, n=40)


@pytest.mark.parametrize(
    ("runs", "arguments", "fragment"),
    [
        (GOOD, {"law": "chinchila"}, "did you mean 'chinchilla'"),
        (GOOD, {"law": 7}, "given by name"),
        (GOOD, {"y": "lost"}, "did you mean 'loss'"),
        (GOOD, {"x": "flops"}, "laws of one input"),
        (GOOD, {"inputs": {"M": "params"}}, "no input 'M'"),
        (GOOD, {"inputs": {"N": "parms"}}, "did you mean 'params'"),
        (GOOD, {"fixed": {"F": 1}}, "no parameter 'F'"),
        (GOOD, {"fixed": {"E": -1}}, "between 0"),
        (GOOD, {"fixed": {"E": "low"}}, "give a number"),
        (GOOD, {"tied": {"beta": "gamma"}}, "no parameter 'gamma'"),
        (GOOD, {"tied": {"beta": "beta"}}, "cannot be tied"),
        (GOOD, {"where": "loss > 1e9"}, "selects none"),
        (GOOD, {"where": "lss > 2"}, "lss"),
        (GOOD, {"weights": [1, 2]}, "40 runs"),
        (GOOD, {"weights": -np.ones(40)}, "not negative"),
        (GOOD, {"weights": "importance"}, "no column 'importance'"),
        (GOOD, {"cluster": "family"}, "no column 'family'"),
        (GOOD, {"objective": "cubic"}, "choose one of"),
        (GOOD, {"delta": 0}, "positive"),
        (GOOD, {"starts": 0}, "at least 1"),
        (GOOD.iloc[:0], {}, "no run is left|no runs|there are none"),
        (GOOD.iloc[:1], {}, "5 free parameters"),
        (GOOD.assign(loss=np.nan), {}, "no run is left"),
        (GOOD.assign(loss=-1.0), {}, "no run is left"),
        (GOOD.drop(columns="tokens"), {}, "tokens"),
    ],
)
def test_one_sentence(runs, arguments, fragment):
    with pytest.raises((ValueError, TypeError), match=fragment) as caught:
        workbench.fit(runs, **arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_bad_runs_are_left_out_with_a_reason_and_the_rest_is_fitted():
    spoilt = GOOD.copy()
    spoilt.loc[3, "loss"] = np.nan
    spoilt.loc[5, "loss"] = -2.0
    spoilt.loc[8, "params"] = np.inf
    fit = workbench.fit(spoilt, "chinchilla")
    assert fit.n_runs == 37 and len(fit.points.left_out) == 3
    clean = workbench.fit(GOOD.drop(index=[3, 5, 8]), "chinchilla")
    assert fit.value == pytest.approx(clean.value, rel=1e-9)


def test_a_metric_that_may_be_negative_is_fitted_in_linear_space():
    frame = power_frame(0).assign(reward=lambda f: 3 - f["loss"] * 5)
    fit = workbench.fit(frame, "constant", y="reward", objective="mse", x="flops")
    assert fit.n_runs == 30


def test_wrong_type_of_runs():
    with pytest.raises((TypeError, ValueError, OSError)):
        workbench.fit(3.14, "chinchilla")
    assert isinstance(GOOD, pd.DataFrame)


@pytest.mark.parametrize("law", ["power_constant", "exponential", "threshold"])
def test_values_of_exactly_zero_can_be_fitted_in_linear_space(law):
    """Accuracies before a model has learned anything are 0."""
    x = np.geomspace(1e3, 1e6, 24)
    y = np.where(x < 2e4, 0.0, np.minimum(1.0, np.log(x / 2e4) / 3 + 0.1))
    fitted = workbench.fit(pd.DataFrame({"flops": x, "accuracy": y}), law, y="accuracy", objective="mse")
    assert np.isfinite(fitted.value) and fitted.n_runs == 24
