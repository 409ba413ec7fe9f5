"""`PhenomenonContract`: what every phenomenon promises.

Use it in two lines::

    class TestModelCollapse(PhenomenonContract):
        phenomenon = find("model_collapse")
"""

from __future__ import annotations

import functools
import inspect
import json
import time
from typing import ClassVar

import pandas as pd
import pytest

from workbench.phenomena import THEMES, Phenomenon, Report, find

__all__ = ["PhenomenonContract"]

#: Processor seconds that the ``cpu`` budget stands for, both arms together.
LIMIT = 60.0


class PhenomenonContract:
    """Every phenomenon runs through these. Subclasses set `phenomenon`, and `seeds` if others are wanted.

    Each seed is a whole experiment of its own: one that is shown by chance will not be shown each time. What
    ``data/phenomena/make.py`` stored of these seeds, and of one more, is held against them.
    """

    phenomenon: ClassVar[Phenomenon]
    seeds: ClassVar[tuple[int, ...]] = (0, 1)

    @pytest.fixture
    def experiments(self) -> dict[int, tuple[pd.DataFrame, float]]:
        """Seed -> table, and processor seconds it took; made once for all tests."""
        return _experiments(self.phenomenon, self.seeds)

    @pytest.fixture
    def reports(self) -> dict[int, Report]:
        return _reports(self.phenomenon, self.seeds)

    def test_it_is_registered_and_documented(self) -> None:
        one = self.phenomenon
        assert find(one.name) is one and one.theme in THEMES
        assert one.papers and one.claims and one.caveats and one.outcome
        assert one.question.endswith("?") and one.control.endswith(".")
        assert inspect.getdoc(type(one)) and len({c.name for c in one.claims}) == len(one.claims)
        assert any(c.controlled for c in one.claims), "nothing is asked of the control"
        assert any(c.rival is not None for c in one.claims), "no other theory is excluded"

    def test_the_signature_holds_for_every_seed(self, reports) -> None:
        for seed, report in reports.items():
            assert report.shown, f"seed {seed}:\n{report}"

    def test_what_is_stored_of_it_is_what_it_gives(self, reports) -> None:
        for seed, fresh in reports.items():
            stored = self.phenomenon.shipped_report("cpu", seed)
            if stored is None:
                pytest.skip(f"nothing is stored of it; data/phenomena/make.py {self.phenomenon.name} does that")
            for arm, found in fresh.measured.items():
                for claim, now in found.items():
                    was = stored.measured[arm][claim]
                    # trained numbers differ between processors, by less than between seeds
                    same = (now.low <= was.high and was.low <= now.high) or str(now) == str(was)
                    assert same or abs(now.value - was.value) <= 0.02 * abs(was.value), f"{claim}: {now}, stored {was}"

    def test_the_control_does_not_show_it(self, reports) -> None:
        for seed, report in reports.items():
            assert report.control_refuted, f"seed {seed}:\n{report}\n{report.verdicts('control')}"

    def test_other_theories_are_excluded(self, reports) -> None:
        for report in reports.values():
            for claim in self.phenomenon.claims:
                found = report.measured["effect"][claim.name]
                if claim.rival is not None and claim.reproduces:
                    assert not found.low <= claim.rival <= found.high, f"{claim.name}: {found}"

    def test_shuffled_outcomes_are_not_believed(self, experiments) -> None:
        for seed, (runs, _) in experiments.items():
            assert not self.phenomenon.report(self.phenomenon.shuffled(runs, seed)).holds

    def test_arms_that_change_places_are_not_believed(self, experiments) -> None:
        for runs, _ in experiments.values():
            swapped = runs.assign(arm=runs["arm"].map({"effect": "control", "control": "effect"}))
            assert not self.phenomenon.report(swapped).holds

    def test_it_keeps_its_budget(self, experiments) -> None:
        assert all(seconds <= LIMIT for _, seconds in experiments.values())

    def test_a_seed_repeats_itself(self, experiments) -> None:
        seed = self.seeds[0]
        again = self.phenomenon.experiment("control", "cpu", seed, lambda done: None)
        first = experiments[seed][0].query("arm == 'control'").drop(columns="arm").reset_index(drop=True)
        pd.testing.assert_frame_equal(again, first[again.columns], check_dtype=False)

    def test_the_table_survives_a_file(self, experiments, tmp_path) -> None:
        runs = experiments[self.seeds[0]][0]
        runs.to_csv(tmp_path / "runs.csv", index=False)
        one, other = (self.phenomenon.report(t) for t in (runs, pd.read_csv(tmp_path / "runs.csv")))
        assert one.table().equals(other.table())

    def test_the_report_is_plain(self, reports) -> None:
        report = reports[self.seeds[0]]
        assert json.loads(json.dumps(report.to_dict()))["holds"] is report.holds
        assert set(report.table().columns) >= {"paper or theory", "accepted", "measured", "control", "verdict"}

    def test_it_can_be_drawn(self, experiments, reports) -> None:
        from workbench.figures.render import png

        seed = self.seeds[0]
        for chart in (self.phenomenon.figure(experiments[seed][0]), reports[seed].plot()):
            assert png(chart).startswith(b"\x89PNG")


@functools.cache
def _experiments(phenomenon: Phenomenon, seeds: tuple[int, ...]) -> dict[int, tuple[pd.DataFrame, float]]:
    made = {}
    for seed in seeds:
        began = time.process_time()
        made[seed] = phenomenon.run("cpu", seed, tell=lambda done: None), time.process_time() - began
    return made


@functools.cache
def _reports(phenomenon: Phenomenon, seeds: tuple[int, ...]) -> dict[int, Report]:
    return {seed: phenomenon.report(runs) for seed, (runs, _) in _experiments(phenomenon, seeds).items()}
