"""The job panel: what it shows is what the folders hold, it looks again by itself, and it stops when all is over."""

from __future__ import annotations

import asyncio
import json
import re
import time

import ipywidgets as widgets
import pytest

from tests.panels.jobs import BASE, SWEEP, Standin, StandinJob, job, loss, write
from workbench.figures.training import training
from workbench.launch.follow import Follower, curves
from workbench.launch.stack import create
from workbench.panels import job as job_module
from workbench.panels.job import JobPanel, JobState, panel
from workbench.probes import Sweep
from workbench.runs.store import RunFolder
from workbench.testing.panels import HOSTILE, PanelContract, walk


class TestContract(PanelContract):
    """The contract gives a table of runs; here, its ids become words that run folders say."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.root = tmp_path

    def job(self, runs) -> StandinJob:
        made = job(self.root)
        for probe, word in zip(SWEEP, runs.ids, strict=False):
            folder = RunFolder.open(self.root / probe.id)
            folder.set_status(folder.status["state"], verdict=f"failed because of {word}", place=word)
        return made

    def panel(self, runs):
        return JobPanel(self.job(runs))

    def namespace(self, runs):
        return {"job": self.job(runs)}

    def test_poor_tables_give_a_helpful_panel(self, tmp_path):
        """Of runs that have not begun, and of one that has written nothing but nonsense."""
        made = StandinJob(Standin(tmp_path / "none"), Sweep((BASE,)))
        shown = JobPanel(made)
        assert "No run of 1 has measured a loss" in json.dumps(shown.figure().to_dict())
        (create(tmp_path / "none", BASE).path / "metrics.jsonl").write_text('{"step": "x", "loss": NaN}\n{"loss": 3}\n')
        shown.refresh()
        assert "foreign step &#x27;x&#x27;" in shown.runs.value and "Traceback" not in shown.message.value
        bundle, _ = shown._repr_mimebundle_()
        assert bundle["image/png"].startswith(b"\x89PNG")


def values(curve_frame, probe):
    one = curve_frame[curve_frame["run"] == probe.id]
    return list(zip(one["tokens"], one["loss"], strict=True))


def test_curves_are_the_records_of_the_files(tmp_path):
    made = job(tmp_path)
    frame = curves(made)
    for probe in SWEEP:
        file = tmp_path / probe.id / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()[1:]] if file.exists() else []
        assert values(frame, probe) == [(r["tokens"], r["loss"]) for r in lines]
    assert set(frame["width"]) == {4.0, 8.0, 16.0} and set(frame["seed"]) == {0.0, 1.0}
    assert (frame["params"] == frame["run"].map({p.id: p.params for p in SWEEP})).all()


def test_a_follower_reads_what_is_new_and_what_was_mended(tmp_path):
    made = job(tmp_path, states=("running",), part=0.1)
    follower = Follower(made)
    rows = made.table()
    before = follower.frame(rows)
    write(tmp_path, SWEEP[0], "running", 0.9)
    file = tmp_path / SWEEP[0].id / "metrics.jsonl"
    with file.open("a") as handle:
        handle.write('{"step": 399, "lo')  # a line on its way
    after = follower.frame(rows)
    assert len(after) > len(before) and after["step"].max() < 399
    assert values(after, SWEEP[0]) == [(t, loss(SWEEP[0], round(t / 64))) for t, _ in values(after, SWEEP[0])]
    with file.open("a") as handle:
        handle.write('ss": 2.5}\n')
    assert values(follower.frame(rows), SWEEP[0])[-1] == (399 * 64, 2.5)
    lines = file.read_text().splitlines()
    file.with_suffix(".new").write_text("\n".join(lines[:3]) + "\n")
    file.with_suffix(".new").replace(file)  # as the resumption of a torn file does
    assert len(values(follower.frame(rows), SWEEP[0])) == 2


def test_the_panel_shows_progress_states_and_settings(tmp_path):
    shown = JobPanel(job(tmp_path))
    done = (1 + 0.5 * 4) / 6  # one whole run, four halves, one that waits
    assert f"aria-valuenow='{int(100 * done)}'" in shown.progress.value
    assert "6 runs: 1 done, 2 running, 1 waiting, 1 failed, 1 cancelled" in shown.progress.value
    assert "200k tokens/s" in shown.progress.value
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in shown.runs.value.split("<tr>")[2:]]
    assert [(row[1], row[2]) for row in cells] == [(f"{p.width}", f"{p.seed}") for p in SWEEP]
    assert next(row[5] for row in cells if row[5] != "–") == f"{loss(SWEEP[0], 400):.4f}"


def test_long_sweeps_show_first_what_needs_a_look(tmp_path):
    sweep = Sweep.grid(BASE, seed=range(30))
    made = job(tmp_path, sweep, ("finished",))
    write(tmp_path, sweep[17], "failed", 0.5, verdict="crashed: it was the moon")
    shown = panel(made, rows=5)
    assert shown.runs.value.index(sweep[17].id) < shown.runs.value.index(sweep[0].id)
    assert "25 more that are not shown: 25 done" in shown.runs.value
    assert shown.runs.value.count("<tr>") == 6


def test_cancel_and_resume_reach_the_queue_and_the_table(tmp_path):
    made = job(tmp_path)
    shown = JobPanel(made)
    shown.cancel.click()
    assert made.queue.asked == [("cancel", 6)]
    assert shown.over and shown.cancel.disabled and not shown.resume.disabled
    shown.resume.click()
    assert made.queue.asked[1:] == [("submit", 6)] and not shown.over and not shown.cancel.disabled


def test_a_queue_that_refuses_is_heard_and_the_panel_lives(tmp_path, monkeypatch):
    made = job(tmp_path)
    shown = JobPanel(made)
    monkeypatch.setattr(made.queue, "submit", lambda sweep: (_ for _ in ()).throw(ValueError("the board <b>burns")))
    shown.resume.click()
    assert "the board &lt;b&gt;burns" in shown.message.value
    monkeypatch.setattr(made, "table", lambda: (_ for _ in ()).throw(OSError("gone")))
    shown._again()
    assert "OSError: gone" in shown.message.value
    monkeypatch.undo()
    shown._again()
    assert shown.message.value == ""


def test_it_looks_again_until_all_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "EVERY", 0.02)
    monkeypatch.setattr(job_module, "SHARE", 1.0)
    sweep = Sweep((SWEEP[0],))
    made = job(tmp_path, sweep, ("running",), 0.1)

    async def watch():
        shown = JobPanel(made)
        assert shown.watching
        first = shown.figure().to_dict()
        write(tmp_path, sweep[0], "running", 0.6)
        end = time.monotonic() + 20
        while "aria-valuenow='60'" not in shown.progress.value:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert shown.figure().to_dict() != first and shown.figure().to_dict() == shown._live.chart.to_dict()
        drawn = []
        shown._live.observe(lambda change: drawn.append(change), "spec")
        await asyncio.sleep(0.2)
        assert not drawn, "a chart that has not changed is not sent again"
        write(tmp_path, sweep[0], "finished", 1.0)
        while shown.watching:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert shown.over and len(drawn) == 1 and "1 done" in shown.progress.value
        looks = shown.redraws
        await asyncio.sleep(0.2)
        assert shown.redraws == looks

    asyncio.run(watch())


def test_a_closed_panel_looks_no_more_and_leaves_the_job_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "EVERY", 0.02)
    made = job(tmp_path)

    async def watch():
        shown = JobPanel(made)
        await asyncio.sleep(0.1)
        shown.close()
        looks = shown.redraws
        await asyncio.sleep(0.2)
        assert shown.redraws == looks and not shown.watching and made.queue.asked == []

    asyncio.run(watch())


def test_a_slow_cancel_does_not_stop_the_kernel(tmp_path, monkeypatch):
    made = job(tmp_path)
    cancel = made.cancel
    monkeypatch.setattr(made, "cancel", lambda: (time.sleep(0.4), cancel()))

    async def press():
        shown = JobPanel(made)
        began = time.monotonic()
        shown.cancel.click()
        assert time.monotonic() - began < 0.3 and "Cancelling" in shown.message.value and shown.cancel.disabled
        while not shown.over:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.02)
        assert shown.message.value == "" and not shown.watching
        shown.close()

    asyncio.run(press())


def test_settings_of_the_panel(tmp_path):
    made = job(tmp_path)
    shown = panel(made, x="flops", color="seed")
    assert shown.along.value == "flops" and shown.hue.value == "seed"
    shown.along.value = "step"
    assert shown.state == JobState(x="step", color="seed") and 'x="step"' in shown.code()
    for wrong in ({"x": "moon"}, {"color": "moon"}, {"rows": -1}, {"lwa": 1}):
        with pytest.raises(ValueError, match=r"state|setting"):
            panel(made, **wrong)
    assert shown.state == JobState(x="step", color="seed")


def test_a_job_shows_itself_as_text_where_there_is_no_notebook(tmp_path, capsys):
    made = job(tmp_path)
    made._ipython_display_()
    assert capsys.readouterr().out.startswith("6 runs: 1 done, 2 running")
    assert isinstance(made.panel(), JobPanel)


def test_hostile_settings_and_verdicts_stay_text(tmp_path):
    made = job(tmp_path)
    for probe, name in zip(SWEEP, HOSTILE, strict=False):
        RunFolder.open(tmp_path / probe.id).set_status("failed", verdict=name)
    shown = JobPanel(made)
    for widget in walk(shown):
        if isinstance(widget, widgets.HTML):
            assert not re.search(r"<(script|img|b onclick|x)\b", widget.value.lower())
    assert "&lt;script&gt;" in shown.runs.value


def test_the_figure_refuses_what_it_cannot_draw(tmp_path):
    frame = curves(job(tmp_path))
    with pytest.raises(ValueError, match="lacks loss"):
        training(frame.drop(columns="loss"))
    with pytest.raises(ValueError, match="axis 'moon'"):
        training(frame, x="moon")
    with pytest.raises(ValueError, match="column 'moon'"):
        training(frame, color="moon")
