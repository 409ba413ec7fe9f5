"""Which count belongs in the law: trainable parameters, or all of them? Networks with frozen random layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Tell, Trained
from workbench.phenomena.estimates import Estimate, mean

if TYPE_CHECKING:
    from workbench.probes.sweep import Sweep

__all__ = ["TrainableCount"]

#: Hidden layers; the first of them is trained always, and up to two of the others may be frozen.
DEPTH = 3
FROZEN = (0, 1, 2)
WIDTHS = {"cpu": (6, 16, 44), "gpu": (8, 16, 32, 64, 128, 256)}
EXAMPLES = {"cpu": 38_400, "gpu": 2**21}
SEEDS = {"cpu": 14, "gpu": 16}


class TrainableCount(Trained):
    """A network of three hidden layers learns a random teacher; none, one or two of its layers stay as drawn.

    A frozen layer has a learning rate of 0. The loss is fitted by ``A N_t^-a N_a^-b``, N_t trainable and N_a all
    parameters (the law ``trainable_or_total`` without a floor, which a student that can copy its teacher does not
    have), by least squares of logarithms, for each seed by itself. In the control arm the layers that are called
    frozen are trained all the same.
    """

    name = "trainable_count"
    title = "Which count belongs in the law: trainable or total parameters"
    question = "A network is padded with random weights that are never trained: how much larger has it become?"
    papers = (
        Paper("Chatelain et al. 2021", "Is the Number of Trainable Parameters All That Actually Matters?",
              "arXiv 2109.11928"),
    )  # fmt: skip
    claims = (
        Claim(
            "loss with two layers frozen, over that with none", 1.3, np.inf, rival=1.0,
            source="at one width, so at one total: if the total were what counts the ratio would be 1 (rival)",
        ),
        Claim(
            "exponent of trainable parameters", 0.2, np.inf, rival=0.0,
            source="the count that matters has an exponent of its own; rival: only the total matters",
        ),
        Claim(
            "share of trainable parameters in the exponent", 0.5, 1.0, rival=0.0,
            source="a / (a + b); Chatelain et al. 2021 say 1, more than half is asked here; rival: only the total",
        ),
        Claim(
            "exponent of all parameters", -0.05, 0.05, expected=0.0, controlled=False, reproduces=False,
            source="Chatelain et al. 2021, abstract: loss depends only on the number of trainable parameters; 0.05 for "
            "the seeds there are",
        ),
    )  # fmt: skip
    control = "The layers that are called frozen are trained all the same."
    outcome = ("loss",)
    caveats = (
        "At the larger scale the exponent of all parameters is 0.05, at the edge of what is accepted and surely not 0: "
        "a frozen layer helps a little.",
        "That loss depends on trainable parameters alone does not reproduce: at equal trainable parameters networks "
        "with one frozen layer are a quarter worse than those with none, with two layers a little better, and the "
        "fitted exponent of all parameters is about 0.1.",
        "Chatelain et al. compare language models at equal compute, where frozen weights cost time; here only "
        "parameters are counted.",
        "Small networks and a few hundred steps: the exponents are those of this training length.",
    )  # fmt: skip

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.probes.spec import Probe
        from workbench.probes.sweep import Sweep

        base = Probe(
            task="teacher_student", dimension=6, teacher_width=16, test_size=2048,
            model="mlp", depth=DEPTH, optimizer="adam", lr=0.01, schedule="cosine",
            tokens=EXAMPLES[budget], batch_tokens=128, evals=1,
        )  # fmt: skip
        probes = []
        for width in WIDTHS[budget]:
            for frozen in FROZEN:
                rates = tuple((f"{layer}.", 0.0) for layer in _frozen_layers(frozen)) if arm == "effect" else ()
                for repetition in range(SEEDS[budget]):
                    # all networks of the control have seeds of their own, else those of one width would be the same
                    own = (seed * 100 + repetition) * 10 + frozen
                    probes.append(base.replace(width=width, layer_rates=rates, seed=own))
        return Sweep(tuple(probes))

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        table = super().experiment(arm, budget, seed, tell)
        cells = [(w, f, r) for w in WIDTHS[budget] for f in FROZEN for r in range(SEEDS[budget])]
        named = pd.DataFrame(cells, columns=["width", "frozen", "repetition"])
        return pd.concat([named, table], axis=1)

    def observe(self, results: list[Any]) -> pd.DataFrame:
        """Total parameters and loss; how many layers count as frozen is the experiment's to say."""
        rows = []
        for one in results:
            weights = one.probe.model_settings.weights(one.probe.task_settings)
            sizes = {name: int(np.prod(weight.shape)) for name, weight in weights.items()}
            rows.append((sum(sizes.values()), sum(sizes[f"1.{part}"] for part in ("weight", "bias")), one.loss))
        return pd.DataFrame(rows, columns=["total", "layer", "loss"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        found = []
        for _, rows in runs.groupby("repetition"):
            loss = np.log(rows["loss"])
            by = loss.groupby(rows["frozen"]).mean()
            counts = np.column_stack([np.ones(len(rows)), -np.log(trainable(rows)), -np.log(rows["total"])])
            _, a, b = np.linalg.lstsq(counts, loss, rcond=None)[0]
            found.append((by[max(FROZEN)] - by[0], a, a / (a + b), b))
        ratio, a, share, b = (mean(column) for column in zip(*found, strict=True))
        ratio = Estimate(*(float(np.exp(one)) for one in (ratio.value, ratio.low, ratio.high)), ratio.n)
        return dict(zip([claim.name for claim in self.claims], (ratio, a, share, b), strict=True))

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        words = ("none frozen", "one layer frozen", "two layers frozen")
        points = []
        told = runs if runs["arm"].nunique() == 1 else runs[runs["arm"] == "effect"]
        for (frozen, _), rows in told.groupby(["frozen", "width"]):
            loss = mean(rows["loss"])
            for panel, count in (("trainable parameters", trainable(rows)), ("all parameters", rows["total"])):
                points.append((count.iloc[0], loss.value, max(loss.low, 1e-3), loss.high, words[frozen], panel))
        return trend(
            pd.DataFrame(points, columns=["x", "y", "low", "high", "group", "panel"]),
            "Parameters",
            "Loss (mean squared error)",
            group="Layers as drawn", height=320,
            heading="The same networks over two counts of parameters",
            notes=(
                f"{DEPTH} hidden layers, random teacher, {len(told)} networks",
                f"{told['repetition'].nunique()} seeds, bars: 95 % intervals of the mean",
            ),
        )  # fmt: skip


def _frozen_layers(frozen: int) -> range:
    """The first hidden layer, which reads the input, and the head are trained always."""
    return range(1, 1 + frozen)


def trainable(runs: pd.DataFrame) -> pd.Series:
    """Trainable parameters: all, less those of the layers that are called frozen."""
    return runs["total"] - runs["frozen"] * runs["layer"]
