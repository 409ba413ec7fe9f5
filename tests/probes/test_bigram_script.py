"""data/bigram/make.py: a sweep that is interrupted, torn and resumed ends like an undisturbed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTING = [
    *["--device", "cpu", "--precision", "fp32", "--vocab", "16", "--context", "8", "--batch-tokens", "64"],
    *["--widths", "4", "8", "--log2-tokens", "9", "10", "11", "--tune-to", "10"],
    *["--lrs", "0.01", "0.04", "0.16", "--seeds", "2", "--evals", "3"],
]


def make(out, *more):
    command = [sys.executable, str(ROOT / "data/bigram/make.py"), "--out", str(out), *SETTING, *more]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def lines(path):
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    timing = ("seconds", "how", "curve")
    return {run["id"]: {k: v for k, v in run.items() if k not in timing} for run in runs}


@pytest.mark.long
def test_resume_completes_a_torn_sweep(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    done = make(whole)
    assert done.returncode == 0, done.stderr
    assert "complete: True" in done.stdout

    assert make(torn, "--minutes", "0").returncode == 0
    cut = (whole / "tuning.jsonl").read_text()
    (torn / "tuning.jsonl").write_text(cut[: len(cut) // 2])
    assert make(torn).returncode != 0  # results are never mixed without being asked to
    resumed = make(torn, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("tuning.jsonl", "runs.jsonl"):
        assert lines(torn / name) == lines(whole / name)
    assert json.loads((torn / "chosen_lr.json").read_text()) == json.loads((whole / "chosen_lr.json").read_text())

    finals = lines(whole / "runs.jsonl").values()
    assert len(finals) == 2 * 3 * 2
    assert {run["seed"] for run in finals} == {0, 1}
    sessions = json.loads((torn / "provenance.json").read_text())
    assert [session["complete"] for session in sessions] == [False, True]
    assert sessions[-1]["flops"] > 0
