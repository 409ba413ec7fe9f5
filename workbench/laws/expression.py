"""A law's formula as data: written down by running it once on symbols instead of numbers.

`trace` calls `Law.formula` with a `Node` for each argument; numpy hands every operation to the node, which
remembers it. What comes out is a graph that can be split into its additive terms, printed, and sent to a
page without Python as a `tape` that a few lines of any language evaluate. No code travels, only operations of
a fixed list, so a page may take a tape from somebody it does not trust.

A formula that looks at the numbers it is given (a sum whose length depends on the data) cannot run on symbols
alone; given the inputs as numbers it can, and its tape then holds for those inputs only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.laws.base import Law

__all__ = ["OPERATIONS", "Node", "Tape", "Untraceable", "additive", "parts", "symbol_text", "text", "trace"]

#: Every operation a tape may hold -> how numpy does it. The page of `workbench.export` knows the same names.
OPERATIONS = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "power": np.power,
    "negative": np.negative, "exp": np.exp, "log": np.log, "expm1": np.expm1, "log1p": np.log1p, "log2": np.log2,
    "log10": np.log10, "sqrt": np.sqrt, "tanh": np.tanh, "absolute": np.absolute, "maximum": np.maximum,
    "minimum": np.minimum, "logaddexp": np.logaddexp, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "where": np.where,
}  # fmt: skip
_SAME = {"true_divide": "divide", "float_power": "power"}
#: Longest tape; a formula that unrolls further is better drawn as a picture.
MOST = 2000


class Untraceable(ValueError):
    """A formula that cannot be written down as a fixed list of operations."""


class Node:
    """One value of a formula: an argument, a constant, or an operation on other nodes.

    Attributes:
        kind: ``argument``, ``constant`` or the name of an operation.
        of: the argument's symbol, the constant's value (a number or array), or the operands.
    """

    __slots__ = ("kind", "of")
    __hash__ = object.__hash__

    def __init__(self, kind: str, of: Any) -> None:
        self.kind, self.of = kind, of

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Node:
        name = _SAME.get(ufunc.__name__, ufunc.__name__)
        if name in ("square", "reciprocal") and method == "__call__" and not kwargs:
            return args[0] * args[0] if name == "square" else 1.0 / args[0]
        if method != "__call__" or name not in OPERATIONS or kwargs:
            raise Untraceable(f"{ufunc.__name__} is none of the operations a formula can be written down in")
        return _make(name, *args)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Node:
        if func is np.where and len(args) == 3 and not kwargs:
            return _make("where", *args)
        raise Untraceable(f"numpy.{func.__name__} is none of the operations a formula can be written down in")

    def __bool__(self) -> bool:
        raise Untraceable("the formula decides by the value of a symbol; use numpy.where")

    def __add__(self, other: Any) -> Node:
        return _make("add", self, other)

    def __radd__(self, other: Any) -> Node:
        return _make("add", other, self)

    def __sub__(self, other: Any) -> Node:
        return _make("subtract", self, other)

    def __rsub__(self, other: Any) -> Node:
        return _make("subtract", other, self)

    def __mul__(self, other: Any) -> Node:
        return _make("multiply", self, other)

    def __rmul__(self, other: Any) -> Node:
        return _make("multiply", other, self)

    def __truediv__(self, other: Any) -> Node:
        return _make("divide", self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return _make("divide", other, self)

    def __pow__(self, other: Any) -> Node:
        return _make("power", self, other)

    def __rpow__(self, other: Any) -> Node:
        return _make("power", other, self)

    def __neg__(self) -> Node:
        return _make("negative", self)

    def __lt__(self, other: Any) -> Node:
        return _make("less", self, other)

    def __le__(self, other: Any) -> Node:
        return _make("less_equal", self, other)

    def __gt__(self, other: Any) -> Node:
        return _make("greater", self, other)

    def __ge__(self, other: Any) -> Node:
        return _make("greater_equal", self, other)

    def symbols(self) -> set[str]:
        """The arguments this value depends on."""
        found, seen, todo = set(), set(), [self]
        while todo:
            node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.kind == "argument":
                found.add(node.of)
            elif node.kind != "constant":
                todo += node.of
        return found


def _make(name: str, *args: Any) -> Node:
    return Node(name, tuple(a if isinstance(a, Node) else _constant(_number(a)) for a in args))


def _constant(value: float | np.ndarray) -> Node:
    if np.ndim(value) == 0 and np.isposinf(value):  # JSON has no infinity
        return Node("exp", (Node("constant", 1e4),))
    if not np.isfinite(value).all():
        raise Untraceable("the formula holds a constant that is no finite number")
    return Node("constant", value)


def _number(value: Any) -> float | np.ndarray:
    array = np.asarray(value, dtype=float)
    return array if array.ndim else float(array)


def trace(law: Law, columns: Mapping[str, Any] | None = None) -> Node:
    """The formula of `law`, written down.

    Args:
        law: the law.
        columns: input symbol -> values ``[n]``, to hold the inputs at; default they stay symbols.

    Raises:
        Untraceable: the formula does something that is no operation of the list, or looks at values.
    """
    inputs = [
        Node("argument", i.symbol) if columns is None else np.asarray(columns[i.symbol], dtype=float)
        for i in law.inputs
    ]
    try:
        with np.errstate(all="ignore"):
            value = law.formula(*inputs, *(Node("argument", s) for s in law.symbols))
    except Untraceable:
        raise
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise Untraceable(f"the formula of {law.name} looks at the numbers it is given ({error})") from None
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Node):
        raise Untraceable(f"the formula of {law.name} does not run on symbols")
    return value


class Tape:
    """Nodes as a list of operations in the order they are to be done, equal ones only once.

    Attributes:
        steps: ``[kind, ...]``: ``["argument", symbol]``, ``["constant", number or list]``, or
            ``[operation, index, ...]`` with indices of earlier steps.
        out: index of the result of each node it was made of.

    Raises:
        Untraceable: more than `MOST` steps.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.steps: list[list[Any]] = []
        self._known: dict[tuple, int] = {}
        done: dict[int, int] = {}
        self.out = [self._put(node, done) for node in nodes]

    def _put(self, root: Node, done: dict[int, int]) -> int:
        todo = [root]  # by hand: a formula that iterates is deeper than Python's stack
        while todo:
            node = todo[-1]
            leaf = node.kind in ("argument", "constant")
            missing = [] if leaf else [n for n in node.of if id(n) not in done]
            if missing:
                todo += missing
                continue
            todo.pop()
            if id(node) in done:
                continue
            if node.kind == "constant":
                step = ["constant", node.of.tolist() if isinstance(node.of, np.ndarray) else node.of]
            else:
                step = [node.kind, node.of] if leaf else [node.kind, *(done[id(n)] for n in node.of)]
            key = (node.kind, repr(step[1:]))
            if key not in self._known:
                if len(self.steps) >= MOST:
                    raise Untraceable(f"the formula takes more than {MOST} operations")
                self._known[key] = len(self.steps)
                self.steps.append(step)
            done[id(node)] = self._known[key]
        return done[id(root)]

    def run(self, values: Mapping[str, Any]) -> list[np.ndarray]:
        """Value of each node for arguments by symbol, as the page evaluates it."""
        with np.errstate(all="ignore"):
            made: list[Any] = []
            for kind, *rest in self.steps:
                if kind == "argument":
                    made.append(np.asarray(values[rest[0]], dtype=float))
                elif kind == "constant":
                    made.append(np.asarray(rest[0], dtype=float))
                else:
                    made.append(OPERATIONS[kind](*(made[i] for i in rest)))
        return [made[i] for i in self.out]


def parts(law: Law, node: Node) -> dict[str, Node]:
    """The additive terms of a traced formula, by how they read; they add up to `node`.

    A product with a sum is multiplied out where that gives each of the law's linear parameters a term of its
    own, as in ``(a M^eta + b M^-eta) C^-eta``.
    """
    plain = _summands(node, 1)
    split = [piece for sign, term in plain for piece in _distributed(sign, term)]
    owners = [term.symbols() & set(law.linear) for _, term in split]
    used = [s for owner in owners for s in owner]
    terms = split if len(split) > len(plain) and all(owners) and len(used) == len(set(used)) else plain
    named: dict[str, Node] = {}
    for sign, term in terms:
        label, signed = ("−" if sign < 0 else "") + text(term), term if sign > 0 else -term
        named[label] = named[label] + signed if label in named else signed
    return named


def additive(law: Law, theta: Any, x: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Values of the additive terms of `law`; see `Law.parts`, which this is."""
    values = theta if isinstance(theta, Mapping) else dict(zip(law.symbols, np.asarray(theta, float), strict=True))
    whole = law.predict(values, x)
    for columns in (None, x):
        try:
            named = parts(law, trace(law, columns))
            pieces = Tape(list(named.values())).run({**x, **values})
        except Untraceable:
            continue
        return {label: np.broadcast_to(piece, whole.shape) for label, piece in zip(named, pieces, strict=True)}
    if law.floor is None:
        return {law.title: whole}
    floor = np.full(whole.shape, float(values[law.floor]))
    return {symbol_text(law.floor): floor, "the rest": whole - floor}


def _summands(node: Node, sign: int) -> list[tuple[int, Node]]:
    if node.kind in ("add", "subtract"):
        first, second = node.of
        return _summands(first, sign) + _summands(second, -sign if node.kind == "subtract" else sign)
    if node.kind == "negative":
        return _summands(node.of[0], -sign)
    if _is(node, 0.0) or (node.kind == "multiply" and any(_is(n, 0.0) for n in node.of)):
        return []  # 0 * x, by which a law without inputs takes the shape of its data
    return [(sign, node)]


def _distributed(sign: int, term: Node) -> list[tuple[int, Node]]:
    if term.kind == "multiply":
        for this, other in (term.of, term.of[::-1]):
            inner = _summands(this, sign)
            if len(inner) > 1:
                return [(s, _make("multiply", n, other)) for s, n in inner]
    return [(sign, term)]


def _is(node: Node, value: float) -> bool:
    return node.kind == "constant" and np.ndim(node.of) == 0 and node.of == value


_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "kappa": "κ", "lambda": "λ",
    "nu": "ν", "sigma": "σ", "tau": "τ",
}  # fmt: skip
_INFIX = {"add": (" + ", 1), "subtract": (" − ", 1), "multiply": ("·", 2), "divide": ("/", 2), "power": ("^", 4)}
_COMPARED = {"less": " < ", "less_equal": " ≤ ", "greater": " > ", "greater_equal": " ≥ "}
#: Longest term written out.
_LONGEST = 36


def symbol_text(symbol: str) -> str:
    """A symbol as it is written: ``alpha_N`` as ``α_N``."""
    return "_".join(_GREEK.get(part, part) for part in symbol.split("_"))


def text(node: Node) -> str:
    """A node in one short line, as a label: ``A·N^−α``; with an ellipsis where it would be long."""
    told = _text(node, 0, 12)
    return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"


def _text(node: Node, outer: int, depth: int) -> str:
    if node.kind == "argument":
        return symbol_text(node.of)
    if node.kind == "constant":
        return f"{node.of:.4g}".replace("-", "−") if np.ndim(node.of) == 0 else "…"
    if depth == 0:
        return "…"
    if node.kind == "negative":
        inner = "−" + _text(node.of[0], 3, depth - 1)
        return f"({inner})" if outer >= 5 else inner
    if node.kind in _INFIX:
        sign, level = _INFIX[node.kind]
        first, second = node.of
        # what stands right of −, / and ^ binds more tightly than what stands left
        right = level + (node.kind in ("subtract", "divide"))
        words = _text(first, level + (node.kind == "power"), depth - 1) + sign + _text(second, right, depth - 1)
        return f"({words})" if level < outer else words
    if node.kind in _COMPARED:
        return _COMPARED[node.kind].join(_text(n, 0, depth - 1) for n in node.of)
    name = {"absolute": "abs", "maximum": "max", "minimum": "min", "where": "if"}.get(node.kind, node.kind)
    return f"{name}({', '.join(_text(n, 0, depth - 1) for n in node.of)})"
