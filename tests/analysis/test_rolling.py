"""Forecasts from a rolling origin: refitting by hand, and laws known to be right or wrong."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.analysis.rolling import rolling_origin


def floored(seed: int = 0, noise: float = 0.004, n: int = 20, copies: int = 3) -> pd.DataFrame:
    """Runs above a floor: a power law with constant is exact, a bare one is not."""
    rng = np.random.default_rng(seed)
    flops = np.repeat(np.geomspace(1e17, 1e21, n), copies)
    loss = (1.7 + 400 * flops**-0.14) * np.exp(noise * rng.standard_normal(flops.size))
    return pd.DataFrame({"flops": flops, "loss": loss})


def test_every_forecast_is_a_refit_by_hand():
    frame = floored(0)
    found = rolling_origin(frame, "power", objective="log-mse", n=20, windows=6)
    x, y = np.log(frame["flops"].to_numpy()), np.log(frame["loss"].to_numpy())
    assert len(found.edges) == 6
    for edge, rows in found.frame.groupby("edge"):
        keep = frame["flops"].to_numpy() <= edge
        line = np.polyfit(x[keep], y[keep], 1)
        assert len(rows) == (~keep).sum() and (rows["n_fitted"] == keep.sum()).all()
        assert rows["prediction"].to_numpy() == pytest.approx(np.exp(np.polyval(line, np.log(rows["scale"]))), rel=1e-6)
        assert rows["extrapolation"].to_numpy() == pytest.approx(rows["scale"].to_numpy() / edge)
        assert rows["error"].to_numpy() == pytest.approx(rows["prediction"] / rows["measured"] - 1)


def test_larger_runs_never_enter_a_window():
    frame = floored(1)
    spoiled = frame.copy()
    largest = spoiled["flops"] > 1e20
    spoiled.loc[largest, "loss"] *= 3
    a, b = (rolling_origin(f, "power_constant", objective="log-mse", n=20, windows=20).frame for f in (frame, spoiled))
    early_a, early_b = (f[(f["edge"] < 1e20) & (f["n_fitted"] > 20)] for f in (a, b))
    assert early_a["prediction"].to_numpy() == pytest.approx(early_b["prediction"].to_numpy(), rel=1e-4)


def test_a_law_without_a_floor_is_ever_more_biased_and_its_interval_ever_more_wrong():
    found = rolling_origin(floored(0), ["power_constant", "power"], objective="log-mse", n=150)
    wrong = found.summary[found.summary["law"] == "power"]
    assert (wrong["bias"] < 0).all() and (np.diff(wrong["bias"]) < 0).all()
    assert wrong["bias"].iloc[-1] < -0.05 and wrong["coverage"].iloc[-1] == 0
    right = found.summary[found.summary["law"] == "power_constant"]
    assert (right["error"].to_numpy() < wrong["error"].to_numpy()).all()
    assert found.best == "power_constant" and "Power law + constant forecasts best of 2 laws" in found.verdict


def test_the_exact_law_is_covered_as_stated():
    """One forecast an experiment, so that they are independent: fit to 45 runs, forecast the next one."""
    hits = []
    for seed in range(40):
        frame = floored(seed, n=16)
        rows = rolling_origin(frame, "power_constant", objective="log-mse", n=150, windows=1, smallest=45).frame
        hits.append(rows["inside"].iloc[0])
    assert len(rows) == 3 and sum(hits) >= stats.binom.ppf(0.0005, 40, 0.93)


def test_ahead_and_smallest_bound_the_forecasts():
    found = rolling_origin(floored(0), "power", ahead=2, smallest=30, n=20, windows=100)
    assert found.frame["n_fitted"].min() == 30
    assert found.frame.groupby("edge")["scale"].nunique().max() == 2
    # 20 scales of 3 runs: windows of 10 to 19 scales
    assert len(found.edges) == 10


def test_laws_of_size_and_data_roll_along_compute():
    from tests.fits.conftest import chinchilla_frame

    found = rolling_origin(
        chinchilla_frame(0, n=120, noise=0.003, tails=30), ["chinchilla", "constant"], windows=4, n=50
    )
    assert found.along == "flops" and found.best == "chinchilla"
    late = found.frame[(found.frame["law"] == "chinchilla") & (found.frame["n_fitted"] > 60)]
    assert late["error"].abs().median() < 0.02


def test_a_law_that_cannot_be_judged_is_listed_and_fixed_values_reach_their_law():
    found = rolling_origin(floored(0), ["power_constant", "chinchilla"], n=20, windows=2, fixed={"E": 1.7})
    assert list(found.failed) == ["chinchilla"] and set(found.frame["law"]) == {"power_constant"}
    assert found.frame["error"].abs().max() < 0.02, "with the true floor even small windows forecast well"
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"laws": []}, "at least one law"),
        ({"windows": 0}, "whole number of at least 1"),
        ({"along": "width"}, "no numeric column 'width'"),
        ({"smallest": 60}, "leave none"),
        ({"fixed": {"gamma": 1}}, "no law here has"),
        ({"level": 2}, "between 0 and 1"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        rolling_origin(floored(0), **{"laws": ["power"], **arguments})
