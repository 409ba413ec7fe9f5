"""What the answers of this room have in common: one sentence, one table, and a safe way to show both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Outcome", "percent", "probable", "rounded", "strict"]


class Outcome(ABC):
    """An answer with a `verdict` (one sentence) and a `table` (rounded, for reading)."""

    verdict: str

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The answer as a table for reading; subclasses say which."""

    def __repr__(self) -> str:
        table = self.table()
        return f"{self.verdict}\n{table.to_string(index=False)}" if len(table) else self.verdict

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, escape=True, border=0)
        return f"<figure><figcaption>{escape(self.verdict)}</figcaption>{table}</figure>"


def strict(value: Any) -> Any:
    """`value` as strict JSON types: what is not finite becomes None, tables become lists of rows."""
    if isinstance(value, pd.DataFrame):
        return [strict(row) for row in value.to_dict(orient="records")]
    if isinstance(value, dict):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [strict(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def rounded(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits; an em dash where there is none."""
    return "—" if not np.isfinite(value) else f"{float(f'{value:.{digits}g}'):.{max(digits, 6)}g}"


def percent(share: float, digits: int = 2) -> str:
    """A share in percent; an em dash where there is none."""
    return "—" if not np.isfinite(share) else f"{rounded(100 * share, digits)} %"


def probable(p: float, n: int = 1000) -> str:
    """A probability as `n` draws can know it: never 0 or 1."""
    if not np.isfinite(p):
        return "—"
    edge = max(1 / max(n, 1), 1e-4)
    return f"< {edge:.1g}" if p < edge else f"> {1 - edge:.4g}" if p > 1 - edge else f"{p:.2g}"
