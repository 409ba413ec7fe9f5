"""The calculator against torch modules, torch's FLOP counter and probes; what it refuses."""

from itertools import pairwise

import numpy as np
import pytest

import workbench
from workbench.probes import Probe
from workbench.runs.calculator import Architecture

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * self.gain


class Block(nn.Module):
    """Grouped queries, products written out; experts take turns, so that each token meets the same number."""

    def __init__(self, a):
        super().__init__()
        c, d = a.head_dim, a.width
        self.a = a
        norm = {"layer": nn.LayerNorm, "rms": Norm, "none": lambda size: nn.Identity()}[a.norm]
        bias = set(a.bias)
        self.norms = nn.ModuleList(norm(d) for _ in range(a.norms))
        self.q = nn.Linear(d, a.heads * c, "qkv" in bias)
        self.k, self.v = (nn.Linear(d, a.kv_heads * c, "qkv" in bias) for _ in range(2))
        self.out = nn.Linear(a.heads * c, d, "out" in bias)
        if a.qk_norm != "none":
            sizes = (c, c) if a.qk_norm == "head" else (a.heads * c, a.kv_heads * c)
            self.qk = nn.ModuleList(norm(size) for size in sizes)
        self.experts = nn.ModuleList(self.mlp(d, a.expert_ffn) for _ in range(a.experts + a.shared_experts))
        self.dense = None if a.experts else self.mlp(d, a.ffn)
        self.router = nn.Linear(d, a.experts, False) if a.experts else None

    def mlp(self, d, f):
        bias = "ffn" in self.a.bias
        maps = {"up": nn.Linear(d, f, bias), "down": nn.Linear(f, d, bias)}
        return nn.ModuleDict(maps | ({"gate": nn.Linear(d, f, bias)} if self.a.gated else {}))

    def act(self, maps, x):
        y = maps["up"](x)
        return maps["down"](torch.nn.functional.silu(maps["gate"](x)) * y if self.a.gated else y.relu())

    def forward(self, x):
        a, (b, t, d) = self.a, x.shape
        x = self.norms[0](x)
        q, k, v = (f(x).view(b, t, -1, a.head_dim).transpose(1, 2) for f in (self.q, self.k, self.v))
        k, v = (y.repeat_interleave(a.heads // a.kv_heads, 1) for y in (k, v))
        y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = (x + self.out(y.transpose(1, 2).reshape(b, t, -1))).view(b * t, d)
        if self.dense is not None:
            return self.act(self.dense, x).view(b, t, d)
        shares = self.router(x).softmax(-1)
        total = sum(self.act(self.experts[e], x) for e in range(a.experts, a.experts + a.shared_experts))
        total = x * shares.sum(-1, keepdim=True) + total
        turn = torch.arange(b * t) % a.experts
        for e in range(a.experts):
            rows = torch.nonzero((e - turn) % a.experts < a.experts_per_token).flatten()
            total = total.index_add(0, rows, self.act(self.experts[e], x[rows]))
        return total.view(b, t, d)


class Model(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embedding = nn.Embedding(a.vocab, a.width)
        self.positions = nn.Embedding(a.positions, a.width) if a.positions else None
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.layers))
        self.last = {"layer": nn.LayerNorm, "rms": Norm}.get(a.norm, lambda size: nn.Identity())(a.width)
        self.head = nn.Linear(a.width, a.vocab, "head" in a.bias)
        if a.tied:
            self.head.weight = self.embedding.weight

    def forward(self, x):
        y = self.embedding(x)
        y = y if self.positions is None else y + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            y = block(y)
        return self.head(self.last(y))


WRITTEN = {
    "plain": {},
    "untied": {"tied": False},
    "biases": {"bias": True, "norm": "layer", "positions": 24},
    "head bias": {"bias": ("qkv", "head"), "tied": False},
    "grouped": {"kv_heads": 2, "gated": True, "ffn": 56},
    "multi-query, wide heads": {"kv_heads": 1, "head_dim": 12, "qk_norm": "head"},
    "normed width": {"kv_heads": 2, "qk_norm": "width", "norm": "rms"},
    "no norm": {"norm": "none"},
    "experts": {"experts": 6, "experts_per_token": 2, "gated": True, "expert_ffn": 20},
    "shared experts": {"experts": 4, "experts_per_token": 1, "shared_experts": 2, "expert_ffn": 24, "bias": ("ffn",)},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_handwritten_decoders(name):
    a = Architecture(**{"layers": 2, "width": 32, "heads": 4, "vocab": 51, "norms": 2, **WRITTEN[name]})
    model = Model(a)
    assert a.params() == sum(p.numel() for p in model.parameters())
    embedding = {id(p) for m in (model.embedding, model.positions, model.head) if m for p in m.parameters()}
    assert a.params(embeddings=False) == sum(p.numel() for p in model.parameters() if id(p) not in embedding)
    t = 24
    x = torch.randint(0, a.vocab, (1, t))
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    assert t * a.flops_per_token(t) == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    assert t * a.flops_per_token(t, training=False) == counter.get_total_flops()


def test_torchs_encoder():
    layer = nn.TransformerEncoderLayer(48, 6, 100, device="meta")
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    a = Architecture(
        kind="encoder", layers=3, width=48, heads=6, ffn=100, norm="layer", bias=True, final_norm=False, vocab=10
    )
    assert a.params(embeddings=False) == sum(p.numel() for p in encoder.parameters())
    assert a.params() == a.params(embeddings=False) + 10 * 48


@pytest.mark.parametrize(("layers", "bias"), [(0, ()), (1, True), (3, True), (3, ("hidden", "head"))])
def test_mlps(layers, bias):
    a = Architecture(kind="mlp", layers=layers, width=20, inputs=7, outputs=5, bias=bias)
    sizes = [7, *[20] * layers, 5]
    maps = []
    for i, (m, n) in enumerate(pairwise(sizes)):
        last = i == layers
        maps += [nn.Linear(m, n, ("head" if last else "hidden") in a.bias), nn.ReLU()]
    model = nn.Sequential(*maps[:-1])
    assert a.params() == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(11, 7)).sum().backward()
    assert 11 * a.flops_per_token() == counter.get_total_flops()


@pytest.mark.parametrize(
    ("probe", "settings"),
    [
        ({}, {}),
        ({"gains": True, "tied": True}, {"norm": "rms", "tied": True}),
        ({"activation": "swiglu", "heads": 2, "positions": "rotary"}, {"gated": True, "ffn": 88, "positions": 0}),
        ({"gains": True, "qk_norm": True, "heads": 4}, {"norm": "rms", "qk_norm": "head"}),
        ({"model": "mixture", "experts": 6, "chosen": 2}, {"experts": 6, "experts_per_token": 2}),
    ],
)
def test_probes_count_the_same_from_their_tensors(probe, settings):
    p = Probe(**{"task": "bigram", "model": "transformer", "width": 32, "depth": 3, "batch_tokens": 2**11,
                 "tokens": 2**13, **probe})  # fmt: skip
    inputs = p.task_settings.inputs
    a = Architecture(
        **{"layers": 3, "width": 32, "heads": p.heads, "norm": "none", "tied": False, "vocab": inputs.size,
           "positions": inputs.context, **settings}
    )  # fmt: skip
    assert (a.params(), a.params(embeddings=False)) == (p.params, p.params_non_embedding)
    assert a.params(active=True) == p.params_active
    assert a.flops_per_token(exact=False) * p.tokens == p.flops


def test_causal_attention_is_the_mean_over_what_positions_see():
    a = Architecture(layers=2, width=8, heads=2, vocab=9)
    seen = np.arange(1, 17)  # keys of each of 16 positions
    rest = a.flops_per_token(attention=False)
    assert a.flops_per_token(16, causal=True) - rest == pytest.approx(np.mean(12 * 2 * 8 * seen))
    encoder = Architecture(kind="encoder", layers=2, width=8, heads=2, vocab=9)
    assert encoder.flops_per_token(16, causal=True) == encoder.flops_per_token(16)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"width": 10, "heads": 3}, "multiple"),
        ({"heads": None}, "heads"),
        ({"kv_heads": 3}, "divide"),
        ({"layers": -1}, "layers"),
        ({"width": 8.5}, "width"),
        ({"norm": "batch"}, "norm"),
        ({"kind": "lstm"}, "kind"),
        ({"bias": ("key",)}, "bias"),
        ({"experts": 4}, "experts_per_token"),
        ({"experts": 4, "experts_per_token": 5}, "experts_per_token"),
        ({"dense_layers": 5}, "dense_layers"),
        ({"kind": "mlp"}, "inputs"),
        ({"ffn": True}, "ffn"),
    ],
)
def test_what_cannot_be_is_one_sentence(settings, word):
    with pytest.raises(ValueError, match=word) as caught:
        Architecture(**{"layers": 2, "width": 16, "heads": 4, **settings})
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_not_known_is_not_counted():
    a = Architecture(layers=2, width=16, heads=4)
    assert a.params(embeddings=False) == 2 * 12 * 16**2 + 5 * 16
    for call in (a.params, lambda: a.flops_per_token(8), lambda: a.hoffmann_flops_per_token(8)):
        with pytest.raises(ValueError, match="vocab"):
            call()
    with pytest.raises(ValueError, match="positions"):
        Architecture(layers=2, width=16, heads=4, vocab=9, positions=None).params()
    with pytest.raises(ValueError, match="sequence_length"):
        Architecture(layers=2, width=16, heads=4, vocab=9).flops_per_token()


def test_it_is_public_frozen_and_shown():
    assert workbench.Architecture is Architecture
    a = Architecture(layers=2, width=16, heads=4, vocab=9)
    with pytest.raises(AttributeError):
        a.width = 3
    assert Architecture(**a.to_dict()) == a and hash(a) == hash(Architecture(layers=2, width=16, heads=4, vocab=9))
    assert "width=16" in str(a)
    assert sum(a.parts().values()) == a.params()
