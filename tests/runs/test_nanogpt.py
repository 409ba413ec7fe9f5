"""Text logs of llm.c, nanoGPT and modded-nanogpt: the public logs' own values, and every way a file ends early."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.nanogpt import NanoGPT

SHARED = Path(__file__).parents[3] / "shared" / "runs" / "nanogpt_logs"
public = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public run logs are not at {SHARED}")


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def llmc(steps: int = 40, start: int = 0) -> str:
    """What llm.c's logger writes: ``s:%d tel:%.4f`` and ``s:%d trl:%.4f lr:%.6f norm:%.2f``."""
    lines = []
    for step in range(start, start + steps):
        if step % 10 == 0:
            lines.append(f"s:{step} tel:{4 - step / 50:.4f}")
        lines.append(f"s:{step} trl:{4.1 - step / 50:.4f} lr:{min(step, 20) * 1e-5:.6f} norm:{1 + step % 3:.2f}")
    return "\n".join([*lines, f"s:{start + steps} tel:{4 - (start + steps) / 50:.4f}"]) + "\n"


def modded(steps: int, unit: str = "ms", final: float = 3.25) -> str:
    """A modded-nanogpt log: its source, the machine, then the steps; the average time is nan at first."""
    time = (lambda t: f"{t * 1000:.0f}ms") if unit == "ms" else (lambda t: f"{t:.3f}s")
    source = 'import torch\nprint(f"step:{step}/{args.steps} val_loss:{val_loss:.4f}")\ns = 10\n' + "=" * 100 + "\n"
    lines = [f"step:0/{steps} val_loss:10.8258 train_time:{time(0)} step_avg:nanms"]
    lines += [f"step:{s}/{steps} train_loss:{10 - s / steps:.4f} train_time:{time(s / 8)} step_avg:{125 + s:.2f}ms"
              for s in range(1, steps + 1)]  # fmt: skip
    lines.append(f"step:{steps}/{steps} val_loss:{final:.4f} train_time:{time(steps / 8)} step_avg:125.00ms")
    return source + "\n".join(lines) + "\n"


def test_llmc_names_losses_and_rates(tmp_path):
    runs = workbench.load(put(tmp_path / "main.log", llmc()))
    assert runs.ids == ["main"] and runs["problem"][0] == ""
    assert runs["loss"][0] == 3.2 and runs["train_loss"][0] == 3.32 and runs["steps"][0] == 40
    assert runs["lr"][0] == 2e-4  # the peak, not the last
    curve = runs.curves["main"]
    assert curve["step"].tolist() == list(range(41))
    assert curve["loss"].dropna().tolist() == [4.0, 3.8, 3.6, 3.4, 3.2] and curve["train_loss"].count() == 40


def test_runs_one_after_the_other_in_seconds_and_milliseconds(tmp_path):
    text = modded(20, "ms", 3.25) + modded(30, "s", 3.125) + llmc()
    runs = workbench.load(put(tmp_path / "three.txt", text))
    assert runs.ids == ["three:0", "three:1", "three:2"]
    assert runs["loss"].tolist() == [3.25, 3.125, 3.2] and runs["steps"].tolist() == [20, 30, 40]
    assert runs["seconds"].tolist()[:2] == [2.5, 3.75]
    assert len(runs.curves["three:0"]) == 21 and len(runs.curves["three:1"]) == 31
    assert np.isnan(runs.curves["three:0"]["step_avg (ms)"][0])
    assert any("3 runs" in message for message in runs.messages)


def test_nanogpt_output_with_its_settings(tmp_path):
    text = "tokens per iteration will be: 16,384\nnumber of parameters: 10.65M\n"
    for step in range(0, 30, 10):
        text += f"step {step}: train loss {3 - step / 100:.4f}, val loss {3.1 - step / 100:.4f}\n"
        text += "saving checkpoint to out\n"
        text += f"iter {step}: loss {3.05 - step / 100:.4f}, time 12.34ms, mfu -100.00%\n"
    runs = workbench.load(put(tmp_path / "out.txt", text))
    assert runs["params"][0] == 10.65e6 and runs["batch_tokens"][0] == 16384
    assert runs["loss"][0] == 2.9 and runs["train_loss"][0] == 2.85 and runs["train_loss_eval"][0] == 2.8
    curve = runs.curves["out"]
    assert curve["step"].tolist() == [0, 10, 20] and curve["iter_time (ms)"].tolist() == [12.34] * 3


def test_llmc_on_the_terminal(tmp_path):
    text = "| num_parameters        | 124475904                                          |\nval loss 11.0\n"
    for s in range(1, 4):
        text += f"step    {s}/3 | loss {11 - s:.6f} (+nanz)| norm 15.3 (+nanz)| lr 1.00e-06 | 850.00 ms | 57.6% bf16 MFU | 616000 tok/s\n"  # noqa: E501
    runs = workbench.load(put(tmp_path / "stdout.log", text + "val loss 7.5\n"))
    assert runs["params"][0] == 124475904 and runs["loss"][0] == 7.5 and runs["train_loss"][0] == 8.0
    curve = runs.curves["stdout"]
    assert curve["step"].tolist() == [0, 1, 2, 3] and curve["loss"].dropna().tolist() == [11.0, 7.5]
    assert curve["step_time (ms)"].tolist()[1:] == [850.0] * 3 and curve["bf16 MFU (%)"].tolist()[1:] == [57.6] * 3


def test_a_restart_takes_back_what_came_after_its_checkpoint(tmp_path):
    text = llmc(25) + llmc(20, start=10).replace("trl:3.9000", "trl:1.0000")
    runs = workbench.load(put(tmp_path / "main.log", text))
    curve = runs.curves["main"]
    assert runs.ids == ["main"] and curve["step"].tolist() == list(range(31))
    assert curve.set_index("step")["train_loss"][10] == 1.0
    # steps 10 to 24 with their training lines, the validation lines of 10, 20 and 25
    assert any("18 lines were dropped because the run was restarted" in message for message in runs.messages)


def test_a_run_that_stops_before_its_planned_end_is_marked(tmp_path):
    text = modded(100)
    cut = text[: text.index("step:60/")]
    runs = workbench.load(put(tmp_path / "a.txt", cut))
    assert runs["problem"][0].startswith("its log ends at step 59 of 100") and runs["planned_steps"][0] == 100
    assert workbench.load(put(tmp_path / "b.txt", text))["problem"][0] == ""


def test_a_loss_that_became_nan_is_the_final_one(tmp_path):
    text = llmc(20) + "s:30 trl:nan lr:0.000100 norm:nan\ns:40 tel:nan\n"
    runs = workbench.load(put(tmp_path / "main.log", text))
    assert np.isnan(runs["loss"][0]) and "loss is missing or NaN" in runs["problem"][0]


def test_cut_off_anywhere_it_keeps_the_whole_lines_and_invents_nothing(tmp_path):
    text = modded(6, final=3.0625)
    whole = workbench.load(put(tmp_path / "a.txt", text)).curves["a"]
    first = text.index("step:0/6")
    for cut in range(first, len(text)):
        path = put(tmp_path / "a.txt", text[:cut])
        lines = text[first:cut].count("\n")
        try:
            curve = workbench.load(path).curves["a"]
        except LoadError:
            assert lines == 0
            continue
        # a step has two lines at the end of the run only
        assert len(curve) == min(lines, 7)
        for name in curve:
            seen = curve[name].to_numpy()
            assert np.array_equal(seen[:6], whole[name].to_numpy()[: len(curve)][:6], equal_nan=True), (cut, name)


def test_damaged_bytes_never_raise_anything_but_value_errors(tmp_path):
    whole = (modded(15) + llmc(15)).encode()
    rng = random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        (tmp_path / "log.txt").write_bytes(damaged)
        with contextlib.suppress(ValueError):
            workbench.load(tmp_path / "log.txt")._repr_html_()


def test_source_code_and_prose_are_foreign(tmp_path):
    for name, text in {
        "train.py": modded(3)[: modded(3).index("=====")] * 5,
        "notes.txt": "step 1: buy milk\nstep 2: train loss is a word, val loss too\n",
    }.items():
        assert find(put(tmp_path / name, text)) is None


@public
def test_public_llmc_and_optimizer_logs():
    main = workbench.load(SHARED / "llmc/main.log")
    curve = main.curves["main"]
    assert main["loss"][0] == 3.2722 and curve["train_loss"].count() == 19560 and curve["loss"].count() == 80
    expected = {"adam": 3.3406, "muon": 3.2760, "soap": 3.2752, "shampoo": 3.2858}
    runs = workbench.load(SHARED / "optimizers")
    assert dict(zip(runs["run"], runs["loss"], strict=True)) == expected
    assert (runs["problem"] == "").all() and (runs["steps"] == 5100).all()
    assert runs.curves["adam"]["train_loss"].count() == 5100


@public
@pytest.mark.parametrize(
    ("recipe", "mean", "n"),
    [("adamh", 3.27414, 5), ("muonh", 3.27821, 10), ("normuonh", 3.27728, 10), ("skylight001", 3.27708, 8)],
)
def test_public_seed_replicates(recipe, mean, n):
    runs = workbench.load(f"{SHARED}/track3/*_{recipe}")
    assert len(runs) == len(runs.good) == n
    assert runs["loss"].mean() == pytest.approx(mean, abs=5e-6)


def test_the_reader_is_asked_before_the_general_ones(tmp_path):
    assert isinstance(find(put(tmp_path / "log", llmc())), NanoGPT)
