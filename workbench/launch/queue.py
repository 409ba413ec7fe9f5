"""`Queue`: where probes run; `Job`: a sweep that was given to one. The run folders are the only truth.

A job is a view on run folders, so it can be opened again by another process, after a restart, or on
another machine that sees the same files; which kind of queue wrote them makes no difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from workbench.late import late
from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep
from workbench.runs.table import RunTable

__all__ = ["Job", "Queue"]


class Queue(ABC):
    """Where probes run.

    Attributes:
        root: the folder that holds the run folders, one a probe, named by the probe's id. What a queue
            itself must remember lives in ``root/.queue``.
    """

    root: Path

    @abstractmethod
    def submit(self, sweep: Sweep | Probe | Iterable[Probe]) -> Job:
        """Start training what is not finished yet, and return at once.

        Submitting a sweep again is harmless: finished probes stay, running ones go on, interrupted ones
        resume from their checkpoints, cancelled and failed ones are tried again.
        """

    @abstractmethod
    def cancel(self, ids: Iterable[str]) -> None:
        """Stop these probes; what they wrote stays, and a later `submit` resumes them."""

    @abstractmethod
    def jobs(self) -> list[Job]:
        """The sweeps ever submitted under `root`, latest first; this is how a new kernel finds them again."""

    panel = late("workbench.panels.probes:panel", "A form that describes sweeps, prices and launches them here.")


class Job(ABC):
    """A sweep in a queue.

    Attributes:
        queue: where it runs.
        sweep: its probes.
    """

    queue: Queue
    sweep: Sweep

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """One row a probe, in the sweep's order.

        Columns: id, state (one of `workbench.runs.store.STATES`), verdict (one sentence on how it ended,
        or None), step, steps, fraction, loss (last one read, nats/token), tokens_per_second, eta_seconds,
        place (device or host), heartbeat_age (seconds).
        """

    @abstractmethod
    def wait(self, timeout: float | None = None) -> bool:
        """Whether all probes have ended, within `timeout` seconds. Ctrl-C leaves the job running."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop all its probes, resumably."""

    @abstractmethod
    def runs(self) -> RunTable:
        """What there is so far, as a `RunTable`."""

    panel = late("workbench.panels.job:panel", "A panel that watches the job: progress, curves, table, cancel, resume.")
    _ipython_display_ = late("workbench.panels.job:display", "The panel in a notebook, the table as text elsewhere.")
