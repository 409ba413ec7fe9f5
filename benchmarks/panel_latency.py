"""From a key press to the redrawn chart, in a real JupyterLab and Chromium: the fit panel, and the plain way.

    python benchmarks/panel_latency.py [--inputs 60] [--width 1280]

1,000 runs of 10,000 points each are loaded, 300 of the runs are in the fit (Chinchilla's five parameters). A key
moves a slider by one step: Delta of the objective, or the parameter E, which is then held there. The clock is
the browser's own: from the input event to the end of the drawing that answers it, with the next press 0.05 to
0.8 s after it, so that some presses meet the finished figure of the one before. The plain way is what one would
write in an evening: `ipywidgets.interact`, scipy's L-BFGS-B from one start, and an Altair `JupyterChart` given a
new chart; its clock stops when the new picture enters the page.

Bytes are what the kernel sends while a panel opens, without the Vega library, which travels once a kernel.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.panels.lab import chromium_path, open_lab

DATA = """\
import dataclasses
import numpy as np, pandas as pd, workbench

rng = np.random.default_rng(0)
size, data = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 10), np.geomspace(2e7, 2e10, 100)))
floor = 1.7 + 400 * size**-0.34 + 1100 * data**-0.36
loss = floor * np.exp(0.003 * rng.standard_normal(size.size))
kept = (np.arange(size.size) % 10 < 3).astype(float)
frame = pd.DataFrame({"run": [f"run {i}" for i in range(size.size)], "params": size, "tokens": data,
                      "flops": 6 * size * data, "chosen": kept, "loss": loss})
steps = np.arange(1, 10_001, dtype=float)
curves = {f"run {i}": pd.DataFrame({"step": steps, "loss": end + 3 * steps**-0.5}) for i, end in enumerate(loss)}
runs = dataclasses.replace(workbench.load(frame), curves=curves)
print(len(runs.curves), "curves of", len(runs.curves["run 0"]), "points")
"""
PANEL = """\
from workbench.panels import FitPanel, FitState

FitPanel(runs, FitState(where="chosen == 1"))
"""
PLAIN = """\
import altair as alt, ipywidgets
from IPython.display import display
from scipy.optimize import minimize

alt.JupyterChart.enable_offline(True)
table = frame[frame["chosen"] == 1]
N, D, L = (table[c].to_numpy() for c in ("params", "tokens", "loss"))

def predict(p, N, D):
    return np.exp(p[0]) + np.exp(p[1]) * N ** -p[3] + np.exp(p[2]) * D ** -p[4]

def fitted(delta, E):
    def objective(q):
        p = np.concatenate([[np.log(E)], q])
        r = np.log(predict(p, N, D)) - np.log(L)
        return np.where(abs(r) < delta, r * r / 2, delta * (abs(r) - delta / 2)).sum()
    q = minimize(objective, [6.0, 7.0, 0.35, 0.35], method="L-BFGS-B").x
    return np.concatenate([[np.log(E)], q])

def draw(p):
    grid = np.geomspace(D.min(), D.max(), 48)
    line = pd.concat([pd.DataFrame({"tokens": grid, "params": n, "loss": predict(p, n, grid)}) for n in np.unique(N)])
    axes = (alt.X("tokens:Q", scale=alt.Scale(type="log")), alt.Y("loss:Q", scale=alt.Scale(type="log", zero=False)))
    points = alt.Chart(table).mark_point().encode(*axes, color="params:N", tooltip=["run", "params", "tokens", "loss"])
    return (points + alt.Chart(line).mark_line().encode(*axes, color="params:N")).properties(width=720, height=430)

view = alt.JupyterChart(draw(fitted(1e-3, 1.7)))

def update(delta=ipywidgets.FloatLogSlider(value=1e-3, base=10, min=-5, max=0, step=0.1),
           E=ipywidgets.FloatSlider(value=1.7, min=1.4, max=2.0, step=0.005, readout_format=".3f")):
    view.chart = draw(fitted(delta, E))

ipywidgets.interact(update)
display(view)
"""
#: Times of inputs, of answers to them, and of drawings, on the page's clock.
WATCH = """(plain) => {
  const seen = window.seen = { inputs: [], answers: [], drawings: [] };
  const log = (name) => () => seen[name].push(performance.now());
  document.addEventListener(plain ? "keydown" : "input", log("inputs"), { capture: true });
  const output = [...document.querySelectorAll(".jp-CodeCell .jp-Cell-outputArea")].at(-1);
  if (plain) {
    new MutationObserver((changes) => {
      const added = changes.flatMap((change) => [...change.addedNodes]);
      if (added.some((node) => node.matches?.("canvas, svg, .vega-embed") || node.querySelector?.("canvas, svg"))) {
        seen.drawings.push(performance.now());
      }
    }).observe(output, { childList: true, subtree: true });
  } else {
    // The text of the code changes with each answer, and is sent before its rows.
    const text = output.querySelectorAll(".wb-copy-text");
    for (const node of text) {
      new MutationObserver(log("answers")).observe(node, { childList: true, characterData: true, subtree: true });
    }
    new MutationObserver((changes) => {
      for (const { target } of changes) seen.drawings.push(Number(target.dataset.drawnAt));
    }).observe(output, { attributes: true, attributeFilter: ["data-drawn-at"], subtree: true });
  }
}"""
#: Waits for the drawing that answers the last input; its milliseconds, or null after twenty seconds.
ANSWER = """async (plain) => {
  const seen = window.seen, from = seen.inputs.at(-1);
  for (let began = performance.now(); performance.now() - began < 20000;) {
    const answer = plain ? from : seen.answers.find((at) => at > from);
    const drawn = answer === undefined ? undefined : seen.drawings.find((at) => at > answer);
    if (drawn !== undefined) return drawn - from;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return null;
}"""


class Frames:
    """Bytes that the server sends to the page over its sockets."""

    def __init__(self, page) -> None:
        self.sizes: list[int] = []
        page.on("websocket", lambda socket: socket.on("framereceived", self._take))

    def _take(self, payload) -> None:
        self.sizes.append(len(payload))

    def taken(self) -> tuple[int, int]:
        """Bytes since the last call: of all messages below half a megabyte, and of the others (libraries)."""
        small, large = (sum(s for s in self.sizes if (s >= 500_000) is big) for big in (False, True))
        self.sizes.clear()
        return small, large


def presses(lab, handle, inputs: int, plain: bool, rng: np.random.Generator) -> list[float]:
    """Milliseconds from each of `inputs` key presses to its drawing."""
    page, out = lab.page, []
    handle.focus()
    for i in range(inputs):
        page.keyboard.press("ArrowRight" if i % 20 < 10 else "ArrowLeft")
        taken = page.evaluate(ANSWER, plain)
        if taken is None:
            seen = page.evaluate("window.seen")
            raise RuntimeError(f"press {i + 1} was not answered within 20 s; the page saw {seen}")
        out.append(taken)
        page.wait_for_timeout(int(rng.integers(50, 800)))
    return out


def measure(inputs: int, width: int) -> list[tuple[str, str, list[float]]]:
    """``(way, slider, milliseconds)``; prints the bytes as it goes."""
    rng, rows = np.random.default_rng(0), []
    options = {"viewport": {"width": width, "height": 1500}}
    with (
        tempfile.TemporaryDirectory() as folder,
        open_lab(Path(folder), chromium_path(), **options) as lab,
    ):
        frames = Frames(lab.page)
        for way, source in (("fit panel", PANEL), ("plain", PLAIN)):
            plain = way == "plain"
            lab.open(way.replace(" ", "_"), DATA, source)
            lab.run(0, chart=False)
            lab.page.wait_for_selector("text=1000 curves of 10000 points", timeout=120_000)
            frames.taken()
            lab.run(1, chart=not plain)
            if plain:
                lab.output(1).locator("canvas, svg.marks").first.wait_for()
            lab.page.wait_for_timeout(4000)
            small, large = frames.taken()
            print(f"{way}: {small / 1e3:.0f} kB sent while opening, and {large / 1e3:.0f} kB of libraries", flush=True)
            lab.page.evaluate(WATCH, plain)
            output = lab.output(1)
            for slider in ("Delta", "E"):
                if plain:
                    handle = output.locator(".noUi-handle").nth(0 if slider == "Delta" else 1)
                else:
                    handle = output.get_by_role("slider", name=slider, exact=True)
                presses(lab, handle, 5, plain, rng)  # warm: imports, first compilation
                rows.append((way, slider, presses(lab, handle, inputs, plain, rng)))
            lab.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=60)
    parser.add_argument("--width", type=int, default=1280)
    arguments = parser.parse_args()
    if chromium_path() is None:
        raise SystemExit("no Chromium on this machine (apt-get install chromium)")
    rows = measure(arguments.inputs, arguments.width)
    print(f"\n{'':12}{'slider':>8}{'n':>5}{'median ms':>11}{'95 % ms':>9}{'largest':>9}")
    for way, slider, taken in rows:
        print(
            f"{way:12}{slider:>8}{len(taken):>5}{np.median(taken):>11.0f}{np.percentile(taken, 95):>9.0f}"
            f"{max(taken):>9.0f}"
        )
    both = {way: np.concatenate([t for w, _, t in rows if w == way]) for way in ("fit panel", "plain")}
    medians = {way: np.median(taken) for way, taken in both.items()}
    print(f"\nplain / fit panel, medians: {medians['plain'] / medians['fit panel']:.1f}")


if __name__ == "__main__":
    main()
