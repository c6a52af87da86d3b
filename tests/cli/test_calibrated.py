"""Calibrated recipes as users meet them: less divergence at the same size, the same bytes however a run goes, and clear refusals."""

import json
import math
import random
import shutil

import pytest

from cli_support import error_line, folder_digest, quantize, quantize_arguments, run, same_results, succeeded
from small_llama import small_llama

WORDS = "the ternary weights of a model are sums of trits and each group of sixteen shares one scale".split()


def text_file(path, words=6000, seed=1):
    source = random.Random(seed)
    path.write_text(" ".join(source.choice(WORDS) for _ in range(words)))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    yield small_llama(folder / "model")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    yield text_file(folder / "calibration.txt")
    shutil.rmtree(folder)


def calibrate(model, out, *more, configs="calibrated-d2", **options):
    return quantize(model, out, "--calibration-tokens", 64, *more, configs=configs, **options)


def divergence(packed, model, text):
    result = succeeded(run("eval", "--model", packed, "--reference", model, "--text-file", text, "--window", 64, "--windows", 20,
                           "--activations", "f32", "--json", "--quiet"))
    return json.loads(result.stdout)["kl_divergence_mean"]


def test_diverges_less_than_other_recipes(model, text, tmp_path):
    succeeded(calibrate(model, tmp_path, "--calibration", text, configs="optimal-d2,calibrated-d2,calibrated-d1,optimal-d1"))
    other = text_file(tmp_path / "other.txt", seed=2)
    for depth in ("d1", "d2"):
        optimal, calibrated = (divergence(tmp_path / f"{name}-{depth}" / "packed", model, other) for name in ("optimal", "calibrated"))
        assert calibrated < 0.8 * optimal, (depth, calibrated, optimal)
        sizes = [json.loads((tmp_path / f"{name}-{depth}" / "report.json").read_text())["packed_bytes"] for name in ("optimal", "calibrated")]
        assert sizes[0] == sizes[1]


def test_bytes_do_not_depend_on_threads_or_company(model, text, tmp_path):
    alone = tmp_path / "alone"
    succeeded(calibrate(model, alone, "--calibration", text, threads=1))
    together = tmp_path / "together"
    succeeded(calibrate(model, together, "--calibration", text, configs="calibrated-d3,calibrated-d2", threads=3))
    shutil.rmtree(together / "calibrated-d3")
    same_results(alone, together, config="calibrated-d2")


def cuda_problem():
    return json.loads(succeeded(run("devices", "--json")).stdout)["cuda_problem"]


def test_a_device_that_is_not_there_is_refused_by_name(model, text, tmp_path):
    error_line(calibrate(model, tmp_path, "--calibration", text, "--device", "gpu"), "--device", "no device 'gpu'", code=2)
    if cuda_problem():
        error_line(calibrate(model, tmp_path, "--calibration", text, "--device", "cuda"), "--device", "CUDA device 0", code=None)
    assert not list(tmp_path.glob("*/packed"))
    # The other recipes use the CPU, whatever device is meant for models.
    succeeded(quantize(model, tmp_path, "--device", "cuda:7", configs="optimal-d2"))


def test_a_cuda_device_calibrates_as_well(model, text, tmp_path):
    if cuda_problem():
        pytest.skip(cuda_problem())
    for device in ("cpu", "cuda"):
        succeeded(calibrate(model, tmp_path / device, "--calibration", text, "--device", device))
    other = text_file(tmp_path / "other.txt", seed=2)
    cpu, cuda = (divergence(tmp_path / device / "calibrated-d2" / "packed", model, other) for device in ("cpu", "cuda"))
    assert 0.8 * cpu < cuda < 1.25 * cpu, (cpu, cuda)


def test_own_text_depends_on_the_seed_alone(model, tmp_path):
    outs = []
    for name, options in (("one", []), ("again", []), ("other", ["--seed", 7])):
        outs.append(tmp_path / name)
        succeeded(calibrate(model, outs[-1], "--calibration-sequences", 20, *options))
    same_results(outs[0], outs[1], config="calibrated-d2")
    packed = [next((out / "calibrated-d2" / "packed").glob("*.safetensors")).read_bytes() for out in outs]
    assert packed[0] == packed[1] != packed[2]


@pytest.mark.parametrize("emit", ["packed,model", "packed", "model"])
def test_killed_run_goes_on_to_the_same_bytes(model, text, tmp_path, shim, emit):
    options = ["--calibration-tokens", 64, "--calibration-sequences", 8, "--calibration", text, "--emit", emit]
    arguments = lambda out: quantize_arguments(model, out, *options, configs="calibrated-d2", threads=1)
    whole = tmp_path / "whole"
    calls = len(shim.calls(arguments(whole), tmp_path / "log"))
    for call in range(1, calls, max(1, calls // 12)):
        out = tmp_path / f"out-{call}"
        shim.run(arguments(out), "kill", call)
        succeeded(run(*arguments(out)))
        for name in emit.split(","):
            assert folder_digest(out / "calibrated-d2" / name) == folder_digest(whole / "calibrated-d2" / name), (call, name)
        shutil.rmtree(out)


def test_another_text_is_another_result(model, text, tmp_path):
    out = tmp_path / "out"
    succeeded(calibrate(model, out, "--calibration", text))
    assert "was complete" in succeeded(calibrate(model, out, "--calibration", text)).stdout
    other = text_file(tmp_path / "other.txt", seed=3)
    error_line(calibrate(model, out, "--calibration", other), "was made from another source or with other options")


def test_card_tells_the_text_and_the_recipe(model, text, tmp_path):
    succeeded(calibrate(model, tmp_path, "--calibration", text))
    card = (tmp_path / "calibrated-d2" / "packed" / "README.md").read_text()
    assert "--calibration" in card and "Calibrated PTQ" in card and "instruction set" in card


def test_refusals(model, text, tmp_path):
    error_line(calibrate(model, tmp_path / "a", "--calibration", tmp_path / "nowhere"), "nowhere")
    short = tmp_path / "short.txt"
    short.write_text("too short")
    error_line(calibrate(model, tmp_path / "b", "--calibration", short), "do not fill one sequence", code=None)
    error_line(calibrate(model, tmp_path / "c", "--shard", "1/2", "--emit", "packed"), "whole model", code=None)
    error_line(calibrate(model, tmp_path / "d", "--max-memory", "80M"), "MiB", code=None)
    unknown = shutil.copytree(model, tmp_path / "unknown")
    config = json.loads((unknown / "config.json").read_text())
    (unknown / "config.json").write_text(json.dumps(config | {"model_type": "foo", "architectures": ["FooForCausalLM"]}))
    error_line(calibrate(unknown, tmp_path / "e"), "engine does not run", code=None)
    assert not any((tmp_path / name).exists() and any((tmp_path / name).rglob("*.safetensors")) for name in "abcde")


@pytest.mark.parametrize("configs, options, flag", [
    ("optimal-d2", ["--calibration", "TEXT"], "--calibration"),
    ("optimal-d2,uniform-d1", ["--calibration-sequences", 3], "--calibration-sequences"),
    ("optimal-d2", ["--seed", 3], "--seed"),
    ("calibrated-d2", ["--bits", 4], "--bits"),
    ("calibrated-d2,optimal-d2", ["--size", "1M"], "--size"),
])
def test_what_no_configuration_reads_is_refused(model, text, tmp_path, configs, options, flag):
    options = [text if option == "TEXT" else option for option in options]
    error_line(quantize(model, tmp_path / "out", *options, configs=configs), flag, "only", code=None)


def test_other_configurations_of_a_run_know_nothing_of_the_text(model, text, tmp_path):
    succeeded(calibrate(model, tmp_path, "--calibration", text, configs="optimal-d2,calibrated-d2"))
    cards = [(tmp_path / name / "packed" / "README.md").read_text() for name in ("optimal-d2", "calibrated-d2")]
    assert "--calibration" not in cards[0] and f"--calibration {text.name} " in cards[1]
    assert str(text.parent) not in cards[1]
    assert "was complete" in succeeded(quantize(model, tmp_path, configs="optimal-d2")).stdout


def test_a_text_that_harms_is_not_followed(model, tmp_path):
    """Fifteen sequences of one letter know nothing of the sixteenth, which is held back."""
    source = random.Random(9)
    text = tmp_path / "text.txt"
    text.write_text("a" * (15 * 64) + "".join(source.choice("bcdefghijklmnopqrstuvwxyz ,.") for _ in range(64)))
    arguments = [argument for argument in quantize_arguments(model, tmp_path / "out", "--calibration-tokens", 64, "--calibration", text,
                                                             configs="calibrated-d2,optimal-d2") if argument != "--quiet"]
    result = succeeded(run(*arguments))
    replaced = [line for line in result.stderr.splitlines() if "does not help" in line]
    assert replaced, result.stderr
    name = next(word.strip("':") for word in replaced[0].split() if "model.layers" in word)
    checksums = []
    for config in ("calibrated-d2", "optimal-d2"):
        manifest = json.loads((tmp_path / "out" / config / "packed" / "tritllm.json").read_text())
        checksums.append(next(tensor["checksum"] for tensor in manifest["tensors"] if tensor["name"] == name))
    assert checksums[0] == checksums[1]


def test_verify_says_what_it_cannot_do(model, text, tmp_path):
    succeeded(calibrate(model, tmp_path, "--calibration", text))
    packed = tmp_path / "calibrated-d2" / "packed"
    succeeded(run("verify", packed, "--quiet"))
    error_line(run("verify", packed, "--source", model, "--quiet"), "calibrated", code=None)


def test_kept_matrices_stay(model, text, tmp_path):
    succeeded(calibrate(model, tmp_path, "--calibration", text, "--depth", "down_proj=keep", "--depth", "q_proj=4"))
    report = json.loads((tmp_path / "calibrated-d2" / "report.json").read_text())
    depths = {tensor["name"]: tensor.get("depth") for tensor in report["tensors"]}
    assert depths["model.layers.0.self_attn.q_proj.weight"] == 4 and not depths["model.layers.0.mlp.down_proj.weight"]


@pytest.mark.parametrize("option, value", [("--bits", "4.0"), ("--size", None)])
def test_mixed_depths_keep_to_what_was_asked_for(model, text, tmp_path, option, value):
    options = ["--calibration", text, "--calibration-sequences", 8]
    succeeded(calibrate(model, tmp_path, *options, configs="calibrated-d2,calibrated-d3"))
    reports = {name: json.loads((tmp_path / name / "report.json").read_text()) for name in ("calibrated-d2", "calibrated-d3")}
    sizes = [report["packed_bytes"] for report in reports.values()]
    value = value or str(sum(sizes) // 2)
    succeeded(calibrate(model, tmp_path, *options, option, value, configs="calibrated"))
    report = json.loads((tmp_path / "calibrated" / "report.json").read_text())
    matrices = [tensor for tensor in report["tensors"] if tensor.get("depth")]
    depths = {tensor["name"]: tensor["depth"] for tensor in matrices}
    if option == "--bits":
        weights = [math.prod(tensor["shape"]) for tensor in matrices]
        bits = sum(count * (1.6 * tensor["depth"] + 0.3) for count, tensor in zip(weights, matrices)) / sum(weights)
        assert 3.0 < bits <= 4.0
    else:
        assert 0.7 * int(value) < report["packed_bytes"] <= int(value)
    assert len(set(depths.values())) > 1
    for together in (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj")):
        assert len({depths[f"model.layers.0.{name}.weight"] for name in together}) == 1
    other = text_file(tmp_path / "other.txt", seed=4)
    mixed, coarse = (divergence(tmp_path / name / "packed", model, other) for name in ("calibrated", "calibrated-d2"))
    assert mixed < coarse


def test_mixed_depths_are_refused_where_they_make_no_sense(model, text, tmp_path):
    def refused(*options, words=()):
        error_line(calibrate(model, tmp_path / "out", "--calibration", text, *options, configs="calibrated"), *words, code=None)

    refused(words=["number of bits or a size"])
    refused("--bits", "4", "--size", "1M", words=["number of bits or a size"])
    for bits in ("nan", "inf", "1.8", "7", "four", ""):
        refused("--bits", bits, words=["--bits"])
    refused("--bits", "4", "--depth", "q_proj=2", words=["chooses the depths itself"])
    refused("--size", "1K", words=["expected at least"])
    refused("--bits", "4", "--dry-run", words=["after calibration only"])
    result = calibrate(model, tmp_path / "out", "--calibration", text, "--bits", "9", configs="calibrated")
    assert result.returncode == 2 and "--bits" in result.stderr
