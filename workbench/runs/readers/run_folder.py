"""Our own run folders, written by `workbench.runs.store`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from workbench.runs.curves import final_values
from workbench.runs.headers import read_header
from workbench.runs.readers.base import Log, Reader
from workbench.runs.store import RunFolder
from workbench.runs.strict_json import flatten

__all__ = ["RunFolderReader"]

#: Quantities that a metrics record counts as training goes on; for all others the spec is the authority
#: (its learning rate is the peak, a metric's is the current one).
_COUNTED = frozenset({"tokens", "unique_tokens", "flops", "epochs", "steps", "seconds", "loss"})


class RunFolderReader(Reader):
    """``<id>/{spec.json, status.json, metrics.jsonl}``: one run, its settings and its curve."""

    name = "run folder"
    folders = True

    def sniff(self, path: Path, head: bytes) -> bool:
        return (path / "spec.json").is_file() and not (path / "sweep.json").exists()

    def read(self, path: Path) -> Log:
        folder = RunFolder.open(path)
        metrics, skipped = folder.metrics()
        spec = flatten({key: value for key, value in folder.spec.items() if key != "schema"})
        measured = final_values(metrics)
        row = {"run": path.resolve().name, **spec}
        for header, value in measured.items():
            reading = read_header(header)
            if header not in row or (reading is not None and reading.name in _COUNTED):
                row[header] = value
        status = folder.status
        state = status.get("state", "unknown")
        row["status"] = state
        for header, value in flatten(status).items():
            if header not in ("schema", "state", "heartbeat"):
                row.setdefault(header, value)
        messages = [f"{path.name}: line {line} of metrics.jsonl skipped, {reason}" for line, reason in skipped]
        problems = {} if state == "finished" else {0: f"its status is {state!r}, not 'finished'"}
        curves = {0: metrics} if "step" in metrics else {}
        left_out = dict(Counter(reason for _, reason in skipped))
        counts = {"read": len(metrics), "skipped": left_out}
        return Log.of_records([row], curves=curves, messages=messages, problems=problems, settled=True, **counts)
