"""Depth at initialization: how fast two inputs become one, and how random a size gets."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["DepthSignal", "correlations", "distances", "log_sizes", "relu_constant", "tanh_critical"]

#: Depths at which the distance of two inputs is written down; exponents are fitted from FROM on.
DEPTHS, FROM = (1, 2, 3, 5, 10, 20, 30, 60, 100, 200, 300, 600, 1000, 2000, 3000), 300
#: Depth to which real networks are followed; deeper ones would have to be far wider.
REAL = 60
#: Networks for the size: width -> depths.
ASPECTS = {128: (4, 8, 16, 32), 256: (8, 16, 32), 512: (8, 16, 32)}
#: budget -> (pairs of inputs, width of the networks for correlations, how many, groups of networks for the size,
#: networks a group)
SCALE = {"cpu": (10, 4000, 24, 20, 200), "gpu": (40, 100_000, 100, 40, 2000)}


def relu_constant() -> float:
    """(1 - c) l^2 of a deep critical ReLU network: 9 pi^2 / 2.

    The correlation map of ReLU begins with 1 - c' = (1 - c) - a (1 - c)^(3/2) near c = 1, a = 2 sqrt 2 / (3 pi); as a
    differential equation in the depth this has the solution 1 - c = 4 / (a l)^2.
    """
    return 4.5 * math.pi**2


def tanh_critical(q: float = 1.0) -> tuple[float, float, float]:
    """(weight variance, bias variance, constant) of the tanh network that keeps pre-activation variance `q` and is
    critical: weight variance times E[tanh'(sqrt(q) Z)^2] is 1.

    The constant is the limit of (1 - c) l, which is 2 / (q w E[tanh''^2]) for weight variance w: the correlation map
    has slope 1 and that curvature at c = 1, so 1 - c' = (1 - c) - (1 - c)^2 / constant.
    """
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w, t = w / w.sum(), np.tanh(math.sqrt(q) * z)
    weight = 1 / (w @ (1 - t**2) ** 2)
    return float(weight), float(q - weight * (w @ t**2)), float(2 / (q * weight * (w @ (2 * t * (1 - t**2)) ** 2)))


def distances(kind: str, start: float, depths: tuple[int, ...], linear: bool = False) -> list[float]:
    """1 - c of two inputs in an infinitely wide network, at each of `depths`, by iterating the exact map of a layer.

    ReLU: the arc-cosine kernel (Cho & Saul 2009), in a form that does not cancel for small angles. tanh: the series
    of the expectation E[tanh tanh] in powers of c, whose coefficients are squares of Hermite coefficients.

    Args:
        kind: ``relu`` or ``tanh`` (`tanh_critical` with q = 1).
        start: correlation in layer 1.
        depths: rising.
        linear: without activation: nothing changes.
    """
    z, weights = np.polynomial.hermite_e.hermegauss(120)
    weight, bias, _ = tanh_critical()
    values, series = weights / weights.sum() * np.tanh(z), []
    before, now = np.zeros_like(z), np.ones_like(z)  # normalized Hermite polynomials, by their recursion
    for k in range(100):
        series.append((values @ now) ** 2)
        before, now = now, (z * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    powers, gap, found = np.arange(100), 1.0 - start, []
    for layer in range(1, depths[-1] + 1):
        if layer in depths:
            found.append(float(gap))
        if kind == "relu" and not linear:
            angle = 2 * math.asin(math.sqrt(gap / 2))
            gap -= (math.sin(angle) - angle * math.cos(angle)) / math.pi
        elif not linear:
            gap = 1.0 - weight * (series @ (1.0 - gap) ** powers) - bias
    return found


def correlations(
    kind: str, start: float, width: int, depths: tuple[int, ...], linear: bool, rng: np.random.Generator
) -> list[float]:
    """1 - c of the pre-activations of two inputs in one random network, at each of `depths` (rising).

    Given what a layer receives, the pairs of pre-activations of its units are independent draws from one Gaussian,
    so nothing but lengths and products has to be carried on: exact for every width, and without matrices.

    Args:
        kind: ``relu`` (weights 2 / width) or ``tanh`` (`tanh_critical` with q = 1).
        start: correlation in layer 1.
        width: units of a layer.
        depths: layers, counted from the first pre-activation.
        linear: leave the activation out, and the biases; weights 1 / width.
        rng: of the weights.
    """
    act, weight, bias = {"relu": (lambda u: np.maximum(u, 0), 2.0, 0.0), "tanh": (np.tanh, *tanh_critical()[:2])}[kind]
    if linear:
        act, weight, bias = (lambda u: u), 1.0, 0.0
    q, product, gap = 1.0, start - 1, 2 - 2 * start  # u.u, u.(v - u) and |v - u|^2 a unit: of the gap, since c nears 1
    found = []
    for layer in range(1, depths[-1] + 1):
        z, other = rng.standard_normal((2, width))
        u = math.sqrt(q) * z
        apart = product / q * u + math.sqrt(max(gap - product**2 / q, 0.0)) * other
        if layer in depths:
            # sine and cosine of the angle in the population this layer is drawn from
            norms = q * (q + 2 * product + gap)
            found.append((q * gap - product**2) / norms / (1 + (q + product) / math.sqrt(norms)))
        x = act(u)
        gain = act(u + apart) - x
        q, product, gap = weight * (x @ x) / width + bias, weight * (x @ gain) / width, weight * (gain @ gain) / width
    return found


def log_sizes(width: int, depths: tuple[int, ...], networks: int, linear: bool, rng: np.random.Generator) -> np.ndarray:
    """log(|h_l|^2 / |h_0|^2) of one input in critical networks without biases: [networks, depths].

    Each layer multiplies the size by the mean of its units' squares, as in `correlations`.
    """
    total, found = np.zeros(networks), []
    for layer in range(1, depths[-1] + 1):
        z = rng.standard_normal((networks, width), dtype=np.float32)
        squares = z**2 if linear else 2 * np.maximum(z, 0) ** 2
        total += np.log(squares.mean(1, dtype=float))
        if layer in depths:
            found.append(total.copy())
    return np.stack(found, 1)


class DepthSignal(Phenomenon):
    """Random networks before the first step, two things that depth does to a signal, each with an exact theory.

    *Two inputs become one.* In a critical network the correlation c of two inputs nears 1 only as a power of the
    depth: 1 - c = 9 pi^2 / (2 l^2) for ReLU and constant / l for tanh (Hayou et al. 2019 state the exponents; both
    are derived here, see `relu_constant` and `tanh_critical`). *Sizes get random.* Each layer multiplies |h|^2 by an
    independent number of variance 5 / n, so log |h|^2 has variance 5 L / n (derived; Roberts et al. 2022 and Hanin &
    Nica 2019 show that depth over width rules such fluctuations). The control leaves the activation out: nothing is
    forgotten, and the variance is 2 L / n.
    """

    name = "depth_signal"
    title = "Depth at initialization: two inputs become one, sizes get random"
    question = "What do a thousand random layers do to two inputs, and to the size of one?"
    papers = (
        Paper("Hayou et al. 2019", "On the Impact of the Activation Function on Deep Neural Networks Training",
              "arXiv 1902.06853"),
        Paper("Roberts et al. 2022", "The Principles of Deep Learning Theory", "arXiv 2106.10165"),
        Paper("Hanin & Nica 2019", "Products of Many Large Random Matrices and Gradients in Deep Neural Networks",
              "arXiv 1812.05994"),
    )  # fmt: skip
    claims = (
        Claim(
            "exponent of the distance of two inputs, ReLU", -2.1, -1.9, expected=-2.0, rival=-1.0, digits=3,
            source="derived for infinite depth; 5 % for layers 300 to 3000, where 1/l is still joined by log l/l^2",
        ),
        Claim(
            "exponent of the distance of two inputs, tanh", -1.05, -0.95, expected=-1.0, rival=-2.0, digits=3,
            source="derived for infinite depth; 5 % for layers 300 to 3000",
        ),
        Claim(
            "distance in networks of finite width, over the exact map", 0.85, 1.15, expected=1.0, controlled=False,
            source="exact for infinite width; one network scatters by sqrt(5 x 60 / 4000) = 27 % at layer 60",
        ),
        Claim(
            "variance of log size, over depth / width", 4.7, 5.5, expected=5.0, rival=2.0,
            source="derived: a layer's factor has variance 5/n; its logarithm's is larger by order 1/n, 5.1 at n = 128",
        ),
    )  # fmt: skip
    control = "The activation is left out: deep linear networks, with weights that keep the size."
    outcome = ("value",)
    caveats = (
        "All of this is the state before the first step; training changes it.",
        "Off the critical weight variance correlations converge exponentially, and there is no exponent.",
        "The exponents belong to width first, depth second: at L/n of order 1 the randomness of sizes rules.",
        "Exponents fitted before layer 100 are wrong for ReLU: -1.6 from layer 10 to 100.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        pairs, width, networks, groups, size = SCALE[budget]
        linear = arm == "control"
        rng = np.random.default_rng([seed, linear])
        shallow = tuple(d for d in DEPTHS if d <= REAL)
        rows = []
        for kind in ("relu", "tanh"):
            for pair, start in enumerate(rng.uniform(-0.5, 0.8, pairs)):
                found = distances(kind, start, DEPTHS, linear)
                rows += [(kind, 0, depth, value, pair) for depth, value in zip(DEPTHS, found, strict=True)]
        tell(0.2)
        for network in range(networks):
            for kind in ("relu", "tanh"):
                start = rng.uniform(-0.5, 0.8)
                found = correlations(kind, start, width, shallow, linear, rng)
                exact = distances(kind, start, shallow, linear)
                ratio = [a / b for a, b in zip(found, exact, strict=True)]
                rows += [(f"{kind} ratio", width, *pair, network) for pair in zip(shallow, ratio, strict=True)]
            tell(0.2 + 0.6 * (network + 1) / networks)
        for n, depths in ASPECTS.items():
            for group in range(groups):
                found = log_sizes(n, depths, size, linear, rng).var(0, ddof=1)
                rows += [("size", n, depth, value, group) for depth, value in zip(depths, found, strict=True)]
        return pd.DataFrame(rows, columns=["kind", "width", "depth", "value", "repetition"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        deep, found = runs[(runs["width"] == 0) & (runs["depth"] >= FROM)], []
        for kind in ("relu", "tanh"):
            own = deep[deep["kind"] == kind]
            line = slope(own["depth"], own["value"], log=True, seeds=own["repetition"])
            # a flat line's slope is rounding error, which would be shown with all its zeros
            found.append(Estimate(*(round(end, 9) + 0.0 for end in (line.value, line.low, line.high)), line.n))
        real = runs[runs["kind"].str.endswith("ratio") & (runs["depth"] == REAL)]
        size = runs[runs["kind"] == "size"]
        over = size["value"] * size["width"] / size["depth"]
        found += [mean(real["value"]), mean(over.groupby(size["repetition"]).mean())]
        return {claim.name: estimate for claim, estimate in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        import altair as alt

        from workbench.figures.style import title
        from workbench.figures.trend import trend

        deepest = runs.loc[runs["width"] == 0, "depth"].max()
        layers = np.geomspace(10, deepest, 30) if deepest >= FROM else np.array([])
        power = [(x, relu_constant() / x**2, "ReLU") for x in layers if x > 30]
        power += [(x, tanh_critical()[2] / x, "tanh") for x in layers]
        sizes = runs[runs["kind"] == "size"]
        ratio = np.linspace(0.005, (sizes["depth"] / sizes["width"]).max(), 12)
        lines = (
            [(x, c * x, name) for x in ratio for c, name in ((5, "ReLU"), (2, "no activation"))] if len(layers) else []
        )
        points, panels = _points(runs), []
        for x, y, size, theory in (
            ("Layer", "1 − correlation of two inputs", False, power),
            ("Depth / width", "Variance of the log of the squared size", True, lines),
        ):
            own = points[points["size"] == size]
            chart = trend(
                own, x, y, theory=pd.DataFrame(theory, columns=["x", "y", "group"]), joined=False,
                log_x=not size, log_y=not size, group="Activation",
            )  # fmt: skip
            panels.append(chart.properties(title="", width=225, height=270))
        words = title(
            "Before the first step: inputs merge, sizes scatter",
            f"left: infinite width, mean of {runs[runs['width'] == 0]['repetition'].nunique()} pairs of inputs",
            f"right: widths {', '.join(map(str, sorted(sizes['width'].unique())))}, bars: 95 % intervals",
            "dashed: derived in the limit of depth (left) and width (right)" if len(layers) else "",
        )
        joined = alt.hconcat(*panels, spacing=20)
        return joined.resolve_scale(color="independent", shape="independent").properties(title=words)


def _points(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over repetitions with intervals, as `trend` wants them, and whether they are of sizes."""
    names = {"relu": "ReLU", "tanh": "tanh", "size": "ReLU"}
    rows = []
    for (arm, kind, width, depth), own in runs.groupby(["arm", "kind", "width", "depth"], sort=False):
        if kind.endswith("ratio") or (arm == "control" and kind == "tanh"):
            continue  # without activation nothing tells tanh from ReLU
        found, size = mean(own["value"]), kind == "size"
        name = "no activation" if arm == "control" else names[kind]
        place = depth / width if size else depth
        rows.append((size, place, found.value, found.low if size else np.nan, found.high, name))
    made = pd.DataFrame(rows, columns=["size", "x", "y", "low", "high", "group"])
    return made.sort_values("group", key=lambda name: name.eq("tanh"), kind="stable")  # the same colours on both sides
