"""The notebooks that come with the workbench: list, copy, open, refresh and verify them.

A committed notebook must be the same file whoever refreshes it, so everything that varies from run to
run without meaning anything (timings, widget model ids, the interpreter's version) is left out of it.
What remains is compared byte for byte; of a picture, which another processor draws with other soft edges, what
can be seen (`workbench.figures.alike`), and a picture that looks as before stays as it was.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from workbench.figures.alike import alike, similar
from workbench.files import write_whole
from workbench.progress import Progress
from workbench.shipped import folder

__all__ = [
    "command",
    "copy",
    "execute",
    "lab",
    "paths",
    "refresh",
    "same_picture",
    "settle",
    "settled",
    "solutions",
    "verify",
]

#: Seconds one cell may take.
TIMEOUT = 120
#: Most kernels at a time: each holds a process with its own memory.
_KERNELS = 4
#: Output forms that only live with a kernel: their ids are random and mean nothing without it.
LIVE = ("application/vnd.jupyter.widget-view+json",)
#: What a panel leaves for a page without a kernel (`workbench.panels.kept.MEDIA`).
PANEL = "application/vnd.workbench.panel+json"
_NUMBER = re.compile(r"\d[\d.,]*(e[+-]?\d+)?")


def paths(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks asked for, or all shipped ones in order.

    Raises:
        FileNotFoundError: a name is neither a file nor a shipped notebook.
    """
    root = folder("notebooks")
    shipped = sorted((p for p in root.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts), key=_number)
    if not names:
        return shipped
    found = []
    for name in names:
        match = [Path(name)] if Path(name).is_file() else _named(name, shipped)
        if len(match) != 1:
            numbers = ", ".join(p.name.partition("_")[0] for p in shipped)
            raise FileNotFoundError(f"there is no notebook {name!r}; name one by its number: {numbers}")
        found += match
    return found


def _number(path: Path) -> tuple[int, str]:
    """Where a notebook stands in the course: by the number its name begins with."""
    digits = re.match(r"\d*", path.name).group()
    return int(digits or 0), path.name


def _named(name: str, shipped: Sequence[Path]) -> list[Path]:
    """The notebooks that begin with `name`; 10 is the tenth, not the hundredth and its neighbours."""
    return [p for p in shipped if p.name.startswith(f"{name}_")] or [p for p in shipped if p.name.startswith(name)]


def execute(path: Path) -> dict[str, Any]:
    """Run a notebook in a fresh kernel and return it normalised; the file stays as it is.

    Args:
        path: the notebook.

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
        if "outputs" in cell:  # a live view leaves nothing behind; its picture is an output of its own
            cell["outputs"] = [output for output in cell["outputs"] if output.get("data", True)]
    return book


def text(book: dict[str, Any]) -> str:
    """The notebook as the bytes of its file."""
    return json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def refresh(names: Sequence[str] = ()) -> list[Path]:
    """Re-execute notebooks and write them back; returns those that changed."""
    changed = []
    for path, new in _executed(paths(names)):
        made = text(settled(new, path))
        if made != path.read_text(encoding="utf-8"):
            write_whole(path, made)
            changed.append(path)
    return changed


def verify(names: Sequence[str] = ()) -> list[Path]:
    """Re-execute notebooks and return those that would not come out as they are."""
    return [path for path, new in _executed(paths(names)) if text(settled(new, path)) != path.read_text("utf-8")]


def settled(book: dict[str, Any], path: Path) -> dict[str, Any]:
    """`book`, just executed, with the pictures of the file at `path` wherever they look the same."""
    old = json.loads(path.read_text(encoding="utf-8"))
    book = json.loads(json.dumps(book))
    for cell, before in zip(book["cells"], old["cells"], strict=False):
        for output, was in zip(cell.get("outputs", []), before.get("outputs", []), strict=False):
            settle(output, was, cell)
    return book


def settle(output: dict[str, Any], was: Mapping[str, Any], cell: Mapping[str, Any]) -> None:
    """Put into a cell's `output` what `was` had, wherever the two look the same.

    Pictures are compared by eye, the numbers of a panel to a thousandth. A cell with the tag ``moves`` shows training,
    in which another processor's last digits grow until they are seen: there pictures need only be similar, and the
    numbers in the words beside them may differ.
    """
    new, old = output.get("data", {}), was.get("data", {})
    if PANEL in new and PANEL in old and _near(*(json.loads(data[PANEL]["panel"]) for data in (new, old))):
        new[PANEL] = old[PANEL]
    if "image/png" in new and "image/png" in old:
        if same_picture(new["image/png"], old["image/png"], cell):
            new["image/png"] = old["image/png"]
            output["metadata"] = was["metadata"]
        words = [_NUMBER.sub("#", "".join(data.get("text/plain", ""))) for data in (new, old)]
        if "moves" in cell["metadata"].get("tags", []) and words[0] == words[1]:
            new["text/plain"] = old["text/plain"]


def same_picture(one: str, other: str, cell: Mapping[str, Any]) -> bool:
    """Whether two pictures (PNG in base64) of a cell look the same, or similar if it has the tag ``moves``."""
    compare = similar if "moves" in cell["metadata"].get("tags", []) else alike
    return compare(base64.b64decode(one), base64.b64decode(other))


def _near(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same but for numbers that differ by a thousandth."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-12)
    return one == other


def _executed(files: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each notebook after a run, in order; a kernel a core at a time, each in a process of its own."""

    def one(path: Path) -> dict[str, Any]:
        with Progress(f"Running {path.name}"):
            return execute(path)

    for path in files:
        _read(path)  # what is no notebook is said before any has run
    with ThreadPoolExecutor(max(1, min(len(files), os.cpu_count() or 1, _KERNELS))) as pool:
        waiting = [pool.submit(one, path) for path in files]
        try:
            for path, made in zip(files, waiting, strict=True):
                yield path, made.result()
        finally:
            for made in waiting:
                made.cancel()


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
        place = target / path.relative_to(folder("notebooks"))
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            made.append(Path(shutil.copy(path, place)))
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
    elif action == "run":
        return _run(names)
    elif action == "scores":
        _scores(names)
    elif action == "refresh":
        changed = refresh(names)
        print(
            f"{len(changed)} of {len(paths(names))} notebooks changed: {', '.join(p.name for p in changed) or 'none'}"
        )
    else:
        different = verify(names)
        for path in different:
            print(f"{path.name} does not come out as it is; run: workbench notebooks refresh {path.name}")
        print(f"{len(paths(names)) - len(different)} of {len(paths(names))} notebooks are reproduced")
        return 1 if different else 0
    return 0


def _run(names: Sequence[str]) -> int:
    failed = 0
    for path in paths(names):
        with Progress(f"Running {path.name}"):
            try:
                execute(path)
                said = "ran to its end"
            except (RuntimeError, ValueError) as error:
                failed, said = failed + 1, str(error)
        print(said if said.startswith(path.name) else f"{path.name}: {said}")
    return 1 if failed else 0


def _scores(names: Sequence[str]) -> None:
    from workbench.scores import collect, summary

    if len(names) not in (1, 2):
        raise ValueError("name the folder of the students' copies: workbench notebooks scores FOLDER [TABLE.csv]")
    frame = collect(names[0])
    if len(names) == 2:
        write_whole(names[1], frame.to_csv(index=False))
        print(f"{names[1]}: {len(frame)} rows", file=sys.stderr)
    shown = frame.dropna(axis="columns", how="all")
    print(shown.to_string(index=False, na_rep="—", float_format="{:.4g}".format))
    told = summary(frame)
    if len(told):
        print(f"\n{told.to_string(na_rep='—', float_format='{:.3g}'.format)}")


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
