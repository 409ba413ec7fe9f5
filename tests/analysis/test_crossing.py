"""The multiverse of a crossing: its default is the ordinary crossover, its rows the two fits done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import workbench


def two(seed: int = 0) -> pd.DataFrame:
    """Two bare power laws that cross where 30 x^-.06 = 12 x^-.04: at (30 / 12)^(1 / .02)."""
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e16, 1e22, 20)
    parts = [
        pd.DataFrame({"flops": x, "recipe": name, "loss": a * x**-k * np.exp(0.002 * rng.standard_normal(x.size))})
        for name, a, k in (("steep", 30.0, 0.06), ("flat", 12.0, 0.04))
    ]
    return pd.concat(parts, ignore_index=True)


CROSSING = 2.5 ** (1 / 0.02)


@pytest.fixture(scope="module")
def found():
    return workbench.multiverse(two(), "power", question="crossover", by="recipe", drop=("checkpoints",))


def test_every_analysis_of_a_true_crossing_finds_it(found):
    assert found.frame["counted"].sum() >= 10
    assert np.abs(np.log10(found.estimates / CROSSING)).max() < 0.6
    default = found.default
    assert default["low"] < CROSSING < default["high"]


def test_the_default_is_the_ordinary_crossover(found):
    frame = two()
    fits = [workbench.fit(frame[frame["recipe"] == g], "power") for g in ("steep", "flat")]
    # groups come in the order of their names; a crossing has no order
    at = brentq(lambda u: np.log(fits[0].law.predict(fits[0].theta, {"x": np.exp(u)}).item()
                                 / fits[1].law.predict(fits[1].theta, {"x": np.exp(u)}).item()), 30, 60)  # fmt: skip
    assert found.default["estimate"] == pytest.approx(np.exp(at), rel=1e-3)


def test_a_row_is_two_fits_that_cross_there(found):
    row = int(np.flatnonzero(found.frame["counted"])[-1])
    a, b = found.refit(row)
    (ca, ka), (cb, kb) = a.theta, b.theta
    assert found.frame["estimate"][row] == pytest.approx((ca / cb) ** (1 / (ka - kb)), rel=2e-3)


def test_curves_that_never_cross_are_left_out_and_said_so():
    frame = two()
    frame.loc[frame["recipe"] == "flat", "loss"] *= 10
    never = workbench.multiverse(frame, "power", question="crossover", by="recipe", drop=("checkpoints", "outliers"))
    assert not never.frame["counted"].any()
    assert never.frame["note"].str.contains("do not cross").any() and "None of" in never.verdict


def test_bad_questions_are_one_sentence():
    with pytest.raises(ValueError, match="takes by="):
        workbench.multiverse(two(), "power", question="crossover")
    with pytest.raises(ValueError, match="takes by="):
        workbench.multiverse(two(), "power", question="alpha", by="recipe")
