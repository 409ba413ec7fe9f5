"""The coordinate check: trained networks behave with width as the theory of their parametrization says."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.probes.coordinates import coordinate_check, width_exponents

TRANSFORMER = Probe(vocab=32, depth=2, heads=2, context=8, batch_tokens=128, tokens=1280, lr=0.005, base_width=32)
MLP = Probe(
    task="teacher_student", model="mlp", optimizer="sgd", depth=3, activation="tanh", batch_tokens=32, tokens=320,
    lr=0.01, base_width=64,
)  # fmt: skip


def exponents(probe, widths, step, quantity="change"):
    """Activation -> exponent of the width."""
    table = width_exponents(coordinate_check(probe, widths, steps=(step,), seeds=range(4)))
    table = table[(table["step"] == step) & (table["quantity"] == quantity)]
    return dict(zip(table["activation"], table["exponent"], strict=True))


# Change after one step of SGD, by hand: with s the size of the head's effective entries (backward signal) and u the
# rate of the effective weights, hidden activations change as width * u * s (0.hidden: u * s), outputs as width * u
# through the head and, where larger, with the features. standard: s = n^-1/2, u = 1; ntk: s = n^-1/2 and
# u = 1/n at hidden matrices and head, u = 1 at the input.
SGD = {
    "standard": {"0.hidden": -0.5, "1.hidden": 0.5, "2.hidden": 0.5, "output": 1.0},
    "ntk": {"0.hidden": -0.5, "1.hidden": -0.5, "2.hidden": -0.5, "output": 0.0},
    "mup": {"0.hidden": 0.0, "1.hidden": 0.0, "2.hidden": 0.0, "output": 0.0},
    "mean_field": {"0.hidden": 0.0, "1.hidden": 0.0, "2.hidden": 0.0, "output": 0.0},
    "umup": {"0.hidden": 0.0, "1.hidden": 0.0, "2.hidden": 0.0, "output": 0.0},
}


@pytest.mark.parametrize("kind", SGD)
def test_changes_of_an_mlp_under_sgd(kind):
    measured = exponents(MLP.replace(parametrization=kind), [64, 128, 256, 512], step=1)
    assert measured == pytest.approx(SGD[kind], abs=0.2)
    if kind != "standard":
        assert exponents(MLP.replace(parametrization=kind), [64, 512], 1, "size")["2.hidden"] == pytest.approx(
            0, abs=0.05
        )


# Adam moves every entry by lr: hidden activations by width * lr, unless the rate falls as 1 / width
@pytest.mark.parametrize("kind, hidden", [("standard", 1.0), ("mup", 0.0), ("mean_field", 0.0), ("umup", 0.0)])
def test_changes_of_an_mlp_under_adam(kind, hidden):
    probe = MLP.replace(optimizer="adamw", lr=3e-4, parametrization=kind)
    measured = exponents(probe, [64, 128, 256, 512], step=1)
    assert measured["1.hidden"] == pytest.approx(hidden, abs=0.15)
    assert measured["2.hidden"] == pytest.approx(hidden, abs=0.25)
    assert measured["output"] == pytest.approx(1.4 if kind == "standard" else 0, abs=0.45)


def test_a_transformer_blows_up_with_width_under_the_standard_parametrization_only():
    widths = [32, 64, 128]
    standard = exponents(TRANSFORMER, widths, step=3)
    assert min(standard[f"{layer}.{part}"] for layer in (0, 1) for part in ("attention", "mlp")) > 0.4
    for kind in ("mup", "depth_mup"):
        measured = exponents(TRANSFORMER.replace(parametrization=kind), widths, step=3)
        features = {name: p for name, p in measured.items() if not name.endswith("scores")}
        assert max(map(abs, features.values())) < 0.2, features
    # the output starts at zero: after one step it is width * lr through the head alone
    assert exponents(TRANSFORMER, widths, step=1)["output"] == pytest.approx(1, abs=0.15)


def test_features_of_a_transformer_freeze_in_the_ntk_limit():
    batch = {"vocab": 64, "context": 16, "batch_tokens": 512, "tokens": 512}
    probe = TRANSFORMER.replace(parametrization="ntk", optimizer="sgd", head_init="normal", lr=0.1, **batch)
    measured = exponents(probe, [32, 64, 128, 256], step=1)
    for name in ("0.attention", "0.mlp", "1.attention", "1.mlp"):
        assert measured[name] == pytest.approx(-0.5, abs=0.15)


def test_the_frame_holds_what_an_observer_sees():
    frame = coordinate_check(MLP, [16, 32], steps=[2], seeds=[3, 5])
    assert list(frame["activation"].unique()) == ["0.hidden", "1.hidden", "2.hidden", "output"]
    assert len(frame) == 2 * 2 * 2 * 4 and set(frame["step"]) == {0, 2}
    assert (frame.loc[frame["step"] == 0, "change"] == 0).all()
    probe = MLP.replace(width=32, seed=5, warmup=0.0, schedule="constant", tokens=64, evals=1)
    ensemble, seen = stack([probe]), []
    for step in (0, 2):
        ensemble.advance(step)
        with torch.no_grad():
            found = {}
            ensemble.loss(*ensemble.batch(0), observe=lambda name, x, found=found: found.update({name: x.clone()}))
        seen.append(found["1.hidden"])
    row = frame.query("width == 32 and seed == 5 and activation == '1.hidden' and step == 2").iloc[0]
    assert row["size"] == pytest.approx(float(seen[1].square().mean().sqrt()), rel=1e-6)
    assert row["change"] == pytest.approx(float((seen[1] - seen[0]).square().mean().sqrt()), rel=1e-6)


def test_exponents_of_exact_powers_and_what_is_left_out():
    frame = pd.DataFrame(
        [
            {
                "parametrization": "x",
                "width": w,
                "seed": 0,
                "activation": name,
                "step": 1,
                "size": size,
                "change": change,
            }
            for w in (10, 20, 80)
            for name, size, change in (("a", 3.0 * w**0.5, w**-1.0), ("b", 0.0, np.nan if w == 80 else 2.0))
        ]
    )
    table = width_exponents(frame).set_index(["activation", "quantity"])
    assert table.loc[("a", "size"), "exponent"] == pytest.approx(0.5)
    assert table.loc[("a", "change"), "exponent"] == pytest.approx(-1)
    assert table.loc[("a", "size"), "error"] == pytest.approx(0, abs=1e-9)
    assert ("b", "size") not in table.index and table.loc[("b", "change"), "points"] == 2


@pytest.mark.parametrize(
    "wrong", [{"widths": [16]}, {"widths": [16, 32], "seeds": []}, {"widths": [8, 16], "steps": [-1]}]
)
def test_bad_calls_get_one_sentence(wrong):
    with pytest.raises(ValueError, match="at least two widths"):
        coordinate_check(MLP, **wrong)
