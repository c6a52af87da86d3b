"""Numbers that FP16 cannot hold, or rounds away: refused by name where an FP16 folder was asked for, packed where it was not, and
accounted for."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cli_support import bfloat16, error_line, quantize, run, succeeded, tensor, tiny_config, write_folder

sys.path.insert(0, str(Path(os.environ["TRITLLM_SOURCE_DIR"]) / "tools" / "reference"))
import codec  # noqa: E402
import packed as packed_format  # noqa: E402

UP, NORM, EMBED = "model.layers.0.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"


def write_model(folder, scale=1.0, changes=()):
    """changes: (tensor, flat index, value)."""
    random = np.random.default_rng(3)
    values = {EMBED: random.standard_normal((24, 40)), UP: random.standard_normal((30, 40)) * scale, NORM: np.ones(40)}
    for name, index, value in changes:
        values[name].flat[index] = value
    return write_folder(folder, {name: ("BF16", list(v.shape), bfloat16(v)) for name, v in values.items()}, tiny_config(hidden_size=40))


def stored(folder, name):
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            if name in file.keys():
                return file.get_tensor(name)
    raise KeyError(name)


@pytest.mark.parametrize("name, index, value", [(NORM, 3, 1e5), (NORM, 3, -1e5), (EMBED, 57, 7e4)])
def test_kept_tensors_beyond_half(memory, name, index, value):
    model = write_model(memory / "model", changes=[(name, index, value)])
    error_line(quantize(model, memory / "out"), name, "FP16", "--emit packed")
    succeeded(quantize(model, memory / "packed", "--emit", "packed"))
    packed = memory / "packed" / "optimal-d2" / "packed"
    found = stored(packed, name)
    assert str(found.dtype) == "torch.bfloat16" and abs(found.flatten()[index].float().item() - value) < 0.01 * abs(value)
    other = NORM if name == EMBED else EMBED
    assert str(stored(packed, other).dtype) == "torch.float16"
    succeeded(run("verify", packed))
    error_line(run("dequantize", packed, memory / "again"), name, "FP16")
    assert not (memory / "again").exists()


@pytest.mark.parametrize("config", ["uniform-d2", "optimal-d4"])
def test_matrices_beyond_half(memory, config):
    model = write_model(memory / "model", scale=2e6)
    error_line(quantize(model, memory / "out", configs=config), UP, "row 0, column", "FP16", "--emit packed")
    succeeded(quantize(model, memory / "packed", "--emit", "packed", configs=config))
    packed = memory / "packed" / config / "packed"
    succeeded(run("verify", packed, "--source", model))
    report = next(t for t in json.loads((memory / "packed" / config / "report.json").read_text())["tensors"] if t["name"] == UP)
    source = stored(model, UP).float().numpy()
    decoded = next(tensor for record, tensor in packed_format.PackedFolder(packed) if record["name"] == UP)
    assert np.isfinite(decoded).all() and np.abs(decoded).max() > 65504
    assert ((decoded.astype(float) - source)**2).sum() / (source.astype(float)**2).sum() == pytest.approx(report["relative_mse"], rel=1e-5)
    recipe, depth = config.split("-d")
    expected = packed_format.encode(codec.quantize(source, recipe, int(depth)), int(depth))
    for part, values in expected.items():
        assert stored(packed, f"{UP}.{part}").numpy().tobytes() == values.tobytes(), part
    error_line(run("dequantize", packed, memory / "again"), UP, "FP16")
    assert list(memory.glob("again*")) == []


@pytest.mark.parametrize("scale, changes", [(2e6, []), (1.0, [(NORM, 3, 1e5)])], ids=["matrix", "kept"])
def test_merging_parts_beyond_half_is_refused_before_anything_is_written(memory, scale, changes):
    model = write_model(memory / "model", scale=scale, changes=changes)
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, memory / "parts", "--shard", part))
    error_line(run("merge", memory / "parts", "--out", memory / "out"), UP if not changes else NORM, "FP16", "--emit packed")
    assert [path.name for path in (memory / "out").iterdir()] == [".lock"]
    succeeded(run("merge", memory / "parts", "--out", memory / "out", "--emit", "packed"))
    succeeded(run("verify", memory / "out" / "optimal-d2" / "packed", "--source", model))


def test_matrices_beyond_the_codec(memory):
    model = write_model(memory / "model", changes=[(UP, 43, 1e30)])
    error_line(quantize(model, memory / "out", "--emit", "packed"), UP, "row 1, column 3", "keep")
    model = write_model(memory / "nan", changes=[(UP, 43, np.nan)])
    error_line(quantize(model, memory / "other", "--emit", "packed"), UP, "row 1, column 3", "finite", "damaged")


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e-6, 1e-7])
def test_what_half_rounds_away_is_counted(memory, scale):
    model = write_model(memory / "model", scale=scale)
    result = run("quantize", "--model", model, "--out", memory / "out", "--configs", "optimal-d4", "--threads", 2)
    succeeded(result)
    report = json.loads((memory / "out" / "optimal-d4" / "report.json").read_text())
    record = next(t for t in report["tensors"] if t["name"] == UP)
    source, found = (stored(folder, UP).double().numpy() for folder in (model, memory / "out" / "optimal-d4" / "model"))
    error = ((found - source)**2).sum() / (source**2).sum()
    assert report["model_error"]["relative_mse"] == pytest.approx(error, rel=1e-6)
    assert report["model_error"]["max_abs_error"] == pytest.approx(np.abs(found - source).max(), rel=1e-6)
    decibels = -10 * np.log10(error)
    if record["sqnr_db"] - decibels >= 0.01:
        assert record["model"]["sqnr_db"] == pytest.approx(decibels, abs=1e-3)
    assert ("model" in record) == (scale < 1)
    assert (UP in result.stderr) == (record["sqnr_db"] - decibels > 1), result.stderr


def test_a_kept_tensor_that_half_rounds_away_brings_a_warning(memory):
    model = write_model(memory / "model", changes=[(NORM, i, 1e-9) for i in range(40)])
    result = succeeded(run("quantize", "--model", model, "--out", memory / "out", "--configs", "optimal-d2"))
    assert NORM in result.stderr and "FP16" in result.stderr
