"""The job panel in a real JupyterLab: it follows the run folders without a blank frame, and stays as a picture."""

import base64

import nbformat
import pytest

pytestmark = pytest.mark.long

LIVE = """\
import threading, time
from pathlib import Path
from tests.panels.jobs import SWEEP, job, write

root = Path("live").absolute()
made = job(root, states=("running",), part=0.05)
write(root, SWEEP[1], "failed", 0.3, verdict="crashed: <img src=x onerror=alert(1)>")

def train():
    while not Path("go").exists():
        time.sleep(0.05)
    for part in range(10, 101, 10):
        time.sleep(0.6)
        for probe in [p for p in SWEEP if p is not SWEEP[1]]:
            write(root, probe, "running", part / 100)
    for probe in SWEEP:
        if probe is not SWEEP[1]:
            write(root, probe, "finished")

threading.Thread(target=train).start()
made"""
#: Counts painted frames, and those of them without a chart as large as a chart.
COUNT = """() => { window.frames_ = 0; window.blank = 0; const look = () => { window.frames_ += 1;
const chart = document.querySelector('.vega-embed svg.marks');
if (!chart || chart.getBoundingClientRect().height < 200) window.blank += 1;
requestAnimationFrame(look); }; requestAnimationFrame(look); }"""


def test_a_job_is_watched_and_its_last_picture_is_saved(jupyter):
    jupyter.open("job", LIVE)
    page = jupyter.page
    jupyter.run()
    page.wait_for_selector("text=6 runs: 5 running, 1 failed")
    first = page.locator(".vega-embed svg.marks").inner_html()
    page.evaluate(COUNT)
    (jupyter.folder / "go").touch()
    page.wait_for_selector("text=6 runs: 5 done, 1 failed")
    page.wait_for_timeout(1500)
    frames, blank = page.evaluate("[window.frames_, window.blank]")
    print(f"{frames} frames, {blank} without a chart")
    assert page.locator(".vega-embed svg.marks").inner_html() != first
    # the one that the saved picture's arrival may cost
    assert frames > 30 and blank <= 2, (frames, blank)
    resume = page.get_by_role("button", name="Resume")
    assert page.get_by_role("button", name="Cancel").is_disabled() and resume.is_enabled()
    resume.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=6 runs: 5 done, 1 waiting")
    page.screenshot(path=jupyter.folder / "job.png")
    assert jupyter.dialogs == [] and page.asked_elsewhere == []
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    data = nbformat.read(jupyter.folder / "job.ipynb", 4).cells[0].outputs[0].data
    assert data["text/plain"].startswith("6 runs: 5 done, 1 failed"), "of the end, not of the first moment"
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
