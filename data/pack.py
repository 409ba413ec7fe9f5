"""Turn the run folders of a sweep into the files a data folder ships: runs, curves, facts, checksums.

Used by the make.py of each folder: ``pack(folder, runs, columns, attributes, command)``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

SIGNIFICANT = 9  # digits kept of measured numbers: fp32 evaluation has fewer
MEASURED = ("loss", "loss_sampled", "train_loss", "seconds")
CURVE = ["run", "step", "tokens", "loss", "train_loss", "lr"]


def pack(folder: Path, frame: pd.DataFrame, curves: dict[str, pd.DataFrame], about: dict, keep: int = 1) -> None:
    """Write runs.csv, curves.parquet, sweep.json and SHA256SUMS into `folder`.

    Args:
        folder: where to.
        frame: one row a run, with the column ``run``.
        curves: run -> its records; every `keep`-th is kept, and the last.
        about: the content of sweep.json but for the machine.
        keep: thinning of the curves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits(frame).to_csv(folder / "runs.csv", index=False, lineterminator="\n")
    parts = []
    for run in frame["run"]:
        curve = curves[run]
        kept = np.union1d(np.arange(0, len(curve), keep), len(curve) - 1)
        parts.append(curve.iloc[kept].assign(run=run))
    table = digits(pd.concat(parts, ignore_index=True)[CURVE])
    table.to_parquet(folder / "curves.parquet", index=False, compression="zstd")
    about = {"schema": 1, "runs": "runs.csv", "curves": "curves.parquet", **about, "machine": machine()}
    about["attributes"]["hardware"] = f"one {about['machine']['device']}, tf32 matrix products, evaluation in fp32"
    (folder / "sweep.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    sums = [f"{sha256(folder / name)}  {name}\n" for name in ("curves.parquet", "runs.csv", "sweep.json")]
    (folder / "SHA256SUMS").write_text("".join(sums))
    print(f"{folder}: {len(frame)} runs, {len(table)} curve points")


def machine() -> dict:
    """Hardware and versions the runs were made with."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "device": gpu or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "numpy": np.__version__,
        "packed": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def digits(frame: pd.DataFrame) -> pd.DataFrame:
    """Measured columns to nine significant digits."""
    out = frame.copy()
    for name in out.columns.intersection(MEASURED):
        out[name] = [float(f"{v:.{SIGNIFICANT}g}") for v in out[name]]
    return out


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
