"""The figure of the coordinate check draws the frame's medians, and says what is missing."""

import json

import numpy as np
import pandas as pd
import pytest

from workbench.figures.coordinates import coordinates
from workbench.figures.render import png, text


def frame(kinds=("standard", "mup"), names=("0.mlp", "output"), seeds=3):
    rng = np.random.default_rng(0)
    power = {"standard": 1.0}
    return pd.DataFrame(
        [
            {"parametrization": k, "width": w, "seed": s, "activation": n, "step": step, "size": 1.0,
             "change": step * w ** power.get(k, 0.0) * np.exp(0.01 * rng.standard_normal())}
            for k in kinds for w in (32, 64, 128) for s in range(seeds) for n in names for step in (0, 1, 4)
        ]
    )  # fmt: skip


def drawn(chart):
    (rows,) = chart.to_dict()["datasets"].values()
    return pd.DataFrame(rows)


def test_lines_are_medians_over_seeds_and_headers_their_exponents():
    data = frame()
    chart = coordinates(data)
    points = drawn(chart)
    median = data[data["step"] == 4].groupby(["parametrization", "activation", "width"])["change"].median()
    for row in points.itertuples():
        assert row.y == pytest.approx(median[row.panel.split(":")[0], row.group, row.x], rel=1e-5)
    assert len(points) == 2 * 2 * 3
    panels = list(dict.fromkeys(points["panel"]))
    assert panels[0].startswith("standard: exponents 1.0") or panels[0].startswith("standard: exponents 0.9")
    assert panels[1].startswith("mup: exponents")
    words = json.dumps(chart.to_dict())
    assert '"type": "log"' in words and "Width d" in words and "root mean square" in words
    assert "after 4 steps" in text(chart) and "median of 3 seeds" in text(chart)
    assert png(chart)


def test_a_step_and_a_quantity_can_be_chosen():
    assert set(drawn(coordinates(frame(), "size", step=1))["y"]) == {1.0}
    with pytest.raises(ValueError, match="has steps 0, 1, 4"):
        coordinates(frame(), step=2)
    with pytest.raises(ValueError, match="choose one of size, change"):
        coordinates(frame(), "loss")
    with pytest.raises(ValueError, match="nothing to draw"):
        coordinates(frame(), step=0)  # nothing has changed yet


def test_what_is_left_out_is_said():
    data = frame(names=[f"{layer}.mlp" for layer in range(20)], seeds=1)
    data.loc[(data["step"] == 4) & (data["width"] == 128) & (data["activation"] == "0.mlp"), "change"] = np.nan
    words = text(coordinates(data))
    assert "one seed" in words and "12 of 20 activations drawn" in words
    assert "2 of 120 values left out" in words


def test_names_are_data_not_markup():
    chart = coordinates(frame(kinds=("<b>",), names=("</script>", "a.b[0]")))
    assert set(drawn(chart)["group"]) == {"</script>", "a.b[0]"} and png(chart)
