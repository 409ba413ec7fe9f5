"""Runs with known parameters, drawn once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

TRUTH = {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}


def chinchilla_frame(seed: int = 0, n: int = 240, noise: float = 0.01, tails: float = 3.0) -> pd.DataFrame:
    """`n` runs of the Chinchilla design with Student-t noise of `tails` degrees of freedom."""
    rng = np.random.default_rng(seed)
    params = np.exp(rng.uniform(np.log(6e7), np.log(1.6e10), n))
    tokens = np.exp(rng.uniform(np.log(1e9), np.log(3e11), n))
    clean = TRUTH["E"] + TRUTH["A"] * params ** -TRUTH["alpha"] + TRUTH["B"] * tokens ** -TRUTH["beta"]
    loss = clean * np.exp(noise * rng.standard_t(tails, n))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def power_frame(seed: int = 0, n: int = 30, noise: float = 0.02) -> pd.DataFrame:
    """`n` runs along a bare power law with normal noise on the logarithm."""
    rng = np.random.default_rng(seed)
    flops = np.geomspace(1e17, 1e21, n)
    return pd.DataFrame({"flops": flops, "loss": 20 * flops**-0.05 * np.exp(rng.normal(0, noise, n))})


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return chinchilla_frame()
