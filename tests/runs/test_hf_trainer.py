"""Hugging Face Trainer: states written by transformers' own `TrainerState`, in folders as `Trainer` leaves them."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.hf_trainer import HFTrainer, HFTrainerFile
from workbench.testing.readers import ReaderContract, sample

pytestmark = pytest.mark.libraries

callback = pytest.importorskip("transformers.trainer_callback", reason="transformers is not installed")


def history(steps, every=10, evaluate=50):
    """What `Trainer` logs: train and eval rows, interleaved."""
    rows = []
    for step in range(every, steps + 1, every):
        lr = 1e-3 * (1 - step / 200)
        rows.append({"epoch": step / 100, "grad_norm": 0.5, "learning_rate": lr, "loss": 4 - step / 100, "step": step})
        if step % evaluate == 0:
            rows.append({"epoch": step / 100, "eval_loss": 4.25 - step / 100, "eval_runtime": 1.5, "step": step})
    return rows


def write(path, steps=200, planned=200, ended=False, **more):
    """A state as `Trainer` saves it, by the class that does so."""
    path.mkdir(parents=True, exist_ok=True)
    rows = more.pop("log_history", None) or history(steps)
    if ended:
        rows = [
            *rows,
            {"epoch": steps / 100, "step": steps, "total_flos": 1e15, "train_loss": 3.0, "train_runtime": 60.0},
        ]
    about = {"epoch": steps / 100, "global_step": steps, "max_steps": planned, "num_train_epochs": 2} | more
    state = callback.TrainerState(log_history=rows, **about)
    state.save_to_json(str(path / "trainer_state.json"))
    return path


class TestContract(ReaderContract):
    """A run in a folder of its own; its name is the folder's."""

    reader = HFTrainer
    names = ("<script>alert(1)<", "#1", "=1+1", "\u202egnp", "a\nb", 'say "a,b"', "&amp;")
    mutations = 150

    def files(self, path):
        return super().files(next(iter(sorted(path.iterdir()))))

    def write(self, path, frame):
        for record in frame.to_dict("records"):
            rows = [{"loss": 9.0, "step": 1}, {"eval_loss": record["loss"], "step": 2}]
            folder = write(path / record["run"], 2, 2, log_history=rows, trial_params={"tokens": record["tokens"]})
            (folder / "all_results.json").write_text(json.dumps({"n_params": record["params"], "eval_runtime": 1.0}))

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        """At every byte by the reader alone, which is fast, and now and then by `load`."""
        path = self.make(tmp_path)
        for file in self.files(path):
            whole = file.read_bytes()
            for cut in range(len(whole)):
                file.write_bytes(whole[:cut])
                if cut % 50 == 0:
                    self.check_no_invention(workbench.load(path), f"{file.name} cut at byte {cut}")
                with contextlib.suppress(LoadError):
                    row = HFTrainer().read(file.parent).frame.iloc[0].to_dict()
                    for name, key in (("n_params", "params"), ("trial_params.tokens", "tokens"), ("eval_loss", "loss")):
                        assert row.get(name) in (None, sample()[key][0]), f"{file.name} cut at byte {cut}"
            file.write_bytes(whole)


class TestFileContract(ReaderContract):
    reader = HFTrainerFile
    suffix = ".json"

    def write(self, path, frame):
        record = frame.to_dict("records")[0]
        rows = [{"loss": 9.0, "step": 1}, {"eval_loss": record["loss"], "step": 2}]
        params = {"tokens": record["tokens"], "n_params": record["params"]}
        state = callback.TrainerState(log_history=rows, global_step=2, max_steps=2, trial_params=params)
        state.save_to_json(str(path))

    def test_values_are_read_exactly(self, tmp_path):
        row = workbench.load(self.make(tmp_path)).frame.iloc[0]
        assert row["run"] == "log" and row["problem"] == ""
        assert [row[name] for name in ("params", "tokens", "loss")] == sample().iloc[0, 1:].tolist()

    def check_no_invention(self, table, where):
        # a state cut off before its history is an ordinary JSON document, called by its file
        row = table.frame.iloc[0]
        for column in {"params", "tokens", "loss"} & set(table.frame.columns):
            assert np.isnan(row[column]) or row[column] in (sample()[column][0], 9.0), f"{where}: {column}"

    def test_hostile_names_pass_through(self, tmp_path):
        rows = [{name: 1.5, "loss": 2.0, "step": 1} for name in self.names]
        write(tmp_path, log_history=rows)
        table = workbench.load(tmp_path / "trainer_state.json")
        assert set(self.names) <= set(HFTrainerFile().read(tmp_path / "trainer_state.json").frame.columns)
        assert "<script" not in table._repr_html_()

    def test_reading_changes_nothing(self, tmp_path):
        path = self.make(tmp_path)
        before = path.read_bytes(), path.stat().st_mtime_ns
        list(workbench.load(path).curves.values())
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_train_and_eval_rows_become_one_curve(tmp_path):
    write(tmp_path / "out", ended=True, total_flos=1e15, train_batch_size=8)
    runs = workbench.load(tmp_path)
    assert runs.ids == ["out"] and list(runs["problem"]) == [""]
    row = runs.frame.iloc[0]
    assert row["loss"] == 4.25 - 2 and row["train_loss"] == 2.0 and row["train_loss_mean"] == 3.0
    assert row["lr"] == 1e-3 * (1 - 10 / 200) and row["steps"] == 200 and row["epochs"] == 2 and row["seconds"] == 60
    assert row["flops"] == 1e15
    curve = runs.curves["out"].set_index("step")
    assert curve["train_loss"].to_dict() == {step: 4 - step / 100 for step in range(10, 201, 10)}
    assert curve["loss"].dropna().to_dict() == {step: 4.25 - step / 100 for step in range(50, 201, 50)}
    assert "train_runtime" not in curve and "train_loss_mean" not in curve
    log = HFTrainer().read(tmp_path / "out")
    theirs = callback.TrainerState.load_from_json(str(tmp_path / "out" / "trainer_state.json"))
    assert log.read == len(theirs.log_history) == 25


def test_checkpoints_are_one_run_and_what_lies_beside_them_is_none(tmp_path):
    out = tmp_path / "models" / "gpt2"
    for steps in (50, 100, 150):
        folder = write(out / f"checkpoint-{steps}", steps)
        (folder / "config.json").write_text(
            json.dumps(
                {
                    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_head": 2, "n_embd": 64,
                    "vocab_size": 100, "n_positions": 32, "task_specific_params": {"loss": 7.0},
                }
            )
        )  # fmt: skip
    for name in ("tokenizer.json", "generation_config.json", "vocab.json"):
        (out / name).write_text('{"loss": 7.0, "step": 3}')
    (out / "runs" / "Jan01").mkdir(parents=True)
    (out / "runs" / "Jan01" / "log.csv").write_text("run,loss\na,1\n")
    runs = workbench.load(tmp_path)
    assert runs.ids == ["gpt2"] and len(runs.curves["gpt2"]) == 15
    assert "stands at step 150 of 200" in runs["problem"][0] and runs["steps"][0] == 150
    # 100 x 64 + 32 x 64 + 2 (12 x 64^2 + 13 x 64) + 2 x 64, as transformers counts GPT-2 with tied embeddings
    assert runs["params"][0] == 100 * 64 + 32 * 64 + 2 * (12 * 64**2 + 13 * 64) + 2 * 64
    assert not any("not the beginning" in message for message in runs.messages)
    alone = workbench.load(out / "checkpoint-100")
    assert alone.ids == ["gpt2/checkpoint-100"] and alone["loss"][0] == 4.25 - 1
    write(out, 200, ended=True)
    assert list(workbench.load(tmp_path)["problem"]) == [""] and len(workbench.load(out).curves["gpt2"]) == 20


def test_an_older_run_in_the_same_folder_is_told(tmp_path):
    write(tmp_path / "out" / "checkpoint-50", 50)
    other = [{**row, "loss": 9.0} for row in history(150) if "loss" in row]
    write(tmp_path / "out" / "checkpoint-150", 150, log_history=other)
    runs = workbench.load(tmp_path)
    assert len(runs) == 1 and (runs.curves["out"]["loss"] == 9.0).all()
    assert any("checkpoint-50 is not the beginning" in message for message in runs.messages)


def test_several_output_folders_and_early_stopping(tmp_path):
    write(tmp_path / "a", 100, 200, ended=True)
    write(tmp_path / "b", 100, 200)
    write(tmp_path / "sweep" / "c", 200, 200)
    runs = workbench.load(tmp_path)
    assert runs.ids == ["a", "b", "c"]
    assert [bool(problem) for problem in runs["problem"]] == [False, True, False]


def test_results_without_a_state(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    train = {"epoch": 3.0, "total_flos": 2e15, "train_loss": 2.5, "train_runtime": 12.0, "train_samples": 100}
    evaluation = {"epoch": 3.0, "eval_loss": 2.25, "eval_runtime": 1.0, "perplexity": 9.49}
    # as Trainer.save_metrics writes them
    for name, metrics in (("train", train), ("eval", evaluation), ("all", train | evaluation)):
        (folder / f"{name}_results.json").write_text(json.dumps(metrics, indent=4, sort_keys=True))
    runs = workbench.load(tmp_path)
    assert runs.ids == ["out"] and runs["loss"][0] == 2.25 and runs["train_loss_mean"][0] == 2.5
    assert runs["seconds"][0] == 12 and runs["perplexity"][0] == 9.49 and runs["epochs"][0] == 3
    (folder / "all_results.json").write_text('{"accuracy": 0.5}')
    assert not HFTrainer().sniff(folder, b"")


def test_a_damaged_state_gives_what_stands_before_the_damage(tmp_path):
    path = write(tmp_path / "out", log_history=history(60)) / "trainer_state.json"
    whole = path.read_bytes()
    losses = [row["loss"] for row in history(60) if "loss" in row]
    seen = 0
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with contextlib.suppress(LoadError):
            log = HFTrainer().read(tmp_path / "out")
            assert "cut off" in log.problems[0] or cut >= len(whole) - 1
            values = (
                log.curves[0]["train_loss"].dropna().tolist() if log.curves and "train_loss" in log.curves[0] else []
            )
            assert values == losses[: len(values)] and len(values) >= seen
            seen = len(values)
    assert seen == len(losses)
    write(tmp_path / "out" / "checkpoint-40", 40)
    path.write_bytes(whole[:300])
    log = HFTrainer().read(tmp_path / "out")
    assert len(log.curves[0].dropna(subset="train_loss")) == 4, "a whole state is better than a damaged one"


def test_half_a_character_in_the_name_of_a_metric(tmp_path):
    """JSON may hold one, pandas and every encoding refuse it."""
    path = write(tmp_path, log_history=[{"loss\ud800": 1.5, "loss": 2.0, "step": 1}]) / "trainer_state.json"
    runs = workbench.load(path)
    assert runs.curves[runs.ids[0]]["loss\\ud800"].tolist() == [1.5] and runs["loss\\ud800"][0] == 1.5


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "state.json").write_text('{"log_history": [], "global_step": 3}')
    assert not isinstance(find(tmp_path / "state.json"), HFTrainerFile)
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.json").write_text("{}")
    assert not HFTrainer().sniff(tmp_path, b"")
