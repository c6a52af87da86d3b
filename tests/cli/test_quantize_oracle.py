"""What `tritllm quantize` writes, judged by others: transformers loads and runs the FP16 folder, the numpy reference decodes and makes again
the packed one, and stock transformers refuses the packed folder instead of loading it wrongly."""
import itertools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

ROOT = Path(os.environ["TRITLLM_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "tools" / "reference"))

import codec  # noqa: E402
import packed  # noqa: E402

PROGRAM = os.environ["TRITLLM_BINARY"]
DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
RECIPES = ("uniform", "optimal")
CONFIGS = [f"{recipe}-d{depth}" for recipe, depth in itertools.product(RECIPES, (1, 2, 3, 4))]
# Of all weights of SmolLM2-135M's matrices together, by depth, as the published codec reports them.
SMOLLM2_UNIFORM_SQNR = (7.46, 16.47, 25.93, 33.16)


def tritllm(*arguments, expected=0, **environment):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == expected, done.stderr
    return done


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def models(request, tmp_path_factory):
    """A random Llama whose sizes are no multiples of 16, with grouped queries, in several files; and what all configurations make of it."""
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=54, intermediate_size=83, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=18, vocab_size=131,
        max_position_embeddings=64, tie_word_embeddings=request.param, attention_bias=True, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models")
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "source", max_shard_size="30KB")
    assert (folder / "source" / "model.safetensors.index.json").exists()
    tritllm("quantize", "--model", folder / "source", "--out", folder / "out", "--configs", ",".join(CONFIGS), "--quiet")
    return folder


def tensors_of(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


def load_without_complaint(folder, caplog):
    """AutoModelForCausalLM must find exactly the weights that it wants, and must not say a word about them."""
    transformers_logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    finally:
        transformers_logging.disable_propagation()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not loading.get(kind), (kind, loading[kind])
    words = ("weight", "initialized", "not used", "missing", "unexpected", "mismatch")
    complaints = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and any(w in r.getMessage().lower() for w in words)]
    assert not complaints, complaints
    return model


@pytest.mark.parametrize("config", CONFIGS)
def test_transformers_loads_and_runs_the_fp16_folder(models, config, caplog):
    folder = models / "out" / config
    model = load_without_complaint(folder / "model", caplog)
    assert model.dtype == torch.float16
    state = model.state_dict()
    for record, tensor in packed.PackedFolder(folder / "packed"):
        expected = torch.from_numpy(tensor.astype(np.float16) if record["fate"] == "ternary" else tensor)
        assert torch.equal(state[record["name"]], expected), record["name"]
    prompt = torch.tensor([[1, 5, 9, 77]])
    tokens = model.generate(prompt, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert tokens.shape == (1, 10)
    assert torch.isfinite(model(prompt).logits).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_the_reference_decodes_the_packed_folder_to_the_fp16_folder(models, config):
    assert packed.xxhash is not None, "without xxhash the reference checks no checksums"
    folder = models / "out" / config
    counts, different = packed.compare(packed.PackedFolder(folder / "packed"), folder / "model")
    assert different == []
    manifest = json.loads((folder / "packed" / "tritllm.json").read_text())
    assert counts["ternary"] == 14
    assert {tensor["name"] for tensor in manifest["tensors"]} == tensors_of(models / "source").keys()


@pytest.mark.parametrize("config", CONFIGS)
def test_dequantize_gives_the_fp16_folder_byte_for_byte(models, config, tmp_path):
    tritllm("dequantize", models / "out" / config / "packed", tmp_path / "back")
    expected = models / "out" / config / "model"
    names = sorted(path.relative_to(expected) for path in expected.rglob("*"))
    assert sorted(path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("*")) == names
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.parametrize("config", CONFIGS)
def test_the_reference_codec_makes_the_same_bytes_and_statistics(models, config):
    recipe, depth = config[:-3], int(config[-1])
    folder = models / "out" / config / "packed"
    source, stored = tensors_of(models / "source"), tensors_of(folder)
    manifest = json.loads((folder / "tritllm.json").read_text())
    report = json.loads((folder.parent / "report.json").read_text())
    records = {record["name"]: record for record in manifest["tensors"]}
    reported = {record["name"]: record for record in report["tensors"]}
    for name in ("model.layers.0.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        matrix = source[name].float().numpy()
        quantized = codec.quantize(matrix, recipe, depth)
        for part, array in packed.encode(quantized, depth).items():
            assert stored[f"{name}.{part}"].numpy().tobytes() == array.tobytes(), (name, part)
        for field, value in codec.statistics(matrix, quantized, depth).items():
            assert records[name][field] == value, (name, field)
            assert reported[name][field] == value, (name, field)


def test_kept_tensors_are_the_sources_rounded_to_fp16(models):
    source, model = tensors_of(models / "source"), tensors_of(models / "out" / "uniform-d1" / "model")
    kept = [name for name in source if "norm" in name or "bias" in name or "embed" in name or "lm_head" in name]
    assert len(kept) >= 13
    for name in kept:
        assert torch.equal(model[name], source[name].to(torch.float16)), name


def test_stock_transformers_refuses_the_packed_folder(models):
    with pytest.raises(OSError, match="model.safetensors"):
        AutoModelForCausalLM.from_pretrained(models / "out" / "optimal-d2" / "packed")


def test_every_instruction_set_writes_the_same_folder(models, tmp_path):
    tried = []
    for isa in ("scalar", "avx2", "avx512"):
        done = subprocess.run(
            [PROGRAM, "quantize", "--model", models / "source", "--out", tmp_path / isa, "--configs", "optimal-d3", "--quiet"],
            capture_output=True, text=True, env=os.environ | {"TRITLLM_ISA": isa},
        )  # fmt: skip
        if done.returncode == 2:
            assert "scalar" in done.stderr and isa != "scalar"
            continue
        assert done.returncode == 0, done.stderr
        tried.append(isa)
        for path in (models / "out" / "optimal-d3" / "packed").iterdir():
            assert (tmp_path / isa / "optimal-d3" / "packed" / path.name).read_bytes() == path.read_bytes(), (isa, path.name)
    assert "scalar" in tried
    refused = tritllm("inspect", models / "source", expected=2, TRITLLM_ISA="mmx")
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: TRITLLM_ISA: ") and refused.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    if not DEMO_MODEL.is_file():
        pytest.skip(f"no demo model at {DEMO_MODEL}: scripts/get_demo_model brings it")
    out = tmp_path_factory.mktemp("smollm2")
    for emit, configs in (("packed", "uniform-d1,uniform-d2,uniform-d4"), ("model", "uniform-d3")):
        tritllm("quantize", "--model", DEMO_MODEL, "--out", out, "--configs", configs, "--emit", emit, "--quiet")
    return out


def test_errors_on_a_real_model_are_the_published_codecs(smollm2):
    for depth, expected in enumerate(SMOLLM2_UNIFORM_SQNR, start=1):
        report = json.loads((smollm2 / f"uniform-d{depth}" / "report.json").read_text())
        assert report["sqnr_db"] == pytest.approx(expected, abs=0.02), depth


def test_a_real_model_still_writes_text(smollm2, caplog):
    folder = smollm2 / "uniform-d3" / "model"
    model = load_without_complaint(folder, caplog).float()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "The sun rises in the east and sets in the west. Water boils at one hundred degrees. Once upon a time there was a little girl who"
    ids = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        loss = float(model(**ids, labels=ids["input_ids"]).loss)
    assert loss < 4, "a model that knows nothing has ln(49152) = 10.8"
    tokens = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(tokens[0][ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()
