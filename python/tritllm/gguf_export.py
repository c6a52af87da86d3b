"""A packed folder as a GGUF file of ordinary weights, which llama.cpp loads. Owns the translation of names, config and tokenizer; the
package ``gguf``, llama.cpp's own, writes the bytes.

What cannot be said in GGUF exactly is refused by name: other families, position scalings, sliding windows, tokenizers whose way of
cutting text llama.cpp has no name for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConflictError, InvalidInputError, NotFoundError, UnsupportedError
from .matrix import TernaryMatrix, stored_tensor
from .tasks import verify

__all__ = ["export_gguf"]

_FAMILIES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# (splits, digits are cut one by one) to llama.cpp's name.
_PRE_TOKENIZERS = {((), True): "smollm", ((), False): "gpt-2", ((_SPLIT % "{1,3}",), False): "llama-bpe", ((_SPLIT % "",), False): "qwen2"}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5


def _refuse(where: str, problem: str) -> None:
    remedy = "llama.cpp's own converter reads the FP16 folder ('tritllm dequantize' makes it)"
    raise UnsupportedError(f"{where}: {problem}; {remedy}", where, problem, remedy)


def export_gguf(packed: str | os.PathLike[str], out: str | os.PathLike[str], type: str = "f16") -> None:
    """Writes the dequantised model as a GGUF file.

    Args:
        packed: a packed folder (…/packed).
        out: the file to make; it must not exist.
        type: of matrices: "f16" (bit for bit the FP16 folder), "bf16" or "q8_0". Vectors are F32.

    Raises:
        UnsupportedError: the model cannot be said in GGUF exactly.
        InvalidInputError: the folder is damaged, or the type is unknown.
        NotFoundError: there is no packed folder.
        ConflictError: ``out`` exists.
    """
    import gguf

    types = {"f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
    if type not in types:
        problem = f"expected f16, bf16 or q8_0, found {type}"
        raise InvalidInputError(f"type: {problem}", "type", problem)
    folder, target = Path(packed), Path(out)
    if target.exists():
        raise ConflictError(f"{target}: exists already", str(target), "exists already", "remove it, or name another file")
    if not (folder / "tritllm.json").exists():
        problem = "expected a packed folder, found no tritllm.json"
        raise NotFoundError(f"{folder}: {problem}", str(folder), problem)
    problems = verify(folder)
    if problems:
        raise InvalidInputError(f"{problems[0].where}: {problems[0].message}", problems[0].where, problems[0].message)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = _architecture(config)
    unfinished = target.with_name(target.name + ".partial")
    writer = gguf.GGUFWriter(unfinished, architecture)
    try:
        _add_config(writer, config, architecture, type)
        _add_tokenizer(writer, folder, config)
        plans = list(_tensors(folder, config, architecture, types[type]))
        for name, shape, kind, _ in plans:
            size = int(np.prod(gguf.quants.quant_shape_to_byte_shape(shape, kind))) if kind in (types["bf16"], types["q8_0"]) else 0
            if kind == gguf.GGMLQuantizationType.F32:
                writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
            elif kind == types["f16"]:
                writer.add_tensor_info(name, shape, np.dtype(np.float16), 2 * int(np.prod(shape)))
            else:
                writer.add_tensor_info(name, gguf.quants.quant_shape_to_byte_shape(shape, kind), np.dtype(np.uint8), size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, _, kind, load in plans:
            weights = load()
            writer.write_tensor_data(weights if kind == gguf.GGMLQuantizationType.F32 else gguf.quants.quantize(weights, kind))
        writer.close()
        os.replace(unfinished, target)
    except BaseException:
        writer.close()
        unfinished.unlink(missing_ok=True)
        raise


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures") or ["nothing"]
    if names[0] not in _FAMILIES:
        _refuse("config.json: /architectures/0", f"expected one of {', '.join(_FAMILIES)}, found {names[0]}")
    if config.get("use_sliding_window") or (names[0] == "LlamaForCausalLM" and config.get("sliding_window")):
        _refuse("config.json: /sliding_window", "expected no window")
    if "tritllm_activation_bits" in config:
        _refuse("config.json: /tritllm_activation_bits", "GGUF files cannot say that activations are rounded to eight bits a token")
    if config.get("hidden_act", "silu") != "silu":
        _refuse("config.json: /hidden_act", f"expected silu, found {config['hidden_act']}")
    return _FAMILIES[names[0]]


def _rope_theta(config: dict[str, Any]) -> float:
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get(key) or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            _refuse(f"config.json: /{key}", f"expected no position scaling, found {kind}")
    return float((config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta", 10000.0)))


def _head_width(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _add_config(writer: Any, config: dict[str, Any], architecture: str, type: str) -> None:
    import gguf

    heads, width = config["num_attention_heads"], _head_width(config)
    writer.add_name(config.get("_name_or_path") or "tritllm")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_rope_freq_base(_rope_theta(config))
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type({"f16": gguf.LlamaFileType.MOSTLY_F16, "bf16": gguf.LlamaFileType.MOSTLY_BF16,
                          "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}[type])


def _tensors(folder: Path, config: dict[str, Any], architecture: str, kind: Any) -> Iterator[tuple[str, tuple[int, ...], Any, Any]]:
    """(name in GGUF, shape, type, function that gives the float32 weights) of each tensor."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config["num_hidden_layers"])
    for record in json.loads((folder / "tritllm.json").read_text(encoding="utf-8"))["tensors"]:
        if record["fate"] == "tied":
            continue  # llama.cpp takes the embedding where there is no head
        name, shape = record["name"], tuple(record["shape"])
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None or len(shape) > 2:
            _refuse(name, "GGUF has no name for this tensor")
        # llama.cpp's blocks of 32 have to fill a row.
        fits = len(shape) == 2 and (kind != gguf.GGMLQuantizationType.Q8_0 or shape[-1] % 32 == 0)
        own = kind if fits else gguf.GGMLQuantizationType.F32 if len(shape) == 1 else gguf.GGMLQuantizationType.F16
        yield found, shape, own, lambda record=record: _weights(folder, record, config, architecture)


def _weights(folder: Path, record: dict[str, Any], config: dict[str, Any], architecture: str) -> np.ndarray:
    name = record["name"]
    if record["fate"] == "ternary":
        weights = TernaryMatrix.load(folder, name).dequantize()
    else:
        weights = np.asarray(stored_tensor(folder, name), np.float32)
    heads = {"q_proj": config["num_attention_heads"],
             "k_proj": config.get("num_key_value_heads") or config["num_attention_heads"]}.get(name.split(".")[-2] if "." in name else "")
    if architecture != "llama" or heads is None:
        return weights
    # llama.cpp turns neighbouring elements of a head together, transformers those of its two halves.
    return np.ascontiguousarray(weights.reshape(heads, 2, -1, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape))


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    pre = tokenizer.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    splits = tuple(step["pattern"].get("Regex") for step in steps if step.get("type") == "Split")
    digits = any(step.get("type") == "Digits" and step.get("individual_digits") for step in steps)
    known = all(step.get("type") in ("Split", "Digits", "ByteLevel") and not step.get("add_prefix_space") for step in steps)
    name = _PRE_TOKENIZERS.get((splits, digits))
    if not known or steps[-1].get("type") != "ByteLevel" or name is None:
        _refuse("tokenizer.json: /pre_tokenizer", "expected one that llama.cpp has a name for (smollm, gpt-2, llama-bpe, qwen2)")
    return name


def _add_tokenizer(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings = {}
    if (folder / "tokenizer_config.json").exists():
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        _refuse("tokenizer.json: /model/type", f"expected byte-level BPE, found {model.get('type')}")
    texts = [f"[PAD{i}]" for i in range(config["vocab_size"])]
    kinds = [_UNUSED] * len(texts)
    for text, token in model["vocab"].items():
        texts[token], kinds[token] = text, _NORMAL
    for entry in tokenizer.get("added_tokens", []):
        texts[entry["id"]], kinds[entry["id"]] = entry["content"], _CONTROL if entry["special"] else _USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer))
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    ids = {text: token for token, text in enumerate(texts)}
    for name, add in (("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id), ("pad_token", writer.add_pad_token_id)):
        text = settings.get(name)
        text = text["content"] if isinstance(text, dict) else text
        if text in ids:
            add(ids[text])
    parts = (tokenizer.get("post_processor") or {}).get("processors", [tokenizer.get("post_processor") or {}])
    single = next((part["single"] for part in parts if part.get("type") == "TemplateProcessing"), [{"Sequence": {}}])
    writer.add_add_bos_token("SpecialToken" in single[0])
    template = folder / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.exists() else settings.get("chat_template")
    if isinstance(text, str):
        writer.add_chat_template(text)
