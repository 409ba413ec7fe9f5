"""The edge of stability: curvature rises until the learning rate can just bear it, and warm-up makes use of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Tell, Trained
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["EdgeOfStability", "largest_rates"]

#: A run has learned if its squared error is below this; a model that knows nothing has 1.
LEARNED = 0.5
#: Share of the steps in which the learning rate rises, in the runs that look for the largest one.
WARMUP = 0.5
#: Where sharpness is averaged: the last part of the evaluation points.
LATE = 0.6
#: In those runs all initial weights are larger by this factor, which makes the start sharper.
INIT = 1.5
#: budget -> (settings of the network, steps, learning rates at the edge, those of the control, seeds there, steps of
#: the runs that look for the largest rate, the smallest rate they try, seeds there). Wider and deeper networks bear
#: smaller rates.
SCALE = {
    "cpu": (
        {"width": 32, "train_size": 64, "batch_tokens": 64}, 2,
        1000, (0.14, 0.19, 0.26, 0.35), (0.05, 0.07, 0.1), 4, 350, 0.05, 6,
    ),
    "gpu": (
        {"width": 128, "train_size": 1024, "batch_tokens": 1024}, 3,
        8000, (0.03, 0.04, 0.055, 0.075), (0.012, 0.017, 0.024), 16, 2000, 0.0125, 32,
    ),
}  # fmt: skip


def largest_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """By seed and warm-up the largest learning rate of the grid at which that and all smaller rates learned.

    Returns:
        Columns seed, warmup, rate; NaN where even the smallest failed.
    """
    rows = []
    for (seed, warmup), own in runs[runs["part"] == "limit"].groupby(["seed", "warmup"]):
        own = own.sort_values("lr")
        learned = own["learned"].to_numpy() > 0.5
        count = len(own) if learned.all() else int(learned.argmin())
        rows.append((seed, warmup, own["lr"].iloc[count - 1] if count else math.nan))
    return pd.DataFrame(rows, columns=["seed", "warmup", "rate"])


class EdgeOfStability(Trained):
    """Full-batch gradient descent of a tanh network on 64 points, and its sharpness, the Hessian's largest eigenvalue.

    On a parabola of curvature s, steps of learning rate lr diverge if s lr > 2. A network has no fixed curvature:
    training makes it sharper until s lr / 2 reaches 1, and holds it there (Cohen et al. 2021). What is too sharp at
    the start can be led to a flatter place, which is what a warm-up does: it makes larger learning rates usable
    (Gilmer et al. 2021). The control freezes the hidden layer: a linear model of random
    features, whose Hessian is that of its features and nothing else.
    """

    name = "edge_of_stability"
    title = "Edge of stability, and warm-up as control of curvature"
    question = "How sharp does training make the loss, and why does a warm-up let the learning rate be larger?"
    papers = (
        Paper("Cohen et al. 2021", "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability",
              "arXiv 2103.00065"),
        Paper("Gilmer et al. 2021", "A Loss Curvature Perspective on Training Instability in Deep Learning",
              "arXiv 2110.04369"),
    )  # fmt: skip
    claims = (
        Claim(
            "sharpness times learning rate / 2, late in training", 0.95, 1.1, expected=1.0,
            source="Cohen et al. 2021, abstract: sharpness hovers just above 2 / lr; 10 % for just above",
        ),
        Claim(
            "exponent of late sharpness in the learning rate", -1.1, -0.9, expected=-1.0, rival=0.0,
            source="Cohen et al. 2021; rival: sharpness is a property of the task and knows no learning rate",
        ),
        Claim(
            "largest learning rate with warm-up, over that without", 1.5, math.inf, rival=1.0,
            source="Gilmer et al. 2021 claim more than 1 and no number; 1.5 is more than one step of the grid, 1.41",
        ),
    )  # fmt: skip
    control = (
        "The hidden layers are one frozen layer: a linear model of random features, whose curvature cannot change."
    )
    outcome = ("sharpness", "edge", "learned")
    caveats = (
        "Full batches and plain gradient descent; with small batches sharpness stays below 2 / lr.",
        "Below a certain learning rate training ends before the edge is reached.",
        "Squared error: cross-entropy flattens again once all examples are fitted.",
        "How much a warm-up buys depends on its length and on how sharp the start is.",
    )

    def sweep(self, arm: str, budget: str, seed: int):
        from workbench.probes import Probe, Sweep

        network, depth, steps, rates, frozen_rates, seeds, short, lowest, many = SCALE[budget]
        base = Probe(
            task="teacher_student", dimension=2, teacher_width=16, test_size=64, activation="tanh",
            optimizer="sgd", schedule="constant", eval_spacing="linear", **network,
            **({"model": "mlp", "depth": depth} if arm == "effect" else
               {"model": "random_features", "head_init": "normal"}),
        )  # fmt: skip
        grid = lowest * 2 ** (np.arange(9) / 2)
        if arm == "control":  # on a finer grid, in which no gain by warm-up could hide
            rates, grid = frozen_rates, lowest * 2 ** (np.arange(3, 11) / 4)
        size = base.batch_tokens
        # the control's curvature is set by its initial weights, so it is recorded where its largest rate is sought
        scale = INIT if arm == "control" else 1.0
        edge = base.replace(init_scale=scale, warmup=0.3, tokens=size * steps, evals=16, measure=("sharpness",))
        limit = base.replace(tokens=size * short, evals=1, init_scale=INIT)
        probes = [edge.replace(lr=lr, seed=100 * seed + k) for lr in rates for k in range(seeds)]
        probes += [
            limit.replace(lr=float(lr), warmup=warmup, seed=100 * seed + k)
            for warmup in (0.0, WARMUP) for lr in grid for k in range(many)
        ]  # fmt: skip
        return Sweep(probes)

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        from workbench.probes.trainer import train_sweep

        sweep, results = self.sweep(arm, budget, seed), []
        # one after the other: measurements are taken of a whole stack, and a run that has diverged has no Hessian
        for share, measured in ((0.7, True), (1.0, False)):
            part = type(sweep)([probe for probe in sweep if bool(probe.measure) == measured])
            begin = 0.7 * (not measured)
            results += train_sweep(
                part, "cpu" if budget == "cpu" else "auto",
                on_progress=lambda f, _, begin=begin, share=share: tell(begin + f * (share - begin)),
            )  # fmt: skip
        return self.observe(results)

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        rows = []
        for one in results:
            probe, last = one.probe, one.records[-1]
            own = {"lr": probe.lr, "warmup": probe.warmup, "seed": probe.seed}
            if probe.measure:
                rows += [
                    {"part": "edge", **own, "step": r["step"], "sharpness": r["sharpness"], "edge": r["sharpness_lr"]}
                    for r in one.records
                ]
            else:
                learned = one.status == "finished" and last["loss_train"] < LEARNED
                rows.append({"part": "limit", **own, "step": last["step"], "learned": float(learned)})
        return pd.DataFrame(rows)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        late = runs[(runs["part"] == "edge") & (runs["step"] >= LATE * runs["step"].max()) & (runs["sharpness"] > 0)]
        each = late.groupby(["seed", "lr"], as_index=False)[["sharpness", "edge"]].mean()
        rates = largest_rates(runs).pivot(index="seed", columns="warmup", values="rate")
        gain = np.log(rates[rates.columns.max()] / rates[rates.columns.min()]).dropna()
        gained = mean(gain) if len(gain) > 1 else Estimate(math.nan, math.nan, math.nan, len(gain))
        line = slope(each["lr"], each["sharpness"], log=True, seeds=each["seed"])
        found = (
            mean(each.groupby("seed")["edge"].mean()),
            Estimate(*(round(end, 3) + 0.0 for end in (line.value, line.low, line.high)), line.n),
            Estimate(*(math.exp(end) for end in (gained.value, gained.low, gained.high)), gained.n),
        )
        return {claim.name: estimate for claim, estimate in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        import altair as alt

        from workbench.figures.style import title
        from workbench.figures.trend import trend

        names = {"effect": "tanh network", "control": "frozen features"}
        edge = runs[(runs["part"] == "edge") & (runs["step"] > 0)]
        curves = edge.groupby(["arm", "lr", "step"], as_index=False)["sharpness"].mean()
        # one rate of the control is enough: its curvature is the same at all
        curves = curves[(curves["arm"] == "effect") | (curves["lr"] == curves["lr"].min())]
        curves["group"] = [
            names[a] if a == "control" else f"{lr:g}" for a, lr in zip(curves["arm"], curves["lr"], strict=True)
        ]
        curves = curves.rename(columns={"step": "x", "sharpness": "y"})
        ends = (edge["step"].min(), edge["step"].max())
        lines = [(x, 2 / lr, f"{lr:g}") for lr in edge.loc[edge["arm"] == "effect", "lr"].unique() for x in ends]
        left = trend(
            curves, "Step", "Sharpness", theory=pd.DataFrame(lines, columns=["x", "y", "group"]), log_x=False,
            group="Learning rate",
        )  # fmt: skip
        limit = runs[runs["part"] == "limit"]
        shares = limit.groupby(["arm", "warmup", "lr"], as_index=False)["learned"].mean()
        said = [
            f"{names[a]}, {'warm-up' if w else 'none'}" for a, w in zip(shares["arm"], shares["warmup"], strict=True)
        ]
        right = trend(
            shares.assign(group=said).rename(columns={"lr": "x", "learned": "y"}), "Learning rate",
            "Share of runs that learned", log_y=False, group="Model, warm-up",
        )  # fmt: skip
        panels = [chart.properties(title="", width=wide, height=270) for chart, wide in ((left, 230), (right, 180))]
        words = title(
            "Training sharpens the loss until the learning rate can just bear it",
            f"left: mean of {edge['seed'].nunique()} seeds, dashed: 2 / learning rate",
            f"right: {limit['seed'].nunique()} seeds, warm-up over half the steps",
        )
        joined = alt.hconcat(*panels, spacing=20)
        return joined.resolve_scale(color="independent", shape="independent").properties(title=words)
