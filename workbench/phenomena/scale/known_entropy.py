"""A language of known entropy: what a fitted floor is, and how size and data share a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Trained
from workbench.phenomena.estimates import Estimate, mean, slope

if TYPE_CHECKING:
    from workbench.probes.sweep import Sweep

__all__ = ["KnownEntropy", "tail_exponent"]

TAU, EXPONENT = 1.5, 1.0
#: Budget -> vocabulary, widths, horizons as powers of 2, tokens of a step, languages.
SIZES = {
    "cpu": (64, (4, 8, 16, 32), (15, 16, 17, 18), 512, 5),
    "gpu": (512, (8, 16, 32, 64, 128), (17, 18, 19, 20, 21, 22), 1024, 8),
}
RATE = 0.06


def tail_exponent(s: float) -> float:
    """Exponent of the width in the loss that a model of that width cannot remove, for small logits: 2s - 1.

    The language's logits are a sum of terms of size k^-s, and a model of width d has logits of rank d. It misses
    the tail, whose mean square is the sum of k^-2s beyond d, about d^(1 - 2s) / (2s - 1); the divergence is
    half the mean square of the missing logits (second order).
    """
    return 2 * s - 1


class KnownEntropy(Trained):
    """Models of several widths and horizons learn bigram languages whose entropy is known exactly.

    Each model is an embedding and a head (a transformer without blocks): all that a bigram language asks for, so that
    its logits are a matrix of rank d. Every repetition is another language. The law
    L = E + A N^-alpha + B D^-alpha is fitted to the losses, which know nothing of the entropy. In the control the
    learning rate is not decayed: each run ends in the noise of its last steps, and the floor of the law with it.
    """

    name = "known_entropy"
    title = "A language of known entropy: the irreducible loss"
    question = "Is the floor of a fitted scaling law the entropy of the data?"
    papers = (
        Paper("Henighan et al. 2020", "Scaling Laws for Autoregressive Generative Modeling", "arXiv 2010.14701"),
        Paper("Hoffmann et al. 2022", "Training Compute-Optimal Large Language Models", "arXiv 2203.15556"),
    )
    claims = (
        Claim(
            "fitted floor less entropy", -0.04, 0.04, expected=0.0, rival=0.09, unit="nats/token",
            source="Henighan et al. 2020: the floor estimates the data's entropy; 0.04 is a quarter of what the "
            "smallest model lacks; rival: the largest undecayed model's excess in a pilot",
        ),
        Claim(
            "exponent of width in the loss above entropy", -1.3, -0.8, expected=-tail_exponent(EXPONENT),
            rival=-2 * EXPONENT,
            source="tail of the language's spectrum, 1 - 2s (small logits); the horizon is finite, the vocabulary too; "
            "rival: -2s, the next term instead of the tail",
        ),
        Claim(
            "exponent of compute in the best size", 0.35, 0.65, expected=0.5, rival=0.7,
            source="Hoffmann et al. 2022: about 0.5; from beta / (alpha + beta), the floor fixed at the entropy; 0.15 "
            "for four sizes by four horizons; rival: Henighan et al. 2020, about 0.7 as commonly quoted, not checked",
        ),
    )  # fmt: skip
    control = "The learning rate stays constant to the end instead of falling to zero."
    outcome = ("loss",)
    caveats = (
        "The law leans on its form: with the shortest horizons, which it does not follow, the floor falls too low.",
        "The largest run is within 0.02 nats of the entropy, so the fit finds the floor no better than the run does.",
        "The model contains the language; a model that cannot see what the next token depends on has a higher floor.",
        "The best size follows from this language's spectrum; another spectrum has another exponent.",
        "At the larger scale the exponent of width is refuted, -0.5: the wide models' tokens run out before their "
        "width does, and an exponent in one quantity can be read only where nothing else limits.",
    )

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.probes.spec import Probe
        from workbench.probes.sweep import Sweep

        vocab, widths, horizons, batch, languages = SIZES[budget]
        base = Probe(
            task="bigram", vocab=vocab, context=16, tau=TAU, s=EXPONENT,
            model="transformer", depth=0, positions="none", parametrization="mup", base_width=16, base_depth=1,
            lr=RATE, batch_tokens=batch, evals=1, schedule="constant" if arm == "control" else "linear",
        )  # fmt: skip
        # The repetition draws the language as well as the training: the entropy differs, and the distance to it counts.
        drawn = [seed * languages + k for k in range(languages)]
        axes = [(w, 2**h, one) for w in widths for h in horizons for one in drawn]
        return Sweep(tuple(base.replace(width=w, tokens=t, seed=one, language_seed=one) for w, t, one in axes))

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        rows = []
        for one in results:
            p = one.probe
            entropy = _entropy(p.vocab, p.tau, p.s, p.language_seed)
            rows.append((p.language_seed, p.width, p.params, p.tokens, one.loss, entropy))
        return pd.DataFrame(rows, columns=["language", "width", "params", "tokens", "loss", "entropy"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        from workbench import fit

        floors, best = [], []
        for _, own in runs.groupby("language"):
            entropy = float(own["entropy"].iloc[0])
            floors.append(fit(own, "chinchilla_tied").params["E"] - entropy)
            above = fit(own, "chinchilla", fixed={"E": entropy}).params
            best.append(above["beta"] / (above["alpha"] + above["beta"]))
        long = runs[runs["tokens"] == runs["tokens"].max()]
        excess = (long["loss"] - long["entropy"]).clip(lower=1e-9)
        return {
            "fitted floor less entropy": mean(floors),
            "exponent of width in the loss above entropy": slope(
                long["width"], excess, log=True, seeds=long["language"]
            ),
            "exponent of compute in the best size": mean(best),
        }

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        panels = {"effect": "learning rate decayed", "control": "learning rate constant"}
        longest = runs["tokens"].max()
        points, theory = [], []
        for (arm, tokens, width), own in runs.groupby(["arm", "tokens", "width"], sort=True):
            found = mean(own["loss"] - own["entropy"])
            low = max(found.low, 0.5 * found.value)  # a bar to zero has no place on a logarithmic axis
            points.append((width, found.value, low, found.high, f"{tokens / 1e3:,.0f}k", panels[arm]))
            if tokens == longest and width == runs["width"].min():
                widths = np.array(sorted(runs["width"].unique()), dtype=float)
                line = found.value * (widths / width) ** -tail_exponent(EXPONENT)
                theory += [(w, y, "1/width", panels[arm]) for w, y in zip(widths, line, strict=True)]
        return trend(
            pd.DataFrame(points, columns=["x", "y", "low", "high", "group", "panel"]).iloc[::-1],
            "Width of the model",
            "Loss above entropy (nats/token)",
            theory=pd.DataFrame(theory, columns=["x", "y", "group", "panel"]).iloc[::-1],
            group="Training tokens",
            heading="How far from the entropy of the language",
            notes=(f"{runs['language'].nunique()} languages, bars: 95 % intervals of the mean",),
        )


@lru_cache(maxsize=64)
def _entropy(vocab: int, tau: float, s: float, seed: int) -> float:
    from workbench.probes.tasks.bigram import BigramLanguage

    return BigramLanguage(vocab, tau, s, seed).entropy
