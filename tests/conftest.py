"""What every test may rely on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import pytest

# One thread a process: several test processes share the cores, and a second thread would wait for the first.
# Set before anything imports numpy or torch; notebooks' kernels inherit it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# What a slow test loads is not to be found in the cache folder of whoever runs it; tests of the cache name their own.
os.environ.setdefault("WORKBENCH_CACHE", "off")


def pytest_configure() -> None:
    """Let Ctrl-C through to child processes.

    A shell that starts pytest in the background makes it ignore SIGINT, which children inherit; the tests
    that interrupt a child would then wait for nothing.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _keep_streams_open()


def _keep_streams_open() -> None:
    """Let absl, by which Keras and TensorBoard log, write to the real stderr.

    Its handler closes a stream that is none of the process's own as soon as anybody configures logging anew, as
    submitit does. Made while pytest captures, the handler has pytest's stream, and every test after that fails.
    """
    try:
        from absl import logging
    except ImportError:
        return
    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium for all tests of a process; skips where there is none."""
    from tests.panels.lab import chromium_path, open_browser

    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with open_browser(path) as opened:
        yield opened


@contextlib.contextmanager
def _no_loop_of_somebody_else(item):
    """Hide the event loop that an open browser leaves behind from tests that do not use the browser.

    Playwright suspends its loop between calls, and asyncio goes on calling it the running one: panels would take
    themselves to be in a notebook, and asyncio.run would refuse.
    """
    loop = asyncio._get_running_loop()
    hidden = loop is not None and "browser" not in getattr(item, "fixturenames", ())
    if hidden:
        asyncio._set_running_loop(None)
    try:
        yield
    finally:
        if hidden:  # whoever closes the browser, at the very end, needs it
            asyncio._set_running_loop(loop)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    """Fixtures of every scope are made without it."""
    with _no_loop_of_somebody_else(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    """And tests run without it."""
    with _no_loop_of_somebody_else(item):
        return (yield)
