"""The calculator against published counts of parameters and papers' formulas of compute."""

import pytest

from workbench.runs.calculator import Architecture

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
