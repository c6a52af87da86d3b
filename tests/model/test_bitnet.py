"""Models that are ternary by birth: packed trits and activations of eight bits a token, as transformers' BitNet layers have them.

The oracle is transformers' own layers in the tiny models of tiny_models.py, with weights that were made ternary here and packed by
transformers' own function. `quantize --configs exact` has to keep them to the bit.
"""
import json
import os
import subprocess

# The layers' torch.compile would need a C++ compiler, and changes nothing.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VARIANTS, VOCABULARY, change_config, randomise, sequences
from transformers.integrations.bitnet import pack_weights, replace_with_bitnet_linear
from transformers.utils.quantization_config import BitNetQuantConfig

PROBE = os.environ["TRITLLM_LOGITS_PROBE"]
TRITLLM = os.environ["TRITLLM_BINARY"]
SEQUENCES = sequences()
# A rounding error of float32 moves an activation over the edge between two of its 255 values now and then. Then a token's logits
# move by some hundredths of their spread, and those of the tokens that attend to it. Most tokens of the short sequences see no such activation.
TOLERANCE = 0.25
USUAL_TOLERANCE = 2e-4
SHORT = sum(len(ids) for ids in SEQUENCES if len(ids) < 20)


def make(folder, variant, linear_class):
    """Writes a packed folder; returns transformers' model with the same weights."""
    variant = VARIANTS[variant]
    model = variant.model_class(variant.config_class(**variant.options)).eval()
    randomise(model)
    # What packed folders keep in FP16 is such a number already.
    weights = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    stored = {}
    for name, weight in weights.items():
        if ".layers." not in name or weight.dim() != 2:
            stored[name] = weight
            continue
        mean = weight.abs().mean()
        trits = (weight / mean).round().clamp(-1, 1)
        # Scales that FP16 holds, and whose inverses it does not.
        scale = (mean if linear_class == "autobitlinear" else 1 / mean).to(torch.bfloat16).reshape(1)
        stored[name] = pack_weights(trits.clone())
        stored[name + "_scale"] = scale
    quantisation = {"quant_method": "bitnet", "linear_class": linear_class, "quantization_mode": "offline",
                    "modules_to_not_convert": ["lm_head"]}
    config = BitNetQuantConfig(linear_class=linear_class, quantization_mode="offline", modules_to_not_convert=["lm_head"])
    replace_with_bitnet_linear(model, ["lm_head"], config)
    for name, module in model.named_modules():
        if not hasattr(module, "weight_scale"):
            continue
        packed, scale = stored[f"{name}.weight"], stored[f"{name}.weight_scale"].float()
        if linear_class == "autobitlinear":
            unpacked = torch.cat([(packed >> 2 * i & 3).float() - 1 for i in range(4)])
            module.weight = torch.nn.Parameter(unpacked, requires_grad=False)
        else:
            module.weight, module.dtype = packed, torch.float32
        module.weight_scale = scale
        if f"{name}.bias" in weights:
            module.bias = torch.nn.Parameter(weights[f"{name}.bias"], requires_grad=False)
    for name, parameter in model.named_parameters():
        if ".layers." not in name or parameter.dim() == 1:
            parameter.data = weights[name].float()
    folder.mkdir()
    if variant.options.get("tie_word_embeddings"):
        stored.pop("lm_head.weight", None)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(model.config.to_json_string())
    change_config(folder, {"quantization_config": quantisation, "dtype": "float32", "torch_dtype": None,
                           "architectures": [variant.model_class.__name__]})
    return model


def expected_logits(model):
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([ids]), use_cache=False).logits[0].numpy() for ids in SEQUENCES])


def probe_logits(folder, activations="f32", mode="prefill"):
    done = subprocess.run([PROBE, folder, mode, "--activations", activations],
                          input="".join(" ".join(map(str, ids)) + "\n" for ids in SEQUENCES).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, dtype="<f4").reshape(-1, VOCABULARY)


def differences(found, expected):
    """The largest of each token, over the spread of all logits."""
    return np.abs(found - expected).max(axis=1) / expected.std()


def assert_close(found, expected, usual=USUAL_TOLERANCE):
    difference = differences(found, expected)
    assert difference.max() < TOLERANCE
    assert np.median(difference[:SHORT]) < usual


CASES = [("bitnet", "autobitlinear"), ("bitnet_biases", "autobitlinear"), ("bitnet_biases", "bitlinear"),
         ("llama_gqa_tied", "bitlinear"), ("qwen2", "bitlinear"), ("qwen2", "autobitlinear")]


@pytest.mark.parametrize("variant,linear_class", CASES)
def test_logits_are_those_of_transformers(tmp_path, variant, linear_class):
    model = make(tmp_path / "model", variant, linear_class)
    expected = expected_logits(model)
    for mode in ("prefill", "steps"):
        assert_close(probe_logits(tmp_path / "model", mode=mode), expected)
    # The rounding of activations shows: without it the model is another one.
    change_config(tmp_path / "model", {"quantization_config": None})
    done = subprocess.run([PROBE, tmp_path / "model", "prefill"], input=b"1 2\n", capture_output=True)
    assert done.returncode == 1 and b"U8" in done.stderr


@pytest.mark.parametrize("variant,linear_class", CASES)
def test_exact_keeps_every_weight(tmp_path, variant, linear_class):
    model = make(tmp_path / "model", variant, linear_class)
    expected = expected_logits(model)
    done = subprocess.run([TRITLLM, "quantize", "--model", tmp_path / "model", "--out", tmp_path / "out", "--configs", "exact",
                           "--emit", "packed", "--quiet"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    packed = tmp_path / "out" / "exact" / "packed"
    assert json.loads((packed / "config.json").read_text())["tritllm_activation_bits"] == 8
    # A bias that its layer multiplies by the scale is no number of FP16 any more, in which folders keep it.
    rounded_biases = linear_class == "autobitlinear" and variant in ("bitnet_biases", "qwen2")
    assert_close(probe_logits(packed), expected, 0.1 if rounded_biases else USUAL_TOLERANCE)
    # By integers, activations of eight bits a token are rounded once more, to thirteen bits a group.
    assert differences(probe_logits(packed, "int8"), expected).max() < 2 * TOLERANCE
    # Depth 1: a trit a weight.
    manifest = json.loads((packed / "tritllm.json").read_text())
    assert {tensor["depth"] for tensor in manifest["tensors"] if "depth" in tensor} == {1}


def test_calibrated_recipes_are_refused(tmp_path):
    for variant in ("bitnet", "llama_gqa_tied"):
        make(tmp_path / variant, variant, "bitlinear")
        done = subprocess.run([TRITLLM, "quantize", "--model", tmp_path / variant, "--out", tmp_path / "out", "--configs",
                               "calibrated-d2", "--quiet"], capture_output=True)
        assert done.returncode == 1 and b"exact" in done.stderr, done.stderr.decode()


def test_rounding_of_activations_matters(tmp_path):
    model = make(tmp_path / "model", "bitnet", "autobitlinear")
    expected = expected_logits(model)
    done = subprocess.run([TRITLLM, "dequantize", tmp_path / "model", tmp_path / "plain", "--type", "f32", "--quiet"],
                          capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert_close(probe_logits(tmp_path / "plain"), expected)
    change_config(tmp_path / "plain", {"tritllm_activation_bits": None})
    assert np.median(differences(probe_logits(tmp_path / "plain"), expected)[:SHORT]) > 10 * USUAL_TOLERANCE


@pytest.mark.parametrize("change,named", [
    ({"quantization_mode": "online"}, "online"),
    ({"linear_class": "otherlinear"}, "otherlinear"),
    ({"use_rms_norm": True}, "use_rms_norm"),
])
def test_what_is_not_read_is_named(tmp_path, change, named):
    folder = tmp_path / "model"
    make(folder, "bitnet", "autobitlinear")
    settings = json.loads((folder / "config.json").read_text())["quantization_config"] | change
    change_config(folder, {"quantization_config": settings})
    done = subprocess.run([PROBE, folder, "prefill"], input=b"1\n", capture_output=True)
    assert done.returncode == 1 and named.encode() in done.stderr


@pytest.mark.parametrize("damage,named", [
    (lambda tensors, name: tensors.pop(name + "_scale"), "scale"),
    (lambda tensors, name: tensors.update({name + "_scale": torch.zeros(1)}), "above 0"),
    (lambda tensors, name: tensors.update({name + "_scale": torch.full((1,), float("nan"))}), "above 0"),
    (lambda tensors, name: tensors.update({name + "_scale": torch.ones(3)}), "one scale"),
    (lambda tensors, name: tensors.update({name: tensors[name].float()}), "not packed"),
    (lambda tensors, name: tensors.update({"lm_head.weight": tensors[name].clone(), "lm_head.weight_scale": torch.ones(1)}), "outside the layers"),
    (lambda tensors, name: tensors.update({name: tensors[name][:-1].contiguous()}), "shape"),
])
def test_damaged_packing_is_refused(tmp_path, damage, named):
    folder = tmp_path / "model"
    make(folder, "bitnet", "autobitlinear")
    tensors = load_file(folder / "model.safetensors")
    damage(tensors, "model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = subprocess.run([PROBE, folder, "prefill"], input=b"1\n", capture_output=True)
    assert done.returncode == 1 and named.encode() in done.stderr, done.stderr.decode()
