"""Numbers as people write and read them, and the table of canonical quantities."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runs.headers import normalise, read_header
from workbench.units import QUANTITIES, SUFFIXES, axis_title, human, parse_number, quantity

FINITE = st.floats(-1e307, 1e307)
#: What each suffix means to people, apart from the program's own table.
POWERS = {"k": 3, "K": 3, "M": 6, "m": 6, "million": 6, "B": 9, "b": 9, "bn": 9, "G": 9, "T": 12, "trillion": 12}


@given(FINITE)
def test_what_python_writes_is_read_back_exactly(value):
    for text in (repr(value), f"{value:e}".upper(), f'"{value!r}"', f"  '{value!r}' ", f"{value:+}"):
        assert parse_number(text) == float(text.strip(" '\""))
    assert parse_number(value) == value


@given(st.integers(-(10**30), 10**30))
def test_integers_with_separators(value):
    assert parse_number(f"{value:,}") == parse_number(f"{value:_}") == parse_number(value) == float(value)


@given(st.integers(1, 9999), st.sampled_from(sorted(POWERS)), st.sampled_from(["", " "]))
def test_suffixes(count, suffix, blank):
    assert parse_number(f"{count}{blank}{suffix}") == pytest.approx(count * 10.0 ** POWERS[suffix], rel=1e-15)
    assert parse_number(f"-{count / 100}{suffix}") == pytest.approx(-count / 100 * 10.0 ** POWERS[suffix], rel=1e-15)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.5E-05", 4.5e-5),
        ("1_000", 1000),
        ("1,234.5", 1234.5),
        ("1,234,567", 1234567),
        ("210M", 2.1e8),
        ("1.31 T", 1.31e12),
        (".5", 0.5),
        ("5.", 5),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e400", math.inf),
        (10**400, math.inf),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
    ],
)
def test_forms_found_in_logs(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "  ", "NaN", "nan", "NA", "n/a", "None", "null", "-", "<NA>", None, float("nan")])
def test_empty_cells_are_nan(text):
    assert math.isnan(parse_number(text))


@pytest.mark.parametrize(
    "text",
    ["abc", "1.2.3", "12,34", "1,2345", "1e", "--1", "0x10", "1 2", "5 apples", "M", "1e5.5", "12:30", b"1", [1]],
)
def test_anything_else_is_named_in_one_sentence(text):
    if text == "1e":  # an exa is a suffix like any other
        assert parse_number(text) == 1e18
        return
    with pytest.raises(ValueError, match="is not a number; write it like") as caught:
        parse_number(text)
    assert str(text)[:20] in str(caught.value).replace('\\"', '"') and "\n" not in str(caught.value)


def test_a_long_cell_is_not_repeated_whole():
    with pytest.raises(ValueError, match="not a number") as caught:
        parse_number("x" * 10_000)
    assert len(str(caught.value)) < 200


@given(FINITE, st.integers(1, 6))
def test_human_is_within_its_digits_and_reads_back(value, digits):
    text = human(value, digits)
    assert not re.search(r"e[+-]\d+[kMBT]", text), "an exponent and a suffix at once"
    assert not re.search(r"e[+-]?0?[0-5]$", text) or abs(value) < 1e-4, f"{text} is no way to say {value}"
    again = parse_number(text)
    if abs(value) > 1e-300:
        assert abs(again - value) <= abs(value) * 0.51 * 10.0 ** (1 - digits)


@given(st.floats(1e-3, 1e18))
def test_human_is_short_and_keeps_order(value):
    assert len(human(value)) <= 8
    assert parse_number(human(value)) <= parse_number(human(value * 1.02))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (210e6, "210M"),
        (1.31e12, "1.31T"),
        (5.88e23, "5.88e+23"),
        (0.00012, "0.00012"),
        (999.7e9, "1T"),
        (999.7e6, "1B"),
        (999_700, "1M"),
        (999.7, "1k"),
        (999.2e9, "999B"),
        (-4.5e9, "-4.5B"),
        (0, "0"),
        (150, "150"),
        (math.nan, "—"),
        (None, "—"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_human_says(value, text):
    assert human(value) == text


def test_human_at_few_digits():
    assert human(150, 2) == "150" and human(155e6, 2) == "160M" and human(15, 1) == "20"


def test_every_name_and_alias_means_one_quantity():
    owner: dict[str, str] = {}
    for q in QUANTITIES.values():
        for words in {normalise(q.name), *(normalise(alias) for alias in q.aliases)}:
            assert owner.setdefault(words, q.name) == q.name, f"{words!r} is claimed by {owner[words]} and {q.name}"
        assert len(set(map(normalise, q.aliases))) == len(q.aliases), f"{q.name} lists an alias twice"


def test_aliases_are_written_as_they_are_looked_up_and_resolve():
    for q in QUANTITIES.values():
        for alias in q.aliases:
            assert alias == normalise(alias), f"{alias!r} can never match a header"
            for header in (alias, alias.upper(), alias.replace(" ", "_"), alias.title()):
                reading = read_header(header)
                assert reading is not None and reading.name == q.name, f"{header!r} is not read as {q.name}"


def test_symbols_are_unique_and_units_show_in_titles():
    symbols = [q.symbol for q in QUANTITIES.values() if q.symbol]
    assert len(symbols) == len(set(symbols))
    assert axis_title("flops") == "Training compute C (FLOP)" and axis_title("params") == "Parameters N"
    assert quantity("my_metric").meaning == "my metric" and quantity("my_metric").unit == ""
    assert all(name == name.lower() and " " not in name for name in QUANTITIES)
    assert SUFFIXES[""] == 1
