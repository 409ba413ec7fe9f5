"""Forward-mode differentiation of a law: dual numbers with sparse tangents, on top of numpy.

A law's formula has few parameters and many points, and each parameter enters few terms. A `Dual`
therefore carries one tangent array per parameter it depends on and no others: the derivative of
``B D^-beta`` costs nothing for A. numpy hands every ufunc to `Dual.__array_ufunc__`, so authors write
plain numpy. (Forward accumulation: Griewank and Walther 2008, Evaluating Derivatives, chapter 3.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["Dual", "value_and_tangents"]


class Dual:
    """A batch of values with their derivatives.

    Attributes:
        value: array of any shape.
        tangents: parameter index -> derivative, an array that broadcasts against `value`.
    """

    __slots__ = ("tangents", "value")

    def __init__(self, value: np.ndarray, tangents: dict[int, np.ndarray]):
        self.value = value
        self.tangents = tangents

    # numpy hands over every ufunc call with a Dual among the arguments; see the rules below.
    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if ufunc is np.add and method == "reduceat" and kwargs == {"axis": -1}:
            return _sums(*args)
        rule = _RULES.get(ufunc.__name__)
        if method != "__call__" or rule is None or kwargs:
            return NotImplemented
        return rule(*args)

    def __array_function__(self, func, types, args, kwargs):
        if func is np.where and not kwargs:
            condition, a, b = args
            av, at, bv, bt = *_parts(a), *_parts(b)
            tangents = {}
            for j in at.keys() | bt.keys():
                tangents[j] = np.where(condition, at.get(j, 0.0), bt.get(j, 0.0))
            return Dual(np.where(condition, av, bv), tangents)
        return NotImplemented

    def __add__(self, other):
        return _add(self, other)

    __radd__ = __add__

    def __sub__(self, other):
        return _add(self, _negative(other))

    def __rsub__(self, other):
        return _add(_negative(self), other)

    def __mul__(self, other):
        return _multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return _divide(self, other)

    def __rtruediv__(self, other):
        return _divide(other, self)

    def __pow__(self, other):
        return _power(self, other)

    def __rpow__(self, other):
        return _power(other, self)

    def __neg__(self):
        return _negative(self)

    # Comparisons look at values only: they choose a branch, they are not differentiated.
    def __lt__(self, other):
        return self.value < _value(other)

    def __le__(self, other):
        return self.value <= _value(other)

    def __gt__(self, other):
        return self.value > _value(other)

    def __ge__(self, other):
        return self.value >= _value(other)

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.value)


def _value(x):
    return x.value if isinstance(x, Dual) else x


def _parts(x):
    return (x.value, x.tangents) if isinstance(x, Dual) else (x, {})


def _add(a, b):
    (av, at), (bv, bt) = _parts(a), _parts(b)
    tangents = dict(at)
    for j, t in bt.items():
        tangents[j] = tangents[j] + t if j in tangents else t
    return Dual(av + bv, tangents)


def _negative(a):
    if not isinstance(a, Dual):
        return -np.asarray(a)
    return Dual(-a.value, {j: -t for j, t in a.tangents.items()})


def _multiply(a, b):
    (av, at), (bv, bt) = _parts(a), _parts(b)
    tangents = {j: t * bv for j, t in at.items()}
    for j, t in bt.items():
        product = t * av
        tangents[j] = tangents[j] + product if j in tangents else product
    return Dual(av * bv, tangents)


def _divide(a, b):
    if not isinstance(b, Dual):
        return _multiply(a, 1.0 / np.asarray(b))
    inverse = 1.0 / b.value
    return _multiply(a, Dual(inverse, {j: -t * inverse * inverse for j, t in b.tangents.items()}))


def _power(base, exponent):
    if not isinstance(exponent, Dual):  # x^c
        value, tangents = _parts(base)
        return Dual(value**exponent, _scaled(tangents, exponent * value ** (np.asarray(exponent) - 1.0)))
    # c^y and x^y as exp(y log x): the base is positive in every law, and exp is the fast one
    return _exp(_multiply(_log(base), exponent))


def _scaled(tangents, factor):
    return {j: t * factor for j, t in tangents.items()}


def _unary(function: Callable, derivative: Callable) -> Callable:
    """Rule of an elementwise function; `derivative` is given the argument's and the function's values."""

    def rule(a):
        value, tangents = _parts(a)
        out = function(value)
        return Dual(out, _scaled(tangents, derivative(value, out))) if tangents else out

    return rule


def _choose(compare: Callable) -> Callable:
    def rule(a, b):
        first = compare(_value(a), _value(b))
        av, at, bv, bt = *_parts(a), *_parts(b)
        tangents = {j: np.where(first, at.get(j, 0.0), bt.get(j, 0.0)) for j in at.keys() | bt.keys()}
        return Dual(np.where(first, av, bv), tangents)

    return rule


def _logaddexp(a, b):
    (av, at), (bv, bt) = _parts(a), _parts(b)
    out = np.logaddexp(av, bv)
    tangents = _scaled(at, np.exp(av - out))
    for j, t in _scaled(bt, np.exp(bv - out)).items():
        tangents[j] = tangents[j] + t if j in tangents else t
    return Dual(out, tangents)


def _sums(a, first):
    """Sums of stretches of the last axis, for laws that add up many terms at each point."""
    # A tangent may be one number for all terms; a sum needs every one of them.
    spread = {j: np.broadcast_to(t, a.value.shape) for j, t in a.tangents.items()}
    return Dual(
        np.add.reduceat(a.value, first, axis=-1), {j: np.add.reduceat(t, first, axis=-1) for j, t in spread.items()}
    )


_exp = _unary(np.exp, lambda x, y: y)
_log = _unary(np.log, lambda x, y: 1.0 / x)

_RULES: dict[str, Callable] = {
    "add": _add,
    "subtract": lambda a, b: _add(a, _negative(b)),
    "multiply": _multiply,
    "divide": _divide,
    "true_divide": _divide,
    "power": _power,
    "float_power": _power,
    "negative": _negative,
    "exp": _exp,
    "log": _log,
    "expm1": _unary(np.expm1, lambda x, y: y + 1.0),
    "log1p": _unary(np.log1p, lambda x, y: 1.0 / (1.0 + x)),
    "log2": _unary(np.log2, lambda x, y: 1.0 / (x * np.log(2.0))),
    "log10": _unary(np.log10, lambda x, y: 1.0 / (x * np.log(10.0))),
    "sqrt": _unary(np.sqrt, lambda x, y: 0.5 / y),
    "square": _unary(np.square, lambda x, y: 2.0 * x),
    "reciprocal": _unary(np.reciprocal, lambda x, y: -y * y),
    "tanh": _unary(np.tanh, lambda x, y: 1.0 - y * y),
    "absolute": _unary(np.abs, lambda x, y: np.sign(x)),
    "maximum": _choose(np.greater_equal),
    "minimum": _choose(np.less_equal),
    "logaddexp": _logaddexp,
    "less": lambda a, b: _value(a) < _value(b),
    "less_equal": lambda a, b: _value(a) <= _value(b),
    "greater": lambda a, b: _value(a) > _value(b),
    "greater_equal": lambda a, b: _value(a) >= _value(b),
}


def value_and_tangents(
    formula: Callable, columns: list[np.ndarray], theta: np.ndarray, seeds: np.ndarray | None = None
) -> Dual:
    """A law's predictions and their derivatives with respect to each parameter.

    Args:
        formula: `Law.formula`.
        columns: its inputs, each ``[n]``.
        theta: ``[K, P]`` parameter vectors.
        seeds: ``[K, P]`` derivative of each parameter in the coordinate of interest; default 1. Where the
            coordinate is the logarithm of a parameter, it is the parameter.

    Returns:
        A `Dual` of shape ``[K, n]`` with a tangent for every parameter the formula uses.
    """
    ones = np.ones(1)
    duals = [Dual(theta[:, j, None], {j: ones if seeds is None else seeds[:, j, None]}) for j in range(theta.shape[1])]
    out = formula(*columns, *duals)
    shape = (theta.shape[0], columns[0].size)
    if not isinstance(out, Dual):  # a law that ignores its parameters is wrong, but not our crash
        return Dual(np.broadcast_to(out, shape), {})
    return Dual(np.broadcast_to(out.value, shape), {j: np.broadcast_to(t, shape) for j, t in out.tangents.items()})
