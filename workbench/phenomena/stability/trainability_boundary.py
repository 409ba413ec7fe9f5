"""The boundary between learning rates that train and those that do not, looked at through a microscope."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean

__all__ = ["TrainabilityBoundary", "boundary", "box_counts", "dimension", "losses", "picture"]

UNITS, STEPS, TAIL = 16, 200, 20
#: Middle and half side of the widest frame, in decades of the learning rates; each further frame is ZOOM times smaller.
MIDDLE, HALF, ZOOM, LEVELS = 1.0, 3.0, 8, 11
#: From this frame on the structure is asked for: before it, the frame shows mostly the smooth outline.
DEEP = 5
BOXES = (1, 2, 4, 8)
#: budget -> (cells along a frame's side, networks)
SCALE = {"cpu": (48, 8), "gpu": (384, 8)}


def losses(x: np.ndarray, y: np.ndarray, seed: int, linear: bool, steps: int = STEPS, lib: Any = np) -> np.ndarray:
    """Loss in the last steps of gradient descent over the loss at the start, for many pairs of learning rates at once.

    The network is f = v tanh(h) / sqrt(n) with h = W u for the only training input u; the gradient moves W along u
    alone, so h can be trained in its place, with |u|^2 = 1 in its learning rate.

    Args:
        x, y: log10 of the learning rates of h and v [m] each (float64).
        seed: draws h, v and the target.
        linear: take f as its first-order expansion around the start instead, which makes the problem convex.
        steps: of full-batch gradient descent on the squared error.
        lib: ``numpy`` or ``torch``, whose arrays x and y are.

    Returns:
        [m]; NaN or infinite where training left the numbers.
    """
    rng = np.random.default_rng(seed)
    h0, v0, target = rng.standard_normal(UNITS), rng.standard_normal(UNITS), rng.standard_normal()
    scale = 1 / math.sqrt(UNITS)
    error = float(scale * v0 @ np.tanh(h0) - target)
    rate_h, rate_v = 10.0**x, 10.0**y
    total = 0.0 * x
    if linear:  # the error itself obeys a linear recursion
        slopes = float(np.mean((v0 * (1 - np.tanh(h0) ** 2)) ** 2)), float(np.mean(np.tanh(h0) ** 2))
        factor = 1 - 2 * (rate_h * slopes[0] + rate_v * slopes[1])
        now = 0.0 * x + error
        for step in range(steps):
            if step >= steps - TAIL:
                total = total + now**2
            now = now * factor
        return total / TAIL / error**2
    first = (h0[:, None], v0[:, None])
    if lib is not np:
        first = tuple(lib.as_tensor(start).to(x) for start in first)
    h, v = (0.0 * x[None, :] + start for start in first)
    for step in range(steps):
        a = lib.tanh(h)
        now = (a * v).sum(0) * scale - target
        if step >= steps - TAIL:
            total = total + now**2
        pull = 2 * now * scale
        h, v = h - pull * rate_h * v * (1 - a * a), v - pull * rate_v * a
    return total / TAIL / error**2


def picture(x: float, y: float, half: float, cells: int, seed: int, linear: bool, device: str = "cpu") -> np.ndarray:
    """Where training ended below the first loss: boolean [cells, cells], rows by y, around the point (x, y).

    Args:
        x, y: middle, log10 of the rates of the hidden and of the last layer.
        half: half the side in decades.
        cells: along a side.
        seed, linear: as in `losses`.
        device: ``cpu`` (numpy), or a torch device.
    """
    along = half * (2 * (np.arange(cells) + 0.5) / cells - 1)
    across, up = (part.ravel() for part in np.meshgrid(x + along, y + along))
    if device == "cpu":
        with np.errstate(all="ignore"):
            ended = losses(across, up, seed, linear)
    else:
        import torch

        on = [torch.as_tensor(part, dtype=torch.float64, device=device) for part in (across, up)]
        ended = losses(*on, seed, linear, lib=torch).cpu().numpy()
    return (ended < 1).reshape(cells, cells)  # NaN is not below 1


def boundary(trained: np.ndarray) -> np.ndarray:
    """The cells that differ from their right or upper neighbour: boolean, of the same shape."""
    edge = np.zeros_like(trained)
    edge[:-1] |= trained[:-1] != trained[1:]
    edge[:, :-1] |= trained[:, :-1] != trained[:, 1:]
    return edge


def box_counts(cells: np.ndarray) -> list[int]:
    """How many boxes of 1, 2, 4 and 8 cells a side hold a True cell; the side is a multiple of 8."""
    side = len(cells)
    return [int(cells.reshape(side // s, s, side // s, s).any((1, 3)).sum()) for s in BOXES]


def dimension(cells: np.ndarray) -> float:
    """Box-counting dimension: minus the slope of log count over log box side. NaN without a True cell."""
    counts = box_counts(cells)
    return float(-np.polyfit(np.log(BOXES), np.log(counts), 1)[0]) if counts[0] else math.nan


def _next(edge: np.ndarray) -> tuple[int, int]:
    """The boundary cell with the most boundary in the 9 x 9 cells around it: where there is most to be seen."""
    padded = np.pad(edge.astype(int), 4)
    around = sum(padded[i : i + len(edge), j : j + len(edge)] for i in range(9) for j in range(9))
    return tuple(int(k) for k in np.unravel_index(np.where(edge, around, -1).argmax(), edge.shape))


class TrainabilityBoundary(Phenomenon):
    """One hidden layer of 16 tanh units and one training example; its two layers have learning rates of their own.

    Pairs of rates that train and pairs that diverge are separated by a boundary. Gradient descent is an iterated map,
    as is the map of the Mandelbrot set, and this boundary, too, has structure at every magnification
    (Sohl-Dickstein 2024). Each frame is centred on the last one's densest boundary. The control is the same network
    in its first-order expansion at the start: convex, and its boundary is one smooth curve.
    """

    name = "trainability_boundary"
    title = "The fractal boundary of trainability"
    question = "How does the border between learning rates that work and those that do not look from near?"
    papers = (
        Paper("Sohl-Dickstein 2024", "The boundary of neural network trainability is fractal", "arXiv 2402.06184"),
    )
    claims = (
        Claim(
            "box-counting dimension, magnified 33 thousand times and more", 1.17, 1.98, rival=1.0,
            source="Sohl-Dickstein 2024 over six conditions, one of them a single example; both ends as commonly "
            "quoted, not checked against the paper. Rival: a smooth curve",
        ),
        Claim(
            "box-counting dimension, magnified a billion times", 1.17, 1.98, rival=1.0,
            source="the same range: structure over nine decades",
        ),
        Claim(
            "boundary cells in the last frame, over the first", 2.0, math.inf, rival=1.0,
            source="a smooth curve that crosses a frame once takes about as many cells in each; 2 is twice as many",
        ),
    )  # fmt: skip
    control = "The network is replaced by its first-order expansion at the start, a convex problem."
    outcome = ("dimension", "cells", "picture")
    caveats = (
        "Each frame is aimed at the densest boundary; long stretches of the same boundary are smooth.",
        "200 steps cannot fold the plane without end: deep enough in, every such boundary is smooth.",
        "Four box sizes of a small frame give a dimension to about 0.1; a straight line is measured as 0.9 to 1.0.",
        "float64: the finest cells are 1e-10 decades apart, near what its 16 digits can tell apart after 200 steps.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        cells, networks = SCALE[budget]
        device = "cpu"
        if budget == "gpu":
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        rows = []
        for network in range(networks):
            x = y = MIDDLE
            for level in range(LEVELS):
                half = HALF / ZOOM**level
                trained = picture(x, y, half, cells, 1000 * seed + network, arm == "control", device)
                edge = boundary(trained)
                drawn = "p" + np.packbits(trained).tobytes().hex() if network == 0 else ""  # a letter first: no number
                rows.append((network, level, x, y, half, dimension(edge), int(edge.sum()), drawn))
                if edge.any():
                    i, j = _next(edge)
                    # the boundary passes between this cell and the next
                    x, y = x + half * (2 * (j + 1) / cells - 1), y + half * (2 * (i + 1) / cells - 1)
                tell((network + (level + 1) / LEVELS) / networks)
        columns = ["network", "level", "x", "y", "half", "dimension", "cells", "picture"]
        return pd.DataFrame(rows, columns=columns)

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        deep = runs[runs["level"] >= DEEP].dropna(subset="dimension")
        last, first = (runs[runs["level"] == k].set_index("network")["cells"] for k in (LEVELS - 1, 0))
        found = (
            mean(deep.groupby("network")["dimension"].mean()),
            mean(deep.loc[deep["level"] == LEVELS - 1, "dimension"]),
            mean(last / first),
        )
        return {claim.name: estimate for claim, estimate in zip(self.claims, found, strict=True)}

    def figure(self, runs: pd.DataFrame):
        from workbench.figures.frames import frames

        shown = {}
        for arm, name in (("effect", "network"), ("control", "convex")):
            own = runs[(runs["arm"] == arm) & (runs["network"] == 0)].set_index("level")
            for level in (0, 3, DEEP, LEVELS - 1):
                if level in own.index:
                    times = f"{float(ZOOM**level):.1e} times".replace("e+0", "e").replace("1.0e0", "1")
                    shown[f"{name}, {times}"] = unpacked(own.loc[level, "picture"])
        count = runs["network"].nunique()
        return frames(
            shown, yes="trains", no="does not", x="Log rate, hidden layer →", y="Log rate, last layer →",
            heading="The border of trainability under the microscope",
            notes=(f"one network of {count}", "each frame is centred on the densest boundary of the one before"),
        )  # fmt: skip


def unpacked(drawn: str) -> np.ndarray:
    """The boolean frame that the column ``picture`` holds."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(drawn[1:]), dtype=np.uint8))
    side = math.isqrt(len(bits))
    return bits[: side * side].reshape(side, side).astype(bool)
