"""What is imported when, and that the rooms' arrows hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(code: str, cwd: Path) -> set[str]:
    """Top-level packages in a fresh interpreter after `code`."""
    listing = "import sys\nprint('\\nLOADED', *{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"],
        capture_output=True, text=True, timeout=120, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_the_package_itself_is_light(tmp_path):
    modules = imported("import workbench; dir(workbench); workbench.__version__", tmp_path)
    assert "workbench" in modules
    assert not modules & {"torch", "pandas", "numpy", "scipy", "altair", "ipywidgets", "IPython", "matplotlib"}


def test_loading_and_fitting_need_neither_torch_nor_charts(tmp_path):
    (tmp_path / "runs.csv").write_text("flops,loss\n1e18,3.5\n1e19,3.1\n1e20,2.8\n1e21,2.6\n1e22,2.45\n")
    modules = imported(
        "import workbench\nf = workbench.fit(workbench.load('runs.csv'), 'power_constant')\n"
        "repr(f), f.draws(5), f.card()._repr_html_(), workbench.compare('runs.csv', ['power', 'constant'], n=5)",
        tmp_path,
    )
    assert "pandas" in modules
    assert not modules & {"torch", "altair", "ipywidgets", "IPython", "matplotlib"}


@pytest.mark.parametrize("arguments", [["laws", "--json"], ["load", "runs.csv", "--json"], ["--help"]])
def test_the_command_line_needs_no_torch_for_light_work(tmp_path, arguments):
    (tmp_path / "runs.csv").write_text("flops,loss\n1e18,3.5\n1e19,3.1\n")
    code = f"from workbench.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    assert not imported(code, tmp_path) & {"torch", "altair", "ipywidgets", "IPython"}


def test_describing_probes_needs_no_torch(tmp_path):
    code = "from workbench.probes import Probe, Sweep\nimport workbench.launch.worker\nSweep((Probe(),)).id"
    assert "torch" not in imported(code, tmp_path)


def test_an_unknown_name_lists_what_there_is():
    import workbench

    with pytest.raises(AttributeError, match=r"no attribute 'fitt'.*fit.*load"):
        workbench.fitt  # noqa: B018
    assert set(workbench.__all__) <= set(dir(workbench))
    assert all(getattr(workbench, name) is not None for name in workbench.__all__)


def test_the_contract_of_the_rooms_is_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout
    analysed = int(done.stdout.partition("Analyzed ")[2].split()[0])
    assert analysed == len([p for p in (ROOT / "workbench").rglob("*.py") if "_shipped" not in p.parts])
