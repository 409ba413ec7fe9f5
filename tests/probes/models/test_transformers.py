"""Every form of the transformer keeps the contract of models, and the promises of its own."""

import math

import pytest
import torch

from tests.probes.references import transformer as reference
from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.testing.models import ModelContract


class TestTransformer(ModelContract):
    model = "transformer"
    cases = (
        ("bigram", {}),
        ("bigram", {"width": 6, "heads": 3, "norm": "layer", "gains": True, "activation": "gelu"}),
        ("bigram", {"width": 12, "heads": 2, "positions": "rotary", "qk_norm": True, "activation": "swiglu"}),
        ("bigram", {"width": 8, "heads": 2, "qk_norm": True, "gains": True, "positions": "none", "activation": "relu"}),
        ("bigram", {"width": 10, "depth": 2, "norm_position": "post", "gains": True, "head_init": "normal"}),
        ("bigram", {"width": 10, "tied": True, "positions": "rotary", "attention_scale": "linear"}),
        ("tiny_sequences", {"width": 6, "depth": 2, "heads": 3, "activation": "silu", "head_init": "normal"}),
        ("tiny_recall", {"width": 12, "depth": 2, "norm_position": "post", "norm": "layer"}),
    )
    refused = ("tiny_vectors", "tiny_signals")

    def reference(self, probe, weights):
        return reference.Transformer(probe, weights)


class TestEncoder(ModelContract):
    model = "encoder"
    cases = (
        ("tiny_signals", {"width": 6, "heads": 2, "head_init": "normal"}),
        ("tiny_recall", {"width": 12, "activation": "gelu", "gains": True, "norm": "layer"}),
        ("tiny_last", {"width": 8, "positions": "rotary", "activation": "swiglu", "head_init": "normal"}),
    )
    refused = ("bigram", "tiny_vectors", "tiny_sequences")

    def reference(self, probe, weights):
        return reference.Transformer(probe, weights, causal=False, pooled=probe.task == "tiny_signals")


class TestMixture(ModelContract):
    model = "mixture"
    cases = (
        ("bigram", {"width": 8, "experts": 3}),
        ("bigram", {"width": 6, "depth": 2, "experts": 4, "chosen": 2, "activation": "swiglu", "gains": True}),
        ("tiny_sequences", {"width": 8, "experts": 2, "chosen": 2, "head_init": "normal"}),
    )
    refused = ("tiny_vectors", "tiny_signals")

    def reference(self, probe, weights):
        return reference.Transformer(probe, weights)


def test_a_probe_of_before_keeps_its_text():
    text = Probe().to_json()
    assert not any(name in text for name in ("norm", "gains", "tied", "positions", "activation", "head_init"))
    assert "qk_norm" in Probe(qk_norm=True).to_json()


def test_swiglu_has_about_as_many_parameters_and_a_tied_head_none():
    plain, gated = Probe(width=64, depth=3), Probe(width=64, depth=3, activation="swiglu")
    assert gated.params_non_embedding == pytest.approx(12 * 3 * 64**2, rel=0.02)
    assert plain.params_non_embedding == 12 * 3 * 64**2
    tied = plain.replace(tied=True)
    assert tied.params == plain.params - 64 * 256
    assert tied.params_non_embedding == plain.params_non_embedding


def test_a_tied_model_starts_with_logits_of_order_one():
    model = stack([Probe(width=64, tied=True)])
    logits = model.predict(model.batch(0)[0])
    assert 0.5 < float(logits.std()) < 2


def test_rotary_scores_depend_on_distances_only():
    """The same token everywhere: without positions nothing distinguishes places, so only distances count."""
    from workbench.probes.functional import rotate

    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(8, generator=generator).expand(1, 12, 8) for _ in range(2))
    scores = rotate(q)[0] @ rotate(k)[0].T
    for distance in range(-11, 12):
        line = scores.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand(len(line)), rtol=1e-4, atol=1e-5)
    assert scores.std() > 0.1
    # turning keeps lengths
    torch.testing.assert_close(rotate(q).norm(dim=-1), q.norm(dim=-1))


def test_qk_norm_bounds_the_scores_that_observers_see():
    seen = {}
    probe = Probe(width=16, heads=2, depth=2, qk_norm=True)
    model = stack([probe, probe.replace(seed=3)])
    for name, weight in model.weights.master.items():
        if name.endswith("qkv"):
            weight *= 100
    model.loss(*model.batch(0), observe=seen.__setitem__)
    for layer in range(2):
        scores = seen[f"{layer}.scores"]
        assert scores.shape == (2, probe.batch, 2, 32 * 33 // 2)
        assert float(scores.abs().max()) <= math.sqrt(8) + 1e-5  # |q| |k| / sqrt(c), each of length sqrt(c)


def test_the_encoder_sees_what_follows_and_the_decoder_does_not():
    from workbench.probes.models.base import find_model
    from workbench.probes.ops import Ops

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(256, (1, 2, 32), generator=generator)
    changed = tokens.clone()
    changed[..., -1] = (changed[..., -1] + 1) % 256
    weights = stack([Probe(width=16)]).weights.master
    for name, sees in (("transformer", False), ("encoder", True)):
        model, ops = find_model(name)(width=16), Ops(weights, {}, torch.float32)
        same = torch.equal(model.hidden(ops, tokens)[:, :31], model.hidden(ops, changed)[:, :31])
        assert same is not sees


def test_the_encoder_is_not_asked_what_it_can_see():
    # the number asked for at position 2 k stands at position 2 k + 1
    with pytest.raises(ValueError, match="later inputs may hold the answers"):
        Probe(task="in_context_regression", model="encoder")


def test_experts_are_shared_out():
    probe = Probe(model="mixture", width=16, depth=2, experts=4, chosen=2, balance=0.0)
    assert probe.params - probe.params_active == 2 * 2 * 8 * 16**2  # half of the experts, two blocks
    assert probe.flops == 6 * probe.params_active * probe.tokens
    seen = {}
    model = stack([probe, probe.replace(seed=1)])
    batch = model.batch(0)
    loss = model.loss(*batch, observe=seen.__setitem__)
    assert seen["0.routing"].shape == (2, probe.batch_tokens, 4)
    assert (seen["0.routing"].sum(-1) == 2).all()
    # the loss for even loads, from what was seen: experts * sum of (part of choices) * (mean share)
    weighed = stack([probe.replace(balance=0.5), probe.replace(balance=0.5, seed=1)])
    added = (weighed.loss(*batch) - loss).detach()
    assert (added >= 0.5 * 2 * 0.8).all() and (added < 0.5 * 2 * 4).all()  # 1 a block if even, 4 at most
    torch.testing.assert_close(weighed.evaluate()["loss"], model.evaluate()["loss"])


def test_hashed_experts_follow_the_token_alone():
    probe = Probe(model="mixture", width=8, depth=2, experts=4, routing="hash")
    seen = {}
    model = stack([probe])
    inputs, targets = model.batch(0)
    model.loss(inputs, targets, observe=seen.__setitem__)
    tables = []
    for layer in range(2):
        expert = seen[f"{layer}.routing"].argmax(-1).flatten()
        table = {}
        for token, one in zip(inputs.flatten().tolist(), expert.tolist(), strict=True):
            assert table.setdefault(token, one) == one
        shares = torch.bincount(torch.tensor(list(table.values())), minlength=4) / len(table)
        assert (shares > 0.1).all()  # 256 tokens, 64 expected for each
        tables.append(table)
    assert tables[0] != tables[1]
    assert not any(name.endswith("router") for name in model.weights.master)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"width": 6, "heads": 2, "positions": "rotary"}, "choose heads of even width"),
        ({"norm": "batch"}, "choose one of rms, layer"),
        ({"model": "mixture", "experts": 2, "chosen": 3}, "more than experts=2"),
        ({"model": "mixture", "routing": "hash", "chosen": 2}, "must be 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Probe(**settings)
