"""`data/logs`: what fourteen loggers wrote is what the probes did, and every file is the one that was shipped."""

import hashlib
import json

import pytest

import workbench
from workbench.probes import Probe
from workbench.probes.trainer import train
from workbench.shipped import folder

LOGS = folder("data") / "logs"
ABOUT = json.loads((LOGS / "about.json").read_text())
PROBES = {f"w{p.width}-d{p.tokens}": p for p in (Probe.from_dict(fields) for fields in ABOUT["probes"])}
#: folder -> the reader it is for; `own_words` needs a pattern.
READERS = {
    "csv": "CSV", "jsonl": "JSON Lines", "parquet": "Parquet", "tensorboard": "TensorBoard", "wandb": "W&B run",
    "mlflow": "MLflow file store", "trackio": "trackio", "optuna": "Optuna journal", "sacred": "Sacred",
    "hugging_face": "HF Trainer", "lightning": "Lightning CSV", "keras": "Keras CSV", "nanogpt": "nanoGPT log",
}  # fmt: skip


def test_files_are_those_that_were_shipped():
    listed = dict(reversed(line.split("  ", 1)) for line in (LOGS / "SHA256SUMS").read_text().splitlines())
    found = [LOGS / "about.json", *(p for p in (LOGS / "team").rglob("*") if p.is_file())]
    assert {p.relative_to(LOGS).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found} == listed


@pytest.mark.parametrize("name", READERS)
def test_each_folder_is_read_by_its_reader_as_two_runs(name):
    runs = workbench.load(LOGS / "team" / name)
    assert len(runs) == 2 and set(runs.report().frame["format"]) == {READERS[name]}
    sizes = {(p.params, p.tokens) for p in PROBES.values()}
    if name == "nanogpt":  # prints millions with two decimals
        assert set(runs["params"]) == {30000.0} and set(runs["tokens"]) < {d for _, d in sizes}
    elif name != "keras":
        assert set(zip(runs["params"], runs["tokens"], strict=True)) < sizes


def test_every_logger_wrote_down_the_curve_that_its_probe_has_again():
    for name in ("jsonl", "mlflow", "tensorboard"):
        runs = workbench.load(LOGS / "team" / name)
        (run,) = (run for run, tokens in zip(runs.ids, runs["tokens"], strict=True) if tokens == 65536)
        (probe,) = (p for key, p in PROBES.items() if key == run.rpartition("/")[2])
        logged = runs.curves[run].set_index("step")["loss"]
        (result,) = train([probe], device="cpu")
        again = {r["step"]: r["loss"] for r in result.records if r["step"]}
        assert set(logged.index) == set(again)
        # another processor adds up in another order
        assert [logged[step] for step in again] == pytest.approx(list(again.values()), rel=1e-3)


def test_bits_of_a_script_are_nats_with_a_unit_in_the_pattern():
    runs = workbench.load(LOGS / "team" / "own_words", pattern="it={step} seen={tokens} held-out={loss (bits)}")
    best = 4.81201165009599  # entropy of the language, nats per token (data/bigram)
    assert (runs["loss"] > best).all() and (runs["loss"] < 1.1 * best).all()
