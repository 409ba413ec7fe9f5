"""Every panel as people meet it who cannot see it well, hold a mouse, or afford a large screen.

axe-core looks for what standards forbid; the rest is measured: what the keyboard reaches, whether its focus is
seen, whether controls stay on a narrow or enlarged page, whether a chart's words stand out in both themes.
"""

from __future__ import annotations

import pytest

from tests.panels.cells import CELLS
from tests.panels.lab import CHART

pytestmark = pytest.mark.long

axe_package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (extra 'test')")

#: Most stops of the Tab key in one panel that are looked at.
MOST = 120
AXE = """async () => {
  const found = await axe.run(document.querySelector(".wb-panel"), { resultTypes: ["violations"] });
  const where = (one) => one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ");
  return found.violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) =>
    `${one.impact} ${one.id}: ${one.help}: ${where(one)}`);
}"""
#: Everything in the panel that a person can act on.
ACTIVE = "button, input, select, textarea, [tabindex]:not([tabindex='-1']), a[href]"
#: Marks every control to be reached with a number; what is hidden or disabled is none.
COUNT = """(active) => {
  const panel = document.querySelector(".wb-panel");
  const seen = (element) => element.getClientRects().length > 0 && !element.disabled
    && getComputedStyle(element).visibility !== "hidden" && element.tabIndex >= 0;
  let controls = [...panel.querySelectorAll(active)].filter(seen);
  // of radio buttons with one name, the arrow keys reach the others
  controls = controls.filter((one, at) => one.type !== "radio"
    || controls.findIndex((other) => other.type === "radio" && other.name === one.name) === at);
  controls.forEach((element, at) => { element.dataset.stop = at; });
  return controls.map((element) => element.outerHTML.slice(0, 160));
}"""
FOCUS = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  const inside = element.closest(".wb-panel") !== null;
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  return { inside, stop: element.dataset.stop ?? null, outlined, html: element.outerHTML.slice(0, 160) };
}"""
#: What is left or right of the cell's outputs and cannot be scrolled to, and controls that lie on each other.
PLACED = """(active) => {
  const panel = document.querySelector(".wb-panel"), room = panel.parentElement.getBoundingClientRect();
  const scrolls = (element) => {
    for (let above = element.parentElement; above && above !== panel; above = above.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(above).overflowX)) return true;
    }
    return false;
  };
  const seen = (one) => one.getClientRects().length > 0 && !scrolls(one);
  const controls = [...panel.querySelectorAll(active)].filter(seen);
  const box = (one) => one.getBoundingClientRect(), told = (one) => one.outerHTML.slice(0, 140);
  const problems = [];
  for (const one of controls) {
    const over = Math.max(box(one).right - room.right, room.left - box(one).left);
    if (over > 1) problems.push(`outside by ${Math.round(over)} px: ${told(one)}`);
  }
  controls.forEach((one, at) => controls.slice(at + 1).forEach((other) => {
    const a = box(one), b = box(other);
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1 && !one.contains(other) && !other.contains(one)) {
      problems.push(`on each other: ${told(one)} and ${told(other)}`);
    }
  }));
  return problems;
}"""
#: Words of the chart with less than 4.5 to 1 against its ground (WCAG 1.4.3), as drawn.
FAINT = """() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const opaque = (colour) => /^rgb\\(/.test(colour ?? "") || /^rgba\\(.*, 1\\)$/.test(colour ?? "");
  const out = [];
  for (const drawing of document.querySelectorAll(".wb-panel .vega-embed svg.marks")) {
    const page = getComputedStyle(drawing).backgroundColor;
    const back = drawing.querySelector("path.background");
    const paper = [page, back && getComputedStyle(back).fill].find(opaque) ?? "rgb(255, 255, 255)";
    for (const words of drawing.querySelectorAll("text")) {
      if (!words.textContent.trim()) continue;
      words.scrollIntoView({ block: "center" });  // only what is on the screen can be asked what lies below it
      const box = words.getBoundingClientRect(), ink = getComputedStyle(words).fill;
      const below = document.elementsFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2)
        .filter((one) => drawing.contains(one) && ["path", "rect"].includes(one.tagName))
        .find((one) => opaque(getComputedStyle(one).fill) && parseFloat(getComputedStyle(one).fillOpacity) > 0.5
          && parseFloat(getComputedStyle(one).opacity) > 0.5);
      const ground = below ? getComputedStyle(below).fill : paper;
      const [a, b] = [luminance(ink), luminance(ground)].sort((one, other) => other - one);
      const contrast = (a + 0.05) / (b + 0.05);
      if (contrast < 4.5) out.push(`${contrast.toFixed(2)}: ${words.textContent} (${ink} on ${ground})`);
    }
  }
  return [...new Set(out)];
}"""


@pytest.fixture(scope="module", params=sorted(CELLS))
def opened(request, jupyter):
    """One panel in its notebook, opened once for all tests here."""
    jupyter.page.set_viewport_size({"width": 1280, "height": 1500})
    jupyter.open(request.param, CELLS[request.param])
    jupyter.run()
    jupyter.quiet(3.0)
    jupyter.page.evaluate((axe_folder() / "axe.min.js").read_text(encoding="utf-8"))
    jupyter.name = request.param
    return jupyter


def axe_folder():
    from importlib.resources import files

    return files("axe_playwright_python")


def picture(opened, what):
    opened.page.screenshot(path=opened.folder / f"{opened.name}-{what}.png")


def test_axe_finds_nothing_serious(opened):
    picture(opened, "wide")
    assert opened.page.evaluate(AXE) == []


def test_tab_reaches_every_control_and_its_focus_is_seen(opened):
    page = opened.page
    controls = page.evaluate(COUNT, ACTIVE)
    assert controls
    page.locator(".wb-panel [data-stop='0']").focus()
    reached, faint = set(), []
    for _ in range(MOST):
        at = page.evaluate(FOCUS)
        if not at["inside"]:
            break
        reached.add(at["stop"])
        if not at["outlined"]:
            faint.append(at["html"])
        page.keyboard.press("Tab")
    missed = [html for number, html in enumerate(controls[:MOST]) if str(number) not in reached]
    assert missed == [], "the Tab key passes by"
    # the first was not given its focus by a key
    assert [html for html in faint if html != controls[0]] == [], "no outline where the focus is"


def test_nothing_leaves_a_narrow_page(opened):
    page = opened.page
    try:
        page.set_viewport_size({"width": 900, "height": 1500})
        page.wait_for_timeout(500)
        picture(opened, "900")
        assert page.evaluate(PLACED, ACTIVE) == []
        # What 200 % does to a window of 1280 pixels: half as many of them, each twice as large.
        page.set_viewport_size({"width": 640, "height": 900})
        page.wait_for_timeout(500)
        picture(opened, "200-percent")
        assert page.evaluate(PLACED, ACTIVE) == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 1500})


def test_words_of_the_chart_stand_out_in_both_themes(opened):
    page = opened.page
    assert page.locator(f".wb-panel {CHART} text").count() > 0
    light = page.evaluate(FAINT)
    opened.theme("JupyterLab Dark")
    try:
        picture(opened, "dark")
        assert (light, page.evaluate(FAINT)) == ([], [])
        assert page.evaluate(AXE) == []
    finally:
        opened.theme("JupyterLab Light")
