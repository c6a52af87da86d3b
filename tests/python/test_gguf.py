"""The GGUF file of a packed model, read by the package gguf and by our own reader."""

import json
import shutil

import numpy as np
import pytest
import tritllm

gguf = pytest.importorskip("gguf")
PROMPTS = ["The capital of France is", "Once upon a time, there was a little", "Water boils at", "2024 was the year", "def fibonacci(n):\n"]


@pytest.fixture(scope="module")
def files(folders, tmp_path_factory):
    made = {kind: tmp_path_factory.mktemp("gguf") / f"model-{kind}.gguf" for kind in ("f16", "q8_0")}
    for kind, path in made.items():
        tritllm.export_gguf(folders["packed"], path, kind)
    return made


def test_the_f16_file_is_the_fp16_folder(files, folders, tmp_path):
    """Our own reader takes it back to a folder: the tensors are those of the FP16 folder, bit for bit."""
    safetensors = pytest.importorskip("safetensors.numpy")
    tritllm.dequantize(files["f16"], tmp_path / "back", type="f16")
    back, half = (safetensors.load_file(folder / "model.safetensors") for folder in (tmp_path / "back", folders["half"]))
    assert back.keys() == half.keys()
    for name in half:
        np.testing.assert_array_equal(back[name], half[name], err_msg=name)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "back", folders["half"])]
    for field in ("hidden_size", "num_hidden_layers", "num_key_value_heads", "vocab_size", "rms_norm_eps", "max_position_embeddings"):
        assert configs[0][field] == configs[1][field], field


def test_text_and_tokens(files, llm):
    half = tritllm.LLM(files["f16"], device="cpu", arithmetic="f32", cache="f32", context=512, threads=1)
    for text in (*PROMPTS, "Grüße, 世界! 12345 <|im_start|>"):
        assert half.encode(text, parse_special=True) == llm.encode(text, parse_special=True)
    assert half.end_tokens == llm.end_tokens
    answers = [[answer.tokens for answer in model.generate(PROMPTS, max_tokens=12, temperature=0)] for model in (half, llm)]
    assert sum(a == b for a, b in zip(*answers)) >= 4  # a tie may be tipped by the rounding to FP16
    assert half.encode_chat([{"role": "user", "content": "Hi"}]) == llm.encode_chat([{"role": "user", "content": "Hi"}])


def test_the_reader_of_llama_cpp(files):
    reader = gguf.GGUFReader(files["q8_0"])
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == "Q8_0" and types["output_norm.weight"] == "F32" and "output.weight" not in types
    half = {tensor.name: tensor for tensor in gguf.GGUFReader(files["f16"]).tensors}
    for tensor in reader.tensors[:12]:
        exact = gguf.quants.dequantize(half[tensor.name].data, half[tensor.name].tensor_type)
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.linalg.norm(found - exact) <= 0.01 * np.linalg.norm(exact)
    assert reader.get_field("tokenizer.ggml.pre").contents() == "smollm"


def test_refusals(files, folders, tmp_path):
    with pytest.raises(tritllm.ConflictError):
        tritllm.export_gguf(folders["packed"], files["f16"])
    with pytest.raises(tritllm.InvalidInputError):
        tritllm.export_gguf(folders["packed"], tmp_path / "x.gguf", "q4_0")
    with pytest.raises(tritllm.Error):
        tritllm.export_gguf(folders["half"], tmp_path / "x.gguf")
    assert not list(tmp_path.glob("x.gguf*"))


def tiny(kind, folders, top, **more):
    """The packed folder of a tiny model with random weights and the tokenizer of the demo model, and its FP16 folder."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        vocab_size=49152, max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=2, **more)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.half().save_pretrained(top / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folders["half"] / name, top / "model" / name)
    tritllm.quantize(top / "model", "optimal-d4", top / "out")
    return top / "out" / "optimal-d4" / "packed", top / "out" / "optimal-d4" / "model"


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
def test_families(kind, folders, tmp_path):
    packed, half = tiny(kind, folders, tmp_path)
    tritllm.export_gguf(packed, tmp_path / "model.gguf", "f16")
    found, expected = (tritllm.LLM(path, device="cpu", cache="f32", threads=1).score(PROMPTS[1]).logprobs
                       for path in (tmp_path / "model.gguf", half))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind, more, where", [
    ("Gemma", {}, "architectures"), ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope"),
    ("Llama", {"tritllm_activation_bits": 8}, "tritllm_activation_bits")])
def test_what_gguf_cannot_say(kind, more, where, folders, tmp_path):
    packed, _ = tiny(kind, folders, tmp_path, **more)
    with pytest.raises(tritllm.UnsupportedError) as refused:
        tritllm.export_gguf(packed, tmp_path / "x.gguf")
    assert where in refused.value.where and not list(tmp_path.glob("x.gguf*"))
