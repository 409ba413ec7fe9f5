"""The recommended intervals hold the truth as often as they say, on designs where others do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import workbench
from tests.fits.conftest import power_frame

pytestmark = pytest.mark.long


def checkpoints(seed: int) -> tuple:
    """Twelve runs of five checkpoints, each run with an error of its own; and the truth at ten times the scale."""
    rng = np.random.default_rng(seed)
    frame = power_frame(0, n=60, noise=0.0)
    frame["loss"] *= np.exp(np.repeat(rng.normal(0, 0.02, 12), 5) + rng.normal(0, 0.005, 60))
    frame["family"] = np.repeat(np.arange(12), 5)
    return frame, {"cluster": "family", "objective": "log-mse"}


def few_medians(seed: int) -> tuple:
    """Twelve single runs under Huber's loss of a zone a twentieth of the noise."""
    return power_frame(100 + seed, n=12), {"delta": 1e-3}


@pytest.mark.parametrize(("draw", "trials"), [(checkpoints, 150), (few_medians, 80)])
def test_recommended_intervals_cover_parameters_and_forecasts(draw, trials):
    alpha = curve = run = 0
    far = 20 * 1e22**-0.05
    for seed in range(trials):
        frame, options = draw(seed)
        fit = workbench.fit(frame, "power", starts=16, **options)
        row = fit.intervals(n=300).loc["alpha"]
        alpha += row.low <= 0.05 <= row.high
        row = fit.predict(flops=1e22, kind="curve", n=300).iloc[0]
        curve += row["low"] <= far <= row["high"]
        new = far * np.exp(np.random.default_rng([seed, 9]).normal(0, 0.02))
        row = fit.predict(flops=1e22, n=300).iloc[0]
        run += row["low"] <= new <= row["high"]
    # Three chances to leave a range that Binomial(trials, 0.95) leaves with probability 0.1 %.
    low, high = stats.binom.ppf([0.0005, 0.9995], trials, 0.95)
    assert low <= alpha <= high and low <= curve <= high and low <= run <= high


def test_methods_that_take_checkpoints_as_independent_do_not_cover():
    held = 0
    for seed in range(60):
        frame, options = checkpoints(seed)
        row = workbench.fit(frame, "power", starts=16, **options).intervals("jacobian").loc["alpha"]
        held += row.low <= 0.05 <= row.high
    assert held < stats.binom.ppf(0.0005, 60, 0.95)
