"""The predictions of a class, collected from many copies of a notebook."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.predictions import MEDIA

__all__ = ["collect", "of_notebook", "summary"]

COLUMNS = (
    "student", "notebook", "question", "value", "low", "high", "truth", "factor", "off", "hit", "interval_score",
    "log_score", "note",
)  # fmt: skip
_NUMBERS = ("value", "low", "high", "factor", "off", "interval_score", "log_score")


def of_notebook(path: str | Path) -> list[dict[str, Any]]:
    """One row a question of a notebook: what was predicted, and how it was scored.

    ``note`` says what a lecturer should know: not revealed, no prediction, changed after the answer was revealed.

    Raises:
        ValueError: the file is no notebook.
    """
    path = Path(path)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found: dict[str, dict[str, Any]] = {}
        for cell in cells:
            for output in cell.get("outputs", []):
                held = output.get("data", {}).get(MEDIA)
                if isinstance(held, dict) and isinstance(held.get("question"), str) and "kind" in held:
                    at = cell.get("execution_count") or 0
                    found.setdefault(held["question"], {})[held["kind"]] = (at, held)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is no notebook that can be read ({type(error).__name__})") from None
    return [{"question": name, **_row(kinds)} for name, kinds in found.items()]


def _row(kinds: dict[str, tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    entered, scored = kinds.get("prediction"), kinds.get("score")
    if scored is None:
        mine = entered[1] if entered else {}
        return {**_numbers(mine), "truth": None, "hit": None, "note": "not revealed" if entered else "no prediction"}
    mine = scored[1]
    note = "" if "value" in mine or "chances" in mine else "no prediction"
    if entered and not note:
        same = all(entered[1].get(k) == mine.get(k) for k in ("value", "low", "high", "chances"))
        late = entered[0] > scored[0] > 0
        note = "changed after the answer was revealed" if not same else ""
        note = note or ("entered again after the answer was revealed" if late else "")
    truth, hit = mine.get("truth"), mine.get("hit")
    return {
        **_numbers(mine),
        "truth": truth if isinstance(truth, str | int | float) else None,
        "hit": hit if isinstance(hit, bool) else None,
        "note": note,
    }


def _numbers(held: dict[str, Any]) -> dict[str, float | None]:
    return {k: float(v) if isinstance(v := held.get(k), int | float) else None for k in _NUMBERS}


def collect(folder: str | Path) -> pd.DataFrame:
    """Every prediction in the notebooks below a folder, one row a student and question.

    A student is the first folder below `folder`; notebooks that lie in `folder` itself are a student each, called by
    the file's name. What cannot be read is one row with a note.

    Raises:
        NotADirectoryError: `folder` is no folder.
        ValueError: there is no notebook in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(folder))
    files = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not files:
        raise ValueError(f"there is no notebook in {str(folder)!r}; collect the students' copies in it, a folder each")
    rows = []
    for path in files:
        inside = path.relative_to(folder)
        who = {"student": inside.parts[0] if len(inside.parts) > 1 else path.stem, "notebook": path.name}
        try:
            rows += [{**who, **row} for row in of_notebook(path)] or [{**who, "note": "holds no question"}]
        except ValueError:
            rows.append({**who, "note": "cannot be read"})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in _NUMBERS:
        frame[name] = frame[name].astype(float)
    return frame


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a question: predictions, median factor off, share of intervals that hold the answer, mean log score."""
    asked = frame.dropna(subset=["question"])
    scored = asked[asked["note"] != "no prediction"]
    rows = {}
    for (notebook, question), of in scored.groupby(["notebook", "question"], sort=False):
        hits = of["hit"].dropna()
        rows[(notebook, question)] = {
            "predictions": len(of),
            "median factor off": of["factor"].median(),
            "intervals that hold": hits.astype(float).mean() if len(hits) else float("nan"),
            "mean interval score": of["interval_score"].mean(),
            "mean log score, bits": of["log_score"].mean(),
        }
    return pd.DataFrame(rows).T
