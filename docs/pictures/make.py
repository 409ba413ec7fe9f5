"""Take the README's pictures in a real JupyterLab: ``python docs/pictures/make.py`` (needs Chromium)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.panels.lab import browser_page, chromium_path, server, write_notebook  # noqa: E402

CELL = """\
import workbench
from workbench.shipped import sweep

runs = workbench.load(sweep("bigram"))
fit = workbench.fit(runs, "chinchilla", where="steps >= 1000 and width >= 8", cluster="cell")
fit.panel()"""


def main() -> None:
    chromium = chromium_path()
    if chromium is None:
        raise SystemExit("no Chromium found; install it, for example with apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_notebook(folder / "fit.ipynb", CELL)
        with server(folder) as address, browser_page(chromium) as page:
            page.set_viewport_size({"width": 1280, "height": 1180})
            page.goto(address.format(name="fit.ipynb"))
            page.wait_for_selector("text=/[|] Idle/")
            page.locator('.jp-SideBar [title^="File Browser"]').first.click()  # not the subject
            page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Control+Enter")
            page.wait_for_selector(".vega-embed svg.marks", timeout=60_000)
            page.wait_for_timeout(2000)
            page.screenshot(path=HERE / "fit-panel.png")
    print(HERE / "fit-panel.png")


if __name__ == "__main__":
    main()
