"""Predictions: what may be entered, how it is scored, and what a lecturer collects from a class."""

from __future__ import annotations

import math
import shutil

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from scipy import stats

from workbench import notebooks
from workbench.cli import main
from workbench.lesson import Question
from workbench.predictions import MEDIA
from workbench.scores import collect, summary


def held(record):
    return record._repr_mimebundle_()[MEDIA]


def test_a_number_is_scored_by_hand():
    question = Question("1", "Loss", unit="nats", level=0.8)
    assert "80% between 2 and 4" in str(question.predict(3, low=2, high=4))
    hit = held(question.reveal(2.5))
    assert hit["factor"] == pytest.approx(1.2) and hit["hit"] is True
    assert hit["interval_score"] == pytest.approx(math.log(2), rel=1e-5)
    miss = held(question.reveal(8))
    assert miss["factor"] == pytest.approx(8 / 3, rel=1e-5) and miss["hit"] is False
    assert miss["interval_score"] == pytest.approx(math.log(2) + 2 / 0.2 * math.log(2), rel=1e-5)
    question.predict(-1.0)
    assert held(question.reveal(-3.0))["off"] == 2.0 and "hit" not in held(question.reveal(-3.0))


def test_the_honest_interval_has_the_best_expected_score():
    """The interval score is proper: for answers that are log-normal no interval does better than the central one."""
    truths = np.exp(0.3 * stats.norm.ppf((np.arange(400) + 0.5) / 400))
    scores = {}
    for width in (0.3, 0.6, 1.0, 1.6, 3.0):
        end = 0.3 * stats.norm.ppf(0.9) * width
        question = Question("1", level=0.8)
        question.predict(1.0, low=math.exp(-end), high=math.exp(end))
        scores[width] = np.mean([held(question.reveal(t))["interval_score"] for t in truths])
    assert min(scores, key=scores.get) == 1.0


def test_a_choice_is_scored_in_bits():
    question = Question("2", "Which recipe wins?", choices=("A", "B"))
    question.predict({"A": 0.25, "B": 0.75})
    assert held(question.reveal("A"))["log_score"] == -2.0 and held(question.reveal("A"))["hit"] is False
    question.predict("A")
    assert held(question.reveal("A"))["log_score"] == 0.0
    assert held(question.reveal("B"))["log_score"] == -20.0
    with pytest.raises(ValueError, match="none of A, B"):
        question.reveal("C")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"value": "many"}, "finite number"),
        ({"value": math.nan}, "finite number"),
        ({"value": True}, "finite number"),
        ({"value": 3, "low": 2}, "two ends"),
        ({"value": 3, "low": 4, "high": 5}, "does not hold"),
        ({"value": 3, "low": 3, "high": 3}, "does not hold"),
    ],
)
def test_what_is_no_prediction_is_refused(given, match):
    with pytest.raises(ValueError, match=match):
        Question("1").predict(**given)
    for wrong in ({"A": 0.5}, {"A": 1.5, "B": -0.5}, {"C": 1.0}, {}):
        with pytest.raises(ValueError):
            Question("2", choices=("A", "B")).predict(wrong)
    with pytest.raises(ValueError, match="level"):
        Question("1", level=1.0)


def test_without_a_prediction_the_answer_is_shown_and_nothing_scored():
    question = Question("1")
    assert "no prediction yet" in str(question.predict(None))
    assert "no prediction" in str(question.reveal(2.0)) and "factor" not in held(question.reveal(2.0))


def test_text_is_escaped():
    question = Question("<b>1</b>", "<script>alert(1)</script>", unit="<i>")
    for record in (question.predict(None), question.predict(1.0), question.reveal(2.0)):
        assert "<script" not in record._repr_mimebundle_()["text/html"]
        assert (
            "<b>" not in record._repr_mimebundle_()["text/html"]
            and "<i>" not in record._repr_mimebundle_()["text/html"]
        )


SETUP = "from workbench.lesson import Question\nquestion = Question('1', 'Loss of the largest', unit='nats/token')"


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Three students' copies of one lesson, run by Jupyter: a hit, a miss, and one who predicted nothing."""
    folder = tmp_path_factory.mktemp("class")
    for student, line in {
        "ada": "question.predict(2.0, low=1.8, high=2.4)",
        "bob": "question.predict(4.0, low=3.9, high=4.1)",
        "cy": "question.predict(None)",
    }.items():
        cells = [new_code_cell(SETUP), new_code_cell(line), new_code_cell("question.reveal(2.2)")]
        path = folder / student / "lesson.ipynb"
        path.parent.mkdir()
        nbformat.write(new_notebook(cells=cells), path)
        path.write_text(notebooks.text(notebooks.execute(path)), encoding="utf-8")
    return folder


def test_a_class_is_collected_from_saved_notebooks(copies, capsys, tmp_path):
    frame = collect(copies).set_index("student")
    assert list(frame.index) == ["ada", "bob", "cy"]
    assert frame.loc["ada", "factor"] == pytest.approx(1.1) and frame.loc["ada", "hit"] is True
    assert frame.loc["bob", "factor"] == pytest.approx(4 / 2.2, rel=1e-5) and frame.loc["bob", "hit"] is False
    assert frame.loc["cy", "note"] == "no prediction" and (frame["truth"] == 2.2).all()
    told = summary(collect(copies)).iloc[0]
    assert told["predictions"] == 2 and told["intervals that hold"] == 0.5
    table = tmp_path / "class.csv"
    assert main(["notebooks", "scores", str(copies), str(table)]) == 0
    assert "ada" in capsys.readouterr().out and table.read_text().count("\n") == 4


def test_what_changed_after_the_answer_is_marked(copies, tmp_path):
    late = tmp_path / "class" / "dan"
    shutil.copytree(copies / "ada", late)
    path = late / "lesson.ipynb"
    book = nbformat.read(path, 4)
    mine = book.cells[1].outputs[0].data[MEDIA]
    book.cells[1].execution_count = 7  # as Jupyter counts a cell that is run again after the reveal
    nbformat.write(book, path)
    assert collect(tmp_path / "class")["note"].tolist() == ["entered again after the answer was revealed"]
    mine["value"] = 2.2
    nbformat.write(book, path)
    assert collect(tmp_path / "class")["note"].tolist() == ["changed after the answer was revealed"]
    book.cells[2].outputs = []
    nbformat.write(book, path)
    assert collect(tmp_path / "class")["note"].tolist() == ["not revealed"]


def test_one_bad_copy_is_a_marked_row(copies, tmp_path, capsys):
    shutil.copytree(copies, tmp_path / "class")
    (tmp_path / "class" / "eve.ipynb").write_text("{")
    nbformat.write(new_notebook(), tmp_path / "class" / "fay.ipynb")
    frame = collect(tmp_path / "class").set_index("student")
    assert frame.loc["eve", "note"] == "cannot be read" and frame.loc["fay", "note"] == "holds no question"
    assert len(frame) == 5
    (tmp_path / "none").mkdir()
    assert main(["notebooks", "scores", str(tmp_path / "none")]) == 2
    assert main(["notebooks", "scores", str(tmp_path / "nowhere")]) == 2
    assert main(["notebooks", "scores"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_run_says_which_notebooks_end(copies, tmp_path, capsys):
    path = tmp_path / "broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert main(["notebooks", "run", str(path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out and path.read_bytes() == before
