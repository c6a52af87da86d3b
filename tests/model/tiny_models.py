"""Owns tiny models of every family and variant, made by transformers itself, and the logits that transformers gives for them.

The weights are random with a fixed seed, gains of norms and biases too, so that leaving out any part of a model changes its logits.
Sizes are odd on purpose: no dimension is a multiple of 16, head widths differ from hidden / heads, windows and original contexts
are shorter than the sequences.
"""
import functools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    BitNetConfig,
    BitNetForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 131
CONTEXT = 256
LONGEST = 100


@dataclass(frozen=True)
class Variant:
    config_class: type
    model_class: type
    options: dict
    # Changes of the saved config.json: how other versions of transformers, or hand-written files, say the same. None removes a key.
    rewrite: dict = field(default_factory=dict)
    # Changes of config.json, each a single mistake that a reader could make; every one must change the logits.
    mistakes: tuple = ()
    largest_shard: str = "1GB"


COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    # Large enough that a wrong place or value of epsilon shows.
    "rms_norm_eps": 1e-3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}


def llama(options=(), **rest):
    return Variant(LlamaConfig, LlamaForCausalLM, COMMON | dict(options), **rest)


def mistral(options=(), **rest):
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 18, "sliding_window": 7}
    return Variant(MistralConfig, MistralForCausalLM, COMMON | sizes | dict(options), **rest)


def ministral(options=(), **rest):
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 18, "sliding_window": 7}
    layers = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    return Variant(MinistralConfig, MinistralForCausalLM, COMMON | sizes | layers | dict(options), **rest)


def qwen2(options=(), **rest):
    return Variant(Qwen2Config, Qwen2ForCausalLM, COMMON | dict(options), **rest)


def qwen3(options=(), **rest):
    sizes = {"num_attention_heads": 3, "head_dim": 14, "tie_word_embeddings": True}
    return Variant(Qwen3Config, Qwen3ForCausalLM, COMMON | sizes | dict(options), **rest)


def bitnet(options=(), **rest):
    return Variant(BitNetConfig, BitNetForCausalLM, COMMON | dict(options), **rest)


def gemma3(options=(), **rest):
    sizes = {"num_hidden_layers": 4, "head_dim": 12, "intermediate_size": 65, "query_pre_attn_scalar": 20, "sliding_window": 6}
    layers = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]}
    return Variant(Gemma3TextConfig, Gemma3ForCausalLM, COMMON | sizes | layers | gemma_rotary() | dict(options), **rest)


def gemma2(options=(), **rest):
    sizes = {"num_hidden_layers": 3, "head_dim": 12, "intermediate_size": 65, "query_pre_attn_scalar": 20, "sliding_window": 6}
    return Variant(Gemma2Config, Gemma2ForCausalLM, COMMON | sizes | dict(options), **rest)


def gemma_rotary(**full):
    """Two bases: that of the layers with a window, and that of the others with its scaling."""
    return {
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "default", "rope_theta": 3000.0} | full,
        }
    }


def rotary(kind, theta=500.0, **options):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta} | options}


def rotary_v4(scaling, theta=500.0):
    """The same in the words of transformers 4."""
    return {"rope_parameters": None, "rope_theta": theta, "rope_scaling": scaling}


# The wavelengths of 14 rotated dimensions at base 500 lie on both sides of and between the bounds 64 / 4 and 64 / 1.
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
YARN_OPTIONS = YARN | {"attention_factor": 1.3, "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False}
QWEN2_WINDOW = {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2}
MIXED_LAYERS = ["full_attention", "full_attention", "sliding_attention", "sliding_attention"]

VARIANTS = {
    "llama_mha": llama({"num_key_value_heads": 5}, mistakes=({"rms_norm_eps": 1e-6}, rotary("default", 10000.0))),
    "llama_mqa": llama({"intermediate_size": 65}),
    "llama_gqa_tied": llama(
        {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}, mistakes=({"hidden_act": "gelu"},)
    ),
    "llama_head_dim": llama({"head_dim": 14}),
    "llama_biases": llama({"attention_bias": True, "mlp_bias": True}, mistakes=({"attention_bias": False}, {"mlp_bias": False})),
    "llama_attention_bias": llama({"attention_bias": True}),
    "llama_mlp_bias": llama({"mlp_bias": True}),
    "llama_linear": llama(
        rotary("linear", factor=4.0),
        mistakes=(rotary("default"), rotary("linear", factor=2.0), rotary("linear", 10000.0, factor=4.0)),
    ),
    "llama_linear_v4": llama(rotary("linear", factor=4.0), rewrite=rotary_v4({"type": "linear", "factor": 4.0})),
    "llama_llama3": llama(
        rotary("llama3", **LLAMA3) | {"head_dim": 14},
        mistakes=(
            rotary("default"),
            *(rotary("llama3", **LLAMA3 | {key: value * 2}) for key, value in LLAMA3.items()),
        ),
    ),
    "llama_llama3_v4": llama(
        rotary("llama3", **LLAMA3) | {"head_dim": 14}, rewrite=rotary_v4({"rope_type": "llama3"} | LLAMA3)
    ),
    # As the first Llama models were published: what is missing takes its default.
    "llama_sparse_config": llama(
        rotary("default", 10000.0) | {"num_key_value_heads": 5},
        rewrite=dict.fromkeys(
            ["rope_parameters", "num_key_value_heads", "head_dim", "attention_bias", "mlp_bias", "tie_word_embeddings", "dtype"]
        ),
    ),
    "llama_sharded": llama(largest_shard="20KB"),
    "mistral_window": mistral(mistakes=({"sliding_window": 6}, {"sliding_window": 8}, {"sliding_window": None})),
    "mistral_no_window": mistral({"sliding_window": None}),
    "mistral_hidden_over_heads": mistral({"head_dim": None, "sliding_window": 50}),
    "ministral": ministral(mistakes=({"sliding_window": 6}, {"layer_types": ["full_attention"] * 3})),
    # As published before transformers knew the name: AutoModel takes it for the other family.
    "ministral_as_mistral": ministral(rewrite={"model_type": "mistral", "architectures": ["MistralForCausalLM"]}),
    "llama_dynamic": llama(rotary("dynamic", factor=4.0)),
    "llama_proportional": llama(
        rotary("proportional", partial_rotary_factor=0.5), mistakes=(rotary("default"), rotary("proportional"))
    ),
    "qwen2": qwen2(),
    "qwen2_yarn": qwen2(
        rotary("yarn", **YARN) | {"hidden_size": 42, "num_attention_heads": 3},
        mistakes=(rotary("default"), *(rotary("yarn", **YARN | {key: value * 2}) for key, value in YARN.items())),
    ),
    "qwen2_yarn_v4": qwen2(
        rotary("yarn", **YARN) | {"hidden_size": 42, "num_attention_heads": 3}, rewrite=rotary_v4({"type": "yarn"} | YARN)
    ),
    "qwen2_yarn_options": qwen2(
        rotary("yarn", **YARN_OPTIONS) | {"hidden_size": 42, "num_attention_heads": 3},
        mistakes=tuple(
            rotary("yarn", **{name: value for name, value in YARN_OPTIONS.items() if name != missing})
            for missing in YARN_OPTIONS.keys() - YARN.keys()
        ),
    ),
    "qwen2_window": qwen2(
        QWEN2_WINDOW,
        mistakes=({"sliding_window": 5}, {"layer_types": MIXED_LAYERS[::-1]}, {"layer_types": ["full_attention"] * 4}),
    ),
    "qwen2_window_v4": qwen2(QWEN2_WINDOW, rewrite={"layer_types": None} | rotary_v4(None)),
    # Published Qwen2.5 models name a window that they do not use.
    "qwen2_unused_window": qwen2(
        rewrite={"layer_types": None, "use_sliding_window": False, "sliding_window": 6, "max_window_layers": 1},
        mistakes=({"use_sliding_window": True},),
    ),
    "qwen3": qwen3(),
    "qwen3_untied_biases": qwen3({"tie_word_embeddings": False, "attention_bias": True}, mistakes=({"attention_bias": False},)),
    "qwen3_window": qwen3(QWEN2_WINDOW, mistakes=({"sliding_window": 7},)),
    "bitnet": bitnet(mistakes=({"hidden_act": "silu"}, {"rms_norm_eps": 1e-6})),
    "bitnet_biases": bitnet({"attention_bias": True, "tie_word_embeddings": True}, mistakes=({"attention_bias": False},)),
    "gemma2": gemma2(
        {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        mistakes=({"attn_logit_softcapping": 1000.0}, {"final_logit_softcapping": 1000.0}, {"sliding_window": 7}),
    ),
    "gemma3": gemma3(
        mistakes=(
            {"sliding_window": 5},
            {"sliding_window": 7},
            {"query_pre_attn_scalar": 12},
            {"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]},
            {"hidden_activation": "gelu"},
            {"hidden_activation": "silu"},
            gemma_rotary(rope_theta=100.0),
            {"rope_parameters": {name: {"rope_type": "default", "rope_theta": 3000.0} for name in set(MIXED_LAYERS)}},
        )
    ),
    "gemma3_linear": gemma3(gemma_rotary(rope_type="linear", factor=8.0), mistakes=(gemma_rotary(),)),
    "gemma3_v4": gemma3(
        gemma_rotary(rope_type="linear", factor=8.0),
        rewrite={
            "layer_types": None,
            "sliding_window_pattern": 3,
            "rope_parameters": None,
            "rope_theta": 3000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "gemma3_untied": gemma3({"tie_word_embeddings": False}),
    "gemma3_softcap": gemma3({"final_logit_softcapping": 3.0}, mistakes=({"final_logit_softcapping": None},)),
}
# A folder in the words of transformers 4, and the variant whose words it translates.
TRANSLATIONS = {
    "llama_linear_v4": "llama_linear",
    "llama_llama3_v4": "llama_llama3",
    "qwen2_yarn_v4": "qwen2_yarn",
    "qwen2_window_v4": "qwen2_window",
    "qwen2_unused_window": "qwen2",
    "gemma3_v4": "gemma3_linear",
}
ONE_OF_EACH_FAMILY = ["llama_biases", "mistral_window", "ministral", "qwen2", "qwen3", "gemma2", "gemma3", "bitnet"]


def randomise(model):
    """Every parameter random, of sizes that keep activations near 1 and attention far from uniform."""
    generator = torch.Generator().manual_seed(7)
    offset = 0.0 if isinstance(model, Gemma3ForCausalLM) else 1.0  # Gemma stores the gain of a norm less 1
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            value = 0.3 * noise
        elif parameter.dim() == 1:
            value = offset + 0.3 * noise
        elif "embed_tokens" in name:
            value = 0.5 * noise
        else:
            attends = "q_proj" in name or "k_proj" in name
            value = noise * (2.0 if attends else 1.0) / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


def change_config(folder: Path, changes: dict):
    """Sets keys of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    path.write_text(json.dumps(config, indent=2) + "\n")


def write_model(variant: Variant, folder: Path, dtype=torch.float32) -> Path:
    config = variant.config_class(**variant.options)
    model = variant.model_class(config).eval()
    randomise(model)
    model.to(dtype).save_pretrained(folder, max_shard_size=variant.largest_shard)
    change_config(folder, variant.rewrite)
    return folder


@functools.lru_cache(maxsize=4)
def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


@functools.lru_cache(maxsize=None)
def reference_logits(folder: Path, ids: tuple) -> np.ndarray:
    """[tokens, vocabulary], computed in float32 from the weights as they are stored."""
    with torch.no_grad():
        return load(folder)(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def sequences() -> list[tuple]:
    """Token ids: from one token to far beyond every window and every original context."""
    source = random.Random(3)
    return [tuple(source.randrange(VOCABULARY) for _ in range(length)) for length in (1, 2, 17, LONGEST)]
