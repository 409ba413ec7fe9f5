"""The CPU step written out by hand: autograd's gradients, its own members' bits, everybody's AdamW."""

import pytest
import torch

from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.probes.cpu_step import CpuStep
from workbench.probes.trainer import train

WIDE = Probe(
    vocab=64, context=32, width=64, depth=2, heads=4, batch_tokens=512, tokens=512 * 6, lr=1e-3, evals=2,
    head_init="normal",
)  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [{}, {"positions": "none"}, {"parametrization": "mup"}, {"attention_scale": "linear"}, {"depth": 5, "heads": 1}],
)
def test_gradients_are_those_of_autograd(changed):
    probe = WIDE.replace(**changed)
    ensemble = stack([probe, probe.replace(seed=1)])
    assert isinstance(ensemble.fast, CpuStep)
    inputs, targets = ensemble.batch(0)
    loss = ensemble.loss(inputs, targets)
    ensemble.weights.backward(loss.sum())
    expected = {name: view.clone() for name, view in ensemble.weights.named(ensemble.weights.grad).items()}
    ensemble.weights.grad.fill_(float("nan"))
    found = ensemble.fast.loss_and_gradient(inputs, targets)
    torch.testing.assert_close(found, loss.detach(), rtol=1e-6, atol=0)
    for name, view in ensemble.weights.named(ensemble.weights.grad).items():
        assert float((view - expected[name]).norm()) < 2e-6 * float(expected[name].norm()), name
    assert torch.isfinite(ensemble.weights.grad).all()  # the padding of the buffer too


def test_a_member_is_its_solo_run_bit_for_bit():
    members = [
        WIDE,
        WIDE.replace(seed=3, lr=3e-3, weight_decay=0.1, clip=0.2, beta2=0.9),
        WIDE.replace(seed=5, lr=1e-2, schedule="cosine"),
    ]
    stacked = train(members, "cpu")
    for one, other in zip(members, stacked, strict=True):
        (solo,) = train([one], "cpu")
        assert torch.equal(solo.weights, other.weights)
        assert [record["loss"] for record in solo.records] == [record["loss"] for record in other.records]


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_the_fused_update_is_the_plain_one(name):
    probe = WIDE.replace(optimizer=name, weight_decay=0.1, clip=0.5, eps=1e-6, beta1=0.8)
    ensembles = [stack([probe, probe.replace(seed=1, lr=3e-3, beta2=0.9, weight_decay=0.0)]) for _ in range(2)]
    assert ensembles[0].optimizer.fused
    ensembles[1].optimizer.fused = False
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        grad = torch.randn(ensembles[0].weights.data.shape, generator=generator)
        for ensemble in ensembles:
            ensemble.weights.grad.copy_(grad)
            ensemble.optimizer.update()
    fused, plain = (ensemble.weights.data for ensemble in ensembles)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-7)
    assert int(ensembles[0].optimizer.step) == 4


def test_what_it_does_not_cover_trains_plainly():
    for changed in ({"norm": "layer"}, {"width": 8}, {"precision": "bf16"}, {"z_loss": 1e-4}, {"tied": True}):
        assert stack([WIDE.replace(**changed)]).fast is None
