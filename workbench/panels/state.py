"""The state of a panel: everything that decides what it shows, as plain data."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """Base of every panel's state: a frozen dataclass of JSON values, sequences as tuples."""

    def to_json(self) -> str:
        """The state on one line; `from_json` gives it back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The state written by `to_json`.

        Raises:
            ValueError: `text` is no JSON object, or has a field this panel does not know.
        """
        try:
            given: Any = json.loads(text)
        except (TypeError, ValueError):
            given = None
        if not isinstance(given, dict):
            raise ValueError(f"a panel's state is a JSON object such as {cls().to_json()[:80]}…, got {text!r:.80}")
        return cls.of(**given)

    @classmethod
    def of(cls, **given: Any) -> Self:
        """The state with these fields and defaults for the others.

        Raises:
            ValueError: no such field; the sentence lists them.
        """
        fields = [f.name for f in dataclasses.fields(cls)]
        for name in given:
            if name not in fields:
                raise ValueError(f"this panel has no setting {name!r}; its settings are {', '.join(fields)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})

    def replace(self, **changes: Any) -> Self:
        """The state with some fields changed."""
        return dataclasses.replace(self, **changes)
