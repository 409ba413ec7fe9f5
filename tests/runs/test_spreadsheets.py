"""Spreadsheets saved as CSV, and what a last line without a newline is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.runs.readers.base import find
from workbench.runs.spreadsheet import whole_at_the_end


def load(folder: Path, text: str, name: str = "t.csv"):
    (folder / name).write_bytes(text.encode())
    return workbench.load(folder / name)


def test_titles_two_header_lines_and_totals(tmp_path):
    text = (
        "Scaling sweep,,,,\nmade by Ann on 3 May,,,,\n,,,,\n,Model,,Loss,\nrun,params (M),depth,train,val\n"
        'x,10,2,3.5,3.6\ny,"1,020",4,3.1,3.2\n,,,,\nTotal,1030,6,6.6,6.8\n'
    )
    runs = load(tmp_path, text)
    assert runs.ids == ["x", "y"] and (runs["problem"] == "").all()
    assert runs["params"].tolist() == [1e7, 1.02e9] and runs["depth"].tolist() == [2, 4]
    assert runs["loss"].tolist() == [3.6, 3.2] and runs["Loss.train"].tolist() == [3.5, 3.1]
    said = " ".join(runs.messages)
    assert "Scaling sweep" in said and "two lines" in said and "totals" in said


def test_a_line_of_units(tmp_path):
    runs = load(tmp_path, "run,params,tokens,loss\n,M,(B),nats\na,10,1.5,3.2\nb,20,3,3.1\n")
    assert runs["params"].tolist() == [1e7, 2e7] and runs["tokens"].tolist() == [1.5e9, 3e9]
    assert runs["loss"].tolist() == [3.2, 3.1]


def test_a_title_above_a_table_with_thousands(tmp_path):
    rows = "a,\"1,000,000\",1 000 000 000,3.2\nb,2\u202f000\u202f000,2'000'000'000,3\n"
    runs = load(tmp_path, f"Our runs\n\nrun,params,tokens,loss\n{rows}")
    assert runs["params"].tolist() == [1e6, 2e6] and runs["tokens"].tolist() == [1e9, 2e9]


def test_european_numbers_and_percentages(tmp_path):
    runs = load(tmp_path, "run;params;loss;acc\na;1.234.567;3,25;45,5%\nb;2.000.000;1.003,5;50 %\n")
    assert runs["params"].tolist() == [1234567, 2000000] and runs["loss"].tolist() == [3.25, 1003.5]
    assert runs["acc"].tolist() == [0.455, 0.5]


@pytest.mark.parametrize("word", ["Average", "mean:", "MEAN"])
def test_means_are_left_out_only_if_they_are_means(tmp_path, word):
    rows = "a,1e6,3\nb,2e6,2\n"
    assert load(tmp_path, f"run,params,loss\n{rows}{word},1.5e6,2.5\n").ids == ["a", "b"]
    assert len(load(tmp_path, f"run,params,loss\n{rows}{word},7e6,9\n")) == 3


PLAIN = [
    "run,loss,\nmean,3.2,\nb,3.1,\n",
    ",run,loss\n0,a,3\n1,b,2\n",
    "run,,loss\na,1,3\nb,2,2\n",
    "loss\n3\n2\n",
    "run,optimizer,loss\na,adam,3\nb,sgd,2\nc,,nan\n",
    "name,note\nfoo,bar\nbaz,qux\nx,y\n",
    "run,8,16\na,1,2\nb,3,4\n",
    "run,acc\na,50%\nb,0.5\n",
    "run,acc,loss\na,1 2,3\nb,x,4\n",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_files_keep_their_meaning(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    raw = pd.read_csv(tmp_path / "t.csv")
    runs = workbench.load(tmp_path / "t.csv")
    assert len(runs) == len(raw)
    for name in raw:
        if name.startswith("Unnamed") or name == "run" or raw[name].isna().all():
            continue
        if name in runs:
            expected = raw[name].to_numpy()
            if raw[name].dtype.kind in "fi":
                np.testing.assert_array_equal(runs[name].to_numpy(float), expected.astype(float))
            else:
                given = raw[name].notna().to_numpy()
                assert [str(v) for v in np.asarray(runs[name])[given]] == expected[given].tolist()


class TestLastLineWithoutNewline:
    def text(self, last: str) -> str:
        return "run,loss\n" + "".join(f"r{i},3.{i}\n" for i in range(10, 16)) + f"r16,{last}"

    def test_a_number_with_all_its_decimals_is_whole(self, tmp_path):
        runs = load(tmp_path, self.text("3.16"))
        assert len(runs.good) == 7 and runs["loss"].iloc[-1] == 3.16

    @pytest.mark.parametrize("last", ["3.1", "3.", "3", "-3.1", "3.160", "3e1"])
    def test_a_number_that_may_be_cut_is_marked(self, tmp_path, last):
        runs = load(tmp_path, self.text(last))
        assert len(runs) == 7 and len(runs.good) == 6
        assert "add a newline if the file is whole" in runs["problem"].iloc[-1]

    def test_no_cut_of_a_file_of_fixed_decimals_yields_a_wrong_number(self, tmp_path):
        rng = np.random.default_rng(0)
        losses = {f"r{i}": f"{v:.4f}" for i, v in enumerate(rng.uniform(2, 20, 12))}
        text = "run,loss\n" + "".join(f"{run},{loss}\n" for run, loss in losses.items())
        whole = 0
        for cut in range(text.index("r6,"), len(text)):
            good = load(tmp_path, text[:cut]).good
            assert all(value == float(losses[run]) for run, value in zip(good["run"], good["loss"], strict=True))
            whole += len(good) == text[:cut].count("\n")
        assert whole >= 6  # those cut just before a newline

    def test_full_precision_is_never_taken_for_a_fixed_format(self):
        values = np.random.default_rng(1).uniform(1, 2, 200)
        for i in range(6, 200):
            text, others = repr(float(values[i])), [repr(float(v)) for v in values[:i]]
            assert not any(whole_at_the_end(text[:cut], others) for cut in range(1, len(text)))

    def test_words(self):
        assert whole_at_the_end("done", ["done", "done", "failed"])
        assert not whole_at_the_end("adam", ["adam", "adamw", "adam"])
        assert not whole_at_the_end("adam", ["sgd", "sgd"])


def test_sentences_with_commas_are_no_table(tmp_path):
    (tmp_path / "a").write_text("".join(f"took 1{i}, left 2{i}\n" for i in range(5)))
    assert find(tmp_path / "a") is None
