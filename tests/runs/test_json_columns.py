"""Lines of JSON read as columns say what Python's own parser says of each line, torn and odd lines included."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench
from workbench.runs.json_columns import read_columns
from workbench.runs.readers.json_lines import parse_lines

N = 600


def check(text: str) -> None:
    """Both readings agree in every cell, header, type and skipped line."""
    frame, skipped = read_columns(text, parse_lines)
    records, expected = parse_lines(text)
    assert skipped == expected
    assert len(frame) == len(records)
    headers = dict.fromkeys(key for _, record in records for key in record)
    assert list(frame.columns) == list(headers)
    for header in headers:
        for cell, (_, record) in zip(frame[header].tolist(), records, strict=True):
            want = record.get(header)
            if isinstance(want, float) or (isinstance(want, int) and isinstance(cell, float)):
                assert cell == want or (math.isnan(cell) and math.isnan(want)), (header, cell, want)
                assert math.copysign(1, cell) == math.copysign(1, want)
            else:
                assert type(cell) is type(want) and cell == want, (header, cell, want)


def lines(*others: str, n: int = N) -> str:
    rng = random.Random(1)
    rows = [json.dumps({"step": i, "loss": rng.random() * 10 ** rng.randint(-300, 300)}) for i in range(n)]
    for place, other in enumerate(others):
        rows.insert((place * 97 + 300) % len(rows), other)
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    "odd",
    [
        '{"step": 1, "loss": NaN}', '{"step": 1, "loss": -Infinity}', '{"loss": {"$float": "nan"}}', "not json",
        '{"step": 1} {"step": 2}', '{"step": 1}{"step": 2}', '{"step":', "1}", "[1, 2]", "3", '"x"', "",
        "  ", "\t", "{}",
        '{"step": 1, "step": 2}', '{"a": {"b": 1, "c": {"d": null}}}', '{"a": {}}', '{"a": []}',
        '{"a": [1, {"b": 2}]}',
        '{"loss": "text"}', '{"loss": true}', '{"loss": null}', '{"step": 12345678901234567890}', '{"step": 1e400}',
        '{"step": 1.0}', '{"step": -0}', '{"loss": -0.0}', '{"loss": 1E5}', '{"loss": 01}', '{"loss": +1}',
        '{"loss": .5}',
        '{"loss": 1.}', '{"day": "2024-01-02"}', '{"day": "2024-01-02T03:04:05Z"}', '{"a.b": 1}',
        '{"é\\u0000": "\\ud83d"}',
        '{"x": "}\\n{"}', "{'step': 1}", '{"step": 1,}', '{"step": 1}x', '\x00', '{"step": 9007199254740993}',
        "{" * 3000,
        '{"a":' * 90 + "1" + "}" * 90, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 5000, '{"run": "\\u2028"}', '{"": 1}',
        '{"step": 1}\r', ' {"step": 1} ', '{"loss": 1e-400}', '{"loss": 0.1000000000000000055511151231257827}',
        '{"a": tru}',
    ],
)  # fmt: skip
def test_an_odd_line_among_regular_ones(odd):
    check(lines(odd))
    check(lines(odd, odd))
    check(lines() + odd)
    check(odd + "\n" + lines())


def test_all_lines_alike():
    check(lines())
    check(lines()[:-1])
    check(lines()[:-9])
    days = [json.dumps({"time": f"2024-01-{i % 28 + 1:02d}T00:00:00", "step": i, "s": "x"}) for i in range(N)]
    check("\n".join(days) + "\n")
    check("\n".join(json.dumps({"a": {"b": i, "c": {"d": i / 7}}, "e": i % 2 == 0}) for i in range(N)) + "\n")
    check("\n".join(json.dumps({"step": i} | ({"val": i / 3} if i % 50 == 0 else {})) for i in range(N)) + "\n")
    check("\n".join(json.dumps({"step": i, "only": None}) for i in range(N)) + "\n")
    check("\n".join(json.dumps({"step": i, "loss": float("nan") if i > 400 else 1 / (i + 1)}) for i in range(N)) + "\n")


def test_regular_lines_become_numbers_not_objects():
    frame, _ = read_columns(lines(), parse_lines)
    assert frame["step"].dtype == np.int64 and frame["loss"].dtype == np.float64


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_reads_as_python_reads_it(seed):
    rng = random.Random(seed)
    whole = lines(n=400).encode()
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(damaged))
            alphabet = b'{}[]",:\n\r 0123456789.eE+-ntrufalse\\\x00\xff'
            new = bytes(rng.choice(alphabet) for _ in range(rng.randint(0, 3)))
            damaged[place : place + rng.randint(0, 3)] = new
        check(bytes(damaged).decode("utf-8", "replace"))


cells = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8), st.just("2024-01-01")
)


@given(st.lists(st.dictionaries(st.text(max_size=4), cells, max_size=4), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_objects(records):
    text = "".join(json.dumps(record) + "\n" for record in records * (N // len(records)))
    if '"$float"' not in text:
        check(text)


def test_a_run_that_diverges_keeps_its_nan(tmp_path):
    path = tmp_path / "run.jsonl"
    rows = [{"step": i, "loss": 3 - i / 1000 if i < 900 else float("nan"), "lr": 0.1} for i in range(1000)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = workbench.load(path)
    assert "loss is missing or NaN" in runs["problem"][0]
    assert len(runs.curves["run"]) == 1000 and runs.curves["run"]["loss"].notna().sum() == 900
