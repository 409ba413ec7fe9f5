"""The shipped sweep on real text: every id recomputed, horizons nested in their trunks, seeds close, the plan kept."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench import shipped
from workbench.fits.card import QUESTIONS
from workbench.probes import Probe
from workbench.probes.fork import branch_point
from workbench.probes.optimizers.schedules import multipliers
from workbench.probes.tasks.bigram import BigramLanguage
from workbench.probes.trainer import train

FOLDER = shipped.sweep("language_model")
VARIED = ["width", "depth", "heads", "batch_tokens", "tokens", "parametrization", "schedule", "warmup", "lr", "seed"]
VARIED += ["evals", "eval_spacing"]


def script(name: str):
    """A script of the data folder as a module."""
    spec = importlib.util.spec_from_file_location(f"language_model_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def about() -> dict:
    return json.loads((FOLDER / "sweep.json").read_text())


@pytest.fixture(scope="module")
def runs():
    return workbench.load(FOLDER)


@pytest.fixture(scope="module")
def final(runs) -> pd.DataFrame:
    return runs.frame[runs.frame["stage"] == "final"]


@pytest.fixture(scope="module")
def tuning() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "tuning.csv")


@pytest.fixture(scope="module")
def probes(runs, about) -> dict[str, Probe]:
    return {row["run"]: probe(row, about) for row in runs.frame.to_dict("records")}


def probe(row: dict, about: dict) -> Probe:
    kinds = {"lr": float, "warmup": float, "parametrization": str, "schedule": str, "eval_spacing": str}
    return Probe.from_dict(
        about["shared"][row["language"]] | {name: kinds.get(name, int)(row[name]) for name in VARIED}
    )


def test_every_id_is_the_hash_of_what_was_trained(runs, probes, tuning, about):
    assert {run: p.id for run, p in probes.items()} == {run: run for run in runs.ids}
    assert [probe(row, about).id for row in tuning.to_dict("records")] == tuning["run"].tolist()


def test_the_script_plans_exactly_these_horizons_and_rates(final, tuning):
    plan = script("plan")
    known = tuning.rename(columns={"run": "id"}).set_index("id", drop=False).to_dict("index")
    for language, size in [("text", size) for size in range(10)] + [("known", size) for size in range(7)]:
        width, depth, _ = plan.SIZES[size]
        own = final[(final["language"] == language) & (final["width"] == width) & (final["depth"] == depth)]
        base = plan.base(language, size)
        lr, levels = float(own["lr"].iloc[0]), sorted(own["level"].unique())
        assert set(own["run"]) == {plan.final(base, lr, int(lv), seed).id for lv in levels for seed in plan.seeds(size)}
        # as an interrupted sweep would: its own reading of the tuning runs gives the same learning rate again
        assert plan.rate(language, size, known) == lr
        for p in plan.PARAMETRIZATIONS:
            tried = tuning[(tuning["width"] == width) & (tuning["depth"] == depth) & (tuning["language"] == language)]
            tried = tried[tried["parametrization"] == p]
            assert len(tried) >= 4 and set(tried["run"]) == {t.id for t in plan.tuning(base, size, p)}


def test_sizes_and_compute_are_those_of_the_specification(runs, tuning):
    text = [runs.frame[runs.frame["language"] == "text"], tuning[tuning["language"] == "text"]]
    for row in pd.concat(text).itertuples():
        d, v, t = row.width, 256, 256
        # queries, keys, values, output: 4 d^2; feed-forward 2 x 4 d^2; two vocabulary matrices, positions
        assert row.params_non_embedding == 12 * row.depth * d * d
        assert row.params == row.params_non_embedding + 2 * v * d + t * d
        assert row.flops == pytest.approx(6 * row.params * row.tokens, rel=1e-12)
        assert row.steps * row.batch_tokens == row.tokens


def test_the_sweep_is_complete(final, tuning, runs):
    assert len(runs) == len(runs.good)
    text = final[final["language"] == "text"]
    cells = text.groupby("params_non_embedding")
    levels = cells["level"].agg(set)
    assert len(levels) == 10 and (levels.iloc[:-1] == set(range(6))).all()
    assert levels.iloc[-1] == {1, 2, 3, 4, 5}, "the longest horizon of the largest size is not trained"
    known = final[final["language"] == "known"].groupby("params_non_embedding")["level"].agg(set)
    assert len(known) == 7 and (known == set(range(6))).all()
    assert (cells["seed"].nunique() == 3).sum() == 4 and set(cells["seed"].nunique()) == {1, 3}
    assert not text.duplicated(["params", "tokens", "seed"]).any()
    ratio = text["tokens"] / text["params_non_embedding"]
    assert ratio.min() < 3.3 and (ratio[text["level"] == 0] > 100).all()
    studies = runs.frame[runs.frame["stage"] == "schedule"]
    assert (studies.groupby("params")["schedule"].agg(set) == {"constant", "cosine", "wsd"}).all()
    assert studies["params"].nunique() == 3
    batch = runs.frame[runs.frame["stage"] == "batch"].groupby("params")["batch_tokens"].nunique()
    assert batch.to_list() == [4, 4, 4]
    assert set(tuning["seed"]).isdisjoint(runs["seed"]) and (tuning["status"] == "finished").all()


def test_horizons_of_a_size_and_seed_are_nested_in_their_trunk(final, runs, probes):
    for trunk, group in final.groupby("trunk"):
        assert group["seed"].nunique() == group["params"].nunique() == group["lr"].nunique() == 1
        longest = group["level"].min()
        (whole,) = group[group["level"] == longest].to_dict("records")
        assert whole["run"] == trunk and whole["flops_spent"] == whole["flops"]
        # bit for bit the same run up to the step where the branch's own decay begins
        ours = runs.curves[trunk].set_index("step")["loss"]
        for row in group[group["level"] > longest].to_dict("records"):
            leaves = branch_point(probes[trunk], probes[row["run"]])
            theirs = runs.curves[row["run"]].set_index("step")["loss"]
            shared = [step for step in theirs.index if step in ours.index and step <= leaves]
            assert len(shared) > 10 and theirs[shared].equals(ours[shared])
            assert row["flops_spent"] == pytest.approx(row["flops"] * (1 - leaves / row["steps"]), rel=1e-9)
            # decay is the last fifth of a horizon, to the step
            assert leaves == pytest.approx(0.8 * row["steps"], abs=2)


def test_losses_on_the_known_language_lie_above_its_entropy_and_approach_it(final, about):
    known = final[final["language"] == "known"]
    shared = about["shared"]["known"]
    language = BigramLanguage(shared["vocab"], shared["tau"], shared["s"], 0)
    assert about["attributes"]["known_language"]["entropy"] == pytest.approx(language.entropy, abs=1e-9)
    excess = known["loss"] - language.entropy
    assert (excess > 0).all()
    best = known.assign(excess=excess)[known["level"] == 0].groupby("params_non_embedding")["excess"].mean()
    assert best.is_monotonic_decreasing and best.iloc[-1] < 0.005


def test_longer_training_and_more_layers_lower_the_loss(final):
    text = final[final["language"] == "text"]
    for _, group in text.groupby("trunk"):
        assert group.sort_values("tokens")["loss"].is_monotonic_decreasing
    # width 256 with two and with four layers, same bytes, same seeds, once both have fallen
    two, four = (text[(text["width"] == 256) & (text["depth"] == d)] for d in (2, 4))
    both = two.merge(four, on=["tokens", "seed"])
    both = both[both["tokens"] >= 4e7]
    assert len(both) == 9 and (both["loss_y"] < both["loss_x"]).all()


def test_seeds_agree_once_trained_and_differ_while_the_loss_falls(final):
    cells = final[final["language"] == "text"].groupby(["params", "level"])
    spread = (cells["loss"].std() / cells["loss"].mean()).dropna()
    steps = cells["steps"].first()[spread.index]
    large = spread.index.get_level_values("params") > 1e6
    assert (spread > 0).all() and spread[large & (steps >= 2000)].max() < 0.005
    assert spread[steps < 2000].max() > 0.02


def test_curves_start_untrained_end_with_the_run_and_follow_the_schedule(runs, probes):
    assert set(runs.curves) == set(runs.ids)
    for row in runs.frame.to_dict("records"):
        curve = runs.curves[row["run"]]
        assert curve["loss"].iloc[-1] == row["loss"] and curve["tokens"].iloc[-1] == row["tokens"]
        assert (np.diff(curve["step"]) > 0).all()
        # the output layer starts at zero: every byte is as likely as every other
        if row["language"] == "text":
            assert curve["loss"].iloc[0] == pytest.approx(np.log(256), abs=1e-4)
        later = curve[curve["step"] > 0]
        expected = row["lr"] * multipliers(probes[row["run"]])[later["step"].to_numpy(int) - 1]
        np.testing.assert_allclose(later["lr"], expected, rtol=1e-6, atol=1e-12)


def test_at_the_base_width_both_parametrizations_are_one(tuning):
    # muP's factors are ratios of the width to the base width, 64: there they are 1
    narrow = tuning[(tuning["width"] == 64) & (tuning["language"] == "text")]
    pairs = narrow.pivot(index=["depth", "lr"], columns="parametrization", values="loss")
    assert len(pairs) == 16 and (pairs["mup"] == pairs["standard"]).all()


def test_cost_and_text_are_stated(runs, about):
    assert not [key for key in QUESTIONS if not runs.attributes.get(key)]
    assert about["flops_spent"] < about["flops"]
    spent = runs["flops_spent"].sum() + pd.read_csv(FOLDER / "tuning.csv")["flops"].sum()
    assert about["flops_spent"] == pytest.approx(spent, rel=1e-3)
    for piece in about["sessions"]:
        watts = piece["energy"]["joules"] / piece["seconds"] / len(piece["gpus"])
        assert 75 < watts < 700, "between an idle H200 and its limit"
    text = about["text"]
    assert about["shared"]["text"]["checksum"] == text["text_sha256"][:16] == script("plan").TEXT
    reads = runs.frame[runs.frame["language"] == "text"]
    np.testing.assert_allclose(reads["epochs"], reads["tokens"] / text["train"]["bytes"], rtol=1e-3)


@pytest.mark.long
def test_a_sweep_cut_short_goes_on_and_every_horizon_is_the_run_of_its_specification(tmp_path, monkeypatch):
    make = script("make")
    plan = sys.modules["plan"]
    whole = plan.base
    for name, value in {
        "base": lambda *of: whole(*of).replace(vocab=64, context=32, precision="fp32"),
        "SIZES": ((64, 1, 512), (64, 2, 1024), (64, 3, 1024)), "RATES": (1e-3, 4e-3, 1.6e-2),
        "LONGEST": 1, "HORIZONS": 3, "SEVERAL_SEEDS": (1,),
    }.items():  # fmt: skip
        monkeypatch.setattr(plan, name, value)
    for name in ("base", "SIZES", "HORIZONS"):
        monkeypatch.setattr(make, name, getattr(plan, name))
    options = argparse.Namespace(out=tmp_path, device="cpu", only=["known-*"], anew=True)
    asked, calls = [], 0

    class Hurried(make.Worker):
        def out_of_time(self):  # cut short between two steps of some run, later at every call
            asked.append(0)
            return len(asked) > 30 * calls

    while calls < 20 and len(asked) >= 30 * calls:
        asked.clear()
        calls += 1
        Hurried(options, 0, 0.0).run()
    assert calls > 2, "it was cut short more than once"
    runs = make.finished(tmp_path)
    wanted = [p for job in plan.jobs() if job.language == "known" for stack in plan.stacks(job, runs) for p in stack]
    assert set(runs) == {p.id for p in wanted} and len(wanted) == 18 + 3 + 9 + 3
    branches = [p for p in wanted if runs[p.id].get("level")]
    assert len(branches) == 2 + 6 + 2
    for probe in branches[::4]:
        alone = train([probe], "cpu")[0]
        assert runs[probe.id]["loss"] == alone.loss and runs[probe.id]["stage"] == "final"
    assert not list(tmp_path.glob("*.claim"))


def test_what_is_shipped_is_not_trained_again(tmp_path, monkeypatch):
    make = script("make")
    trained = []
    monkeypatch.setattr(make.Worker, "stack", lambda self, probes, job, known: trained.append((job, probes)))
    options = argparse.Namespace(out=tmp_path, device="cpu", only=["text-*"], anew=False)
    monkeypatch.setattr(make.Worker, "out_of_time", lambda self: bool(trained))
    make.Worker(options, 0, 0.0).run()
    assert [(job.name, [p.tokens // p.params_non_embedding for p in probes]) for job, probes in trained] == [
        ("text-9-final", [104])
    ]


def test_packing_takes_pieces_torn_lines_and_repeats(tmp_path):
    pack = script("pack")
    lines = ['{"id": "a"}\n', '{"id": "b"}\n', '{"id": "c"']
    (tmp_path / "runs-0.jsonl").write_text("".join(lines))
    (tmp_path / "runs-1.jsonl").write_text(lines[1])
    assert [run["id"] for run in pack.read(tmp_path)] == ["a", "b", "b"]
    with pytest.raises(SystemExit, match=r"holds no runs-\*"):
        next(pack.read(tmp_path / "nothing"))


def test_packing_adds_runs_and_leaves_the_others_as_they_are(tmp_path, runs, probes, about):
    pack = script("pack")
    for name in pack.PACKED:
        shutil.copy(FOLDER / name, tmp_path)
    # take the longest run of one size out, with what it cost, and hand it in as the sweep would write it
    table, curves = pd.read_csv(FOLDER / "runs.csv"), pd.read_parquet(FOLDER / "curves.parquet")
    row = table[(table["level"] == 0) & (table["run"] == table["trunk"])].iloc[0].to_dict()
    name, curve = row["run"], curves[curves["run"] == row["run"]].drop(columns="run")
    table[table["run"] != name].to_csv(tmp_path / "runs.csv", index=False)
    curves[curves["run"] != name].to_parquet(tmp_path / "curves.parquet")
    (tmp_path / "sweep.json").write_text(json.dumps(about | {"sessions": about["sessions"][:-1]}))
    piece = tmp_path / "piece"
    piece.mkdir()
    same = ("params", "params_non_embedding", "flops", "loss", "train_loss", "steps", "seconds", "language", "stage")
    how = {"stacked": row["stacked"], "epochs": row["epochs"]}
    run = {key: row[key] for key in same} | {"id": name, "level": 0, "status": "finished", "wall": row["wall_seconds"]}
    run |= {"probe": probes[name].to_dict(), "curve": curve.to_dict("list"), "how": how}
    (piece / "runs-0.jsonl").write_text((json.dumps(run) + "\n") * 2)
    (piece / "provenance-1.json").write_text(json.dumps(about["sessions"][-1]))
    pack.main([piece], tmp_path)
    for name in (*pack.PACKED, "SHA256SUMS"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_energy_is_the_mean_power_of_all_gpus_over_the_time(tmp_path):
    make = script("make")
    piece = make.Piece(argparse.Namespace(out=tmp_path), ["one", "two"])
    assert piece.energy(10.0) is None
    piece.power.write_text("100.0 W\n300.0 W\n" * 5 + "12")  # the last line is torn
    told = piece.energy(10.0)
    assert told["mean_watts_a_gpu"] == 200 and told["joules"] == 4000  # 200 W x 2 GPUs x 10 s
