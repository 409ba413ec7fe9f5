"""The stacked transformer against an everyday nn.Module: counts, logits, gradients, causality."""

import math

import pytest
import torch

from tests.probes.reference import Reference
from tests.probes.stacks import shapes, split, stack
from workbench.probes import Probe
from workbench.probes.functional import attention, cross_entropy, relu_squared, rms_norm
from workbench.probes.initial import initial_weights

SHAPES = [
    Probe(vocab=32, width=8, depth=0, context=16, batch_tokens=64, tokens=640),
    Probe(vocab=32, width=16, depth=2, heads=4, context=16, batch_tokens=64, tokens=640),
    Probe(vocab=17, width=6, depth=1, heads=3, context=7, batch_tokens=21, tokens=210, mlp_ratio=2),
]


def tokens_for(probe, members, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (members, probe.batch_tokens // probe.context, probe.context + 1)
    return torch.randint(probe.vocab, shape, generator=generator)


def with_random_head(model, seed=1):
    # the head starts at zero, which would make most gradients vanish and the comparison empty
    generator = torch.Generator().manual_seed(seed)
    head = model.weights.master["head"]
    head.copy_(torch.randn(head.shape, generator=generator) / math.sqrt(head.shape[1]))
    return head


@pytest.mark.parametrize("probe", [*SHAPES, Probe()])
def test_parameters_counted_three_ways(probe):
    listed = sum(math.prod(shape) for shape in shapes(probe).values())
    module = sum(p.numel() for p in Reference(probe).parameters())
    assert probe.params == listed == module == stack([probe]).weights.size


@pytest.mark.parametrize("probe", SHAPES)
@pytest.mark.parametrize("fused", [False, True])
def test_losses_and_gradients_of_a_stack_agree_with_modules(probe, fused):
    probes = [probe.replace(seed=seed) for seed in (3, 1, 2)]
    model = stack(probes, fused)
    heads = with_random_head(model)
    tokens = tokens_for(probe, 3)
    loss = model.loss(*split(tokens))
    model.weights.backward(loss.sum())
    grads = model.weights._split(model.weights.grad)
    for e, member in enumerate(probes):
        reference = Reference(member)
        reference.head.weight.data.copy_(heads[e].T)
        expected = reference.loss(tokens[e])
        expected.backward()
        assert loss[e].item() == pytest.approx(expected.item(), abs=1e-5)
        for name in shapes(probe):
            grad = reference.place(name).grad
            grad = grad if name in ("embedding", "positions") else grad.T
            torch.testing.assert_close(grads[name][e], grad, rtol=1e-4, atol=1e-6)
        logits = model.predict(tokens[..., :-1])[e]
        torch.testing.assert_close(logits, reference(tokens[e, :, :-1]), rtol=1e-4, atol=1e-5)


def test_fused_attention_sees_no_future_either():
    qkv = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"causal": False}, {"scale": 0.3}):
        torch.testing.assert_close(
            attention(qkv, 2, fused=True, **options), attention(qkv, 2, **options), rtol=1e-5, atol=1e-6
        )


def test_the_future_is_not_seen():
    probe = SHAPES[1]
    model = stack([probe])
    with_random_head(model)
    tokens = tokens_for(probe, 1)[..., :-1]
    changed = tokens.clone()
    changed[..., 9:] = (changed[..., 9:] + 1) % probe.vocab
    before, after = model.predict(tokens), model.predict(changed)
    assert torch.equal(before[:, :, :9], after[:, :, :9])
    assert (before[:, :, 9:] != after[:, :, 9:]).any()
    # a shorter text is a prefix
    torch.testing.assert_close(model.predict(tokens[..., :5]), before[:, :, :5], rtol=1e-5, atol=1e-6)


def test_the_first_loss_is_log_v_and_members_start_from_their_own_seed():
    probes = [Probe(seed=5), Probe(seed=6), Probe(seed=5, lr=0.5)]
    model = stack(probes)
    assert model.loss(*split(tokens_for(probes[0], 3))).tolist() == pytest.approx([math.log(256)] * 3, abs=1e-6)
    rows = model.weights.rows()
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
    assert torch.equal(rows[1], torch.cat([w.flatten() for w in initial_weights(probes[1]).values()]))


def test_backward_passes_written_by_hand_against_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: rms_norm(x, torch.float64), draw(2, 3, 5))
    assert torch.autograd.gradcheck(relu_squared, draw(2, 3, 5))
    assert torch.autograd.gradcheck(lambda x: attention(x, 2), draw(3, 4, 12))


def test_cross_entropy_against_torch():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(2, 30, 5, generator=generator, requires_grad=True)
    w = torch.randn(2, 5, 11, generator=generator, requires_grad=True)
    y = torch.randint(11, (2, 30), generator=generator)
    weights = torch.tensor([1.0, 3.0])  # unequal, so that a forgotten factor shows
    for workspace in (None, torch.empty(1, 30, 11)):
        got = cross_entropy(h, w, y, workspace)
        grads = torch.autograd.grad((got * weights).sum(), (h, w))
        expected = torch.nn.functional.cross_entropy((h @ w).mT, y, reduction="none").mean(1)
        wanted = torch.autograd.grad((expected * weights).sum(), (h, w))
        torch.testing.assert_close(got, expected)
        for a, b in zip(grads, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_bf16_is_close_to_fp32():
    fp32 = SHAPES[1]
    losses = []
    for precision in ("fp32", "bf16"):
        model = stack([fp32.replace(precision=precision)])
        with_random_head(model)
        model.weights.refresh()
        losses.append(model.loss(*split(tokens_for(fp32, 1))).item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
