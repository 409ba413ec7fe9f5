"""What only the people who trained the runs know, asked once and kept beside the runs.

A fit's card needs answers that no log holds: which data, how parameters were counted, whether schedules
end with the run. `RunTable.state` writes them next to what was loaded, and `load` finds them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.runs.strict_json import loads

__all__ = ["SUFFIX", "beside", "read", "write"]

#: Ending of the files that hold statements; no reader takes them for logs.
SUFFIX = "statements.json"


def beside(origin: str | Path) -> Path:
    """Where the statements about a file or folder of runs are kept: in the folder, or next to the file."""
    origin = Path(origin)
    return origin / SUFFIX if origin.is_dir() else origin.with_name(f"{origin.name}.{SUFFIX}")


def read(origin: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Statements kept about `origin` and messages; a file that cannot be read is a message, not an error."""
    path = beside(origin)
    if not path.is_file():
        return {}, []
    try:
        said = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"{path.name} cannot be read, so the statements in it are missing: {error}"]
    if not isinstance(said, dict):
        return {}, [f"{path.name} holds no JSON object, so the statements in it are missing"]
    return said, []


def write(origin: str | Path, answers: Mapping[str, Any]) -> Path:
    """Add `answers` to the statements kept about `origin`; an answer of None takes a statement back.

    Raises:
        OSError: the place cannot be written.
        ValueError: an answer is no JSON value, or what is there already cannot be read.
    """
    path = beside(origin)
    said, trouble = read(origin)
    if trouble:
        raise ValueError(f"{trouble[0]}; mend or remove {path} first, nothing was written")
    said.update(answers)
    said = {key: value for key, value in said.items() if value is not None}
    try:
        text = json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a statement must be text or a number, and one of these is not: {error}") from None
    return write_whole(path, text + "\n")
