"""Whatever is wrong with input or options is refused: exit status 1 (2 for usage), one line that says where and what, no result."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from cli_support import (CONFIG, error_line, quantize, raw, result_folders, run, safetensors_bytes, succeeded, tensor, tiny_config, tiny_model,
                         tiny_tensors, write_folder)

MATRIX = "model.layers.0.self_attn.q_proj.weight"


def refused(model, out, *words, arguments=(), code=1):
    line = error_line(quantize(model, out, *arguments), *words, code=code)
    assert result_folders(out) == []
    return line


# Safetensors files (classes cA1 to cA5)


def edited(change):
    """A weight file whose header `change` edits: it gets the entries and may return other ones."""
    return lambda: safetensors_bytes(tiny_tensors(), header=change)


def with_entry(name, **fields):
    return edited(lambda entries: entries[name].update(fields))


def shifted(begin, end):
    def change(entries):
        first, last = entries[MATRIX]["data_offsets"]
        entries[MATRIX]["data_offsets"] = [first + begin, last + end]
    return edited(change)


def replaced_length(length):
    return lambda: struct.pack("<Q", length) + safetensors_bytes(tiny_tensors())[8:]


def text_header(text):
    return lambda: struct.pack("<Q", len(text)) + text


def huge(name):
    """Shapes whose product wraps to the right number of elements."""
    return edited(lambda entries: entries[name].update(shape=[2**32, 2**32, *entries[name]["shape"]]))


BAD_FILES = {
    "empty": (lambda: b"", "safetensors"),
    "seven bytes": (lambda: b"\0" * 7, "8 bytes"),
    "no header": (lambda: b"\0" * 8, "header"),
    "header longer than the file": (replaced_length(10**6), "header length"),
    "header above the limit": (replaced_length(100_000_001), "header length"),
    "header length near 2^64": (replaced_length(2**64 - 8), "header length"),
    "header length 2^63": (replaced_length(2**63), "header length"),
    "not JSON": (text_header(b"{nonsense}"), "not valid JSON at byte"),
    "array header": (text_header(b"[]"), "{"),
    "leading space": (text_header(b" {}"), "no tensors"),
    "no tensors": (text_header(b"{}"), "no tensors"),
    "deep nesting": (text_header(b'{"a":' + b"[" * 100_000), "nested deeper"),
    "invalid UTF-8": (text_header(b'{"\xff": 1}'), "not valid JSON"),
    "NUL behind the document": (text_header(b"{}\0{"), "NUL"),
    "huge number": (text_header(b'{"a": 1e999}'), "not valid JSON"),
    "duplicate tensor": (text_header(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
                         "stands twice"),
    "shape wraps": (huge(MATRIX), MATRIX, "data_offsets"),
    "shape wraps to zero bytes": (with_entry("model.nothing", shape=[2**32, 2**32]), "model.nothing"),
    "too many dimensions": (with_entry("model.nothing", shape=[0] * 2_000), "more than 1000 values"),
    "negative dimension": (with_entry(MATRIX, shape=[-9, -80]), MATRIX, "shape"),
    "fractional dimension": (with_entry(MATRIX, shape=[9.0, 80]), MATRIX, "shape"),
    "dimension above 2^64": (with_entry(MATRIX, shape=[2**64]), MATRIX),
    "shape as text": (with_entry(MATRIX, shape="9x80"), MATRIX, "shape"),
    "wrong shape": (with_entry(MATRIX, shape=[9, 79]), MATRIX, "data_offsets"),
    "end before begin": (shifted(0, -(9 * 80 * 4 + 1)), MATRIX, "data_offsets"),
    "past the end": (shifted(10**6, 10**6), MATRIX, "data_offsets"),
    "overlap": (shifted(-4, -4), MATRIX, "where the tensor before ends"),
    "hole": (edited(lambda entries: entries.pop("model.norm.weight") and None), "where the tensor before ends"),
    "tail": (lambda: safetensors_bytes(tiny_tensors()) + b"\0", "expected the file to end"),
    "truncated": (lambda: safetensors_bytes(tiny_tensors())[:-1], "lm_head.weight"),
    "alias": (edited(lambda entries: entries.update({"model.alias": dict(entries[MATRIX])})), "model.alias"),
    "unknown dtype": (with_entry(MATRIX, dtype="F4"), MATRIX, "F4"),
    "dtype as number": (with_entry(MATRIX, dtype=4), MATRIX, "dtype"),
    "quantised dtype": (with_entry(MATRIX, dtype="Q4_0"), MATRIX, "Q4_0"),
    "missing field": (edited(lambda entries: entries[MATRIX].pop("shape") and None), MATRIX),
    "unknown field": (with_entry(MATRIX, extra=1), MATRIX, "exactly the fields"),
    "offsets as text": (with_entry(MATRIX, data_offsets=["0", "1"]), MATRIX, "data_offsets"),
    "three offsets": (with_entry(MATRIX, data_offsets=[0, 1, 2]), MATRIX, "data_offsets"),
    "entry is a number": (edited(lambda entries: entries.update({MATRIX: 1})), MATRIX),
    "NUL in a name": (edited(lambda entries: entries.update({"a\0b": entries.pop(MATRIX)})), "a\\x00b"),
    "empty name": (edited(lambda entries: entries.update({"": entries.pop(MATRIX)})), "name"),
    "1 MB name": (edited(lambda entries: entries.update({"n" * 2**20: entries.pop(MATRIX)})), "name"),
    "metadata of numbers": (edited(lambda entries: entries.update({"__metadata__": {"a": 1}})), "__metadata__"),
    "metadata as text": (edited(lambda entries: entries.update({"__metadata__": "pt"})), "__metadata__"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_weight_file(tmp_path, name):
    contents, *words = BAD_FILES[name]
    model = tiny_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(contents())
    refused(model, tmp_path / "out", "model", *words)


def test_every_truncation_of_a_weight_file_is_refused(tmp_path):
    whole = safetensors_bytes({"a.weight": tensor(np.random.default_rng(1), "F16", 2, 3)})
    model = tiny_model(tmp_path / "model")
    for length in range(0, len(whole), 3):
        (model / "model.safetensors").write_bytes(whole[:length])
        refused(model, tmp_path / "out", "model.safetensors")


def test_many_names_on_one_range_are_refused_at_once(tmp_path):
    model = tiny_model(tmp_path / "model")
    entry = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    text = json.dumps({f"tensor {i}": entry for i in range(100_000)}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0\0\0\0")
    refused(model, tmp_path / "out", "where the tensor before ends")


# Values that cannot be quantised (cA6, cE5)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65536.0, -70000.0])
@pytest.mark.parametrize("threads", [1, 3])
def test_weights_that_are_no_numbers_are_named(tmp_path, dtype, value, threads):
    if dtype == "F16" and np.isfinite(value):
        pytest.skip("FP16 holds no such number")
    values = np.random.default_rng(3).normal(size=(40, 81))
    values[31, 77] = value
    model = write_folder(tmp_path / "model", {"first.weight": tensor(np.random.default_rng(4), "F32", 3, 3),
                                              "second.weight": (dtype, [40, 81], raw(values, dtype))})
    problem = "beyond FP16" if np.isfinite(value) else "finite"
    line = error_line(quantize(model, tmp_path / "out", threads=threads), "second.weight", "row 31, column 77", problem)
    assert "model.safetensors" in line
    assert result_folders(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight", "model.layers.0.mlp.gate.weight"])
def test_kept_tensors_are_checked_too(tmp_path, name):
    tensors = tiny_tensors()
    dtype, shape, _ = tensors[name]
    values = np.ones(shape)
    values.flat[-1] = np.nan
    tensors[name] = dtype, shape, raw(values, dtype)
    place = f"row {np.prod(shape[:-1], dtype=int) - 1}, column {shape[-1] - 1}"
    refused(write_folder(tmp_path / "model", tensors), tmp_path / "out", name, place)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "C64"])
def test_types_that_cannot_be_read_are_refused(tmp_path, dtype):
    tensors = tiny_tensors()
    tensors[MATRIX] = dtype, [2, 16], b"\0" * (32 * (8 if dtype == "C64" else 1))
    # Eight-bit floats are read where they have scales.
    remedy = "without scales" if dtype == "F8_E4M3" else "convert"
    refused(write_folder(tmp_path / "model", tensors), tmp_path / "out", MATRIX, dtype, remedy)


# Folders and their index (cA4, cA7, cA8)


def edit_json(path, change):
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def index_of(model):
    return model / "model.safetensors.index.json"


@pytest.mark.parametrize("target", ["../model/model-00001-of-00003.safetensors", "/etc/hostname", "", ".", "..", "a\0b", "a\\b", "x" * 300, 7, None, []])
def test_index_may_only_name_files_of_the_folder(tmp_path, target):
    model = tiny_model(tmp_path / "model", shards=3)
    edit_json(index_of(model), lambda index: index["weight_map"].update({MATRIX: target}))
    refused(model, tmp_path / "out", "model.safetensors.index.json", MATRIX)


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": "b", "a": "b"}}', "{"])
def test_bad_index(tmp_path, document):
    model = tiny_model(tmp_path / "model", shards=3)
    index_of(model).write_text(document)
    refused(model, tmp_path / "out", "model.safetensors.index.json")


def test_shard_missing(tmp_path):
    model = tiny_model(tmp_path / "model", shards=3)
    (model / "model-00002-of-00003.safetensors").unlink()
    refused(model, tmp_path / "out", "model-00002-of-00003.safetensors", "is missing")


def test_index_names_a_tensor_that_no_file_holds(tmp_path):
    model = tiny_model(tmp_path / "model", shards=3)
    edit_json(index_of(model), lambda index: index["weight_map"].update(ghost="model-00001-of-00003.safetensors"))
    refused(model, tmp_path / "out", "ghost", "model-00001-of-00003.safetensors")


def test_file_holds_a_tensor_that_the_index_does_not_name(tmp_path):
    model = tiny_model(tmp_path / "model", shards=3)
    edit_json(index_of(model), lambda index: index["weight_map"].pop(MATRIX) and None)
    refused(model, tmp_path / "out", MATRIX, "index")


def test_tensor_in_another_file_than_the_index_says(tmp_path):
    model = tiny_model(tmp_path / "model", shards=3)
    edit_json(index_of(model), lambda index: index["weight_map"].update({MATRIX: "model-00003-of-00003.safetensors"}))
    refused(model, tmp_path / "out", MATRIX, "index")


def test_tensor_in_two_files(tmp_path):
    model = tiny_model(tmp_path / "model", shards=3)
    (model / "model-00002-of-00003.safetensors").write_bytes((model / "model-00001-of-00003.safetensors").read_bytes())
    refused(model, tmp_path / "out", "model-00002-of-00003.safetensors", "another weight file")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop", "dangling"])
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    model = tiny_model(tmp_path / "model")
    (model / name).unlink()
    if kind == "fifo":
        os.mkfifo(model / name)
    elif kind == "folder":
        (model / name).mkdir()
    else:
        (model / name).symlink_to({"device": "/dev/zero", "loop": name, "dangling": "nowhere"}[kind])
    refused(model, tmp_path / "out", "model")


def test_two_tensors_that_would_get_one_name(tmp_path):
    tensors = tiny_tensors()
    tensors[MATRIX + ".trits"] = "U8", [3], b"abc"
    refused(write_folder(tmp_path / "model", tensors), tmp_path / "out", MATRIX + ".trits", "two tensors")


def test_a_name_that_leaves_no_room_for_its_parts(tmp_path):
    name = "n" * 4085 + ".weight"
    model = write_folder(tmp_path / "model", {name: tensor(np.random.default_rng(1), "F16", 2, 16)})
    refused(model, tmp_path / "out", "nnnn")


def test_a_name_longer_than_a_result_can_have_is_refused_before_the_work(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / ("n" * 250 + ".txt")).write_text("x")
    refused(model, tmp_path / "out", "nnnn")


def test_a_file_of_the_source_never_takes_the_manifests_place(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "tritllm.json").write_text("{}")
    succeeded(run("quantize", "--model", model, "--out", tmp_path / "out", "--quiet"))
    succeeded(run("verify", tmp_path / "out" / CONFIG / "packed"))
    assert not (tmp_path / "out" / CONFIG / "model" / "tritllm.json").exists()


# config.json (cB1 to cB4)


@pytest.mark.parametrize("document, words", [
    ("", ["not valid JSON"]),
    ("[]", ["object"]),
    ("7", ["object"]),
    ('{"a": 1, "a": 2}', ["stands twice"]),
    ('{"a":' + "[" * 200 + "]" * 200 + "}", ["nested deeper"]),
    ('{"a": 1e999}', ["not valid JSON"]),
    ('{"a": "\ud800"}'.encode("utf-8", "surrogatepass").decode("latin-1"), []),
    ('{"tie_word_embeddings": "yes"}', ["tie_word_embeddings"]),
    ('{"text_config": {"tie_word_embeddings": 1}}', ["tie_word_embeddings"]),
    ('{"quantization_config": {"quant_method": "gptq"}}', ["gptq", "already quantised"]),
    ('{"quantization_config": {"quant_method": 7}}', ["already quantised"]),
    ('{"quantization_config": {"quant_method": null}}', ["already quantised"]),
    ('{"quantization_config": []}', ["already quantised"]),
    ('{"quantization_config": "x"}', ["already quantised"]),
])
def test_bad_config(tmp_path, document, words):
    model = tiny_model(tmp_path / "model")
    (model / "config.json").write_text(document)
    if document.startswith('{"a": "'):  # latin-1 text is sound here; the bytes of a lone surrogate are not
        (model / "config.json").write_bytes(b'{"a": "\xed\xa0\x80"}')
        words = ["not valid JSON"]
    refused(model, tmp_path / "out", "model", *words)


@pytest.mark.parametrize("document", ['{"architectures": 7, "model_type": []}', '{"text_config": 7, "torch_dtype": {}}',
                                      '{"dtype": null, "quantization_config": null}', "{}"])
def test_config_that_says_nothing_useful_is_carried_along(tmp_path, document):
    model = tiny_model(tmp_path / "model")
    (model / "config.json").write_text(document)
    succeeded(quantize(model, tmp_path / "out"))
    for arguments in (["inspect", model], ["inspect", model, "--json"], ["inspect", tmp_path / "out" / CONFIG / "packed"]):
        succeeded(run(*arguments))
    succeeded(run("verify", tmp_path / "out" / CONFIG / "packed"))


def test_config_at_the_depth_limit_can_be_read_back(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "config.json").write_text('{"a":' + "[" * 63 + "]" * 63 + "}")
    succeeded(quantize(model, tmp_path / "out"))
    succeeded(run("dequantize", tmp_path / "out" / CONFIG / "packed", tmp_path / "again"))


def test_tied_head_that_differs_from_the_embedding(tmp_path):
    model = write_folder(tmp_path / "model", tiny_tensors(tied=False), tiny_config(tie_word_embeddings=True))
    result = succeeded(run("quantize", "--model", model, "--out", tmp_path / "out", "--configs", CONFIG, "--threads", 2))
    assert "the stored one is used" in result.stderr, "as in transformers 5"
    for folder in ("packed", "model"):
        config = json.loads((tmp_path / "out" / CONFIG / folder / "config.json").read_text())
        assert config["tie_word_embeddings"] is False


def test_python_files_are_not_run_and_said_to_be_ignored(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "modeling_tiny.py").write_text("raise SystemExit(9)")
    result = succeeded(run("quantize", "--model", model, "--out", tmp_path / "out"))
    assert "Python files" in result.stderr
    assert not list((tmp_path / "out").rglob("*.py"))


# Models that are no folders (cC: the container itself is tested in tests/io)


@pytest.mark.parametrize("contents", [b"", b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 16, b"PK\3\4", b"\0" * 1000])
def test_bad_gguf_file(tmp_path, contents):
    (tmp_path / "bad.gguf").write_bytes(contents)
    refused(tmp_path / "bad.gguf", tmp_path / "out", "bad.gguf")


def test_model_that_does_not_exist(tmp_path):
    refused(tmp_path / "nothing", tmp_path / "out", "nothing", "no such file")
    assert not (tmp_path / "out").exists()


def test_folder_without_weights(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    refused(model, tmp_path / "out", "model.safetensors")


def test_a_packed_folder_is_no_source(tmp_path):
    succeeded(quantize(tiny_model(tmp_path / "model"), tmp_path / "out"))
    refused(tmp_path / "out" / CONFIG / "packed", tmp_path / "out2", "packed")


@pytest.mark.parametrize("command", ["inspect", "verify", "dequantize"])
def test_other_commands_refuse_as_well(tmp_path, command):
    more = [tmp_path / "decoded"] if command == "dequantize" else []
    error_line(run(command, tmp_path / "nothing", *more), "nothing")
    model = tiny_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"short")
    error_line(run(command, model, *more), "model.safetensors")
    assert not (tmp_path / "decoded").exists()


def test_control_characters_of_names_are_shown_escaped(tmp_path):
    name = "evil\x1b[31m\nname.weight"
    values = np.full((1, 1), np.nan)
    model = write_folder(tmp_path / "model", {name: ("F32", [1, 1], raw(values, "F32"))})
    line = refused(model, tmp_path / "out", "evil\\x1b[31m\\x0aname")
    assert "\x1b" not in line
