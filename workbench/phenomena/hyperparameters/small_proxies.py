"""Small-scale proxies: an instability of large transformers, foretold by small ones at larger learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Trained
from workbench.phenomena.estimates import Estimate, mean

if TYPE_CHECKING:
    from workbench.probes.sweep import Sweep

__all__ = ["SmallProxies"]

VOCAB, HEAD_WIDTH = 32, 8
#: By budget: widths that foretell, the width foretold, seeds, steps, tokens of a batch.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"widths": (8, 16, 32), "foretold": 64, "seeds": 8, "steps": 50, "batch": 128},
    "gpu": {"widths": (16, 32, 64, 128), "foretold": 512, "seeds": 6, "steps": 400, "batch": 4096},
}
RATES = {"cpu": 2.0 ** np.arange(-6, -1), "gpu": 2.0 ** np.arange(-11, -1)}
#: The learning rate of the foretold width: near the best of the widest that foretells.
RATE = {"cpu": 2.0**-5, "gpu": 2.0**-9}
#: Products of rate and width from which on the logits are those that training made, not those of the start.
GROWN = (0.5, 4.0)


class SmallProxies(Trained):
    """Two-block transformers on a bigram language, trained at rates up to eight times the best.

    Queries and keys each grow in proportion to learning rate and width (a step of Adam moves n weights of one output
    by the rate each, Yang et al. 2022), their product like the square. So the largest attention logit is a function
    of rate times width, and a narrow model at a high rate shows what a wide one does at a low rate (Wortsman et al.
    2023). The control norms queries and keys, whose product over the square root of the head's width is then at most
    that root by Cauchy-Schwarz, and adds a z-loss, which holds log Z.
    """

    name = "small_proxies"
    title = "Small-scale proxies of an instability"
    question = "At which learning rate does a small model show what will break a large one?"
    papers = (
        Paper(
            "Wortsman et al. 2023",
            "Small-scale proxies for large-scale Transformer training instabilities",
            "arXiv 2309.14322",
        ),
        Paper(
            "Dehghani et al. 2023",
            "Scaling Vision Transformers to 22 Billion Parameters (QK-norm)",
            "arXiv 2302.05442",
        ),
        Paper("Chowdhery et al. 2022", "PaLM (z-loss)", "arXiv 2204.02311"),
    )
    claims = (
        Claim(
            "exponent of the largest logit in rate times width", 1.5, 2.5, expected=2.0, rival=1.0,
            source="derived: queries and keys each grow like rate times width; a quarter for the logits of the start",
        ),
        Claim(
            "largest logit at the widest, foretold over measured", 0.5, 2.0, expected=1.0, controlled=False,
            source="the power law of the narrower widths, read at the rate and width of the widest; a factor of two",
        ),
        Claim(
            "largest logit of the widest over the bound of QK-norm", 5.0, math.inf,
            source="exact: with QK-norm it is at most 1; five times that is no chance",
        ),
        Claim(
            "mean log Z of the widest", math.log(VOCAB), math.inf, unit="nats",
            source="exact: log Z of equal logits around zero is the log of the vocabulary; nothing pulls it below",
        ),
    )  # fmt: skip
    control = "Queries and keys are normed, and a z-loss of 0.01 is added."
    outcome = ("loss", "logit", "log_z")
    caveats = (
        "Standard parametrization with Adam; in muP the logit does not grow with width at a fixed rate.",
        "Fifty steps: the instability is that of early training and of the largest rates.",
        "QK-norm bounds the logits. That it also lowers the loss at too high rates, as the paper finds, is not seen: "
        "at four times the best rate 0.2 nats are given away with it and without.",
        "A bigram language needs no attention: the logits grow all the same, but a broken attention costs less here.",
    )

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.probes import Probe, Sweep

        size, safe = SIZES[budget], arm == "control"
        base = Probe(
            task="bigram", model="transformer", vocab=VOCAB, context=8, depth=2, batch_tokens=size["batch"],
            tokens=size["batch"] * size["steps"], schedule="cosine", warmup=0.1, evals=2, qk_norm=safe,
            z_loss=0.01 if safe else 0.0, measure=["attention_logits", "log_z"],
        )  # fmt: skip
        seeds = [100 * seed + s for s in range(size["seeds"])]
        probes: list[Probe] = []
        for width in (*size["widths"], size["foretold"]):
            rates = [RATE[budget]] if width == size["foretold"] else RATES[budget].tolist()
            probes += Sweep.grid(base.replace(width=width, heads=width // HEAD_WIDTH), lr=rates, seed=seeds)
        return Sweep(tuple(probes))

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        rows = []
        for one in results:
            probe, last = one.probe, one.records[-1]
            loss = one.loss if one.status == "finished" else math.nan
            rows.append((probe.width, probe.lr, probe.seed, loss, last["attn_logit_max"], last["log_z_mean"]))
        return pd.DataFrame(rows, columns=["width", "lr", "seed", "loss", "logit", "log_z"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        widest = runs["width"].max()
        exponents, forecasts, bounds, log_z = [], [], [], []
        for _, own in runs.groupby("seed"):
            small, large = own[own["width"] < widest], own[own["width"] == widest].iloc[0]
            reach = small["lr"] * small["width"]
            grown = small[(reach >= GROWN[0]) & (reach <= GROWN[1]) & np.isfinite(small["logit"])]
            slope, start = np.polyfit(np.log(grown["lr"] * grown["width"]), np.log(grown["logit"]), 1)
            exponents.append(slope)
            foretold = math.exp(start + slope * math.log(large["lr"] * widest))
            forecasts.append(math.log(foretold / large["logit"]))
            bounds.append(large["logit"] / math.sqrt(HEAD_WIDTH))
            log_z.append(large["log_z"])
        ratio = mean(forecasts)  # of logarithms: a factor too high weighs as much as one too low
        ratio = Estimate(*(math.exp(v) for v in (ratio.value, ratio.low, ratio.high)), ratio.n)
        found = (mean(exponents), ratio, mean(bounds), mean(log_z))
        return dict(zip((claim.name for claim in self.claims), found, strict=True))

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "plain attention", "control": "QK-norm and z-loss"}
        rows = (
            runs.sort_values("width", kind="stable")
            .groupby(["arm", "width", "lr"], sort=False)["logit"]
            .median()
            .reset_index()
        )
        points = pd.DataFrame({"x": rows["lr"] * rows["width"], "y": rows["logit"], "panel": rows["arm"].map(names)})
        points["group"] = rows["width"].astype(str)
        return trend(
            points,
            "Learning rate × width",
            "Largest attention logit at the end",
            joined=False, group="Width", heading="How large attention logits get",
            notes=("two-block transformers, bigram language, Adam", f"medians of {runs['seed'].nunique()} seeds"),
        )  # fmt: skip
