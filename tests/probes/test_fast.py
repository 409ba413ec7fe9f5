"""The fast step on CUDA: the plain path's curve, the solo run's bits, and the same bits after a stop."""

import itertools

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.trainer import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SMALL = Probe(
    vocab=256, width=64, depth=2, heads=1, context=128, batch_tokens=1024, tokens=1024 * 60, lr=0.01, evals=4,
    precision="bf16", beta2=0.95, weight_decay=0.1, clip=1.0,
)  # fmt: skip
SHAPES = {
    "d64": SMALL,
    "d64, four heads": SMALL.replace(heads=4),
    "d64, two heads": SMALL.replace(heads=2),
    "d128, four heads": SMALL.replace(width=128, heads=4, depth=3),
    # wide models at the rate of the narrow ones climb before they fall, and there two roundings part
    "d256": SMALL.replace(width=256, heads=4, context=256, lr=0.002),
    "d512": SMALL.replace(width=512, heads=8, depth=2, context=256, lr=0.001),
    "bf16 stream": SMALL.replace(stream="bf16"),
    "muP": SMALL.replace(width=128, heads=2, parametrization="mup", attention_scale="linear", head_init="normal"),
}


def curve(result):
    return [record["loss"] for record in result.records]


@pytest.mark.parametrize("name", SHAPES)
def test_it_follows_the_plain_path(name, monkeypatch):
    probe = SHAPES[name]
    (fast,) = train([probe], "cuda")
    monkeypatch.setattr("workbench.probes.ensemble.fast_step", lambda ensemble: None)
    (plain,) = train([probe], "cuda")
    assert curve(fast) != curve(plain)  # else one path was compared with itself
    # two roundings to bfloat16 of one computation; the loss falls from 5.5, and seeds differ by some 0.02
    np.testing.assert_allclose(curve(fast), curve(plain), atol=0.01)


@pytest.mark.parametrize("name", SHAPES)
def test_a_member_is_the_solo_run_bit_for_bit(name):
    probe = SHAPES[name]
    members = [
        probe.replace(seed=seed, lr=lr) for seed, lr in ((1, 0.01), (2, 0.003), (3, 0.02), (4, 0.01), (5, 0.001))
    ]
    stacked = train(members, "cuda")
    permuted = train(members[::-1], "cuda")[::-1]
    for index in (0, 3):
        (solo,) = train([members[index]], "cuda")
        for other in (stacked[index], permuted[index]):
            assert torch.equal(other.weights, solo.weights)
            assert other.records[-1]["train_loss"] == solo.records[-1]["train_loss"]


def test_stopped_and_resumed_it_is_the_undisturbed_run():
    probe = SMALL.replace(tokens=1024 * 4000, evals=2)
    (whole,) = train([probe], "cuda")
    looks = itertools.count()
    (part,) = train([probe], "cuda", should_stop=lambda: next(looks) >= 4)
    assert 0 < part.state.step < probe.steps
    (resumed,) = train([probe], "cuda", states=[part.state])
    assert torch.equal(resumed.weights, whole.weights)
