"""Learning-rate transfer: the best rate of a small model is the best rate of a large one, if both are muP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Tell, Trained
from workbench.phenomena.estimates import Estimate, mean

if TYPE_CHECKING:
    from workbench.probes.sweep import Sweep

__all__ = ["LearningRateTransfer", "best_rate"]

#: By budget: widths and depths tried, seeds, steps, tokens of a batch, vocabulary and context of the language.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {
        "widths": (12, 24, 48, 96), "depths": (2, 16), "seeds": 4, "steps": 40, "batch": 128, "vocab": 32, "context": 8,
    },
    "gpu": {
        "widths": (64, 128, 256, 512, 1024), "depths": (2, 8, 32), "seeds": 4, "steps": 200, "batch": 16384,
        "vocab": 256, "context": 64,
    },
}  # fmt: skip
RATES = {"cpu": 2.0 ** np.arange(-9, -2), "gpu": 2.0 ** np.arange(-13, -3)}
#: Effect: muP, and branches divided by the square root of depth. Control: neither.
PARAMETRIZATION = {"effect": "depth_mup", "control": "standard"}
#: Depth of the models whose width varies, and depth at which ``depth_mup`` leaves a model as it is.
_SHALLOW = 1


def best_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Where a parabola in log2 of the rate, through the logarithms of the losses near the lowest, has its minimum.

    Taken are up to two grid points on either side whose loss is less than twice the lowest. The answer lies among
    them; it is the grid's own where they do not curve upwards, and NaN where nothing is finite.
    """
    rates, losses = np.asarray(rates, dtype=float), np.asarray(losses, dtype=float)
    if not np.isfinite(losses).any():
        return math.nan
    at = int(np.nanargmin(losses))
    near = slice(max(0, at - 2), at + 3)
    x, y = np.log2(rates[near]), np.log(losses[near])
    kept = np.isfinite(y) & (y < math.log(losses[at]) + math.log(2))
    if kept.sum() < 3:
        return float(rates[at])
    a, b, _ = np.polyfit(x[kept], y[kept], 2)
    return float(2 ** np.clip(-b / (2 * a), x[kept].min(), x[kept].max())) if a > 0 else float(rates[at])


class LearningRateTransfer(Trained):
    """One-block transformers of several widths on a bigram language, each trained at seven rates.

    Under the standard parametrization a step of Adam of rate eta changes the output of a hidden matrix in proportion
    to width, so that the best rate falls like 1/width; muP (Yang et al. 2022, table 3) divides the rate of hidden
    matrices by width, and the best rate stays. With depth, residual branches add up; divided by the square root of
    depth (Yang et al. 2023; Bordelon et al. 2023) their sum stays as large as it was.
    """

    name = "lr_transfer"
    title = "Learning-rate transfer across width and depth"
    question = "The best learning rate was found on a small model: is it the best one of a model eight times as wide?"
    papers = (
        Paper(
            "Yang et al. 2022",
            "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer",
            "arXiv 2203.03466",
        ),
        Paper("Bordelon et al. 2023", "Depthwise Hyperparameter Transfer in Residual Networks", "arXiv 2309.16620"),
        Paper(
            "Yang et al. 2023",
            "Tensor Programs VI: Feature Learning in Infinite-Depth Neural Networks",
            "arXiv 2310.02244",
        ),
    )
    claims = (
        Claim(
            "exponent of the best rate against width", -0.4, 0.4, expected=0.0, rival=-1.0,
            source="theory: 0 in muP, -1 in the standard parametrization; 0.4 for four small widths and short runs",
        ),
        Claim(
            "loss given away at the narrowest model's rate", -math.inf, 0.03, unit="nats/token",
            source="transfer means that the widest model loses nothing worth tuning for: 1 % of the loss",
        ),
        Claim(
            "exponent of the output's change in four steps", -0.25, 0.25, expected=0.0, rival=1.0,
            source="theory: 0 in muP; positive in the standard parametrization, 1 if updates and inputs are aligned",
        ),
        Claim(
            "loss at the largest depth less that at the smallest", -math.inf, 0.1, unit="nats/token",
            source="with 1/sqrt(depth) a deeper model trains as fast; 4 % of the loss for the noise",
        ),
    )  # fmt: skip
    control = "The standard parametrization: rates, initial sizes and branches do not follow width and depth."
    outcome = ("loss", "change")
    caveats = (
        "At the larger scale the control is not refuted on depth: with large batches 32 plain blocks train nearly as "
        "well as 2. On width it is refuted as here.",
        "Runs of some dozen steps: the best rate is that of early training, where transfer is cleanest.",
        "Depth is judged by the loss, not by the best rate: the rate's minimum is too flat in so short runs.",
        "Weight decay, batch and horizon are fixed; muP says nothing of how the rate should follow those.",
    )

    def _base(self, arm: str, budget: str):
        from workbench.probes import Probe

        size = SIZES[budget]
        narrow = size["widths"][0]
        return Probe(
            task="bigram", model="transformer", vocab=size["vocab"], context=size["context"], depth=_SHALLOW,
            width=narrow, base_width=narrow, base_depth=_SHALLOW, parametrization=PARAMETRIZATION[arm],
            batch_tokens=size["batch"], tokens=size["batch"] * size["steps"], schedule="constant", warmup=0.0, evals=1,
            precision="fp32" if budget == "cpu" else "bf16",
        )  # fmt: skip

    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        from workbench.probes import Sweep

        base, size = self._base(arm, budget), SIZES[budget]
        seeds = [100 * seed + s for s in range(size["seeds"])]
        wide = Sweep.grid(base, width=size["widths"], lr=RATES[budget].tolist(), seed=seeds)
        narrow = base.replace(base_depth=size["depths"][0])
        deep = Sweep.grid(narrow, depth=size["depths"], lr=RATES[budget][2:-1].tolist(), seed=seeds)
        return Sweep((*wide, *deep))

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        from workbench.probes.coordinates import coordinate_check

        runs = super().experiment(arm, budget, seed, lambda done: tell(0.95 * done))
        size = SIZES[budget]
        checked = coordinate_check(
            self._base(arm, budget).replace(lr=float(RATES[budget][3])), size["widths"], steps=(4,),
            seeds=[100 * seed + s for s in range(size["seeds"])],
        )  # fmt: skip
        checked = checked[(checked["activation"] == "output") & (checked["step"] == 4)].drop(columns="activation")
        checked = checked[["width", "seed", "change"]].assign(part="coordinates", depth=_SHALLOW)
        return pd.concat([runs, checked], ignore_index=True)

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        rows = []
        for one in results:
            probe = one.probe
            part = "width" if probe.depth == _SHALLOW else "depth"
            loss = one.loss if one.status == "finished" else math.nan
            rows.append((part, probe.width, probe.depth, probe.lr, probe.seed, loss))
        return pd.DataFrame(rows, columns=["part", "width", "depth", "lr", "seed", "loss"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        wide, deep = (runs[runs["part"] == part] for part in ("width", "depth"))
        exponents, given_away = [], []
        for _, own in wide.groupby("seed"):
            curves = own.pivot(index="width", columns="lr", values="loss")
            best = [best_rate(curves.columns, row) for row in curves.to_numpy()]
            exponents.append(np.polyfit(np.log(curves.index), np.log(best), 1)[0])
            nearest = int(np.abs(np.log(curves.columns.to_numpy(float) / best[0])).argmin())
            last = curves.to_numpy()[-1]
            given_away.append((last[nearest] if np.isfinite(last[nearest]) else 2 * np.nanmax(last)) - np.nanmin(last))
        least = deep.groupby(["seed", "depth"])["loss"].min().unstack()
        changes = []
        for _, own in runs[runs["part"] == "coordinates"].groupby("seed"):
            changes.append(np.polyfit(np.log(own["width"]), np.log(own["change"].abs()), 1)[0])
        found = (mean(exponents), mean(given_away), mean(changes), mean(least.iloc[:, -1] - least.iloc[:, 0]))
        return dict(zip((claim.name for claim in self.claims), found, strict=True))

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        wide = runs[runs["part"] == "width"]
        names = {"effect": "muP", "control": "standard parametrization"}
        rows = wide.groupby(["arm", "width", "lr"], sort=False)["loss"].mean().reset_index()
        points = pd.DataFrame({"x": rows["lr"], "y": rows["loss"], "panel": rows["arm"].map(names)})
        points["group"] = rows["width"].astype(str)
        points = points[points["y"] < 1.25 * points["y"].min()]
        return trend(
            points.sort_values("panel", kind="stable"),
            "Learning rate",
            "Final loss (nats/token)",
            log_y=False, group="Width", heading="The best learning rate, width by width",
            notes=(
                "one-block transformers, bigram language, Adam",
                f"means of {wide['seed'].nunique()} seeds; losses beyond 1.25 times the lowest are not drawn",
            ),
        )  # fmt: skip
