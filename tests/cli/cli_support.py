"""Tiny Hugging Face folders, runs of the program under test, and comparisons of what it left behind.

The safetensors files are written here by hand, since most tests want files that no library would write.
"""

import hashlib
import json
import os
import re
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BINARY = Path(os.environ["TRITLLM_BINARY"])
CONFIG = "optimal-d2"
ELEMENT_BYTES = {"BOOL": 1, "U8": 1, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1}


# The program


def clean_environment(**more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITLLM_")}
    # Expected texts are those of the CPU, also on a machine with a CUDA device.
    return environment | {"TRITLLM_DEVICE": "cpu"} | {name: str(value) for name, value in more.items()}


def run(*arguments, env=None, timeout=120, preexec_fn=None, cwd=None):
    command = [str(BINARY), *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=clean_environment(**(env or {})), timeout=timeout, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, preexec_fn=preexec_fn, cwd=cwd)


def quantize_arguments(model, out, *more, configs=CONFIG, threads=2):
    return ["quantize", "--model", model, "--out", out, "--configs", configs, "--quiet", "--threads", threads, *more]


def quantize(model, out, *more, configs=CONFIG, threads=2, **options):
    return run(*quantize_arguments(model, out, *more, configs=configs, threads=threads), **options)


def succeeded(result):
    assert result.returncode == 0, result.stderr
    return result


def error_line(result, *words, code=1):
    """The one line of a refusal: 'error: <where>: <what>', which must hold all of the words. Without a code, either will do."""
    assert result.returncode in ((1, 2) if code is None else (code,)), (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert re.match(r"error: .+?: .+", lines[0]), lines[0]
    assert "internal" not in lines[0], lines[0]
    for word in words:
        assert str(word) in lines[0], (word, lines[0])
    return lines[0]


# What it leaves behind


def mark(folder, state="unfinished", fingerprint="0" * 32):
    """Makes the folder one of tritllm's own."""
    (Path(folder) / ".tritllm").write_text(json.dumps({"tritllm_folder": 1, "state": state, "fingerprint": fingerprint}, indent=2) + "\n")


def folder_bytes(folder):
    """Every file below the folder with its contents."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def folder_digest(folder):
    return {name: hashlib.sha256(contents).hexdigest() for name, contents in folder_bytes(folder).items()}


def result_folders(out):
    """Folders that stand under a result's final name."""
    return [path for pattern in ("*/packed", "*/model", "*/part-*-of-*") for path in Path(out).glob(pattern)
            if not path.name.endswith(".partial")]


TIMES = ("seconds", "thread_seconds", "threads", "weights_per_thread_second")


def report(out, config=CONFIG):
    document = json.loads((Path(out) / config / "report.json").read_text())
    # Parts do not know what their weights lose in an FP16 folder.
    for record in document["tensors"]:
        record.pop("model", None)
    return {key: value for key, value in document.items() if key not in (*TIMES, "model_error")}


def same_results(out, reference, config=CONFIG):
    """Asserts that two runs made the same bytes, and left nothing unfinished behind."""
    for name in ("packed", "model"):
        found, expected = folder_digest(Path(out) / config / name), folder_digest(Path(reference) / config / name)
        assert found == expected, {key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)}
    assert report(out, config) == report(reference, config)
    left = {path.name for path in (Path(out) / config).iterdir() if not path.name.startswith(("part-", "journal-part-"))}
    assert left == {"model", "packed", "report.json"}, left


# Models


def bfloat16(values):
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def raw(values, dtype):
    if dtype == "BF16":
        return bfloat16(values)
    return np.asarray(values).astype({"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_,
                                      "U8": np.uint8}[dtype]).tobytes()


def tensor(random, dtype, *shape):
    return dtype, list(shape), raw(random.standard_t(5, shape) * 0.05, dtype)


def safetensors_bytes(tensors, metadata=None, header=None):
    """tensors: name → (dtype, shape, bytes); `header` changes the header before it is written."""
    entries = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    if header is not None:
        entries = header(entries) or entries
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def tiny_tensors(seed=1, tied=False):
    """One tensor of every kind that a model holds, in odd sizes and mixed types."""
    random = np.random.default_rng(seed)
    tensors = {
        "model.embed_tokens.weight": tensor(random, "BF16", 24, 17),
        "model.layers.0.self_attn.q_proj.weight": tensor(random, "F32", 9, 80),
        "model.layers.0.self_attn.k_proj.weight": tensor(random, "BF16", 6, 81),
        "model.layers.0.mlp.up_proj.weight": tensor(random, "F16", 7, 17),
        "model.layers.0.mlp.gate.weight": tensor(random, "F32", 4, 17),
        "model.layers.0.mlp.experts.down_proj": tensor(random, "BF16", 2, 3, 33),
        "model.layers.0.input_layernorm.weight": tensor(random, "BF16", 17),
        "model.layers.1.mlp.down_proj.weight": tensor(random, "F64", 5, 3),
        "model.norm.weight": tensor(random, "F32", 17),
        "model.position_ids": ("I64", [5], raw(np.arange(5), "I64")),
        "model.flag": ("BOOL", [], raw(True, "BOOL")),
        "model.nothing": ("F32", [0, 16], b""),
    }
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] if tied else tensor(random, "BF16", 24, 17)
    return tensors


def tiny_config(**changes):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 17, "torch_dtype": "bfloat16",
            "tie_word_embeddings": False} | changes


def write_folder(folder, tensors, config=None, shards=1):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or tiny_config(), indent=1))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "LICENSE").write_text("A licence.\n")
    (folder / "NOTICE").write_text("A notice.\n")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: someone/tiny\n---\n# Tiny\n")
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, {"format": "pt"}))
        return folder
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard * len(names) // shards:(shard + 1) * len(names) // shards]}
        (folder / file).write_bytes(safetensors_bytes(part, {"format": "pt"}))
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def tiny_model(folder, seed=1, tied=False, shards=1):
    return write_folder(folder, tiny_tensors(seed, tied), tiny_config(tie_word_embeddings=tied), shards)


def small_model(folder, seed=1):
    """Two matrices and two kept tensors: few enough write calls to strike every one of them."""
    random = np.random.default_rng(seed)
    return write_folder(folder, {"model.embed_tokens.weight": tensor(random, "BF16", 6, 17),
                                 "model.layers.0.mlp.up_proj.weight": tensor(random, "F16", 7, 17),
                                 "model.layers.0.mlp.down_proj.weight": tensor(random, "F32", 4, 80),
                                 "model.position_ids": ("I64", [2], raw([0, 1], "I64"))})


def byte_tokenizer():
    """A byte-level tokenizer.json without merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = sorted([chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))])
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            "post_processor": None, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {letter: number for number, letter in enumerate(letters)}, "merges": []}}


def llama(folder, hidden=4, feed_forward=8, heads=1, kv_heads=1, head_width=4, vocabulary=300, positions=2048):
    """A Llama of one layer whose weights are really there."""
    def full(*shape):
        return "F16", list(shape), np.full(shape, 0.01, np.float16).tobytes()

    layer = "model.layers.0."
    tensors = {"model.embed_tokens.weight": full(vocabulary, hidden), "lm_head.weight": full(vocabulary, hidden), "model.norm.weight": full(hidden),
               layer + "input_layernorm.weight": full(hidden), layer + "post_attention_layernorm.weight": full(hidden),
               layer + "self_attn.q_proj.weight": full(heads * head_width, hidden), layer + "self_attn.k_proj.weight": full(kv_heads * head_width, hidden),
               layer + "self_attn.v_proj.weight": full(kv_heads * head_width, hidden), layer + "self_attn.o_proj.weight": full(hidden, heads * head_width),
               layer + "mlp.gate_proj.weight": full(feed_forward, hidden), layer + "mlp.up_proj.weight": full(feed_forward, hidden),
               layer + "mlp.down_proj.weight": full(hidden, feed_forward)}
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": feed_forward,
              "num_hidden_layers": 1, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_width, "vocab_size": vocabulary,
              "max_position_embeddings": positions, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
    write_folder(folder, tensors, config)
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    return folder


# Faults


class FaultShim:
    """Runs the program with fault_shim.c preloaded."""

    def __init__(self, library):
        self.library = library

    def _environment(self, **more):
        # The address sanitizer wants to be the first library, but bears with another one.
        return {"LD_PRELOAD": self.library, "ASAN_OPTIONS": "verify_asan_link_order=0"} | more

    def calls(self, arguments, log, **more):
        """The names of the write-path calls of one run."""
        succeeded(run(*arguments, env=self._environment(FAULT_LOG=log, **more)))
        names = Path(log).read_text().split()
        Path(log).unlink()
        return names

    def run(self, arguments, action, at, last=None, more=None, **options):
        return run(*arguments, env=self._environment(FAULT_AT=at, FAULT_LAST=last or at, FAULT_ACTION=action, **(more or {})), **options)


def in_parallel(function, items, workers=2):
    """Calls function(item) for all items, some at a time; the first exception is raised."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))
