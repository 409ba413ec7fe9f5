"""Sharpness transfer: under muP training sharpens the loss as much at every width, in the NTK parametrization not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Tell, Trained
from workbench.phenomena.estimates import Estimate, bootstrap, mean

if TYPE_CHECKING:
    from workbench.probes.spec import Probe
    from workbench.probes.sweep import Sweep

__all__ = ["SharpnessTransfer", "largest_rates", "step_per_rate"]

#: By budget: widths, and the task; seeds and steps of the runs whose sharpness is followed, and how often that is
#: measured; seeds and steps of those that look for the largest learning rate. Sharpness at the start differs so much
#: between small networks that twelve seeds do not always tell whether its rise follows width; twenty do.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {
        "widths": (16, 32, 64, 128), "task": {"dimension": 2, "train_size": 64, "teacher_width": 16},
        "seeds": 20, "steps": 512, "evals": 6, "short_seeds": 8, "short_steps": 64,
    },
    "gpu": {
        "widths": (64, 128, 256, 512, 1024, 2048),
        "task": {"dimension": 4, "train_size": 256, "teacher_width": 64},
        "seeds": 16, "steps": 2048, "evals": 12, "short_seeds": 16, "short_steps": 128,
    },
}  # fmt: skip
#: Effect: muP. Control: the same network with an output larger by the width's root, and rates divided by the width.
PARAMETRIZATION = {"effect": "umup", "control": "ntk"}
#: Learning rate of the runs whose sharpness is followed.
RATE = 0.3
#: Rates among which the largest is looked for.
GRID = 0.3 * 2 ** (np.arange(12) / 3)
#: Sharpness late in training is averaged from this share of the steps on.
LATE = 0.25
#: Step at which the hidden layer is compared with its start: the output has changed by most of what it ever will, and
#: most runs have not come to the edge.
LOOKED = 16


def step_per_rate(probe: Probe) -> float:
    """How far gradient descent moves a weight per unit of gradient and of the probe's learning rate.

    The edge of stability of the probe is where sharpness times this, times the learning rate, is 2.

    Raises:
        ValueError: weights differ in it; the eigenvalues of the Hessian then do not tell what is stable.
    """
    from workbench.probes.parametrization import scales

    rates = {scale.lr for scale in scales(probe, probe.model_settings.weights(probe.task_settings)).values()}
    if len(rates) > 1:
        raise ValueError(
            f"parametrization={probe.parametrization!r} gives layers different learning rates; "
            "use 'umup', 'mean_field' or 'ntk'."
        )
    return rates.pop()


def largest_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """The largest learning rate of the grid at which that and all smaller rates learned.

    Returns:
        A row a seed, a column a width; NaN where even the smallest failed.
    """
    table = runs[runs["part"] == "limit"].pivot(index=["seed", "width"], columns="lr", values="learned") > 0.5
    count = table.to_numpy().cumprod(axis=1).sum(axis=1)
    rates = np.concatenate([[math.nan], table.columns.to_numpy(float)])
    return pd.Series(rates[count], index=table.index).unstack("width")


class SharpnessTransfer(Trained):
    """Full-batch gradient descent of tanh networks of several widths, and their sharpness while they learn.

    Sharpness is the Hessian's largest eigenvalue. Both arms are one network, f(x) = a.h(x) / sqrt(n) with n units a
    layer, weights of variance 1, and matrices divided by the root of their inputs. That is the NTK parametrization.
    muP divides f by another sqrt(n) and multiplies the learning rate by n, in all layers alike. At the start sharpness
    times learning rate does not follow n in either. But while f learns, the hidden layer changes by a share that does
    not follow n in muP, and falls as n^-1/2 in the NTK parametrization (Yang & Hu 2021), where the tangent kernel, and
    with it sharpness, moves by 1/n only (Huang & Yau 2019). So muP sharpens up to the edge of stability at every width,
    and the control the less the wider it is.
    """

    name = "sharpness_transfer"
    title = "Sharpness during training, and width"
    question = "A network eight times as wide: does training make its loss as sharp?"
    papers = (
        Paper("Noci et al. 2024", "Super Consistency of Neural Network Landscapes and Learning Rate Transfer",
              "arXiv 2402.17457"),
        Paper("Yang & Hu 2021", "Feature Learning in Infinite-Width Neural Networks", "arXiv 2011.14522"),
        Paper("Huang & Yau 2019", "Dynamics of Deep Neural Networks and Neural Tangent Hierarchy", "arXiv 1909.08156"),
    )  # fmt: skip
    claims = (
        Claim(
            "late sharpness times learning rate / 2, widest network", 0.95, 1.1, expected=1.0,
            source="Noci et al. 2024: in muP as at any other width; that is the edge of stability, 2 / lr, with the "
            "range of edge_of_stability (Cohen et al. 2021: at and just above it)",
        ),
        Claim(
            "exponent in width of how far sharpness rises", -0.33, 0.33, expected=0.0, rival=-1.0,
            source="Noci et al. 2024: in muP the same at all widths; no number is taken from them for others. Rival: "
            "the kernel of a network that learns no features moves by 1/n (Huang & Yau 2019). A third of the way there",
        ),
        Claim(
            "exponent in width of how far the hidden layer moves", -0.167, 0.167, expected=0.0, rival=-0.5,
            source="Yang & Hu 2021: 0 in muP; rival: -1/2 in the NTK parametrization. A third of the way there",
        ),
        Claim(
            "exponent in width of the largest learning rate", -0.33, 0.33, expected=0.0, rival=-1.0, controlled=False,
            source="0 if sharpness is the same at every width; rival: the standard parametrization, where stable "
            "rates fall as 1/n (Yang & Hu 2021). A third of the way there",
        ),
    )  # fmt: skip
    control = "The NTK parametrization: wide networks fit the data without changing their hidden layers."
    outcome = ("edge", "change", "learned")
    caveats = (
        "The control's largest learning rate does not follow width either, as its sharpness at the start does not. "
        "Noci et al. say that rates do not transfer there; the best rate of a long training is not looked for here.",
        "Small muP networks start flatter, at 16 units by a sixth, and so rise more: an exponent near -0.1 is left. "
        "From 128 units on the start stays as it is.",
        "The hidden layer is compared after 16 steps. Later the control's exponent comes closer to 0, at widths "
        "of 16 to 256 and step 400 to -1/4: narrow networks have moved as far as they can, and wide ones still move.",
        "Full batches, squared error, plain gradient descent: with Adam sharpness is measured in other units.",
        "Tasks differ in how sharp they start: a seed is a task of its own, and single runs differ by a factor of 2.",
    )

    def _base(self, arm: str, budget: str) -> Probe:
        from workbench.probes import Probe

        task = SIZES[budget]["task"]
        return Probe(
            task="teacher_student", model="mlp", optimizer="sgd", parametrization=PARAMETRIZATION[arm], **task,
            batch_tokens=task["train_size"], test_size=64, activation="tanh", depth=2, lr=RATE, schedule="constant",
            warmup=0.0, evals=1,
        )  # fmt: skip

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.probes import Sweep

        size, probes = SIZES[budget], []
        batch, ends = size["task"]["train_size"], (size["widths"][0], size["widths"][-1])
        for k in range(size["seeds"]):
            # a seed is a task, and a network on it
            base = self._base(arm, budget).replace(seed=100 * seed + k, task_seed=100 * seed + k)
            followed = base.replace(tokens=batch * size["steps"], evals=size["evals"], measure=("sharpness",))
            probes += [followed.replace(width=width) for width in size["widths"]]
            if k < size["short_seeds"]:
                short = base.replace(tokens=batch * size["short_steps"], evals=5, eval_spacing="linear")
                probes += [short.replace(width=width, lr=float(lr)) for width in ends for lr in GRID]
        return Sweep(probes)

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        from workbench.probes.coordinates import coordinate_check

        runs = super().experiment(arm, budget, seed, lambda done: tell(0.97 * done))
        size, tables = SIZES[budget], []
        for one in (100 * seed + k for k in range(size["seeds"])):
            base = self._base(arm, budget).replace(task_seed=one)
            device = "cpu" if budget == "cpu" else "auto"
            tables.append(coordinate_check(base, size["widths"], steps=(LOOKED,), seeds=[one], device=device))
        seen = pd.concat(tables)
        seen = seen[seen["activation"] == f"{base.depth - 1}.hidden"].set_index(["seed", "width", "step"]).sort_index()
        moved = seen["change"].xs(LOOKED, level="step") / seen["size"].xs(0, level="step")
        features = moved.rename("change").reset_index().assign(part="features", step=LOOKED, lr=base.lr)
        return pd.concat([runs, features], ignore_index=True)

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        rows = []
        for one in results:
            probe = one.probe
            own = {"width": probe.width, "seed": probe.seed, "lr": probe.lr}
            if probe.measure:
                factor = step_per_rate(probe)
                rows += [
                    {"part": "sharpness", **own, "step": r["step"], "edge": r["sharpness_lr"] * factor}
                    for r in one.records
                ]
            else:
                losses = [r["loss_train"] for r in one.records]
                # slow learning is no failure, and neither is the spike of a step on which a run comes to the edge
                learned = one.status == "finished" and np.median(losses[1:]) < losses[0]
                rows.append({"part": "limit", **own, "step": one.records[-1]["step"], "learned": float(learned)})
        return pd.DataFrame(rows)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        followed = runs[runs["part"] == "sharpness"]
        begin, end = followed["step"] == 0, followed["step"] >= LATE * followed["step"].max()
        start, late = (followed[at].groupby(["seed", "width"])["edge"].mean().unstack() for at in (begin, end))
        hidden = runs[runs["part"] == "features"].pivot(index="seed", columns="width", values="change")
        found = (
            mean(late.iloc[:, -1]),
            _exponent_of_rise(start, late),
            mean(_exponents(hidden)),
            _exponent_of_rates(runs[runs["part"] == "limit"]),
        )
        return {claim.name: estimate for claim, estimate in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        names = {"effect": "muP", "control": "NTK parametrization"}
        followed = runs[(runs["part"] == "sharpness") & (runs["step"] > 0)]
        curves = followed.groupby(["arm", "width", "step"], as_index=False, sort=False)["edge"].mean()
        curves = curves.rename(columns={"step": "x", "edge": "y"})
        curves["group"], curves["panel"] = curves["width"].astype(str), curves["arm"].map(names)
        ends = (followed["step"].min(), followed["step"].max())
        widest = str(followed["width"].max())
        edge = [(x, 1.0, widest, panel) for panel in curves["panel"].unique() for x in ends]
        return trend(
            curves, "Step", "Sharpness times learning rate / 2",
            theory=pd.DataFrame(edge, columns=["x", "y", "group", "panel"]), log_y=False, group="Width",
            heading="How sharp training makes the loss, width by width",
            notes=(f"means of {followed['seed'].nunique()} seeds", "1 is the edge of stability"),
        )  # fmt: skip


def _exponents(table: pd.DataFrame) -> np.ndarray:
    """The exponent in width (columns) of each row by least squares on logarithms; NaN where an entry is."""
    x = np.log(table.columns.to_numpy(float))
    x -= x.mean()
    return np.log(table.to_numpy(float)) @ x / (x @ x)


def _exponent_of_rates(runs: pd.DataFrame) -> Estimate:
    """The exponent of the largest rate; a rate is known to a step of the grid, so the interval is wider by that."""
    rates = largest_rates(runs)
    found, grid = mean(_exponents(rates)), np.unique(runs["lr"])
    step = np.log(grid[1:] / grid[:-1]).max() / math.log(rates.columns.max() / rates.columns.min())
    return Estimate(found.value, float(found.low - step), float(found.high + step), found.n)


def _exponent_of_rise(start: pd.DataFrame, late: pd.DataFrame) -> Estimate:
    """The exponent in width (columns) of |log(late / start)|, each a mean over seeds (rows), which are resampled."""

    def exponent(pairs: list[np.ndarray]) -> float:
        first, last = np.mean(pairs, axis=0)
        return float(_exponents(pd.DataFrame([np.abs(np.log(last / first))], columns=start.columns))[0])

    pairs = np.stack([start.to_numpy(), late.reindex_like(start).to_numpy()], axis=1)
    if np.isnan(pairs).any():
        return Estimate(math.nan, math.nan, math.nan, len(pairs))
    return bootstrap(list(pairs), exponent)
