"""Text logs of any program: by a pattern, and by a shape that most of the lines share."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.text_log import TextLog
from workbench.runs.text_pattern import preview
from workbench.runs.text_shapes import NUMBER, read_lines

SHARED = Path(__file__).parents[3] / "shared" / "runs" / "grokking"
public = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public run logs are not at {SHARED}")

LOG = """started on gpu0
step 1 loss 3.5, acc 10%
step 2 loss nan, acc 20%
step 3 loss 1,234.5, acc 1e1%
step 4 loss 2.5ms, acc 3%
step 5 oops
substep 6 loss 9, acc 9%
step   7   loss -.5e1, acc 3.%
"""


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


class TestPattern:
    def test_preview_shows_what_is_taken_and_what_nearly_is(self, tmp_path):
        frame = preview(put(tmp_path / "a.log", LOG), "step {step} loss {loss}, acc {acc}%")
        taken = frame[frame["fits"]]
        assert taken["line"].tolist() == [2, 3, 4, 8]
        assert taken["step"].tolist() == [1, 2, 3, 7] and taken["acc"].tolist() == [10, 20, 10, 3]
        np.testing.assert_array_equal(taken["loss"].to_numpy(float), [3.5, np.nan, 1234.5, -5.0])
        near = frame[~frame["fits"]].set_index("line")
        assert near.index.tolist() == [5, 6]
        assert "{loss}" in near["missing"][5] and "2.5ms" in near["missing"][5]
        assert near["missing"][6] == "'loss' does not follow {step} in 'step 5'"
        assert frame.attrs == {"lines": 8, "fitting": 4}
        assert len(preview(tmp_path / "a.log", "step {step}", n=2)) == 2

    def test_load_takes_the_same_values(self, tmp_path):
        runs = workbench.load(put(tmp_path / "a.log", LOG), pattern="step {step} loss {loss}, acc {acc}%")
        assert runs.ids == ["a"] and runs["steps"][0] == 7 and runs["loss"][0] == -5.0
        assert runs.curves["a"]["step"].tolist() == [1, 2, 3, 7] and runs.curves["a"]["acc"].tolist() == [10, 20, 10, 3]

    def test_names_mean_what_they_mean_as_headers(self, tmp_path):
        text = "".join(f"[{s:04d}] D=1.5B t=250ms L={4 - s}\n" for s in range(3))
        runs = workbench.load(put(tmp_path / "a.log", text), pattern="[{step}] D={D} t={train_time (ms)}ms L={L}")
        assert runs["tokens"][0] == 1.5e9 and runs["seconds"][0] == 0.25 and runs["loss"][0] == 2.0

    def test_several_patterns_and_words(self, tmp_path):
        text = "".join(
            f"run {name} it {s} train {5 - s + bonus}\nrun {name} it {s} val {6 - s + bonus}\n"
            for s in range(3) for name, bonus in (("a<b>", 0), ("12", 10))
        )  # fmt: skip
        patterns = ["run {run:word} it {step} train {train_loss}", "run {run:word} it {step} val {val_loss}"]
        runs = workbench.load(put(tmp_path / "a.log", text), pattern=patterns)
        assert runs.ids == ["a<b>", "12"] and runs["loss"].tolist() == [4, 14]
        assert runs.curves["12"]["train_loss"].tolist() == [15, 14, 13]

    def test_lines_without_a_step_belong_to_the_one_before(self, tmp_path):
        text = "step 10 loss 3\nvalidation 3.5\nstep 20 loss 2\nvalidation 2.5\n"
        patterns = ["step {step} loss {train_loss}", "validation {val_loss}"]
        runs = workbench.load(put(tmp_path / "a.log", text), pattern=patterns)
        assert runs.curves["a"].to_dict("list") == {"step": [10, 20], "train_loss": [3, 2], "loss": [3.5, 2.5]}

    def test_runs_one_after_the_other_and_restarts(self, tmp_path):
        steps = [1, 2, 3, 4, 1, 2, 3, 2, 3, 5]
        text = "".join(f"step {s} loss {i}\n" for i, s in enumerate(steps))
        runs = workbench.load(put(tmp_path / "a.log", text), pattern="step {step} loss {loss}")
        assert [runs.curves[i]["loss"].tolist() for i in runs.ids] == [[0, 1, 2, 3], [4, 7, 8, 9]]

    def test_steps_that_begin_again_in_each_epoch(self, tmp_path):
        places = [(e, s) for e in (1, 2, 3) for s in (1, 2, 3, 4)]
        text = "".join(f"Epoch [{e}/3], Step [{s}/4], Loss: {9 - 2 * e - s / 4}\n" for e, s in places)
        for options in ({}, {"pattern": "Epoch [{epoch}/{}], Step [{step}/{}], Loss: {loss}"}):
            runs = workbench.load(put(tmp_path / "a.log", text), **options)
            assert runs["epochs"][0] == 3 and runs["loss"][0] == 2 and "steps" not in runs
            assert len(runs.curves["a"]) == 12 and (np.diff(runs.curves["a"]["step"]) > 0).all()

    def test_a_folder_with_other_files(self, tmp_path):
        put(tmp_path / "a.log", LOG)
        put(tmp_path / "b.csv", "run,loss\nx,2\n")
        put(tmp_path / "README", "read me\n")
        runs = workbench.load(tmp_path, pattern="step {step} loss {loss}, acc {acc}%")
        assert runs.ids == ["a", "x"]
        assert any("README" in message for message in runs.messages)

    def test_cut_off_anywhere_no_number_is_invented(self, tmp_path):
        truth = {1: 3.25, 2: 3.125, 3: 10.5}
        text = "".join(f"step {s} loss {v}\n" for s, v in truth.items())
        for cut in range(len(text)):
            path = put(tmp_path / "a.log", text[:cut])
            try:
                curve = workbench.load(path, pattern="step {step} loss {loss}").curves["a"]
            except LoadError:
                continue
            assert dict(zip(curve["step"], curve["loss"], strict=True)).items() <= truth.items()
            assert len(curve) == text[:cut].count("\n")

    @pytest.mark.parametrize(
        ("pattern", "error", "match"),
        [
            ("step", ValueError, "names no value"), ("{a}{b}", ValueError, "touch"), ("{a} {a}", ValueError, "twice"),
            ("{a:int}", ValueError, "for a number"), (3, TypeError, "takes text"), ([], TypeError, "takes text"),
            ("foo {loss}", LoadError, "preview"),
        ],
    )  # fmt: skip
    def test_wrong_patterns_get_one_sentence(self, tmp_path, pattern, error, match):
        with pytest.raises(error, match=match):
            workbench.load(put(tmp_path / "a.log", LOG), pattern=pattern)


class TestGuess:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("step={s} loss={v} lr=1e-3", {"loss": 3.25, "lr": 1e-3}),
            ("epoch {s} train_acc 0.9 val_acc {v}", {"train_acc": 0.9, "val_acc": 3.25}),
            ("[01-01 12:00:0{s},1] INFO - Step {s}/9, train loss: {v}, time 9ms", {"loss": 3.25, "step time (ms)": 9}),
            ("2024-01-01T12:00:0{s} iter: {s} | val/loss: {v} | tok/s 1.5K", {"loss": 3.25, "tok/s": 1500.0}),
            ("global_step {s}; Loss = {v}; grad norm = nan;", {"loss": 3.25}),
        ],
    )  # fmt: skip
    def test_lines_of_names_and_numbers(self, tmp_path, line, expected):
        text = "Loading the data\n" + "".join(line.format(s=s, v=4 - s / 8) + "\n" for s in range(1, 7))
        runs = workbench.load(put(tmp_path / "a.log", text))
        assert runs.ids == ["a"]
        assert {name: runs[name][0] for name in expected} == expected
        curve = runs.curves["a"]
        assert curve["step"].tolist() == [1, 2, 3, 4, 5, 6]
        name = next(n for n, v in expected.items() if v == 3.25)
        assert curve["loss" if "loss" in curve else name].tolist() == [4 - s / 8 for s in range(1, 7)]

    def test_columns_between_blanks(self, tmp_path):
        text = "# made by savetxt\n# step train_loss val_loss\n" + "".join(f"{s} {5 - s} {6 - s}\n" for s in range(4))
        runs = workbench.load(put(tmp_path / "a.txt", text))
        assert runs["loss"][0] == 3 and runs["train_loss"][0] == 2 and len(runs.curves["a"]) == 4
        runs = workbench.load(put(tmp_path / "b.txt", "N D loss\n1e6 1e9 3\n2e6 1e9 2.5\n4e6 1e9 2\n"))
        assert runs["params"].tolist() == [1e6, 2e6, 4e6] and runs["loss"].tolist() == [3, 2.5, 2]

    @pytest.mark.parametrize(
        "text",
        [
            "In step 3 we took 4 apples and went home.\nIn step 4 we took 5.\nIn step 5 we took 6 apples.\n",
            "step 1 is to wait 5 minutes\nstep 2 is to wait 6 minutes\nstep 3 is to wait 7 minutes\n",
            "step = 0\nloss = 1\nfor i in range(10):\n    step = 3\n    loss = 4\n" * 9,
            "import os\n\ndef main(step=1, loss=2):\n    return step / 3\n" * 5,
            "1 2 3\n4 5 6\n8 9 10\n",
            "Chapter 1 7\nChapter 2 19\nChapter 3 25\n",
            "step 1, loss 3\nfoo bar\nqux\nquux\nstep 2, loss 2\nfoo\nbar\nbaz\nstep 3, loss 1\n",
            "step 5 loss 3\nstep 5 loss 3\nstep 5 loss 3\nstep 5 loss 3\n",
        ],
    )  # fmt: skip
    def test_prose_source_code_and_loose_numbers_stay_foreign(self, tmp_path, text):
        assert find(put(tmp_path / "a", text)) is None

    def test_numbers_with_separators_are_not_cut(self, tmp_path):
        text = "".join(f"step {s} loss 1,23{s}\n" for s in range(5))
        with pytest.raises(LoadError, match="pattern="):
            workbench.load(put(tmp_path / "a.log", text))
        runs = workbench.load(tmp_path / "a.log", pattern="step {step} loss {loss}")
        assert runs["loss"][0] == 1234.0

    def test_tables_are_left_to_their_reader(self, tmp_path):
        text = "step,loss\n" + "".join(f"{s},{4 - s}\n" for s in range(4))
        assert not TextLog().sniff(tmp_path / "a", text.encode())
        assert not TextLog().sniff(tmp_path / "a.csv", b"step=1,loss=2\nstep=2,loss=1\nstep=3,loss=1\nstep=4,loss=1\n")

    def test_damaged_bytes_never_raise_anything_but_value_errors(self, tmp_path):
        whole = "".join(f"step={s} loss={4 - s / 10} lr=1e-3\n" for s in range(20)).encode()
        rng = random.Random(0)
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                place = rng.randrange(len(damaged))
                damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
            (tmp_path / "a.log").write_bytes(damaged)
            for options in ({}, {"pattern": "step={step} loss={loss}"}):
                with contextlib.suppress(ValueError):
                    workbench.load(tmp_path / "a.log", **options)._repr_html_()


def test_shapes_and_numbers_are_those_of_each_line_alone():
    rng = random.Random(2)
    words = ["loss", "v100", "1.5", "-3e-4", "nan", "nanms", "nano", "inf", ".5", "1.2.3", "a=2", "[3/4]", "x_1", "\t"]
    lines = [" ".join(rng.choices(words, k=rng.randint(0, 6))) for _ in range(500)]
    read = read_lines("\n".join(lines) + "\n")
    import re

    for i, line in enumerate(lines):
        numbers = [float(n) for n in re.findall(NUMBER, line)]
        shape = read.shapes[read.code[i]]
        assert shape == re.sub(NUMBER, "\0", line)
        taken = read.values[read.first[i] : read.first[i] + shape.count("\0")]
        assert np.array_equal(taken, numbers, equal_nan=True)


def test_what_counts_as_a_number():
    import re

    for text, numbers in {
        "227ms": ["227"], "nanms": ["nan"], "nano": [], "v100": [], "-1.5e-3,": ["-1.5e-3"], "+nanz": ["+nan"],
        "2024-01": ["2024", "01"], "a.5": [], "Infinity": ["Infinity"], "info": [], "x=.5": [".5"],
    }.items():  # fmt: skip
        assert re.findall(NUMBER, text) == numbers, text


@public
def test_public_grokking_logs():
    expected = {
        "accuracy-adamw-0.4-2": (182, 1253), "accuracy-adamw-0.5-2-decay": (244, 1136),
        "accuracy-adamw-0.5-2-dropout": (347, 891), "accuracy-adamw-0.5-2-batchsize256": (214, 688),
    }  # fmt: skip
    for runs in (
        workbench.load(SHARED, pattern="{epoch} {train_acc} {val_acc}"),
        workbench.load(SHARED, columns={"train_acc": "column 2", "val_acc": "column 3"}),
    ):
        found = {}
        for run, curve in runs.curves.items():
            found[run] = tuple(curve["step"][curve[c] > 0.99].min() for c in ("train_acc", "val_acc"))
        assert found == expected
