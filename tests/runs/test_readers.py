"""Every reader through the same contract, then what is particular to one format."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.runs.load import LoadError, load
from workbench.runs.readers.archive import Archive
from workbench.runs.readers.delimited import Delimited
from workbench.runs.readers.json_document import JsonDocument
from workbench.runs.readers.json_lines import JsonLines
from workbench.runs.readers.parquet import Parquet
from workbench.runs.readers.run_folder import RunFolderReader
from workbench.runs.store import RunFolder
from workbench.testing.readers import ReaderContract


class TestDelimited(ReaderContract):
    reader = Delimited
    suffix = ".csv"
    line_based = True

    def write(self, path, frame):
        frame.to_csv(path, index=False, lineterminator="\n")


class TestTabSeparatedGzip(ReaderContract):
    reader = Delimited
    suffix = ".tsv.gz"

    def write(self, path, frame):
        path.write_bytes(gzip.compress(frame.to_csv(index=False, sep="\t").encode()))


class TestJsonDocument(ReaderContract):
    reader = JsonDocument
    suffix = ".json"

    def write(self, path, frame):
        path.write_text(json.dumps(frame.to_dict("records")))


class TestJsonLines(ReaderContract):
    reader = JsonLines
    suffix = ".jsonl"
    line_based = True

    def write(self, path, frame):
        path.write_text("".join(json.dumps(r) + "\n" for r in frame.to_dict("records")))


class TestParquet(ReaderContract):
    reader = Parquet
    suffix = ".parquet"

    def write(self, path, frame):
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(), path)


class TestRunFolder(ReaderContract):
    reader = RunFolderReader
    names = ("<script>alert(1)<", "#1", "=1+1", "\u202egnp", "a\nb", 'say "a,b"', "&amp;")

    def files(self, path):
        return super().files(next(iter(sorted(path.iterdir()))))  # one run of three is enough to damage

    def write(self, path, frame):
        for record in frame.to_dict("records"):
            spec = {"params": record["params"], "model": {"depth": 2}}
            with RunFolder.create(path, record["run"], spec) as folder:
                folder.append({"step": 10, "tokens": record["tokens"], "loss": record["loss"]})
                folder.set_status("finished", heartbeat=0)


class TestArchive(ReaderContract):
    reader = Archive

    def files(self, path):
        return [path / "runs.csv", path / "sweep.json"]  # the curves are Parquet's business

    def write(self, path, frame):
        path.mkdir()
        frame.to_csv(path / "runs.csv", index=False, lineterminator="\n")
        curves = [{"run": run, "step": s, "loss": 9.0 - s} for run in frame["run"] for s in (1, 2)]
        pd.DataFrame(curves).to_parquet(path / "curves.parquet")
        about = {"schema": 1, "runs": "runs.csv", "curves": "curves.parquet", "attributes": {"task": "bigram"}}
        (path / "sweep.json").write_text(json.dumps(about))


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


class TestDelimitedDetails:
    @pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
    def test_delimiters_quotes_comments_and_byte_order_mark(self, tmp_path, delimiter):
        rows = [["Model Size", "training tokens", "loss"], ['"1,234"', "2e9", '"3.5"'], ["210M", "4.5E+09", "3.25"]]
        text = "\ufeff# exported by hand\n\n" + "".join(delimiter.join(r) + "\n" for r in rows)
        table = load(put(tmp_path / "t.csv", text))
        assert table["params"].tolist() == [1234.0, 2.1e8]
        assert table["tokens"].tolist() == [2e9, 4.5e9]
        assert table["loss"].tolist() == [3.5, 3.25]

    def test_decimal_commas_in_a_semicolon_file(self, tmp_path):
        table = load(put(tmp_path / "t.csv", "N;loss\n1,234;3,14\n2,000;2,7\n"))
        assert table["loss"].tolist() == [3.14, 2.7]
        assert table["params"].tolist() == [1234.0, 2000.0]

    def test_repeated_and_empty_headers(self, tmp_path):
        table = load(put(tmp_path / "t.csv", "loss,acc,acc,\n3,0.1,0.2,x\n2,0.3,0.4,y\n"))
        assert table["acc"].tolist() == [0.1, 0.3] and table["acc#2"].tolist() == [0.2, 0.4]
        assert table["column 4"].tolist() == ["x", "y"]
        assert any("'acc' appears more than once" in m for m in table.messages)

    def test_ragged_lines(self, tmp_path):
        table = load(put(tmp_path / "t.csv", "N,D,loss\n1,2,3\n4,5\n6,7,8,9\n1,1,1\n"))
        assert table["params"].tolist() == [1, 4, 1]
        assert "line 3 has 2 of 3 cells" in table["problem"][1]
        assert any("line 4" in m for m in table.messages)

    def test_last_line_without_newline_is_marked_as_its_last_number_may_be_cut(self, tmp_path):
        table = load(put(tmp_path / "t.csv", "N,D,loss\n1,2,3.25\n1,2,3.5"))
        assert table["problem"][0] == "" and "no newline" in table["problem"][1]
        assert load(put(tmp_path / "q.csv", '"N","loss"\n"1","3.25"\n"2","3.5"')).good["loss"].tolist() == [3.25, 3.5]

    def test_a_lone_opening_quote_at_the_end_costs_nothing(self, tmp_path):
        path = tmp_path / "cut.csv"
        path.write_text('"a","b"\n"1","2"\n"3","4"\n"')
        assert load(path)["a"].tolist() == [1.0, 3.0]

    def test_utf16_and_quoted_newlines(self, tmp_path):
        (tmp_path / "t.csv").write_bytes('run,loss\r\n"a\nb",2\r\nc,3\r\n'.encode("utf-16"))
        assert load(tmp_path / "t.csv").ids == ["a\nb", "c"]

    def test_a_header_written_as_a_comment(self, tmp_path):
        table = load(put(tmp_path / "t.csv", "# made by savetxt\n# N,loss\n1e6,3\n2e6,2\n"))
        assert table["params"].tolist() == [1e6, 2e6] and table["loss"].tolist() == [3, 2]

    def test_a_file_without_header_says_so(self, tmp_path):
        with pytest.raises(LoadError, match="add a header line"):
            load(put(tmp_path / "t.csv", "1,2\n3,4\n"))


class TestJsonDetails:
    def test_object_of_columns_and_pandas_json(self, tmp_path):
        frame = pd.DataFrame({"N": [1.0, 2.0], "loss": [3.0, 2.5]})
        put(tmp_path / "columns.json", json.dumps(frame.to_dict("list")))
        frame.to_json(tmp_path / "pandas.json")
        for name in ("columns.json", "pandas.json"):
            assert load(tmp_path / name)["params"].tolist() == [1.0, 2.0]

    def test_one_run_with_settings_and_a_curve(self, tmp_path):
        run = {
            "config": {"n_params": 5e6, "optimizer": {"lr": 3e-4}},
            "history": {"iter": [10, 20, 30], "val_loss": [5.0, 4.0, float("nan")]},
        }
        table = load(put(tmp_path / "probe.json", json.dumps(run)))
        assert table.ids == ["probe"]
        assert table["params"][0] == 5e6 and table["lr"][0] == 3e-4 and table["steps"][0] == 30
        assert "loss is missing or NaN" in table["problem"][0]  # it diverged: the last value counts
        assert table.curves["probe"]["step"].tolist() == [10, 20, 30]
        assert table.curves["probe"]["loss"].tolist()[:2] == [5.0, 4.0]

    def test_results_in_a_list_are_told_apart_by_name(self, tmp_path):
        run = {"name": "r", "params": 1e6, "results": [{"task": "x", "loss": 2.0}, {"task": "y", "loss": 3.0}]}
        table = load(put(tmp_path / "r.json", json.dumps(run)))
        assert table["results[x].loss"][0] == 2.0 and table["results[y].loss"][0] == 3.0
        assert "loss" not in table
        chosen = load(tmp_path / "r.json", columns={"loss": "results[y].loss"})
        assert chosen["loss"][0] == 3.0

    def test_integers_beyond_every_limit(self, tmp_path):
        table = load(put(tmp_path / "t.json", f'[{{"N": {10**25}, "loss": 2}}, {{"N": 1{"0" * 5000}, "loss": 2}}]'))
        assert table["params"][0] == 1e25
        assert "finite" in table["problem"][1]

    def test_lists_of_something_else_and_deep_nesting_are_refused(self, tmp_path):
        with pytest.raises(LoadError, match="each item must be an object"):
            load(put(tmp_path / "t.json", "[1, 2, 3]"))
        with pytest.raises(LoadError):
            load(put(tmp_path / "deep.json", "[" * 100_000 + "]" * 100_000))
        with pytest.raises(LoadError):
            load(put(tmp_path / "deeper.json", '{"a":' * 900 + "1" + "}" * 900))


class TestJsonLinesDetails:
    def test_torn_and_foreign_lines_are_reported_with_their_numbers(self, tmp_path):
        text = '{"run": "a", "loss": 3}\nnot json\n\n{"run": "b", "loss": NaN}\n{"run": "c", "loss": 2'
        table = load(put(tmp_path / "t.jsonl", text))
        assert table.ids == ["a", "b"]
        assert any("line 2: not JSON" in m and "line 5: cut off" in m for m in table.messages)
        assert "loss is missing or NaN" in table["problem"][1]

    def test_one_run_logged_step_by_step(self, tmp_path):
        lines = [{"params": 1e6, "lr": 0.01}]
        lines += [{"step": s, "train_loss": 5 - s / 10} for s in range(1, 6)]
        lines += [{"step": 5, "val/loss": 4.75}]
        table = load(put(tmp_path / "run7.jsonl", "".join(json.dumps(r) + "\n" for r in lines)))
        assert table.ids == ["run7"]
        assert table["loss"][0] == 4.75 and table["train_loss"][0] == 4.5 and table["params"][0] == 1e6
        curve = table.curves["run7"]
        assert curve["step"].tolist() == [1, 2, 3, 4, 5]
        assert curve["train_loss"].tolist() == [4.9, 4.8, 4.7, 4.6, 4.5]
        assert curve["loss"].tolist()[-1] == 4.75


class TestArchiveDetails:
    def test_curves_are_lazy_and_statements_arrive(self, tmp_path):
        TestArchive().write(tmp_path / "sweep", pd.DataFrame({"run": ["a", "b"], "params": 1e6, "loss": 2.0, "h": 1.0}))
        about = json.loads((tmp_path / "sweep/sweep.json").read_text())
        about |= {"units": {"h": "bits"}, "columns": {"loss": "mean of the last 100 steps"}, "made": "2025"}
        (tmp_path / "sweep/sweep.json").write_text(json.dumps(about))
        table = load(tmp_path)
        assert table.attributes == {"task": "bigram", "provenance": {"made": "2025"}}
        assert table.units["h"] == "bits" and table.notes["loss"] == "mean of the last 100 steps"
        assert list(table.curves) == ["a", "b"]
        assert table.curves["b"].to_dict("list") == {"step": [1.0, 2.0], "loss": [8.0, 7.0]}
        (tmp_path / "sweep/curves.parquet").write_bytes(b"torn")
        assert load(tmp_path).ids == ["a", "b"]

    def test_files_outside_the_folder_and_other_schemas_are_refused(self, tmp_path):
        folder = tmp_path / "sweep"
        folder.mkdir()
        put(tmp_path / "secret.csv", "run,loss\na,1\n")
        put(folder / "sweep.json", '{"schema": 1, "runs": "../secret.csv"}')
        with pytest.raises(LoadError, match="outside its folder"):
            load(folder)
        put(folder / "sweep.json", '{"schema": 2, "runs": "runs.csv"}')
        with pytest.raises(LoadError, match="schema 2"):
            load(folder)


def test_reasons_are_told_apart(tmp_path):
    cases = {
        "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "git lfs pull"),
        "noise.csv": (bytes(range(256)) * 20, "binary data"),
        "blank.json": (b" \n\n ", "empty"),
        "torn.json": (b'{"loss": [1, 2', "not one whole JSON document"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LoadError, match=reason):
            load(tmp_path / name)
    put(tmp_path / "sound.csv", "run,loss\nx,2\n")
    table = load(tmp_path)
    assert len(table) == 5 and table.good.ids == ["x"]
    for name, (_, reason) in cases.items():
        assert reason in table.where(f"run == '{Path(name).stem}'")["problem"].iloc[0]
