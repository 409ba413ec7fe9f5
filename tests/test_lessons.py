"""The notebooks as lessons: every cell is tested, exercises help without telling, solutions are right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import notebooks
from workbench.lesson import Exercise, digest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def test_nbval_collects_every_code_cell_of_every_notebook():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "notebooks"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    collected = dict(re.findall(r"^notebooks/(.*\.ipynb): (\d+)$", listed, re.MULTILINE))
    assert NOTEBOOKS and collected == {p.name: str(len(code_cells(p))) for p in NOTEBOOKS}
    assert all(int(count) > 0 for count in collected.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_nothing_is_exempt_from_comparison(path):
    text = path.read_text(encoding="utf-8")
    assert "NBVAL_" not in text and '"nbval-' not in text
    assert all(cell["execution_count"] for cell in code_cells(path))
    assert not any(o["output_type"] == "error" for cell in code_cells(path) for o in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_picture_within_three_cells_and_the_parts_of_a_lesson(path):
    pictured = ["image/png" in str(cell["outputs"]) for cell in code_cells(path)]
    assert any(pictured[:3])
    headings = re.findall(r"## (.*?)\\n|## (.*?)\"", path.read_text(encoding="utf-8"))
    words = {h for pair in headings for h in pair}
    assert {"Predict", "Reveal", "Exercises", "Where this breaks"} <= words


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_solutions_solve_the_exercises(path):
    answers = notebooks.solutions(path)
    tagged = [t for cell in code_cells(path) for t in cell["metadata"].get("tags", []) if t.startswith("exercise-")]
    assert tagged and sorted(answers) == sorted(tagged)
    sources = {}
    for cell in code_cells(path):
        for tag in cell["metadata"].get("tags", []):
            if tag in answers:
                # The student's line is the one that sets the answer to None; the check stays as it is.
                source = "".join(cell["source"])
                sources[tag] = re.sub(r"^answer_\w+ = None$", lambda _, t=tag: answers[t], source, flags=re.MULTILINE)
                assert sources[tag] != source
    book = notebooks.execute(path, replace=sources)
    told = [
        "".join(output.get("text", ""))
        for cell in book["cells"]
        if set(cell["metadata"].get("tags", [])) & set(tagged)
        for output in cell["outputs"]
    ]
    assert len(told) == len(tagged) and all(line.strip().endswith(": right.") for line in told), told


EXERCISE = Exercise(
    "9", answer=digest("9", 0.98, 2), digits=2, turns={digest("9", 1.1, 2): "E is free."}, hint="Fix E."
)


@pytest.mark.parametrize("value", [0.98, 0.976, 0.984, "0.98", 0.97, 0.99])
def test_the_answer_and_its_neighbours_in_the_last_digit_are_right(value):
    assert EXERCISE.check(value).endswith("right.")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.1, "E is free."),
        (2.0, "Fix E."),
        (None, "no answer yet"),
        ("many", "give a number"),
        (float("nan"), "cannot"),
    ],
)
def test_other_answers_get_help(value, said):
    verdict = EXERCISE.check(value)
    assert said in verdict and not verdict.endswith(": right.") and "0.98" not in verdict
