"""Depth with and without residual branches: how the gradient arrives before training, and what training makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Tell, Trained
from workbench.phenomena.estimates import Estimate, mean, slope

if TYPE_CHECKING:
    from workbench.probes.sweep import Sweep

__all__ = ["KINDS", "ResidualDepth", "growth"]

#: What a block does with its branch, and how it is called in pictures.
KINDS = {
    "none": "no residual connection", "plain": "plain branches", "inverse_sqrt": "branches / √L",
    "rezero": "ReZero", "fixup": "Fixup",
}  # fmt: skip
#: The ways that are said to train at any depth, and by whom.
REMEDIES = {
    "inverse_sqrt": "Hayou et al. 2021, abstract: stable gradients in the limit of infinite depth",
    "rezero": "Bachlechner et al. 2020, abstract: thousands of layers, with fast convergence",
    "fixup": "Zhang, Dauphin & Ma 2019, abstract: stable training even of 10,000 layers",
}
#: Variance of a weight times the width: He's, which ReLU needs to keep a size, and without residual connection the
#: one that keeps it in a linear network.
WEIGHTS = {"none": 1.0, "plain": 2.0, "inverse_sqrt": 2.0, "rezero": 2.0, "fixup": 2.0}
CLASSES = 10
#: Cross-entropy of a guess. Runs that end above it or leave the numbers count as this.
GUESS = math.log(CLASSES)
#: By budget. At the start: depths, width, networks. In training: depths, width, steps, examples a step, learning rate,
#: seeds. Under standard initial sizes plain gradient descent bears a rate of about 1 / width.
START: Mapping[str, tuple[tuple[int, ...], int, int]] = {
    "cpu": ((2, 4, 8, 16, 32, 64), 256, 16),
    "gpu": ((4, 8, 16, 32, 64, 128, 256), 512, 32),
}
TRAINING: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"depths": (4, 16, 64), "width": 16, "steps": 40, "batch": 64, "lr": 0.08, "seeds": 12},
    "gpu": {"depths": (4, 16, 64, 256), "width": 128, "steps": 300, "batch": 256, "lr": 0.015, "seeds": 16},
}


def growth(
    kind: str, depths: Sequence[int], weights: Sequence[np.ndarray], variance: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What random networks of several depths do to the size of a signal, and to the gradient on its way back.

    A block maps x to W relu(x) (``none``), or to x + a W relu(x) with a = 1 (``plain``), 1 / sqrt(L)
    (``inverse_sqrt``, L the network's depth) or 0 (``rezero``; ``fixup``, whose branches end in a matrix of zeros).
    For weights of variance s / n, averages of the squared size, of the signal and of the gradient, are multiplied by
    s / 2 a block (none) or by 1 + a^2 s / 2, up to terms of order 1 / n: half of the units are open.

    Args:
        kind: a key of `KINDS`.
        depths: numbers of blocks L.
        weights: of block after block, [n, n] each, entries of variance 1; at least as many as the largest depth.
        variance: s.
        rng: draws the input and the gradient at the output.

    Returns:
        log |x_L|^2 / |x_0|^2 and log |g_0|^2 / |g_L|^2, each [depths].
    """
    width, last = len(weights[0]), np.asarray(depths)
    scale = {"none": 1.0, "plain": 1.0, "inverse_sqrt": 1 / np.sqrt(last)}.get(kind, 0.0)
    scale = np.broadcast_to(scale * math.sqrt(variance / width), last.shape)
    kept = 0.0 if kind == "none" else 1.0
    x, g = (np.repeat(rng.standard_normal((width, 1)), last.size, 1) for _ in range(2))  # a column a depth
    sizes, opened = [(x**2).sum(0), (g**2).sum(0)], []
    for layer in range(last.max()):
        opened.append(x > 0)
        x = np.where(layer < last, kept * x + scale * (weights[layer] @ np.maximum(x, 0)), x)
    for layer in reversed(range(last.max())):
        g = np.where(layer < last, kept * g + scale * opened[layer] * (weights[layer].T @ g), g)
    return np.log((x**2).sum(0) / sizes[0]), np.log((g**2).sum(0) / sizes[1])


class ResidualDepth(Trained):
    """Networks of 4 to 64 blocks: the gradient at the start, and the loss after forty steps at one learning rate.

    Without residual connections a layer multiplies the squared gradient by s / 2 for weights of variance s / n, and
    depth makes a power of it. A residual connection with a branch of the stream's own size multiplies it by 2 a block.
    Three remedies: divide branches by the square root of depth, which makes e of all blocks together (Hayou et al.
    2021), multiply them by a trained number that starts at 0 (ReZero), or end them in a matrix that starts at 0 and
    make the rest so small that a step changes the output equally at every depth (Fixup). Trained are residual
    multilayer perceptrons on a mixture of ten Gaussians, by plain gradient descent. In the control arm the remedy is
    left out of every network.
    """

    name = "residual_depth"
    title = "Residual branches at depth: exploding gradients, 1/√L, ReZero, Fixup"
    question = "What must a residual branch be multiplied by, so that 64 of them train as well as 4?"
    papers = (
        Paper("Bachlechner et al. 2020", "ReZero is All You Need: Fast Convergence at Large Depth",
              "arXiv 2003.04887"),
        Paper("Zhang, Dauphin & Ma 2019", "Fixup Initialization: Residual Learning Without Normalization",
              "arXiv 1901.09321"),
        Paper("Hayou et al. 2021", "Stable ResNet", "arXiv 2010.12859"),
    )  # fmt: skip
    claims = (
        Claim(
            "log growth of the squared gradient a layer, no residual connection, weights 1/n", -0.73, -0.66,
            expected=-math.log(2), rival=0.0,
            source="derived: ln(s/2) for weights of variance s/n; its average over networks is lower by about "
            "5/(2n) = 0.01. Rival: weights of variance 1/n keep sizes, as they do without activation",
        ),
        Claim(
            "log growth of the squared signal a block, plain branches", 0.66, 0.73,
            expected=math.log(2), rival=math.log(4), controlled=False,
            source="derived: ln(1 + s/2) with s = 2, less order 1/n. Rival: branch and stream point the same way",
        ),
        Claim(
            "log growth of the squared signal over all blocks, branches / √L", 0.8, 1.2, expected=1.0, rival=0.0,
            source="derived: L ln(1 + 1/L), 0.99 for 64 blocks; one network of width 256 scatters by about 0.2. "
            "Rival: branches divided by L, whose sum vanishes",
        ),
        *(
            Claim(
                f"loss at the largest depth over that at the smallest, {KINDS[kind]}", -math.inf, 1.2, expected=1.0,
                source=f"{said}. No number for the loss; 1.2 for the noise of short runs",
            )
            for kind, said in REMEDIES.items()
        ),
        Claim(
            "loss at the largest depth over that of a guess, no residual connection", 0.95, 1.05, expected=1.0,
            controlled=False,
            source="follows from the first claim: a gradient that has vanished moves nothing; 5 % for the noise",
        ),
    )  # fmt: skip
    control = "The remedies are left out: every network has plain residual branches."
    outcome = ("value",)
    caveats = (
        "One fixed learning rate and plain gradient descent; Adam needs other powers of the depth.",
        "ReZero keeps the signal, not the size of a step: its best fixed rate falls with depth, and at four times the "
        "largest depth the rate used here makes it diverge.",
        "No normalization: with it before each branch plain branches train too, though worse than any remedy here.",
        "Short runs on an easy task say whether a network trains, not which one ends best.",
    )

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.probes import Probe, Sweep

        size, probes = TRAINING[budget], []
        examples = size["batch"] * size["steps"]  # each is seen once
        for kind in ("plain",) if arm == "control" else ("none", *REMEDIES):
            model = {"model": "residual_mlp", "residual": kind}
            if kind == "none":  # probes start from He's variance
                model = {"model": "mlp", "init_scale": math.sqrt(WEIGHTS["none"] / 2)}
            base = Probe(
                task="gaussian_mixture", classes=CLASSES, dimension=16, separation=4.0, train_size=examples,
                test_size=1000, width=size["width"], optimizer="sgd", lr=size["lr"], warmup=0.0, schedule="constant",
                batch_tokens=size["batch"], tokens=examples, evals=1, **model,
            )  # fmt: skip
            probes += Sweep.grid(base, depth=size["depths"], seed=[100 * seed + s for s in range(size["seeds"])])
        return Sweep(probes)

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        rows = []
        for one in results:
            kind = "none" if one.probe.model == "mlp" else one.probe.residual
            loss = one.loss if one.status == "finished" else math.nan
            rows.append(("training", kind, one.probe.depth, one.probe.seed, loss))
        return pd.DataFrame(rows, columns=["part", "kind", "depth", "repetition", "value"])

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        depths, width, networks = START[budget]
        rng, rows = np.random.default_rng([seed, arm == "control"]), []
        for network in range(networks):
            weights = rng.standard_normal((max(depths), width, width), dtype=np.float32).astype(float)
            for kind in ("plain",) if arm == "control" else KINDS:
                found = growth(kind, depths, weights, WEIGHTS[kind], rng)
                for part, values in zip(("signal", "gradient"), found, strict=True):
                    rows += [(part, kind, depth, network, value) for depth, value in zip(depths, values, strict=True)]
            tell(0.2 * (network + 1) / networks)
        start = pd.DataFrame(rows, columns=["part", "kind", "depth", "repetition", "value"])
        trained = super().experiment(arm, budget, seed, lambda done: tell(0.2 + 0.8 * done))
        runs = pd.concat([start, trained], ignore_index=True)
        if arm == "control":  # without its remedy every network is the plain one
            runs = pd.concat([runs.assign(kind=kind) for kind in KINDS], ignore_index=True)
        return runs

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        table = dict(iter(runs.groupby(["part", "kind"])))
        found = []
        for key in (("gradient", "none"), ("signal", "plain")):
            own = table[key]
            found.append(slope(own["depth"], own["value"], seeds=own["repetition"]))
        whole = table["signal", "inverse_sqrt"]
        found.append(mean(whole.loc[whole["depth"] == whole["depth"].max(), "value"]))
        with np.errstate(all="ignore"):
            for kind in REMEDIES:
                losses = np.log(_losses(table["training", kind]))
                ratio = mean(losses.iloc[:, -1] - losses.iloc[:, 0])
                found.append(Estimate(*(float(np.exp(v)) for v in (ratio.value, ratio.low, ratio.high)), ratio.n))
        found.append(mean(_losses(table["training", "none"]).iloc[:, -1] / GUESS))
        return {claim.name: estimate for claim, estimate in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        import altair as alt

        from workbench.figures.style import title
        from workbench.figures.trend import trend

        plain, effect = runs["kind"] == "plain", runs["arm"] == "effect"
        trained = runs["part"] == "training"
        # the plain network is trained in the control arm, all others are those of the effect
        shown = runs[(runs["part"] == "gradient") & effect | trained & (plain | effect)]
        points, panels, lost = _points(shown), [], int(shown.loc[trained, "value"].isna().sum())
        for part, y in (("gradient", "Squared gradient, first layer over last"), ("training", "Loss (nats)")):
            own = points[points["part"] == part]
            ends = np.sort(own["x"].unique())
            rates = (("none", -math.log(2)), ("plain", math.log(2)), ("inverse_sqrt", None), ("rezero", 0.0))
            theory = [
                (x, math.exp(x * rate if rate is not None else x * math.log1p(1 / x)), KINDS[kind])
                for kind, rate in rates for x in ends if part == "gradient"
            ]  # fmt: skip
            chart = trend(
                own, "Depth (blocks)", y, theory=pd.DataFrame(theory, columns=["x", "y", "group"]),
                joined=part == "training", group="Network",
            )  # fmt: skip
            panels.append(chart.properties(title="", width=215, height=280))
        words = title(
            "Depth, with and without residual connections",
            f"left: before training, mean of {shown.loc[~trained, 'repetition'].nunique()} networks, dashed: theory; "
            "Fixup lies on ReZero",
            f"right: mean of {shown.loc[trained, 'repetition'].nunique()} seeds at one learning rate",
            f"{lost} runs diverged and are drawn as a guess" if lost else "",
        )
        return alt.hconcat(*panels, spacing=20).properties(title=words)


def _losses(own: pd.DataFrame) -> pd.DataFrame:
    """Final losses [seeds, depths], at most that of a guess; so count what diverged."""
    table = own.pivot(index="repetition", columns="depth", values="value")
    return np.fmin(table, GUESS)


def _points(shown: pd.DataFrame) -> pd.DataFrame:
    """Geometric means of gradients and means of losses, with intervals, as `trend` wants them."""
    rows = []
    for (part, kind, depth), own in shown.groupby(["part", "kind", "depth"], sort=False):
        values = np.fmin(own["value"], GUESS) if part == "training" else own["value"]
        ends = mean(values)
        found = (ends.value, max(ends.low, 0.1 * ends.value), ends.high) if part == "training" else (
            math.exp(v) for v in (ends.value, ends.low, ends.high)
        )  # fmt: skip
        rows.append((part, list(KINDS).index(kind), depth, *found, KINDS[kind]))
    made = pd.DataFrame(rows, columns=["part", "order", "x", "y", "low", "high", "group"])
    return made.sort_values("order", kind="stable")
