"""Run the phenomena and keep what they gave.

    PYTHONPATH=. python data/phenomena/make.py [NAME ...] [--budget cpu] [--seeds 0 1 2] [--out DIR] [--commit HASH]

Readings of every experiment go to ``results.json``; what was run before stays, unless it is run again. Under the
``gpu`` budget the observations of seed 0 are kept too, as ``NAME.csv.xz``. Ctrl-C keeps what is done. What several
machines or processes made is put together by ``--take DIR ...``. Then ``python docs/phenomena.py`` makes the page.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import os
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

from workbench.files import write_whole
from workbench.phenomena import BUDGETS, find, phenomena
from workbench.runs.strict_json import dumps, loads

HERE = Path(__file__).parent
PACKAGES = ("numpy", "pandas", "scipy", "torch")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="phenomena (default all)")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--commit", default="", help="commit of the code that runs")
    parser.add_argument("--take", type=Path, nargs="+", help="run nothing; add what other calls put into these folders")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.take:
        for folder in options.take:
            take(folder, options.out)
        return sums(options.out)
    made_on = environment(options.budget, options.commit)
    try:
        for name in options.names or phenomena():
            for seed in options.seeds:
                keep(options.out, {**experiment(name, options.budget, seed, options.out), "made_on": made_on})
    except KeyboardInterrupt:
        print("stopped; what is done is kept")
    sums(options.out)


def experiment(name: str, budget: str, seed: int, out: Path) -> dict:
    """Run one phenomenon once; its readings, and the seconds it took."""
    phenomenon = find(name)
    began, worked = time.monotonic(), time.process_time()
    runs = phenomenon.run(budget, seed)
    seconds = {"seconds": round(time.monotonic() - began, 2), "cpu_seconds": round(time.process_time() - worked, 2)}
    report = phenomenon.report(runs)
    if budget == "gpu" and seed == 0:
        text = runs.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        (out / f"{name}.csv.xz").write_bytes(lzma.compress(text.encode(), preset=9))
    print(report, flush=True)
    return {**report.to_dict(), "budget": budget, "seed": seed, **seconds}


def keep(out: Path, result: dict) -> None:
    """Put one result into ``results.json``, in place of an older one of the same experiment."""
    path = out / "results.json"
    kept = loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []
    key = ("phenomenon", "budget", "seed")
    kept = [one for one in kept if any(one[k] != result[k] for k in key)] + [result]
    order = {name: place for place, name in enumerate(phenomena())}
    kept.sort(key=lambda one: (order.get(one["phenomenon"], len(order)), BUDGETS.index(one["budget"]), one["seed"]))
    lines = ",\n".join(dumps(rounded(one)) for one in kept)
    write_whole(path, f'{{"schema": 1, "results": [\n{lines}\n]}}\n')


def take(folder: Path, out: Path) -> None:
    """Add the results and tables of another call of this script to those in `out`."""
    for result in loads((folder / "results.json").read_text(encoding="utf-8"))["results"]:
        keep(out, result)
    for table in folder.glob("*.csv.xz"):
        shutil.copy(table, out)


def rounded(value):
    """`value` with its floats to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def environment(budget: str, commit: str) -> dict:
    """Hardware and versions."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    device = f"{platform.machine()} CPU, {os.cpu_count()} cores"
    if budget == "gpu":
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else device
    return {"device": device, "versions": found, "commit": commit}


def sums(out: Path) -> None:
    """Write ``SHA256SUMS`` of the data files."""
    files = sorted(p for p in out.iterdir() if p.suffix in (".json", ".xz"))
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    write_whole(out / "SHA256SUMS", "".join(lines))


if __name__ == "__main__":
    main()
