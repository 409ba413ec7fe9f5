"""The examples of CONTRIBUTING.md, as written there, pass the contracts as written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Every example by the path that its first line names.
EXAMPLES = {
    path: text
    for text, path in re.findall(
        r"```python\n(# (\S+)\n.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
    )
}
TESTS = [path for path in EXAMPLES if path.startswith("tests/")]
#: In the package, walking a room would find the new file; here the room is told to look in this folder too.
ROOMS = """
import importlib
from pathlib import Path

for folder in Path(__file__).parent.glob("workbench/*/**/"):
    room = ".".join(folder.relative_to(Path(__file__).parent).parts)
    importlib.import_module(room).__path__.append(str(folder))
"""
PASSED = {
    "tests/laws/test_shapes.py": 10,
    "tests/probes/models/test_gated.py": 10,
    "tests/probes/tasks/test_largest.py": 10,
    "tests/probes/optimizers/test_sign_descent.py": 8,
    "tests/probes/measures/test_largest_weight.py": 2,
    "tests/phenomena/test_averaging.py": 10,
}


def run(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_is_an_example_for_every_room():
    assert set(TESTS) == set(PASSED) and len(EXAMPLES) == 2 * len(TESTS)


@pytest.mark.long
@pytest.mark.parametrize("test", TESTS)
def test_an_example_is_found_and_passes_its_contract(test, tmp_path):
    part = list(EXAMPLES)[list(EXAMPLES).index(test) - 1]  # the file before its test
    (tmp_path / part).parent.mkdir(parents=True)
    (tmp_path / part).write_text(EXAMPLES[part])
    (tmp_path / Path(test).name).write_text(EXAMPLES[test])
    (tmp_path / "conftest.py").write_text(ROOMS)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= PASSED[test]


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path not in TESTS])
def test_the_part_is_short(path):
    lines = [line for line in EXAMPLES[path].splitlines()[1:] if line.strip()]
    body = [line for line in lines if not line.startswith(("from ", "import "))]
    assert len(body) <= 25, path
