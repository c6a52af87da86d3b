"""A run that is killed at any moment loses nothing: the same command again makes the bytes that an undisturbed run makes, and what
stands under a result's name is always whole. TRITLLM_KILLS sets the number of random kills (default 20)."""

import os
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from cli_support import (BINARY, CONFIG, clean_environment, folder_digest, in_parallel, quantize, quantize_arguments, report, result_folders, run,
                         same_results, small_model, succeeded, tensor, tiny_model, write_folder)

KILLS = int(os.environ.get("TRITLLM_KILLS", "20"))
WRITES = ("write", "pwrite")


def killed(result):
    assert result.returncode == -signal.SIGKILL, (result.returncode, result.stderr)


def contents_of(out):
    return {path.name: folder_digest(path) for path in result_folders(out)}


def check_whole(out, *allowed):
    """Every folder under a final name equals the one of an undisturbed run."""
    for name, digest in contents_of(out).items():
        assert any(digest == contents.get(name) for contents in allowed), name


def every_kill(shim, arguments, log):
    """(action, call) for a kill before each write-path call, and one half way through each write."""
    names = shim.calls(arguments, log)
    kills = [("kill", call) for call in range(1, len(names) + 1)]
    return kills + [("torn", call) for call, name in enumerate(names, 1) if name in WRITES]


def test_killed_at_every_write_call(memory, shim):
    model = small_model(memory / "model")
    arguments = lambda out: quantize_arguments(model, out, threads=1)
    reference = memory / "reference"
    kills = every_kill(shim, arguments(reference), memory / "log")
    assert len(kills) > 60
    whole = contents_of(reference)
    assert {"packed", "model"} <= whole.keys()

    def strike(kill):
        action, call = kill
        out = memory / f"out-{action}-{call}"
        killed(shim.run(arguments(out), action, call))
        check_whole(out, whole)
        if (out / CONFIG / "packed").exists():
            succeeded(run("verify", "--quiet", out / CONFIG / "packed"))
        succeeded(run(*arguments(out)))
        same_results(out, reference)
        shutil.rmtree(out)

    in_parallel(strike, kills)


def test_fresh_run_over_a_result_killed_at_every_write_call(memory, shim):
    """The former result was made with another rule, so that a mixture of both would be seen."""
    model = small_model(memory / "model")
    former, reference = memory / "former", memory / "reference"
    succeeded(quantize(model, former, "--depth", "up_proj=1"))
    arguments = lambda out: quantize_arguments(model, out, "--fresh", threads=1)
    shutil.copytree(former, reference)
    kills = every_kill(shim, arguments(reference), memory / "log")
    old, new = contents_of(former), contents_of(reference)
    assert old["packed"] != new["packed"] and old["model"] != new["model"]

    def strike(kill):
        action, call = kill
        out = memory / f"out-{action}-{call}"
        shutil.copytree(former, out)
        killed(shim.run(arguments(out), action, call))
        check_whole(out, old, new)
        assert contents_of(out).keys() == old.keys(), "a result has lost its name"
        # Without --fresh the work is continued, or refused; in no case are the two runs' results mixed.
        kept = memory / f"kept-{action}-{call}"
        shutil.copytree(out, kept)
        result = quantize(model, kept)
        if result.returncode == 0:
            same_results(kept, reference)
        else:
            assert "--fresh" in result.stderr
        succeeded(run(*arguments(out)))
        same_results(out, reference)
        shutil.rmtree(out)
        shutil.rmtree(kept)

    in_parallel(strike, kills)


@pytest.mark.parametrize("emit", ["model", "packed"])
def test_fresh_run_of_one_folder_killed_then_the_former_command_again(memory, shim, emit):
    """Neither command may take the other's folder for its own, wherever the first was killed."""
    model = small_model(memory / "model")
    former, reference = memory / "former", memory / "reference"
    succeeded(quantize(model, former, "--emit", emit, "--depth", "up_proj=1"))
    arguments = lambda out: quantize_arguments(model, out, "--fresh", "--emit", emit, threads=1)
    shutil.copytree(former, reference)
    kills = every_kill(shim, arguments(reference), memory / "log")
    old, new = contents_of(former), contents_of(reference)

    def strike(kill):
        action, call = kill
        for more, expected in (("--depth", "up_proj=1"), old), ((), new):
            out = memory / f"out-{action}-{call}-{len(more)}"
            shutil.copytree(former, out)
            killed(shim.run(arguments(out), action, call))
            if quantize(model, out, "--emit", emit, *more).returncode == 0:
                assert contents_of(out) == expected
            shutil.rmtree(out)

    in_parallel(strike, kills)


def test_leftovers_of_another_run_do_not_get_into_the_result(memory, shim):
    """A --fresh run killed right after it removed the journal leaves folders that belong to nobody."""
    model, other = small_model(memory / "model"), small_model(memory / "other", seed=2)
    (other / "extra_special.txt").write_text("of the other model")
    reference = memory / "reference"
    succeeded(quantize(model, reference))
    calls = len(shim.calls(quantize_arguments(other, memory / "dry", threads=1), memory / "log"))

    def strike(call):
        out = memory / f"out-{call}"
        killed(shim.run(quantize_arguments(other, out, threads=1), "kill", call))
        journal = out / CONFIG / "journal.jsonl"
        if journal.exists():
            journal.unlink()
        if not result_folders(out):
            succeeded(quantize(model, out))
            same_results(out, reference)
        shutil.rmtree(out)

    in_parallel(strike, range(1, calls + 1))


def test_one_part_and_the_merge_killed_at_every_write_call(memory, shim):
    model = small_model(memory / "model")
    reference, parts = memory / "reference", memory / "parts"
    succeeded(quantize(model, reference))
    part = lambda out: quantize_arguments(model, out, "--shard", "1/2", threads=1)
    part_kills = every_kill(shim, part(parts), memory / "log")
    succeeded(quantize(model, parts, "--shard", "2/2"))
    first_part = folder_digest(parts / CONFIG / "part-1-of-2")
    merge = lambda out: ["merge", parts, "--out", out, "--threads", 1]
    merge_kills = every_kill(shim, merge(memory / "merged"), memory / "log")
    same_results(memory / "merged", reference)
    whole = contents_of(reference)

    def strike_part(kill):
        action, call = kill
        out = memory / f"part-{action}-{call}"
        killed(shim.run(part(out), action, call))
        succeeded(run(*part(out)))
        assert folder_digest(out / CONFIG / "part-1-of-2") == first_part
        shutil.rmtree(out)

    def strike_merge(kill):
        action, call = kill
        out = memory / f"merge-{action}-{call}"
        killed(shim.run(merge(out), action, call))
        check_whole(out, whole)
        succeeded(run(*merge(out)))
        same_results(out, reference)
        shutil.rmtree(out)

    in_parallel(strike_part, part_kills)
    in_parallel(strike_merge, merge_kills)


def test_killed_while_decoding_at_every_write_call(memory, shim):
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "out"))
    packed, plain = memory / "out" / CONFIG / "packed", folder_digest(memory / "out" / CONFIG / "model")
    arguments = lambda out: ["dequantize", packed, out, "--threads", 1, "--quiet"]

    def strike(kill):
        action, call = kill
        out = memory / f"decoded-{action}-{call}"
        killed(shim.run(arguments(out), action, call))
        if not out.exists():
            succeeded(run(*arguments(out)))
        assert folder_digest(out) == plain
        shutil.rmtree(out)

    in_parallel(strike, every_kill(shim, arguments(memory / "decoded"), memory / "log"))
    assert folder_digest(memory / "decoded") == plain


def test_killed_at_random_moments(memory):
    """Runs of several configurations at once, killed again and again until one comes through."""
    random_source = random.Random(7)
    weights = np.random.default_rng(5)
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": tensor(weights, "BF16", 200 + i, 801) for i in range(6)}
    model = write_folder(memory / "model", tensors | {"model.norm.weight": tensor(weights, "F32", 801)})
    configs = "optimal-d1,uniform-d3,optimal-d4"
    reference = memory / "reference"
    begin = time.monotonic()
    succeeded(quantize(model, reference, configs=configs))
    seconds = time.monotonic() - begin
    out, kills, finished = memory / "out", 0, 0
    while kills < KILLS or finished == 0:
        process = subprocess.Popen([BINARY, *map(str, quantize_arguments(model, out, configs=configs))], env=clean_environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=random_source.uniform(0, seconds) if kills < KILLS else 120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        for folder in result_folders(out):
            assert folder_digest(folder) == folder_digest(reference / folder.relative_to(out)), folder
        if process.returncode == 0:
            for config in configs.split(","):
                same_results(out, reference, config)
            shutil.rmtree(out)
            finished += 1
        else:
            assert process.returncode == -signal.SIGKILL, process.stderr.read()
        process.stderr.close()


def test_continuing_does_only_what_is_missing(memory, shim):
    """Cut off before its last journal entry, a run quantises one tensor when it goes on."""
    model = tiny_model(memory / "model")
    arguments = quantize_arguments(model, memory / "out", threads=1)
    calls = shim.calls(quantize_arguments(model, memory / "reference", threads=1), memory / "log")
    killed(shim.run(arguments, "kill", max(i for i, name in enumerate(calls, 1) if name == "ftruncate")))
    journal = memory / "out" / CONFIG / "journal.jsonl"
    before = len(journal.read_text().splitlines()) if journal.exists() else 0
    result = succeeded(run(*arguments, "--json"))
    assert before > 3
    assert f'"was_complete": false' in result.stdout
    same_results(memory / "out", memory / "reference")
    assert report(memory / "out") == report(memory / "reference")
