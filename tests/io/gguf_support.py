"""Owns what the Python tests of GGUF share: running the dump tool, writing folders that transformers loads, tiny GGUF files."""
import json
import os
import subprocess
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

DUMP = os.environ["TRITLLM_GGUF_DUMP"]
DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))


class Source:
    """What tritllm made of a GGUF file, in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.about = json.loads((folder / "source.json").read_text())
        self.config = json.loads((folder / "config.json").read_text())
        self.names = [tensor["name"] for tensor in self.about["tensors"]]
        self.tensors = {}
        data = np.fromfile(folder / "tensors.f32", dtype=np.float32)
        at = 0
        for tensor in self.about["tensors"]:
            count = int(np.prod(tensor["shape"]))
            self.tensors[tensor["name"]] = data[at : at + count].reshape(tensor["shape"])
            at += count
        assert at == data.size

    def write_weights(self):
        """Makes the folder a complete HF folder, in float32."""
        save_file(self.tensors, self.folder / "model.safetensors", metadata={"format": "pt"})
        return self.folder


def dump(model: Path, folder: Path, piece: int = 0) -> Source:
    done = subprocess.run([DUMP, model, folder, str(piece)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Source(folder)


def refusal(model: Path, folder: Path) -> str:
    done = subprocess.run([DUMP, model, folder, "0"], capture_output=True, text=True)
    assert done.returncode == 1, f"expected an error, found {done.returncode}"
    return done.stderr


def byte_alphabet() -> list[str]:
    """The 256 characters of byte-level vocabularies, by byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, spare = {}, 256
    for byte in range(256):
        letters[byte] = chr(byte) if byte in printable else chr(spare)
        spare += byte not in printable
    return [letters[byte] for byte in range(256)]


def add_byte_tokenizer(writer: gguf.GGUFWriter, size: int = 300, pre: str = "smollm"):
    """A byte-level vocabulary of `size` tokens: the bytes, one merge, fillers, and two control tokens at the end."""
    tokens = [*byte_alphabet(), "he"]
    tokens += [f"<|filler_{i}|>" for i in range(len(tokens), size - 2)] + ["<|begin|>", "<|end|>"]
    kinds = [gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * (size - 257)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(size - 2)
    writer.add_eos_token_id(size - 1)


def write_file(writer: gguf.GGUFWriter):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def swap_rotary_halves(weights: np.ndarray, heads: int) -> np.ndarray:
    """From llama.cpp's row order (pair after pair) to HF's (first halves, then second halves)."""
    pairs = weights.reshape(heads, weights.shape[0] // heads // 2, 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def interleave_rotary_halves(weights: np.ndarray, heads: int) -> np.ndarray:
    """The other way round: what a converter does to the q and k matrices of Llama."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def transformers_tensors(model: Path, config_folder: Path) -> dict:
    """What transformers' own reader makes of the file, by HF name. (Its from_pretrained would want one more package.)"""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config_folder))
    return load_gguf_checkpoint(str(model), return_tensors=True, model_to_load=skeleton)["tensors"]
