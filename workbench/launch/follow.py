"""The loss curves of a job while it runs: each look reads only what was appended since the last."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.launch.queue import Job
from workbench.probes.listing import varied
from workbench.probes.spec import Probe
from workbench.runs.strict_json import loads

__all__ = ["Follower", "curves", "varied"]

#: What every row of a frame of curves holds.
MEASURED = ("step", "tokens", "flops", "loss")


def curves(job: Job) -> pd.DataFrame:
    """Every loss that the runs of a job have written so far, one row each.

    Columns: ``run`` (the probe's id), ``state`` (as `Job.table` has it), ``step``, ``tokens``, ``flops`` (of
    training, so far), ``loss`` (nats per token), ``params``, ``planned`` (tokens of the whole run), and the settings
    in which the probes differ. Rows are in the sweep's order and then by step; lines that are torn or foreign
    are passed over.
    """
    return Follower(job).frame(job.table())


class Follower:
    """Reads the curves of a job again and again at the price of what is new."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings = varied(job.sweep)
        self._tails = [_Tail(Path(job.queue.root) / probe.id / "metrics.jsonl", probe) for probe in job.sweep]

    def frame(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The curves as of now, as `curves` describes them.

        Args:
            rows: `Job.table` of the same moment, for the states.
        """
        found = [tail.read() for tail in self._tails]
        counts = [len(one) for one in found]
        numbers = np.concatenate(found) if sum(counts) else np.empty((0, len(MEASURED)))
        probes = self.job.sweep.probes
        columns: dict[str, Any] = {
            "run": np.repeat(np.array([probe.id for probe in probes], dtype=object), counts),
            "state": np.repeat(rows["state"].to_numpy(object), counts),
            **{name: numbers[:, i] for i, name in enumerate(MEASURED)},
            "params": np.repeat(np.array([float(probe.params) for probe in probes]), counts),
            "planned": np.repeat(np.array([float(probe.tokens) for probe in probes]), counts),
        }
        for name, values in self.settings.items():
            columns.setdefault(name, np.repeat(values, counts))
        return pd.DataFrame(columns)


class _Tail:
    """The records of one metrics file, read as far as it goes."""

    def __init__(self, file: Path, probe: Probe) -> None:
        self.file, self.probe = file, probe
        self.forget()

    def forget(self) -> None:
        self.node, self.offset = 0, 0
        self.records: dict[float, tuple[float, ...]] = {}
        self.array: np.ndarray | None = None

    def read(self) -> np.ndarray:
        """``[records, 4]``: step, tokens, flops and loss, by step."""
        try:
            with self.file.open("rb") as handle:
                found = os.fstat(handle.fileno())
                if found.st_ino != self.node or found.st_size < self.offset:  # it was mended, hence written anew
                    self.forget()
                    self.node = found.st_ino
                if found.st_size > self.offset:
                    handle.seek(self.offset)
                    self._take(handle.read())
        except OSError:
            self.forget()
        if self.array is None:
            rows = [self.records[step] for step in sorted(self.records)]
            self.array = np.array(rows, dtype=float).reshape(-1, len(MEASURED))
        return self.array

    def _take(self, data: bytes) -> None:
        whole = data.rfind(b"\n") + 1
        self.offset += whole
        for line in data[:whole].split(b"\n"):
            record = _record(line, self.probe)
            if record is not None and record[0] not in self.records:
                self.records[record[0]] = record
                self.array = None


def _record(line: bytes, probe: Probe) -> tuple[float, ...] | None:
    """Step, tokens, flops and loss of a line, None if it holds no finite loss."""
    try:
        record = loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    step, loss = record.get("step"), record.get("loss")
    if not (_number(step) and _number(loss)):
        return None
    tokens = record["tokens"] if _number(record.get("tokens")) else step * probe.batch_tokens
    flops = record["flops"] if _number(record.get("flops")) else tokens * probe.flops / probe.tokens
    return float(step), float(tokens), float(flops), float(loss)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
