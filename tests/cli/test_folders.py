"""Folders that are not tritllm's are never emptied, replaced or removed, and neither is what a run reads; results that are damaged are
never called complete; what is printed never gets into a file."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from cli_support import (BINARY, CONFIG, clean_environment, error_line, folder_bytes, folder_digest, in_parallel, mark, quantize, quantize_arguments, run,
                         same_results, small_model, succeeded, tensor, tiny_model, write_folder)


@pytest.fixture
def model(memory):
    return tiny_model(memory / "model")


@pytest.fixture
def packed(memory, model):
    succeeded(quantize(model, memory / "out"))
    return memory / "out" / CONFIG / "packed"


def foreign(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("precious")
    return folder


# Sources


@pytest.mark.parametrize("source, out", [
    ("foo.partial", "foo"), ("foo.partial", "foo/"), ("foo.partial", "./foo"), ("foo.partial", "x/../foo"), ("foo", "foo"), ("foo/", "foo"),
])
def test_decoding_never_costs_its_source(memory, packed, source, out):
    (memory / "x").mkdir()
    shutil.copytree(packed, memory / source)
    before = folder_bytes(memory / source)
    error_line(run("dequantize", source, out, cwd=memory), "foo")
    assert folder_bytes(memory / source) == before


def test_decoding_never_costs_a_source_behind_a_link(memory, packed):
    before = folder_bytes(packed)
    (memory / "decoded.partial").symlink_to(packed)
    error_line(run("dequantize", packed, memory / "decoded"), "decoded.partial")
    (memory / "alias").symlink_to(packed)
    (memory / "other.partial").symlink_to(memory / "alias")
    error_line(run("dequantize", memory / "alias", memory / "other"), "other.partial")
    assert folder_bytes(packed) == before


def test_decoding_leaves_folders_of_others_alone(memory, packed):
    theirs = foreign(memory / "decoded.partial")
    error_line(run("dequantize", packed, memory / "decoded"), "decoded.partial", "thesis.txt", "move it away")
    assert folder_bytes(theirs) == {"thesis.txt": b"precious"}
    # A result that somebody gave this name is not unfinished work.
    succeeded(run("dequantize", packed, memory / "mine"))
    (memory / "mine").rename(memory / "again.partial")
    before = folder_bytes(memory / "again.partial")
    error_line(run("dequantize", packed, memory / "again"), "again.partial")
    assert folder_bytes(memory / "again.partial") == before
    shutil.copytree(packed, memory / "third.partial")
    error_line(run("dequantize", packed, memory / "third"), "third.partial")
    assert folder_bytes(memory / "third.partial") == folder_bytes(packed)


PLACES = ["packed", "model", "packed.partial", "model.partial", "packed.partial.former", "model.partial.former"]


@pytest.mark.parametrize("more", [[], ["--fresh"], ["--emit", "packed"], ["--fresh", "--emit", "model"]])
@pytest.mark.parametrize("place", PLACES)
def test_quantising_never_costs_its_source(memory, place, more):
    out = memory / "out"
    source = tiny_model(out / CONFIG / place)
    mark(source)  # not even where it carries a mark
    before = folder_bytes(source)
    for spelling in (source, f"{source}/", source / ".." / place, os.path.relpath(source, memory)):
        error_line(quantize(spelling, out, *more, cwd=memory), place)
        assert folder_bytes(source) == before


@pytest.mark.parametrize("place", PLACES)
def test_quantising_never_costs_a_source_that_such_a_folder_holds(memory, place):
    out = memory / "out"
    source = tiny_model(out / CONFIG / place / "below" / "model")
    mark(out / CONFIG / place)
    before = folder_bytes(source)
    for more in ([], ["--fresh"]):
        error_line(quantize(source, out, *more), place)
    assert folder_bytes(source) == before


@pytest.mark.parametrize("more", [[], ["--fresh"]])
@pytest.mark.parametrize("place", PLACES)
def test_quantising_leaves_folders_of_others_alone(memory, model, place, more):
    theirs = foreign(memory / "out" / CONFIG / place)
    error_line(quantize(model, memory / "out", *more), place, "thesis.txt")
    assert folder_bytes(theirs) == {"thesis.txt": b"precious"}


@pytest.mark.parametrize("more", [[], ["--fresh"]])
@pytest.mark.parametrize("place", PLACES)
def test_quantising_follows_no_link_to_a_folder_of_others(memory, model, place, more):
    theirs = foreign(memory / "theirs")
    mark(theirs)
    (memory / "out" / CONFIG).mkdir(parents=True)
    (memory / "out" / CONFIG / place).symlink_to(theirs)
    error_line(quantize(model, memory / "out", *more), place, "is a link")
    assert (theirs / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("place", ["packed", "model", "packed.partial", "model.partial"])
def test_merging_leaves_folders_of_others_alone(memory, model, place):
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, memory / "parts", "--shard", part))
    theirs = foreign(memory / "merged" / CONFIG / place)
    error_line(run("merge", memory / "parts", "--out", memory / "merged"), place)
    assert folder_bytes(theirs) == {"thesis.txt": b"precious"}


def test_verifying_writes_nothing_into_the_source(memory, model, packed):
    before = folder_bytes(model)
    error_line(run("verify", packed, "--source", model, env={"TMPDIR": model}), "lies in the source")
    assert folder_bytes(model) == before


def test_an_output_folder_in_the_source(memory, model):
    """Made and made again, but nothing in a source is replaced."""
    succeeded(quantize(model, model / "out"))
    before = folder_bytes(model)
    succeeded(quantize(model, model / "out"))
    error_line(quantize(model, model / "out", "--fresh"), "lies in the source")
    assert {name for name in before if name.startswith("out/")} <= set(folder_bytes(model))


# Damage


def flip(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


DAMAGES = {"flipped": flip, "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]), "empty": lambda path: path.write_bytes(b""),
           "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"), "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["packed/trits-00001-of-00001.safetensors", "packed/trits.safetensors.index.json", "packed/tritllm.json",
                                  "model/model.safetensors", "model/.tritllm"])
def test_a_damaged_result_is_never_called_complete(memory, model, name, damage):
    out = memory / "out"
    succeeded(quantize(model, out))
    shutil.copytree(out, memory / "reference")
    DAMAGES[damage](out / CONFIG / name)
    error_line(quantize(model, out), CONFIG)
    error_line(quantize(model, out, "--emit", name.split("/")[0]), CONFIG)
    if name.endswith(".safetensors"):
        succeeded(quantize(model, out, "--fresh"))
        same_results(out, memory / "reference")


def test_edited_side_files_of_a_result_are_said(memory, model):
    succeeded(quantize(model, memory / "out"))
    (memory / "out" / CONFIG / "model" / "chat_template.jinja").write_text("{{ mine }}")
    result = succeeded(run("quantize", "--model", model, "--out", memory / "out"))
    assert "model/chat_template.jinja was changed" in result.stderr


# Standard streams


@pytest.mark.parametrize("closed", [closed for count in (1, 2, 3) for closed in itertools.combinations(range(3), count)])
def test_closed_standard_streams_leave_results_as_they_are(memory, closed):
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "reference"))

    def close():
        for stream in closed:
            os.close(stream)

    command = [str(argument) for argument in (BINARY, "quantize", "--model", model, "--out", memory / "out", "--configs", CONFIG)]
    assert subprocess.run(command, env=clean_environment(), preexec_fn=close, check=False).returncode == 0
    same_results(memory / "out", memory / "reference")
    packed = memory / "out" / CONFIG / "packed"
    assert subprocess.run([str(BINARY), "dequantize", packed, memory / "decoded"], preexec_fn=close, check=False).returncode == 0
    assert folder_digest(memory / "decoded") == folder_digest(memory / "out" / CONFIG / "model")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["quantize", "--help"], ["verify", "PACKED"], ["verify", "PACKED", "--json"],
                                       ["inspect", "PACKED"], ["inspect", "PACKED", "--json"], ["dequantize", "PACKED", "OUT", "--json"],
                                       ["quantize", "--model", "MODEL", "--out", "OUT", "--dry-run"]])
def test_output_that_cannot_be_written_is_a_failure(memory, model, packed, arguments):
    places = {"PACKED": packed, "OUT": memory / "made", "MODEL": model}
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run([str(BINARY), *(str(places.get(argument, argument)) for argument in arguments)], stdout=full, stderr=subprocess.PIPE,
                                text=True, check=False, env=clean_environment())
    assert result.returncode == 1
    assert "standard output: cannot write: No space left on device" in result.stderr


# Locks, replacement, signals


def test_the_holder_of_a_lock_is_named(memory):
    random = np.random.default_rng(2)
    model = write_folder(memory / "model", {f"m{i}.weight": tensor(random, "BF16", 300, 1600) for i in range(8)})
    out = memory / "out"
    with subprocess.Popen([BINARY, *map(str, quantize_arguments(model, out, configs="optimal-d4"))], env=clean_environment()) as first:
        while not (out / "progress.json").exists() and first.poll() is None:
            time.sleep(0.005)
        error_line(quantize(model, out, "--embed-depth", "2", configs="optimal-d4"), out, f"process {first.pid} (tritllm), started 20")
        first.kill()


def test_replacement_without_exchange_killed_at_every_write_call(memory, shim):
    """Where two names cannot be exchanged, a kill may leave the former result aside; the next run ends what was begun."""
    model = small_model(memory / "model")
    former, reference = memory / "former", memory / "reference"
    succeeded(quantize(model, former, "--depth", "up_proj=1"))
    shutil.copytree(former, reference)
    no_exchange = {"FAULT_NO_FLAGS": str(errno.EINVAL)}
    arguments = lambda out: quantize_arguments(model, out, "--fresh", threads=1)
    calls = len(shim.calls(arguments(reference), memory / "log", **no_exchange))

    def strike(call):
        out = memory / f"out-{call}"
        shutil.copytree(former, out)
        shim.run(arguments(out), "kill", call, more=no_exchange)
        for again in (arguments(out), quantize_arguments(model, out)):
            copy = memory / f"copy-{call}"
            shutil.copytree(out, copy)
            result = run(*(copy if argument == out else argument for argument in again))
            assert result.returncode == 0 or "--fresh" in result.stderr
            assert not list((copy / CONFIG).glob("*.former"))
            if result.returncode == 0:
                same_results(copy, reference)
            shutil.rmtree(copy)
        shutil.rmtree(out)

    in_parallel(strike, range(calls // 2, calls + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_note_and_no_damage(memory, number):
    random = np.random.default_rng(2)
    model = write_folder(memory / "model", {f"m{i}.weight": tensor(random, "BF16", 300, 1600) for i in range(12)})
    out = memory / "out"
    with subprocess.Popen([BINARY, *map(str, quantize_arguments(model, out, configs="optimal-d4"))], env=clean_environment(), text=True,
                          stderr=subprocess.PIPE) as process:
        while not (out / "progress.json").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        assert "interrupted; the same command goes on from here" in process.communicate()[1]
        assert process.returncode == -number
    assert json.loads((out / "progress.json").read_text())["state"] == "interrupted"
    succeeded(quantize(model, out, configs="optimal-d4"))
    succeeded(quantize(model, memory / "reference", configs="optimal-d4"))
    same_results(out, memory / "reference", "optimal-d4")
