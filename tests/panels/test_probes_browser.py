"""The probe panel in a real JupyterLab: a sweep by form, its price, one trained, another cancelled and resumed."""

import json

import nbformat
import pytest

from tests.launch.conftest import eventually, kill_all, processes

pytestmark = pytest.mark.long

OPEN = """\
import os
os.environ["WORKBENCH_RUNTIME"] = os.path.abspath("runtime")
from workbench import LocalQueue, Probe, Sweep
from workbench.panels.probes import ProbePanel

queue = LocalQueue("train", device="cpu", workers=1, idle=0.3, checkpoint_seconds=0.2)
base = Probe(vocab=16, context=8, width=4, batch_tokens=64, tokens=64 * 200, evals=8)
bench = ProbePanel(queue, Sweep.grid(base, width=[4, 8], seed=[0, 1]))
bench"""


def field(page, name):
    return page.get_by_role("textbox", name=name, exact=True).or_(page.get_by_role("combobox", name=name, exact=True))


def put(page, name, text):
    """Type into a field as a person does: empty it, type, Enter."""
    one = field(page, name).first
    one.fill(text)
    one.press("Enter")


def code(page):
    return page.locator(".wb-copy-text", has_text="sweep =").first.text_content()


def test_a_probe_is_described_priced_launched_cancelled_and_resumed(jupyter, monkeypatch):
    train = jupyter.folder / "train"
    monkeypatch.setenv("WORKBENCH_RUNTIME", str(jupyter.folder / "runtime"))
    jupyter.open("probes", OPEN)
    page = jupyter.page
    try:
        jupyter.run()
        assert "seed=[0, 1]" in code(page)

        # the form: a bad value is said beside the field, a good one is the sweep; the price follows the hand
        put(page, "lr", "quick")
        page.wait_for_selector("text=/lr: 'quick' is not a number/")
        page.screenshot(path=jupyter.folder / "probes bad.png")
        put(page, "lr", "1e-3 .. 1e-1, 3 values log")
        page.wait_for_selector("text=/12 runs, 2 stacks, about .* on this machine/")
        assert "lr=[0.001, 0.01, 0.1]" in code(page)
        page.screenshot(path=jupyter.folder / "probes form.png")

        # launch, watch the curves come, read a log
        launch = page.get_by_role("button", name="Launch")
        launch.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("text=/12 runs: 12 done/")
        page.wait_for_function("document.querySelectorAll('.vega-embed svg.marks .mark-line path').length >= 12")
        first = sorted(train.glob("*/spec.json"))[0].parent.name
        put(page, "Log of", first[:8])
        page.wait_for_selector("text=/from step 0 in a stack of/")
        page.get_by_role("button", name="Copy as code").last.click()
        page.wait_for_selector("text=Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert "job = queue.submit(sweep)" in copied and "figure = training(" in copied
        page.get_by_role("button", name="Fit finished runs").click()
        page.wait_for_selector("text=Objective")
        page.screenshot(path=jupyter.folder / "probes trained.png")
        page.set_viewport_size({"width": 900, "height": 1500})
        page.wait_for_timeout(500)
        page.screenshot(path=jupyter.folder / "probes narrow.png")
        page.set_viewport_size({"width": 1280, "height": 1500})

        # another one, too long to end by itself: cancel it, and resume it
        put(page, "lr", "0.01")
        put(page, "seeds", "1")
        put(page, "evals", "1000")
        put(page, "tokens", "6.4M")
        page.wait_for_selector("text=/2 runs, 2 stacks, about/")
        page.get_by_role("button", name="Launch").click()
        page.wait_for_selector("text=/2 runs: .*1 running/")
        page.wait_for_selector(".vega-embed svg.marks .mark-line path")
        page.screenshot(path=jupyter.folder / "probes running.png")
        page.get_by_role("button", name="Cancel").last.click()
        page.wait_for_selector("text=/2 runs: 2 cancelled/")
        page.get_by_role("button", name="Resume").last.click()
        page.wait_for_selector("text=/2 runs: .*1 running/")
        page.get_by_role("button", name="Cancel").last.click()
        page.wait_for_selector("text=/2 runs: 2 cancelled/")

        # the earlier job is found in the list, with its sweep in the form
        jobs = page.locator("select", has=page.locator("option", has_text="of transformer on"))
        labels = jobs.locator("option").all_text_contents()
        jobs.select_option(label=next(label for label in labels if label.split()[0] == "12"))
        page.wait_for_selector("text=/12 runs: 12 done/")
        page.wait_for_timeout(500)
        assert field(page, "lr").first.input_value() == "0.001, 0.01, 0.1"
        assert jupyter.dialogs == [] and page.asked_elsewhere == []
    finally:
        kill_all(train)
    eventually(lambda: not any(processes(train).values()))
    states = [json.loads(file.read_text())["state"] for file in train.glob("*/status.json")]
    assert sorted(set(states)) == ["cancelled", "finished"] and states.count("finished") == 12
    names = {"queue": None}
    copied = copied.replace("job = queue.submit(sweep)", "job = None").partition("figure =")[0]
    exec(copied, names)  # the pasted text describes the runs that were trained
    folders = {file.parent.name for file in train.glob("*/spec.json")}
    assert {probe.id for probe in names["sweep"]} < folders
    assert nbformat.read(jupyter.folder / "probes.ipynb", 4).cells
