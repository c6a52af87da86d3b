"""scripts/compare_llama_cpp as far as it needs no llama.cpp: the models that it writes, judged by the gguf package, its ratios,
and what it says of wrong arguments and missing tools."""

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

ROOT = Path(os.environ["TRITLLM_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "scripts"))

import comparison_table  # noqa: E402
import synthetic_gguf  # noqa: E402

TINY = synthetic_gguf.Shape(hidden=256, layers=2, feed_forward=512, heads=4, key_value_heads=2, head_width=64)
VOCABULARY = 96


@pytest.fixture
def tiny_shape(monkeypatch):
    monkeypatch.setitem(synthetic_gguf.SHAPES, "tiny", TINY)


@pytest.mark.parametrize("type_name", synthetic_gguf.TYPES)
def test_model_holds_sane_weights(tiny_shape, memory, type_name):
    path = memory / "model.gguf"
    synthetic_gguf.write_model(path, "tiny", type_name, VOCABULARY)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(tensors) == 3 + 9 * TINY.layers
    for name, columns, rows in synthetic_gguf.matrices(TINY):
        tensor = tensors[f"blk.1.{name}.weight"]
        assert tensor.tensor_type.name == type_name
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert weights.shape == (rows, columns)
        assert np.isfinite(weights).all()
        assert 0.9 < weights.std() * np.sqrt(columns) < 4
        assert abs(weights.mean()) < 0.2 * weights.std()
    assert {tensors[name].tensor_type.name for name in ("token_embd.weight", "output.weight")} == {"F16"}
    read = sum(int(tensor.n_bytes) for name, tensor in tensors.items() if name != "token_embd.weight") + 2 * TINY.hidden
    assert synthetic_gguf.bytes_per_token(TINY, type_name, VOCABULARY) == read


def test_shapes_are_those_of_the_program():
    result = subprocess.run([os.environ["TRITLLM_BINARY"], "bench", "--synthetic", "none"], capture_output=True, text=True)
    assert all(shape in result.stderr for shape in synthetic_gguf.SHAPES)


def test_rows_that_are_no_whole_blocks_do_not_fit():
    fitting = [name for name in synthetic_gguf.TYPES if synthetic_gguf.fits(synthetic_gguf.SHAPES["smollm2-135m"], name)]
    assert sorted(fitting) == ["F16", "Q4_0"]


def row(config, number, rate, accepted=True, test="tg64"):
    return {"config": config, "round": number, "test": test, "tokens_per_second": rate, "accepted": accepted,
            "bytes_per_token": 5e8}


ROWS = [
    row("llama.cpp Q4_0", 0, 10.0), row("llama.cpp Q3_K", 0, 5.0), row("tritllm d=2", 0, 20.0),
    # The machine was at half its speed: rates of different rounds give other ratios.
    row("llama.cpp Q4_0", 1, 5.0), row("llama.cpp Q3_K", 1, 2.5), row("tritllm d=2", 1, 11.0),
    row("llama.cpp Q4_0", 2, 1.0, accepted=False), row("llama.cpp Q3_K", 2, 6.0), row("tritllm d=2", 2, 24.0),
    row("tritllm d=2", 0, 900.0, test="pp512"),
]


def test_ratios_are_of_the_same_round_and_of_accepted_runs():
    assert comparison_table.ratios(ROWS, "tritllm d=2", "llama.cpp Q4_0", "tg64") == [2.0, 2.2]
    assert comparison_table.ratios(ROWS, "tritllm d=2", "llama.cpp Q3_K", "tg64") == [4.0, 4.4, 4.0]


def test_table():
    assert comparison_table.table(ROWS, "tg64").splitlines()[2:] == [
        "| llama.cpp Q4_0 | 7.5 (5.0–10.0) | 1.00 (1.00–1.00) | – | 500 | 3.8 |",
        "| llama.cpp Q3_K | 5.0 (2.5–6.0) | 0.50 (0.50–0.50) | – | 500 | 2.5 |",
        "| tritllm d=2 | 20.0 (11.0–24.0) | 2.10 (2.00–2.20) | 4.00 (4.00–4.40) Q3_K | 500 | 10.0 |",
    ]


def test_nothing_measured_is_a_dash():
    assert comparison_table.table([row("tritllm d=1", 0, 1.0, accepted=False)], "tg64").splitlines()[2] \
        == "| tritllm d=1 | – | – | – | 500 | – |"


def compare(memory, *arguments, path=os.environ["PATH"]):
    return subprocess.run([sys.executable, "-B", ROOT / "scripts" / "compare_llama_cpp.py", "--work", memory / "work", *arguments],
                          capture_output=True, text=True, env={**os.environ, "PATH": path})


def fake_sources(memory):
    folder = memory / "llama.cpp"
    (folder / "tools/llama-bench").mkdir(parents=True)
    for name in ("CMakeLists.txt", "tools/llama-bench/CMakeLists.txt"):
        (folder / name).touch()
    return folder


def test_says_what_is_missing(memory):
    native = ["--isa", "native", "--tritllm", os.environ["TRITLLM_BINARY"]]
    for result, words in [
        (compare(memory, "--tritllm", memory / "none"), ["make build"]),
        (compare(memory, *native, "--llama-cpp", memory), ["llama-bench", "--llama-cpp"]),
        (compare(memory, *native, "--llama-cpp", fake_sources(memory), path=str(memory)), ["cmake", "compiler", "apt-get install"]),
    ]:
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1 and all(word in result.stderr for word in words), result.stderr


@pytest.mark.parametrize("arguments, word", [
    (["--types", "Q4_0,Q9"], "Q9"), (["--depths", "5"], "5"), (["--tests", "pp"], "pp"),
    (["--types", "", "--depths", ""], "nothing"), (["--rounds", "0"], "--rounds"),
])
def test_usage(memory, arguments, word):
    result = compare(memory, *arguments)
    assert result.returncode == 2 and word in result.stderr.splitlines()[-1]
