"""Power laws whose exponent changes at one or more scales, smoothly: one class for each number of breaks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache

import numpy as np

from workbench.laws.base import Input, Law, Parameter

__all__ = ["Broken", "Broken2", "broken_law"]


class _Broken(Law):
    """``y(x) = a + b x^-c_0 prod_i (1 + (x / d_i)^(1/f_i))^(-c_i f_i)``: exponent c_0, then c_0 + c_1, and so on.

    Above a, the slope on log-log axes is -c_0 below the first break and ``-(c_0 + ... + c_i)`` after
    break i at scale d_i; f_i is the break's width, small for a sharp one. Exponents may be negative, so
    the curve may rise, or turn more than once. With all later c_i at 0 it is a power law with a
    constant. The breaks after the first are given by the ratio ``r_i = d_i / d_(i-1) > 1``, which keeps
    them in order: otherwise one curve would have several labellings. `breaks` gives the d_i.

    Caballero et al. 2022 (arXiv 2210.14891, eq. 1, the broken neural scaling law).
    """

    inputs = (Input("x"),)
    linear = ("a", "b")
    trend = ""
    floor = "a"
    reference = "Caballero et al. 2022, arXiv 2210.14891, eq. 1"

    def breaks(self, params: Mapping[str, float]) -> list[float]:
        """The scales d_1, d_2, ... at which the exponent changes, in the unit of x.

        Args:
            params: parameter symbol -> value, such as ``fit.params``.
        """
        n = len(self.parameters) // 3 - 1
        return [float(d) for d in np.cumprod([params["d_1"], *(params[f"r_{i}"] for i in range(2, n + 1))])]

    def guess(self, x, y, n, rng):
        """Draw limit, breaks and widths; the logarithm of ``y - a`` is then linear in log b and the exponents."""
        theta = super().guess(x, y, n, rng)
        at = {s: j for j, s in enumerate(self.symbols)}
        count = len(self.parameters) // 3 - 1
        log_x = np.log(x["x"])
        inner = np.sort(rng.uniform(0.02, 0.98, (n, count)), axis=1) * np.ptp(log_x) + log_x.min()
        theta[:, at["d_1"]] = np.exp(inner[:, 0])
        for i in range(2, count + 1):
            theta[:, at[f"r_{i}"]] = np.exp(inner[:, i - 1] - inner[:, i - 2])
        # A limit close below the data, or none to speak of.
        gap = 10 ** rng.uniform(-3, 0, n)
        theta[:, at["a"]] = y.min() * np.where(rng.random(n) < 0.3, 1e-6, 1 - 0.999 * gap)
        widths = theta[:, [at[f"f_{i}"] for i in range(1, count + 1)], None]
        bends = -widths * np.logaddexp(0.0, (log_x - inner[:, :, None]) / widths)
        flat = np.ones((n, 1, y.size))
        basis = np.concatenate([flat, -log_x * flat, bends], axis=1)
        with np.errstate(all="ignore"):
            above = y - theta[:, at["a"], None]
            # d log y = (y - a)/y d log(y - a): what lies close to the limit says little about the slope.
            weighted = basis * (above / y)[:, None] ** 2
            left = weighted @ basis.transpose(0, 2, 1)
            right = np.nan_to_num(weighted @ np.log(above)[:, :, None])
            size = np.sqrt(np.maximum(np.einsum("nkk->nk", left), 1e-300))
            left = np.nan_to_num(left / (size[:, :, None] * size[:, None])) + 1e-9 * np.eye(2 + count)
            solved = np.linalg.solve(left, right / size[:, :, None])[:, :, 0] / size
        theta[:, at["b"]] = np.exp(np.clip(solved[:, 0], -60, 120))
        for i in range(count + 1):
            theta[:, at[f"c_{i}"]] = solved[:, 1 + i]
        return self.clip(theta)


@cache
def broken_law(n: int) -> type[Law]:
    """The broken power law with `n` breaks, registered as ``broken`` (one break) or ``broken_<n>``.

    One and two breaks are there from the start; ``fit(runs, broken_law(3))`` makes and registers a third.
    The parameters are a, b, c_0 and, for each break, c_i, d_1 or r_i, and f_i: 3 n + 3 of them, so three
    breaks want some forty runs or a dense curve.

    Raises:
        ValueError: `n` is not a whole number from 1 to 9.
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 9:
        raise ValueError(f"the number of breaks is {n!r}; it must be a whole number from 1 to 9")
    parameters = [
        Parameter("a", "value in the limit of large x", "loss"),
        Parameter("b", "size at x = 1 of the first power law", "loss"),
        Parameter("c_0", "first exponent", low=-20.0, high=20.0, start=(-0.5, 1.0)),
    ]
    for i in range(1, n + 1):
        place = (
            Parameter("d_1", "scale of the first break", "x", start=(1.0, 1.0), of="x")
            if i == 1
            else Parameter(f"r_{i}", f"scale of break {i} over that of break {i - 1}", low=1.0, start=(1.5, 1e4))
        )
        parameters += [
            Parameter(f"c_{i}", f"change of the exponent at break {i}", low=-20.0, high=20.0, start=(-1.0, 1.0)),
            place,
            Parameter(f"f_{i}", f"width of break {i}; small is sharp", low=1e-3, high=20.0, start=(0.03, 1.5)),
        ]

    def formula(x, a, b, c_0, *rest):
        log_x = np.log(x)
        exponent = -c_0 * log_x
        place = 0.0
        for c, d, f in zip(rest[0::3], rest[1::3], rest[2::3], strict=True):
            place = place + np.log(d)
            exponent = exponent - c * f * np.logaddexp(0.0, (log_x - place) / f)
        return a + b * np.exp(exponent)

    names = ["x", *(p.symbol for p in parameters)]
    formula.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    scale, latex = "d_1", r"a + b\,x^{-c_0}"
    for i in range(1, n + 1):
        scale = scale if i == 1 else rf"r_{i}\,{scale}"
        latex += rf"\left(1 + \left(\frac{{x}}{{{scale}}}\right)^{{1/f_{i}}}\right)^{{-c_{i} f_{i}}}"
    own = {
        "__module__": __name__,
        "__qualname__": f"Broken{n if n > 1 else ''}",
        "__doc__": _Broken.__doc__,
        "name": "broken" if n == 1 else f"broken_{n}",
        "title": "Broken power law" if n == 1 else f"Broken power law, {n} breaks",
        "parameters": tuple(parameters),
        "latex": latex,
        "formula": staticmethod(formula),
    }
    return type(own["__qualname__"], (_Broken,), own)


Broken, Broken2 = broken_law(1), broken_law(2)


def __getattr__(name: str) -> type[Law]:
    # A fit with three breaks unpickles in a process that has not made that class yet.
    if name.startswith("Broken") and name[6:].isdigit() and 3 <= int(name[6:]) <= 9:
        return broken_law(int(name[6:]))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
