"""Quantising and its relatives from Python: the same bytes as the command line's, read back by the numpy twin of the format."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import tritllm
from conftest import CONFIG

from packed import PackedFolder, compare  # tools/reference

COMMAND = Path(sys.prefix) / "bin" / "tritllm"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Llama of two layers with random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(5)
    config = transformers.LlamaConfig(hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, vocab_size=128, max_position_embeddings=64, tie_word_embeddings=False)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    transformers.LlamaForCausalLM(config).half().save_pretrained(folder)
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and path.name not in ("report.json", "progress.json")}  # they hold times


def agree(packed, half):
    """Whether every tensor of the packed folder decodes to that of the FP16 folder, by the numpy twin of the format."""
    counts, different = compare(PackedFolder(packed), half)
    return different == [] and counts["ternary"] > 0


def test_the_bytes_are_the_commands(tiny, tmp_path):
    options = {"depth": ["down_proj=4", "layers.0.*q_proj=keep"], "head_depth": 4, "name": "Tiny One", "license": "mit",
               "base_model": "someone/tiny"}
    results = tritllm.quantize(tiny, ["optimal-d2", "uniform-d1"], tmp_path / "ours", **options)
    subprocess.run([COMMAND, "quantize", "--model", tiny, "--out", tmp_path / "theirs", "--configs", "optimal-d2,uniform-d1", "--quiet",
                    "--depth", "down_proj=4", "--depth", "layers.0.*q_proj=keep", "--head-depth", "4", "--name", "Tiny One",
                    "--license", "mit", "--base-model", "someone/tiny"], check=True)
    ours = contents(tmp_path / "ours")
    assert ours == contents(tmp_path / "theirs") and len(ours) > 10
    assert [result["config"] for result in results] == ["optimal-d2", "uniform-d1"]
    assert results[0]["report"] == json.loads((tmp_path / "ours" / "optimal-d2" / "report.json").read_text())
    assert [result["was_complete"] for result in tritllm.quantize(tiny, ["optimal-d2"], tmp_path / "ours", **options)] == [True]


def test_a_real_model_shrinks(folders):
    # The embeddings of this small model, which are kept, are a fifth of it.
    assert folders["report"]["packed_bytes"] < 0.6 * folders["report"]["model_bytes"]


def test_progress_and_plan(tiny, tmp_path):
    plan = tritllm.plan(tiny, CONFIG, tmp_path / "out")
    assert plan["configs"][0]["config"] == CONFIG and not (tmp_path / "out").exists()
    heard = []
    tritllm.quantize(tiny, CONFIG, tmp_path / "out", on_progress=heard.append, emit="packed")
    assert heard[-1]["weights_done"] == heard[-1]["weights_total"] > 0
    assert not (tmp_path / "out" / CONFIG / "model").exists()

    def fail(_):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        tritllm.quantize(tiny, CONFIG, tmp_path / "other", on_progress=fail)


def test_dequantize_gives_the_fp16_folder(folders, tmp_path):
    tritllm.dequantize(folders["packed"], tmp_path / "half")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "half" / name).read_bytes() == (folders["half"] / name).read_bytes()
    with pytest.raises(tritllm.Error):
        tritllm.dequantize(folders["packed"], tmp_path / "half")


def test_pack_takes_a_ternary_model_without_loss(tiny, tmp_path):
    tritllm.quantize(tiny, CONFIG, tmp_path / "first")
    result = tritllm.pack(tmp_path / "first" / CONFIG / "model", tmp_path / "second")
    assert result["config"] == "exact"
    assert agree(tmp_path / "first" / CONFIG / "packed", tmp_path / "first" / CONFIG / "model")
    assert agree(tmp_path / "second" / "exact" / "packed", tmp_path / "first" / CONFIG / "model")
    with pytest.raises(tritllm.InvalidInputError) as refused:
        tritllm.pack(tiny, tmp_path / "third")
    assert "layers.0" in str(refused.value)


def test_inspect_and_verify(folders, tmp_path):
    facts = tritllm.inspect(folders["packed"])
    assert facts["kind"] == "packed" and facts["recipe"] == CONFIG and len(facts["tensors"]) > 100
    assert tritllm.verify(folders["packed"]) == []
    damaged = tmp_path / "damaged"
    shutil.copytree(folders["packed"], damaged)
    weights = next(damaged.glob("trits-*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 1
    weights.write_bytes(data)
    problems = tritllm.verify(damaged)
    assert problems and all(problem.message for problem in problems)
    with pytest.raises(tritllm.InvalidInputError):
        tritllm.LLM(damaged, device="cpu")


def test_verify_against_the_source(tiny, tmp_path):
    tritllm.quantize(tiny, CONFIG, tmp_path / "out", emit="packed")
    assert tritllm.verify(tmp_path / "out", source=tiny, sample=0) == []


@pytest.mark.parametrize("options, words", [
    ({"configs": "optimal-d9"}, "optimal-d9"), ({"emit": "gguf"}, "gguf"), ({"colour": 1}, "colour"), ({"depth": "x"}, "x"),
    ({"embed_depth": 7}, "embed_depth"), ({"base_model": "nobody"}, "nobody"), ({"threads": -1}, "threads"),
])
def test_refused_options(tiny, tmp_path, options, words):
    with pytest.raises(tritllm.InvalidInputError) as refused:
        tritllm.quantize(tiny, out=tmp_path / "out", **options)
    assert words in str(refused.value)
    assert not list(tmp_path.glob("out/*/packed"))


def test_missing_and_foreign_folders(tiny, tmp_path):
    with pytest.raises(FileNotFoundError):
        tritllm.quantize(tmp_path / "nowhere", out=tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        tritllm.inspect(tmp_path / "nowhere")
    (tmp_path / "out" / CONFIG / "packed").mkdir(parents=True)
    (tmp_path / "out" / CONFIG / "packed" / "precious").write_text("mine")
    with pytest.raises(tritllm.Error):
        tritllm.quantize(tiny, CONFIG, tmp_path / "out")
    assert (tmp_path / "out" / CONFIG / "packed" / "precious").read_text() == "mine"


def test_errors_carry_their_parts(tiny, tmp_path):
    with pytest.raises(tritllm.InvalidInputError) as refused:
        tritllm.quantize(tiny, out=tmp_path / "out", embed_depth=7)
    error = refused.value
    assert error.found == "7" and error.expected and error.problem in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.where, copy.problem, copy.remedy) == (error.where, error.problem, error.remedy)


def test_ctrl_c_keeps_what_is_done(folders, tmp_path):
    code = textwrap.dedent(f"""
        import tritllm
        try:
            tritllm.quantize({str(folders["source"])!r}, ["optimal-d4", "optimal-d3"], {str(tmp_path / "out")!r}, threads=1,
                             on_progress=lambda news: print(news["tensors_done"], flush=True))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 3:
            break
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    assert process.communicate(timeout=60)[0].endswith("interrupted\n") and time.monotonic() - begin < 30
    assert list((tmp_path / "out" / "optimal-d4").glob("journal*"))
    assert not (tmp_path / "out" / "optimal-d4" / "packed").exists()


def test_warnings_are_pythons(tiny, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    (source / "chat_template.jinja").write_text("{% bad %}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tritllm.quantize(source, CONFIG, tmp_path / "out", emit="packed")
    assert all(isinstance(entry.message, RuntimeWarning) for entry in caught)
