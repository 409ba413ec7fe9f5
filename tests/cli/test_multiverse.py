"""`workbench multiverse`: the same numbers as the function, strict JSON, a picture, and sentences for bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench
from tests.cli.conftest import sentence, strict
from workbench.analysis.multiverse import multiverse


def test_json_holds_every_analysis(good: Path, run, tmp_path: Path):
    picture = tmp_path / "curve.png"
    argv = ("multiverse", good, "--at", "flops=1e22", "--drop", "subset", "--drop", "outliers", "--out", picture)
    status, out, err = run(*argv, "--json")
    assert status == 0, err
    told = strict(out)
    again = multiverse(workbench.load(good), flops=1e22, drop=["subset", "outliers"])
    assert len(told["analyses"]) == len(again) == 14
    assert [a["estimate"] for a in told["analyses"]] == pytest.approx(list(again.frame["estimate"]))
    assert told["verdict"] == again.verdict and told["skipped"]["subset"] == "dropped by request"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_text_begins_with_the_verdict(good: Path, run):
    status, out, err = run("multiverse", good, "--question", "E", "--drop", "subset")
    assert status == 0 and out.startswith("Across") and "E (irreducible loss)" in out and "Fitting every" in err


@pytest.mark.parametrize(
    ("argv", "fragment"),
    [
        (("--question", "colour"), "nobody can answer"),
        (("--drop", "colour"), "no dimension"),
        (("--at", "flops=-3"), "positive number"),
        (("--at", "flops"), "NAME=VALUE"),
        (("--law", "nonsense"), "no law"),
    ],
)
def test_bad_input_is_one_sentence(good: Path, run, argv, fragment):
    assert fragment in sentence(*run("multiverse", good, *argv), progress=("Fitting every",))
