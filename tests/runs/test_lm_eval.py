"""lm-evaluation-harness results: the public Pythia evaluations, and the newer form as the program writes it."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.json_document import JsonDocument
from workbench.runs.readers.lm_eval import LmEval, LmEvalFolder, size_in_name

SHARED = Path(__file__).parents[3] / "shared" / "runs" / "pythia_evals"
public = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public evaluations are not at {SHARED}")


def old(model="EleutherAI/pythia-v1.1-70m", step=1000, acc=0.25, tasks=("piqa", "lambada_openai")):
    """The form of versions before 0.4."""
    results = {task: {"acc": acc, "acc_stderr": 0.01, "acc_norm": acc / 2, "acc_norm_stderr": 0.02} for task in tasks}
    config = {"model": "hf-causal", "model_args": f"use_accelerate=True,pretrained={model},revision=step{step}"}
    config |= {"num_fewshot": 0, "batch_size": 32, "limit": None}
    return {"results": results, "versions": dict.fromkeys(tasks, 0), "config": config}


def new(model="EleutherAI/pythia-160m", step=None, acc=0.5, task="arc_easy", shots=0, limit=None):
    """The form of versions from 0.4 on: filters in the metrics' names, standard errors that may be N/A."""
    args = f"pretrained={model}" + (f",revision=step{step}" if step is not None else "")
    return {
        "results": {
            task: {"alias": task, "acc,none": acc, "acc_stderr,none": 0.0125},
            "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": acc / 2, "exact_match_stderr,strict-match": "N/A"},
        },
        "group_subtasks": {task: []},
        "configs": {task: {"task": task, "num_fewshot": shots}},
        "versions": {task: 1.0},
        "n-shot": {task: shots, "gsm8k": shots},
        "config": {"model": "hf", "model_args": args, "batch_size": "auto", "limit": limit},
        "date": 1700000000.0,
    }


def put(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))
    return path


def test_checkpoints_in_a_folder_are_one_run(tmp_path):
    for step in (0, 1000, 143000, 512):
        put(tmp_path / "zero-shot" / f"70m_step{step}.json", old(step=step, acc=step / 1e6))
    put(tmp_path / "zero-shot" / "other.json", [{"run": "x", "loss": 2.0}, {"run": "y", "loss": 3.0}])
    runs = workbench.load(tmp_path)
    assert runs.ids == ["x", "y", "pythia-v1.1-70m"] or set(runs.ids) == {"x", "y", "pythia-v1.1-70m"}
    row = runs.where("run == 'pythia-v1.1-70m'")
    assert row["params"][0] == 7e7 and row["steps"][0] == 143000 and row["num_fewshot"][0] == 0
    assert row["piqa.acc"][0] == 0.143 and row["piqa.acc_stderr"][0] == 0.01
    curve = runs.curves["pythia-v1.1-70m"]
    assert curve["step"].tolist() == [0, 512, 1000, 143000]
    assert curve["lambada_openai.acc"].tolist() == [0.0, 0.000512, 0.001, 0.143]
    assert "model's name" in runs.notes["params"]


def test_the_newer_form_by_date_shots_and_task(tmp_path):
    folder = tmp_path / "EleutherAI__pythia-160m"
    put(folder / "results_2024-05-01T10-00-00.000000.json", new(step=1000, acc=0.25))
    put(folder / "results_2024-05-01T11-00-00.000000.json", new(step=2000, acc=0.5))
    put(folder / "results_2024-05-01T12-00-00.000000.json", new(step=2000, acc=0.75, task="piqa"))
    put(folder / "results_2024-05-01T13-00-00.000000.json", new(step=2000, acc=0.625, shots=5))
    runs = workbench.load(tmp_path)
    assert runs.ids == ["pythia-160m (0-shot)", "pythia-160m (5-shot)"]
    assert runs["arc_easy.acc"].tolist() == [0.5, 0.625] and runs["piqa.acc"][0] == 0.75
    assert runs["params"].tolist() == [1.6e8, 1.6e8] and runs["num_fewshot"].tolist() == [0, 5]
    assert runs["gsm8k.exact_match,strict-match"].tolist() == [0.375, 0.3125]
    assert not any("strict-match" in c and "stderr" in c for c in runs.frame.columns)
    assert runs.curves["pythia-160m (0-shot)"]["arc_easy.acc"].tolist() == [0.25, 0.5]
    assert any("1 scores of one checkpoint are in two files" in message for message in runs.messages)


def test_a_file_alone_and_a_model_without_size(tmp_path):
    path = put(tmp_path / "results_2024-05-01T10-00-00.json", new(model="/models/mine/", limit=100.0))
    runs = workbench.load(path)
    assert runs.ids == ["mine"] and "params" not in runs and "steps" not in runs and runs["limit"][0] == 100
    assert any("a part of each task" in message for message in runs.messages)
    assert isinstance(find(path), LmEval)
    runs = workbench.load(put(tmp_path / "1b_step3000.json", old("EleutherAI/pythia-1b", 3000)))
    assert runs.ids == ["pythia-1b step 3000"] and runs["steps"][0] == 3000 and runs["params"][0] == 1e9


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("EleutherAI/pythia-1.4b", 1.4e9), ("pythia-v1.1-70m", 7e7), ("bigscience/bloom-1b1", 1.1e9),
        ("bloom-560m", 5.6e8), ("pythia-1b-bf16", 1e9), ("Qwen/Qwen1.5-0.5B-Chat", 5e8), ("Llama-2-7b-hf", 7e9),
        ("mistralai/Mixtral-8x7B-v0.1", None), ("gpt2-xl", None), ("distil-1b-from-7b", None), ("7b/other", None),
    ],
)  # fmt: skip
def test_sizes_in_names(name, size):
    assert size_in_name(name) == size


def test_one_damaged_file_costs_its_own_checkpoint_only(tmp_path):
    for step in (0, 1000, 2000):
        put(tmp_path / f"70m_step{step}.json", old(step=step))
    (tmp_path / "70m_step1000.json").write_text((tmp_path / "70m_step1000.json").read_text()[:350])
    runs = workbench.load(tmp_path)
    assert runs.curves[runs.ids[0]]["step"].tolist() == [0, 2000]
    assert any("70m_step1000.json was skipped" in message for message in runs.messages)


def test_cut_and_damaged_files_fail_cleanly_and_invent_nothing(tmp_path):
    path = put(tmp_path / "a_step5.json", old(acc=0.25))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(LoadError):
            workbench.load(path)
    rng = random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        place = rng.randrange(len(damaged))
        damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            workbench.load(path)._repr_html_()


def test_other_json_is_left_to_its_reader(tmp_path):
    path = put(tmp_path / "a_step5.json", {"results": {"x": {"acc": 0.5}}, "step": 5})
    assert isinstance(find(path), JsonDocument)
    put(tmp_path / "a_step6.json", {"results": {"x": {"acc": 0.5}}, "step": 5})
    assert not LmEvalFolder().sniff(tmp_path, b"")


def test_standard_errors_weigh_a_fit(tmp_path):
    for i, size in enumerate(("70m", "160m", "410m", "1.4b", "2.8b", "6.9b")):
        value = old(f"EleutherAI/pythia-{size}", 1000, acc=1 - 2000 * float(size_in_name(size)) ** -0.5)
        value["results"]["piqa"]["acc_stderr"] = 0.01 * (i + 1)
        put(tmp_path / f"{size}.json", value)
    runs = workbench.load(tmp_path).derive(w="1 / `piqa.acc_stderr` ** 2", err="1 - `piqa.acc`")
    np.testing.assert_allclose(np.sort(runs["w"])[::-1], [1e4 / (i + 1) ** 2 for i in range(6)])
    fit = workbench.fit(runs, "power", y="err", x="params", weights="w")
    assert fit.params["alpha"] == pytest.approx(0.5, abs=0.01)


@public
def test_public_pythia_and_bloom():
    runs = workbench.load(SHARED)
    assert len(runs) == len(runs.good) == 10 and len(runs.curves) == 5
    expected = {7e7: 0.1846, 1.6e8: 0.3284, 4.1e8: 0.5162, 1e9: 0.5620, 1.4e9: 0.6161}
    for size, acc in expected.items():
        row = runs.where(f"params == {size} and run.str.startswith('pythia')")
        assert row["steps"][0] == 143000 and row["lambada_openai.acc"][0] == pytest.approx(acc, abs=5e-5)
        assert len(runs.curves[row.ids[0]]) == 27
