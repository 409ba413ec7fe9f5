"""Predictions entered before the answer is shown, and how good they were.

A prediction is kept in the output of the cell that enters it, and its score in the output of the cell that reveals
the answer, as JSON beside what the reader sees. So the notebook is all there is: it can be saved, mailed, handed in
and collected, and no second file gets lost or belongs to somebody else's copy. The counters that Jupyter gives to
executed cells tell whether a prediction was entered before its answer was revealed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from workbench.units import human

__all__ = ["MEDIA", "Question", "Record"]

MEDIA = "application/vnd.workbench.prediction+json"


@dataclass(frozen=True)
class Record:
    """What was predicted, or how good it was; shows itself in a notebook and is kept there.

    Attributes:
        held: plain JSON: ``question``, ``kind`` (``prediction`` or ``score``) and its numbers.
        words: the same in a sentence.
    """

    held: Mapping[str, Any]
    words: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": self.words, "text/html": f"<p>{escape(self.words)}</p>", MEDIA: dict(self.held)}

    def __repr__(self) -> str:
        return self.words


@dataclass
class Question:
    """A question whose answer is shown later.

    ::

        question = Question("1", "Loss of the 1B model", unit="nats/token")
        question.predict(2.9, low=2.7, high=3.1)  # the student's cell
        question.reveal(2.85)  # after the answer has been computed

    Attributes:
        name: its label, unique in a notebook.
        text: the question in a few words.
        unit: unit of the answer.
        level: how sure the interval is meant to be.
        choices: what may be answered, for a question that is not about a number.
    """

    name: str
    text: str = ""
    unit: str = ""
    level: float = 0.8
    choices: tuple[str, ...] = ()
    _mine: dict[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level!r}; give the chance that the interval holds, such as 0.8")

    def predict(self, value: Any, low: float | None = None, high: float | None = None) -> Record:
        """Enter a prediction; entered again it replaces the one before.

        Args:
            value: the best guess, a number; or choice -> probability (or just the choice) where the question has
                `choices`; None for no answer yet.
            low, high: an interval that holds the answer with chance `level`.

        Raises:
            ValueError: no number, an interval that does not hold it, or probabilities that are none.
        """
        if value is None:
            self._mine = None
            return Record(self._held("none"), f"Question {self.name}: no prediction yet. {self.text}".strip())
        held = self._chances(value) if self.choices else self._number(value, low, high)
        self._mine = held
        return Record({**self._held("prediction"), **held}, f"Question {self.name}: you predict {self._told(held)}.")

    def reveal(self, truth: Any) -> Record:
        """Show the answer and score the prediction.

        A number is scored by how far off it is (a factor where both are positive), by whether the interval holds
        the answer, and by the interval score of Gneiting and Raftery 2007 (doi 10.1198/016214506000001437, eq. 43),
        taken of logarithms where everything is positive: the width plus ``2 / (1 - level)`` times what the answer
        lies outside; smaller is better, and no other interval than the honest one is expected to do better. A choice
        is scored by the logarithm, in bits, of the probability the right one was given; 0 is best.

        Raises:
            ValueError: an answer that is none of the choices, or no number.
        """
        if self.choices:
            return self._reveal_choice(truth)
        truth = _float(truth, "the answer")
        said = f"Question {self.name}: the answer is {human(truth, 4)}{self._unit}."
        if self._mine is None:
            return Record({**self._held("score"), "truth": truth}, f"{said} There was no prediction.")
        mine, score = self._mine, {"truth": truth}
        logs = all(v > 0 for v in (truth, *mine.values()))
        if logs:
            score["factor"] = math.exp(abs(math.log(mine["value"] / truth)))
            said += f" You were off by a factor of {score['factor']:.3g}"
        else:
            score["off"] = mine["value"] - truth
            said += f" You were off by {score['off']:+.3g}{self._unit}"
        if "low" in mine:
            score["hit"] = mine["low"] <= truth <= mine["high"]
            low, high, at = (math.log(v) if logs else v for v in (mine["low"], mine["high"], truth))
            outside = max(low - at, at - high, 0.0)
            score["interval_score"] = (high - low) + 2 / (1 - self.level) * outside
            said += f", and your {self.level:.0%} interval {'holds it' if score['hit'] else 'misses it'}"
        return Record({**self._held("score"), **mine, **_round(score)}, said + ".")

    def _reveal_choice(self, truth: Any) -> Record:
        if truth not in self.choices:
            raise ValueError(f"the answer {truth!r} is none of {', '.join(self.choices)}")
        said = f"Question {self.name}: the answer is {truth}."
        if self._mine is None:
            return Record({**self._held("score"), "truth": truth}, f"{said} There was no prediction.")
        chance = self._mine["chances"].get(truth, 0.0)
        bits = math.log2(chance) if chance > 0 else -20.0  # whoever was sure and wrong loses no more than that
        said += f" You gave it {chance:.0%}, which scores {bits:.2f} bits."
        score = {"truth": truth, "log_score": bits, "hit": chance == max(self._mine["chances"].values())}
        return Record({**self._held("score"), **self._mine, **_round(score)}, said)

    def _number(self, value: Any, low: Any, high: Any) -> dict[str, float]:
        number = _float(value, "a prediction")
        if (low is None) != (high is None):
            raise ValueError("an interval has two ends; give low= and high=, or neither")
        if low is None:
            return {"value": number}
        low, high = _float(low, "low"), _float(high, "high")
        if not low <= number <= high or not low < high:
            raise ValueError(f"the interval from {low:g} to {high:g} does not hold your prediction {number:g}")
        return {"value": number, "low": low, "high": high}

    def _chances(self, value: Any) -> dict[str, Any]:
        given = {value: 1.0} if isinstance(value, str) else dict(value)
        if not given or not set(given) <= set(self.choices):
            raise ValueError(f"choose among {', '.join(self.choices)}, or give each a probability; got {value!r}")
        chances = {c: _float(given.get(c, 0.0), f"the probability of {c}") for c in self.choices}
        if min(chances.values()) < 0 or abs(sum(chances.values()) - 1) > 1e-6:
            raise ValueError(f"the probabilities of {', '.join(self.choices)} must be 0 or more and add up to 1")
        return {"chances": chances}

    def _held(self, kind: str) -> dict[str, Any]:
        return {"version": 1, "question": self.name, "text": self.text, "kind": kind}

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _told(self, held: Mapping[str, Any]) -> str:
        if "chances" in held:
            return ", ".join(f"{c} with {p:.0%}" for c, p in held["chances"].items() if p > 0)
        span = (
            f", {self.level:.0%} between {human(held['low'], 4)} and {human(held['high'], 4)}" if "low" in held else ""
        )
        return f"{human(held['value'], 4)}{self._unit}{span}"


def _float(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{what} is {value!r}; give a finite number")
    return number


def _round(score: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in score.items()}
