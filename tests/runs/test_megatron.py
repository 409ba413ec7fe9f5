"""Megatron's terminal output in the form that Megatron-LM and Megatron-DeepSpeed print it."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.megatron import Megatron

ARGUMENTS = {
    "adam_beta1": 0.9, "consumed_train_samples": 0, "global_batch_size": 256, "hidden_size": 1024, "iteration": 0,
    "load": None, "lr": 0.0003, "num_layers": 24, "pipeline_model_parallel_size": 1, "seq_length": 2048, "seed": 1234,
    "tensor_model_parallel_size": 1, "train_iters": 60,
}  # fmt: skip


def arguments(prefix: str = "[default0]:", **changes) -> str:
    lines = ["------------------------ arguments ------------------------"]
    lines += [f"  {key} {'.' * (48 - len(key))} {value}" for key, value in (ARGUMENTS | changes).items()]
    lines.append("-------------------- end of arguments ---------------------")
    return "".join(f"{prefix}{line}\n" for line in lines)


def iteration(i, loss=None, *, total=60, skipped=0, nan=0, prefix="[default7]:", unit="s", when=""):
    """A line as the training log of Megatron-DeepSpeed has it; an interval that was skipped whole has no loss."""
    fields = [
        f"{when}iteration {i:8d}/{total:8d}", f"consumed samples: {i * 256:12d}", f"consumed tokens: {i * 524288:12d}",
        f"elapsed time per iteration ({unit}): {1.5 if unit == 's' else 1500.0}", f"learning rate: {i * 1e-6:.6E}",
        "global batch size:   256", *([f"lm loss: {loss:.6E}"] if loss is not None else []), "loss scale: 4096.0",
        "grad norm: 0.500", "num zeros: 0.0", f"number of skipped iterations: {skipped:3d}",
        f"number of nan iterations: {nan:3d}", "samples per second: 19.463", "TFLOPs: 149.02",
    ]  # fmt: skip
    return f"{prefix} " + " | ".join(fields) + " |\n"


def validation(i, loss, prefix="[default7]:", where=""):
    rule = f"{prefix}{'-' * 60}\n"
    values = f"lm loss value: {loss:.6E} | lm loss PPL: {np.exp(loss):.6E} | "
    line = f"{prefix} validation loss at iteration {i}{where} | {values}\n"
    return rule + line + rule


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def log() -> str:
    text = (
        arguments() + "[default0]: > number of parameters on (tensor, pipeline) model parallel rank (0, 0): 354871296\n"
    )
    text += iteration(10, 9.5, skipped=2) + iteration(20, 8.0) + validation(20, 8.125)
    text += iteration(30, 7.5) + iteration(40, 7.0)
    text += "Traceback (most recent call last):\n  RuntimeError: iteration 41 | failed\n"
    text += arguments(iteration=20) + iteration(30, 7.25) + iteration(40, 6.75)
    text += iteration(50, None, skipped=10, nan=1) + iteration(60, 6.5)
    return text + validation(60, 6.625, where=" on validation set")


def test_iterations_validations_arguments_and_a_restart(tmp_path):
    runs = workbench.load(put(tmp_path / "main_log.txt", log()))
    assert runs.ids == ["main_log"] and runs["problem"][0] == ""
    expected = {
        "loss": 6.625, "train_loss": 6.5, "steps": 60, "tokens": 60 * 524288, "lr": 3e-4, "width": 1024, "depth": 24,
        "params": 354871296, "skipped_iterations": 12, "nan_iterations": 1, "planned_steps": 60, "seed": 1234,
    }  # fmt: skip
    assert {name: runs[name][0] for name in expected} == expected
    curve = runs.curves["main_log"].set_index("step")
    assert curve.index.tolist() == [10, 20, 30, 40, 50, 60]
    assert curve["train_loss"].dropna().tolist() == [9.5, 8.0, 7.25, 6.75, 6.5]
    assert curve["loss"].dropna().to_dict() == {20: 8.125, 60: 6.625}
    assert any("2 lines were dropped because the run was restarted" in message for message in runs.messages)
    assert any("12 iterations were skipped" in message for message in runs.messages)


@pytest.mark.parametrize("prefix", ["", "[default7]:", " 0:", "3: "])
@pytest.mark.parametrize("when", ["", "[2025-04-13 23:41:57] "])
def test_rank_prefixes_times_and_milliseconds(tmp_path, prefix, when):
    text = "".join(iteration(i, 9 - i / 10, prefix=prefix, when=when, unit="ms") for i in range(10, 61, 10))
    runs = workbench.load(put(tmp_path / "a.log", text))
    assert runs.curves["a"]["train_loss" if "train_loss" in runs.curves["a"] else "loss"].tolist() == [8, 7, 6, 5, 4, 3]
    assert runs["elapsed time per iteration (ms)"][0] == 1500.0


def test_parts_of_a_model_are_not_taken_for_the_whole(tmp_path):
    text = arguments(tensor_model_parallel_size=2)
    text += "".join(
        f"> number of parameters on (tensor, pipeline) model parallel rank ({r}, 0): 1000\n" for r in (0, 1)
    )
    runs = workbench.load(put(tmp_path / "a.log", text + iteration(60, 3.0)))
    assert "params" not in runs


def test_mixed_lines_of_two_ranks_give_no_number(tmp_path):
    a, b = iteration(20, 8.0), iteration(30, 7.0)
    text = iteration(10, 9.0) + a[:150] + b + a[150:] + iteration(40, 6.0) + iteration(60, 5.0)
    curve = workbench.load(put(tmp_path / "a.log", text)).curves["a"]
    assert set(curve.set_index("step")["loss"].dropna().items()) <= {
        (10, 9.0),
        (20, 8.0),
        (30, 7.0),
        (40, 6.0),
        (60, 5.0),
    }


def test_runs_that_did_not_finish(tmp_path):
    runs = workbench.load(put(tmp_path / "a.log", iteration(10, 9.0) + iteration(20, 8.0)))
    assert runs["problem"][0].startswith("its log ends at iteration 20 of 60")
    runs = workbench.load(put(tmp_path / "b.log", arguments()))
    assert "before the first iteration" in runs["problem"][0] and runs["width"][0] == 1024


def test_cut_off_anywhere_it_keeps_the_whole_lines_and_invents_nothing(tmp_path):
    text = "".join(iteration(i, 9 - i / 100) for i in (10, 20)) + validation(20, 8.75)
    truth = {10: 8.9, 20: 8.8}
    for cut in sorted({*range(0, len(text), 3), *(i + d for i, c in enumerate(text) if c in "|\n" for d in (0, 1))}):
        try:
            curve = workbench.load(put(tmp_path / "a.log", text[:cut])).curves["a"]
        except LoadError:
            assert "\n" not in text[:cut]
            continue
        name = "train_loss" if "train_loss" in curve else "loss"
        read = dict(zip(curve["step"], curve[name], strict=True))
        assert read == {step: truth[step] for step in list(truth)[: len(read)]}
        assert len(read) == min(text[:cut].count("\n"), 2)


def test_damaged_bytes_never_raise_anything_but_value_errors(tmp_path):
    whole = log().encode()
    rng = random.Random(1)
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        (tmp_path / "a.log").write_bytes(damaged)
        with contextlib.suppress(ValueError):
            workbench.load(tmp_path / "a.log")._repr_html_()


def test_only_its_own_logs_are_claimed(tmp_path):
    assert isinstance(find(put(tmp_path / "a", log())), Megatron)
    for text in ("---- arguments ----\nto a function, ... are passed\n" * 5, "the iteration 3/4 | was fine\n" * 5):
        assert not Megatron().sniff(tmp_path / "b", text.encode())
