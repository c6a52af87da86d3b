"""A disk that fails ends in one line that names a path, leaves former results as they were and nothing half-made under a final name;
when the disk works again, the same command makes the usual bytes."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cli_support import (BINARY, CONFIG, error_line, folder_digest, in_parallel, quantize, quantize_arguments, result_folders, run, same_results,
                         small_model, succeeded, tensor, write_folder)

NOBODY = 65534


def contents_of(out):
    return {path.name: folder_digest(path) for path in result_folders(out)}


def refused_or_same(result, out):
    """The run either overcame the fault, or says in one line where it happened."""
    if result.returncode == 0:
        assert result.stderr == ""
        return
    line = error_line(result)
    assert str(out) in line, line


# One call fails; where the disk is full, all later ones fail as well.
FAULTS = [(errno.EIO, False), (errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EINTR, False), (errno.EROFS, True), (errno.EDQUOT, True)]


@pytest.mark.parametrize("number, lasting", FAULTS, ids=lambda value: errno.errorcode.get(value, "lasting" if value else "once"))
def test_every_write_call_fails(memory, shim, number, lasting):
    model = small_model(memory / "model")
    arguments = lambda out: quantize_arguments(model, out, threads=1)
    reference = memory / "reference"
    names = shim.calls(arguments(reference), memory / "log")
    whole = contents_of(reference)
    assert len(names) > 40

    def strike(call):
        out = memory / f"out-{call}"
        result = shim.run(arguments(out), number, call, last=10**9 if lasting else None)
        if number in (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            assert result.returncode == 1, (call, names[call - 1])
        if names[call - 1] in ("pwrite", "ftruncate") and number == errno.EINTR:
            assert result.returncode == 0, (call, names[call - 1])
        refused_or_same(result, out)
        for name, digest in contents_of(out).items():
            assert digest == whole[name], (call, names[call - 1], name)
        succeeded(run(*arguments(out)))
        same_results(out, reference)
        shutil.rmtree(out)

    in_parallel(strike, range(1, len(names) + 1))


def test_every_write_is_short(memory, shim):
    model = small_model(memory / "model")
    arguments = lambda out: quantize_arguments(model, out, threads=1)
    succeeded(run(*arguments(memory / "reference")))
    succeeded(shim.run(arguments(memory / "out"), "short", 1, last=10**9))
    same_results(memory / "out", memory / "reference")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_former_results_survive_a_failed_replacement(memory, shim, number):
    model = small_model(memory / "model")
    former, reference = memory / "former", memory / "reference"
    succeeded(quantize(model, former, "--depth", "up_proj=1"))
    arguments = lambda out: quantize_arguments(model, out, "--fresh", threads=1)
    shutil.copytree(former, reference)
    names = shim.calls(arguments(reference), memory / "log")
    old, new = contents_of(former), contents_of(reference)

    def strike(call):
        out = memory / f"out-{call}"
        shutil.copytree(former, out)
        error_line(shim.run(arguments(out), number, call))
        for name in ("packed", "model"):
            assert contents_of(out)[name] in (old[name], new[name]), (call, names[call - 1], name)
        succeeded(run(*arguments(out)))
        same_results(out, reference)
        shutil.rmtree(out)

    in_parallel(strike, range(1, len(names) + 1))


@pytest.mark.parametrize("command", ["merge", "dequantize"])
def test_every_write_call_of_other_commands_fails(memory, shim, command):
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "made"))
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, memory / "parts", "--shard", part))
    arguments = {"merge": lambda out: ["merge", memory / "parts", "--out", out, "--threads", 1],
                 "dequantize": lambda out: ["dequantize", memory / "made" / CONFIG / "packed", out / "model", "--threads", 1, "--quiet"]}[command]
    names = shim.calls(arguments(memory / "reference"), memory / "log")
    whole = folder_digest(memory / "made" / CONFIG / "model")

    def strike(call):
        out = memory / f"out-{call}"
        result = shim.run(arguments(out), errno.EIO, call)
        error_line(result, out)
        plain = out / "model" if command == "dequantize" else out / CONFIG / "model"
        if plain.exists():
            assert folder_digest(plain) == whole, (call, names[call - 1])
        else:
            succeeded(run(*arguments(out)))
        assert folder_digest(plain) == whole
        shutil.rmtree(out)

    in_parallel(strike, range(1, len(names) + 1))


# What each command reads: the folder whose reads fail, and the command.
READERS = {
    "quantize": ("model", lambda place, out: quantize_arguments(place / "model", out, threads=1)),
    "pack": ("ternary", lambda place, out: ["pack", "--model", place / "ternary", "--out", out, "--quiet", "--threads", 1]),
    "dequantize": ("made", lambda place, out: ["dequantize", place / "made" / CONFIG / "packed", out / "model", "--quiet", "--threads", 1]),
    "merge": ("parts", lambda place, out: ["merge", place / "parts", "--out", out, "--threads", 1]),
    "verify": ("made", lambda place, out: ["verify", place / "made" / CONFIG / "packed", "--quiet", "--threads", 1]),
    "verify_source": ("model", lambda place, out: ["verify", place / "made" / CONFIG / "packed", "--source", place / "model", "--quiet", "--threads", 1]),
    "resumed": ("made", lambda place, out: quantize_arguments(place / "model", place / "made", threads=1)),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_read_call_fails(memory, shim, reader):
    """No failure to read is taken for "there is nothing"."""
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "made"))
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, memory / "parts", "--shard", part))
    write_folder(memory / "ternary", {"model.layers.0.mlp.up_proj.weight": ("F16", [4, 16], np.tile(np.float16([0.5, 0, -0.5, 0]), 16).tobytes())})
    folder, arguments = READERS[reader]
    before = folder_digest(memory / folder)
    more = {"FAULT_READS": str(memory / folder)}
    names = shim.calls(arguments(memory, memory / "counted"), memory / "log", **more)
    assert len(names) > 20 and {"open", "mmap", "stat"} <= set(names)

    def strike(call):
        out = memory / f"out-{call}"
        result = shim.run(arguments(memory, out), errno.EIO, call, more=more)
        assert result.returncode == 1, (call, names[call - 1], result)
        assert str(memory / folder) in error_line(result), (call, names[call - 1])
        assert result_folders(out) == []

    in_parallel(strike, range(1, len(names) + 1))
    changed = {name for name, digest in folder_digest(memory / folder).items() if before.get(name) != digest}
    assert changed <= {"progress.json"}


def events_of(shim, arguments, trace):
    succeeded(run(*arguments, env=shim._environment(FAULT_TRACE=trace)))
    return [line.split("\t") for line in trace.read_text().splitlines()]


@pytest.mark.parametrize("command", ["quantize", "pack", "merge", "dequantize"])
def test_what_has_its_name_is_on_the_disk(memory, shim, command):
    """Each file is synced after its last write and before the folder gets its name; then the folder above it is synced, and for every
    folder that was made, the one above that."""
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "made"))
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, memory / "parts", "--shard", part))
    write_folder(memory / "ternary", {"model.layers.0.mlp.up_proj.weight": ("F16", [4, 16], np.tile(np.float16([0.5, 0, -0.5, 0]), 16).tobytes())})
    out = memory / "above" / "out"
    arguments = {"quantize": quantize_arguments(model, out), "pack": ["pack", "--model", memory / "ternary", "--out", out, "--quiet"],
                 "merge": ["merge", memory / "parts", "--out", out], "dequantize": ["dequantize", memory / "made" / CONFIG / "packed", out / "model", "--quiet"]}[command]
    events = events_of(shim, arguments, memory / "trace")
    synced = lambda path, first: any(name == "fsync" and place == str(path) for name, place, _ in events[first:])
    published = [(at, source, target) for at, (name, source, target) in enumerate(events) if name == "rename" and Path(target).is_dir()]
    assert len(published) == {"quantize": 2, "pack": 1, "merge": 2, "dequantize": 1}[command]
    for at, source, target in published:
        files = [path for path in Path(target).rglob("*") if path.is_file()]
        assert len(files) > 3
        for file in files:
            inside = str(Path(source) / file.relative_to(target))
            writes = [i for i, (name, place, _) in enumerate(events[:at]) if name in ("write", "pwrite") and place == inside]
            # Written under another name, synced, and then renamed; or written and synced in place.
            renames = [i for i, (name, _, place) in enumerate(events[:at]) if name == "rename" and place == inside]
            last_name = inside if writes else events[renames[-1]][1]
            writes = writes or [i for i, (name, place, _) in enumerate(events[:at]) if name in ("write", "pwrite") and place == last_name]
            syncs = [i for i, (name, place, _) in enumerate(events[:at]) if name == "fsync" and place == last_name]
            assert writes and syncs and syncs[-1] > writes[-1], file
            assert not renames or syncs[-1] < renames[-1], file
        assert any(name == "fsync" and place == source for name, place, _ in events[:at]), "the names in the folder"
        assert synced(Path(target).parent, at), "the name of the folder"
    for at, (name, path, _) in enumerate(events):
        if name == "mkdir" and Path(path).is_dir():
            assert synced(Path(path).parent, at), path


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS], ids=errno.errorcode.get)
def test_file_systems_that_cannot_exchange_folders(memory, shim, number):
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "reference"))
    succeeded(quantize(model, memory / "former", "--depth", "up_proj=1"))
    arguments = lambda out: quantize_arguments(model, out, "--fresh", threads=1)
    shutil.copytree(memory / "former", memory / "counted")
    names = shim.calls(arguments(memory / "counted"), memory / "log")
    exchanges = [call for call, name in enumerate(names, 1) if name == "renameat2"]
    assert len(exchanges) == 2
    for call in exchanges:
        out = memory / f"out-{call}"
        shutil.copytree(memory / "former", out)
        succeeded(shim.run(arguments(out), number, call))
        same_results(out, memory / "reference")


def test_file_size_limit(memory):
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "reference"))
    for limit in (0, 1, 100, 600, 1000, 2000):
        out = memory / f"out-{limit}"
        result = quantize(model, out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        error_line(result, "File too large", out)
        assert result_folders(out) == []
        succeeded(quantize(model, out))
        same_results(out, memory / "reference")


def become_nobody():
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def test_output_folder_that_may_not_be_written(memory):
    if os.getuid() == 0:
        probe = subprocess.run([BINARY, "--version"], preexec_fn=become_nobody, capture_output=True, check=False) if os.access(BINARY, os.X_OK) else None
        if probe is None or probe.returncode != 0:
            pytest.skip("an ordinary user may not run the program from here, and root may write everywhere")
    model = small_model(memory / "model")
    out = memory / "out"
    out.mkdir(mode=0o555)
    result = quantize(model, out, preexec_fn=become_nobody if os.getuid() == 0 else None)
    error_line(result, out, "Permission denied")
    assert list(out.iterdir()) == []
    result = quantize(model, out / "below", preexec_fn=become_nobody if os.getuid() == 0 else None)
    error_line(result, out / "below", "Permission denied")


@pytest.mark.parametrize("where", ["/proc/nowhere", "/dev/null", "/dev/null/below"])
def test_output_folder_that_cannot_be(memory, where):
    error_line(quantize(small_model(memory / "model"), where), where)


def test_disk_too_small(memory):
    """The preflight says so before anything is written; and a disk that fills up on the way is an error like any other."""
    model = write_folder(memory / "model", {"a.weight": tensor(np.random.default_rng(1), "F16", 100, 801)})
    disk = memory / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no permission to mount a small file system")
    try:
        error_line(quantize(model, disk / "out"), "are needed", "are free")
        assert sorted(path.name for path in (disk / "out").iterdir()) == [".lock", "progress.json"]
        assert json.loads((disk / "out/progress.json").read_text())["state"] == "failed"
        subprocess.run(["mount", "-o", "remount,size=192k", disk], check=True)
        line = error_line(quantize(model, disk / "out"), disk)
        assert re.search("No space left|are needed", line)
        assert result_folders(disk / "out") == []
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        succeeded(quantize(model, memory / "reference"))
        succeeded(quantize(model, disk / "out"))
        same_results(disk / "out", memory / "reference")
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_closed_standard_output_is_an_error_but_costs_no_result(memory):
    model = small_model(memory / "model")
    with open("/dev/full", "w") as full:
        result = subprocess.run([BINARY, *map(str, quantize_arguments(model, memory / "out", "--json"))], stdout=full, stderr=subprocess.PIPE, text=True,
                                check=False)
    assert result.returncode == 1 and "standard output" in result.stderr
    succeeded(run("verify", "--quiet", memory / "out" / CONFIG / "packed"))
