"""Grokking: a network that has memorized modular addition finds the rule later, and weight decay sets the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean, slope

__all__ = ["Grokking", "flow_time", "neuron_share"]

#: What makes up an experiment, by budget: modulus, width, learning rate, steps, and seeds of the runs.
SIZES: dict[str, dict[str, Any]] = {
    "cpu": {"modulus": 23, "width": 128, "lr": 0.03, "steps": 350, "seeds": 4},
    "gpu": {"modulus": 59, "width": 512, "lr": 0.01, "steps": 3000, "seeds": 10},
}
DECAYS = (0.25, 0.5, 1.0)
#: Share of training labels that are wrong in the runs with corrupted labels, and their weight decay.
CORRUPTION, STRONG = 0.1, 6.0
#: Initial scales of the flow that is solved exactly, and its weight decay.
SCALES, FLOW_DECAY = (4.0, 8.0, 16.0, 32.0), 0.01
FITTED, GROKKED = 0.99, 0.95


def flow_time(x: np.ndarray, truth: np.ndarray, scale: float, decay: float, level: float = 0.05) -> float:
    """Time at which gradient flow with weight decay has found a sparse rule; infinite if it does not.

    The model is w = u^2 - v^2 (a diagonal linear network, Lyu et al. 2024, arXiv 2311.18817), started at
    u = v = scale, on the loss |X w - y|^2 / 2n + decay (|u|^2 + |v|^2) / 2 with y = X truth. Its flow is
    u = scale exp(A - decay t), v = scale exp(-A - decay t) with dA/dt = -2 grad(w): that much is exact, and only A is
    integrated numerically.

    Args:
        x: inputs [n, d]; truth: sparse weights [d].
        level: squared distance of w from the truth, over the truth's squared length, that counts as found.
    """
    from scipy.integrate import solve_ivp

    gram = x.T @ x / len(x)

    def weights(t: float, a: np.ndarray) -> np.ndarray:
        return 2 * scale**2 * np.exp(-2 * decay * t) * np.sinh(2 * a)

    def found(t: float, a: np.ndarray) -> float:
        return float(((weights(t, a) - truth) ** 2).sum() / (truth**2).sum()) - level

    def slopes(t: float, a: np.ndarray) -> np.ndarray:
        return -2 * gram @ (weights(t, a) - truth)

    def jacobian(t: float, a: np.ndarray) -> np.ndarray:
        return -8 * scale**2 * np.exp(-2 * decay * t) * gram * np.cosh(2 * a)

    found.terminal, found.direction = True, -1
    end = (np.log(scale) + 10) / (decay or FLOW_DECAY)
    solved = solve_ivp(
        slopes, (0, end), np.zeros(len(truth)), "LSODA", events=found, jac=jacobian, rtol=1e-6, atol=1e-8
    )
    return float(solved.t_events[0][0]) if len(solved.t_events[0]) else np.inf


def neuron_share(table: np.ndarray) -> float:
    """How far each neuron has one frequency of its own: its strongest one's share in its power, mean over neurons.

    Args:
        table: what each of the p numbers gives to each neuron, [p, neurons]; frequency 0 is left out.
    """
    power = np.abs(np.fft.rfft(table, axis=0)[1:]) ** 2
    return float((power.max(axis=0) / power.sum(axis=0)).mean())


class Grokking(Phenomenon):
    """Addition modulo p by a network with one hidden layer of squares (Gromov 2023), full batches, AdamW.

    With weight decay (the effect) the network fits the training pairs within some twenty steps and answers test
    pairs at chance; later it finds the rule, the sooner the stronger the decay, and each neuron has one Fourier
    frequency. With a tenth of the labels wrong, strong decay makes it refuse exactly these. Without decay (the
    control) it creeps, and memorizes wrong labels too. Two parts need no control: the sparse linear model where the
    delay is known, and cross-entropy without decay, which stops at losses that are zero in 32 bits; perpGrad and
    StableMax do not.
    """

    name = "grokking"
    title = "Grokking: generalization long after memorization"
    question = "If training accuracy is 100 % and test accuracy is at chance, is it worth training on?"
    papers = (
        Paper("Power et al. 2022", "Grokking: Generalization Beyond Overfitting", "arXiv 2201.02177"),
        Paper("Nanda et al. 2023", "Progress measures for grokking via mechanistic interpretability", "2301.05217"),
        Paper("Lyu et al. 2024", "Dichotomy of Early and Late Phase Implicit Biases", "arXiv 2311.18817"),
        Paper("Doshi et al. 2024", "To grok or not to grok", "arXiv 2310.13061"),
        Paper("Prieto et al. 2025", "Grokking at the Edge of Numerical Stability", "arXiv 2501.04697"),
        Paper("Lee et al. 2024", "Grokfast: Accelerated Grokking by Amplifying Slow Gradients", "arXiv 2405.20233"),
    )
    claims = (
        Claim(
            "test accuracy at the end", 0.95, np.inf, expected=1.0, rival=1 / 23,
            source="Power et al. 2022. Rival: chance, where memorizing alone stays",
        ),
        Claim(
            "steps to generalize over steps to memorize, weakest decay", 3.0, np.inf, rival=1.0, controlled=False,
            digits=1, source="that there is a delay; how long it is depends on decay and size",
        ),
        Claim(
            "exponent of the steps to generalize in the decay", -1.2, -0.4, expected=-1.0, rival=0.0, controlled=False,
            digits=1, source="time goes by in units of 1/(lr decay), so -1 for weak decay; the time to memorize, which "
            "decay does not change, adds a constant and flattens it",
        ),
        Claim(
            "share of a neuron's power in one frequency", 0.7, np.inf, expected=1.0, rival=0.27,
            source="Gromov 2023: a solution with one frequency a neuron. Rival: random weights, "
            "(1 + 1/2 + ... + 1/11) / 11",
        ),
        Claim(
            "training accuracy with a tenth of the labels wrong, strong decay", 0.87, 0.93, expected=0.9, rival=1.0,
            source="Doshi et al. 2024: the wrong ones are refused, 1 - 0.1. Rival: all are memorized",
        ),
        Claim(
            "decay times the time to generalize, by log initial scale (sparse linear model)", 0.97, 1.03, expected=1.0,
            rival=2.0, controlled=False, digits=3,
            source="Lyu et al. 2024: (log scale) / decay. Rival: the product of two layers, scale squared, counts",
        ),
        Claim(
            "training examples with loss exactly 0, cross-entropy without decay", 0.5, np.inf, expected=1.0, rival=0.0,
            controlled=False, digits=1, source="Prieto et al. 2025: softmax collapse in 32 bits",
        ),
        Claim(
            "test accuracy gained there by perpGrad", 0.3, np.inf, rival=0.0, controlled=False, digits=1,
            source="Prieto et al. 2025: without the gradient's part along the weights, no decay is needed",
        ),
        Claim(
            "test accuracy gained there by StableMax", 0.2, np.inf, rival=0.0, controlled=False, digits=1,
            source="Prieto et al. 2025: a function that 32 bits can hold in place of the exponential, no decay needed; "
            "0.2 is more than four times chance, after three times the steps, which softmax cannot use",
        ),
        Claim(
            "steps to generalize with Grokfast over without", 0.0, 0.02, expected=0.02, rival=1.0, controlled=False,
            reproduces=False, digits=1, source="abstract of Lee et al. 2024: more than 50 times faster",
        ),
    )  # fmt: skip
    control = "The same networks and labels without weight decay."
    outcome = ("accuracy_train", "accuracy", "share", "zero_loss", "time")
    caveats = (
        "Grokfast does not reproduce here: at a twentieth of its authors' steps its average over 50 steps is as long "
        "as the training, memorizing takes longer, and nothing is gained.",
        "Squares and the squared loss find the rule within hundreds of steps; transformers need many thousands.",
        "Without decay a narrower network generalizes here too: the control needs its 128 neurons.",
        "Softmax collapse depends on arithmetic: with 64 bits, or a lower learning rate, it comes later.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        from workbench.probes import Probe, Sweep
        from workbench.probes.trainer import train_sweep

        size = SIZES[budget]
        base = Probe(
            task="modular_arithmetic", form="one_hot", objective="squared", model="mlp", depth=1, biases=False,
            activation="quadratic", modulus=size["modulus"], width=size["width"], lr=size["lr"], warmup=0.0,
            schedule="constant", evals=50, train_fraction=0.6,
        )  # fmt: skip
        seeds = [1000 * seed + s for s in range(size["seeds"] + 2)]
        effect = arm == "effect"
        corrupted = {"train_fraction": 0.8, "corruption": CORRUPTION, "width": size["width"] // 2, "lr": size["lr"] / 3}
        entropy = {"objective": "cross_entropy", "width": 3 * size["width"] // 4, "measure": ("softmax_collapse",)}
        parts: list[tuple[str, dict, dict]] = [
            ("decay", {}, {"weight_decay": DECAYS if effect else (0.0,)}),
            ("corrupted", corrupted, {"weight_decay": (STRONG if effect else 0.0,)}),
        ]
        if effect:
            steeper = {"lr": 0.05, "evals": 12}
            parts += [
                ("grokfast", {"transform": "grokfast"}, {"weight_decay": (0.5,)}),
                ("entropy", entropy | steeper, {"weight_decay": (0.0,)}),
                ("perpgrad", entropy | steeper | {"transform": "perpgrad"}, {"weight_decay": (0.0,)}),
                ("stablemax", entropy | steeper | {"objective": "stablemax"}, {"weight_decay": (0.0,)}),
            ]
        rows = []
        for place, (part, changes, axes) in enumerate(parts):
            probe = base.replace(**changes)
            examples = probe.task_settings.train_size
            steps = size["steps"] * (3 if part == "stablemax" else 1)
            probe = probe.replace(batch_tokens=examples, tokens=examples * steps)
            count = {"decay": size["seeds"], "stablemax": len(seeds)}.get(part, max(3, size["seeds"] // 2))
            trained = train_sweep(Sweep.grid(probe, **axes, seed=seeds[:count]), "cpu" if budget == "cpu" else "auto")
            rows += [row for one in trained for row in _rows(part, one)]
            tell((place + 1) / (len(parts) + 1))
        rows += _flow(seed, FLOW_DECAY if effect else 0.0)
        return pd.DataFrame(rows)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        last = runs.sort_values("step", kind="stable").groupby(["part", "seed", "decay"]).last().reset_index()
        final = {part: rows.set_index("seed") for part, rows in last.groupby("part")}
        times = _times(runs)
        plain = times[times["part"] == "decay"]
        ended = final["decay"].groupby("seed")[["accuracy", "share"]].mean()
        found = {
            "test accuracy at the end": _finite(ended["accuracy"]),
            "share of a neuron's power in one frequency": _finite(ended["share"]),
            "training accuracy with a tenth of the labels wrong, strong decay": mean(
                final["corrupted"]["accuracy_train"]
            ),
        }
        flow = runs[runs["part"] == "flow"]
        unknown = Estimate(np.nan, np.nan, np.nan, 0)
        if {"entropy", "perpgrad", "stablemax", "grokfast"} <= set(final):
            weakest = plain[plain["decay"] == plain["decay"].min()]
            fast = times[times["part"] == "grokfast"].set_index("seed")["grok"]
            slow = plain[plain["decay"] == 0.5].set_index("seed")["grok"]
            product = flow["time"] * flow["decay"]
            with np.errstate(divide="ignore"):  # shuffled outcomes may be right at step 0
                delay, saved = np.log(weakest["grok"] / weakest["fit"]), np.log(fast / slow.reindex(fast.index))
            rest = (
                _exp(_finite(delay)),
                slope(plain["decay"], plain["grok"], log=True, seeds=plain["seed"])
                if (plain["grok"] > 0).all()
                else unknown,
                slope(np.log(flow["scale"]), product, seeds=flow["seed"]) if np.isfinite(product).all() else unknown,
                _finite(final["entropy"]["zero_loss"]),
                _finite(final["perpgrad"]["accuracy"] - final["entropy"]["accuracy"]),
                _finite(final["stablemax"]["accuracy"] - final["entropy"]["accuracy"].mean()),
                _exp(_finite(saved)),
            )
        else:  # the control does without these parts
            rest = (unknown,) * 7
        found |= dict(zip((c.name for c in self.claims if not c.controlled), rest, strict=True))
        return found

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.trend import trend

        shown = runs[(runs["part"] == "decay") & (runs["step"] > 0)]
        panels = {"accuracy_train": "training pairs", "accuracy": "test pairs"}
        points = []
        for column, panel in panels.items():
            for (decay, step), rows in shown.groupby(["decay", "step"]):
                points.append((step, rows[column].mean(), f"{decay:g}", panel))
        seeds = shown["seed"].nunique()
        return trend(
            pd.DataFrame(points, columns=["x", "y", "group", "panel"]),
            "Step",
            "Accuracy",
            log_y=False, group="Weight decay",
            heading="Addition modulo p: accuracy in training and test",
            notes=(f"one hidden layer of squares, means of {seeds} seeds, step 0 left out",),
        )  # fmt: skip


def _rows(part: str, result: Any) -> list[dict[str, Any]]:
    """One row an evaluation point; the neurons' share of one frequency at the last."""
    probe = result.probe
    p, width = probe.modulus, probe.width
    first = result.weights[: 2 * p * width].reshape(2 * p, width).double().numpy()
    share = (neuron_share(first[:p]) + neuron_share(first[p:])) / 2
    rows = []
    for record in result.records:
        rows.append({
            "part": part, "seed": probe.seed, "decay": probe.weight_decay, "scale": np.nan, "time": np.nan,
            "step": record["step"], "accuracy_train": record["accuracy_train"], "accuracy": record["accuracy"],
            "share": share if record is result.records[-1] else np.nan,
            "zero_loss": record.get("zero_loss", np.nan),
        })  # fmt: skip
    return rows


def _flow(seed: int, decay: float) -> list[dict[str, Any]]:
    """Times of the sparse linear model: three entries of +-1 among 60 weights, 30 samples, six draws."""
    rows = []
    for draw in range(6):
        rng = np.random.default_rng([seed, draw])
        x, truth = rng.standard_normal((30, 60)), np.zeros(60)
        truth[:3] = rng.choice([-1.0, 1.0], 3)
        for scale in SCALES:
            time = flow_time(x, truth, scale, decay)
            rows.append({"part": "flow", "seed": draw, "decay": decay, "scale": scale, "time": time, "step": 0})
    return rows


def _times(runs: pd.DataFrame) -> pd.DataFrame:
    """By part, seed and decay: the first steps with FITTED training and GROKKED test accuracy; NaN if never."""
    rows = []
    for (part, seed, decay), one in runs[runs["part"] != "flow"].groupby(["part", "seed", "decay"]):
        fit, grok = (one.loc[one[c] >= least, "step"].min() for c, least in
                     (("accuracy_train", FITTED), ("accuracy", GROKKED)))  # fmt: skip
        rows.append((part, seed, decay, fit, grok))
    return pd.DataFrame(rows, columns=["part", "seed", "decay", "fit", "grok"])


def _finite(values: pd.Series) -> Estimate:
    """The mean; not measured if one of the values is not."""
    return mean(values) if len(values) > 1 and np.isfinite(values).all() else Estimate(np.nan, np.nan, np.nan, 0)


def _exp(estimate: Estimate) -> Estimate:
    """The estimate of a logarithm as that of the number itself."""
    return Estimate(*(float(np.exp(v)) for v in (estimate.value, estimate.low, estimate.high)), estimate.n)
