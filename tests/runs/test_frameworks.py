"""Configuration keys of frameworks against their own models, published counts, and what their scripts compute."""

import json

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.runs.calculator import Architecture
from workbench.runs.counted import HOLDER
from workbench.runs.with_architecture import with_architecture

pytestmark = pytest.mark.libraries

NANOGPT = {
    "n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "bias": False, "dropout": 0.0, "batch_size": 12,
    "gradient_accumulation_steps": 40, "learning_rate": 6e-4, "min_lr": 6e-5, "max_iters": 600000,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
    "tie_word_embeddings": False, "max_position_embeddings": 4096,
}  # fmt: skip
MEGATRON = {
    "num_layers": 24, "hidden_size": 2304, "num_attention_heads": 24, "ffn_hidden_size": 9216, "kv_channels": 96,
    "padded_vocab_size": 51200, "max_position_embeddings": 2048, "seq_length": 2048, "global_batch_size": 512,
    "micro_batch_size": 8, "rampup_batch_size": None, "train_iters": 5000, "consumed_train_samples": 0, "lr": 1.5e-4,
    "position_embedding_type": "learned_absolute", "untie_embeddings_and_output_weights": False, "swiglu": False,
    "add_bias_linear": True, "normalization": "LayerNorm", "num_experts": None, "group_query_attention": False,
    "num_query_groups": 1,
}  # fmt: skip
LEVANTER = {
    "model": {"type": "llama", "hidden_dim": 4096, "intermediate_dim": 11008, "num_layers": 32, "num_heads": 32,
              "num_kv_heads": 32, "seq_len": 4096, "use_bias": False, "tie_word_embeddings": False},
    "trainer": {"train_batch_size": 1024, "num_train_steps": 25000}, "optimizer": {"learning_rate": 3e-4},
}  # fmt: skip
OLMO = {
    "model": {"d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8, "mlp_hidden_size": None,
              "activation_type": "swiglu", "weight_tying": True, "alibi": False, "rope": True, "include_bias": False,
              "layer_norm_type": "default", "layer_norm_with_affine": False, "bias_for_layer_norm": False,
              "attention_layer_norm": False, "max_sequence_length": 2048, "vocab_size": 50280,
              "embedding_size": 50304},
    "optimizer": {"learning_rate": 4e-4}, "global_train_batch_size": 2048, "max_duration": "3e12T",
}  # fmt: skip
LITGPT = {
    "name": "pythia-70m", "n_layer": 6, "n_embd": 512, "n_head": 8, "block_size": 2048, "padded_vocab_size": 50304,
    "vocab_size": 50254, "norm_class_name": "LayerNorm", "mlp_class_name": "GptNeoxMLP", "bias": True,
    "lm_head_bias": False, "intermediate_size": 2048, "n_query_groups": 8, "head_size": 64, "norm_qk": False,
    "shared_attention_norm": False, "parallel_residual": True, "n_expert": 0,
}  # fmt: skip

#: Sizes of small models of every family: (class, configuration class, settings).
WIDE = {"hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4}
WIDE |= {"max_position_embeddings": 96}
GROUPED = {**WIDE, "num_key_value_heads": 2}
GPT = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 96}
NEO = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 96}
OPT = {"hidden_size": 48, "ffn_dim": 100, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 48}
DISTILLED = {"dim": 48, "hidden_dim": 112, "n_layers": 3, "n_heads": 4}
FAMILIES = [
    ("GPT2LMHeadModel", "GPT2Config", GPT),
    ("GPT2LMHeadModel", "GPT2Config", {**GPT, "n_inner": 80}),
    ("GPT2Model", "GPT2Config", GPT),
    ("GPTNeoForCausalLM", "GPTNeoConfig", {**NEO, "attention_types": [[["global", "local"], 1]]}),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig", WIDE),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**WIDE, "attention_bias": False, "tie_word_embeddings": True}),
    ("GPTJForCausalLM", "GPTJConfig", {**GPT, "rotary_dim": 4}),
    ("OPTForCausalLM", "OPTConfig", OPT),
    ("OPTForCausalLM", "OPTConfig", {**OPT, "layer_norm_elementwise_affine": False}),
    ("BloomForCausalLM", "BloomConfig", {"hidden_size": 48, "n_layer": 3, "n_head": 4}),
    ("PhiForCausalLM", "PhiConfig", WIDE),
    ("Phi3ForCausalLM", "Phi3Config", {**GROUPED, "pad_token_id": 0}),
    ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    ("LlamaForCausalLM", "LlamaConfig", {**WIDE, "attention_bias": True, "mlp_bias": True}),
    ("LlamaForCausalLM", "LlamaConfig", {**WIDE, "tie_word_embeddings": True, "head_dim": 20}),
    ("LlamaModel", "LlamaConfig", WIDE),
    ("MistralForCausalLM", "MistralConfig", GROUPED),
    ("MixtralForCausalLM", "MixtralConfig", {**GROUPED, "num_local_experts": 5, "num_experts_per_tok": 2}),
    ("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    ("Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 16, "attention_bias": True}),
    (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {**GROUPED, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40},
    ),
    ("GemmaForCausalLM", "GemmaConfig", {**GROUPED, "head_dim": 16}),
    ("Gemma2ForCausalLM", "Gemma2Config", {**GROUPED, "head_dim": 16}),
    ("Gemma3ForCausalLM", "Gemma3TextConfig", {**GROUPED, "head_dim": 16}),
    ("OlmoForCausalLM", "OlmoConfig", GROUPED),
    ("Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    ("OlmoeForCausalLM", "OlmoeConfig", {**GROUPED, "num_experts": 6, "num_experts_per_tok": 2}),
    ("StableLmForCausalLM", "StableLmConfig", {**GROUPED, "use_qkv_bias": True}),
    ("StableLmForCausalLM", "StableLmConfig", {**GROUPED, "use_parallel_residual": True}),
    ("Starcoder2ForCausalLM", "Starcoder2Config", GROUPED),
    ("Starcoder2ForCausalLM", "Starcoder2Config", {**GROUPED, "use_bias": False}),
    ("BertModel", "BertConfig", WIDE),
    ("BertForMaskedLM", "BertConfig", WIDE),
    ("RobertaModel", "RobertaConfig", WIDE),
    ("RobertaForMaskedLM", "RobertaConfig", WIDE),
    ("DistilBertModel", "DistilBertConfig", DISTILLED),
    ("DistilBertForMaskedLM", "DistilBertConfig", DISTILLED),
]


@pytest.mark.parametrize(("name", "config", "settings"), FAMILIES, ids=[f"{i}-{f[0]}" for i, f in enumerate(FAMILIES)])
def test_transformers_own_models(name, config, settings):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: its models are the truth")
    torch = pytest.importorskip("torch")
    made = getattr(transformers, config)(vocab_size=131, **settings)
    with torch.device("meta"):
        model = getattr(transformers, name)(made)
    truth = sum(p.numel() for p in model.parameters())
    # what is saved beside weights leaves defaults out, what loggers record does not
    for written in (made.to_dict(), made.to_diff_dict()):
        written = json.loads(json.dumps({**written, "architectures": [name]}, default=str))
        assert Architecture.from_config(written).params() == truth


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA, 6_738_415_616),
        (OLMO, 1_176_764_416),  # OLMo 1B
        (
            {"model": {**OLMO["model"], "d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22016,
                       "weight_tying": False}},
            6_888_095_744,  # OLMo 7B
        ),
        (LITGPT, 70_426_624),
    ],
)  # fmt: skip
def test_published_counts(config, published):
    assert Architecture.from_config(config).params() == published


@pytest.mark.parametrize(
    ("settings", "printed"),
    [({"vocab_size": 50304}, "123.59M"),
     ({"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "vocab_size": 65}, "10.65M")],
)  # fmt: skip
def test_nanogpt_prints_its_parameters_without_positions(settings, printed):
    config = {**NANOGPT, **settings}
    bare = Architecture.from_config(config).params() - config["block_size"] * config["n_embd"]
    assert f"{bare / 1e6:.2f}M" == printed  # "number of parameters" in its README and on its screen


def test_megatron_eq_2():
    """Narayanan et al. 2021 (arXiv 2104.04473), eq. 2, which leaves the last norm out; GPT of their table 1."""
    layers, h, s, vocab = 24, 2304, 2048, 51200
    published = 12 * layers * h**2 * (1 + 13 / (12 * h) + (vocab + s) / (12 * layers * h))
    assert Architecture.from_config(MEGATRON).params() == pytest.approx(published + 2 * h, rel=1e-12)
    assert published / 1e9 == pytest.approx(1.7, abs=0.05)


def test_megatron_options():
    llama = {**MEGATRON, "num_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "ffn_hidden_size": 14336,
             "kv_channels": 128, "padded_vocab_size": 128256, "position_embedding_type": "rope", "swiglu": True,
             "add_bias_linear": False, "normalization": "RMSNorm", "group_query_attention": True,
             "num_query_groups": 8, "untie_embeddings_and_output_weights": True}  # fmt: skip
    assert Architecture.from_config(llama).params() == 8_030_261_248  # Llama 3 8B
    mixtral = {**llama, "padded_vocab_size": 32000, "num_experts": 8, "moe_router_topk": 2}
    assert Architecture.from_config(mixtral).params() == 46_702_792_704
    assert Architecture.from_config(mixtral).params(active=True) == 12_879_925_248


def test_levanter_knows_no_vocabulary():
    model = Architecture.from_config(LEVANTER)
    assert model.vocab is None
    assert model.params(embeddings=False) == 6_738_415_616 - 2 * 32000 * 4096  # Llama 2 7B


def load_one(tmp_path, config, **more):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"config": config, "val_loss": 2.5, **more}))
    return workbench.load(path)


def row(table):
    return table.frame.iloc[0]


def test_nanogpt_batch_is_of_all_its_micro_batches(tmp_path):
    table = load_one(tmp_path, NANOGPT, steps=1000)
    run = row(table)
    assert (run["batch"], run["batch_tokens"], run["context"]) == (480, 491_520, 1024)  # its comment: ~0.5M tokens
    assert run["tokens"] == 491_520_000 and run["lr"] == 6e-4
    # GPT-2's without biases: 13 vectors of a block become 2, of the last norm 1
    assert run["params_non_embedding"] == 85_056_000 - 12 * 11 * 768 - 768
    assert "params" not in table  # its vocabulary is not logged
    assert any("micro-batch" in message for message in table.messages)
    assert table.notes["tokens"].startswith("derived") and table.notes["params_non_embedding"].startswith("derived")
    assert HOLDER not in table


def test_planned_steps_are_called_so_and_reached_ones_win(tmp_path):
    planned = load_one(tmp_path, NANOGPT)
    assert row(planned)["steps"] == 600_000 and "as planned" in planned.notes["steps"]
    reached = load_one(tmp_path, {**NANOGPT, "vocab_size": 50304}, steps=10)
    assert row(reached)["steps"] == 10 and row(reached)["tokens"] == 10 * 491_520
    assert row(reached)["flops"] == 6 * row(reached)["params"] * row(reached)["tokens"]
    model = Architecture.from_config({**NANOGPT, "vocab_size": 50304})
    assert row(reached)["flops_exact"] == model.flops_per_token(1024) * 10 * 491_520
    assert "attention" in reached.notes["flops_exact"]


def test_hugging_face_trainer(tmp_path):
    args = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8, "learning_rate": 3e-4, "max_steps": -1}
    run = row(load_one(tmp_path, {**LLAMA, **args, "world_size": 64, "block_size": 4096}, steps=100))
    assert (run["batch"], run["batch_tokens"], run["tokens"]) == (2048, 8_388_608, 838_860_800)
    assert (run["params"], run["params_non_embedding"]) == (6_738_415_616, 6_476_271_616)
    # neither the number of devices nor the length of sequences is guessed, and -1 steps are none
    table = load_one(tmp_path, {**LLAMA, **args})
    assert not {"batch", "batch_tokens", "tokens", "flops", "flops_exact"} & set(table.frame.columns)
    assert np.isnan(row(table)["steps"])
    seen = row(load_one(tmp_path, {**LLAMA, **args, "num_input_tokens_seen": 1000, "total_flos": 2e15}))
    assert (seen["tokens"], seen["flops"]) == (1000, 2e15)
    nothing = load_one(tmp_path, {**LLAMA, "num_input_tokens_seen": 0, "total_flos": 0})
    assert "tokens" not in nothing and row(nothing)["problem"] == ""


def test_megatron_counts_samples(tmp_path):
    run = row(load_one(tmp_path, MEGATRON))
    assert (run["batch"], run["batch_tokens"], run["tokens"]) == (512, 512 * 2048, 5000 * 512 * 2048)
    rising = {**MEGATRON, "rampup_batch_size": ["16", "16", "1000"], "consumed_train_samples": 12345}
    run = row(load_one(tmp_path, rising))
    assert run["tokens"] == 12345 * 2048 and "batch_tokens" not in run


def test_levanter_olmo_litgpt_and_lightning_batches(tmp_path):
    run = row(load_one(tmp_path, LEVANTER))
    assert (run["batch_tokens"], run["tokens"], run["lr"]) == (1024 * 4096, 25000 * 1024 * 4096, 3e-4)
    run = row(load_one(tmp_path, OLMO))
    assert (run["batch_tokens"], run["tokens"], run["lr"]) == (2048 * 2048, 3e12, 4e-4)
    run = row(load_one(tmp_path, OLMO, steps=10))  # what was trained, not what was planned
    assert run["tokens"] == 10 * 2048 * 2048
    core = {"data_loader": {"global_batch_size": 2**22}, "dataset": {"sequence_length": 4096}}
    run = row(load_one(tmp_path, core, steps=3))
    assert (run["batch"], run["batch_tokens"], run["tokens"]) == (1024, 2**22, 3 * 2**22)
    train = {"global_batch_size": 512, "micro_batch_size": 4, "max_tokens": 3e11, "max_seq_length": None}
    run = row(load_one(tmp_path, {"model_config": LITGPT, "train": train}))
    assert (run["batch"], run["batch_tokens"], run["tokens"]) == (512, 512 * 2048, 3e11)
    lightning = {"batch_size": 8, "accumulate_grad_batches": 4, "devices": 2, "num_nodes": 3, "max_steps": 50}
    run = row(load_one(tmp_path, lightning))
    assert (run["batch"], run["steps"]) == (192, 50) and "batch_tokens" not in run
    run = row(load_one(tmp_path, {**lightning, "devices": "auto"}))
    assert run["batch"] == 8  # as logged


def test_what_was_logged_wins_and_a_disagreement_is_told(tmp_path):
    table = load_one(tmp_path, LLAMA, n_params=7.5e9)
    assert row(table)["params"] == 7.5e9 and row(table)["params_non_embedding"] == 6_476_271_616
    assert any("1.11 x" in message and "params" in message for message in table.messages)
    close = load_one(tmp_path, LLAMA, n_params=6.74e9)
    assert row(close)["params"] == 6.74e9 and not close.messages
    bare = load_one(tmp_path, LLAMA, n_params=6_476_271_616)
    assert any("without embeddings" in message for message in bare.messages)
    seen = load_one(tmp_path, MEGATRON | {"consumed_train_samples": 1000}, tokens_seen=5e6)
    assert row(seen)["tokens"] == 5e6 and any("tokens" in message for message in seen.messages)


def test_mixtures_cost_their_active_parameters(tmp_path):
    experts = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "num_key_value_heads": 8}
    config = {**LLAMA, **experts, "architectures": ["MixtralForCausalLM"], "intermediate_size": 14336}
    run = row(load_one(tmp_path, config, tokens_seen=1e12))
    assert (run["params"], run["params_active"]) == (46_702_792_704, 12_879_925_248)
    assert run["flops"] == 6 * 12_879_925_248 * 1e12 and run["experts"] == 8
    assert row(load_one(tmp_path, config, flops=6e22))["tokens"] == pytest.approx(1e22 / 12_879_925_248)


def test_runs_of_several_frameworks_in_one_folder(tmp_path):
    for name, config in {"a": NANOGPT | {"vocab_size": 50304}, "b": LLAMA, "c": {"width": 64}, "d": MEGATRON}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"config": config, "val_loss": 3.0, "tokens": 1e9}))
    table = workbench.load(tmp_path)
    params = dict(zip(table.ids, table["params"], strict=True))
    assert params["b"] == 6_738_415_616 and np.isnan(params["c"])
    assert all(f in table.notes["params"] for f in ("nanoGPT", "Hugging Face", "Megatron"))
    assert "3 of 4 rows" in table.notes["params"]
    frame = pd.DataFrame([{"run": str(i), "loss": 3.0, **NANOGPT, "n_layer": 1 + i % 3} for i in range(300)])
    kept = frame.copy()
    depth = workbench.load(frame).frame
    assert (depth["params_non_embedding"] == depth["depth"] * (12 * 768**2 + 2 * 768) + 768).all()
    pd.testing.assert_frame_equal(frame, kept)  # the user's own frame stays as it is


def test_curves_and_their_columns_stay_as_logged():
    steps = [{"run": r, "step": s, "loss": 3 - s / 100, **NANOGPT} for r in "ab" for s in (10, 20, 30)]
    table = workbench.load(pd.DataFrame(steps))
    assert table.ids == ["a", "b"] and table["tokens"].tolist() == [30 * 491_520] * 2
    assert HOLDER not in table.curves["a"] and HOLDER not in table


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280},
        {**LLAMA, "architectures": ["LlamaForSequenceClassification"]},
        {**LLAMA, "hidden_size": "wide"},
        {**LLAMA, "num_attention_heads": 0},
        {"model_type": "bert", **WIDE, "vocab_size": 100},  # with or without a pooler, with which head
        {"model_type": "opt", **OPT, "word_embed_proj_dim": 24, "vocab_size": 100},
        {"model_type": "qwen3", **GROUPED, "vocab_size": 100},
        {**MEGATRON, "multi_latent_attention": True},
        {"student": NANOGPT, "teacher": {**NANOGPT, "n_layer": 24}},
        {"n_layer": 12, "n_head": 12, "n_embd": 768},
        {"hidden_size": 768, "num_hidden_layers": 12},
        {},
    ],
)
def test_what_is_not_said_is_not_guessed(tmp_path, config):
    table = load_one(tmp_path, config)
    assert not {"params", "params_non_embedding", "flops_exact"} & set(table.frame.columns)
    assert row(table)["problem"] == ""
    with pytest.raises(ValueError, match="Architecture") as caught:
        Architecture.from_config(config)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_that_do_not_fit_are_no_error_in_a_log(tmp_path):
    config = {**LLAMA, "hidden_size": 4097}
    assert "params" not in load_one(tmp_path, config)
    with pytest.raises(ValueError, match="multiple"):
        Architecture.from_config(config)


def test_no_cell_is_an_error():
    rng = np.random.default_rng(0)
    cells = [
        None,
        "",
        0,
        -1,
        1,
        3.5,
        "x",
        "1e300",
        1e15,
        float("nan"),
        float("inf"),
        True,
        "True",
        [1, 2],
        10**400,
        "48",
    ]
    configs = [
        NANOGPT,
        {**LLAMA, "world_size": 8, "block_size": 64, "per_device_train_batch_size": 2},
        MEGATRON,
        LITGPT,
    ]
    for config in configs:
        rows = [{"run": str(i), "loss": 3.0, **config} for i in range(300)]
        for row_ in rows:
            for key in rng.choice(list(config), 3):
                row_[key] = cells[rng.integers(len(cells))]
        found = workbench.load(pd.DataFrame(rows))
        assert len(found) == 300 and HOLDER not in found
        values = found["params_non_embedding"].dropna()
        assert len(values) > 20 and ((values > 0) & np.isfinite(values)).all()


def test_words_for_numbers_and_deep_nesting():
    flat = {f"wandb.config.{key}": str(value) for key, value in LLAMA.items()}
    assert Architecture.from_config(flat).params() == 6_738_415_616
    slashed = {f"model/{key}": value for key, value in LLAMA.items()}
    assert Architecture.from_config({**slashed, "draft/small/num_hidden_layers": 2}).params() == 6_738_415_616


def test_an_architecture_given_for_runs_that_say_nothing():
    runs = workbench.load(pd.DataFrame({"run": ["p", "q"], "loss": [3.0, 2.0], "tokens": [1e9, 2e9]}))
    model = Architecture(layers=12, width=768, heads=12, vocab=50257, positions=1024, norm="layer", bias=True)
    found = with_architecture(runs, model, 1024)
    assert found["params"].tolist() == [124_439_808] * 2
    assert found["flops"].tolist() == [6 * 124_439_808 * 1e9, 6 * 124_439_808 * 2e9]
    assert found["flops_exact"].tolist() == [model.flops_per_token(1024) * d for d in (1e9, 2e9)]
    one = with_architecture(runs, {"q": model})
    assert np.isnan(one["params"][0]) and one["params"][1] == 124_439_808 and "flops_exact" not in one
    assert "params" not in runs
    with pytest.raises(KeyError, match="r"):
        with_architecture(runs, {"r": model})
    with pytest.raises(TypeError, match="Architecture"):
        with_architecture(runs, {"q": 3})
