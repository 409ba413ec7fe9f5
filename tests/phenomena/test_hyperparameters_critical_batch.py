"""The critical batch: the contract, the exact risk against its recursion, and the published table refitted."""

import numpy as np
import pytest
from scipy.optimize import brentq, curve_fit

from workbench.phenomena import find
from workbench.phenomena.hyperparameters.annealing import risk
from workbench.phenomena.hyperparameters.critical_batch import NOISE, PUBLISHED, _critical, fewest_steps, risks
from workbench.testing.phenomena import PhenomenonContract

SPECTRUM = np.arange(1.0, 13.0) ** -1.8
START = np.arange(1.0, 13.0) ** -0.6
START = START / (START @ SPECTRUM)


class TestCriticalBatch(PhenomenonContract):
    phenomenon = find("critical_batch")


@pytest.mark.parametrize("batch", [1, 16])
def test_eigenvectors_give_the_risk_of_the_recursion(batch):
    times = np.array([1, 7, 50, 400])
    stepped = risk(np.full((1, 400), 0.2), SPECTRUM, START, 0.8, batch)[0, times - 1]
    np.testing.assert_allclose(risks(0.2, batch, SPECTRUM, START, 0.8, times), stepped, rtol=1e-9)


def test_a_rate_that_diverges_has_no_risk():
    assert risks(1.5, 1, SPECTRUM, START, 1.0, np.array([1])) is None


@pytest.mark.parametrize("batch", [2, 64])
def test_fewest_steps_is_that_of_a_fine_scan(batch):
    target = 0.02
    found = fewest_steps(batch, [target], SPECTRUM, START)[0]
    rates = np.geomspace(1e-3, 1.0, 400)
    curves = risk(np.repeat(rates[:, None], 6000, axis=1), SPECTRUM, START, NOISE, batch)
    steps = [np.argmax(c <= target) + 1 for c in curves if np.isfinite(c).all() and (c <= target).any()]
    # half a step of rounding, and a parabola between rates that differ by a half
    assert found == pytest.approx(min(steps), rel=0.03, abs=1.0)


def test_the_published_table_is_refitted_as_by_scipy():
    runs = find("critical_batch").experiment("control", "cpu", 0, lambda done: None)
    table = _critical(runs[runs["source"] == "published"], "published")
    cells = table.pivot(index="grown", columns="definition", values="critical_batch")
    batch = 64.0 * 2 ** np.arange(9)
    for size, steps in PUBLISHED.items():
        (_, noise), _ = curve_fit(lambda b, s, n: np.log(s) + np.log1p(n / b), batch, np.log(steps), p0=(2000, 3000))
        assert cells.loc[1e6 * size, "noise"] == pytest.approx(noise, rel=1e-3)
        power, _ = curve_fit(
            lambda b, a, c, p: np.logaddexp(a, c - p * np.log(b)), batch, np.log(steps), p0=(7.5, np.log(3e6), 1.0)
        )

        def examples(b, power=power):
            return b * np.exp(np.logaddexp(power[0], power[1] - power[2] * np.log(b)))

        more = brentq(lambda b, f=examples: f(b) / f(256.0) - 1.2, 300, 1e5)
        assert cells.loc[1e6 * size, "overhead"] == pytest.approx(more, rel=1e-3)


def test_the_table_falls_and_has_all_batches():
    for steps in PUBLISHED.values():
        assert len(steps) == 9 and all(np.diff(steps) <= 0)
