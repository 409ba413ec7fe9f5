"""`load`: ids, checkpoints, derivations, marks, and input that is wrong."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench
from workbench.runs.load import LoadError, load
from workbench.runs.table import RunTable


def csv(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestNumbers:
    def test_numbers_as_people_write_them(self, tmp_path):
        text = 'N,D,loss,arch,flag\n210M,"1,234",4.5E-05,gpt,true\n"7e6",2_000,3,llama,false\n'
        table = load(csv(tmp_path, "t.csv", text))
        assert table["params"].tolist() == [210e6, 7e6]
        assert table["tokens"].tolist() == [1234, 2000]
        assert table["loss"].tolist() == [4.5e-5, 3.0]
        assert table["arch"].tolist() == ["gpt", "llama"] and table["flag"].tolist() == [True, False]

    def test_every_number_is_a_float_so_that_six_n_d_cannot_overflow(self):
        table = load(pd.DataFrame({"N": [16_000_000_000] * 2, "D": [1_400_000_000_000] * 2, "heads": [8, 16]}))
        assert table["flops"].tolist() == [6 * 16e9 * 1.4e12] * 2
        assert {str(table[c].dtype) for c in ("params", "tokens", "flops", "heads")} == {"float64"}

    def test_a_cell_that_is_no_number_marks_its_row(self, tmp_path):
        table = load(csv(tmp_path, "t.csv", "N,loss\n1e6,3\n1e7,diverged\n1e8,2\n"))
        assert np.isnan(table["loss"][1])
        assert table["problem"].tolist() == ["", "loss is 'diverged', which is not a number", ""]

    def test_units_in_the_header(self, tmp_path):
        table = load(csv(tmp_path, "t.csv", "Params [M],tokens (B),loss (bits)\n70,1.4,4\n"))
        assert table["params"][0] == 70e6 and table["tokens"][0] == 1.4e9
        assert table["loss"][0] == pytest.approx(4 * np.log(2), rel=1e-15)
        assert table.notes["tokens"] == "1e+09 x 'tokens (B)'"


class TestMarks:
    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (-0.3, "loss is -0.3; a loss must be positive"),
            (0, "loss is 0;"),
            (np.inf, "inf"),
            (np.nan, "missing or NaN"),
        ],
    )
    def test_bad_losses(self, value, says):
        table = load(pd.DataFrame({"N": [1e6, 1e7], "loss": [3.0, value]}))
        assert table["problem"][0] == "" and says in table["problem"][1]

    @pytest.mark.parametrize("name", ["params", "tokens", "flops"])
    def test_bad_scales_are_marked_and_not_derived_from(self, name):
        data = {"params": [1e6, 1e6], "tokens": [1e9, 1e9], "loss": [3.0, 3.0]}
        data.setdefault(name, [6e15, 6e15])
        data[name][1] = -1.0
        table = load(pd.DataFrame(data))
        assert table["problem"][0] == "" and f"{name} is -1" in table["problem"][1]
        assert table[name][1] == -1.0
        if name != "flops":
            assert np.isnan(table["flops"][1])

    def test_an_absent_column_is_no_problem_and_an_empty_one_is(self):
        assert (load(pd.DataFrame({"N": [1.0], "loss": [2.0]}))["problem"] == "").all()
        table = load(pd.DataFrame({"N": [1.0, 2.0], "loss": [np.nan, np.nan]}))
        assert table.good.ids == []


class TestDerivations:
    def test_each_from_the_other_two(self):
        n, d = np.array([1e6, 3e9]), np.array([2e9, 7e10])
        for given_columns, missing in (
            ({"N": n, "D": d}, "flops"),
            ({"N": n, "C": 6 * n * d}, "tokens"),
            ({"D": d, "C": 6 * n * d}, "params"),
        ):
            table = load(pd.DataFrame(given_columns))
            truth = {"params": n, "tokens": d, "flops": 6 * n * d}[missing]
            np.testing.assert_allclose(table[missing], truth, rtol=1e-14)
            assert table.notes[missing].startswith("derived: ")
            np.testing.assert_allclose(table["tokens_per_param"], d / n, rtol=1e-14)

    def test_only_in_the_rows_that_lack_it(self):
        table = load(pd.DataFrame({"N": [1e6, 1e6], "D": [1e9, np.nan], "C": [1.0, 6e15]}))
        assert table["flops"].tolist() == [1.0, 6e15] and table["tokens"].tolist() == [1e9, 1e9]
        assert table.notes["tokens"] == "from 'D'; derived in 1 of 2 rows: flops / (6 params)"

    def test_tokens_from_steps_and_batch(self):
        table = load(pd.DataFrame({"run": ["a"], "n_steps": [1000], "batch_tokens": [2048], "params": [10]}))
        assert table["tokens"][0] == 2_048_000 and table["flops"][0] == 6 * 10 * 2_048_000

    def test_flops_counted_otherwise_are_kept_and_told(self):
        table = load(pd.DataFrame({"N": [1e6] * 3, "D": [1e9] * 3, "C": [9e15] * 3}))
        assert table["flops"].tolist() == [9e15] * 3
        assert "1.5 x 6 params tokens" in table.messages[0]


class TestIds:
    def test_rows_without_an_id_sort_in_order(self, tmp_path):
        rows = "".join(f"{i + 1},2\n" for i in range(12))
        assert load(csv(tmp_path, "points.csv", "N,loss\n" + rows)).ids == [f"points:{i:02d}" for i in range(12)]
        assert load(csv(tmp_path, "one.csv", "N,loss\n1,2\n")).ids == ["one"]
        assert load(pd.DataFrame({"N": [1, 2]})).ids == ["run:0", "run:1"]
        assert RunTable.from_frame(pd.DataFrame({"N": [1]}), name="mine").ids == ["mine:0"]

    @pytest.mark.parametrize("header", ["run", "Run ID", "id", "name", "run_name", "Experiment"])
    def test_id_columns(self, header):
        assert load(pd.DataFrame({"loss": [1.0, 2.0], header: ["x", "y"]})).ids == ["x", "y"]

    def test_a_unique_id_is_preferred_and_an_index_of_names_is_one(self):
        frame = pd.DataFrame({"name": ["gpt", "gpt"], "id": [11, 12], "loss": [2.0, 3.0]})
        assert load(frame).ids == ["11", "12"]
        assert load(pd.DataFrame({"loss": [2.0, 3.0]}, index=["x", "y"])).ids == ["x", "y"]

    def test_duplicates_are_renamed_and_repeats_marked(self):
        frame = pd.DataFrame({"run": ["a", "a", "a", "a#2", "b"], "loss": [2.0, 3.0, 2.0, 5.0, np.nan]})
        table = load(frame)
        assert table.ids == ["a", "a#3", "a#4", "a#2", "b"]
        assert table["problem"][2] == "the same row as 'a'" and table["problem"][1] == ""
        assert "2 rows repeat the id of another run" in table.messages[0]

    @given(st.lists(st.sampled_from(["a", "b", "a#2", "", "#"]), min_size=1, max_size=8))
    @settings(max_examples=60, deadline=None)
    def test_ids_are_always_unique_and_rows_never_lost(self, runs):
        table = load(pd.DataFrame({"run": runs, "loss": np.arange(1.0, len(runs) + 1)}))
        assert len(set(table.ids)) == len(runs)
        assert table["loss"].tolist() == list(range(1, len(runs) + 1))


class TestCheckpoints:
    def test_a_file_of_steps_is_one_run(self, tmp_path):
        text = "step,lr,tokens,loss\n" + "".join(f"{s},{0.3 / s},{s * 100},{4 - s / 10}\n" for s in (1, 2, 3, 4))
        table = load(csv(tmp_path, "cosine.csv", text))
        assert table.ids == ["cosine"] and "step" not in table
        assert (table["steps"][0], table["loss"][0], table["tokens"][0], table["lr"][0]) == (4, 3.6, 400, 0.3)
        assert table.curves["cosine"]["loss"].tolist() == [3.9, 3.8, 3.7, 3.6]

    @pytest.mark.parametrize(
        "text",
        [
            "step,params,loss\n1,10,4\n2,20,3\n3,30,2\n",  # a setting varies
            "step,loss\n1,4\n2,3\n",  # too short to tell
            "step,loss\n100,4\n100,3\n100,2\n",  # all at the same step
            "step,loss\n3,4\n2,3\n1,2\n",  # steps fall
        ],
    )
    def test_rows_that_are_runs_stay_rows(self, tmp_path, text):
        table = load(csv(tmp_path, "t.csv", text))
        assert len(table) == text.count("\n") - 1 and len(table.curves) == 0

    def test_an_id_that_repeats_with_steps_is_a_run_with_its_curve(self):
        frame = pd.DataFrame(
            {
                "run": ["b", "a", "b", "a", "b"],
                "step": [1, 1, 2, 2, 3],
                "loss": [5.0, 4.0, 4.5, 3.0, np.nan],
                "eval": [np.nan, 1.0, 2.0, np.nan, 3.0],
            }
        )
        table = load(frame)
        assert table.ids == ["b", "a"] and table["steps"].tolist() == [3, 2]
        assert table["loss"].tolist() == [4.5, 3.0] and table["eval"].tolist() == [3.0, 1.0]
        assert table.curves["a"]["step"].tolist() == [1, 2] and table.curves["a"]["loss"].tolist() == [4.0, 3.0]

    def test_a_restart_from_a_checkpoint_keeps_the_later_value(self):
        frame = pd.DataFrame({"run": ["a"] * 5, "step": [1, 2, 3, 2, 3], "loss": [5.0, 4.0, 9.0, 3.5, 3.0]})
        table = load(frame)
        assert table["loss"][0] == 3.0
        assert table.curves["a"].to_dict("list") == {"step": [1.0, 2.0, 3.0], "loss": [5.0, 3.5, 3.0]}


class TestSources:
    def test_folder_glob_list_and_mixture(self, tmp_path):
        a = csv(tmp_path, "x/a.csv", "N,loss\n1,2\n")
        b = csv(tmp_path, "y/b.json", '{"N": 2, "loss": 3}')
        csv(tmp_path, "y/.hidden.csv", "N,loss\n9,9\n")
        csv(tmp_path, "README", "some, words,\nabout it\n")
        table = load(tmp_path)
        assert table.ids == ["a", "b"] and table["params"].tolist() == [1, 2]
        assert "1 files that no reader knows were skipped: README" in table.messages
        assert load(str(tmp_path / "*" / "*.csv")).ids == ["a"]
        mixed = load([b, str(a), pd.DataFrame({"N": [5], "loss": [1.0]}), table.where("run == 'a'")])
        assert mixed.ids == ["b", "a", "run:0", "a#2"]
        assert mixed["problem"].tolist() == ["", "", "", "the same row as 'a'"]

    def test_equal_stems_get_their_folders(self, tmp_path):
        for folder in ("small", "large"):
            csv(tmp_path, f"{folder}/run.csv", "N,loss\n1,2\n")
        assert load(tmp_path).ids == ["large/run", "small/run"]

    def test_a_table_passes_through(self):
        table = load(pd.DataFrame({"N": [1, 2], "loss": [2.0, 3.0]}))
        assert load(table) is table
        assert load(table, columns={"size": "params"})["size"].tolist() == [1, 2]
        assert workbench.load is load

    def test_one_bad_run_among_many_is_one_marked_row(self, tmp_path):
        for i in range(20):
            csv(tmp_path, f"r{i:02d}.json", f'{{"params": {i + 1}e6, "loss": 3}}')
        csv(tmp_path, "r07.json", '{"params": 8e6, "lo')
        (tmp_path / "r21.json").write_bytes(b"")
        csv(tmp_path, "r22.csv", "N,Model Size,loss\n1,2,3\n")
        table = load(tmp_path)
        assert len(table) == 22 and len(table.good) == 19
        bad = table.where("problem != ''")
        assert bad.ids == ["r07", "r21", "r22"]
        assert "both look like params" in bad["problem"][2]

    def test_links_in_a_circle_end(self, tmp_path):
        csv(tmp_path, "a.csv", "N,loss\n1,2\n")
        (tmp_path / "loop").symlink_to(tmp_path)
        assert load(tmp_path).ids == ["a"]


class TestWrongInput:
    def test_paths(self, tmp_path):
        csv(tmp_path, "points.csv", "N,loss\n1,2\n")
        with pytest.raises(FileNotFoundError, match=r"did you mean 'points\.csv'"):
            load(tmp_path / "point.csv")
        with pytest.raises(FileNotFoundError, match="no file matches"):
            load(str(tmp_path / "*.tsv"))
        with pytest.raises(FileNotFoundError, match="download it first"):
            load("https://example.org/a.csv")
        with pytest.raises(FileNotFoundError):
            load("a\x00b")
        with pytest.raises(FileNotFoundError):
            load("x" * 10_000)
        (tmp_path / "empty").mkdir()
        with pytest.raises(LoadError, match="no run logs"):
            load(tmp_path / "empty")

    @pytest.mark.parametrize("source", [None, 3, 2.5, b"bytes", {"N": [1]}])
    def test_types(self, source):
        with pytest.raises(TypeError, match="cannot load a"):
            load(source)
        with pytest.raises(TypeError, match="takes a pandas DataFrame"):
            RunTable.from_frame(source)

    def test_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="nothing to load"):
            load([])
        for empty in (
            load(pd.DataFrame()),
            load(pd.DataFrame({"N": [], "loss": []})),
            load(csv(tmp_path, "t.csv", "N,loss\n")),
        ):
            assert len(empty) == 0 and len(empty.good) == 0
            assert any("no rows" in m for m in empty.messages)
            assert "no runs" in repr(empty) and "no runs" in empty._repr_html_()
            assert load(empty.to_csv(tmp_path / "again.csv")).ids == []

    def test_headers_that_are_not_there(self, tmp_path):
        path = csv(tmp_path, "t.csv", "Model Size,loss\n1,2\n")
        with pytest.raises(ValueError, match="did you mean 'Model Size'"):
            load(path, columns={"params": "ModelSize"})
        # a list of logs of which one lacks the header is fine
        other = csv(tmp_path, "u.csv", "N,loss\n5,2\n")
        assert load([path, other], columns={"params": "Model Size"})["params"].tolist() == [1, 5]

    def test_two_identical_runs_and_one_run(self):
        same = load(pd.DataFrame({"run": ["a", "a"], "N": [1, 1], "loss": [2.0, 2.0]}))
        assert same.good.ids == ["a"]
        assert len(load(pd.DataFrame({"N": [1], "loss": [2.0]})).good) == 1


@given(
    st.lists(
        st.tuples(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.floats(1e-5, 1e5)), min_size=1, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_values_survive_load_and_csv(tmp_path_factory, rows):
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    table = load(frame)
    again = load(table.to_csv(tmp_path_factory.mktemp("csv") / "t.csv"))
    pd.testing.assert_frame_equal(again.frame, table.frame, check_exact=True)
    assert table["params"].tolist() == frame["params"].tolist()
