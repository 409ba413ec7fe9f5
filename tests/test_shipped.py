"""The shipped sweep: every file as it was, every number as its specification says, the entropy right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench import shipped
from workbench.probes import Probe
from workbench.probes.tasks.bigram import BigramLanguage

DATA = Path(__file__).parents[1] / "data"
FOLDERS = sorted(p.parent for p in DATA.glob("*/SHA256SUMS"))


@pytest.fixture(scope="module")
def runs():
    return workbench.load(shipped.sweep("bigram"))


@pytest.fixture(scope="module")
def about() -> dict:
    return json.loads((DATA / "bigram" / "sweep.json").read_text())


def test_every_data_folder_states_its_checksums():
    assert FOLDERS and sorted(p for p in DATA.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_checksums(folder: Path):
    listed = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        listed[name] = digest
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, f"{name} was changed"
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    files = {name for name in files if "__pycache__" not in name and not name.endswith(".py")}
    files -= {"SHA256SUMS", "README.md"}
    assert files == set(listed), "every data file is listed"


def test_the_sweep_is_complete(runs):
    assert len(runs) == len(runs.good) == 330
    widths, horizons, seeds = (sorted(runs[c].unique()) for c in ("width", "tokens", "seed"))
    assert len(widths) * len(horizons) * len(seeds) == 330 and len(widths) >= 8 and len(horizons) >= 6
    assert not runs.frame.duplicated(["width", "tokens", "seed"]).any()
    assert runs["flops"].max() / runs["flops"].min() >= 1e4, "four decades of compute"


def _probe(row, about: dict) -> Probe:
    return Probe(
        **about["shared"], task="bigram", model="transformer", width=int(row.width), heads=int(row.heads),
        tokens=int(row.tokens), lr=float(row.lr), seed=int(row.seed), evals=about["sessions"][-1]["options"]["evals"],
    )  # fmt: skip


def test_every_id_is_the_hash_of_what_was_trained(runs, about):
    assert [_probe(row, about).id for row in runs.frame.itertuples()] == runs.ids


def test_sizes_and_compute_are_those_of_the_specification(runs):
    for row in runs.frame.itertuples():
        d, v, t = row.width, 512, 64
        # queries, keys, values, output: 4 d^2; feed-forward 2 x 4 d^2; two vocabulary matrices, positions
        assert row.params_non_embedding == 12 * d * d and row.params == 12 * d * d + 2 * v * d + t * d
        assert row.flops == 6 * row.params * row.tokens
        assert row.steps * 1024 == row.tokens
    assert np.allclose(runs["tokens_per_param"], runs["tokens"] / runs["params"], rtol=1e-15)


def entropy_rate(transition: np.ndarray) -> float:
    """sum_i pi_i H(P[i]) with pi by power iteration, as in Cover and Thomas 2006, theorem 4.2.4."""
    pi = np.full(len(transition), 1 / len(transition))
    for _ in range(10_000):
        new = pi @ transition
        if np.abs(new - pi).max() < 1e-17:
            break
        pi = new / new.sum()
    return float(-(pi[:, None] * transition * np.log(transition)).sum())


def test_the_stored_entropy_is_the_languages(runs, about):
    shared = about["shared"]
    transition = BigramLanguage(shared["vocab"], shared["tau"], shared["s"], shared["language_seed"]).transition
    assert np.allclose(transition.sum(1), 1, atol=1e-12) and (transition > 0).all()
    assert runs.attributes["entropy"] == pytest.approx(entropy_rate(transition), abs=1e-9)
    assert runs.attributes["language"]["entropy"] == runs.attributes["entropy"]
    # no model can beat the source; the exact loss has no sampling error to hide behind
    assert runs["loss"].min() > runs.attributes["entropy"]


def test_curves_end_where_the_runs_do(runs):
    assert set(runs.curves) == set(runs.ids)
    for row in runs.frame.itertuples():
        curve = runs.curves[row.run]
        last = curve.iloc[-1]
        assert last["loss"] == row.loss and last["step"] == row.steps and last["tokens"] == row.tokens
        assert curve["step"].iloc[0] == 0 and (np.diff(curve["step"]) > 0).all()
        # untrained, it knows nothing: log V, up to the spread of the initial weights
        assert curve["loss"].iloc[0] == pytest.approx(np.log(512), abs=0.1)


def test_tuning_used_seeds_of_its_own_and_chose_from_its_grid(runs):
    tuning = pd.read_csv(DATA / "bigram" / "tuning.csv")
    assert not set(tuning["seed"]) & set(runs["seed"])
    tuned = runs.frame[runs.frame["lr_tuned"].astype(bool)]
    grid = tuning.groupby(["width", "tokens"])["lr"].agg(["min", "max"])
    for row in tuned.itertuples():
        low, high = grid.loc[(int(row.width), int(row.tokens))]
        assert low <= row.lr <= high


def test_the_probe_of_the_demo_is_a_cell_of_the_sweep(runs):
    probe = Probe(**runs.attributes["demo_probe"], seed=10_000)
    cell = runs.frame[(runs.frame["width"] == probe.width) & (runs.frame["tokens"] == probe.tokens)]
    assert len(cell) == 3 and (cell["lr"] == probe.lr).all() and probe.seed not in set(cell["seed"])


def test_the_card_finds_every_question_answered(runs):
    from workbench.fits.card import QUESTIONS

    assert not [key for key in QUESTIONS if not runs.attributes.get(key)]


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match=r"no sweep called 'bigrm' is shipped; there are .*bigram"):
        shipped.sweep("bigrm")
    assert shipped.folder("notebooks").name == "notebooks"


def test_an_installation_without_data_says_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "workbench").mkdir()
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "workbench" / "shipped.py"))
    with pytest.raises(FileNotFoundError, match="no data folder; install"):
        shipped.folder("data")
    # in a wheel the data lie inside the package
    inside = tmp_path / "workbench" / "_shipped" / "data" / "mine"
    inside.mkdir(parents=True)
    (inside / "sweep.json").write_text("{}")
    assert shipped.sweep("mine") == inside.resolve()
