"""Whole models: tiny ones of every architecture, written to GGUF as llama.cpp's converter does, must come back as they were."""
import gguf
import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH
from gguf_support import add_byte_tokenizer, dump, interleave_rotary_halves, refusal, transformers_tensors, write_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen2Config, Qwen3Config

LAYERS, VOCABULARY = 7, 300
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}

CONFIGS = {
    "llama-tied": LlamaConfig(**SIZES, tie_word_embeddings=True, rope_theta=12345.0, rms_norm_eps=1e-5),
    "llama-untied": LlamaConfig(**SIZES, tie_word_embeddings=False, head_dim=32),
    "llama-biases": LlamaConfig(**SIZES, tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "llama-3.1": LlamaConfig(**SIZES, rope_theta=500000.0, rope_scaling=LLAMA3),
    "llama-3.2": LlamaConfig(**SIZES, rope_theta=500000.0, rope_scaling=LLAMA3 | {"factor": 32.0}),
    "llama-linear": LlamaConfig(**SIZES, rope_scaling={"rope_type": "linear", "factor": 4.0}),
    "llama-yarn": LlamaConfig(**SIZES, rope_scaling=YARN),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=False, rope_theta=1000000.0),
    "qwen2-yarn": Qwen2Config(**SIZES, tie_word_embeddings=True, rope_scaling=YARN | {"beta_fast": 24.0, "beta_slow": 2.0}),
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True, head_dim=32),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=32, query_pre_attn_scalar=32, sliding_window=8),
    "gemma3-linear": Gemma3TextConfig(
        **SIZES,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=8,
        final_logit_softcapping=30.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    ),
}


def family_of(name):
    return name.split("-")[0]


def make_model(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)  # norms and biases too, so that each matters
    return model.eval()


def rope_of(config):
    parameters = config.rope_parameters
    return parameters.get("full_attention", parameters)


def llama3_factors(config):
    """As the converter writes them: how much slower each rotation becomes."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = rope_of(config)
    dimension = config.head_dim
    plain = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dimension, 2, dtype=torch.float32) / dimension))
    return (plain / ROPE_INIT_FUNCTIONS["llama3"](config, None)[0]).numpy()


def write_metadata(writer, config, head_dim):
    rope = rope_of(config)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    if head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "beta_fast" in rope:
            writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def write_gemma_metadata(writer, config):
    writer.add_sliding_window(config.sliding_window)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def converted(name, values, family, config):
    if family == "gemma3" and name.endswith("norm.weight"):
        return values + np.float32(1)
    if family == "llama" and ".q_proj." in name:
        return interleave_rotary_halves(values, config.num_attention_heads)
    if family == "llama" and ".k_proj." in name:
        return interleave_rotary_halves(values, config.num_key_value_heads)
    return values


def write_model(path, model, family, drop=(), extra=()):
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    architecture = MODEL_ARCH[family.upper()]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_name("Tiny")
    write_metadata(writer, config, head_dim)
    if family == "gemma3":
        write_gemma_metadata(writer, config)
    add_byte_tokenizer(writer, VOCABULARY)
    if rope_of(config)["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings or name in drop:
            continue
        stored = converted(name, tensor.numpy(), family, config)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(stored))
    for name, values in extra:
        writer.add_tensor(name, values)
    write_file(writer)


def logits_of(model):
    ids = torch.randint(0, VOCABULARY, (2, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_model_comes_back(tmp_path, name):
    family = family_of(name)
    model = make_model(CONFIGS[name])
    write_model(tmp_path / "model.gguf", model, family)
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    folder = source.write_weights()

    loaded, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert type(loaded) is type(model)
    for parameter, tensor in model.state_dict().items():
        if family == "gemma3" and parameter.endswith("norm.weight"):
            tensor = (tensor + 1) - 1  # stored as 1 + gain
        assert torch.equal(loaded.state_dict()[parameter], tensor), parameter
    # Rotary frequencies do not differ but by the order of their float32 operations.
    tolerance = 1e-4 if family == "gemma3" else 1e-6
    assert torch.allclose(logits_of(loaded), logits_of(model), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["llama-untied", "qwen2", "qwen3", "gemma3"])
def test_tensors_are_those_that_transformers_reads(tmp_path, name):
    write_model(tmp_path / "model.gguf", make_model(CONFIGS[name]), family_of(name))
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    expected = transformers_tensors(tmp_path / "model.gguf", source.folder)
    assert sorted(expected) == sorted(source.names)
    for tensor, values in expected.items():
        assert np.array_equal(source.tensors[tensor], values.numpy()), tensor


@pytest.mark.parametrize("name", CONFIGS)
def test_config_says_what_the_original_said(tmp_path, name):
    original = CONFIGS[name]
    write_model(tmp_path / "model.gguf", make_model(original), family_of(name))
    dump(tmp_path / "model.gguf", tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    ignored = {"transformers_version", "dtype", "architectures", "_name_or_path", "initializer_range", "layer_types", "head_dim"}
    found, expected = config.to_dict(), original.to_dict()
    for key in expected.keys() - ignored:
        assert found[key] == expected[key], key
    assert getattr(config, "layer_types", None) == getattr(original, "layer_types", None)


def test_gemma3_of_27b_scales_queries_by_width(tmp_path):
    config = Gemma3TextConfig(**SIZES | {"num_hidden_layers": 62}, head_dim=32, sliding_window=8)
    write_model(tmp_path / "model.gguf", make_model(config), "gemma3")
    assert dump(tmp_path / "model.gguf", tmp_path / "out").config["query_pre_attn_scalar"] == 64 // 4


def test_missing_tensor_is_named(tmp_path):
    model = make_model(CONFIGS["llama-tied"])
    write_model(tmp_path / "model.gguf", model, "llama", drop=["model.layers.3.mlp.up_proj.weight"])
    assert "'blk.3.ffn_up.weight' is missing" in refusal(tmp_path / "model.gguf", tmp_path / "out")


def test_unknown_tensor_is_named(tmp_path):
    extra = [("blk.0.ffn_sub_norm.weight", np.ones(64, np.float32))]
    write_model(tmp_path / "model.gguf", make_model(CONFIGS["llama-tied"]), "llama", extra=extra)
    assert "blk.0.ffn_sub_norm.weight" in refusal(tmp_path / "model.gguf", tmp_path / "out")


def test_unpublished_rotary_factors_are_refused(tmp_path):
    config = LlamaConfig(**SIZES, rope_theta=500000.0, rope_scaling=LLAMA3 | {"factor": 9.0})
    write_model(tmp_path / "model.gguf", make_model(config), "llama")
    assert "rope_freqs.weight" in refusal(tmp_path / "model.gguf", tmp_path / "out")


def test_other_architectures_are_refused_by_name(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "rwkv7")
    writer.add_block_count(1)
    write_file(writer)
    assert "'rwkv7'" in refusal(tmp_path / "model.gguf", tmp_path / "out")
