"""Multipliers against the closed form of two power laws and of a shifted curve."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from workbench.analysis.multiplier import multiplier

A, B = {"A": 20.0, "alpha": 0.05}, {"A": 25.0, "alpha": 0.055}


def closed_form(x):
    """Scale of B over that of A at which B is as good as A at `x`."""
    return (B["A"] / A["A"]) ** (1 / B["alpha"]) * np.asarray(x) ** (A["alpha"] / B["alpha"] - 1)


def test_two_power_laws_have_the_closed_form():
    scales = np.geomspace(1e16, 1e24, 9)
    found = multiplier(("power", A), ("power", B), at_scale=scales)
    assert found.frame["multiplier"].to_numpy() == pytest.approx(closed_form(scales), rel=1e-9)
    assert found.change == pytest.approx(closed_form(1e24) / closed_form(1e16), rel=1e-8)
    assert "it changes with scale" in found.verdict


def shifted(seed: int, factor: float, noise: float = 0.002, n: int = 30) -> pd.DataFrame:
    """The second recipe is the first with `factor` times the compute."""
    rng = np.random.default_rng(seed)
    flops = np.geomspace(1e17, 1e21, n)
    parts = []
    for name, scale in (("slow", flops), ("fast", factor * flops)):
        loss = (1.7 + 300 * scale**-0.13) * np.exp(noise * rng.standard_normal(n))
        parts.append(pd.DataFrame({"flops": flops, "loss": loss, "recipe": name}))
    return pd.concat(parts, ignore_index=True)


def test_a_shifted_curve_has_one_multiplier():
    steady = 0
    for seed in range(8):
        found = multiplier(
            shifted(seed, 3.0), by="recipe", groups=["slow", "fast"], objective="log-mse", starts=16, n=200
        )
        assert found.frame["multiplier"][4] == pytest.approx(1 / 3, rel=0.15)  # ten standard errors
        told = not found.change_low < 1 < found.change_high
        assert told == ("it changes with scale" in found.verdict)
        steady += not told
    assert steady >= 5  # Binomial(8, .95) is below with probability 0.04 %


def test_values_and_scales_are_two_ways_to_ask():
    runs = shifted(1, 2.0)
    options = {"by": "recipe", "groups": ["slow", "fast"], "objective": "log-mse", "starts": 32, "n": 300}
    first = multiplier(runs, at_scale=[1e18, 1e20], **options)
    second = multiplier(runs, at=first.frame["value"].to_numpy(), **options)
    assert second.frame["flops"].to_numpy() == pytest.approx([1e18, 1e20], rel=1e-6)
    assert second.frame["multiplier"].to_numpy() == pytest.approx(first.frame["multiplier"].to_numpy(), rel=1e-6)


@pytest.mark.long
def test_the_interval_covers():
    """Bare power laws, horizontal shift 2 at every scale: 40 experiments at the middle of the range."""
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        flops = np.geomspace(1e17, 1e21, 30)
        loss = [20 * (k * flops) ** -0.05 * np.exp(0.01 * rng.standard_normal(30)) for k in (1.0, 0.5)]
        runs = pd.DataFrame(
            {"flops": np.tile(flops, 2), "loss": np.concatenate(loss), "recipe": np.repeat(["a", "b"], 30)}
        )
        found = multiplier(runs, by="recipe", law="power", objective="log-mse", at_scale=[1e19], n=200, starts=4)
        hits += found.frame["low"][0] <= 2.0 <= found.frame["high"][0]
    assert hits >= 33  # Binomial(40, .95) falls below with probability 0.3 %


def test_a_floor_that_is_too_high_is_never_reached():
    good, poor = {"E": 1.5, "A": 300, "alpha": 0.13}, {"E": 2.0, "A": 300, "alpha": 0.13}
    found = multiplier(("power_constant", good), ("power_constant", poor), at_scale=[1e18, 1e22])
    assert np.isfinite(found.frame["multiplier"][0]) and np.isinf(found.frame["multiplier"][1])
    assert found.frame["never"].tolist() == [0.0, 1.0] and "∞" in repr(found)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"at": 2.0, "at_scale": 1e20}, "not both"),
        ({"at_scale": -1.0}, "positive numbers"),
        ({"at": 1e-9}, "does not reach 1e-09"),
        ({"at": "low"}, "positive numbers"),
        ({"level": 0}, "between 0 and 1"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        multiplier(shifted(0, 2.0), by="recipe", starts=16, **arguments)


def test_given_laws_need_scales():
    with pytest.raises(ValueError, match="give at_scale="):
        multiplier(("power", A), ("power", B))
