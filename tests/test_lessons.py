"""The notebooks as lessons: every cell is tested, exercises help without telling, solutions are right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import notebooks
from workbench.lesson import Exercise, digest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = notebooks.paths()


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def exercises(path: Path) -> list[str]:
    return [t for cell in code_cells(path) for t in cell["metadata"].get("tags", []) if t.startswith("exercise-")]


def test_every_code_cell_the_pictures_and_every_solution_of_every_notebook_are_collected():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "notebooks"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    collected = dict(re.findall(r"^notebooks/(.*\.ipynb): (\d+)$", listed, re.MULTILINE))
    assert NOTEBOOKS and collected == {
        p.relative_to(ROOT / "notebooks").as_posix(): str(len(code_cells(p)) + 1 + len(exercises(p))) for p in NOTEBOOKS
    }
    assert all(int(count) > 0 for count in collected.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_exercise_has_a_solution_and_a_line_for_it(path):
    answers = notebooks.solutions(path)
    assert answers and sorted(answers) == sorted(exercises(path))
    for cell in code_cells(path):
        if set(cell["metadata"].get("tags", [])) & set(answers):
            assert len(re.findall(r"^answer_\w+ = None$", "".join(cell["source"]), re.MULTILINE)) == 1


PICTURE = """import base64
from IPython.display import Image
Image(data=base64.b64decode("{}"))"""
EXERCISE_CELL = """answer_1 = None

print("Exercise 1:", "right." if answer_1 == 2 else "no answer yet.")"""


@pytest.mark.parametrize(
    ("drawn", "solved", "failing"),
    [
        ("red", 2, []),
        ("green", 2, ["Pictures"]),
        ("red", 3, ["Solution of exercise-1"]),
        (None, 2, ["Cell 0", "Pictures"]),
        ("green, red later", 2, []),
        ("red, green later", 2, ["Pictures"]),
    ],
    ids=["as committed", "another", "a wrong solution", "no picture", "in the end the same", "in the end another"],
)
def test_another_picture_and_a_wrong_solution_fail(tmp_path, drawn, solved, failing):
    import base64
    import io

    import nbformat.v4
    from PIL import Image

    def square(colour: str) -> str:
        data = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(data, "png")
        return base64.b64encode(data.getvalue()).decode()

    now, _, later = (drawn or "").removesuffix(" later").partition(", ")
    source = PICTURE.format(square(now)) if drawn else "'no picture'"
    replaced = ""
    if later:
        source = source.replace("Image(data", "shown = display(Image(data") + ", display_id=True)"
        replaced = PICTURE.format(square(later)).replace("Image(data", "shown.update(Image(data") + ")\n"
    data = {"image/png": square("red"), "text/plain": "<IPython.core.display.Image object>"}
    kind = {"output_type": "display_data"} if later else {"output_type": "execute_result", "execution_count": 1}
    shown = nbformat.v4.new_output(data=data, **kind)
    said = nbformat.v4.new_output("stream", name="stdout", text="Exercise 1: no answer yet.\n")
    cells = [
        nbformat.v4.new_code_cell(source, outputs=[shown], execution_count=1),
        nbformat.v4.new_code_cell(
            replaced + EXERCISE_CELL, outputs=[said], execution_count=2, metadata={"tags": ["exercise-1"]}
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "lesson.ipynb")
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "lesson.py").write_text(f"# %% exercise-1\nanswer_1 = {solved}\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "conftest",
        "--nbval",
        "--nbval-current-env",
        "-q",
        "-rf",
        "--rootdir",
    ]
    command += [str(tmp_path), "-c", "/dev/null", "lesson.ipynb"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert re.findall(r"^FAILED lesson.ipynb::(.*?)(?: - .*)?$", ran.stdout, re.MULTILINE) == failing, ran.stdout
    assert f"{4 - len(failing)} passed" in ran.stdout and ran.returncode == (1 if failing else 0)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_nothing_is_exempt_from_comparison(path):
    text = path.read_text(encoding="utf-8")
    assert "NBVAL_" not in text and '"nbval-' not in text
    assert all(cell["execution_count"] for cell in code_cells(path))
    for cell in code_cells(path):  # pictures of training are compared in outline; nothing else may ask for that
        drawn = any("image/png" in output.get("data", {}) for output in cell["outputs"])
        assert drawn or "moves" not in cell["metadata"].get("tags", [])
    assert not any(o["output_type"] == "error" for cell in code_cells(path) for o in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_picture_within_three_cells_and_the_parts_of_a_lesson(path):
    pictured = ["image/png" in str(cell["outputs"]) for cell in code_cells(path)]
    assert any(pictured[:3])
    headings = re.findall(r"## (.*?)\\n|## (.*?)\"", path.read_text(encoding="utf-8"))
    words = {h for pair in headings for h in pair}
    assert {"Predict", "Reveal", "Exercises", "Where this breaks"} <= words


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
