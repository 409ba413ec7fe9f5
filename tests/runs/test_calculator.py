"""The calculator against torch modules, torch's FLOP counter, papers' formulas, published counts and probes."""

from itertools import pairwise

import numpy as np
import pytest

import workbench
from workbench.probes import Probe
from workbench.runs.calculator import Architecture

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

GPT2 = {"norm": "layer", "bias": True, "vocab": 50257, "positions": 1024}
LLAMA = {"gated": True, "tied": False}
NEOX = {"norm": "layer", "bias": True, "tied": False}
BERT = {
    "kind": "encoder", "norm": "layer", "bias": True, "final_norm": False, "embedding_norm": True, "vocab": 30522,
    "positions": 512, "segments": 2, "pooler": True,
}  # fmt: skip

#: name -> architecture, parameters as published with the weights.
PUBLISHED = {
    "GPT-2": ({"layers": 12, "width": 768, "heads": 12, **GPT2}, 124_439_808),
    "GPT-2 medium": ({"layers": 24, "width": 1024, "heads": 16, **GPT2}, 354_823_168),
    "GPT-2 large": ({"layers": 36, "width": 1280, "heads": 20, **GPT2}, 774_030_080),
    "GPT-2 XL": ({"layers": 48, "width": 1600, "heads": 25, **GPT2}, 1_557_611_200),
    "Llama 2 7B": ({"layers": 32, "width": 4096, "heads": 32, "ffn": 11008, "vocab": 32000, **LLAMA}, 6_738_415_616),
    "Llama 2 70B": (
        {"layers": 80, "width": 8192, "heads": 64, "kv_heads": 8, "ffn": 28672, "vocab": 32000, **LLAMA},
        68_976_648_192,
    ),
    "Llama 3 8B": (
        {"layers": 32, "width": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "vocab": 128256, **LLAMA},
        8_030_261_248,
    ),
    "Mistral 7B": (
        {"layers": 32, "width": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "vocab": 32000, **LLAMA},
        7_241_732_096,
    ),
    "Mixtral 8x7B": (
        {
            "layers": 32,
            "width": 4096,
            "heads": 32,
            "kv_heads": 8,
            "ffn": 14336,
            "vocab": 32000,
            "experts": 8,
            "experts_per_token": 2,
            **LLAMA,
        },
        46_702_792_704,
    ),
    "Qwen2.5 0.5B": (
        {
            "layers": 24,
            "width": 896,
            "heads": 14,
            "kv_heads": 2,
            "ffn": 4864,
            "vocab": 151936,
            "gated": True,
            "bias": ("qkv",),
        },
        494_032_768,
    ),
    "Qwen3 30B-A3B": (
        {
            "layers": 48,
            "width": 2048,
            "heads": 32,
            "kv_heads": 4,
            "head_dim": 128,
            "vocab": 151936,
            "experts": 128,
            "experts_per_token": 8,
            "expert_ffn": 768,
            "qk_norm": "head",
            **LLAMA,
        },
        30_532_122_624,
    ),
    "Gemma 2B": (
        {
            "layers": 18,
            "width": 2048,
            "heads": 8,
            "kv_heads": 1,
            "head_dim": 256,
            "ffn": 16384,
            "vocab": 256000,
            "gated": True,
        },
        2_506_172_416,
    ),
    "GPT-J 6B": (
        {
            "layers": 28,
            "width": 4096,
            "heads": 16,
            "norm": "layer",
            "norms": 1,
            "bias": ("ffn", "head"),
            "vocab": 50400,
            "tied": False,
        },
        6_050_882_784,
    ),
    "BLOOM": (
        {
            "layers": 70,
            "width": 14336,
            "heads": 112,
            "vocab": 250880,
            "norm": "layer",
            "bias": True,
            "embedding_norm": True,
        },
        176_247_271_424,
    ),
    "BERT base": ({"layers": 12, "width": 768, "heads": 12, **BERT}, 109_482_240),
    "BERT large": ({"layers": 24, "width": 1024, "heads": 16, **BERT}, 335_141_888),
}

#: Pythia (Biderman et al. 2023, arXiv 2304.01373): layers, width, heads, rows of the embedding, total, non-embedding.
PYTHIA = {
    "70M": (6, 512, 8, 50304, 70_426_624, 18_915_328),
    "160M": (12, 768, 12, 50304, 162_322_944, 85_056_000),
    "410M": (24, 1024, 16, 50304, 405_334_016, 302_311_424),
    "1B": (16, 2048, 8, 50304, 1_011_781_632, 805_736_448),
    "1.4B": (24, 2048, 16, 50304, 1_414_647_808, 1_208_602_624),
    "2.8B": (32, 2560, 32, 50304, 2_775_208_960, 2_517_652_480),
    "6.9B": (32, 4096, 32, 50432, 6_857_302_016, 6_444_163_072),
    "12B": (36, 5120, 40, 50688, 11_846_072_320, 11_327_027_200),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    settings, published = PUBLISHED[name]
    assert Architecture(**settings).params() == published


@pytest.mark.parametrize("name", PYTHIA)
def test_pythia_with_and_without_embeddings(name):
    layers, width, heads, vocab, total, bare = PYTHIA[name]
    model = Architecture(layers=layers, width=width, heads=heads, vocab=vocab, **NEOX)
    assert (model.params(), model.params(embeddings=False)) == (total, bare)


def test_active_parameters_of_published_mixtures():
    mixtral = Architecture(**PUBLISHED["Mixtral 8x7B"][0])
    assert round(mixtral.params(active=True) / 1e9, 1) == 12.9  # Jiang et al. 2024, arXiv 2401.04088: 13B
    olmoe = {"layers": 16, "width": 2048, "heads": 16, "vocab": 50304, "experts": 64, "experts_per_token": 8, **LLAMA}
    olmoe = Architecture(expert_ffn=1024, qk_norm="width", **olmoe)
    # Muennighoff et al. 2024, arXiv 2409.02060: 1.3B active of 6.9B
    assert (round(olmoe.params(active=True) / 1e9, 1), round(olmoe.params() / 1e9, 1)) == (1.3, 6.9)
    dense = Architecture(**PUBLISHED["Mistral 7B"][0])
    assert dense.params(active=True) == dense.params()


@pytest.mark.parametrize(
    ("layers", "width", "heads", "published"), [(32, 4096, 16, 8.63), (64, 8192, 32, 62.50), (118, 18432, 48, 540.35)]
)
def test_palm_table_1(layers, width, heads, published):
    # attention and MLP in parallel share a norm
    block = {"heads": heads, "kv_heads": 1, "head_dim": 256, "gated": True, "norms": 1}
    model = Architecture(layers=layers, width=width, vocab=256_000, **block)
    assert model.params() / 1e9 == pytest.approx(published, abs=0.01)


def test_gpt3_compute_of_its_table_d1():
    model = Architecture(layers=96, width=12288, heads=96, norm="layer", bias=True, vocab=50257, positions=2048)
    assert model.params() / 1e6 == pytest.approx(174_600, rel=1e-3)
    assert model.flops_per_token(exact=False) * 300e9 == pytest.approx(3.14e23, rel=2e-3)


def test_kaplan_table_1():
    layers, d, context = 24, 1024, 512
    model = Architecture(layers=layers, width=d, heads=16, norm="none", vocab=50257, positions=context)
    assert model.params(embeddings=False) == 12 * layers * d**2
    forward = model.flops_per_token(context, embeddings=False, causal=True, training=False)
    # their mask term counts T / 2 keys, a position sees (T + 1) / 2
    assert forward == 2 * 12 * layers * d**2 + 2 * layers * (context + 1) * d


def test_palm_appendix_b():
    model = Architecture(layers=8, width=512, heads=4, head_dim=96, kv_heads=1, gated=True, vocab=1000)
    assert model.flops_per_token(256, exact=False, attention=True) == 6 * model.params() + 12 * 8 * 4 * 96 * 256


@pytest.mark.parametrize(
    ("layers", "h", "s", "vocab"), [(24, 2304, 2048, 51200), (96, 12288, 2048, 51200), (3, 64, 32, 99)]
)
def test_megatron_eq_3(layers, h, s, vocab):
    model = Architecture(layers=layers, width=h, heads=4, vocab=vocab, positions=s)
    published = 96 * s * layers * h**2 * (1 + s / (6 * h) + vocab / (16 * layers * h))
    recomputed = model.flops_per_token(s, embeddings=False, training=False)
    assert s * (model.flops_per_token(s) + recomputed) == pytest.approx(published, rel=1e-12)


@pytest.mark.parametrize(
    ("layers", "width", "ffn", "heads", "head_dim", "published"),
    [
        (10, 640, 2560, 10, 64, 1.03),
        (20, 1024, 4096, 16, 64, 1.10),
        (24, 1280, 5120, 10, 128, 1.08),
        (26, 1792, 7168, 14, 128, 1.04),
        (28, 2048, 8192, 16, 128, 1.03),
        (40, 3584, 14336, 28, 128, 0.99),
    ],
)
def test_hoffmann_table_a4(layers, width, ffn, heads, head_dim, published):
    model = Architecture(layers=layers, width=width, ffn=ffn, heads=heads, head_dim=head_dim, vocab=32_000)
    params = model.params() + layers * width**2  # relative positions of Transformer-XL
    assert round(model.hoffmann_flops_per_token(2048, embeddings=False) / (6 * params), 2) == published


def test_hoffmann_appendix_f_term_by_term():
    s, v, d, k, h, f, layers = 96, 700, 80, 16, 4, 200, 3
    block = 2 * 3 * s * d * k * h + 2 * s * s * k * h + 3 * h * s * s + 2 * s * s * k * h + 2 * s * k * h * d
    forward = 2 * s * v * d + layers * (block + 2 * s * (d * f + d * f)) + 2 * s * d * v
    model = Architecture(layers=layers, width=d, heads=h, head_dim=k, ffn=f, vocab=v)
    assert s * model.hoffmann_flops_per_token(s) == pytest.approx(3 * forward, rel=1e-12)


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
