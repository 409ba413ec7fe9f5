"""The seven regimes of compute-optimal scaling in a model whose loss curves are known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, exact, mean, slope
from workbench.phenomena.scale.random_feature_curves import loss_curve, matrix_curve

__all__ = ["REGIMES", "ComputeOptimalPhases", "envelope", "exponents", "plane", "regime", "terms"]

#: Regime -> the point (alpha, beta) of the plane where it is measured.
REGIMES = {
    "Ia": (0.8, 0.3), "Ib": (0.4, 0.3), "Ic": (0.22, 0.55), "II": (1.0, 0.7), "III": (0.7, 1.2), "IVa": (0.4, 0.9),
    "IVb": (0.28, 0.6),
}  # fmt: skip
#: Smallest and largest model: small spectra (alpha < 1/2) come into their power laws later.
SIZES = {"steep": (1e4, 1e6), "flat": (1e8, 1e10)}
POINTS = {"cpu": 5, "gpu": 9}
#: Random matrices that the equation is compared with: parameters, and how many.
MATRICES = {"cpu": (60, 40), "gpu": (400, 60)}


def regime(alpha: float, beta: float) -> str:
    """Name of the regime at (alpha, beta), as in Paquette et al. 2024; empty where alpha + beta <= 1/2."""
    if alpha + beta <= 0.5:
        return ""
    if alpha > 0.5:
        return "Ia" if beta <= 0.5 else "II" if beta <= alpha else "III"
    if beta <= 0.5:
        return "Ib"
    return "Ic" if alpha <= 0.25 else "IVb" if alpha <= 1 - 0.5**0.5 else "IVa"


def terms(alpha: float, beta: float) -> dict[str, tuple[float, float]]:
    """The parts of the loss, each r^-p d^-q after r steps with d parameters: name -> (p, q).

    *bias* is what gradient flow has not learned yet, *capacity* what d features cannot hold, *distortion* the slow
    learning of directions that the random features blur, *noise* that of stochastic gradients. The learning rate is
    constant for 2 alpha > 1, else d^(2 alpha - 1), the largest that is stable.
    """
    slow = max(0.0, 1 - 2 * alpha)
    p = (2 * alpha + 2 * beta - 1) / (2 * alpha)
    found = {"bias": (p, -slow * p), "capacity": (0.0, 2 * alpha - max(0.0, 1 - 2 * beta))}
    if 2 * alpha > 1 and 2 * beta > 1:
        found["distortion"] = (1 - 1 / (2 * alpha), 1.0)
    if alpha > 0.25:
        p = 2 - 1 / (2 * alpha)
        found["noise"] = (p, slow - slow * p)
    return found


def exponents(alpha: float, beta: float) -> tuple[float, float]:
    """Exponents (a, b) of the least loss f^-a at compute f = r d, and of the size f^b that reaches it.

    With d = f^x each of `terms` is f^-(p (1 - x) + q x); the slowest counts, and x is chosen to make it fastest.
    """
    lines = list(terms(alpha, beta).values())

    def slowest(x: float) -> float:
        return min(p * (1 - x) + q * x for p, q in lines)

    crossings = [0.0, 1.0]
    for (p, q), (s, t) in combinations(lines, 2):
        if (p - q) != (s - t):
            crossings.append((p - s) / ((p - q) - (s - t)))
    best = max((x for x in crossings if 0 <= x <= 1), key=slowest)
    return slowest(best), best


def plane(step: float = 0.04) -> pd.DataFrame:
    """Regime and exponents of every cell of the plane: columns alpha, beta, regime, loss, size (NaN without a law)."""
    rows = []
    for alpha in np.arange(2 * step, 1.5, step).round(6).tolist():
        for beta in np.arange(step / 2, 1.5, step).round(6).tolist():
            name = regime(alpha, beta)
            rows.append((alpha, beta, name, *(exponents(alpha, beta) if name else (np.nan, np.nan))))
    return pd.DataFrame(rows, columns=["alpha", "beta", "regime", "loss", "size"])


def envelope(curves: pd.DataFrame) -> pd.DataFrame:
    """The least loss at each compute f = r d, and the size that reaches it: columns f, loss, size, inside.

    Between the sizes there are (columns d, r, loss) it is interpolated by cubic splines of the logarithms. ``inside``
    is False where the best size is the smallest or largest one.
    """
    from scipy.interpolate import CubicSpline

    table = curves.pivot(index="r", columns="d", values="loss").sort_index()
    d, r = np.log(table.columns.to_numpy(dtype=float)), np.log(table.index.to_numpy(dtype=float))
    f = np.linspace(d[-1] + r[0], d[0] + r[-1], 300)
    at = np.array([CubicSpline(r, np.log(table[one]))(f - place) for one, place in zip(table, d, strict=True)])
    sizes = np.linspace(d[0], d[-1], 201)
    between = CubicSpline(d, at)(sizes)
    best = between.argmin(0)
    inside = (best > 6) & (best < 194)
    return pd.DataFrame({"f": np.exp(f), "loss": np.exp(between.min(0)), "size": np.exp(sizes[best]), "inside": inside})


class ComputeOptimalPhases(Phenomenon):
    """Linear regression on random features of power-law data, by one-pass SGD: loss curves from their equation.

    At one point of each of the seven regimes of the plane (alpha: data, beta: target) the loss is solved for models
    of five sizes, and the least loss at each compute read off. In the control arm all input directions are alike.
    """

    name = "compute_optimal_phases"
    title = "The seven regimes of compute-optimal scaling"
    question = "How should a compute budget be split, if we know the spectrum of the data and of the target?"
    papers = (Paper("Paquette et al. 2024", "4+3 Phases of Compute-Optimal Neural Scaling Laws", "arXiv 2405.15074"),)
    claims = (
        Claim(
            "loss exponent per unit of the predicted one", 0.85, 1.15, expected=1.0, rival=0.0,
            digits=3, source="derived in exponents from the terms of Paquette et al. 2024 (as commonly quoted; "
            "equations not checked against the paper); 15 % for finite sizes; rival: one exponent for all",
        ),
        Claim(
            "loss exponent over predicted, mean of seven", 0.9, 1.1, expected=1.0, rival=0.5, digits=3,
            source="as above; rival: the exponent of half the compute",
        ),
        Claim(
            "loss exponent in regime III", 0.62, 0.66, expected=0.643, rival=0.737, digits=3,
            source="(4 alpha - 1) / (4 alpha) at alpha = 0.7, where SGD's noise decides; rival: without that noise",
        ),
        Claim(
            "size exponent over predicted, mean of seven", 0.9, 1.1, expected=1.0, controlled=False, digits=3,
            source="derived in exponents; the flat optimum makes it converge later",
        ),
        Claim(
            "loss, random matrices over the equation", 0.9, 1.1, expected=1.0, controlled=False, digits=2,
            source="the deterministic equivalent is exact for large d; 60 parameters here",
        ),
    )  # fmt: skip
    control = "All input directions have the same variance: there is no spectrum for the model to exploit."
    outcome = ("loss",)
    caveats = (
        "Regimes Ic and IVb come into their power law so late that even at ten billion parameters the loss exponent is "
        "some 5 to 15 % too small.",
        "Sizes beyond some thousand parameters are not simulated but solved for in the limit of large matrices.",
        "One sample a step and a constant learning rate: other batches and schedules move the regimes' borders.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        tables = []
        for place, (name, (alpha, beta)) in enumerate(REGIMES.items()):
            low, high = SIZES["steep" if alpha > 0.5 else "flat"]
            for d in np.geomspace(low, high, POINTS[budget]):
                r, loss = loss_curve(alpha, beta, d, high**2.6 / low, 4 * high if arm == "control" else 0.0)
                tables.append(pd.DataFrame({"regime": name, "d": d, "r": r, "loss": loss, "repetition": -1}))
            tell((place + 1) / (len(REGIMES) + 1))
        d, repetitions = MATRICES[budget]
        for name in ("Ia", "III", "IVa"):
            r, loss = loss_curve(*REGIMES[name], d, 1e6)
            tables.append(pd.DataFrame({"regime": name, "d": d, "r": r, "loss": loss, "repetition": -2}))
            for repetition in range(repetitions):
                loss = matrix_curve(*REGIMES[name], d, r, [seed, repetition])
                tables.append(pd.DataFrame({"regime": name, "d": d, "r": r, "loss": loss, "repetition": repetition}))
        return pd.concat(tables, ignore_index=True)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        found = self.fitted(runs)
        third = found.loc["III"]
        matrices = runs[runs["repetition"] >= 0].set_index(["repetition", "regime", "r"])["loss"]
        equation = runs[runs["repetition"] == -2].set_index(["regime", "r"])["loss"]
        off = np.log(matrices / equation.reindex(matrices.index.droplevel(0)).to_numpy()).groupby("repetition").mean()
        numbers = (
            slope(found["predicted loss"], found["loss"]),
            mean(found["loss"] / found["predicted loss"]),
            exact(third["loss"], third["error"]),
            mean(found["size"] / found["predicted size"]),
            mean(np.exp(off)),
        )
        return dict(zip([claim.name for claim in self.claims], numbers, strict=True))

    def fitted(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Measured and predicted exponents, one row a regime; ``error`` is how far both halves of the range differ."""
        rows = {}
        for name, curves in runs[runs["repetition"] == -1].groupby("regime", sort=False):
            best = envelope(curves)
            size = np.nan
            if best["inside"].sum() >= 20:
                best = best[best["inside"]]
                size = np.polyfit(np.log(best["f"]), np.log(best["size"]), 1)[0]
            x, y = np.log(best["f"].to_numpy()), np.log(best["loss"].to_numpy())
            half = len(x) // 2
            first, second = (-np.polyfit(x[part], y[part], 1)[0] for part in (slice(half), slice(half, None)))
            predicted = exponents(*REGIMES[name])
            rows[name] = (-np.polyfit(x, y, 1)[0], size, *predicted, abs(first - second) / 2)
        return pd.DataFrame.from_dict(
            rows, orient="index", columns=["loss", "size", "predicted loss", "predicted size", "error"]
        )

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "power-law inputs", "control": "all directions alike"}
        points = []
        for arm, rows in runs.groupby("arm", sort=False):
            for _, one in self.fitted(rows).iterrows():
                for what, panel in (("loss", "least loss, falling as f to minus this"), ("size", "best size")):
                    points.append((one[f"predicted {what}"], one[what], names[arm], panel))
        frame = pd.DataFrame(points, columns=["x", "y", "group", "panel"])
        theory = frame[frame["group"] == names["effect"]].assign(y=lambda t: t["x"])
        return trend(
            frame[np.isfinite(frame["y"])],
            "Predicted exponent of compute f",
            "Measured exponent",
            theory=theory,
            joined=False, log_x=False, log_y=False, group="Inputs", height=300,
            heading="Exponents in the seven regimes, predicted and measured",
            notes=("seven points of the (alpha, beta) plane, one a regime", "no best size within reach: not drawn"),
        )  # fmt: skip
