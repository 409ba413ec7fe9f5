"""The example law of CONTRIBUTING.md, as written there, passes the contract as written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_law_is_found_and_passes_the_contract(tmp_path):
    law, test = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tmp_path / "hyperbolic.py").write_text(law)
    # In the package the registry would import the file; here the test does.
    (tmp_path / "test_hyperbolic.py").write_text("import hyperbolic\n" + test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"1\d passed", done.stdout)


def test_the_law_in_it_is_about_ten_lines():
    law = re.search(r"class Hyperbolic.*?```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
    assert len([line for line in law.splitlines()[:-1] if line.strip()]) <= 15
