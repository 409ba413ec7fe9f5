"""Clean ends: Ctrl-C, closed pipes, names that a terminal cannot show."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from tests.cli.conftest import ROOT, process, strict


def test_ctrl_c_ends_a_long_fit_cleanly(good: Path):
    command = [
        sys.executable,
        "-u",
        "-m",
        "workbench",
        "fit",
        str(good),
        "--law",
        "chinchilla",
        "--bootstrap",
        "200000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stderr.readline().startswith("Bootstrap")  # from here on it is at work
            time.sleep(0.5)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130, err
    assert out == "" and "Traceback" not in err and "stopped by Ctrl-C" in err


def test_a_closed_pipe_is_no_error():
    shell = f"set -o pipefail; {shlex.quote(sys.executable)} -m workbench laws | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.count("\n") == 1 and done.stderr == "" and done.returncode == 0


def test_a_pipe_closed_before_the_first_byte():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "laws"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    os.close(write)
    assert done.stderr == "" and done.returncode == 0


def test_names_that_the_terminal_cannot_show(tmp_path: Path):
    path = tmp_path / "odd.csv"
    pd.DataFrame({"run": ["größe→∞", "b"], "params": [1e8, 2e8], "loss": [3.0, 2.9]}).to_csv(path, index=False)
    done = process("load", path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    loaded = process("load", path, "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert strict(loaded.stdout)["runs"][0]["id"] == "größe→∞"
