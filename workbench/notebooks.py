"""The notebooks that come with the workbench: list, copy, open, refresh and verify them.

A committed notebook must be the same file whoever refreshes it, so everything that varies from run to
run without meaning anything (timings, widget model ids, the interpreter's version) is left out of it.
What remains is what strict nbval compares.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.progress import Progress
from workbench.shipped import folder

__all__ = ["command", "copy", "execute", "lab", "paths", "refresh", "solutions", "verify"]

#: Seconds one cell may take.
TIMEOUT = 120
#: Output forms that only live with a kernel: their ids are random and mean nothing without it.
LIVE = ("application/vnd.jupyter.widget-view+json",)


def paths(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks asked for, or all shipped ones in order.

    Raises:
        FileNotFoundError: a name is neither a file nor a shipped notebook.
    """
    shipped = sorted(folder("notebooks").glob("*.ipynb"))
    if not names:
        return shipped
    found = []
    for name in names:
        match = [Path(name)] if Path(name).is_file() else [p for p in shipped if p.name.startswith(name)]
        if len(match) != 1:
            raise FileNotFoundError(f"there is no notebook {name!r}; there are {', '.join(p.name for p in shipped)}")
        found += match
    return found


def execute(path: Path, replace: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a notebook in a fresh kernel and return it normalised; the file stays as it is.

    Args:
        path: the notebook.
        replace: cell tag -> source to run in place of the cell that carries it (solutions to exercises).

    Raises:
        RuntimeError: a cell failed; the message gives its number and the end of its traceback.
        ValueError: the file is no notebook.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    book = _read(path)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        for tag in cell.metadata.get("tags", []):
            if replace and tag in replace:
                cell.source = replace[tag]
    client = NotebookClient(
        book,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        # Merge what arrives in pieces: how a stream is cut into messages depends on the machine's speed.
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        # no cell after it has run, so none of them has an output
        number = max((i for i, cell in enumerate(book.cells) if cell.get("outputs")), default=0)
        raise RuntimeError(f"{path.name}: cell {number} failed: {plain[-1500:].strip()}") from None
    return normalise(book)


def _read(path: Path) -> Any:
    import nbformat

    try:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
    # nbformat trips over foreign JSON in as many ways
    except (ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{str(path)!r} is no notebook that can be read ({reason})") from None
    return book


def normalise(book: Any) -> dict[str, Any]:
    """The notebook as plain JSON types without anything that varies from run to run."""
    book = {**json.loads(json.dumps(book)), "nbformat": 4, "nbformat_minor": 5}  # the first with cell ids
    book["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(book["cells"]):
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {k: v for k, v in cell.get("metadata", {}).items() if k == "tags"}
        for output in cell.get("outputs", []):
            for form in LIVE:
                output.get("data", {}).pop(form, None)
                output.get("metadata", {}).pop(form, None)
    return book


def text(book: dict[str, Any]) -> str:
    """The notebook as the bytes of its file."""
    return json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def refresh(names: Sequence[str] = ()) -> list[Path]:
    """Re-execute notebooks and write them back; returns those that changed."""
    changed = []
    for path in paths(names):
        with Progress(f"Running {path.name}"):
            new = text(execute(path))
        if new != path.read_text(encoding="utf-8"):
            write_whole(path, new)
            changed.append(path)
    return changed


def verify(names: Sequence[str] = ()) -> list[Path]:
    """Re-execute notebooks and return those that would not come out byte for byte as they are."""
    return [path for path in paths(names) if text(execute(path)) != path.read_text(encoding="utf-8")]


def copy(target: str | Path) -> list[Path]:
    """Copy all notebooks to a folder of one's own; files that are there already are kept.

    Raises:
        FileExistsError: `target` is a file.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{str(target)!r} is a file; name a folder to copy the notebooks to")
    target.mkdir(parents=True, exist_ok=True)
    made = []
    for path in paths():
        if not (target / path.name).exists():
            made.append(Path(shutil.copy(path, target)))
    return made


def lab(arguments: Sequence[str] = ()) -> None:
    """Open JupyterLab on the first notebook; ends when JupyterLab does."""
    first = paths()[0]
    command = [sys.executable, "-m", "jupyterlab", str(first), *arguments]
    print(f"opening {first.name} in JupyterLab; stop it with Ctrl-C", file=sys.stderr, flush=True)
    os.execv(sys.executable, command)


def command(action: str, names: Sequence[str]) -> int:
    """``workbench notebooks ACTION``; returns the exit status."""
    if action == "list":
        for path in paths():
            print(f"{path.name}: {title(path)}")
    elif action == "copy":
        if len(names) != 1:
            raise ValueError("name one folder to copy the notebooks to: workbench notebooks copy FOLDER")
        for path in copy(names[0]):
            print(path)
    elif action == "refresh":
        changed = refresh(names)
        print(
            f"{len(changed)} of {len(paths(names))} notebooks changed: {', '.join(p.name for p in changed) or 'none'}"
        )
    else:
        different = verify(names)
        for path in different:
            print(f"{path.name} does not come out as it is; run: workbench notebooks refresh {path.name}")
        print(f"{len(paths(names)) - len(different)} of {len(paths(names))} notebooks are reproduced byte for byte")
        return 1 if different else 0
    return 0


def solutions(path: Path) -> dict[str, str]:
    """Cell tag -> source of the solution, for a notebook with exercises; empty for one without.

    They lie in ``solutions/NAME.py`` beside the notebook, one block under ``# %% TAG`` for each tagged cell.
    """
    file = path.parent / "solutions" / f"{path.stem}.py"
    if not file.is_file():
        return {}
    blocks = re.split(r"^# %% (\S+)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {tag: source.strip() for tag, source in zip(blocks[::2], blocks[1::2], strict=True)}


def title(path: Path) -> str:
    """The notebook's first heading."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        words = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown" and words:
            return words.splitlines()[0].lstrip("# ")
    return path.stem
