"""Both definitions of the critical batch on runs made by a known law, with intervals that hold it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from workbench.analysis.critical_batch import critical_batch


def table(noise=0.02, seed=0, sizes=(1e8, 1e9)):
    """Steps to a target that follow McCandlish's hyperbola with a noise scale of 1000 and 4000."""
    rng = np.random.default_rng(seed)
    rows = [
        {"params": n, "batch": b, "steps": 500 * (1 + scale / b) * np.exp(noise * rng.normal())}
        for n, scale in zip(sizes, (1000.0, 4000.0), strict=False)
        for b in 64 * 2.0 ** np.arange(10)
    ]
    return pd.DataFrame(rows)


def test_intervals_hold_known_noise_scales_and_overheads_as_often_as_they_say():
    """Nominal 95 %; with alpha = 1 the batch with a fifth more examples solves B + scale = 1.2 (64 + scale)."""
    held, sims = {"noise": 0, "overhead": 0}, 40
    for seed in range(sims // 2):
        found = critical_batch(table(seed=seed), "params", batch="batch", n=1000).set_index(["definition", "params"])
        for n, scale in ((1e8, 1000.0), (1e9, 4000.0)):
            for definition, truth in (("noise", scale), ("overhead", 1.2 * (64 + scale) - scale)):
                row = found.loc[definition, n]
                held[definition] += row["low"] < truth < row["high"]
                assert row["critical_batch"] == pytest.approx(truth, rel=0.4) and row["runs"] == 10
    for count in held.values():
        assert count >= binom.ppf(0.001, sims, 0.95)


def test_a_cell_with_too_few_batches_is_a_row_that_says_so():
    runs = pd.concat([table(), pd.DataFrame([{"params": 1e10, "batch": 64.0, "steps": 900.0}])])
    found = critical_batch(runs, "params", batch="batch", n=50)
    assert len(found) == 6
    bad = found[found["params"] == 1e10]
    assert bad["critical_batch"].isna().all() and bad["note"].str.contains("1 run").all()
    assert found[found["params"] < 1e10]["critical_batch"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"level": 2}, "level"), ({"overhead": 0}, "positive"), ({"within": "size"}, "size"), ({"y": "stepz"}, "stepz")],
)
def test_bad_arguments_give_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        critical_batch(table(), batch="batch", **arguments)
