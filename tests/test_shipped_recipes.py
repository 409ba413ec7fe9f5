"""The shipped ladders of recipes and schedules: every id recomputed, every curve ends where its run does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench import shipped
from workbench.fits.card import QUESTIONS
from workbench.probes import Probe
from workbench.probes.optimizers.schedules import multipliers


@pytest.fixture(scope="module", params=["schedules", "recipes"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def runs(name):
    return workbench.load(shipped.sweep(name))


def probes(name: str, runs) -> list[Probe]:
    provenance = runs.attributes["provenance"]
    base = Probe.from_dict(provenance["base"])
    out = []
    for row in runs.frame.itertuples():
        if name == "schedules":
            change = provenance["schedules"][row.shape]
            out.append(base.replace(tokens=int(row.tokens), seed=int(row.seed), **change))
        else:
            schedule = "constant" if row.recipe in ("hot", "cold") else "linear"
            out.append(
                base.replace(
                    width=int(row.width), heads=max(1, int(row.width) // 32), tokens=int(row.tokens), lr=float(row.lr),
                    batch_tokens=int(row.batch_tokens), seed=int(row.seed), schedule=schedule,
                )
            )  # fmt: skip
    return out


def test_every_id_is_the_hash_of_what_was_trained(name, runs):
    assert [probe.id for probe in probes(name, runs)] == runs.ids


def test_curves_end_where_the_runs_do_and_follow_their_schedule(name, runs):
    for probe, row in zip(probes(name, runs), runs.frame.itertuples(), strict=True):
        curve = runs.curves[row.run]
        assert curve["loss"].iloc[-1] == row.loss and curve["tokens"].iloc[-1] == row.tokens
        assert (np.diff(curve["step"]) > 0).all()
        later = curve[curve["step"] > 0]
        expected = probe.lr * multipliers(probe)[later["step"].to_numpy(int) - 1]
        np.testing.assert_allclose(later["lr"], expected, rtol=1e-6, atol=1e-12)


def test_no_run_beats_the_entropy_and_every_question_is_answered(runs):
    assert runs["loss"].min() > runs.attributes["entropy"]
    assert not [key for key in QUESTIONS if not runs.attributes.get(key)]


def test_the_recipes_are_balanced_and_tuned_on_other_seeds():
    runs = workbench.load(shipped.sweep("recipes"))
    counts = runs.frame.groupby(["rung", "recipe"])["seed"].nunique()
    assert len(counts) == 9 * 4 and (counts == 8).all()
    tuning = pd.read_csv(shipped.sweep("recipes") / "tuning.csv")
    assert not set(tuning["seed"]) & set(runs["seed"])
    large = runs.frame[runs.frame["recipe"] == "large batch"]
    grid = tuning.groupby("width")["lr"].agg(["min", "max"])
    for width, lr in large.groupby("width")["lr"].first().items():
        assert grid.loc[width, "min"] <= lr <= grid.loc[width, "max"]
