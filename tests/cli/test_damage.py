"""What the commands do with a damaged packed folder. That every truncation and every flipped bit is noticed is shown in
tests/io/packed_checkpoint_test.cpp; here the exit status, the words, and that nothing is made of damaged weights."""

import json
import os
import shutil

import pytest

from cli_support import CONFIG, error_line, folder_digest, quantize, run, succeeded, tiny_model

WEIGHTS = "trits-00001-of-00001.safetensors"
LOADED_STRICTLY = [WEIGHTS, "trits.safetensors.index.json", "tritllm.json"]
LOADED_WITH_A_WARNING = ["config.json", "tokenizer.json", "chat_template.jinja", "LICENSE", "NOTICE", "README.md"]


@pytest.fixture
def packed(memory):
    succeeded(quantize(tiny_model(memory / "model"), memory / "out"))
    folder = memory / "out" / CONFIG / "packed"
    assert {path.name for path in folder.iterdir()} == set(LOADED_STRICTLY + LOADED_WITH_A_WARNING)
    return folder


def flip(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def found_by_verify(packed):
    result = run("verify", packed, "--json")
    assert result.returncode == 1
    document = json.loads(result.stdout)
    assert document["ok"] is False
    return [error["file"] for error in document["errors"]]


DAMAGES = {"flipped": flip, "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]), "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
           "empty": lambda path: path.write_bytes(b""), "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", LOADED_STRICTLY)
def test_damaged_weights_are_refused(memory, packed, name, damage):
    DAMAGES[damage](packed / name)
    if damage == "gone" and name == "tritllm.json":
        error_line(run("verify", packed))  # now it is no packed folder at all
    else:
        assert found_by_verify(packed) == [name]
        error_line(run("verify", packed), name)
    error_line(run("dequantize", packed, memory / "decoded"), "packed")
    assert [path.name for path in memory.iterdir() if path.name.startswith("decoded")] == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer"])
@pytest.mark.parametrize("name", LOADED_WITH_A_WARNING)
def test_edited_files_load_with_a_warning(memory, packed, name, damage):
    if name == "config.json" and damage != "longer":
        (packed / name).write_text('{"edited": true}')
    else:
        DAMAGES[damage](packed / name)
    assert found_by_verify(packed) == [name]
    result = succeeded(run("dequantize", packed, memory / "decoded"))
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and name in warnings[0], result.stderr
    assert succeeded(run("dequantize", packed, memory / "quietly", "--quiet")).stderr == ""


def test_all_damaged_files_are_named(packed):
    damaged = [WEIGHTS, "trits.safetensors.index.json", "config.json", "tokenizer.json", "NOTICE"]
    for name in damaged:
        flip(packed / name)
    assert sorted(found_by_verify(packed)) == sorted(damaged)


@pytest.mark.parametrize("name", LOADED_STRICTLY + LOADED_WITH_A_WARNING)
def test_what_is_no_file_is_found_at_once(memory, packed, name):
    (packed / name).unlink()
    os.mkfifo(packed / name)
    assert run("verify", packed).returncode == 1
    error_line(run("dequantize", packed, memory / "decoded"), name)


@pytest.mark.parametrize("name", LOADED_STRICTLY)
def test_files_of_two_runs_do_not_mix(memory, packed, name):
    succeeded(quantize(tiny_model(memory / "other", seed=2), memory / "out2"))
    shutil.copy(memory / "out2" / CONFIG / "packed" / name, packed / name)
    same = name.endswith("index.json")  # both runs hold the same tensors, so their indexes are equal
    assert run("verify", packed).returncode == (0 if same else 1)
    assert run("dequantize", packed, memory / "decoded").returncode == (0 if same else 1)


def test_stale_weights_beside_the_present_ones(packed):
    shutil.copy(packed / WEIGHTS, packed / "trits-00002-of-00002.safetensors")
    error_line(run("verify", packed), "trits-00002-of-00002.safetensors")


def test_another_source_is_told_from_the_right_one(memory, packed):
    succeeded(run("verify", packed, "--source", memory / "model", "--sample", "0"))
    result = run("verify", packed, "--source", tiny_model(memory / "other", seed=2), "--sample", "0", "--json")
    assert result.returncode == 1
    assert all("checksum differs" in error["message"] for error in json.loads(result.stdout)["errors"])
    error_line(run("verify", memory / "model", "--source", memory / "model"), "--source", code=2)
    error_line(run("verify", packed, "--source", memory / "model", env={"TMPDIR": "/nonexistent"}), "TMPDIR")


def test_decoding_equals_the_folder_made_with_it(memory, packed):
    succeeded(run("dequantize", packed, memory / "decoded"))
    assert folder_digest(memory / "decoded") == folder_digest(packed.parent / "model")
