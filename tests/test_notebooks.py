"""The notebook commands on small notebooks: copied, executed, refreshed to the same bytes, verified."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench import notebooks
from workbench.cli import main
from workbench.phenomena import THEMES

LIVE = "application/vnd.jupyter.widget-view+json"
VIEW = f"""
import uuid
from IPython.display import display
display({{"{LIVE}": {{"model_id": uuid.uuid4().hex}}, "text/plain": "the state"}}, raw=True)
"""


def write(path: Path, *cells) -> Path:
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch) -> Path:
    """A folder of two notebooks in place of the shipped one."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    write(
        folder / "01_first.ipynb",
        new_markdown_cell("# The first question\n\nwith words"),
        new_code_cell("for i in range(3):\n    print(i, flush=True)"),
        new_code_cell(VIEW),
        new_code_cell("answer = None", metadata={"tags": ["exercise-1"], "jupyter": {"source_hidden": True}}),
        new_code_cell("print(answer)\n6 * 7"),
    )
    write(folder / "02_second.ipynb", new_markdown_cell(""), new_markdown_cell("## Second"), new_code_cell("1 + 1"))
    monkeypatch.setattr(notebooks, "folder", lambda kind: folder)
    return folder


def outputs(book: dict, cell: int) -> list[dict]:
    return book["cells"][cell]["outputs"]


def test_list_names_and_titles(shelf: Path, capsys):
    assert main(["notebooks"]) == 0
    assert capsys.readouterr().out.splitlines() == ["01_first.ipynb: The first question", "02_second.ipynb: Second"]


def test_paths_by_prefix_by_file_and_all(shelf: Path, tmp_path: Path):
    own = write(tmp_path / "own.ipynb")
    assert [p.name for p in notebooks.paths()] == ["01_first.ipynb", "02_second.ipynb"]
    assert notebooks.paths(["02", str(own)]) == [shelf / "02_second.ipynb", own]
    for wrong in ("03", "0"):  # none, and more than one
        with pytest.raises(FileNotFoundError, match=r"by its number: 01, 02$"):
            notebooks.paths([wrong])


def test_copy_keeps_what_is_there(shelf: Path, tmp_path: Path, capsys):
    target = tmp_path / "mine" / "deeper"
    target.mkdir(parents=True)
    (target / "02_second.ipynb").write_text("my own work")
    assert main(["notebooks", "copy", str(target)]) == 0
    assert capsys.readouterr().out.split() == [str(target / "01_first.ipynb")]
    assert (target / "02_second.ipynb").read_text() == "my own work"
    assert (target / "01_first.ipynb").read_bytes() == (shelf / "01_first.ipynb").read_bytes()
    assert notebooks.copy(target) == []


def test_refresh_twice_is_byte_identical_and_verified(shelf: Path, capsys):
    path = shelf / "01_first.ipynb"
    before = path.read_bytes()
    assert notebooks.verify(["01"]) == [path] and path.read_bytes() == before, "verify changes nothing"
    assert notebooks.refresh(["01"]) == [path]
    once = path.read_bytes()
    assert notebooks.refresh(["01"]) == [] and path.read_bytes() == once
    assert sorted(p.name for p in shelf.iterdir()) == ["01_first.ipynb", "02_second.ipynb"]

    nbformat.validate(nbformat.read(path, as_version=4))
    book = json.loads(once)
    (stream,) = outputs(book, 1)
    assert "".join(stream["text"]) == "0\n1\n2\n"
    (view,) = outputs(book, 2)
    assert LIVE not in view["data"] and view["data"]["text/plain"], "a view is nothing without its kernel"
    assert "model_id" not in json.dumps(view) and b"source_hidden" not in once
    assert book["cells"][3]["metadata"] == {"tags": ["exercise-1"]}
    assert outputs(book, 4)[-1]["data"]["text/plain"] in ("42", ["42"])

    # one digit of one committed output changed by hand
    path.write_bytes(once.replace(b"42", b"43"))
    capsys.readouterr()
    assert main(["notebooks", "verify", "01"]) == 1
    out = capsys.readouterr().out
    assert "01_first.ipynb does not come out as it is" in out and "0 of 1" in out
    path.write_bytes(once)
    assert main(["notebooks", "verify", "01"]) == 0


def test_solutions_are_found_by_tag(shelf: Path):
    path = shelf / "01_first.ipynb"
    assert notebooks.solutions(path) == {}
    (shelf / "solutions").mkdir()
    (shelf / "solutions" / "01_first.py").write_text(
        '"""Solutions."""\n# %% exercise-1\nanswer = 20\nanswer += 1\n\n# %% other\nunused = 1\n'
    )
    assert notebooks.solutions(path) == {"exercise-1": "answer = 20\nanswer += 1", "other": "unused = 1"}


def test_a_failing_cell_is_named(shelf: Path, tmp_path: Path, capsys):
    path = write(
        tmp_path / "broken.ipynb",
        new_code_cell("print('fine')"),
        new_code_cell("raise OSError('the reason')"),
        new_code_cell("print('never')", outputs=[nbformat.v4.new_output("stream", text="stale")]),
    )
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"broken.ipynb: cell 1 failed") as caught:
        notebooks.execute(path)
    assert "the reason" in str(caught.value) and "\x1b" not in str(caught.value)
    assert main(["notebooks", "refresh", str(path)]) == 2
    err = capsys.readouterr().err
    assert "workbench: broken.ipynb: cell 1 failed" in err and "nbclient" not in err
    assert path.read_bytes() == before and list(tmp_path.glob("*.tmp")) == []


def test_old_formats_become_the_present_one(tmp_path: Path):
    path = tmp_path / "old.ipynb"
    old = new_notebook(cells=[new_code_cell("1")])
    old["nbformat_minor"] = 4
    del old["cells"][0]["id"]
    path.write_text(json.dumps(old))
    normal = notebooks.normalise(json.loads(path.read_text()))
    nbformat.validate(nbformat.from_dict(normal))
    assert normal["cells"][0]["id"] == "cell-00" and notebooks.normalise(normal) == normal


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}', '{"nbformat": 9}'])
def test_what_is_no_notebook_is_one_sentence(tmp_path: Path, capsys, content):
    path = tmp_path / "bad.ipynb"
    path.write_text(content)
    assert main(["notebooks", "verify", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("workbench: ") and "bad.ipynb" in err
    assert path.read_text() == content


def test_the_shipped_notebooks_are_normal_and_have_their_solutions():
    shipped = notebooks.paths()
    numbers = [int(p.name.partition("_")[0]) for p in shipped]
    course = [n for n in numbers if n < 100]
    assert numbers == sorted(set(numbers)) and course == list(range(1, len(course) + 1))
    for path, number in zip(shipped, numbers, strict=True):  # the hundreds stand for the theme
        assert path.parent.name == ["notebooks", *THEMES][number // 100]
    for path in shipped:
        book = json.loads(path.read_text(encoding="utf-8"))
        assert notebooks.text(notebooks.normalise(book)) == path.read_text(encoding="utf-8"), path.name
        tags = {tag for cell in book["cells"] for tag in cell["metadata"].get("tags", [])}
        assert set(notebooks.solutions(path)) <= tags
        assert len(notebooks.title(path)) > 10


def panel(*numbers: float, title: str = "Chinchilla") -> dict:
    return {notebooks.PANEL: {"panel": json.dumps({"title": title, "rows": list(numbers), "log": True})}}


@pytest.mark.parametrize(
    ("numbers", "title", "kept"),
    [((1.8, 4.8421), "Chinchilla", True), ((1.8, 4.8429), "Chinchilla", True), ((1.8, 4.85), "Chinchilla", False),
     ((1.8,), "Chinchilla", False), ((1.8, 4.8421), "Kaplan", False)],
    ids=["the same", "the fifth digit", "the third digit", "a number less", "another title"],
)  # fmt: skip
def test_a_panel_is_kept_whose_numbers_differ_by_less_than_is_seen(numbers, title, kept):
    new, old = ({"data": panel(*n, title=t)} for n, t in ((numbers, title), ((1.8, 4.8420), "Chinchilla")))
    notebooks.settle(new, old, {"metadata": {}})
    assert (new == old) is kept


@pytest.mark.parametrize(
    ("words", "tags", "kept"),
    [
        ("Figure: crossing at 4.53e08 (2 to 7)", ["moves"], True),
        ("Figure: crossing at 4.53e08 (2 to 7)", [], False),
        ("Figure: never at 4.53e08 (2 to 7)", ["moves"], False),
    ],
    ids=["numbers where training moves them", "numbers elsewhere", "other words"],
)
def test_the_words_beside_a_picture_may_differ_in_numbers_only_where_marks_move(words, tags, kept):
    picture = "iVBORw0KGgo="  # the same bytes are the same picture
    new = {"data": {"image/png": picture, "text/plain": words}, "metadata": {}}
    old = {"data": {"image/png": picture, "text/plain": "Figure: crossing at 4.52e08 (2 to 7)"}, "metadata": {}}
    notebooks.settle(new, old, {"metadata": {"tags": tags}})
    assert (new == old) is kept
