"""Model cards as people use them: the lines of their code blocks are run as they are printed, and the hub's own library reads them."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from cli_support import BINARY, run, succeeded, tiny_model
from small_llama import small_llama

yaml = pytest.importorskip("yaml")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LICENCE = "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\n"


def block(card, heading, language):
    section = card.split(f"## {heading}\n", 1)[1]
    return re.search(rf"```{language}\n(.*?)```", section, re.S).group(1)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def shell(lines, folder, tmp_path):
    """Runs the lines where `tritllm` is the program and `hf download ID --local-dir DIR` copies the folder of the test's hub."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "tritllm").unlink(missing_ok=True)
    (programs / "tritllm").symlink_to(BINARY)
    hf = programs / "hf"
    hf.write_text(f'#!/bin/sh\nfor last; do :; done\ncp -rL "{tmp_path}/hub/$2" "$last"\nmkdir -p "$last/.cache/huggingface/download"\n'
                  f'echo {COMMIT} > "$last/.cache/huggingface/download/config.json.metadata"\n')
    hf.chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TRITLLM_DEVICE": "cpu"}
    result = subprocess.run(["bash", "-euc", lines], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def same_bytes(a, b):
    names = sorted(path.name for path in a.iterdir())
    assert names == sorted(path.name for path in b.iterdir())
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_commands_work_as_printed_for_a_model_of_the_hub(tmp_path):
    snapshot = tmp_path / "cache" / "models--meta-llama--Llama-3.1-1M" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    small_llama(snapshot, LICENSE=LICENCE, README__md="---\nbase_model: other/Parent\n---\n")
    (tmp_path / "hub" / "meta-llama").mkdir(parents=True)
    shutil.copytree(snapshot, tmp_path / "hub" / "meta-llama" / "Llama-3.1-1M")
    succeeded(run("quantize", "--model", tmp_path / "cache" / "models--meta-llama--Llama-3.1-1M", "--configs", "optimal-d3", "--embed-depth", 4,
                  "--out", tmp_path / "out", "--quiet"))
    made = tmp_path / "out" / "optimal-d3"
    for kind in ("packed", "model"):
        card = (made / kind / "README.md").read_text()
        fields = front_matter(card)
        assert fields["license"] == fields["license_name"] == "llama3.1"
        assert fields["license_link"] == "https://huggingface.co/meta-llama/Llama-3.1-1M/blob/main/LICENSE"
        assert fields["base_model"] == "meta-llama/Llama-3.1-1M"
        assert set(fields["tags"]) >= {"quantization", "ternary", "balanced-ternary", "tritllm", "llama", "llama-3.1"}
        assert "\n# Llama-3.1-1M-trit-optimal-d3\n" in card
        assert "Parent" not in card
        assert "Llama 3.1 is licensed under" in (made / kind / "Notice").read_text()
        again = tmp_path / f"again-{kind}"
        again.mkdir()
        shell(block(card, "Reproducibility", "bash"), again, tmp_path)
        same_bytes(again / "out" / "optimal-d3" / "packed", made / "packed")
        same_bytes(again / "out" / "optimal-d3" / "model", made / "model")
    shell(block((made / "packed" / "README.md").read_text(), "Quick load", "bash"), made / "packed", tmp_path)
    same_bytes(made / "Llama-3.1-1M-trit-optimal-d3-fp16", made / "model")
    code = block((made / "model" / "README.md").read_text(), "Quick load", "python")
    subprocess.run([sys.executable, "-c", code], cwd=made / "model", check=True, timeout=120)


def test_commands_work_as_printed_for_a_folder(tmp_path):
    tiny_model(tmp_path / "a model's folder")
    options = ["--depth", "up_proj=4", "--license", "mit", "--name", "Some Name"]
    succeeded(run("quantize", "--model", tmp_path / "a model's folder", "--configs", "uniform-d1", "--out", tmp_path / "first", "--quiet", *options))
    card = (tmp_path / "first" / "uniform-d1" / "packed" / "README.md").read_text()
    assert "\n# Some-Name-trit-uniform-d1\n" in card
    assert front_matter(card)["license"] == "mit"
    shutil.copytree(tmp_path / "a model's folder", tmp_path / "elsewhere" / "a models folder")
    shell(block(card, "Reproducibility", "bash"), tmp_path / "elsewhere", tmp_path)
    same_bytes(tmp_path / "elsewhere" / "out" / "uniform-d1" / "model", tmp_path / "first" / "uniform-d1" / "model")


def test_the_hubs_library_reads_the_card(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    tiny_model(tmp_path / "m")
    succeeded(run("quantize", "--model", tmp_path / "m", "--base-model", "org/Tiny", "--configs", "uniform-d2", "--out", tmp_path / "out", "--quiet"))
    for kind in ("packed", "model"):
        data = hub.ModelCard.load(tmp_path / "out" / "uniform-d2" / kind / "README.md").data
        assert (data.license, data.base_model, data.pipeline_tag) == ("apache-2.0", "org/Tiny", "text-generation")


def test_a_base_model_is_an_id(tmp_path):
    tiny_model(tmp_path / "m")
    result = run("quantize", "--model", tmp_path / "m", "--base-model", "/some/path", "--out", tmp_path / "out")
    assert result.returncode == 2 and "--base-model" in result.stderr and "OWNER/NAME" in result.stderr


def test_the_manifest_has_the_facts(tmp_path):
    tiny_model(tmp_path / "m")
    succeeded(run("quantize", "--model", tmp_path / "m", "--name", "Owner/Name", "--configs", "uniform-d2", "--out", tmp_path / "out", "--quiet"))
    card = json.loads((tmp_path / "out" / "uniform-d2" / "packed" / "tritllm.json").read_text())["card"]
    assert (card["source_name"], card["name"], card["license"], card["base_model"]) == ("m", "Owner/Name", "apache-2.0", None)
    assert 'from_pretrained("Owner/Name-trit-uniform-d2")' in (tmp_path / "out" / "uniform-d2" / "model" / "README.md").read_text()
