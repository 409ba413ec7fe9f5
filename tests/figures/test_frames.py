"""Black-and-white frames: what is drawn covers each picture once, cell by cell."""

import numpy as np
import pytest

from workbench.figures.frames import _runs, frames


def test_runs_cover_every_cell_once() -> None:
    drawn = np.random.default_rng(0).random((13, 9)) < 0.4
    again, seen = np.zeros_like(drawn), np.zeros(drawn.shape, int)
    for run in _runs(drawn, "yes", "no").itertuples():
        again[run.y : run.y2, run.x : run.x2] = run.means == "yes"
        seen[run.y : run.y2, run.x : run.x2] += 1
    assert np.array_equal(again, drawn) and (seen == 1).all()


def test_large_pictures_are_thinned_and_bad_ones_refused() -> None:
    chart = frames({"a": np.zeros((500, 500), bool)}, yes="+", no="-", x="x", y="y").to_dict()
    rows = [row for rows in chart["datasets"].values() for row in rows]
    assert max(row["x2"] for row in rows) <= 128
    with pytest.raises(ValueError, match="dimensions"):
        frames({"a": np.zeros(5, bool)}, yes="+", no="-", x="x", y="y")
    with pytest.raises(ValueError, match="no picture"):
        frames({}, yes="+", no="-", x="x", y="y")
