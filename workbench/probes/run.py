"""`Run`: the settings of a training run that belong to none of its parts. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.probes.component import Component, choice, number, own, whole

__all__ = ["Run"]


def _corners(name: str, value: object) -> tuple[tuple[float, float], ...] | None:
    """The corners of a schedule as plain floats, or one sentence about what is wrong with them."""
    if value is None:
        return None
    try:
        corners = tuple((float(share), float(multiplier)) for share, multiplier in value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a list of (share of steps, multiplier) pairs.") from None
    shares, multipliers = [c[0] for c in corners], [c[1] for c in corners]
    if len(corners) < 2 or shares != sorted(shares) or (shares[0], shares[-1]) != (0.0, 1.0):
        raise ValueError(f"{name}={value!r} must rise from share 0 to share 1 in at least two corners.")
    if not all(math.isfinite(m) and 0 <= m <= 100 for m in multipliers):
        raise ValueError(f"{name}={value!r} has a multiplier outside 0 to 100.")
    return corners


def _layer_rates(name: str, value: object) -> tuple[tuple[str, float], ...]:
    """Pairs (start of a weight's name, multiplier of lr), in canonical form."""
    try:
        pairs = tuple(
            (str(prefix), float(rate)) for prefix, rate in (value.items() if isinstance(value, Mapping) else value)
        )
    except (TypeError, ValueError, AttributeError):
        raise TypeError(f"{name}={value!r} is not a list of (start of a weight's name, multiplier) pairs.") from None
    if not all(math.isfinite(rate) and 0 <= rate <= 1e6 for _, rate in pairs):
        raise ValueError(f"{name}={value!r} has a multiplier outside 0 to 1000000.")
    return pairs


def _widths(name: str, value: object) -> tuple[float, ...]:
    """Widths of averages, in canonical form: rising, each once."""
    try:
        widths = tuple(sorted({float(width) for width in value}))
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a list of widths; the usual ones are (0.05, 0.1).") from None
    if not all(0.001 <= width <= 0.2886 for width in widths):
        raise ValueError(f"{name}={value!r} has a width outside 0.001 to 0.2886 (the mean of all steps).")
    return widths


def _names(name: str, value: object) -> tuple[str, ...]:
    """Names of measurements, sorted; which exist is checked where they are found."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name}={value!r} is not a list of names; write {name}=[{value!r}].")
    names = tuple(sorted(set(value)))
    if names:
        from workbench.probes.measures.base import find_measure

        for one in names:
            find_measure(one)
    return names


_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Run(Component):
    """The settings of a run that belong to no part: how long, how fast, how exact, how often looked at."""

    kind = "run"

    tokens: int = whole(2**19, 1, 10**12, "training horizon D, tokens (examples where an input has one target)")
    batch_tokens: int = whole(1024, 1, 2**24, "tokens (examples) per optimizer step")
    lr: float = number(1e-2, 0.0, 1e4, "peak learning rate", member=True)
    warmup: float = number(0.05, 0.0, 0.9, "share of all steps in which lr rises linearly from 0", member=True)
    schedule: str = choice(
        "linear", ("linear", "cosine", "constant", "table", "wsd", "one_cycle", "inverse_sqrt"),
        "lr after the warm-up: falling to lr_end, held, held and then falling (wsd), 1/sqrt(step), or as table= says",
        member=True,
    )  # fmt: skip
    weight_decay: float = number(0.0, 0.0, 100.0, "decoupled decay per unit of learning rate", member=True)
    clip: float | None = number(None, 1e-12, 1e12, "largest L2 norm of the gradient", member=True, optional=True)
    seed: int = whole(0, 0, _LIMIT, "draws the initial weights and the training stream", member=True)
    precision: str = choice(
        "fp32", ("fp32", "tf32", "bf16", "e5m2", "e4m3", "e3m2", "e2m3", "e2m1", "e1m2", "int8", "int4", "int2"),
        "matrix products: fp32 exact, tf32, bf16 inputs, or inputs rounded to a simulated format",
    )  # fmt: skip
    evals: int = whole(12, 1, 1000, "evaluation points, ending with the last step; step 0 comes in addition")
    table: tuple | None = own(
        None, _corners, "corners (share of the steps after warm-up, multiplier of lr) for schedule='table'",
        member=True, later=True,
    )  # fmt: skip
    eval_spacing: str = choice("log", ("log", "linear"), "spacing of the evaluation points in steps", later=True)
    decay: float = number(0.2, 0.0, 1.0, "share of all steps that decay lr (wsd)", member=True, later=True)
    lr_end: float = number(
        0.0, 0.0, 1.0, "last lr as a share of the peak (linear, cosine, wsd, one_cycle)", member=True, later=True
    )
    parametrization: str = choice(
        "standard", ("standard", "ntk", "mup", "mean_field", "umup", "depth_mup"),
        "how initial sizes, multipliers and learning rates scale with width and depth", later=True,
    )  # fmt: skip
    base_width: int = whole(
        64, 1, 2**20, "width from which a parametrization scales; mup and depth_mup are standard at it", later=True
    )
    base_depth: int = whole(
        2, 1, 2**10, "depth from which a parametrization scales; depth_mup is standard at it", later=True
    )
    layer_rates: tuple = own((), _layer_rates, "pairs (start of a weight's name, multiplier of lr)", later=True)
    output_scale: float = number(
        1.0, 0.0, 1e6, "multiplier of the model's output (lazy training when large)", member=True, later=True
    )
    init_scale: float = number(1.0, 0.0, 1e6, "multiplier of all drawn initial weights", member=True, later=True)
    z_loss: float = number(0.0, 0.0, 1e3, "weight of the penalty (log Z)^2 of the softmax", later=True)
    transform: str = choice(
        "none", ("none", "grokfast", "perpgrad"), "what is done to the gradient before the optimizer", later=True
    )
    ema: float = number(
        0.0,
        0.0,
        0.9999999,
        "decay of an average of the weights that is evaluated too; 0: none",
        member=True,
        later=True,
    )
    transform_decay: float = number(
        0.98, 0.0, 0.9999999, "decay of the average of gradients (grokfast)", member=True, later=True
    )
    transform_gain: float = number(
        2.0, 0.0, 1e4, "weight of that average beside the gradient (grokfast)", member=True, later=True
    )
    ema_profiles: tuple = own(
        (), _widths, "widths sigma_rel of power-function averages of the weights kept at the evaluation points",
        later=True,
    )  # fmt: skip
    stream: str = choice(
        "fp32", ("fp32", "bf16"), "residual stream of a transformer in training; bf16 needs precision='bf16'",
        later=True,
    )  # fmt: skip
    block: int = whole(32, 0, 2**16, "entries that share a scale in simulated formats; 0: a whole matrix", later=True)
    quantized: str = choice(
        "weights_activations", ("weights", "activations", "weights_activations", "all"),
        "what a simulated format rounds; 'all' adds the gradients", later=True,
    )  # fmt: skip
    measure: tuple = own((), _names, "measurements taken at the evaluation points", later=True)

    def check(self) -> None:
        if (self.table is not None) != (self.schedule == "table"):
            raise ValueError(
                f"schedule={self.schedule!r} and table={self.table!r} do not fit together; "
                'give table= its corners together with schedule="table", and neither alone.'
            )
        if self.stream == "bf16" and self.precision != "bf16":
            raise ValueError(f"stream='bf16' needs precision='bf16', not {self.precision!r}; change one of them.")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup={self.warmup} and decay={self.decay} take more than all steps; lower one.")
