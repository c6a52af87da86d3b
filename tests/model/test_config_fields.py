"""Every field of every supported configuration class of transformers, changed one at a time: either the logits agree with those of
transformers, or the change is refused by name and transformers' logits do change.

Fields of the other families' classes and of the base class are changed as well, and the rotary parameters in all dialects: a reader
that skips a field because "this family does not have it" is found here.
"""
import dataclasses
import json
import os
import shutil
import subprocess
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from tiny_models import LLAMA3, VARIANTS, VOCABULARY, YARN, sequences, write_model
from transformers import AutoModelForCausalLM

PROBE = os.environ["TRITLLM_LOGITS_PROBE"]
IDS = sequences()[-1]
TOLERANCE = 3e-4  # some changes make scores so large that float32 rounds them to 1e-4
VISIBLE = 1e-3
ABSENT = "absent"

torch.set_num_threads(1)  # the models are too small to share

FAMILIES = {
    "llama": "llama_head_dim",
    "mistral": "mistral_window",
    "ministral": "ministral",
    "qwen2": "qwen2",
    "qwen2_window": "qwen2_window",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "bitnet": "bitnet",
}
# Values that a field is given, beyond those that follow from its type.
VALUES = {
    "hidden_act": ["silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2"],
    "hidden_activation": ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu"],
    "head_dim": [8, None],
    "sliding_window": [1, 5, 1000, None],
    "max_window_layers": [0, 1, 3],
    "sliding_window_pattern": [1, 2, 3],
    "query_pre_attn_scalar": [1, 144],
    "final_logit_softcapping": [2.0, 30.0, None],
    "attn_logit_softcapping": [1.0, 50.0, None],
    "num_key_value_heads": [None],
    "is_causal": [False, True],
    "use_bidirectional_attention": [True, False],
    "attention_chunk_size": [4],
    "partial_rotary_factor": [0.5, 1.0],
    "original_max_position_embeddings": [16],
    "rope_theta": [300.0],
    "rope_local_base_freq": [30.0],
    "pretraining_tp": [2],
    "attention_dropout": [0.5],
    "rms_norm_eps": [1e-6, 1e-2],
    "layer_norm_eps": [1e-1],
    "use_sliding_window": [True, False],
    "qk_norm": [True],
    "use_qk_norm": [True],
    "clip_qkv": [0.1],
    "attention_multiplier": [0.1],
    "logits_scaling": [4.0],
    "residual_multiplier": [0.2],
    "embedding_multiplier": [12.0],
    "no_rope_layers": [[1, 0, 1, 0]],
    "per_layer_config": [{"1": {"rms_norm_eps": 0.5}}],
    "dtype": ["float32"],
    "torch_dtype": ["float32"],
    "tie_word_embeddings": [True, False],
}
# Refused although transformers' class ignores them: other engines honour them, or the file contradicts itself.
REFUSED_AS_UNCLEAR = {"partial_rotary_factor", "use_bidirectional_attention", "rope_theta", "rope_local_base_freq", "rope_scaling",
                      "rope_parameters", "per_layer_config", "is_causal", "truncate", "architectures"}


# Families whose rotary parameters are read by the same lines as Llama's get some of the changes.
EVERY_ROTARY_CHANGE = {"llama", "qwen2", "gemma3"}
SOME_ROTARY_CHANGES = ("rope_parameters=yarn+theta", "rope_scaling=linear", "nested=linear", "both=default")


def rotary_changes():
    """Rotary parameters in every dialect: for the whole model, for each kind of layer, in the words of transformers 4."""
    kinds = {
        "default": {"rope_type": "default"},
        "linear": {"rope_type": "linear", "factor": 4.0},
        "dynamic": {"rope_type": "dynamic", "factor": 4.0},
        "llama3": {"rope_type": "llama3"} | LLAMA3,
        "llama3_no_original": {"rope_type": "llama3"} | {k: v for k, v in LLAMA3.items() if not k.startswith("original")},
        "yarn": {"rope_type": "yarn"} | YARN,
        "yarn_no_original": {"rope_type": "yarn", "factor": 4.0},
        "yarn_no_factor": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 64},
        "yarn_mscale": {"rope_type": "yarn", "mscale": 0.7, "mscale_all_dim": 1.3} | YARN,
        "yarn_one_mscale": {"rope_type": "yarn", "mscale": 0.7} | YARN,
        "yarn_betas": {"rope_type": "yarn", "beta_fast": 8.0, "beta_slow": 0.5} | YARN,
        "yarn_attention": {"rope_type": "yarn", "attention_factor": 1.3} | YARN,
        "yarn_truncate": {"rope_type": "yarn", "truncate": False} | YARN,
        "yarn_finetuned": {"rope_type": "yarn", "finetuned": True} | YARN,
        "longrope": {"rope_type": "longrope", "short_factor": [1.5] * 7, "long_factor": [3.0] * 7, "factor": 4.0,
                     "original_max_position_embeddings": 64},
        "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5},
        "proportional_factor": {"rope_type": "proportional", "partial_rotary_factor": 0.3, "factor": 2.0},
        "partial": {"rope_type": "default", "partial_rotary_factor": 0.5},
        "mrope": {"rope_type": "default", "mrope_section": [2, 2, 3]},
        "unknown": {"rope_type": "nobody_knows", "factor": 2.0},
        "empty": {},
        "null": None,
    }
    for name, parameters in kinds.items():
        with_theta = parameters and parameters | {"rope_theta": 300.0}
        yield f"rope_parameters={name}", {"rope_parameters": parameters}
        yield f"rope_parameters={name}+theta", {"rope_parameters": with_theta}
        yield f"rope_parameters={name}+outer_theta", {"rope_parameters": parameters, "rope_theta": 300.0}
        v4 = {"type": parameters["rope_type"]} | {k: v for k, v in parameters.items() if k != "rope_type"} if parameters else parameters
        yield f"rope_scaling={name}", {"rope_parameters": ABSENT, "rope_theta": 300.0, "rope_scaling": v4}
        yield f"rope_scaling={name}_new_words", {"rope_parameters": ABSENT, "rope_theta": 300.0, "rope_scaling": parameters}
        yield f"both={name}", {"rope_scaling": v4}
        nested = {"full_attention": with_theta, "sliding_attention": {"rope_type": "default", "rope_theta": 70.0}}
        yield f"nested={name}", {"rope_parameters": nested}
        yield f"nested_full_only={name}", {"rope_parameters": {"full_attention": with_theta}}
        yield f"nested_sliding_only={name}", {"rope_parameters": {"sliding_attention": with_theta}}


def layer_type_changes(base):
    layers = base["num_hidden_layers"]
    full, sliding = "full_attention", "sliding_attention"
    for name, types in {
        "full": [full] * layers,
        "sliding": [sliding] * layers,
        "last": [full] * (layers - 1) + [sliding],
        "first": [sliding] + [full] * (layers - 1),
        "legacy": ["attention"] * layers,
        "chunked": ["chunked_attention"] * layers,
        "short": [full] * (layers - 1),
        "long": [full] * (layers + 1),
        "null": None,
        "absent": ABSENT,
    }.items():
        yield f"layer_types={name}", {"layer_types": types}
        yield f"layer_types={name}+window", {"layer_types": types, "sliding_window": 5, "use_sliding_window": True}


def name_changes(base):
    """What names the family, left out or at odds with itself."""
    for names in (ABSENT, None, []):
        yield f"architectures={names}", {"architectures": names}
        yield f"architectures={names}, no model_type", {"architectures": names, "model_type": ABSENT}
    for variant in map(VARIANTS.get, FAMILIES.values()):
        other = variant.config_class.model_type
        if other != base["model_type"]:
            yield f"model_type={other}", {"model_type": other}
            yield f"model_type={other}, no architectures", {"model_type": other, "architectures": ABSENT}
    for name in ("LlamaModel", "LlamaForSequenceClassification", "NobodyKnows", 7):
        yield f"architectures={name}", {"architectures": [name]}


def values_of(name, present, value):
    if name in ("architectures", "model_type", "transformers_version", "layer_types", "rope_parameters"):
        return []
    values = list(VALUES.get(name, []))
    if isinstance(value, bool):
        values.append(not value)
    elif isinstance(value, int):
        values += [value + 1, value * 2]
    elif isinstance(value, float):
        values += [value * 2, value / 2]
    if present:
        values += [ABSENT, None]
    return values


def changes_of(base, family):
    names = set(base) | set(VALUES)
    for variant in map(VARIANTS.get, FAMILIES.values()):
        names |= {field.name for field in dataclasses.fields(variant.config_class) if not field.name.startswith("_")}
    for name in sorted(names):
        for value in values_of(name, name in base, base.get(name)):
            if not (name in base and base[name] == value):
                yield f"{name}={value}", {name: value}
    yield from layer_type_changes(base)
    yield from name_changes(base)
    for name, change in rotary_changes():
        if family in EVERY_ROTARY_CHANGE or name in SOME_ROTARY_CHANGES:
            yield name, change


def write_changed(source, folder, base, change):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.link(source / "model.safetensors", folder / "model.safetensors")
    config = base | change
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value != ABSENT}))


def theirs(folder):
    """transformers' logits, or the exception that it ends with."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
            )
            if info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"]:
                return RuntimeError(f"weights do not fit: {info}")
            return model.eval()(torch.tensor([IDS]), use_cache=False).logits[0].numpy()
    except Exception as error:  # whatever it is, transformers does not run this config
        return error


def ours(folder):
    """The engine's logits, or its message."""
    done = subprocess.run([PROBE, folder, "prefill", "--threads", "1"], input=(" ".join(map(str, IDS)) + "\n").encode(), capture_output=True)
    if done.returncode == 0:
        return np.frombuffer(done.stdout, dtype="<f4").reshape(-1, VOCABULARY)
    assert done.returncode == 1, done.stderr
    return done.stderr.decode()


def judge(name, change, expected, found, unchanged):
    """A word for what happened, and whether it may be so."""
    if isinstance(expected, Exception):
        return ("both refuse" if isinstance(found, str) else "only transformers refuses"), True
    if isinstance(found, str):
        changes = bool(np.abs(expected - unchanged).max() > VISIBLE)
        named = any(key in found or key.removesuffix("s") in found for key in (*change, "rotary", "rope"))
        if changes:
            return "refused by name", named
        return "refused as unclear", named and bool(REFUSED_AS_UNCLEAR & {*change, *(f for f in REFUSED_AS_UNCLEAR if f in name)})
    worst = np.abs(found - expected).max()
    return "agree", bool(worst < TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field(tmp_path, family):
    source = write_model(VARIANTS[FAMILIES[family]], tmp_path / "source")
    base = json.loads((source / "config.json").read_text())
    unchanged = theirs(source)
    counts, wrong = Counter(), []
    for name, change in changes_of(base, family):
        folder = tmp_path / "changed"
        write_changed(source, folder, base, change)
        expected, found = theirs(folder), ours(folder)
        word, right = judge(name, change, expected, found, unchanged)
        counts[word] += 1
        if not right:
            shown = found.strip()[-200:] if isinstance(found, str) else f"logits off by {np.abs(found - expected).max():.2g}"
            wrong.append(f"{name}: {word}: {shown}")
    print(f"\n{family}: {sum(counts.values())} changes: {dict(counts)}")
    assert counts["agree"] > 50
    assert not wrong, "\n".join([f"{len(wrong)} of {sum(counts.values())} changes:", *wrong])
