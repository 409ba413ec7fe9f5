"""From the form to the job: what is launched is watched, found again, resumed, and fitted."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from tests.launch.conftest import kill_all, processes
from tests.panels.forms import Memory, executed, form, ready
from tests.panels.jobs import BASE, SWEEP, Standin, StandinJob, write
from workbench import LocalQueue, Sweep
from workbench.launch.stack import create
from workbench.panels.probes import ProbePanel, ProbeState
from workbench.panels.probes_state import state_of
from workbench.runs.store import RunFolder
from workbench.testing.panels import walk


@pytest.fixture
def shown(tmp_path):
    return ProbePanel(Memory(tmp_path), state=state_of(Sweep((BASE,))))


def test_launch_opens_the_job_and_another_sweep_closes_it(tmp_path):
    queue = Memory(tmp_path)
    shown = ProbePanel(queue, sweep=SWEEP)
    shown.controls.launch.click()
    assert queue.asked == [("submit", 6)] and shown.job.sweep == SWEEP
    assert shown.area.children == (shown.job_panel,) and shown.children[-3].layout.display == "none"
    assert shown.chart is shown.job_panel.chart
    assert shown.state.launched == SWEEP.id and shown.controls.launch.disabled
    shown.job_panel.along.value = "flops"
    assert 'x="flops"' in shown.code() == shown.copy.text
    form(shown, lr="0.02")
    assert shown.job is None and shown.area.children == () and shown.state.launched is None
    assert shown.chart is shown.children[-3] and shown.chart.layout.display == "" and not shown.controls.launch.disabled
    shown.controls.jobs.value = SWEEP.id
    assert shown.sweep == SWEEP and shown.job_panel.along.value == "flops", "the job is as it was left"
    shown.controls.jobs.value = ""
    assert shown.job is None and shown.sweep == SWEEP


def test_a_job_is_found_again_by_another_kernel(tmp_path):
    queue = ready(tmp_path)
    first = ProbePanel(queue)
    first.controls.jobs.value = SWEEP.id
    first.job_panel.hue.value = "seed"
    second = ProbePanel(queue, state=ProbeState.from_json(first.state.to_json()))
    assert second.job.sweep == SWEEP and second.job_panel.state.color == "seed"
    assert second.figure().to_dict() == first.figure().to_dict()
    gone = ProbePanel(Memory(tmp_path / "other"), state=first.state)
    assert gone.job is None and "no job of this sweep" in gone.message.value


def test_finished_runs_go_on_to_a_fit_below_and_in_code(tmp_path):
    sweep = Sweep.grid(BASE, width=[4, 8, 16, 32], tokens=[6400, 12800, 25600], seed=[0, 1])
    queue = ready(tmp_path, sweep)
    write(tmp_path, sweep[0], "failed", 0.5)
    shown = ProbePanel(queue, state=state_of(sweep).replace(launched=sweep.id))
    shown.job_panel.to_fit.click()
    bench = shown.job_panel.fit
    assert len(bench.runs) == len(sweep) - 1, "the failed run is not fitted"
    assert bench in list(walk(shown))
    names = executed(shown, queue=queue)  # which submits again, so that the failed run waits
    shown.job_panel.refresh()
    assert len(names["runs"]) == len(sweep) - 1
    assert names["fit"].params == pytest.approx(bench.fit.params)
    assert names["figure"].to_dict() == shown.figure().to_dict()
    own = {"job": shown.job}
    exec(bench.code(), own)
    assert own["figure"].to_dict() == bench.figure().to_dict()


def test_a_dear_sweep_is_launched_at_the_second_press(shown):
    cost = shown.price()
    shown.cost = dataclasses.replace(cost, buckets=cost.buckets.assign(seconds=1e5))
    shown.controls.launch.click()
    assert shown.queue.asked == [] and "Press Launch again" in shown.message.value
    shown.controls.launch.click()
    assert shown.queue.asked == [("submit", 1)]


def test_a_queue_that_refuses_is_heard(shown, monkeypatch):
    monkeypatch.setattr(shown.queue, "submit", lambda sweep: (_ for _ in ()).throw(OSError("disk <b>full</b>")))

    async def press():
        shown.controls.launch.click()
        end = time.monotonic() + 20
        while "OSError" not in shown.message.value:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    asyncio.run(press())
    assert "<b>full" not in shown.message.value and shown.job is None and not shown.controls.launch.disabled
    shown.close()


def test_a_real_probe_is_launched_watched_cancelled_and_resumed(tmp_path, monkeypatch, tmp_path_factory):
    """Everything for real but the browser: workers, files, signals."""
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
    queue = LocalQueue(tmp_path / "runs", device="cpu", workers=1, idle=0.3, checkpoint_seconds=0.2)
    small = {"vocab": "16", "context": "8", "width": "4", "batch_tokens": "64", "evals": "6"}
    shown = ProbePanel(queue)

    async def until(condition, seconds=60.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came true"
            await asyncio.sleep(0.05)

    async def work():
        form(shown, **small, tokens="6400", seeds="2")
        assert shown.message.value == ""
        shown.controls.launch.click()
        assert "Starting 2 runs" in shown.message.value
        await until(lambda: shown.job_panel is not None and shown.job_panel.over)
        first = shown.job_panel
        assert (first.rows["state"] == "finished").all() and first.curves["run"].nunique() == 2
        first.log_of.value = first.rows["id"].iloc[0][:8]
        assert "from step 0" in first.log_text.value
        form(shown, tokens="6.4M", seeds="1", evals="400", eval_spacing="linear")  # too long to end by itself
        shown.controls.launch.click()
        await until(lambda: shown.job_panel is not None and len(shown.job_panel.curves) > 3)
        long = shown.job_panel
        assert "core " in long.places.value
        long.cancel.click()
        await until(lambda: long.over and not long.resume.disabled)
        assert long.rows["state"].tolist() == ["cancelled"]
        seen = len(long.curves)
        long.resume.click()
        await until(lambda: len(long.curves) > seen)
        long.cancel.click()
        await until(lambda: long.over)
        shown.close()

    try:
        asyncio.run(work())
    finally:
        kill_all(queue.root)
    end = time.monotonic() + 20
    while any(processes(queue.root).values()):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_folders_of_varied_runs_say_their_defaults(tmp_path):
    """The fit gets words for every run, also where a probe leaves its default unwritten."""
    sweep = Sweep.grid(BASE, parametrization=["standard", "mup"])
    for probe in sweep:
        create(tmp_path, probe)
    job = StandinJob(Standin(tmp_path), sweep)
    assert job.runs()["parametrization"].tolist() == ["standard", "mup"]
    assert RunFolder.open(tmp_path / sweep[0].id).spec.get("parametrization") is None
