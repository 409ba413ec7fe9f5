"""The fit card: what is known is right, what nobody stated is listed, nothing in it becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import workbench
from tests.fits.conftest import chinchilla_frame, power_frame
from workbench.fits.card import NOT_STATED, QUESTIONS

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Elements(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def fitted():
    frame = chinchilla_frame(3, n=60)
    frame["seed"] = np.arange(60) % 3
    frame.loc[4, "loss"] = -1.0
    frame.loc[[7, 9], "loss"] = np.nan
    runs = workbench.load(frame).with_attributes(training_data="C4, nothing repeated", hardware="one laptop")
    return workbench.fit(runs, "chinchilla", where="tokens > 1e9", fixed={"E": 1.82}, seed=5)


@pytest.fixture(scope="module")
def rows(fitted):
    card = fitted.card()
    return {item: value for section in card.sections.values() for item, value in section}


def test_stated_items_are_repeated_and_the_rest_is_missing(fitted, rows):
    assert rows[QUESTIONS["training_data"]] == "C4, nothing repeated"
    assert rows[QUESTIONS["hardware"]] == "one laptop"
    unstated = [question for key, question in QUESTIONS.items() if key not in ("training_data", "hardware")]
    assert fitted.card().missing == unstated
    assert all(rows[question] == NOT_STATED for question in unstated)


def test_what_the_program_knows_is_right(fitted, rows):
    n = fitted.n_runs
    assert n == int((chinchilla_frame(3, n=60)["tokens"] > 1e9).sum()) - 3
    assert rows["Runs fitted"] == str(n) and rows["Filter"] == "tokens > 1e9" and rows["Seeds"] == "3"
    assert rows["Left out"].startswith("3 (2: ") and "loss is -1" in rows["Left out"]
    assert rows["Free parameters"] == "A, B, alpha, beta" and rows["Fixed or tied"] == "E = 1.82"
    assert rows["Objective"] == "log-huber, delta = 0.001" and rows["Degrees of freedom"] == str(n - 4)
    assert rows["Value"].startswith(f"{fitted.value:.6g}") and "seed 5" in rows["Starts"]
    assert rows["Weights"] == "equal" and rows["Converged"].startswith("yes")
    assert "Hoffmann" in rows["Source"]


def test_intervals_of_three_methods_side_by_side(fitted):
    table = fitted.card().parameters
    assert list(table.index) == ["E", "A", "B", "alpha", "beta"]
    for method in ("bootstrap", "profile", "jacobian"):
        column = table[f"95% {method}"]
        assert column["E"] == "fixed"
        low, high = map(float, column["alpha"].split(" – "))
        exact = fitted.intervals(method)
        assert low == pytest.approx(exact["low"]["alpha"], rel=1e-3)
        assert high == pytest.approx(exact["high"]["alpha"], rel=1e-3)
    assert float(table["estimate"]["alpha"]) == pytest.approx(fitted.params["alpha"], rel=1e-4)


def test_an_unidentified_parameter_gets_no_interval():
    card = workbench.fit(power_frame(0, n=12).assign(flops=1e18), "power", x="flops").card()
    assert card.warnings and (card.parameters.filter(like="95%") == "not identified").any(axis=None)


def test_without_degrees_of_freedom():
    card = workbench.fit(power_frame(0, n=2), "power").card()
    assert (card.parameters.filter(like="95%") == "—").all(axis=None)
    assert any("no interval" in warning for warning in card.warnings)


def test_the_fingerprint_follows_the_points_and_nothing_else():
    def mark(runs, law="chinchilla", **options):
        card = workbench.fit(runs, law, **options).card()
        return dict(card.sections["Data"])["Fingerprint of the points"]

    frame = chinchilla_frame(3, n=40)
    same = mark(frame)
    assert re.fullmatch(r"[0-9a-f]{12}", same)
    assert mark(frame.rename(columns={"params": "Model Size"})) == same
    assert mark(frame, seed=9) == same and mark(frame, "chinchilla_tied") == same
    touched = frame.copy()
    touched.loc[0, "loss"] *= 1 + 1e-12
    assert mark(touched) != same
    assert mark(frame, weights=np.r_[2.0, np.ones(39)]) != same


def test_strict_json(fitted):
    card = fitted.card()
    again = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert [row["symbol"] for row in again["parameters"]] == ["E", "A", "B", "alpha", "beta"]
    assert again["missing"] == card.missing and again["sections"]["Data"]["Seeds"] == "3"


def test_nothing_stated_becomes_markup():
    frame = chinchilla_frame(3, n=40).rename(columns={"loss": HOSTILE})
    runs = workbench.load(frame).with_attributes(**dict.fromkeys(QUESTIONS, HOSTILE))
    fitted = workbench.fit(runs, "chinchilla", y=HOSTILE)
    page = Elements(fitted.card()._repr_html_())
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= len(QUESTIONS) + 1  # every answer, and the title
    assert "<script" not in fitted._repr_html_()


def test_text_form_holds_every_item(fitted):
    text = repr(fitted.card())
    assert all(question in text for question in QUESTIONS.values()) and NOT_STATED in text
