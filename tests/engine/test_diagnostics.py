"""What the data do not determine is called so, never given a narrow interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame


def test_one_model_size_cannot_separate_the_size_term():
    frame = chinchilla_frame(0).assign(params=1e9)
    fit = workbench.fit(frame, "chinchilla")
    assert {"E", "A", "alpha"} & set(fit.diagnostics.unidentified)
    table = fit.intervals("profile")
    assert not table.loc[list(fit.diagnostics.unidentified), "identified"].any()
    assert fit.table()["low"].isna()[list(fit.diagnostics.unidentified)].all()


def test_a_floor_the_data_do_not_have_is_driven_to_zero_and_said_so():
    rng = np.random.default_rng(0)
    flops = np.geomspace(1e15, 1e22, 60)
    frame = pd.DataFrame({"flops": flops, "loss": 1e6 * flops**-0.3 * np.exp(rng.normal(0, 0.01, 60))})
    fit = workbench.fit(frame, "power_constant")
    assert "E" in fit.diagnostics.unidentified or fit.intervals("profile").loc["E", "low"] < 0.05
    assert fit.params["alpha"] == pytest.approx(0.3, rel=0.05)


def test_a_floor_out_of_reach_is_not_identified():
    # The last run is still 20 times above the floor: nothing in the data says where it is.
    flops = np.geomspace(1e15, 1e18, 12)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"flops": flops, "loss": (0.05 + 1e4 * flops**-0.22) * np.exp(rng.normal(0, 0.02, 12))})
    row = workbench.fit(frame, "power_constant").intervals("profile").loc["E"]
    assert not row["identified"] or row["low"] < 0.05 < row["high"]


def test_two_identical_runs_do_not_determine_a_power_law():
    frame = pd.DataFrame({"run": ["a", "b"], "flops": [1e20, 1e20], "loss": [3.0, 3.0]})
    with pytest.raises(ValueError, match="none of flops, tokens, params, steps varies"):
        workbench.fit(frame, "power")
    fit = workbench.fit(frame, "power", x="flops")
    assert set(fit.diagnostics.unidentified) == {"A", "alpha"}
    assert any("passes through" in w for w in fit.diagnostics.warnings)


def test_as_many_runs_as_parameters_have_no_interval():
    fit = workbench.fit(power_frame(n=2), "power")
    assert not fit.intervals("profile")["identified"].any()
    with pytest.raises(ValueError, match="nothing to resample"):
        fit.draws(10)


def test_a_good_fit_has_nothing_to_complain_about():
    d = workbench.fit(chinchilla_frame(0), "chinchilla").diagnostics
    assert d.converged and not d.unidentified and not d.warnings
    assert d.agreeing == d.walked and d.gradient < 1e-6


def test_narrow_zones_still_reach_the_optimum_that_a_mean_would_miss():
    # Hoffmann's mistake (a mean instead of a sum) is the same as a tolerance too loose for a small
    # delta: the exponent ratio then stays near the start. Ours must not move with delta's scale.
    frame = chinchilla_frame(3)
    ratios = []
    for delta in (1e-3, 1e-4, 1e-5):
        p = workbench.fit(frame, "chinchilla", delta=delta).params
        ratios.append(p["beta"] / (p["alpha"] + p["beta"]))
    absolute = workbench.fit(frame, "chinchilla", objective="log-mae").params
    assert ratios[-1] == pytest.approx(absolute["beta"] / (absolute["alpha"] + absolute["beta"]), abs=2e-3)
