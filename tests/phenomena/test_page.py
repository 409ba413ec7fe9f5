"""The page on phenomena is what the shipped results say, and lists every phenomenon."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from workbench.figures.render import png
from workbench.phenomena import listing, phenomena
from workbench.phenomena.page import overview, page
from workbench.phenomena.registry import results

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_made_of_the_results():
    assert (DOCS / "phenomena.md").read_text(encoding="utf-8") == page(), "run python docs/phenomena.py"


def test_every_phenomenon_was_run_with_three_seeds_and_came_out_as_stated():
    for name in phenomena():
        own = [r for r in results() if r["phenomenon"] == name and r["budget"] == "cpu"]
        assert sorted(r["seed"] for r in own) == [0, 1, 2], name
        assert all(r["holds"] for r in own), name
        assert all(set(r["measured"]["effect"]) >= {c.name for c in phenomena()[name].claims} for r in own), name


def test_the_listing_and_the_picture_know_them_all():
    assert list(listing().index) == list(phenomena())
    assert png(overview()).startswith(b"\x89PNG") and png(overview([])).startswith(b"\x89PNG")


def test_the_page_says_what_was_not_run_and_what_was_refuted():
    assert page([]).count("Not yet run.") == len(phenomena())
    one = {**next(r for r in results() if r["phenomenon"] == "model_collapse")}
    one["measured"] = {
        arm: {n: {**v, "value": v["value"] + 100} for n, v in f.items()} for arm, f in one["measured"].items()
    }
    one["verdicts"] = dict.fromkeys(one["verdicts"], "refuted")
    assert page([one]).count("| refuted |") == len(one["verdicts"])


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n, one in phenomena().items() if one.shipped_report() is not None])
def test_the_shipped_observations_give_the_shipped_numbers(name):
    one = phenomena()[name]
    stored, runs = one.shipped_report(), one.shipped()
    if name == "critical_batch":  # fits thousands of curves; a part of the repetitions tells whether the table is whole
        runs = runs[~(runs["repetition"] >= 6)]
    again = one.report(runs)
    assert again.verdicts() == stored.verdicts()
    for arm, found in stored.measured.items():
        for claim, was in found.items():
            now = again.measured[arm][claim]
            if name == "critical_batch":
                assert now.low <= was.high and now.high >= was.low, (arm, claim)
            elif math.isfinite(was.value):
                room = 0.01 * max(abs(was.value), was.high - was.low, 0.1)
                assert abs(now.value - was.value) < room and abs(now.low - was.low) < room, (arm, claim)
