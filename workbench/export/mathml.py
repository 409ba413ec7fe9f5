"""The mathematics of notebooks as MathML, which browsers draw by themselves: no script, no fonts to fetch.

It knows the TeX that scaling laws are written in. What it does not know is shown as it was typed.
"""

from __future__ import annotations

import re
from html import escape

__all__ = ["mathml"]

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}^_&]|\d+(?:\.\d+)?|\s+|.", re.S)
_LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "ϕ", "varphi": "φ", "chi": "χ", "psi": "ψ",
    "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ",
    "Omega": "Ω", "ell": "ℓ",
    "infty": "∞", "partial": "∂", "hbar": "ℏ", "nabla": "∇",
}  # fmt: skip
_SIGNS = {
    "cdot": "⋅", "times": "×", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈",
    "propto": "∝", "sim": "∼", "pm": "±",
    "to": "→", "rightarrow": "→", "in": "∈", "ldots": "…", "cdots": "⋯", "dots": "…", "mid": "∣", "ll": "≪",
    "gg": "≫", "equiv": "≡", "prime": "′",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "lvert": "|",
    "rvert": "|", "Rightarrow": "⇒",
    "quad": "\u2003", "qquad": "\u2003\u2003",
}  # fmt: skip
_LARGE = {"sum": "∑", "prod": "∏", "int": "∫"}
_NAMES = {"log", "ln", "exp", "min", "max", "arg", "tanh", "cosh", "sinh", "sin", "cos", "lim", "sup", "inf", "Pr"}
_SPACES = {",": "0.17em", ";": "0.28em", ":": "0.22em", "!": "-0.17em", " ": "0.3em"}
_ACCENTS = {"hat": "^", "bar": "‾", "tilde": "˜", "dot": "˙", "vec": "→", "widehat": "^", "overline": "‾"}
_DEPTH = 60


class _Unknown(Exception):
    """Something this does not draw."""


def mathml(tex: str, block: bool = False) -> str:
    """`tex` as a ``<math>`` element, or as code where it holds what is not known.

    Args:
        tex: TeX without the dollar signs.
        block: on a line of its own.
    """
    try:
        tokens = [t for t in _TOKEN.findall(tex.strip()) if not t.isspace()]
        if r"\text" in tex or r"\mathrm" in tex or r"\operatorname" in tex:  # where spaces count
            tokens = _TOKEN.findall(tex.strip())
        reader = _Reader(tokens)
        inside = reader.row(until=None, depth=0)
    except (_Unknown, IndexError):
        return f"<code>{escape(tex)}</code>"
    shown = ' display="block"' if block else ""
    return f'<math{shown} aria-label="{escape(tex, quote=True)}"><mrow>{inside}</mrow></math>'


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self) -> str | None:
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        token = self.peek()
        if token is None:
            raise _Unknown
        self.at += 1
        return token

    def row(self, until: str | None, depth: int) -> str:
        """Everything up to `until`, which is taken."""
        if depth > _DEPTH:
            raise _Unknown
        made: list[str] = []
        while (token := self.peek()) is not None:
            if token == until:
                self.at += 1
                return "".join(made)
            if token in ("}", r"\right", "&"):
                raise _Unknown
            made.append(self.scripted(depth))
        if until is not None:
            raise _Unknown
        return "".join(made)

    def scripted(self, depth: int) -> str:
        """One thing with what stands below and above it."""
        large = (self.peek() or "")[1:] in _LARGE or self.peek() in (r"\min", r"\max", r"\lim")
        base, low, high = self.one(depth), None, None
        while self.peek() in ("_", "^"):
            sign = self.take()
            script = f"<mrow>{self.one(depth + 1)}</mrow>"
            if sign == "_" and low is None:
                low = script
            elif sign == "^" and high is None:
                high = script
            else:
                raise _Unknown
        below, above, both = ("munder", "mover", "munderover") if large else ("msub", "msup", "msubsup")
        if low and high:
            return f"<{both}>{base}{low}{high}</{both}>"
        if low:
            return f"<{below}>{base}{low}</{below}>"
        return f"<{above}>{base}{high}</{above}>" if high else base

    def one(self, depth: int) -> str:
        token = self.take()
        if token == "{":
            return f"<mrow>{self.row('}', depth + 1)}</mrow>"
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if not token.startswith("\\"):
            if token in "^_&}$#%~":
                raise _Unknown
            if token.isalpha():
                return f"<mi>{token}</mi>"
            return f'<mo stretchy="false">{escape({"-": "−", "*": "∗"}.get(token, token))}</mo>'
        return self.command(token[1:], depth)

    def command(self, name: str, depth: int) -> str:
        if name in _LETTERS:
            return f"<mi>{_LETTERS[name]}</mi>"
        if name in _SIGNS:
            return f"<mo>{_SIGNS[name]}</mo>"
        if name in _LARGE:
            return f"<mo>{_LARGE[name]}</mo>"
        if name in _NAMES:
            return f"<mi>{name}</mi><mspace width='0.1em'/>" if self.peek() not in ("_", "^") else f"<mi>{name}</mi>"
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"/>'
        if name in ("frac", "tfrac", "dfrac"):
            return f"<mfrac><mrow>{self.one(depth + 1)}</mrow><mrow>{self.one(depth + 1)}</mrow></mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self.one(depth + 1)}</msqrt>"
        if name in ("text", "mathrm", "operatorname", "mathit", "textrm"):
            return f"<mtext>{escape(self.words())}</mtext>"
        if name in _ACCENTS:
            return f'<mover accent="true">{self.one(depth + 1)}<mo>{_ACCENTS[name]}</mo></mover>'
        if name in ("{", "}", "|", "%", "#", "$", "&", "_"):
            return f'<mo stretchy="false">{escape({"|": "‖"}.get(name, name))}</mo>'
        if name in ("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr"):
            return self.fence(name, depth)
        if name == "begin" and self.words() == "cases":
            return self.cases(depth + 1)
        raise _Unknown

    def cases(self, depth: int) -> str:
        """Rows of cells, behind a brace, up to their end."""
        table: list[list[str]] = [[""]]
        while (token := self.peek()) != r"\end":
            if token in ("&", "\\\\"):
                self.at += 1
                if token == "&":
                    table[-1].append("")
                else:
                    table.append([""])
            else:
                table[-1][-1] += self.scripted(depth)
        self.at += 1
        self.words()
        rows = "".join(f"<mtr>{''.join(f'<mtd>{cell}</mtd>' for cell in row)}</mtr>" for row in table)
        return f'<mrow><mo stretchy="true">{{</mo><mtable columnalign="left">{rows}</mtable></mrow>'

    def fence(self, name: str, depth: int) -> str:
        sign = self.take().lstrip("\\")
        sign = "" if sign == "." else _SIGNS.get(sign, sign)
        if name != "left":
            return f"<mo>{escape(sign)}</mo>"
        made = [f'<mo stretchy="true">{escape(sign)}</mo>']
        while self.peek() != r"\right":
            made.append(self.scripted(depth + 1))
        self.at += 1
        sign = self.take().lstrip("\\")
        close = escape("" if sign == "." else _SIGNS.get(sign, sign))
        return f'<mrow>{"".join(made)}<mo stretchy="true">{close}</mo></mrow>'

    def words(self) -> str:
        if self.take() != "{":
            raise _Unknown
        made = []
        while (token := self.tokens[self.at]) != "}":
            if token.startswith("\\") or token == "{":
                raise _Unknown
            made.append(token)
            self.at += 1
        self.at += 1
        return "".join(made).replace(" ", "\u00a0")
