"""Every command on every kind of place in which a model may lie: where only one model can be meant, it works; else the message says
what lies there and what to type."""

import json
import shutil

import pytest

from cli_support import error_line, run, succeeded
from small_llama import small_llama

COMMIT = "0123456789abcdef0123456789abcdef01234567"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 567\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small_llama(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def results(source, tmp_path_factory):
    """OUT with one configuration."""
    out = tmp_path_factory.mktemp("results") / "out"
    succeeded(run("quantize", "--model", source, "--configs", "uniform-d2", "--out", out, "--quiet"))
    return out


def commands(model, tmp_path):
    """Every command that takes a model, without the one that may not read a packed one."""
    text = tmp_path / "text.txt"
    text.write_text("0123456789" * 20)
    common = ["--quiet"]
    yield ["inspect", model]
    yield ["verify", model]
    yield ["tokenize", "--model", model, "--text", "Hi"]
    yield ["run", "--model", model, "--raw", "-p", "Hi", "-n", 2, *common]
    yield ["eval", "--model", model, "--reference", model, "--text", text, "--window", 32, "--windows", 1, *common]
    yield ["bench", "--model", model, "--tests", "tg1", "--repetitions", 1, *common]
    yield ["dequantize", model, tmp_path / "dequantised", *common]


def everything_works(model, tmp_path, quantize=True):
    for command in commands(model, tmp_path):
        succeeded(run(*command))
    shutil.rmtree(tmp_path / "dequantised")
    if quantize:
        succeeded(run("quantize", "--model", model, "--configs", "uniform-d1", "--out", tmp_path / "quantised", "--quiet"))


def everything_says(model, tmp_path, *words):
    for command in commands(model, tmp_path):
        error_line(run(*command), *words, code=None)
    error_line(run("quantize", "--model", model, "--out", tmp_path / "quantised", "--quiet"), *words, code=None)


def test_result_folders(results, tmp_path):
    for place in (results, results / "uniform-d2", results / "uniform-d2" / "packed", results / "uniform-d2" / "packed" / "tritllm.json"):
        everything_works(place, tmp_path, quantize=False)
    error_line(run("quantize", "--model", results, "--out", tmp_path / "again"), "packed checkpoint", "name the model that it was made from")


def test_a_result_folder_with_several_configurations(results, tmp_path):
    shutil.copytree(results, tmp_path / "out")
    shutil.copytree(results / "uniform-d2", tmp_path / "out" / "optimal-d2")
    everything_says(tmp_path / "out", tmp_path, "several packed models", tmp_path / "out" / "optimal-d2" / "packed")


def test_a_result_folder_without_packed_models(results, tmp_path):
    shutil.copytree(results / "uniform-d2" / "model", tmp_path / "out" / "uniform-d2" / "model")
    everything_works(tmp_path / "out", tmp_path)


@pytest.mark.parametrize("link", ["packed", "uniform-d2/packed", "snapshots/" + COMMIT, "models--some--model"])
def test_folders_on_the_way_to_a_model_are_no_links_to_elsewhere(results, source, tmp_path, link):
    """A stranger's folder must not lead to somebody's own model."""
    place = tmp_path / "stranger" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(results / "uniform-d2" / "packed" if link.endswith("packed") else source)
    everything_says(tmp_path / "stranger", tmp_path, place.name, "link")


def test_the_hubs_cache(source, tmp_path):
    hub = tmp_path / "hub"
    shutil.copytree(source, hub / "models--owner--Name" / "snapshots" / COMMIT)
    for place in (hub, hub / "models--owner--Name"):
        everything_works(place, tmp_path)
        shutil.rmtree(tmp_path / "quantised")
    environment = {"HF_HUB_CACHE": str(hub)}
    for command in commands("owner/Name", tmp_path):
        succeeded(run(*command, env=environment, cwd=tmp_path))
    shutil.copytree(source, hub / "models--owner--Other" / "snapshots" / COMMIT)
    everything_says(hub, tmp_path, "is a cache of the hub", "models--owner--Other")
    shutil.rmtree(tmp_path / "dequantised")
    everything_says("owner/Missing", tmp_path, "hf download owner/Missing")


def test_files_of_a_folder(source, tmp_path):
    for file in ("config.json", "model.safetensors"):
        everything_works(source / file, tmp_path)
        shutil.rmtree(tmp_path / "quantised")


def test_git_lfs_pointers(source, tmp_path):
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        folder = tmp_path / file
        shutil.copytree(source, folder)
        (folder / file).write_text(POINTER)
        words = ("Git LFS pointer", "git lfs pull", file)
        error_line(run("quantize", "--model", folder, "--out", tmp_path / "out"), *words)
        error_line(run("run", "--model", folder, "--raw", "-p", "Hi"), *words)
        error_line(run("inspect", folder), *words)
    (tmp_path / "x.gguf").write_text(POINTER)
    everything_says(tmp_path / "x.gguf", tmp_path, "Git LFS pointer")


def test_weights_of_pytorch_alone(source, tmp_path):
    shutil.copytree(source, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    for command in commands(tmp_path / "m", tmp_path):
        if command[0] != "tokenize":  # which needs no weights
            error_line(run(*command), "pytorch_model.bin", "save_pretrained")


def test_what_is_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    everything_says(tmp_path / "missing", tmp_path, "no such file or folder")
    for command in commands(tmp_path / "empty", tmp_path):
        error_line(run(*command), tmp_path / "empty")


def test_inspect_says_what_was_found(results):
    assert json.loads(succeeded(run("inspect", results, "--json")).stdout)["kind"] == "packed"
    assert str(results / "uniform-d2" / "packed") in succeeded(run("verify", results)).stdout
