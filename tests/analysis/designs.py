"""Runs on the additive law with known optima, as isoFLOP designs and as loss curves."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: alpha < beta, so that isoFLOP curves lean.
LEANING = {"E": 1.69, "A": 406.0, "B": 4e4, "alpha": 0.30, "beta": 0.50}
BALANCED = {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}


def exponent(p: dict[str, float]) -> float:
    """a of N_opt ~ C^a."""
    return p["beta"] / (p["alpha"] + p["beta"])


def optimum(p: dict[str, float], flops) -> np.ndarray:
    """N_opt under C = 6ND: G (C/6)^a with G = (alpha A / beta B)^(1 / (alpha + beta)) (Hoffmann et al. 2022, eq. 4)."""
    total = p["alpha"] + p["beta"]
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / total)
    return g * (np.asarray(flops, float) / 6) ** exponent(p)


def loss(p: dict[str, float], params, tokens) -> np.ndarray:
    return p["E"] + p["A"] * params ** -p["alpha"] + p["B"] * tokens ** -p["beta"]


def isoflop_frame(
    p: dict[str, float],
    budgets=(1e19, 1e20, 1e21, 1e22),
    sizes: int = 7,
    reach: float = 1.5,
    drift: float = 0.0,
    noise: float = 0.0,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """`sizes` sizes within exp(+-reach) of the optimum of each budget; the centre of the sizes moves by `drift`."""
    rng = np.random.default_rng(0) if rng is None else rng
    rows = []
    for flops, off in zip(budgets, drift * np.linspace(-0.5, 0.5, len(budgets)), strict=True):
        params = optimum(p, flops) * np.exp(np.linspace(-reach, reach, sizes) + off)
        compute = flops * np.exp(rng.normal(0, jitter, sizes))
        tokens = compute / (6 * params)
        measured = loss(p, params, tokens) * np.exp(noise * rng.standard_normal(sizes))
        rows.append(pd.DataFrame({"params": params, "tokens": tokens, "flops": compute, "loss": measured}))
    return pd.concat(rows, ignore_index=True)
