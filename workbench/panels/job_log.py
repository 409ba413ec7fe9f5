"""The last lines of a run's log, and how busy the GPUs of a job are, as markup; everything escaped."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from workbench.launch.told import printable
from workbench.units import human

__all__ = ["GPULoad", "gpu_loads", "log_html", "places_html", "tail"]

#: Bytes at the end of a log that are looked at.
_TAIL = 65536
#: Most places named one by one.
_MOST = 8


@dataclass(frozen=True)
class GPULoad:
    """One GPU now: its product name, how busy it is (percent), and bytes of its memory in use and in all."""

    name: str
    busy: float
    used: float
    memory: float


def gpu_loads() -> dict[str, GPULoad]:
    """Every GPU of this machine by UUID, as ``nvidia-smi`` reports it; empty where there is none or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=uuid,name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for line in lines:
        try:
            uuid, name, busy, used, memory = (cell.strip() for cell in line.split(","))
            found[uuid] = GPULoad(name, float(busy), float(used) * 2**20, float(memory) * 2**20)
        except ValueError:  # "[N/A]", as slices of a GPU say
            continue
    return found


def places_html(rows: pd.DataFrame, loads: Mapping[str, GPULoad] | None = None) -> str:
    """Where runs are being trained, how fast, and how busy those GPUs are; empty where none runs.

    Args:
        rows: as `Job.table` gives them.
        loads: GPUs by UUID; a place is the UUID's beginning.
    """
    running = rows[(rows["state"] == "running") & rows["place"].notna()]
    if running.empty:
        return ""
    parts = []
    for place, there in running.groupby("place", sort=True):
        rate = float(there["tokens_per_second"].sum())
        words = [f"{len(there)} run{'' if len(there) == 1 else 's'}", f"{human(rate)} tokens/s" if rate > 0 else ""]
        load = next((one for uuid, one in (loads or {}).items() if uuid.startswith(str(place))), None)
        if load is not None:
            memory = f"{load.used / 2**30:.3g} of {load.memory / 2**30:.3g} GiB"
            words = [load.name, f"{load.busy:.0f}% busy", memory, *words]
        parts.append(f"<b>{escape(printable(place))}</b> {escape(printable(', '.join(filter(None, words))))}")
    more = f" … and {len(parts) - _MOST} more places" if len(parts) > _MOST else ""
    return f"<div style='line-height:1.5'>On {' · '.join(parts[:_MOST])}{more}</div>"


def tail(file: Path, lines: int) -> tuple[list[str], bool]:
    """The last whole lines of a file, and whether there are more before them; nothing if it cannot be read."""
    try:
        with file.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - _TAIL))
            found = handle.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return [], False
    if size > _TAIL:
        found = found[1:]
    return found[-lines:], size > _TAIL or len(found) > lines


def log_html(folder: Path, run: str, verdict: str | None, lines: int = 40) -> str:
    """The end of a run's log in a box that scrolls, with how the run ended above it.

    Args:
        folder: the run's folder.
        run: how the run is called.
        verdict: one sentence on how it ended, or None.
        lines: most lines shown.
    """
    found, more = tail(folder / "log.txt", lines)
    head = f"Log of {run}" + (f", last {len(found)} lines" if more else "")
    said = f"<div>{escape(printable(verdict))}</div>" if verdict else ""
    clean = "\n".join("".join(c if c.isprintable() or c == "\t" else " " for c in line) for line in found)
    text = clean or "There is nothing in the log yet; it begins when a worker takes the run."
    return (
        f"<div style='max-width:900px'><b>{escape(printable(head))}</b>{said}"
        f"<pre tabindex='0' aria-label='{escape(printable(head), quote=True)}' style='max-height:260px;overflow:auto;"
        "margin:4px 0;padding:8px 10px;font-size:12px;line-height:1.4;white-space:pre-wrap;"
        "background:var(--jp-layout-color2,#f2f2f2);color:var(--jp-content-font-color1,#1f2328)'>"
        f"{escape(text)}</pre></div>"
    )
