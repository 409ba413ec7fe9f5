"""One strict JSON object out, with the numbers an independent computation gives."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from tests.cli.conftest import SHARED, TRUTH, law, process, runs_frame, shared, strict, summed_huber


def test_load_as_json_holds_the_files_numbers(good: Path):
    done = process("load", good, "--json")
    assert done.returncode == 0, done.stderr
    loaded = strict(done.stdout)
    frame = runs_frame()
    assert loaded["n_runs"] == len(loaded["runs"]) == len(frame)
    for name in frame:
        assert [row[name] for row in loaded["runs"]] == pytest.approx(list(frame[name]), rel=1e-12)
    assert loaded["runs"][0]["flops"] == pytest.approx(6 * frame["params"][0] * frame["tokens"][0])
    assert loaded["units"]["loss"] == "nats/token" and loaded["notes"]["flops"].startswith("derived")
    assert all(row["problem"] == "" and row["points"] == 0 for row in loaded["runs"])


def test_load_as_json_of_values_json_lacks(tmp_path: Path, run):
    path = tmp_path / "odd.csv"
    path.write_text("run,params,loss,id,points,kind\na,1e8,nan,7,3,x\nb,inf,3.1,8,4,\néc,2e8,2.9,9,5,y\n")
    loaded = strict(run("load", path, "--json")[1])
    a, b, c = loaded["runs"]
    assert a["loss"] is None and a["problem"] and b["params"] is None and b["kind"] is None
    assert c == {"id": "éc", "problem": "", "format": "CSV", "params": 2e8, "loss": 2.9, "id_logged": 9,
                 "points_logged": 5, "kind": "y", "points": 0, "skipped": {}}  # fmt: skip
    assert loaded["unreadable"] == []


def test_load_as_json_counts_the_points_of_curves(tmp_path: Path, run):
    lines = [
        {"run": name, "step": step, "loss": 4 - 0.1 * step} for name, n in (("a", 5), ("b", 3)) for step in range(n)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    loaded = strict(run("load", tmp_path / "log.jsonl", "--json")[1])
    assert {row["id"]: row["points"] for row in loaded["runs"]} == {"a": 5, "b": 3}


def test_fit_as_json_is_the_optimum(good: Path):
    done = process("fit", good, "--law", "chinchilla", "--fix", "E=1.8", "--bootstrap", "50", "--json")
    assert done.returncode == 0, done.stderr
    fitted = strict(done.stdout)
    frame = runs_frame()
    assert fitted["law"] == "chinchilla" and fitted["n_runs"] == len(frame)
    estimate = {s: p["estimate"] for s, p in fitted["parameters"].items()}
    assert set(estimate) == set(TRUTH) and estimate["E"] == 1.8
    assert fitted["objective_value"] == pytest.approx(summed_huber(estimate, frame), rel=1e-9)
    # nothing better close by, by another optimizer
    free = ("A", "B", "alpha", "beta")
    found = minimize(
        lambda z: 1e4 * summed_huber({"E": 1.8, **dict(zip(free, np.exp(z), strict=True))}, frame),
        np.log([estimate[s] for s in free]) + 1e-3, method="Nelder-Mead",
        options={"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-12},
    )  # fmt: skip
    assert fitted["objective_value"] <= found.fun / 1e4 * (1 + 1e-9)
    for symbol in free:
        p = fitted["parameters"][symbol]
        assert p["low"] < p["estimate"] < p["high"] and p["low"] < TRUTH[symbol] < p["high"]
    assert fitted["interval"]["n"] == 50 and fitted["diagnostics"]["converged"] is True


@shared
def test_fit_with_a_pinned_floor_on_the_published_points(run):
    status, out, _ = run(
        "fit", SHARED, "--law", "chinchilla", "--fix", "E=1.69", "--where", "loss < 3.3", "--bootstrap", 50, "--json"
    )
    assert status == 0
    fitted = strict(out)
    raw = pd.read_csv(SHARED)
    frame = pd.DataFrame({"params": raw["Model Size"], "loss": raw["loss"]})
    frame["tokens"] = raw["Training FLOP"] / (6 * raw["Model Size"])
    frame = frame[frame["loss"] < 3.3]
    assert fitted["n_runs"] == len(frame)
    estimate = {s: p["estimate"] for s, p in fitted["parameters"].items()}
    assert estimate["E"] == fitted["parameters"]["E"]["low"] == fitted["parameters"]["E"]["high"] == 1.69
    assert fitted["objective_value"] == pytest.approx(summed_huber(estimate, frame), rel=1e-9)


def test_compare_as_json_scores_what_was_held_out(good: Path):
    edge = 1e21
    done = process(
        "compare",
        good,
        "--laws",
        "chinchilla,power_constant",
        "--holdout",
        f"flops > {edge}",
        "--bootstrap",
        50,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    compared = strict(done.stdout)
    frame = runs_frame()
    flops = 6 * frame["params"] * frame["tokens"]
    out = frame[flops > edge]
    assert compared["n_held_out"] == len(out) > 2 and compared["n_runs"] == len(frame) - len(out)
    by_name = {row["law"]: row for row in compared["laws"]}
    predicted = {
        "chinchilla": law(by_name["chinchilla"]["params"], out["params"], out["tokens"]),
        "power_constant": _power_constant(by_name["power_constant"]["params"], flops[flops > edge]),
    }
    for name, values in predicted.items():
        assert by_name[name]["heldout_error"] == pytest.approx((values / out["loss"] - 1).abs().mean(), rel=1e-9)
        assert by_name[name]["heldout_bias"] == pytest.approx((values / out["loss"] - 1).mean(), rel=1e-9)
    assert compared["laws"][0]["law"] == "chinchilla", "the runs were drawn from it"
    assert compared["ranked_by"] == "heldout_error"


def _power_constant(p: dict[str, float], x):
    floor, size, exponent = p.values()
    return floor + size * x**-exponent


def test_compare_without_a_holdout(good: Path, run):
    status, out, _ = run("compare", good, "--laws", "chinchilla, constant", "--json")
    compared = strict(out)
    assert status == 0 and compared["holdout"] is None and compared["n_held_out"] == 0
    assert [row["heldout_error"] for row in compared["laws"]] == [None, None]


def test_laws_as_json():
    done = process("laws", "--json")
    assert done.returncode == 0 and done.stderr == ""
    laws = {law["name"]: law for law in strict(done.stdout)["laws"]}
    # the first family the project promises
    family = {"power", "power_constant", "chinchilla", "chinchilla_tied", "over_training", "kaplan", "exponential"}
    assert family | {"constant"} <= set(laws)
    assert [p["symbol"] for p in laws["chinchilla"]["parameters"]] == ["E", "A", "B", "alpha", "beta"]
    assert [i["quantity"] for i in laws["chinchilla"]["inputs"]] == ["params", "tokens"]
    assert all(law["formula"] and law["reference"] for law in laws.values())


def test_text_for_people_says_the_same_as_the_json(good: Path, run):
    argv = ("fit", good, "--law", "chinchilla", "--bootstrap", 30, "--flops", "1e22")
    fitted = strict(run(*argv, "--json")[1])
    status, out, err = run(*argv)
    assert status == 0 and "Bootstrap" in err and "Bootstrap" not in out
    alpha = next(line for line in out.splitlines() if line.startswith("alpha"))
    assert f"{fitted['parameters']['alpha']['estimate']:.5g}" in alpha
    best = fitted["plan"][0]
    assert best["flops"] == 1e22 and 6 * best["params"] * best["tokens"] == pytest.approx(1e22)
    # Hoffmann et al. 2022, eq. 4, with the fitted parameters
    p = {s: v["estimate"] for s, v in fitted["parameters"].items()}
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    assert best["params"] == pytest.approx(g * (1e22 / 6) ** (p["beta"] / (p["alpha"] + p["beta"])), rel=1e-4)


@pytest.mark.parametrize("method", ["profile", "jacobian"])
def test_other_intervals(good: Path, run, method):
    fitted = strict(run("fit", good, "--law", "chinchilla", "--method", method, "--json")[1])
    assert fitted["interval"]["method"] == method and fitted["interval"]["n"] is None
    assert all(p["low"] < p["estimate"] < p["high"] for p in fitted["parameters"].values())


def test_headers_can_be_named(tmp_path: Path, run):
    path = tmp_path / "named.csv"
    runs_frame().rename(columns={"params": "how big", "tokens": "how long"}).to_csv(path, index=False)
    named = ("--columns", "params=how big", "--columns", "tokens=how long")
    fitted = strict(run("fit", path, *named, "--law", "chinchilla", "--bootstrap", 20, "--json")[1])
    assert fitted["n_runs"] == 40


def test_every_subcommand_explains_itself(run):
    for command in ("demo", "load", "fit", "compare", "multiverse", "laws", "lab", "notebooks"):
        status, out, err = run(command, "--help")
        assert status == 0 and f"workbench {command}" in out and err == ""
    status, out, _ = run()
    assert status == 0 and "demo" in out


def test_lab_opens_the_first_notebook(run, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda program, argv: started.append((program, argv)))
    status, _, _ = run("lab", "--", "--no-browser")
    (program, argv) = started[0]
    assert status == 0 and program == sys.executable and argv[:3] == [sys.executable, "-m", "jupyterlab"]
    assert Path(argv[3]).name.startswith("01_") and Path(argv[3]).is_file() and argv[4:] == ["--no-browser"]


def test_the_commands_offer_every_kind_of_interval():
    from workbench.commands.fit import INTERVALS
    from workbench.fits.intervals import OFFERED

    assert INTERVALS == OFFERED


def test_fit_says_which_interval_it_took_and_why(good: Path, run):
    status, out, _ = run("fit", good, "--law", "power_constant", "--x", "flops")
    assert status == 0 and re.search(r"^95 % intervals: (profile|simulated|sandwich) \(.+\)$", out, re.MULTILINE)
