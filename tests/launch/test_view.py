"""The view of a sweep: what does not belong in a folder is marked and never raised; text for terminals."""

from __future__ import annotations

import json
import math

import pytest

from tests.panels.jobs import BASE, SWEEP, job, write
from workbench.launch import told, view
from workbench.launch.local import LocalJob, LocalQueue
from workbench.launch.slurm import SlurmJob, SlurmQueue
from workbench.launch.stack import create
from workbench.probes import Sweep

FOREIGN = ["abc", True, [1], {"a": 1}, float("nan"), float("inf"), "1e9"]


@pytest.mark.parametrize("value", FOREIGN, ids=str)
@pytest.mark.parametrize(
    "name", ["fraction", "checkpoint", "heartbeat", "tokens_per_second", "state", "verdict", "place"]
)
def test_foreign_values_of_a_status_are_marked(tmp_path, name, value):
    folder = write(tmp_path, BASE, "running", 0.5)
    status = {**folder.status, "verdict": None, name: value}
    (folder.path / "status.json").write_text(json.dumps(status))
    (row,) = view.table(tmp_path, [BASE]).to_dict("records")
    if isinstance(value, str) and name in ("verdict", "place"):
        assert row[name] == value  # any word may stand there
    else:
        assert f"status.json has the foreign {name}" in row["verdict"]
    assert row["state"] in ("running", "failed") and row["loss"] > 0 and 0.5 <= row["fraction"] <= 1
    assert told.as_text(view.table(tmp_path, [BASE]), [BASE])


@pytest.mark.parametrize("value", ["abc", True, [1], None, "1e9", -5])
def test_foreign_steps_and_losses_are_marked(tmp_path, value):
    folder = write(tmp_path, BASE, "cancelled", 0.5)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": value, "loss": 2.0}) + "\n")
    (row,) = view.table(tmp_path, [BASE]).to_dict("records")
    assert row["step"] in (0, 200) and (value is None or "metrics.jsonl has the foreign step" in row["verdict"])


def test_a_run_that_diverges_shows_its_nan(tmp_path):
    folder = write(tmp_path, BASE, "diverged", 0.5, verdict="diverged")
    with folder:
        folder.append({"step": 210, "loss": float("nan")})
    (row,) = view.table(tmp_path, [BASE]).to_dict("records")
    assert math.isnan(row["loss"]) and row["verdict"] == "diverged"


def test_local_and_slurm_jobs_have_tables_of_one_kind(tmp_path, monkeypatch):
    job(tmp_path)
    local = LocalJob(LocalQueue(tmp_path, device="cpu"), SWEEP).table()
    queue = SlurmQueue(tmp_path)
    monkeypatch.setattr(queue.cluster, "places", dict)
    slurm = SlurmJob(queue, SWEEP).table()
    assert list(local) == list(slurm) == list(view.COLUMNS)
    assert local.dtypes.tolist() == slurm.dtypes.tolist()
    for table in (local, slurm):
        for name in view.WORDS:
            assert table[name].dtype == object and all(v is None or isinstance(v, str) for v in table[name])
        assert table["verdict"].isna().any() and table["loss"].isna().sum() == 1, "one run has not begun"


def test_a_run_that_ends_between_two_looks_is_not_lost(tmp_path, monkeypatch):
    folder = create(tmp_path, BASE)
    folder.set_status("running", host=None)

    def ends(path):
        folder.set_status("finished", verdict="finished: all 400 steps")
        return False

    monkeypatch.setattr(view, "held", ends)
    (row,) = view.table(tmp_path, [BASE]).to_dict("records")
    assert (row["state"], row["verdict"]) == ("finished", "finished: all 400 steps")


def test_the_text_counts_tokens_and_says_how_long_it_takes(tmp_path):
    small, large = BASE, BASE.replace(seed=1, tokens=64 * 1200)
    write(tmp_path, small, "finished")
    write(tmp_path, large, "running", 0.5, tokens_per_second=640.0)
    text = told.as_text(view.table(tmp_path, [small, large]), [small, large])
    head, bar, names, *rows = text.splitlines()
    assert head == "2 runs: 1 done, 1 running"
    part = (400 + 600) / 1600
    assert f"] {math.floor(100 * part)}% of 102k tokens, 640 tokens/s, about 1 min 00 s left" in bar
    assert bar.count("#") == math.floor(28 * part)
    assert names.split() == ["id", "state", "step", "loss", "tokens/s", "ETA", "verdict"]
    assert rows[1].split()[:3] == [large.id, "running", "600/1200"] and rows[0].split()[1] == "done"
    ends = {row.index("400/400") + 7 if "400/400" in row else row.index("600/1200") + 8 for row in rows}
    assert len(ends) == 1, "numbers are aligned at their last digit"


def test_long_sweeps_are_shortened_and_what_failed_comes_first(tmp_path):
    sweep = Sweep.grid(BASE, seed=range(60))
    states = ["finished"] * 30 + ["created"] * 27 + ["running", "failed", "cancelled"]
    job(tmp_path, sweep, tuple(states))
    rows = view.table(tmp_path, sweep)
    lines = told.as_text(rows, sweep, most=10).splitlines()
    assert lines[0] == "60 runs: 30 done, 1 running, 27 waiting, 1 failed, 1 cancelled"
    assert [line.split()[1] for line in lines[3:7]] == ["failed", "running", "cancelled", "waiting"]
    assert len(lines) == 14 and lines[-1] == "… and 50 more that are not shown: 30 done, 20 waiting"
    assert len(told.as_text(rows, sweep, most=60).splitlines()) == 63


def test_what_a_log_says_cannot_steer_the_terminal(tmp_path):
    write(tmp_path, BASE, "failed", 0.5, verdict="crashed: \x1b[2J\x1b]0;mine\x07 line\nnext \u202eetirw" + "x" * 500)
    text = told.as_text(view.table(tmp_path, [BASE]), [BASE])
    assert not any(ord(c) < 32 and c != "\n" for c in text) and "\u202e" not in text and "line next" in text
    assert max(map(len, text.splitlines())) == 160


def test_as_records_is_strict_json(tmp_path):
    job(tmp_path)
    records = told.as_records(view.table(tmp_path, SWEEP))
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert [one["state"] for one in records] == view.table(tmp_path, SWEEP)["state"].tolist()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "under 1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (4.13e5, "4 d 18 h"),
     (math.nan, "-"), (math.inf, "-")],
)  # fmt: skip
def test_durations(seconds, text):
    assert told.duration(seconds) == text


def test_many_runs_are_counted_by_their_tokens(tmp_path):
    sweep = Sweep.grid(BASE, seed=range(100))
    job(tmp_path, sweep, ("finished", "created"))
    rows = view.table(tmp_path, sweep)
    assert (rows["state"] == "finished").sum() == 50 and told.trained(rows, sweep) == pytest.approx(0.5)
