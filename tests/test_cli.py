"""The command line: one strict JSON object out, one sentence for bad input, clean ends to Ctrl-C and closed pipes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from workbench.cli import main

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "runs" / "chinchilla" / "digitised_points.csv"
shared = pytest.mark.skipif(not SHARED.is_file(), reason=f"the public run logs are not at {SHARED}")
TRUTH = {"E": 1.8, "A": 450.0, "B": 1900.0, "alpha": 0.34, "beta": 0.36}


def law(p: dict[str, float], params, tokens):
    """Hoffmann et al. 2022, eq. 2, written out again."""
    return p["E"] + p["A"] / params ** p["alpha"] + p["B"] / tokens ** p["beta"]


def runs_frame(n: int = 40, noise: float = 0.004) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    params, tokens = (np.exp(rng.uniform(np.log(low), np.log(high), n)) for low, high in ((5e7, 1e10), (1e9, 3e11)))
    loss = law(TRUTH, params, tokens) * np.exp(noise * rng.standard_normal(n))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def summed_huber(p: dict[str, float], frame: pd.DataFrame, delta: float = 1e-3) -> float:
    r = np.abs(np.log(law(p, frame["params"], frame["tokens"])) - np.log(frame["loss"]))
    return float(np.where(r <= delta, r * r / 2, delta * (r - delta / 2)).sum())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.csv"
    runs_frame().to_csv(path, index=False)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture):
    """`main` in this process: exit status, standard output, standard error."""

    def call(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:  # argparse ends so
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def strict(text: str) -> dict:
    """The one JSON object that `text` is, in the sense of RFC 8259."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is no JSON")

    assert text.endswith("}\n") and text.count("\n") == 1
    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def process(*argv: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workbench", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, **options)


def sentence(status: int, out: str, err: str, progress: tuple[str, ...] = ()) -> str:
    """The complaint, after checking its form; `progress` names what may have been going on before."""
    assert status == 2 and out == "", (status, out, err)
    lines = [line for line in err.splitlines() if not line.startswith(progress)] if progress else err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("workbench: "), err
    said = lines[0].removeprefix("workbench: ")
    assert "Traceback" not in err and "Errno" not in said and 15 < len(said) < 700, said
    return said


# --- results -------------------------------------------------------------------------------------------------------


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
    assert c == {"id": "éc", "problem": "", "params": 2e8, "loss": 2.9, "id_logged": 9, "points_logged": 5,
                 "kind": "y", "points": 0}  # fmt: skip


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
    for command in ("demo", "load", "fit", "compare", "laws", "lab", "notebooks"):
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


# --- bad input -----------------------------------------------------------------------------------------------------

FIT, COMPARE = ("fit", "{}", "--law", "chinchilla"), ("compare", "{}", "--laws", "chinchilla,power")
LOAD = ("load", "{}")
HEAD = "params,tokens,loss\n"


def _rows(loss) -> str:
    return HEAD + "".join(f"{n}e8,{n}e9,{loss}\n" for n in range(1, 9))


FILES = {
    "empty.csv": "",
    "blank.csv": "\n\n  \n",
    "header.csv": HEAD,
    "one.csv": HEAD + "1e8,2e9,3\n",
    "twins.csv": HEAD + "1e8,2e9,3\n1e8,2e9,3\n",
    "nan.csv": _rows("nan"),
    "negative.csv": _rows("-2.5"),
    "words.csv": _rows("low"),
    "torn.jsonl": '{"params": 1e8, "tokens": 2e9, "loss": 3.1}\n{"params": 2e8, "tok',
    "halfway.json": '[{"params": 1e8, "tokens": 2e9, "loss": 3.1}, {"params": 2e',
    "rivals.csv": "n_params,num_params,tokens,loss\n1,2,3,4\n5,7,6,5\n",
}


def _put(folder: Path, name: str) -> Path:
    path = folder / name
    if name == "junk.bin":
        path.write_bytes(bytes(range(256)) * 4)
    elif name == "nothing":
        path.mkdir()
        (path / "notes.xyz").write_bytes(b"\x00\x01 not a log")
    elif name == "void":
        path.mkdir()
    elif name in FILES:
        path.write_text(FILES[name])
    return path


@pytest.mark.parametrize("command", [LOAD, FIT, COMPARE], ids=["load", "fit", "compare"])
@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("empty.csv", "empty"),
        ("blank.csv", "cannot read"),
        ("junk.bin", "no reader knows"),
        ("halfway.json", "cannot read"),
        ("rivals.csv", "both look like params"),
        ("nothing", "no run logs in"),
        ("void", "no run logs in"),
        ("missing.csv", "no file or folder"),
        ("no*.csv", "no file matches"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, run, command, name, fragment):
    path = _put(tmp_path, name)
    assert fragment in sentence(*run(*(path if a == "{}" else a for a in command)))


@pytest.mark.parametrize("command", [FIT, COMPARE], ids=["fit", "compare"])
@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("header.csv", "runs"),
        ("one.csv", "only 1 run"),
        ("twins.csv", "only 2 runs"),
        ("nan.csv", "no run is left"),
        ("negative.csv", "no run is left"),
        ("words.csv", "no run is left"),
        ("torn.jsonl", "only 1 run"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(tmp_path: Path, run, command, name, fragment):
    path = _put(tmp_path, name)
    said = sentence(*run(*(path if a == "{}" else a for a in command), "--json"), progress=("Comparing laws",))
    assert fragment in said


@pytest.mark.parametrize(
    "name", ["header.csv", "one.csv", "twins.csv", "nan.csv", "negative.csv", "words.csv", "torn.jsonl"]
)
def test_poor_files_still_load_and_say_what_is_wrong(tmp_path: Path, run, name):
    status, out, _ = run("load", _put(tmp_path, name), "--json")
    loaded = strict(out)
    assert status == 0 and loaded["n_runs"] == {"header.csv": 0, "one.csv": 1, "twins.csv": 2, "torn.jsonl": 1}.get(
        name, 8
    )
    if name in ("header.csv", "torn.jsonl"):
        assert any({"header.csv": "no rows", "torn.jsonl": "line 2"}[name] in m for m in loaded["messages"])
    elif loaded["n_runs"] == 8:
        assert all("loss is" in row["problem"] for row in loaded["runs"])
    status, out, err = run("load", _put(tmp_path, name) if not (tmp_path / name).exists() else tmp_path / name)
    assert status == 0 and "Traceback" not in out + err


def test_a_half_written_log_is_fitted_as_far_as_it_goes_and_says_so(tmp_path: Path, run):
    lines = [json.dumps(row) for row in runs_frame().to_dict(orient="records")]
    path = tmp_path / "live.jsonl"
    path.write_text("\n".join(lines)[:-12])
    status, out, err = run("fit", path, "--law", "chinchilla", "--bootstrap", 20, "--json")
    assert status == 0 and strict(out)["n_runs"] == len(lines) - 1
    assert "note: " in err and "line 40" in err


@pytest.mark.parametrize("arguments", [("load",), ("fit", "--law", "power"), ("compare", "--laws", "power")])
def test_a_file_without_permission(good: Path, run, arguments):
    good.chmod(0)
    try:
        if os.access(good, os.R_OK):
            pytest.skip("this user may read any file")
        said = sentence(*run(arguments[0], good, *arguments[1:]))
        assert "permission" in said.lower() and "good.csv" in said
    finally:
        good.chmod(0o644)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ("fit {} --law chinchila", "did you mean 'chinchilla'"),
        ("fit {} --law ''", "no law is called"),
        ("fit {}", "--law"),
        ("fit {} --law chinchilla --objective log-hubr", "did you mean 'log-huber'"),
        ("fit {} --law chinchilla --y lss", "did you mean 'loss'"),
        ("fit {} --law chinchilla --x flops", "laws of one input"),
        ("fit {} --law power --x flop", "did you mean 'flops'"),
        ("fit {} --law chinchilla --fix E", "--fix takes NAME=VALUE"),
        ("fit {} --law chinchilla --fix E=", "--fix takes NAME=VALUE"),
        ("fit {} --law chinchilla --fix =1", "--fix takes NAME=VALUE"),
        ("fit {} --law chinchilla --fix E=low", "give a number"),
        ("fit {} --law chinchilla --fix E=nan", "E is fixed at"),
        ("fit {} --law chinchilla --fix E=-1", "between 0"),
        ("fit {} --law chinchilla --fix F=1", "no parameter 'F'"),
        ("fit {} --law chinchilla --tie beta", "--tie takes NAME=VALUE"),
        ("fit {} --law chinchilla --tie beta=gamma", "no parameter 'gamma'"),
        ("fit {} --law chinchilla --columns params", "--columns takes NAME=VALUE"),
        ("fit {} --law chinchilla --columns params=Nope", "not in the log"),
        ("fit {} --law chinchilla --weights importance", "no column 'importance'"),
        ("fit {} --law chinchilla --cluster family", "no column 'family'"),
        ("fit {} --law chinchilla --method guess", "profile"),
        ("fit {} --law chinchilla --bootstrap 0", "at least 1"),
        ("fit {} --law chinchilla --bootstrap -5", "at least 1"),
        ("fit {} --law chinchilla --bootstrap many", "at least 1"),
        ("fit {} --law chinchilla --bootstrap 2.5", "at least 1"),
        ("fit {} --law chinchilla --method profile --bootstrap 0", "at least 1"),
        ("fit {} --law chinchilla --delta nan", "positive number"),
        ("fit {} --law chinchilla --delta 0", "positive number"),
        ("fit {} --law chinchilla --delta inf", "positive number"),
        ("fit {} --law chinchilla --delta small", "positive number"),
        ("fit {} --law chinchilla --seed -1", "whole number"),
        ("fit {} --law chinchilla --seed x", "whole number"),
        ("fit {} --law chinchilla --flops -1", "positive number"),
        ("fit {} --law chinchilla --flops lots", "positive number"),
        ("fit {} --law power --flops 1e22 --bootstrap 20", "trade-off"),
        ("fit {} --law chinchilla --where 'loss > 99'", "selects none"),
        ("fit {} --law chinchilla --where 'lss > 2'", "did you mean 'loss'"),
        ("fit {} --law chinchilla --where 'loss >'", "cannot evaluate"),
        ("fit {} --law chinchilla --where ''", "cannot evaluate"),
        ("fit {} --law chinchilla --where loss", "true or false"),
        ("fit {} --law chinchilla --where '@x > 2'", "neither @"),
        ("fit {} --law chinchilla --where '__import__(\"os\").getcwd() > 2'", "neither @"),
        ("fit {} --law chinchilla --where 'loss.__class__'", "neither @"),
        ("fit {} --law chinchilla --where 'open(\"x\")'", "cannot evaluate"),
        ("fit {} --law chinchilla --where 'loss = 2'", "== compares"),
        ("fit {} --law chinchilla --where 'loss > 2\n and params > 1'", "cannot evaluate"),
        ("fit {} --law chinchilla --nonsense", "--nonsense"),
        ("compare {} --laws chinchila,power", "did you mean 'chinchilla'"),
        ("compare {} --laws ,", "no laws"),
        ("compare {} --laws power,power", "named twice"),
        ("compare {}", "--laws"),
        ("compare {} --laws power --objective cubic", "choose one of"),
        ("compare {} --laws power --delta nan", "positive number"),
        ("compare {} --laws power --bootstrap 0", "at least 1"),
        ("compare {} --laws power --y accuracy", "no numeric column 'accuracy'"),
        ("compare {} --laws power --where 'loss > 99'", "selects none"),
        ("compare {} --laws power --holdout 'flops > 1e99'", "holds out none"),
        ("compare {} --laws power --holdout 'flops > 0'", "holds out all"),
        ("compare {} --laws power --holdout 'nonsense > 3'", "no column 'nonsense'"),
        ("compare {} --laws power --holdout 'flops >'", "cannot evaluate"),
        ("compare {} --laws power --holdout ''", "cannot evaluate"),
        ("compare {} --laws power --holdout '@x'", "neither @"),
        ("compare {} --laws power --holdout '__import__(\"os\")'", "neither @"),
        ("compare {} --laws power --holdout 1.5", "share such as 0.2"),
        ("compare {} --laws power --holdout nan", "share such as 0.2"),
        ("compare {} --laws power --columns loss", "--columns takes NAME=VALUE"),
        ("load {} --columns =x", "--columns takes NAME=VALUE"),
        ("load {} --columns params=Nope", "not in the log"),
        ("load", "path"),
        ("load {} extra", "extra"),
        ("lod {}", "load"),
        ("laws --jsn", "--jsn"),
        ("laws extra", "extra"),
        ("demo --seed x", "whole number"),
        ("demo --seed -1", "whole number"),
        ("notebooks paint", "refresh"),
        ("notebooks refresh nope", "no notebook 'nope'"),
        ("notebooks verify nope", "no notebook 'nope'"),
        ("notebooks copy", "name one folder"),
        ("notebooks copy {}", "is a file"),
    ],
)
def test_bad_options_are_one_sentence(good: Path, run, monkeypatch, tmp_path, arguments, fragment):
    monkeypatch.chdir(tmp_path)
    argv = [str(good) if a == "{}" else a for a in shlex.split(arguments)]
    before = sorted(tmp_path.iterdir())
    said = sentence(*run(*argv), progress=("Comparing laws", "Bootstrap"))
    assert fragment in said
    assert sorted(tmp_path.iterdir()) == before, "bad input leaves nothing behind"


def test_a_report_that_cannot_be_written_is_said_before_the_work(tmp_path: Path, run, monkeypatch):
    def too_early(*_, **__):
        raise AssertionError("the fits began before the path of the report was looked at")

    monkeypatch.setattr("workbench.demo.compare", too_early)
    assert "folder" in sentence(*run("demo", "--out", tmp_path))
    (tmp_path / "file").write_text("x")
    assert "file" in sentence(*run("demo", "--out", tmp_path / "file" / "report.html"))
    assert (tmp_path / "file").read_text() == "x"


def test_a_bug_is_not_dressed_up_as_bad_input(good: Path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("workbench.fit", broken, raising=False)
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(good), "--law", "power"])


def test_a_key_error_prints_its_sentence_and_not_its_repr(run, monkeypatch):
    def lookup(*_, **__):
        raise KeyError("no column 'lr'; the columns are loss\nand params")

    monkeypatch.setattr("workbench.load", lookup, raising=False)
    assert sentence(*run("load", "x.csv")) == "no column 'lr'; the columns are loss and params"


# --- the ends of processes -----------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_long_fit_cleanly(good: Path):
    command = [
        sys.executable,
        "-u",
        "-m",
        "workbench",
        "fit",
        str(good),
        "--law",
        "chinchilla",
        "--bootstrap",
        "200000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stderr.readline().startswith("Bootstrap")  # from here on it is at work
            time.sleep(0.5)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130, err
    assert out == "" and "Traceback" not in err and "stopped by Ctrl-C" in err


def test_a_closed_pipe_is_no_error():
    shell = f"set -o pipefail; {shlex.quote(sys.executable)} -m workbench laws | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.count("\n") == 1 and done.stderr == "" and done.returncode == 0


def test_a_pipe_closed_before_the_first_byte():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "laws"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    os.close(write)
    assert done.stderr == "" and done.returncode == 0


def test_names_that_the_terminal_cannot_show(tmp_path: Path):
    path = tmp_path / "odd.csv"
    pd.DataFrame({"run": ["größe→∞", "b"], "params": [1e8, 2e8], "loss": [3.0, 2.9]}).to_csv(path, index=False)
    done = process("load", path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    loaded = process("load", path, "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert strict(loaded.stdout)["runs"][0]["id"] == "größe→∞"
