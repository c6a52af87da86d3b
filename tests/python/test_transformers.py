"""The plug-in for transformers: packed folders run on our kernels, and give the text of the FP16 folder in transformers itself."""

import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tritllm
from conftest import greedy_tokens

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tritllm.transformers  # noqa: E402

PROMPTS = ["The capital of France is", "Once upon a time, there was a little", "Water boils at"]


@pytest.fixture(scope="module")
def exact(folders):
    """The packed folder in float arithmetic."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITLLM_ARITHMETIC", "f32")
        return transformers.AutoModelForCausalLM.from_pretrained(folders["packed"], dtype=torch.float32).eval()


def test_the_weights_stay_packed(exact, folders):
    layer = exact.model.layers[2].mlp.up_proj
    assert isinstance(layer, tritllm.transformers.TernaryLinear) and layer.depth == 3
    assert sum(parameter.numel() for parameter in exact.parameters()) < 30e6  # embeddings and norms
    matrix = tritllm.TernaryMatrix.load(folders["packed"], "model.layers.2.mlp.up_proj.weight")
    np.testing.assert_array_equal(layer.dequantize().numpy(), matrix.dequantize())
    ternary = [module for module in exact.modules() if isinstance(module, tritllm.transformers.TernaryLinear)]
    assert len(ternary) == 7 * exact.config.num_hidden_layers


def test_greedy_text_is_the_fp16_folders(exact, oracle):
    """But for ties: the FP16 folder has each weight rounded once more, which tips one of the three prompts."""
    model, tokenizer = oracle
    same = 0
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        found = greedy_tokens(exact, ids, 20)
        with torch.no_grad():
            logits = model(torch.tensor([ids + found])).logits[0, len(ids) - 1:-1]
        behind = logits.max(-1).values - logits.gather(1, torch.tensor(found)[:, None])[:, 0]
        assert behind.max() < 0.05, (prompt, behind)
        same += found == greedy_tokens(model, ids, 20)
    assert same >= 2


def test_logits(exact, oracle, folders):
    model, tokenizer = oracle
    ids = torch.tensor([tokenizer(PROMPTS[1])["input_ids"]])
    fast = transformers.AutoModelForCausalLM.from_pretrained(folders["packed"], dtype=torch.float32).eval()
    with torch.no_grad():
        expected, found, rounded = (each(ids).logits for each in (model, exact, fast))
    # The FP16 folder rounds each weight once more.
    assert (found - expected).norm() < 3e-3 * expected.norm()
    assert 0 < (rounded - expected).norm() < 0.05 * expected.norm()


def test_the_operator():
    matrix = tritllm.TernaryMatrix.quantize(np.random.default_rng(3).standard_normal((40, 48)), "optimal-d4")
    layer = tritllm.transformers.TernaryLinear(48, 40, 4, bias=True)
    for part in ("trits", "scales", "codebook"):
        setattr(layer.weight, part, torch.from_numpy(getattr(matrix, part)))
    torch.nn.init.ones_(layer.bias)
    layer.prepare("f32")
    x = torch.randn(2, 3, 48)
    torch.library.opcheck(torch.ops.tritllm.linear.default, (x, layer._key, 40), test_utils=("test_schema", "test_faketensor"))
    expected = torch.nn.functional.linear(x, layer.dequantize(), layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    for dtype in (torch.float16, torch.bfloat16):
        found = torch.ops.tritllm.linear(x.to(dtype), layer._key, 40)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), torch.nn.functional.linear(x.to(dtype).float(), layer.dequantize()), rtol=1e-2, atol=1e-2)
    assert layer(x[:0]).shape == (0, 3, 40)
    # "aot_eager" traces with fake tensors as the default backend does, without a C++ compiler.
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_the_compiled_model_is_the_same(exact, oracle):
    _, tokenizer = oracle
    ids = torch.tensor([tokenizer(PROMPTS[0])["input_ids"]])
    compiled = torch.compile(exact, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(ids, use_cache=False).logits, exact(ids, use_cache=False).logits)


def test_saving_keeps_the_format(exact, folders, tmp_path):
    exact.save_pretrained(tmp_path / "saved")
    for file in folders["packed"].iterdir():
        if file.is_file():
            assert (tmp_path / "saved" / file.name).read_bytes() == file.read_bytes()
    assert tritllm.verify(tmp_path / "saved") == []
    with pytest.raises(tritllm.ConflictError):
        exact.save_pretrained(tmp_path / "saved")
    gain = exact.model.norm.weight
    with torch.no_grad():
        gain[3] += 1
        with pytest.raises(tritllm.ConflictError) as refused:
            exact.save_pretrained(tmp_path / "changed")
        gain[3] -= 1
    assert "model.norm.weight" in str(refused.value) and not (tmp_path / "changed").exists()


def test_refusals(folders, tmp_path):
    quantizer = tritllm.transformers.TritllmQuantizer(tritllm.transformers.TritllmConfig(), pre_quantized=True)
    for devices in ("cuda", {"": "cuda:0"}, {"model": "cpu", "lm_head": 0}):
        with pytest.raises(tritllm.UnsupportedError):
            quantizer.validate_environment(device_map=devices)
    rounded = tmp_path / "rounded"
    shutil.copytree(folders["packed"], rounded)
    config = json.loads((rounded / "config.json").read_text())
    (rounded / "config.json").write_text(json.dumps(config | {"tritllm_activation_bits": 8}))
    with pytest.raises(tritllm.UnsupportedError, match="eight bits a token"):
        transformers.AutoModelForCausalLM.from_pretrained(rounded)
    for name, change in (("damaged", None), ("future", 2)):
        folder = tmp_path / name
        shutil.copytree(folders["packed"], folder)
        if change is None:
            weights = next(folder.glob("trits-*.safetensors"))
            data = bytearray(weights.read_bytes())
            data[len(data) // 2] ^= 1
            weights.write_bytes(data)
        else:
            config = json.loads((folder / "config.json").read_text())
            config["quantization_config"]["format_version"] = change
            (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises((tritllm.InvalidInputError, tritllm.UnsupportedError)):
            transformers.AutoModelForCausalLM.from_pretrained(folder)


def test_a_packed_embedding_is_refused_by_name(tmp_path):
    torch.manual_seed(1)
    config = transformers.LlamaConfig(hidden_size=64, intermediate_size=112, num_hidden_layers=1, num_attention_heads=4,
                                      num_key_value_heads=2, vocab_size=128, tie_word_embeddings=False, attention_bias=True)
    transformers.LlamaForCausalLM(config).half().save_pretrained(tmp_path / "model")
    tritllm.quantize(tmp_path / "model", "optimal-d2", tmp_path / "embedding", embed_depth=4, emit="packed")
    with pytest.raises(tritllm.UnsupportedError) as refused:
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "embedding" / "optimal-d2" / "packed")
    assert "embed_tokens" in str(refused.value)
    # A packed head is a linear layer like others; biases are kept.
    tritllm.quantize(tmp_path / "model", "optimal-d2", tmp_path / "head", head_depth=3)
    packed = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "head" / "optimal-d2" / "packed", dtype=torch.float32)
    half = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "head" / "optimal-d2" / "model", dtype=torch.float32)
    assert isinstance(packed.lm_head, tritllm.transformers.TernaryLinear) and packed.model.layers[0].self_attn.q_proj.bias is not None
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert (packed(ids).logits - half(ids).logits).norm() < 0.03 * half(ids).logits.norm()


def test_memory(folders):
    """Anonymous memory of the packed model beside that of the FP16 one, each in a process of its own. The embeddings, which are
    kept, are a fifth of this small model."""
    code = textwrap.dedent("""
        import sys, torch, transformers, tritllm.transformers
        def anonymous():
            return sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Anonymous:"))
        before = anonymous()
        model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float16)
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()  # of mapped files too
        print(anonymous() - before)
    """)
    packed, half = (int(subprocess.run([sys.executable, "-c", code, folders[name]], capture_output=True, text=True, check=True).stdout)
                    for name in ("packed", "half"))
    assert 0 < packed < 0.6 * half, (packed, half)
