"""tritllm pack: FP16 folders of ternary matrices, made here with numpy, come back value for value; everything else is refused with
the place where it stops being ternary."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cli_support import bfloat16, error_line, folder_digest, quantize, run, succeeded, tensor, tiny_config, tiny_model, write_folder

sys.path.insert(0, str(Path(os.environ["TRITLLM_SOURCE_DIR"]) / "tools" / "reference"))
import packed as packed_format  # noqa: E402

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"


def ternary(random, depth, rows, columns, zeros=0.2, scales=27):
    """Codes with a codebook of their own, as float32: q * s / H."""
    most = (3**depth - 1) // 2
    codebook = np.exp(random.uniform(-5, -1, scales)).astype(np.float32)
    codes = random.integers(-most, most + 1, (rows, columns)).astype(np.float32)
    codes[random.random((rows, columns)) < zeros] = 0
    groups = -(-columns // 16)
    scale = np.repeat(codebook[random.integers(0, scales, (rows, groups))], 16, axis=1)[:, :columns]
    return codes * (scale / np.float32(most)) + np.float32(0)


def model_of(folder, up, down=None, dtype="F16"):
    random = np.random.default_rng(7)
    down = ternary(random, 2, 30, 48) if down is None else down
    stored = {"F16": np.float16, "F32": np.float32}[dtype]
    return write_folder(folder, {"model.embed_tokens.weight": tensor(random, "F16", 24, 17),
                                 UP: (dtype, list(up.shape), up.astype(stored).tobytes()),
                                 DOWN: (dtype, list(down.shape), down.astype(stored).tobytes()),
                                 "model.norm.weight": tensor(random, "F16", 17)}, tiny_config(torch_dtype="float16"))


def pack(model, out, *more):
    return run("pack", "--model", model, "--out", out, "--quiet", "--threads", 2, *more)


def weights_of(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}
    return found


def depths_of(out):
    return json.loads((out / "exact" / "packed" / "config.json").read_text())["quantization_config"]["depths"]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_values_of_another_codec_come_back(memory, depth):
    model = model_of(memory / "model", ternary(np.random.default_rng(depth), depth, 200, 90))
    succeeded(pack(model, memory / "out"))
    assert depths_of(memory / "out") == {UP: depth, DOWN: 2}
    succeeded(run("dequantize", memory / "out" / "exact" / "packed", memory / "again"))
    expected, found = weights_of(model), weights_of(memory / "again")
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert values.dtype == found[name].dtype and (values.view(np.uint16) == found[name].view(np.uint16)).all(), name
    succeeded(run("verify", memory / "out" / "exact" / "packed", "--source", model))
    report = json.loads((memory / "out" / "exact" / "report.json").read_text())
    assert report["recipe"] == "exact" and report["relative_mse"] == 0 and report["sqnr_db"] is None


def test_float32_without_a_rounding(memory):
    up = ternary(np.random.default_rng(1), 3, 40, 64)
    model = model_of(memory / "model", up, ternary(np.random.default_rng(2), 1, 16, 32), dtype="F32")
    succeeded(pack(model, memory / "out"))
    assert depths_of(memory / "out") == {UP: 3, DOWN: 1}


def test_a_weight_that_does_not_fit_is_shown(memory):
    up = ternary(np.random.default_rng(1), 2, 40, 64, zeros=0).astype(np.float16)
    up[11, 35] *= np.float16(1.03)
    model = model_of(memory / "model", up)
    line = error_line(pack(model, memory / "out"), UP, "row 11, columns 32 to 47", "depth 4", "leaves 1 of 16 weights different", "--depth")
    assert f"{up[11, 35]:.4g}"[:5] in line
    assert not list((memory / "out" / "exact").glob("packed*")) if (memory / "out" / "exact").exists() else True


def test_all_matrices_that_are_not_ternary_are_named_and_may_be_kept(memory):
    random = np.random.default_rng(3)
    model = model_of(memory / "model", random.standard_normal((20, 48)), random.standard_normal((20, 48)))
    error_line(pack(model, memory / "out"), UP, "row 0, columns 0 to 15", "1 other matrix is not ternary either: " + DOWN)
    model = model_of(memory / "half", random.standard_normal((20, 48)))
    error_line(pack(model, memory / "out"), UP)
    succeeded(pack(model, memory / "out", "--depth", "up_proj=keep"))
    assert depths_of(memory / "out") == {DOWN: 2}


def test_more_scales_than_a_codebook_holds(memory):
    up = ternary(np.random.default_rng(4), 2, 60, 64, zeros=0, scales=40)
    error_line(pack(model_of(memory / "model", up), memory / "out"), UP, "no 27 scales", "nearest")


def test_a_depth_is_the_most_that_a_matrix_may_have(memory):
    model = model_of(memory / "model", ternary(np.random.default_rng(5), 3, 60, 64))
    error_line(pack(model, memory / "out", "--depth", "up_proj=2"), UP, "depth 2")
    succeeded(pack(model, memory / "out", "--depth", "up_proj=3"))


def test_embeddings_are_packed_where_they_are_ternary_too(memory):
    model = tiny_model(memory / "model")
    succeeded(quantize(model, memory / "out", "--embed-depth", 4, "--head-depth", 3))
    plain = memory / "out" / "optimal-d2" / "model"
    succeeded(pack(plain, memory / "packed", "--embed-depth", 4, "--head-depth", 4))
    depths = depths_of(memory / "packed")
    assert depths["model.embed_tokens.weight"] == 4 and depths["lm_head.weight"] == 3


def test_it_is_a_configuration_of_quantize_too(memory):
    model = model_of(memory / "model", ternary(np.random.default_rng(6), 2, 60, 64))
    succeeded(quantize(model, memory / "both", configs="exact,optimal-d1"))
    succeeded(pack(model, memory / "alone"))
    assert folder_digest(memory / "both" / "exact" / "packed").keys() == folder_digest(memory / "alone" / "exact" / "packed").keys()
    plan = json.loads(succeeded(run("pack", "--model", model, "--out", memory / "new", "--dry-run", "--json")).stdout)
    assert {t["name"]: t["depth"] for t in plan["configs"][0]["tensors"] if t["fate"] == "ternary"} == depths_of(memory / "alone")
    assert not (memory / "new").exists()


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_scales_beyond_half(memory, dtype):
    """An FP16 folder cannot hold them, the packed one can."""
    signs = np.random.default_rng(8).integers(-1, 2, (20, 33))
    values = signs * np.where(np.arange(20) % 2, 98304.0, 0.5)[:, None]  # both numbers are exact in BF16
    data = bfloat16(values) if dtype == "BF16" else values.astype(np.float32).tobytes()
    model = write_folder(memory / "model", {UP: (dtype, [20, 33], data)}, tiny_config(hidden_size=33))
    succeeded(pack(model, memory / "out"))
    packed = memory / "out" / "exact" / "packed"
    succeeded(run("verify", packed, "--source", model))
    decoded = next(tensor for record, tensor in packed_format.PackedFolder(packed) if record["name"] == UP)
    assert (decoded == values).all()
    error_line(run("dequantize", packed, memory / "again"), UP, "FP16")
    assert list(memory.glob("again*")) == []
    error_line(run("quantize", "--configs", "exact", "--model", model, "--out", memory / "both", "--quiet"), UP, "FP16", "--emit packed")
