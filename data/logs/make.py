"""Train 28 small probes and have each pair logged by another program, as a team with fourteen habits would.

    PYTHONPATH=. python data/logs/make.py [--out DIR]

Seven widths on four horizons of the language of `data/bigram`, at the learning rates tuned there. Every log is written
by the logger's own library where it has one; the text logs and tables by a few lines like those in people's scripts.
Needs the libraries of the extra ``test``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from workbench.probes import Probe, Sweep
from workbench.probes.trainer import train_sweep

HERE = Path(__file__).parent
WIDTHS, HORIZONS = (4, 6, 8, 12, 16, 24, 32), tuple(2**k for k in (16, 18, 20, 21))
#: No seed of `data/bigram`.
SEED = 71
#: Where runs are logged; some loggers write the path into their files.
DESK = Path("/tmp/team")
#: What loggers write beside their logs: sources, lists of packages, their own diagnostics.
NEEDLESS = shutil.ignore_patterns(
    "_sources", "files", "logs", "tmp", "media", "latest-run", "debug*", "*.lock", "*.log.*"
)
Run = tuple[Probe, list[dict]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out.resolve()
    team = out / "team"
    begin = time.monotonic()
    runs = trained()
    anonymous()
    shutil.rmtree(DESK, ignore_errors=True)
    DESK.mkdir(parents=True)
    os.chdir(DESK)
    for place, (folder, write) in enumerate(WRITERS.items()):
        (DESK / folder).mkdir()
        write(DESK / folder, runs[place :: len(WRITERS)])
        if (team / folder).exists():
            shutil.rmtree(team / folder)
        shutil.copytree(DESK / folder, team / folder, ignore=NEEDLESS)
    about = {
        "probes": [p.to_dict() for p, _ in runs],
        "command": "PYTHONPATH=. python data/logs/make.py",
        "seconds": round(time.monotonic() - begin, 1),
        "machine": {"device": platform.machine(), "python": platform.python_version()},
        "versions": {name: version(name) for name in LIBRARIES},
    }
    (out / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    files = [out / "about.json", *sorted(p for p in team.rglob("*") if p.is_file())]
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(out).as_posix()}\n" for p in files]
    (out / "SHA256SUMS").write_text("".join(sums))
    print(f"{len(runs)} runs in {len(WRITERS)} formats, {sum(p.stat().st_size for p in files) / 1e3:.0f} kB")


def trained() -> list[Run]:
    """The probes and their records, so ordered that each logger gets runs of unlike size."""
    tuned = pd.read_csv(HERE.parent / "bigram" / "runs.csv").groupby(["width", "tokens"])["lr"].first()
    base = Probe(vocab=512, context=64, batch_tokens=1024, warmup=0.05, evals=25, seed=SEED)
    cells = [(w, d) for d in HORIZONS for w in WIDTHS]
    probes = [base.replace(width=w, heads=1, tokens=d, lr=float(f"{tuned[w, d]:.3g}")) for w, d in cells]
    results = train_sweep(Sweep(tuple(probes)), "cpu")
    return [(r.probe, [_rounded(record) for record in r.records if record["step"]]) for r in results]


def _rounded(record: dict) -> dict:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in record.items()}


def anonymous() -> None:
    """No name of a machine or a person in what the loggers note about themselves."""
    socket.gethostname = lambda: "laptop"
    platform.node = lambda: "laptop"
    platform.platform = lambda *_, **__: "Linux"
    os.environ.update(
        USER="student", LOGNAME="student", MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_DISABLE_TELEMETRY="true",
        WANDB_MODE="offline", WANDB_SILENT="true", KERAS_BACKEND="torch", TRACKIO_DIR=str(DESK / "trackio"),
    )  # fmt: skip


def named(probe: Probe) -> str:
    return f"w{probe.width}-d{probe.tokens}"


def settings(probe: Probe) -> dict:
    """What a run would note of itself."""
    return {"width": probe.width, "n_params": probe.params, "lr": probe.lr, "batch_tokens": probe.batch_tokens}


def spreadsheet(folder: Path, runs: list[Run]) -> None:
    """Final values only, units in the headers, a title above them."""
    with (folder / "results march.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Ladder, first half of March"])
        table.writerow([])
        table.writerow(["Run", "Model size (K)", "Tokens (M)", "Val loss", "Learning rate"])
        for probe, records in runs:
            last = records[-1]
            table.writerow(
                [named(probe), probe.params / 1e3, round(probe.tokens / 1e6, 6), last["loss"], f"{probe.lr:.3g}"]
            )


def json_lines(folder: Path, runs: list[Run]) -> None:
    """One record a line, compressed."""
    for probe, records in runs:
        with gzip.GzipFile(folder / f"{named(probe)}.jsonl.gz", "wb", mtime=0) as file:
            for r in records:
                line = {"step": r["step"], "tokens": r["tokens"], "params": probe.params, "val_loss": r["loss"]}
                file.write((json.dumps(line) + "\n").encode())


def parquet(folder: Path, runs: list[Run]) -> None:
    """All checkpoints of all runs in one table."""
    rows = [{"run": named(p), "n_params": p.params, "step": r["step"], "tokens": r["tokens"], "eval_loss": r["loss"]}
            for p, records in runs for r in records]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "checkpoints.parquet", index=False)


def tensorboard(folder: Path, runs: list[Run]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for probe, records in runs:
        with SummaryWriter(str(folder / named(probe))) as writer:
            for r in records:
                writer.add_scalar("val/loss", r["loss"], r["step"])
                writer.add_scalar("tokens", r["tokens"], r["step"])
                writer.add_scalar("params", probe.params, r["step"])


def wandb(folder: Path, runs: list[Run]) -> None:
    import wandb as library

    quiet = library.Settings(
        console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
        save_code=False, host="laptop", program="train.py",
    )  # fmt: skip
    for probe, records in runs:
        with library.init(
            mode="offline", dir=str(folder), project="ladder", name=named(probe), config=settings(probe), settings=quiet
        ) as run:
            for r in records:
                run.log({"val/loss": r["loss"], "tokens": r["tokens"]}, step=r["step"])
    time.sleep(5)  # its writer may outlive the run


def mlflow(folder: Path, runs: list[Run]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file://{folder / 'mlruns'}")
    experiment = client.create_experiment("ladder")
    for probe, records in runs:
        run = client.create_run(experiment, run_name=named(probe)).info.run_id
        for name, value in settings(probe).items():
            client.log_param(run, name, value)
        for r in records:
            client.log_metric(run, "val_loss", r["loss"], step=r["step"])
            client.log_metric(run, "tokens", r["tokens"], step=r["step"])
        client.set_terminated(run)


def trackio(folder: Path, runs: list[Run]) -> None:
    import trackio as library

    for probe, records in runs:
        run = library.init(project="ladder", name=named(probe), config=settings(probe), embed=False)
        for r in records:
            run.log({"val_loss": r["loss"], "tokens": r["tokens"]}, step=r["step"])
        run.finish()


def optuna(folder: Path, runs: list[Run]) -> None:
    import optuna as library
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    library.logging.set_verbosity(library.logging.WARNING)
    study = library.create_study(
        study_name="ladder",
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        direction="minimize",
    )
    study.set_metric_names(["val_loss"])
    for probe, records in runs:
        study.enqueue_trial({"lr": probe.lr})
        trial = study.ask({"lr": library.distributions.FloatDistribution(1e-4, 1.0, log=True)})
        for name, value in {**settings(probe), "tokens": probe.tokens}.items():
            trial.set_user_attr(name, value)
        for r in records:
            trial.report(r["loss"], r["step"])
        study.tell(trial, records[-1]["loss"])


def sacred(folder: Path, runs: list[Run]) -> None:
    if importlib.util.find_spec("pkg_resources") is None:  # of older setuptools; Sacred looks up versions with it
        stand_in = types.ModuleType("pkg_resources")
        here = Path(importlib.util.find_spec("sacred").origin).parent
        stand_in.resource_filename = lambda package, name: str(here / name)
        stand_in.working_set = type("WorkingSet", (), {"by_key": {}, "__iter__": lambda self: iter(())})()
        sys.modules["pkg_resources"] = stand_in
    import sacred as library
    from sacred.observers import FileStorageObserver

    library.SETTINGS.CAPTURE_MODE = "no"
    library.SETTINGS.HOST_INFO.INCLUDE_CPU_INFO = library.SETTINGS.HOST_INFO.INCLUDE_GPU_INFO = False
    library.SETTINGS.DISCOVER_SOURCES = library.SETTINGS.DISCOVER_DEPENDENCIES = "none"
    for probe, records in runs:
        experiment = library.Experiment(named(probe), base_dir=str(DESK), save_git_info=False)
        experiment.observers.append(FileStorageObserver(str(folder)))
        experiment.add_config(settings(probe))

        @experiment.main
        def train(_run, records=records):
            for r in records:
                _run.log_scalar("val.loss", r["loss"], r["step"])
                _run.log_scalar("tokens", r["tokens"], r["step"])
            return records[-1]["loss"]

        experiment.run()


def hugging_face(folder: Path, runs: list[Run]) -> None:
    from transformers.trainer_callback import TrainerState

    for probe, records in runs:
        last = records[-1]
        history = [{"step": r["step"], "epoch": r["step"] / last["step"], "eval_loss": r["loss"]} for r in records]
        for r, entry in zip(records, list(history), strict=True):
            lr = {"learning_rate": r["lr"], "loss": r["train_loss"], "num_input_tokens_seen": r["tokens"]}
            history.append({"step": entry["step"], "epoch": entry["epoch"], **lr})
        history.sort(key=lambda entry: (entry["step"], "eval_loss" in entry))
        place = folder / named(probe) / f"checkpoint-{last['step']}"
        place.mkdir(parents=True)
        TrainerState(
            global_step=last["step"], max_steps=last["step"], epoch=1.0, num_input_tokens_seen=last["tokens"],
            # the Trainer counts six FLOP for each token and parameter outside the embeddings
            total_flos=6 * probe.params_non_embedding * last["tokens"], log_history=history,
            trial_params={"n_params": probe.params},
        ).save_to_json(str(place / "trainer_state.json"))  # fmt: skip


def lightning(folder: Path, runs: list[Run]) -> None:
    from pytorch_lightning.loggers import CSVLogger

    for probe, records in runs:
        logger = CSVLogger(str(folder), name=named(probe))
        logger.log_hyperparams(settings(probe))
        for r in records:
            logger.log_metrics({"train_loss": r["train_loss"], "lr": r["lr"]}, step=r["step"])
            logger.log_metrics({"val_loss": r["loss"], "tokens": r["tokens"]}, step=r["step"])
        logger.save()


def keras(folder: Path, runs: list[Run]) -> None:
    """The logger knows epochs and metrics only; the sizes are in the name of the file."""
    from keras.callbacks import CSVLogger

    for probe, records in runs:
        logger = CSVLogger(str(folder / f"{named(probe)}.csv"))
        logger.on_train_begin()
        for epoch, r in enumerate(records):
            logger.on_epoch_end(epoch, {"loss": r["train_loss"], "val_loss": r["loss"]})
        logger.on_train_end()


def nanogpt(folder: Path, runs: list[Run]) -> None:
    """The lines that nanoGPT's train.py prints."""
    for probe, records in runs:
        with (folder / f"{named(probe)}.log").open("w") as file:
            file.write(f"tokens per iteration will be: {probe.batch_tokens:,}\n")
            file.write(f"number of parameters: {probe.params / 1e6:.2f}M\n")
            for r in records:
                file.write(f"step {r['step']}: train loss {r['train_loss']:.4f}, val loss {r['loss']:.4f}\n")
                ms = 1000 * r["seconds"] / max(r["step"], 1)
                file.write(f"iter {r['step']}: loss {r['train_loss']:.4f}, time {ms:.2f}ms, mfu 0.10%\n")


def own_words(folder: Path, runs: list[Run]) -> None:
    """A script's own lines, with the loss in bits."""
    for probe, records in runs:
        with (folder / f"{named(probe)}.txt").open("w") as file:
            file.write(f"model of {probe.params} weights\n")
            for r in records:
                bits = r["loss"] / 0.6931471805599453
                file.write(f"[{r['seconds']:.2f}s] it={r['step']} seen={r['tokens']} held-out={bits:.5f}\n")


WRITERS: dict[str, Callable[[Path, list[Run]], None]] = {
    "csv": spreadsheet, "jsonl": json_lines, "parquet": parquet, "tensorboard": tensorboard, "wandb": wandb,
    "mlflow": mlflow, "trackio": trackio, "optuna": optuna, "sacred": sacred, "hugging_face": hugging_face,
    "lightning": lightning, "keras": keras, "nanogpt": nanogpt, "own_words": own_words,
}  # fmt: skip
LIBRARIES = (
    "keras", "mlflow-skinny", "optuna", "pandas", "pyarrow", "pytorch-lightning", "sacred", "tensorboard", "torch",
    "trackio", "transformers", "wandb",
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
