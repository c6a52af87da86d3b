"""What small files and large numbers may cost: sizes are weighed before memory is taken, input is limited while it is read, and what
does not fit is refused with both numbers."""

import json
import os
import resource
import struct
import subprocess

import pytest

from cli_support import BINARY, CONFIG, clean_environment, error_line, llama, quantize_arguments, run, succeeded, tiny_model

MIB = 1 << 20


def peak_of(*arguments, statuses=(0,)):
    """Bytes that the program had in memory at most."""
    program = subprocess.Popen([BINARY, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=clean_environment())
    error = program.stderr.read().decode()
    _, status, usage = os.wait4(program.pid, 0)
    program.returncode = os.waitstatus_to_exitcode(status)
    program.stderr.close()
    assert program.returncode in statuses, error
    assert "internal" not in error
    return usage.ru_maxrss * 1024


# Sizes by config.json that the weights bear out; each took gigabytes.
SHAPES = {"a wide feed-forward block": {"feed_forward": 1 << 20, "hidden": 2, "head_width": 2},
          "many heads": {"heads": 1 << 14, "hidden": 2, "head_width": 2},
          "a large vocabulary": {"vocabulary": 1 << 20, "hidden": 2, "head_width": 2}}


@pytest.mark.parametrize("shape", SHAPES)
def test_work_space_is_in_proportion_to_the_weights(tmp_path, shape):
    model = llama(tmp_path / "model", **SHAPES[shape])
    (tmp_path / "prompt").write_text("a" * 600)
    # A sanitizer's own memory comes on top.
    allowed = 6 * (model / "model.safetensors").stat().st_size + 512 * MIB
    for arguments in (["run", "--model", model, "--raw", "-f", tmp_path / "prompt", "-n", 2],
                      ["run", "--model", model, "--raw", "-p", "hello", "-n", 2, "--json", "--prompt-log-probabilities"],
                      ["eval", "--model", model, "--text", tmp_path / "prompt", "--context", 512, "--windows", 1]):  # fmt: skip
        assert peak_of(*arguments) < allowed, arguments


def test_a_cache_out_of_proportion_to_the_weights_is_refused(tmp_path):
    model = llama(tmp_path / "model", heads=1 << 14, kv_heads=1 << 14, hidden=2, head_width=2)
    error_line(run("run", "--model", model, "--raw", "-p", "a", "--quiet"), "config.json", "0.54 GB", "num_key_value_heads")


@pytest.mark.parametrize("context", [10**8, 1 << 30])
def test_contexts_beyond_memory_are_refused_at_once_with_both_numbers(tmp_path, context):
    model = llama(tmp_path / "model", positions=1 << 30, hidden=64, head_width=64)
    (tmp_path / "text").write_text("text")
    for arguments in (["run", "--raw", "-p", "a"], ["chat"], ["eval", "--text", tmp_path / "text"]):
        line = error_line(run(*arguments, "--model", model, "--context", context, "--quiet"), "--context", str(context), "need", "are free", code=2)
        assert "--max-memory" not in line


def limited(megabytes):
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes * MIB, megabytes * MIB))


@pytest.mark.skipif("address" in os.environ.get("TRITLLM_SANITIZE", ""), reason="sanitizers take terabytes of addresses")
def test_advice_names_options_that_the_command_has(tmp_path):
    model = llama(tmp_path / "model", positions=1 << 20, hidden=64, head_width=64)
    result = run("run", "--model", model, "--raw", "-p", "a", "--context", 1 << 20, "--quiet", "--threads", 1, preexec_fn=limited(400))
    error_line(result, "--context", code=2)
    result = run("bench", "--model", model, "--tests", "pp1000000", "--quiet", "--threads", 1, preexec_fn=limited(400))
    assert "--context " not in error_line(result, "--tests", code=2)


def test_a_batch_beyond_the_work_space_is_refused(tmp_path):
    model = llama(tmp_path / "model", **SHAPES["a large vocabulary"])
    error_line(run("bench", "--model", model, "--tests", "tg1", "--batch", 32, "--quiet"), "--batch", "room for", code=2)


# Listing


@pytest.mark.skipif("address" in os.environ.get("TRITLLM_SANITIZE", ""), reason="the sanitizer keeps freed memory")
def test_tensors_are_listed_without_a_tree_of_them(tmp_path):
    model = tiny_model(tmp_path / "model")
    # A program's peak counts what its parent had at most, so this one must stay small.
    with open(model / "model.safetensors", "wb") as file:
        count, entry = 300_000, '"t{:06d}": {{"dtype": "F32", "shape": [1], "data_offsets": [{:8d}, {:8d}]}}'
        length = len(entry.format(0, 0, 4)) * count + count + 1
        file.write(struct.pack("<Q", length) + b"{")
        for i in range(count):
            file.write((entry.format(i, 4 * i, 4 * i + 4) + ("," if i + 1 < count else "}")).encode())
        file.write(bytes(4 * count))
    for arguments in (["inspect", model], ["inspect", model, "--json"]):
        assert peak_of(*arguments) < length + 200 * MIB


def test_tensors_one_at_a_time_make_one_json_document(tmp_path):
    model = tiny_model(tmp_path / "model")
    succeeded(run(*quantize_arguments(model, tmp_path / "out")))
    for path in (model, tmp_path / "out" / CONFIG / "packed"):
        text = succeeded(run("inspect", path, "--json")).stdout
        document = json.loads(text)
        assert len(document["tensors"]) > 10
        assert text == json.dumps(document, indent=2, ensure_ascii=False) + "\n"


# Side files


def test_side_files_count_before_they_are_read(tmp_path):
    model = tiny_model(tmp_path / "model")
    for number in range(4):
        with open(model / f"{number}.txt", "wb") as file:
            file.truncate(100 * MIB)
    assert peak_of(*quantize_arguments(model, tmp_path / "out", "--max-memory", "256M"), statuses=(2,)) < 300 * MIB
    error_line(run(*quantize_arguments(model, tmp_path / "out", "--max-memory", "256M")), "--max-memory", "allowed are 256 MiB", code=2)


def test_side_files_have_a_common_limit(tmp_path):
    model = tiny_model(tmp_path / "model")
    for number in range(5):
        with open(model / f"{number}.txt", "wb") as file:
            file.truncate(250 * MIB)
    for command in (["inspect", model], ["tokenize", "--model", model, "--text", "a"]):
        assert peak_of(*command, statuses=(1,)) < 300 * MIB
        error_line(run(*command), "beside the weights", str(1 << 30))


# Endless input


@pytest.mark.parametrize("command", ["tokenize", "run", "eval"])
def test_endless_standard_input_ends_at_the_limit(tmp_path, command):
    model = llama(tmp_path / "model")
    arguments = {"tokenize": ["tokenize", "--file", "-"], "run": ["run", "--raw", "--file", "-"], "eval": ["eval", "--text", "-"]}[command]
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        program = subprocess.Popen([BINARY, *arguments, "--model", str(model), "--quiet"], stdin=endless.stdout, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=clean_environment())
        error = program.stderr.read().decode()
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        program.stderr.close()
        endless.kill()
    assert program.returncode == 1 and "standard input" in error and str(256 * MIB) in error, error
    # Freed memory stays with the address sanitizer for a while.
    quarantine = 256 * MIB if "address" in os.environ.get("TRITLLM_SANITIZE", "") else 0
    assert usage.ru_maxrss * 1024 < 900 * MIB + quarantine


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/dev/full"])
def test_devices_are_not_read_as_files(tmp_path, path):
    model = llama(tmp_path / "model")
    for arguments in (["tokenize", "--file", path], ["run", "--raw", "--file", path], ["eval", "--text", path]):
        error_line(run(*arguments, "--model", model, "--quiet"), path, "regular file")


# Line ends


def test_commands_agree_on_line_ends(tmp_path):
    model = llama(tmp_path / "model")
    (tmp_path / "unix").write_bytes(b"one\ntwo\n\nthree")
    for number, text in enumerate([b"one\r\ntwo\r\n\r\nthree", b"one\rtwo\r\rthree"]):
        (tmp_path / f"other{number}").write_bytes(text)
        for command in (["tokenize", "--file"], ["run", "--raw", "--temp", 0, "-n", 3, "--quiet", "--file"], ["eval", "--context", 8, "--quiet", "--text"]):
            expected, found = (succeeded(run(*command, tmp_path / name, "--model", model)).stdout for name in ("unix", f"other{number}"))
            assert found == expected
