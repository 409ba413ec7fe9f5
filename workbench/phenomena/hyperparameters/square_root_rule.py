"""The square-root rule: which learning rate does Adam need when the batch grows, and when is the rule wrong?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Trained
from workbench.phenomena.estimates import Estimate, mean, slope

if TYPE_CHECKING:
    from workbench.probes.sweep import Sweep

__all__ = ["SquareRootRule", "examples_until"]

#: What differs between budgets; the smallest batch has kappa = 1. The betas leave kappa (1 - beta) below 0.33.
SIZES: dict[str, dict[str, Any]] = {
    "cpu": {"kappas": (1, 2, 4, 8, 16), "batch": 8, "lr": 3e-3, "beta1": 0.98, "beta2": 0.998, "seeds": 8,
            "tokens": 2**14, "evals": 64, "width": 16, "depth": 1},
    "gpu": {"kappas": (1, 2, 4, 8, 16, 32, 64), "batch": 16, "lr": 2e-4, "beta1": 0.995, "beta2": 0.9995, "seeds": 24,
            "tokens": 2**18, "evals": 512, "width": 64, "depth": 2},
}  # fmt: skip
EPS = 1e-8
#: Batch, over the smallest, at which whole curves are compared.
COMPARED = 4
#: Share of its first value to which the early loss falls.
LEVEL = 0.2


class SquareRootRule(Trained):
    """A small network learns another one from noisy labels with Adam, in batches of 8 to 128 examples.

    All runs of one seed see the same examples in the same order. When the batch becomes kappa times as large, both
    averages of Adam forget kappa times as fast and epsilon is divided by sqrt(kappa) (`square_root_rule`); the
    learning rate is multiplied by sqrt(kappa) in the effect, by kappa in the control.

    Where the noise of a batch outweighs its gradient, Adam divides by a number proportional to 1 / sqrt(B). A step of
    lr = sqrt(kappa) then stands for kappa small ones, in its mean and in its variance: the loss against examples seen
    does not change. The loss that this noise leaves is proportional to lr / sqrt(B), so under the linear rule it grows
    as kappa^0.5. Where the gradient outweighs the noise, as at the start, a step has the length lr whatever the
    batch: covering a distance takes B / lr examples, kappa^0.5 times as many under the square-root rule.
    """

    name = "square_root_rule"
    title = "The square-root rule for Adam"
    question = "The batch becomes sixteen times as large: by what must the learning rate of Adam be multiplied?"
    papers = (
        Paper(
            "Malladi et al. 2022",
            "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms",
            "arXiv 2205.10287",
        ),
    )
    claims = (
        Claim(
            "late: exponent of the loss", -0.1, 0.1, expected=0.0, rival=0.5,
            source="in kappa. The rule leaves the loss as it is; 0.1 is a fifth of the 0.5 that the linear rule has in "
            "theory, and allows 30 % over a factor of 16",
        ),
        Claim(
            "late: distance of the curves", 0.0, 0.15, expected=0.0, rival=math.log(2),
            source="root mean square of the logarithm of the losses' ratio, kappa = 4 to kappa = 1, seed by seed. The "
            "rule says 0, the linear rule log sqrt 4; 0.15 is for steps that are not infinitely small",
        ),
        Claim(
            "early: exponent of the examples needed", 0.25, 0.6, expected=0.5, rival=0.0,
            source="in kappa, to a fifth of the first loss. Derived: the gradient outweighs the noise at first, so "
            "that the rule is too timid by sqrt(kappa); less where both matter. The rule itself says 0",
        ),
    )  # fmt: skip
    control = "The learning rate is multiplied by kappa instead of sqrt(kappa)."
    outcome = ("loss",)
    caveats = (
        "Early in training the rule does not hold: the gradient outweighs the noise, and the linear rule fits better.",
        "In theory the linear rule's late loss grows as kappa^0.5; here by less, why was not studied.",
        "Beyond kappa (1 - beta1) of about 0.3 the averages span a few steps only; at 1.3 a trial ended 30 % higher.",
        "A small network and a constant learning rate.",
    )

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.laws.hyperparameters.sde import linear_rule, square_root_rule
        from workbench.probes.spec import Probe
        from workbench.probes.sweep import Sweep

        size = SIZES[budget]
        probes = []
        for kappa in size["kappas"]:
            new = square_root_rule(kappa, size["lr"], size["beta1"], size["beta2"], EPS)
            rate = linear_rule(kappa, size["lr"]) if arm == "control" else new.lr
            probes += [
                Probe(
                    "teacher_student", "mlp", "adam", dimension=4, teacher_width=8, teacher_layers=1,
                    teacher_activation="tanh", target_noise=1.0, test_size=1024, width=size["width"],
                    depth=size["depth"], activation="tanh", batch_tokens=kappa * size["batch"], tokens=size["tokens"],
                    lr=rate, beta1=new.beta1, beta2=new.beta2, eps=new.eps, schedule="constant", warmup=0.0,
                    evals=size["evals"], eval_spacing="linear", seed=1000 * seed + repetition,
                )
                for repetition in range(size["seeds"])
            ]  # fmt: skip
        return Sweep(tuple(probes))

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        smallest = min(one.probe.batch_tokens for one in results)
        return pd.DataFrame(
            [
                (one.probe.seed, one.probe.batch_tokens // smallest, record["tokens"], record["loss"])
                for one in results
                for record in one.records
            ],
            columns=["seed", "kappa", "examples", "loss"],
        )

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        late = runs[runs["examples"] > runs["examples"].max() / 2]
        rest = late.groupby(["seed", "kappa"], as_index=False)["loss"].mean()
        curves = late[late["kappa"].isin([1, COMPARED])].set_index(["seed", "examples", "kappa"])["loss"].unstack()
        apart = (np.log(curves[COMPARED] / curves[1]) ** 2).groupby("seed").mean() ** 0.5
        reached = [
            (*key, examples_until(one["examples"].to_numpy(), one["loss"].to_numpy()))
            for key, one in runs.groupby(["seed", "kappa"])
        ]
        reached = pd.DataFrame(reached, columns=["seed", "kappa", "examples"])
        return {
            "late: exponent of the loss": slope(rest["kappa"], rest["loss"], log=True, seeds=rest["seed"]),
            "late: distance of the curves": mean(apart),
            "early: exponent of the examples needed": slope(
                reached["kappa"], reached["examples"], log=True, seeds=reached["seed"]
            ),
        }

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        panels = {"effect": "rate times √κ (square root)", "control": "rate times κ (linear)"}
        most = runs["examples"].max()
        places = np.unique(np.geomspace(1, 64, 18).round()) * most / 64
        shown = runs[runs["examples"].isin(places)].assign(log=lambda f: np.log(f["loss"]))
        means = shown.groupby(["arm", "kappa", "examples"], sort=False)["log"].mean().reset_index()
        return trend(
            pd.DataFrame(
                {
                    "x": means["examples"],
                    "y": np.exp(means["log"]),
                    "group": "κ = " + means["kappa"].astype(str),
                    "panel": means["arm"].map(panels),
                }
            ),
            "Examples seen",
            "Squared error on clean targets",
            group="Batch, over smallest",
            heading="One network, many batch sizes, two rules for the learning rate",
            notes=(f"Adam, geometric means of {runs['seed'].nunique()} seeds", "both averages rescaled with the batch"),
        )


def examples_until(examples: np.ndarray, loss: np.ndarray, level: float = LEVEL) -> float:
    """Examples seen when the loss has first fallen to `level` of its first value; NaN if it never has.

    Between two evaluations the logarithm of the loss is taken to fall on a line.

    Args:
        examples, loss: one curve [n], examples ascending.
        level: share of the first loss.
    """
    below = np.flatnonzero(loss <= level * loss[0])
    if not below.size or below[0] == 0:
        return math.nan
    i = below[0]
    share = math.log(loss[i - 1] / (level * loss[0])) / math.log(loss[i - 1] / loss[i])
    return float(examples[i - 1] + share * (examples[i] - examples[i - 1]))
