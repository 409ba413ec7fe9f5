"""One run under two names is found; replicates are left alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd

import workbench


def log(path, stream, n=20, **settings):
    noise = np.random.default_rng(stream)
    lines = [{"step": s, "loss": 4 - s / n + 1e-3 * noise.standard_normal(), **settings} for s in range(1, n + 1)]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_copied_log_is_one_run_and_seeds_are_not(tmp_path):
    for seed in range(4):
        log(tmp_path / f"seed{seed}.jsonl", seed, params=1e6)
    assert workbench.load(tmp_path).duplicates() == ()
    shutil.copy(tmp_path / "seed2.jsonl", tmp_path / "z_again.jsonl")
    runs = workbench.load(tmp_path)
    assert runs.duplicates() == (("seed2", "z_again"),)
    (said,) = [m for m in runs.messages if "more than one name" in m]
    assert "'seed2' = 'z_again'" in said
    assert runs.drop("z_again").duplicates() == ()


def test_equal_curves_under_other_settings_are_one_run(tmp_path):
    # the seed was written down but never used, or a log was renamed by hand
    log(tmp_path / "a.jsonl", 0, seed=1, note="first", time=1.0)
    log(tmp_path / "b.jsonl", 0, seed=2, note="second", time=7.0)
    log(tmp_path / "c.jsonl", 1, seed=3)
    assert workbench.load(tmp_path).duplicates() == (("a", "b"),)


def test_one_digit_of_one_point_makes_another_run(tmp_path):
    log(tmp_path / "a.jsonl", 0, seed=1)
    lines = (tmp_path / "a.jsonl").read_text().replace('"seed": 1', '"seed": 2').splitlines()
    record = json.loads(lines[4])
    record["loss"] = float(np.nextafter(record["loss"], 9))
    (tmp_path / "b.jsonl").write_text("\n".join([*lines[:4], json.dumps(record), *lines[5:], ""]))
    assert workbench.load(tmp_path).duplicates() == ()


def test_rows_without_curves_by_settings_and_final_metrics():
    frame = pd.DataFrame(
        {
            "run": ["a", "b", "c", "d", "e"],
            "params": [1e6, 1e6, 1e6, 2e6, 1e6],
            "tokens": [1e9, 1e9, 1e9, 1e9, 1e9],
            "optimizer": ["adam", "adam", "adam", "adam", "sgd"],
            "output_dir": ["x", "y", "z", "w", "v"],
            "loss": [3.25, 3.25, np.nextafter(3.25, 4), 3.25, 3.25],
        }
    )
    assert workbench.load(frame).duplicates() == (("a", "b"),)


def test_missing_values_are_equal_but_prove_nothing():
    frame = pd.DataFrame({"run": list("abcd"), "params": [1e6] * 4, "lr": [np.nan] * 4, "loss": [np.nan, np.nan, 3, 3]})
    assert workbench.load(frame).duplicates() == (("c", "d"),)


def test_constant_and_short_curves_prove_nothing():
    rows = [{"run": run, "step": s, "loss": 0.0, "lr": lr} for run, lr in (("a", 1), ("b", 2)) for s in range(9)]
    rows += [{"run": run, "step": s, "loss": 9.0 - s, "lr": lr} for run, lr in (("c", 1), ("d", 2)) for s in (1, 2)]
    assert workbench.load(pd.DataFrame(rows)).duplicates() == ()


def test_many_runs_and_every_group():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"params": rng.uniform(1e6, 1e9, 1000), "loss": rng.uniform(2, 4, 1000)})
    twice = pd.concat([frame, frame.iloc[::100]], ignore_index=True)
    groups = workbench.load(twice).duplicates()
    assert groups == tuple((f"run:{i:04d}", f"run:{1000 + i // 100:04d}") for i in range(0, 1000, 100))
    assert workbench.load(frame).duplicates() == ()
