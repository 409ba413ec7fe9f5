"""Exercises in notebooks: a check that helps without telling.

An exercise knows its answer only as digests of rounded numbers, so the notebook does not give it away,
and it knows a few wrong turns by the same means, so that it can say more than "no". A `Question` takes a
prediction before the answer is known (`workbench.predictions`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.predictions import Question

__all__ = ["Exercise", "Question", "digest"]


def digest(exercise: str, value: float, digits: int) -> str:
    """What an `Exercise` knows of `value`: a short hash of its rounding to `digits` significant digits."""
    return hashlib.sha256(f"{exercise}:{value:.{digits - 1}e}".encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Exercise:
    """One question with a number for an answer.

    Attributes:
        name: its label, which enters the digests.
        answer: digest of the right answer.
        digits: significant digits the answer is asked to; one unit more or less in the last is right too.
        turns: digest of a wrong answer -> what leads there.
        hint: what to say to any other number, and before there is an answer.
    """

    name: str
    answer: str
    digits: int = 3
    turns: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""

    def check(self, value: Any) -> str:
        """A sentence on `value`; None stands for no answer yet."""
        if value is None:
            return f"Exercise {self.name}: no answer yet. {self.hint}".strip()
        try:
            number = float(value)
        except (TypeError, ValueError):
            return f"Exercise {self.name}: give a number, not {type(value).__name__}."
        if not math.isfinite(number) or number == 0:
            return f"Exercise {self.name}: {number:g} cannot be it. {self.hint}".strip()
        unit = 10.0 ** (math.floor(math.log10(abs(number))) - self.digits + 1)
        near = [digest(self.name, number + k * unit, self.digits) for k in (0, -1, 1)]
        if self.answer in near:
            return f"Exercise {self.name}: right."
        for known, turn in self.turns.items():
            if known in near:
                return f"Exercise {self.name}: not quite. {turn}"
        return f"Exercise {self.name}: not yet. {self.hint}".strip()
