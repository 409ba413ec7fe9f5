"""What every test may rely on."""

from __future__ import annotations

import os
import signal

# One thread a process: several test processes share the cores, and a second thread would wait for the first.
# Set before anything imports numpy or torch; notebooks' kernels inherit it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def pytest_configure() -> None:
    """Let Ctrl-C through to child processes.

    A shell that starts pytest in the background makes it ignore SIGINT, which children inherit; the tests
    that interrupt a child would then wait for nothing.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
