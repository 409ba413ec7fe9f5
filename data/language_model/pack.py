"""Add what make.py wrote to the files of this folder: runs, tuning, curves, facts, checksums.

    PYTHONPATH=. python data/language_model/pack.py DIR [DIR ...] [--into FOLDER]

Each DIR holds what pieces of the sweep left: ``runs-*.jsonl`` or ``runs-*.jsonl.gz`` and ``provenance-*.json``. What
FOLDER (this one) already holds stays; a run found in several pieces counts once.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from workbench.probes import Probe
from workbench.probes.fork import branch_point
from workbench.probes.tasks.bigram import BigramLanguage

sys.path.insert(0, str(Path(__file__).parents[1]))
from pack import digits, sha256

HERE = Path(__file__).parent
#: What a probe's columns are called here; what all runs of a language share goes to sweep.json.
SPEC = ["width", "depth", "heads", "batch_tokens", "tokens", "parametrization", "schedule", "warmup", "lr", "seed"]
SPEC += ["evals", "eval_spacing"]
COLUMNS = ["run", "language", "stage", "level", "trunk", "params", "params_non_embedding", "flops", "flops_spent"]
COLUMNS += ["loss", "train_loss", "steps", "epochs", "seconds", "wall_seconds", "stacked", *SPEC]
TUNING = ["run", "language", "params", "params_non_embedding", "flops", "loss", "train_loss", "status", "steps"]
TUNING += ["epochs", "seconds", "wall_seconds", "stacked", *SPEC]
CELL = ["language", "width", "depth", "seed"]
CURVE = ["run", "step", "tokens", "loss", "train_loss", "lr"]
ORDER = ["language", "stage", "params_non_embedding", "tokens", "schedule", "batch_tokens", "lr", "seed"]
#: What of a specification changes from run to run, and is not stated for all.
VARYING = {*SPEC, "decay", "base_width"}
PACKED = ("corpus.json", "curves.parquet", "runs.csv", "sweep.json", "tuning.csv")
REMARK = "The text is not shipped: recipe (data/language_model/corpus.py) and checksums make it again."
NOTES = {
    "language": "text: the kernel's source. known: power-law bigrams of known entropy",
    "stage": "final: the horizons of each size. batch, schedule: the studies of batch size and of schedule",
    "level": "of final runs: 0 the longest horizon, each next one half as long",
    "trunk": "of final runs: the longest run trained of the same size and seed; shorter ones branch off it",
    "flops": "6 x params x tokens of the run that the specification describes",
    "flops_spent": "the same for the part trained on its own: a branch is charged from where it leaves its trunk",
    "epochs": "times the training text was read",
    "seconds": "of training since step 0, of the whole stack; of a branch with its share of the trunk",
    "wall_seconds": "what the stack took on its own, set-up and evaluation included; a branch from where it departs",
    "stacked": "runs trained together in this run's stack",
}


def main(folders: list[Path], into: Path = HERE) -> None:
    """Add the runs of `folders` to the files in `into`."""
    rows, probes, curves, about = packed(into)
    new = {run["id"]: run for folder in folders for run in read(folder) if run["id"] not in probes}
    probes |= {name: Probe.from_dict(run["probe"]) for name, run in new.items()}
    rows = pd.concat([rows, pd.DataFrame([row(run) for run in new.values()])], ignore_index=True)
    rows = rows.sort_values([*ORDER, "run"], ignore_index=True)
    longest = rows[rows["stage"] == "final"].sort_values("level").drop_duplicates(CELL)
    trunks = longest.set_index(CELL)["run"].to_dict()
    branches = rows["stage"] == "final"
    keys = rows[CELL].itertuples(index=False, name=None)
    rows["trunk"] = [trunks[key] if branch else None for key, branch in zip(keys, branches, strict=True)]
    rows["flops_spent"] = [spent(probes[r.run], probes.get(r.trunk)) for r in rows.itertuples()]
    rows["level"] = rows["level"].astype("Int64")

    final = rows[rows["stage"] != "tune"]
    bad = final[final["status"] != "finished"]
    if len(bad):
        raise SystemExit(f"{len(bad)} runs did not finish, such as {bad['run'].iloc[0]}; look at them before packing.")
    write_table(final[COLUMNS], into / "runs.csv")
    write_table(rows.loc[rows["stage"] == "tune", TUNING], into / "tuning.csv")
    curves |= {name: pd.DataFrame(run["curve"]).assign(run=name) for name, run in new.items()}
    table = pd.concat([curves[run] for run in final["run"]], ignore_index=True)
    digits(table[CURVE]).to_parquet(into / "curves.parquet", index=False, compression="zstd")
    ran = [*about["sessions"], *sessions(folders)]
    ran = [piece for place, piece in enumerate(ran) if piece not in ran[:place]]
    text = about["text"] or text_of(new)
    told = facts(rows, probes, text, ran)
    (into / "sweep.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    (into / "SHA256SUMS").write_text("".join(f"{sha256(into / name)}  {name}\n" for name in PACKED))
    print(f"{len(final)} runs, {len(rows) - len(final)} tuning runs, {len(table)} curve points")


def packed(folder: Path) -> tuple[pd.DataFrame, dict[str, Probe], dict[str, pd.DataFrame], dict]:
    """What a folder holds already: rows, specifications, curves by run, and the pieces and the text of sweep.json."""
    if not (folder / "sweep.json").exists():
        return pd.DataFrame(), {}, {}, {"sessions": [], "text": None}
    about = json.loads((folder / "sweep.json").read_text())
    final, tuned = (pd.read_csv(folder / name) for name in ("runs.csv", "tuning.csv"))
    rows = pd.concat([final.assign(status="finished"), tuned.assign(stage="tune")], ignore_index=True)
    kinds = {name: type(getattr(Probe(), name)) for name in SPEC}
    probes = {
        one["run"]: Probe.from_dict(about["shared"][one["language"]] | {n: kind(one[n]) for n, kind in kinds.items()})
        for one in rows.to_dict("records")
    }
    wrong = [name for name, probe in probes.items() if probe.id != name]
    if wrong:
        raise SystemExit(f"run {wrong[0]} in {folder} is not the hash of its specification ({probes[wrong[0]].id}).")
    return rows, probes, dict(list(pd.read_parquet(folder / "curves.parquet").groupby("run"))), about


def read(folder: Path) -> Iterator[dict]:
    """Every whole line of every ``runs-*.jsonl`` and ``runs-*.jsonl.gz``."""
    files = sorted([*folder.glob("runs-*.jsonl"), *folder.glob("runs-*.jsonl.gz")])
    if not files:
        raise SystemExit(f"{folder} holds no runs-*.jsonl or runs-*.jsonl.gz.")
    for path in files:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))


def row(run: dict) -> dict:
    """The columns of one run; the specification comes from its probe, defaults filled in."""
    probe = Probe.from_dict(run["probe"])
    if probe.id != run["id"]:
        raise SystemExit(f"run {run['id']} is not the hash of its specification ({probe.id}).")
    return {
        **{name: getattr(probe, name) for name in SPEC},
        **{name: run[name] for name in ("params", "params_non_embedding", "flops", "loss", "train_loss", "status")},
        **{name: run[name] for name in ("steps", "seconds", "language", "stage")},
        "run": run["id"], "level": run.get("level"), "wall_seconds": round(run["wall"], 3),
        "stacked": run["how"]["stacked"], "epochs": float(f"{run['how'].get('epochs') or 0:.4g}"),
    }  # fmt: skip


def spent(probe: Probe, trunk: Probe | None) -> float:
    """FLOPs trained for this run alone: from the step on where it leaves its trunk."""
    if trunk is None or trunk == probe:
        return probe.flops
    return probe.flops * (1 - branch_point(trunk, probe) / probe.steps)


def sessions(folders: list[Path]) -> list[dict]:
    """What each piece cost and where it ran."""
    return [json.loads(path.read_text()) for folder in folders for path in sorted(folder.glob("provenance-*.json"))]


def text_of(runs: dict[str, dict]) -> dict:
    """What the text was: corpus.json, and what the runs know of it."""
    how = next((run["how"] for run in runs.values() if run["language"] == "text"), {})
    known = {name: how.get(name) for name in ("text_sha256", "heldout_tokens")}
    return json.loads((HERE / "corpus.json").read_text()) | {"remark": REMARK} | known


def facts(rows: pd.DataFrame, probes: dict[str, Probe], text: dict, ran: list[dict]) -> dict:
    """The content of sweep.json."""
    found = {language: probes[run].to_dict() for run, language in zip(rows["run"], rows["language"], strict=True)}
    shared = {
        name: {k: v for k, v in probe.items() if k not in VARYING}
        for name, probe in sorted(found.items(), reverse=True)
    }
    final = rows[rows["stage"] == "final"]
    sizes = final.groupby(["language", "width", "depth"], as_index=False).agg(
        params=("params", "first"), params_non_embedding=("params_non_embedding", "first"), lr=("lr", "first"),
        batch_tokens=("batch_tokens", "first"), seeds=("seed", "nunique"), longest=("tokens", "max"),
    )  # fmt: skip
    attributes = {
        "training_data": "text: C code and documentation of the Linux kernel as bytes, 295.5 MB in windows without "
        "replacement; the three largest sizes read it more than once at their longest horizons (column epochs). "
        "known: a power-law bigram language, never the same tokens twice",
        "parameter_count": "all trainable parameters, embeddings, positions and untied head included; "
        "params_non_embedding holds the blocks alone, and tokens per parameter of the plan refer to these",
        "flop_count": "6ND with N = params, of the run that the specification describes; flops_spent is less for "
        "horizons that branch off a longer run",
        "architecture": "decoder-only transformers, width 64 to 640 in heads of 64; depth 1, 2, 4 or 6 changes with "
        "size, and models of one block are off the trend of the deeper ones",
        "hyperparameters": "learning rate tuned per size at 26 (384 and 512 wide: 13) tokens per non-embedding "
        "parameter on a seed of its own (tuning.csv), that of the largest size taken from the trend of the "
        "smaller ones; then the same at all horizons; the batch grows with size",
        "schedule": "warm-up over 0.8 % of the longest horizon, constant, linear decay over the last 20 % of each "
        "horizon; the studies have constant and cosine too",
        "checkpoints": "final losses; horizons of one size and seed share their trunk up to their own decay",
        "metric": "text: cross-entropy on 2^20 held-out bytes, whole documents held out, nats per byte. known: in "
        "nats per token; its entropy is below",
        "hardware": "NVIDIA H200, bf16 with fp32 master weights, evaluation in fp32",
        "released": "code, recipe of the text, settings, runs, curves and tuning runs are in data/language_model",
    }
    if "known" in found:
        known = found["known"]
        language = BigramLanguage(known["vocab"], known["tau"], known["s"], known.get("language_seed", 0))
        attributes["known_language"] = {"entropy": language.entropy, "unigram_entropy": language.unigram_entropy}
    return {
        "schema": 1,
        "runs": "runs.csv",
        "curves": "curves.parquet",
        "columns": NOTES,
        "attributes": attributes,
        "shared": shared,
        "sizes": sizes.to_dict("records"),
        "text": text,
        "flops": float(f"{rows['flops'].sum():.4g}"),
        "flops_spent": float(f"{rows['flops_spent'].sum():.4g}"),
        "seconds": sum(s["seconds"] for s in ran),
        "sessions": ran,
        "command": "PYTHONPATH=. python data/language_model/make.py --text CORPUS --out DIR --minutes 15.5, and again "
        "until all is done; PYTHONPATH=. python data/language_model/pack.py DIR",
    }


def write_table(frame: pd.DataFrame, path: Path) -> None:
    digits(frame).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--into", type=Path, default=HERE)
    options = parser.parse_args()
    main(options.folders, options.into)
