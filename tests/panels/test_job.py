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
from workbench.panels import job_log
from workbench.panels.job import JobPanel, JobState, panel
from workbench.panels.live_chart import split
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
        assert shown.figure().to_dict() != first
        assert split(shown.figure().to_dict()) == (
            shown.chart.spec,
            shown.chart.data,
        )
        drawn = []
        shown.chart.observe(drawn.append, ["spec", "data"])
        await asyncio.sleep(0.2)
        assert not drawn, "a chart that has not changed is not sent again"
        write(tmp_path, sweep[0], "finished", 1.0)
        while shown.watching:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert shown.over and drawn and "1 done" in shown.progress.value
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


def test_a_resumed_job_is_watched_though_its_folders_still_say_how_it_ended(tmp_path, monkeypatch):
    """Between the submission and the first look of a worker nobody writes the status."""
    monkeypatch.setattr(job_module, "EVERY", 0.02)
    monkeypatch.setattr(job_module, "SHARE", 1.0)
    made = job(tmp_path, Sweep((SWEEP[0],)), ("cancelled",), 0.2)
    monkeypatch.setattr(made.queue, "submit", lambda sweep: None)

    async def press():
        shown = JobPanel(made)
        ends = []
        shown.at_end.append(lambda: ends.append(1))
        assert not shown.watching
        shown.resume.click()
        end = time.monotonic() + 20
        while not shown.watching or shown.resume.disabled is False:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert ends == [], "it has not ended, it is about to begin"
        write(tmp_path, SWEEP[0], "running", 0.5)
        while "1 running" not in shown.progress.value:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        write(tmp_path, SWEEP[0], "cancelled", 0.6)
        while shown.watching:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert ends == [1]

    asyncio.run(press())


def test_the_log_of_a_run_is_its_last_lines_as_text(tmp_path):
    made = job(tmp_path)
    id = SWEEP[2].id
    lines = [f"line {i}" for i in range(100)] + [*HOSTILE, "\x1b[31mred"]
    (tmp_path / id / "log.txt").write_text("\n".join(lines) + "\n")
    shown = JobPanel(made)
    assert shown.log_text.value == ""
    shown.log_of.value = id[:6]
    assert shown.state.log == id
    told = shown.log_text.value
    assert "line 99" in told and "line 10\n" not in told and "last 40 lines" in told
    assert (
        "&lt;script&gt;" in told and not re.search(r"<(script|img|b onclick|x)\b", told.lower()) and "\x1b" not in told
    )
    with (tmp_path / id / "log.txt").open("a") as file:
        file.write("the newest\n")
    shown.refresh()
    assert "the newest" in shown.log_text.value
    shown.log_of.value = SWEEP[3].id  # it waits, and has no log
    assert "nothing in the log yet" in shown.log_text.value
    shown.log_of.value = "zzz"
    assert "no run begins with" in shown.message.value and shown.state.log == SWEEP[3].id
    shown.log_of.value = ""
    assert shown.log_text.value == "" and shown.message.value == ""
    with pytest.raises(ValueError, match="no run of this job"):
        panel(made, log="moon")


def test_finished_runs_are_fitted_below(tmp_path):
    made = job(tmp_path, Sweep.grid(BASE, width=[4, 8, 16], seed=range(6)), ("finished", "finished", "failed"))
    shown = JobPanel(made)
    assert shown.fit is None and not shown.to_fit.disabled
    shown.to_fit.click()
    assert len(shown.fit.runs) == 12 and shown.below.children == (shown.fit,)
    assert shown.state.fitted and "runs = job.runs().good" in shown.code()
    write(tmp_path, made.sweep[2], "finished")
    shown.refresh()
    shown.to_fit.click()
    assert len(shown.fit.runs) == 13, "pressed again, what has finished since is fitted, too"
    waiting = JobPanel(job(tmp_path / "other", states=("created",)))
    assert waiting.to_fit.disabled


SMI = """\
#!/bin/sh
echo 'GPU-8f7c2a10-aaaa, Fast Card, 93, 12288, 143360'
echo 'GPU-00000000-bbbb, Slow Card, [N/A], 1, 2'
"""


def test_places_and_gpus_are_told_while_runs_train(tmp_path, monkeypatch):
    made = job(tmp_path)
    for probe in SWEEP.probes[:2]:
        write(tmp_path, probe, "running", 0.5, place="GPU-8f7c2a10")
    write(tmp_path, SWEEP[4], "running", 0.5, place="<b>core</b> 3")
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    loads = job_log.gpu_loads()
    assert list(loads) == ["GPU-8f7c2a10-aaaa"] and loads["GPU-8f7c2a10-aaaa"].memory == 140 * 2**30
    told = job_log.places_html(made.table(), loads)
    assert "Fast Card, 93% busy, 12 of 140 GiB, 2 runs, 200k tokens/s" in told
    assert "&lt;b&gt;core" in told and "<b>core" not in told
    assert "GPU-8f7c2a10" in JobPanel(made).runs.value
    program.write_text("#!/bin/sh\nexit 9\n")
    assert job_log.gpu_loads() == {}


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
