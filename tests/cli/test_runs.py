"""Runs that meet others: the same folder twice, other options, another source, parts and their merge; and what no option may change:
the bytes."""

import fcntl
import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from cli_support import (BINARY, CONFIG, clean_environment, error_line, folder_bytes, folder_digest, mark, quantize, quantize_arguments, raw, report,
                         result_folders, run, same_results, small_model, succeeded, tensor, tiny_config, tiny_model, tiny_tensors, write_folder)

MATRIX = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def model(memory):
    return tiny_model(memory / "model")


# Usage


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["quantize"], ["quantize", "--model", "x"], ["quantize", "--nonsense"],
])
def test_usage(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


@pytest.mark.parametrize("arguments, word", [
    (["--configs", "optimal-d5"], "optimal-d5"), (["--configs", "best"], "best"), (["--configs", ""], ""),
    (["--emit", "everything"], "everything"), (["--emit", ""], ""),
    (["--depth", "("], "("), (["--depth", "(=2"], "("), (["--depth", "x=5"], "x=5"), (["--depth", "x=0"], "x=0"), (["--depth", "=2"], "=2"),
    (["--depth", "no_such_matrix=2"], "no_such_matrix"), (["--depth", "norm=2"], "norm"), (["--depth", "(a+)+$=2"], "--depth"),
    (["--embed-depth", "5"], "5"), (["--head-depth", "-1"], "-1"),
    (["--shard", "0/2"], "0/2"), (["--shard", "3/2"], "3/2"), (["--shard", "1"], "1"), (["--shard", "1/2x"], "1/2x"), (["--shard", "-1/2"], "-1/2"),
    (["--shard", "1/99999999999999999999"], "--shard"),
    (["--max-memory", "1M"], "at least"), (["--max-memory", "0"], "at least"), (["--max-memory", "-1"], "-1"), (["--max-memory", "nan"], "nan"),
    (["--max-memory", "1e15T"], "1e15T"), (["--max-memory", "5KM"], "5KM"), (["--max-memory", "G"], "G"), (["--max-memory", "inf"], "inf"),
    (["--threads", "-1"], "-1"), (["--threads", "5000"], "5000"), (["--threads", "many"], "many"),
])
def test_bad_options(memory, model, arguments, word):
    command = ["quantize", "--model", model, "--out", memory / "out", "--quiet"]
    error_line(run(*command, *arguments), word, code=2)
    assert not (memory / "out").exists()


def test_an_instruction_set_that_does_not_exist(memory, model):
    error_line(quantize(model, memory / "out", env={"TRITLLM_ISA": "sse9"}), "sse9", code=2)
    assert not (memory / "out").exists()


def test_a_tied_heads_depth_is_its_embeddings(memory):
    model = tiny_model(memory / "model", tied=True)
    error_line(quantize(model, memory / "out", "--head-depth", "2"), "--head-depth", "--embed-depth", code=2)


# Output and input


@pytest.mark.parametrize("place", ["same", "link", "packed", "model", "config", "unfinished"])
def test_output_never_equals_input(memory, place):
    out = memory / "out"
    folder = {"same": out, "link": memory / "elsewhere", "packed": out / CONFIG / "packed", "model": out / CONFIG / "model", "config": out / CONFIG,
              "unfinished": out / CONFIG / "model.partial"}[place]
    model = tiny_model(folder)
    if place == "link":
        out.mkdir()
        (out / CONFIG).symlink_to(folder)
    before = folder_bytes(folder)
    for more in ([], ["--fresh"]):
        error_line(quantize(model, out, *more))
        assert folder_bytes(folder) == before


def test_decoding_never_overwrites(memory, model):
    succeeded(quantize(model, memory / "out"))
    packed = memory / "out" / CONFIG / "packed"
    before = folder_bytes(packed)
    for target in (packed, model, str(model) + "/", memory / "out" / CONFIG / "model"):
        error_line(run("dequantize", packed, target), "exists already")
    assert folder_bytes(packed) == before


@pytest.mark.parametrize("name", ["packed", "model"])
@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_a_file_under_a_results_name_is_not_replaced(memory, model, name, more):
    (memory / "out" / CONFIG).mkdir(parents=True)
    (memory / "out" / CONFIG / name).write_text("precious")
    error_line(quantize(model, memory / "out", *more), name)
    assert (memory / "out" / CONFIG / name).read_text() == "precious"


@pytest.mark.parametrize("name", ["packed", "model"])
def test_a_folder_that_is_no_result_is_not_replaced(memory, model, name):
    (memory / "out" / CONFIG / name).mkdir(parents=True)
    (memory / "out" / CONFIG / name / "thesis.txt").write_text("precious")
    error_line(quantize(model, memory / "out"), name)
    assert (memory / "out" / CONFIG / name / "thesis.txt").read_text() == "precious"


def test_paths_that_are_no_utf8(memory):
    folder = os.fsencode(memory) + b"/caf\xe9"
    model = tiny_model(os.fsdecode(folder))
    (model / "README.md").unlink()
    succeeded(quantize(model, memory / "out", "--json"))
    succeeded(run("verify", memory / "out" / CONFIG / "packed"))
    succeeded(run("quantize", "--model", model, "--out", memory / "out2", "--dry-run", "--json"))
    target = os.fsdecode(os.fsencode(memory) + b"/d\xe9coded")
    json.loads(succeeded(run("dequantize", memory / "out" / CONFIG / "packed", target, "--json")).stdout)


# Two runs, other options, another source


def test_two_runs_at_once(memory, model):
    out = memory / "out"
    out.mkdir()
    with open(out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error_line(quantize(model, out), out, "another run")
        error_line(quantize(model, out, "--shard", "1/2"), out, "another run")
        assert sorted(path.name for path in out.iterdir()) == [".lock"]
        fcntl.flock(lock, fcntl.LOCK_SH)
        error_line(quantize(model, out), out, "another run")
        succeeded(quantize(model, out, "--shard", "1/2"))
        error_line(run("merge", out), out, "another run")
    succeeded(quantize(model, out))


def test_two_decodings_at_once(memory, model):
    succeeded(quantize(model, memory / "out"))
    unfinished = memory / "decoded.partial"
    unfinished.mkdir()
    mark(unfinished)
    (unfinished / "theirs").write_text("being written")
    arguments = ["dequantize", memory / "out" / CONFIG / "packed", memory / "decoded"]
    folder = os.open(unfinished, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    error_line(run(*arguments), "decoded", "another run", f"process {os.getpid()} (", "started 20")
    assert (unfinished / "theirs").read_text() == "being written"
    os.close(folder)
    succeeded(run(*arguments))
    assert folder_digest(memory / "decoded") == folder_digest(memory / "out" / CONFIG / "model")


def test_the_same_command_again_changes_nothing(memory, model):
    succeeded(quantize(model, memory / "out"))
    before = {path: path.stat().st_mtime_ns for path in (memory / "out" / CONFIG).rglob("*")}
    result = succeeded(quantize(model, memory / "out", "--json"))
    assert json.loads(result.stdout)[0]["was_complete"] is True
    assert {path: path.stat().st_mtime_ns for path in (memory / "out" / CONFIG).rglob("*")} == before
    succeeded(quantize(f"{model}/", memory / "out", threads=1))


@pytest.mark.parametrize("options", [["--depth", "q_proj=3"], ["--embed-depth", "2"], ["--head-depth", "2"], ["--depth", "q_proj=keep"]])
def test_a_finished_result_is_not_mixed_with_other_options(memory, model, options):
    succeeded(quantize(model, memory / "out"))
    before = folder_digest(memory / "out" / CONFIG)
    error_line(quantize(model, memory / "out", *options), "packed", "--fresh")
    error_line(quantize(model, memory / "out", "--emit", "model", *options), CONFIG, "--fresh")
    assert folder_digest(memory / "out" / CONFIG) == before
    succeeded(quantize(model, memory / "out", "--fresh", *options))
    succeeded(quantize(model, memory / "other", *options))
    same_results(memory / "out", memory / "other")


def interrupted(shim, model, out):
    """A run that stopped after most of its tensors."""
    arguments = quantize_arguments(model, out, threads=1)
    calls = len(shim.calls(quantize_arguments(model, str(out) + "-whole", threads=1), str(out) + "-log"))
    assert shim.run(arguments, "kill", calls // 2).returncode < 0
    assert (out / CONFIG / "journal.jsonl").stat().st_size > 500


def changed_weight(model):
    tensors = tiny_tensors()
    values = np.frombuffer(tensors[MATRIX][2], np.float32).copy()
    values[0] += 0.01
    tensors[MATRIX] = (*tensors[MATRIX][:2], values.tobytes())
    write_folder(model, tensors)


SOURCE_CHANGES = {
    "weight": changed_weight,
    "shape": lambda model: write_folder(model, tiny_tensors() | {MATRIX: tensor(np.random.default_rng(1), "F32", 10, 80)}),
    "type": lambda model: write_folder(model, tiny_tensors() | {MATRIX: tensor(np.random.default_rng(1), "BF16", 9, 80)}),
    "new tensor": lambda model: write_folder(model, tiny_tensors() | {"new.weight": tensor(np.random.default_rng(1), "F32", 1, 8)}),
    "config": lambda model: write_folder(model, tiny_tensors(), tiny_config(hidden_size=18)),
    "tokenizer": lambda model: (model / "tokenizer.json").write_text("{}"),
    "licence": lambda model: (model / "README.md").write_text("---\nlicense: mit\n---\n"),
}


@pytest.mark.parametrize("change", SOURCE_CHANGES)
def test_a_changed_source_is_never_mixed_in(memory, shim, model, change):
    finished, unfinished = memory / "finished", memory / "unfinished"
    succeeded(quantize(model, finished))
    interrupted(shim, model, unfinished)
    before = folder_digest(finished / CONFIG)
    SOURCE_CHANGES[change](model)
    for emit in ("packed", "model", "packed,model"):
        error_line(quantize(model, finished, "--emit", emit), "--fresh")
        error_line(quantize(model, unfinished, "--emit", emit), "--fresh")
    assert folder_digest(finished / CONFIG) == before and result_folders(unfinished) == []
    succeeded(quantize(model, memory / "reference"))
    for out in (finished, unfinished):
        succeeded(quantize(model, out, "--fresh"))
        same_results(out, memory / "reference")


def test_an_unfinished_run_is_not_continued_with_other_options(memory, shim, model):
    interrupted(shim, model, memory / "out")
    error_line(quantize(model, memory / "out", "--depth", "q_proj=3"), "--fresh")
    assert result_folders(memory / "out") == []
    succeeded(quantize(model, memory / "out"))
    same_results(memory / "out", memory / "out-whole")


def test_damage_to_an_unfinished_folder_is_repaired(memory, shim, model):
    """Lost pages after a power cut look like this: the journal speaks of bytes that are not there."""
    interrupted(shim, model, memory / "out")
    for file in (memory / "out" / CONFIG).glob("*.partial/*.safetensors"):
        contents = bytearray(file.read_bytes())
        contents[len(contents) // 3:len(contents) // 2] = bytes(len(contents) // 2 - len(contents) // 3)
        contents[:8] = b"\xff" * 8
        file.write_bytes(contents)
    succeeded(quantize(model, memory / "out"))
    same_results(memory / "out", memory / "out-whole")


@pytest.mark.parametrize("first, second", [("packed", "model"), ("model", "packed"), ("packed", "packed,model"), ("model", "packed,model")])
def test_folders_asked_for_one_after_the_other(memory, model, first, second):
    succeeded(quantize(model, memory / "reference"))
    succeeded(quantize(model, memory / "out", "--emit", first))
    succeeded(quantize(model, memory / "out", "--emit", second))
    for name in ("packed", "model"):
        assert folder_digest(memory / "out" / CONFIG / name) == folder_digest(memory / "reference" / CONFIG / name)


# Parts


def make_parts(model, out, count, *more):
    for index in range(1, count + 1):
        succeeded(quantize(model, out, "--shard", f"{index}/{count}", *more))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_merged_parts_equal_one_run(memory, model, count):
    make_parts(model, memory / "parts", count)
    succeeded(run("merge", memory / "parts"))
    succeeded(quantize(model, memory / "reference"))
    same_results(memory / "parts", memory / "reference")
    succeeded(run("verify", memory / "parts" / CONFIG / "packed", "--source", model))


def test_merged_parts_of_several_configurations_options_and_folders(memory):
    model = tiny_model(memory / "model", tied=True, shards=3)
    configs, options = "optimal-d1,uniform-d4", ["--depth", "layers.0=3", "--depth", "k_proj=keep", "--embed-depth", "2"]
    for index in (1, 2):
        succeeded(quantize(model, memory / f"part{index}", "--shard", f"{index}/2", *options, configs=configs))
    succeeded(run("merge", memory / "part2", memory / "part1", "--out", memory / "merged"))
    succeeded(quantize(model, memory / "reference", *options, configs=configs))
    for config in configs.split(","):
        same_results(memory / "merged", memory / "reference", config)


def test_parts_that_do_not_belong_together(memory, model):
    parts = memory / "parts"
    make_parts(model, parts, 3)
    part = parts / CONFIG / "part-2-of-3"

    def refused(*words, folders=(parts,)):
        error_line(run("merge", *folders, "--out", memory / "merged"), *words)
        assert result_folders(memory / "merged") == []

    shutil.move(part, memory / "aside")
    refused("part 2 of 3 is missing")
    shutil.copytree(parts / CONFIG / "part-1-of-3", part)
    refused("stands in two folders")
    shutil.rmtree(part)
    make_parts(tiny_model(memory / "other", seed=9), memory / "foreign", 3, "--depth", "q_proj=3")
    shutil.copytree(memory / "foreign" / CONFIG / "part-2-of-3", part)
    refused("different runs")
    shutil.rmtree(part)
    make_parts(model, memory / "two", 2)
    shutil.copytree(memory / "two" / CONFIG / "part-2-of-2", part)
    refused("different runs")
    shutil.rmtree(part)
    shutil.move(memory / "aside", part)
    refused("stands in two folders", folders=(parts, parts))
    refused("no finished part", folders=(memory / "foreign" / CONFIG,))
    refused("nowhere", folders=(memory / "nowhere",))
    for file in ("trits-00001-of-00001.safetensors", "tritllm.json", "trits.safetensors.index.json", "tokenizer.json"):
        contents = (part / file).read_bytes()
        (part / file).write_bytes(contents[:-3] + b"x" + contents[-2:])
        refused(file)
        (part / file).write_bytes(contents)
    error_line(run("dequantize", part, memory / "decoded"), "part of the model")
    (part / "intruder.json").write_text("{}")
    succeeded(run("merge", parts, "--out", memory / "merged"))
    succeeded(quantize(model, memory / "reference"))
    same_results(memory / "merged", memory / "reference")


def test_merging_over_another_result_is_refused(memory, model):
    make_parts(model, memory / "parts", 2)
    for more in (["--depth", "q_proj=3"], ["--emit", "model"]):
        out = memory / f"out{len(more[1])}"
        succeeded(quantize(model, out, *more))
        before = folder_digest(out / CONFIG)
        error_line(run("merge", memory / "parts", "--out", out), "exists already")
        assert folder_digest(out / CONFIG) == before


# What may not change the bytes


def instruction_sets():
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
    return ["scalar"] + ["avx2"] * ("avx2" in flags) + ["avx512"] * ("avx512bw" in flags)


def test_threads_instruction_sets_and_memory_do_not_matter(memory):
    random = np.random.default_rng(11)
    model = write_folder(memory / "model", tiny_tensors() | {"big.weight": tensor(random, "BF16", 301, 1713)})
    configs = "uniform-d1,optimal-d2,optimal-d3,uniform-d4"
    runs = [(threads, isa, []) for threads in (1, 2, 3, 8) for isa in instruction_sets()] + [(8, None, ["--max-memory", "100M"])]
    for number, (threads, isa, more) in enumerate(runs):
        succeeded(quantize(model, memory / f"out{number}", *more, configs=configs, threads=threads, env={"TRITLLM_ISA": isa} if isa else {}))
        for config in configs.split(","):
            same_results(memory / f"out{number}", memory / "out0", config)
    for config in configs.split(","):
        succeeded(quantize(model, memory / "single", configs=config))
        same_results(memory / "single", memory / "out0", config)


def test_dry_run_writes_nothing_and_tells_the_sizes(memory, model):
    plan = json.loads(succeeded(quantize(model, memory / "out", "--dry-run", "--json", configs="optimal-d2,uniform-d3")).stdout)
    assert not (memory / "out").exists()
    succeeded(quantize(model, memory / "out", configs="optimal-d2,uniform-d3"))
    for planned in plan["configs"]:
        made = report(memory / "out", planned["config"])
        for key in ("stored_bits_per_weight", "nominal_bits_per_weight", "weights"):
            assert planned[key] == made[key]
        weights = [path.stat().st_size for path in (memory / "out" / planned["config"]).rglob("*safetensors*")]
        side = sum((model / name).stat().st_size for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "NOTICE"))
        assert planned["bytes_to_write"] == sum(weights) + 2 * side
    assert plan["bytes_to_write"] == sum(planned["bytes_to_write"] for planned in plan["configs"])
    assert plan["memory_bytes"] <= plan["memory_limit_bytes"]


def test_dry_run_refuses_what_a_run_refuses(memory, model):
    error_line(quantize(model, memory / "out", "--dry-run", "--depth", "nothing=2"), "nothing", code=2)
    (model / "model.safetensors").write_bytes(b"")
    error_line(quantize(model, memory / "out", "--dry-run"), "model.safetensors")
    assert not (memory / "out").exists()


def test_progress_is_a_sound_document_at_any_moment(memory):
    random = np.random.default_rng(2)
    model = write_folder(memory / "model", {f"m{i}.weight": tensor(random, "BF16", 300, 1600) for i in range(8)})
    process = subprocess.Popen([BINARY, *map(str, quantize_arguments(model, memory / "out", configs="optimal-d2,optimal-d3,optimal-d4"))],
                               env=clean_environment(), stdout=subprocess.DEVNULL)
    seen, path = [], memory / "out" / "progress.json"
    while process.poll() is None:
        if path.exists():
            seen.append(json.loads(path.read_text()))
    assert process.returncode == 0
    seen.append(json.loads(path.read_text()))
    assert seen[-1]["state"] == "done"
    assert seen[-1]["weights_done"] == seen[-1]["weights_total"] == 8 * 300 * 1600
    assert seen[-1]["tensors_done"] == seen[-1]["tensors_total"] == 8
    done = [document["weights_done"] for document in seen]
    assert done == sorted(done)


def test_an_exotic_matrix_of_each_kind(memory):
    """Zeros, subnormals, the largest numbers, a lone outlier, one row, one column."""
    random = np.random.default_rng(1)
    lone = np.zeros((3, 40))
    lone[1, 7] = 65504
    tensors = {"zeros.weight": ("F32", [4, 17], raw(np.zeros((4, 17)), "F32")),
               "tiny.weight": ("F32", [4, 17], raw(np.full((4, 17), 1e-42), "F32")),
               "half.weight": ("F16", [4, 17], raw(np.full((4, 17), 6e-8), "F16")),
               "large.weight": ("F32", [4, 17], raw(random.choice([-65504.0, 65504.0], (4, 17)), "F32")),
               "lone.weight": ("F32", [3, 40], raw(lone, "F32")), "negative_zero.weight": ("F32", [1, 16], raw(np.full((1, 16), -0.0), "F32")),
               "row.weight": tensor(random, "F32", 1, 500), "column.weight": tensor(random, "F32", 500, 1), "one.weight": tensor(random, "F32", 1, 1)}
    model = write_folder(memory / "model", tensors)
    configs = ",".join(f"{recipe}-d{depth}" for recipe in ("uniform", "optimal") for depth in (1, 2, 3, 4))
    succeeded(quantize(model, memory / "out", configs=configs))
    for config in configs.split(","):
        packed = memory / "out" / config / "packed"
        succeeded(run("verify", packed, "--source", model, "--sample", "0"))
        succeeded(run("dequantize", packed, memory / config))
        assert folder_digest(memory / config) == folder_digest(memory / "out" / config / "model")
        figures = {record["name"]: record for record in report(memory / "out", config)["tensors"]}
        assert figures["zeros.weight"]["max_abs_error"] == 0 and figures["zeros.weight"]["sqnr_db"] is None
        for record in figures.values():
            assert all(value is None or np.isfinite(value) for value in record.values() if isinstance(value, float))
