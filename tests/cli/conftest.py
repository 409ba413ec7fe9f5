"""Runs on disk, the command line in this process and in another, and what both may print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.cli import main

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "runs" / "chinchilla" / "digitised_points.csv"
shared = pytest.mark.skipif(not SHARED.is_file(), reason=f"the public run logs are not at {SHARED}")
TRUTH = {"E": 1.8, "A": 450.0, "B": 1900.0, "alpha": 0.34, "beta": 0.36}


def law(p: dict[str, float], params, tokens):
    """Hoffmann et al. 2022, eq. 2, written out again."""
    return p["E"] + p["A"] / params ** p["alpha"] + p["B"] / tokens ** p["beta"]


def runs_frame(n: int = 40, noise: float = 0.004) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    params, tokens = (np.exp(rng.uniform(np.log(low), np.log(high), n)) for low, high in ((5e7, 1e10), (1e9, 3e11)))
    loss = law(TRUTH, params, tokens) * np.exp(noise * rng.standard_normal(n))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def summed_huber(p: dict[str, float], frame: pd.DataFrame, delta: float = 1e-3) -> float:
    r = np.abs(np.log(law(p, frame["params"], frame["tokens"])) - np.log(frame["loss"]))
    return float(np.where(r <= delta, r * r / 2, delta * (r - delta / 2)).sum())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.csv"
    runs_frame().to_csv(path, index=False)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture):
    """`main` in this process: exit status, standard output, standard error."""

    def call(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:  # argparse ends so
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def strict(text: str) -> dict:
    """The one JSON object that `text` is, in the sense of RFC 8259."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is no JSON")

    assert text.endswith("}\n") and text.count("\n") == 1
    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def process(*argv: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workbench", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, **options)


def sentence(status: int, out: str, err: str, progress: tuple[str, ...] = ()) -> str:
    """The complaint, after checking its form; `progress` names what may have been going on before."""
    assert status == 2 and out == "", (status, out, err)
    lines = [line for line in err.splitlines() if not line.startswith(progress)] if progress else err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("workbench: "), err
    said = lines[0].removeprefix("workbench: ")
    assert "Traceback" not in err and "Errno" not in said and 15 < len(said) < 700, said
    return said
