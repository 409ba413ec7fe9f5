"""Along which lines a law of several inputs is drawn: what runs on the x axis, what is held constant.

Size N, data D, compute C = 6ND and tokens per parameter M = D/N hold two numbers between them, so a law
of any two can be drawn against each of the four.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.fits.result import Fit
from workbench.units import FLOPS_PER_PARAM_TOKEN, axis_title

__all__ = ["Lines", "lines"]

#: Role of a column -> powers of N and D, and the logarithm of its factor.
_ROLES = {
    "N": (1.0, 0.0, 0.0),
    "D": (0.0, 1.0, 0.0),
    "C": (1.0, 1.0, float(np.log(FLOPS_PER_PARAM_TOKEN))),
    "M": (-1.0, 1.0, 0.0),
}
_ROLE_OF = {
    "params": "N", "params_non_embedding": "N", "params_active": "N",
    "tokens": "D", "flops": "C", "tokens_per_param": "M",
}  # fmt: skip


@dataclass(frozen=True)
class Lines:
    """How a law's inputs are laid out in a plane.

    Attributes:
        x: column on the x axis.
        by: column that is constant along a line; None for a law of one input.
        held: further inputs -> the value they are held at.
        inputs: the law's input columns, by symbol.
        derived: whether x is computed from the inputs by C = 6ND, M = D/N.
    """

    x: str
    by: str | None
    held: dict[str, float]
    inputs: dict[str, str]
    derived: bool

    @property
    def title(self) -> str:
        """Title of the x axis."""
        return axis_title(self.x) + (", counted as 6ND" if self.derived and self.x == "flops" else "")

    def x_of(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """x of runs whose input columns are given."""
        return _solve({c: columns[c] for c in self.inputs.values()}, self.x) if self.derived else columns[self.x]

    def inputs_at(self, grid: np.ndarray, level: float | None) -> dict[str, np.ndarray]:
        """Input columns along the line on which `by` equals `level`."""
        given = {self.x: grid}
        if self.by is not None:
            given[self.by] = np.full(grid.shape, float(level))
        out = {}
        for column in self.inputs.values():
            if column in given:
                out[column] = given[column]
            elif column in self.held:
                out[column] = np.full(grid.shape, self.held[column])
            else:
                out[column] = _solve(given, column)
        return out


def lines(fit: Fit, x: str | None = None) -> Lines:
    """The layout of `fit` against column `x`.

    Args:
        fit: the fit.
        x: an input of the law, or one of params, tokens, flops, tokens_per_param that follows from its
            inputs; default tokens where they are an input and vary, else the first input that varies.

    Raises:
        ValueError: the law cannot be drawn against `x`; the sentence lists what it can be drawn against.
    """
    inputs = dict(fit.points.columns)
    columns = list(inputs.values())
    spans = {c: float(np.ptp(fit.points.x[s])) for s, c in inputs.items()}
    if x is None:
        preferred = sorted(columns, key=lambda c: (spans[c] == 0, c != "tokens"))
        x = preferred[0]
    derived = x not in columns
    if derived and not (len(columns) == 2 and _can_solve(columns, x)):
        offered = columns + (
            [c for c in _ROLE_OF if c not in columns and _can_solve(columns, c)] if len(columns) == 2 else []
        )
        raise ValueError(f"{fit.law.name} here cannot be drawn against {x!r}; choose one of {', '.join(offered)}")
    others = [c for c in columns if c != x]
    by = others[0] if others else None
    symbol_of = {c: s for s, c in inputs.items()}
    held = {} if derived else {c: float(np.median(fit.points.x[symbol_of[c]])) for c in others[1:]}
    return Lines(x, by, held, inputs, derived)


def _can_solve(columns: list[str], wanted: str) -> bool:
    roles = [_ROLE_OF.get(c) for c in (*columns, wanted)]
    return None not in roles and len(set(roles)) == 3


def _solve(given: dict[str, np.ndarray], wanted: str) -> np.ndarray:
    """`wanted` from two other quantities: linear in the logarithms of N and D."""
    powers = np.array([_ROLES[_ROLE_OF[c]] for c in given])
    logs = np.log(np.stack([np.asarray(v, dtype=float) for v in given.values()])) - powers[:, 2:]
    n_and_d = np.linalg.solve(powers[:, :2], logs)
    a, b, constant = _ROLES[_ROLE_OF[wanted]]
    return np.exp(a * n_and_d[0] + b * n_and_d[1] + constant)
