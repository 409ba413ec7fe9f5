"""Parallel coordinates in a real JupyterLab: mouse, keyboard, both directions, names that are no markup, dark theme."""

import re

import pytest

pytestmark = pytest.mark.long

OPEN = """\
import workbench
from workbench.panels.parallel import Parallel
from workbench.testing.panels import HOSTILE
from workbench.shipped import sweep

runs = workbench.load(sweep("bigram"))
frame = runs.frame.copy()
frame.loc[range(len(HOSTILE)), "run"] = list(HOSTILE)
runs = workbench.load(frame)
view = Parallel(runs, ["params", "tokens", "lr", "loss"])
view"""
ASK = "print('chosen', len(view.chosen), 'of', view.brushes)"
PYTHON = "view.marked = view.chosen[:2]; view.brushes = {'params': (1e4, 1e5)}"
CODE = "exec(view.code()); print('drawn', figure.to_dict()['title']['subtitle'][0][:24])"


def outcome(jupyter, index, pattern):
    """What a cell prints when it is run now."""
    output = jupyter.output(index).locator(".jp-OutputArea-output")
    jupyter.page.locator(".jp-Notebook .jp-CodeCell").nth(index).evaluate(
        "cell => cell.querySelector('.jp-OutputArea')?.replaceChildren()"
    )
    jupyter.run(index, chart=False)
    found = []

    def there():
        texts = output.all_text_contents()
        found[:] = [m for text in texts if (m := re.search(pattern, text))]
        return bool(found)

    jupyter.until(there)
    return found[-1]


def test_mouse_keyboard_and_python_brush_the_same_axes(jupyter):
    page = jupyter.page
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    jupyter.open("parallel", OPEN, ASK, PYTHON, ASK, CODE)
    jupyter.run(0, chart=False)
    page.wait_for_selector(".wb-parallel-axis")
    jupyter.until(lambda: int(page.locator(".wb-parallel").get_attribute("data-drawn") or 0) > 0)
    status = page.locator(".wb-parallel [role=status]")
    assert status.text_content().startswith("330 runs")
    assert page.get_by_role("slider").count() == 8

    # keyboard: each end of an axis by its name; plain keys stay with the handle
    upper = page.get_by_role("slider", name="Loss L (nats/token), upper end")
    upper.focus()
    for _ in range(3):
        page.keyboard.press("PageDown")
    page.keyboard.press("ArrowUp")
    jupyter.until(lambda: "of 330 runs inside" in status.text_content())
    assert page.locator(".jp-Notebook .jp-Cell").count() == 5
    loss = float(upper.get_attribute("aria-valuenow"))
    low, high = (float(upper.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
    assert abs((loss - low) / (high - low) - 0.71) < 1e-4
    assert upper.evaluate("handle => handle === document.activeElement"), "focus stays on the handle"

    # mouse: draw a range on another axis, from top to bottom
    box = jupyter.box(page.locator(".wb-parallel-axis").nth(1))
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + 0.4 * box["height"], steps=5)
    page.mouse.move(x + 40, box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()
    told = status.text_content()
    jupyter.until(lambda: page.locator(".wb-parallel-range:not([hidden])").count() == 2)
    jupyter.until(lambda: status.text_content() != told or "inside" in told)
    page.wait_for_timeout(200)
    page.screenshot(path=jupyter.folder / "parallel wide.png", clip={"x": 0, "y": 0, "width": 1280, "height": 900})
    found = outcome(jupyter, 1, r"chosen (\d+) of \{'loss': \[[\d.]+, ([\d.]+)\], 'tokens': \[([\d.]+), ([\d.]+)\]\}")
    assert float(found[2]) == pytest.approx(loss)
    # 0.4 and 0.8 of the way from 65,536 to 33,554,432 tokens, which are nine doublings apart
    assert float(found[3]) == pytest.approx(65536 * 2 ** (9 * 0.4), rel=0.05)
    assert float(found[4]) == pytest.approx(65536 * 2 ** (9 * 0.8), rel=0.05)
    assert status.text_content() == f"{found[1]} of 330 runs inside"

    # a click on a range takes it back; Delete on a handle too
    page.mouse.click(x, box["y"] + 0.4 * box["height"])
    jupyter.until(lambda: page.locator(".wb-parallel-range:not([hidden])").count() == 1)
    upper.focus()
    page.keyboard.press("Delete")
    jupyter.until(lambda: status.text_content().startswith("330 runs"))

    # from Python
    jupyter.run(2, chart=False)
    jupyter.until(lambda: page.locator(".wb-parallel-range:not([hidden])").count() == 1)
    handle = page.get_by_role("slider", name="Parameters N, lower end")
    jupyter.until(lambda: float(handle.get_attribute("aria-valuenow")) == 1e4)
    outcome(jupyter, 3, r"chosen \d+ of \{'params': \[10000.0, 100000.0\]\}")
    outcome(jupyter, 4, r"drawn \d+ of 330 runs")

    # narrow, and dark
    page.set_viewport_size({"width": 900, "height": 1100})
    jupyter.theme("JupyterLab Dark")
    page.screenshot(path=jupyter.folder / "parallel narrow.png")
    inside = page.evaluate(
        "() => { const el = document.querySelector('.wb-parallel').getBoundingClientRect();"
        "return [...document.querySelectorAll('.wb-parallel-title, .wb-parallel-tick')]"
        ".every(one => one.getBoundingClientRect().right <= el.right + 1); }"
    )
    assert inside, "labels are cut off"
    page.get_by_role("button", name="Clear ranges").click()
    jupyter.until(lambda: status.text_content().startswith("330 runs"))
    assert jupyter.dialogs == [], "a run's name was executed"
    assert errors == []
    assert page.asked_elsewhere == []
