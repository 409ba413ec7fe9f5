"""Random labels: a network fits labels without meaning almost as readily as true ones, up to a capacity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean

__all__ = ["RandomLabels", "capacity"]

CLASSES = 10
#: Share of labels replaced by a wrong one that makes all labels equally likely, whatever the input.
RANDOM = 1 - 1 / CLASSES
#: Budget -> samples, width, steps and seeds of the runs that must fit all; width, steps and seeds of those that show
#: the capacity.
SIZES: dict[str, tuple[int, ...]] = {
    "cpu": (300, 64, 100, 10, 16, 700, 3),
    "gpu": (4000, 1024, 400, 20, 64, 10000, 10),
}
#: Samples over parameters at which the capacity is looked for.
RATIOS = (0.125, 0.25, 0.35, 0.5, 1.4)
FITTED = 0.98


def capacity(ratios: np.ndarray, accuracies: np.ndarray) -> float:
    """The largest ratio whose training set is fitted to at least FITTED; 0 if none is."""
    fitted = np.asarray(ratios)[np.asarray(accuracies) >= FITTED]
    return float(fitted.max()) if len(fitted) else 0.0


class RandomLabels(Phenomenon):
    """A perceptron with one hidden layer and ten Gaussian classes whose labels are drawn anew, without looking.

    The wide network (six parameters a sample) learns them by heart, in a few times as many steps as true labels,
    weight decay or not, and answers new samples at chance: what it can express, and what decay forbids, cannot be
    why it generalizes (Zhang et al. 2017). The narrow one shows how many random labels a parameter holds
    (Shwartz-Ziv et al. 2024). The control does all this with the true labels.
    """

    name = "random_labels"
    title = "Random labels and effective capacity"
    question = "Can a network that generalizes well also learn labels that mean nothing?"
    papers = (
        Paper("Zhang et al. 2017", "Understanding deep learning requires rethinking generalization", "1611.03530"),
        Paper("Shwartz-Ziv et al. 2024", "Just How Flexible are Neural Networks in Practice?", "arXiv 2406.11463"),
    )
    claims = (
        Claim(
            "training accuracy at the end", 0.98, np.inf, expected=1.0, rival=1 / CLASSES, controlled=False,
            source="Zhang et al. 2017: random labels are fitted. Rival: what is not there cannot be learned",
        ),
        Claim(
            "training accuracy at the end with weight decay 1", 0.98, np.inf, expected=1.0, rival=1 / CLASSES,
            controlled=False, source="Zhang et al. 2017: explicit regularization does not prevent it",
        ),
        Claim(
            "test accuracy at the end", 0.06, 0.14, expected=1 / CLASSES, rival=0.85,
            source="chance among ten classes; 0.04 because the samples of a class tend to be answered alike, so that "
            "there are only some tens of independent answers. Rival: what true labels give",
        ),
        Claim(
            "steps to fit over those with true labels", 1.3, 8.0, rival=1.0, digits=1,
            source="Zhang et al. 2017: longer by a small constant factor, which depends on the task",
        ),
        Claim(
            "training samples fitted by a narrow network, over its parameters", -np.inf, 0.9, rival=1.0, digits=1,
            source="Shwartz-Ziv et al. 2024: significantly fewer samples than parameters. Rival: as many equations as "
            "unknowns",
        ),
    )  # fmt: skip
    control = "The same networks and inputs with their true labels."
    outcome = ("accuracy_train", "accuracy")
    caveats = (
        "The capacity is that of an optimizer in a given number of steps, not of the network: more steps fit more.",
        "Three times the decay does prevent fitting random labels in these steps, and true ones are still fitted.",
        "The factor between the steps depends on how easy the true labels are: far classes are fitted at once.",
        "How far true labels can be fitted is not found: all sets tried, up to 1.4 samples a parameter, are.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        from workbench.probes import Probe, Sweep
        from workbench.probes.trainer import train_sweep

        samples, width, steps, count, narrow, long, few = SIZES[budget]
        seeds = [1000 * seed + s for s in range(count)]
        noise = RANDOM if arm == "effect" else 0.0
        base = Probe(
            task="gaussian_mixture", classes=CLASSES, dimension=20, separation=3.0, label_noise=noise, test_size=1000,
            model="mlp", depth=1, width=width, optimizer="adam", lr=0.01, warmup=0.0, schedule="constant",
            train_size=samples, batch_tokens=samples, tokens=samples * steps, evals=25, eval_spacing="linear",
        )  # fmt: skip
        small = base.replace(
            width=narrow, separation=5.0, lr=0.03, schedule="linear", batch_tokens=64, tokens=64 * long, evals=1,
            test_size=100,
        )  # fmt: skip
        params = small.params
        parts = {
            "plain": Sweep.grid(base, seed=seeds),
            "reference": Sweep.grid(base.replace(label_noise=0.0), seed=seeds),
            "decay": Sweep.grid(base.replace(optimizer="adamw", weight_decay=1.0), seed=seeds[:few]),
            "capacity": Sweep.grid(small, train_size=[round(r * params) for r in RATIOS], seed=seeds[:few]),
        }
        if arm == "control":  # it is its own reference
            del parts["reference"]
        rows: list[dict[str, Any]] = []
        for place, (part, sweep) in enumerate(parts.items()):
            # the inputs are drawn anew for each seed too
            drawn = Sweep(tuple(probe.replace(task_seed=probe.seed) for probe in sweep))
            for one in train_sweep(drawn, "cpu" if budget == "cpu" else "auto"):
                for record in one.records[-1:] if part == "capacity" else one.records:
                    rows.append({
                        "part": part, "seed": one.probe.seed, "ratio": one.probe.train_size / one.probe.params,
                        "step": record["step"], "accuracy_train": record["accuracy_train"],
                        "accuracy": record["accuracy"],
                    })  # fmt: skip
            tell((place + 1) / len(parts))
        if arm == "control":
            rows += [row | {"part": "reference"} for row in rows if row["part"] == "plain"]
        return pd.DataFrame(rows)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        last = runs.sort_values("step", kind="stable").groupby(["part", "seed"]).last()
        fitted = runs[runs["accuracy_train"] >= FITTED].groupby(["part", "seed"])["step"].min()
        times = [np.log(_of(fitted, part).clip(lower=1)) for part in ("plain", "reference")]
        narrow = runs[runs["part"] == "capacity"]
        held = [capacity(one["ratio"], one["accuracy_train"]) for _, one in narrow.groupby("seed")]
        longer = _mean(times[0] - times[1])
        found = (
            _mean(last.loc["plain", "accuracy_train"]),
            _mean(last.loc["decay", "accuracy_train"]),
            _mean(last.loc["plain", "accuracy"]),
            Estimate(*(float(np.exp(v)) for v in (longer.value, longer.low, longer.high)), longer.n),
            mean(held),
        )
        return {claim.name: value for claim, value in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "random", "control": "true"}
        shown = runs[(runs["part"] == "plain") & (runs["step"] > 0)]
        points = []
        for column, panel in {"accuracy_train": "training samples", "accuracy": "new samples"}.items():
            for (arm, step), rows in shown.groupby(["arm", "step"], sort=False):
                points.append((step, rows[column].mean(), names[arm], panel))
        return trend(
            pd.DataFrame(points, columns=["x", "y", "group", "panel"]),
            "Step",
            "Accuracy",
            log_y=False, group="Labels",
            heading="A network learns labels with and without meaning",
            notes=(f"perceptron, 10 classes, means of {shown['seed'].nunique()} seeds, step 0 left out",),
        )  # fmt: skip


def _of(values: pd.Series, part: str) -> pd.Series:
    """The values of one part by seed; empty if there are none."""
    return values.xs(part, level="part") if part in values.index.get_level_values("part") else values.iloc[:0]


def _mean(values: pd.Series) -> Estimate:
    """The mean; not measured if a value is missing or there is only one."""
    known = len(values) > 1 and np.isfinite(values).all()
    return mean(values) if known else Estimate(np.nan, np.nan, np.nan, 0)
