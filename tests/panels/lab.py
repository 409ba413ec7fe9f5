"""A JupyterLab server on a free loopback port, and a browser that opens its notebooks."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """JupyterLab over `folder`, with a token and settings of its own; yields the address of the notebook tree."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    home = folder / ".home"
    # No question about Jupyter news across the screenshots.
    notices = home / "settings" / "@jupyterlab" / "apputils-extension"
    notices.mkdir(parents=True)
    (notices / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_DATA_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home),
    }
    options = [
        "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, cwd=folder, stdout=log, stderr=log
        )
        try:
            _wait(f"http://127.0.0.1:{port}/api?token={token}", process)
            yield f"http://127.0.0.1:{port}/doc/tree/{{name}}?token={token}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended at once with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not answer within {seconds:g} s")


@contextmanager
def open_browser(chromium: str) -> Iterator:
    """A fresh headless Chromium. Playwright's way of waiting allows one at a time in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def browser_page(chromium: str, browser=None, **options) -> Iterator:
    """A page that may reach nothing but this machine, of `browser` or of one of its own.

    Args:
        chromium: the program, where `browser` is None.
        browser: from `open_browser`.
        options: as of a new context.
    """
    with ExitStack() as stack:
        if browser is None:
            browser = stack.enter_context(open_browser(chromium))
        context = browser.new_context(
            **{
                "viewport": {"width": 1280, "height": 1500},
                "permissions": ["clipboard-read", "clipboard-write"],
                **options,
            }
        )
        stack.callback(context.close)
        asked: list[str] = []

        def local_only(route):
            asked.append(route.request.url)
            route.abort()

        context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), local_only)
        page = context.new_page()
        page.asked_elsewhere = asked
        yield page


def chromium_path() -> str | None:
    """Where Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Lab:
    """One browser page on one server: writes notebooks, opens them, runs their cells.

    Attributes:
        folder: where the notebooks are.
        page: the page.
        dialogs: what any ``alert`` of the page said: nothing, unless a run's name was executed.
    """

    def __init__(self, folder: Path, address: str, page) -> None:
        self.folder, self._address, self.page = folder, address, page
        self.dialogs: list[str] = []
        self._errors: list[str] = []
        page.on("dialog", self._answer)
        page.on("pageerror", lambda error: self._errors.append(f"{error}"[:300]))
        page.set_default_timeout(90_000)

    def _answer(self, dialog) -> None:
        if dialog.type == "beforeunload":  # JupyterLab asks whether to leave an unsaved notebook
            dialog.accept()
        else:
            self.dialogs.append(dialog.message)
            dialog.dismiss()

    def open(self, name: str, *sources: str) -> None:
        """Open the notebook ``name.ipynb``, written anew if `sources` are given, and wait for its kernel."""
        if sources:
            write_notebook(self.folder / f"{name}.ipynb", *sources)
        self.page.goto(self._address.format(name=f"{name}.ipynb"))
        self.page.wait_for_selector("text=/[|] Idle/")
        if self.page.locator(".jp-FileBrowser:visible").count():
            self.page.locator('.jp-SideBar [title^="File Browser"]').first.click()  # not the subject

    def run(self, cell: int = 0, chart: bool = True) -> None:
        """Run a code cell, and wait until its panel is drawn."""
        self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(cell).click()
        self.page.keyboard.press("Control+Enter")
        if chart:
            try:
                self.output(cell).locator(CHART).first.wait_for(timeout=150_000)
            except Exception as error:
                said = self.output(cell).all_inner_texts()
                self.page.screenshot(path=self.folder / "no-chart.png")
                raise AssertionError(f"the cell drew no chart; it said {said}; see {self.folder}") from error
            self.rest()

    def rest(self, seconds: float = 0.6) -> None:
        """Wait until no chart has been drawn for `seconds`."""
        self.page.evaluate(_REST, 1000 * seconds)

    def quiet(self, seconds: float = 1.5) -> None:
        """Wait until nothing on the page has changed for `seconds`: some panels go on computing after they opened."""
        stop = self.page.get_by_role("button", name="Stop", exact=True)
        if stop.count():  # it says itself that it is at work
            stop.first.wait_for(state="hidden", timeout=120_000)
        self.page.evaluate(_QUIET, 1000 * seconds)

    def output(self, cell: int = 0):
        """The outputs of a code cell."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-Cell-outputArea")

    def panel(self, cell: int = 0):
        """The panel that a code cell shows."""
        return self.output(cell).locator(".wb-panel").first

    def code(self, cell: int = 0) -> str:
        """What *Copy as code* of a panel would copy."""
        return self.panel(cell).locator(".wb-copy-text", has_text="figure").first.text_content()

    def until(self, condition, seconds: float = 90.0) -> None:
        """Wait for a condition of the page."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"this did not happen in {seconds:g} s; {self._seen()}")
            self.page.wait_for_timeout(30)

    def gesture(self, hand, condition, seconds: float = 20.0, tries: int = 4) -> None:
        """Do something with the mouse until it has had its effect: a chart drawn anew under the hand loses it."""
        for _ in range(tries):
            hand()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if condition():
                    return
                self.page.wait_for_timeout(30)
        raise AssertionError(f"this had no effect in {tries} tries of {seconds:g} s; {self._seen()}")

    def _seen(self) -> str:
        """What a failure is understood by: the charts with their words, what the panels tell, errors of the page."""
        picture = self.folder / f"failed {time.monotonic_ns()}.png"
        self.page.screenshot(path=picture)
        return f"{self.page.evaluate(_SEEN)}; errors of the page: {self._errors[-5:]}; picture: {picture}"

    def box(self, locator) -> dict[str, float]:
        """Where something on the page is; waits while it is being replaced by a newer drawing of itself."""
        seen = [None]
        self.until(lambda: seen.append(locator.bounding_box()) or seen[-1] is not None)
        return seen[-1]

    def save(self, name: str, wanted=lambda cells: True) -> nbformat.NotebookNode:
        """Save until the file holds what is `wanted`, and return it."""
        path = self.folder / f"{name}.ipynb"
        self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()  # widgets keep keys to themselves

        def written() -> bool:
            self.page.keyboard.press("Control+s")
            self.page.wait_for_timeout(500)
            try:
                return bool(wanted(nbformat.read(path, 4).cells))
            except ValueError:  # while Jupyter writes it
                return False

        self.until(written)
        return nbformat.read(path, 4)

    def fresh(self) -> None:
        """Forget what was said and asked before, and give the page its usual size."""
        self.dialogs.clear()
        self._errors.clear()
        self.page.asked_elsewhere.clear()
        self.page.set_viewport_size({"width": 1280, "height": 1500})

    def close(self) -> None:
        """Shut down every kernel of the server, and put the light theme back."""
        if self.page.locator('body[data-jp-theme-light="false"]').count():
            self.theme("JupyterLab Light")
        self.page.evaluate(_SHUT_DOWN)

    def theme(self, name: str) -> None:
        """Change the theme of JupyterLab through its menu: ``JupyterLab Dark`` or ``JupyterLab Light``."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="Settings").click()
        self.page.locator(".lm-Menu-itemLabel", has_text="Theme").first.hover()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{name}$")).first.click()
        light = "false" if "Dark" in name else "true"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
        self.page.wait_for_timeout(300)
        self.rest()


CHART = ".vega-embed svg.marks"
_REST = """async (milliseconds) => {
  const count = () => [...document.querySelectorAll("[data-drawn]")].map((view) => view.dataset.drawn).join();
  for (let last = count(), since = performance.now(); performance.now() - since < milliseconds;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (count() !== last) { last = count(); since = performance.now(); }
  }
}"""
_QUIET = """async (milliseconds) => {
  const began = performance.now();
  let last = began;
  const watch = new MutationObserver(() => { last = performance.now(); });
  watch.observe(document.querySelector(".jp-Notebook"), { subtree: true, childList: true, characterData: true });
  while (performance.now() - last < milliseconds && performance.now() - began < 60_000) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  watch.disconnect();
}"""
_SEEN = """() => JSON.stringify({
  charts: [...document.querySelectorAll("[data-drawn]")].map((view) => {
    const { x, y, width, height } = view.getBoundingClientRect();
    return [view.dataset.drawn, [x, y, width, height].map(Math.round), view.textContent.slice(0, 160)];
  }),
  told: [...document.querySelectorAll("[role=status]")].map((line) => line.textContent.slice(0, 160)),
  code: [...document.querySelectorAll(".wb-copy-text")].map((text) => text.textContent.slice(0, 600)),
  page: [innerWidth, innerHeight],
})"""
_SHUT_DOWN = """async () => {
  const headers = { "X-XSRFToken": document.cookie.match(/_xsrf=([^;]+)/)?.[1] ?? "" };
  for (const session of await (await fetch("/api/sessions")).json()) {
    await fetch(`/api/sessions/${session.id}`, { method: "DELETE", headers });
  }
}"""


@contextmanager
def open_lab(folder: Path, chromium: str, **page_options) -> Iterator[Lab]:
    """A server over `folder` and a page on it."""
    with server(folder) as address, browser_page(chromium, **page_options) as page:
        yield Lab(folder, address, page)


def write_notebook(path: Path, *sources: str) -> None:
    """A notebook of code cells."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
