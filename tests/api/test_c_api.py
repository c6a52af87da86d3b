"""include/tritllm.h: an example in C99 built against the installed library, and ctypes with what a careless caller passes."""

import ctypes
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

BINARY = os.environ["TRITLLM_BINARY"]
BUILD = Path(os.environ["TRITLLM_BUILD_FOLDER"])
SOURCE = Path(os.environ["TRITLLM_SOURCE_DIR"])
DEMO = Path(os.environ["TRITLLM_DEMO_MODEL"])
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("installed")
    subprocess.run(["cmake", "--install", BUILD, "--component", "library", "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    return prefix


@pytest.fixture(scope="module")
def library(installed):
    (path,) = installed.glob("lib/**/libtritllm.so")
    library = ctypes.CDLL(path)
    library.trit_version.restype = ctypes.c_char_p
    for name in ("trit_trit_bytes", "trit_scale_bytes"):
        getattr(library, name).argtypes = [ctypes.c_int64, ctypes.c_int64] + [ctypes.c_int] * (name == "trit_trit_bytes")
        getattr(library, name).restype = ctypes.c_int64
    library.trit_free.argtypes = [ctypes.c_void_p]
    return library


def refusal(library, function, *arguments):
    error = ctypes.c_char_p()
    assert getattr(library, function)(*arguments, ctypes.byref(error)) != 0
    return error.value.decode()


def test_the_example(installed, tmp_path):
    if not DEMO.exists():
        pytest.skip("no demo model; scripts/get_demo_model downloads it")
    for command in (["cmake", "-S", SOURCE / "tests" / "api" / "consumer", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={installed}"],
                    ["cmake", "--build", tmp_path]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    request = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "logprobs": True}
    done = subprocess.run([tmp_path / "answer", json.dumps({"model": str(DEMO), "device": "cpu"}), json.dumps(request)],
                          capture_output=True, text=True, check=True)
    matrix, answer, pieces = done.stdout.split("\n", 2)
    assert matrix == "matrix same"
    answer = json.loads(answer.removeprefix("answer "))
    # The program is another way into the same engine.
    expected = json.loads(subprocess.run([BINARY, "run", "-m", DEMO, "-p", PROMPT, "--raw", "-n", "12", "--temp", "0", "--json", "--quiet",
                                          "--device", "cpu", "--log-probabilities"], capture_output=True, text=True, check=True).stdout)
    assert (answer["text"], answer["tokens"], answer["finish_reason"]) == (expected["text"], expected["tokens"], expected["finish_reason"])
    assert [score["logprob"] for score in answer["logprobs"]] == [score["log_probability"] for score in expected["log_probabilities"]]
    assert pieces == f"pieces {answer['text']}\n"


def test_only_the_interface_is_seen(installed):
    (path,) = installed.glob("lib/**/libtritllm.so")
    names = subprocess.run(["nm", "--dynamic", "--defined-only", path], capture_output=True, text=True, check=True).stdout.split("\n")
    names = {line.split()[-1].split("@")[0] for line in names if line}
    declared = {word.split("(")[0] for word in (SOURCE / "include" / "tritllm.h").read_text().replace("*", " ").split()
                if word.startswith("trit_") and "(" in word}
    declared = {name for name in declared if not name.startswith("trit_cuda")}
    assert len(declared) > 12 and declared <= names
    assert {name for name in names - declared if not name.startswith("trit_cuda")} == set()


def test_refusals(library, tmp_path):
    model = ctypes.c_void_p()
    for options, words in ((b"{", "options"), (b"[]", "object"), (b"{}", "model"), (b'{"model": "x", "colour": 1}', "colour"), (None, "null"),
                           (json.dumps({"model": str(tmp_path / "nowhere")}).encode(), "nowhere")):
        assert words in refusal(library, "trit_model_open", options, ctypes.byref(model))
        assert model.value is None
    assert "null" in refusal(library, "trit_model_open", b"{}", None)
    assert "null" in refusal(library, "trit_generate", None, b"{}", None)
    assert "optimal-d9" in refusal(library, "trit_quantize", b'{"model": "x", "out": "y", "configs": ["optimal-d9"]}', None, None, None)
    assert library.trit_model_open(b"{", ctypes.byref(model), None) != 0  # nobody wants the message
    for function in ("trit_model_close", "trit_generation_close", "trit_generation_cancel", "trit_free"):
        getattr(library, function)(None)


def test_matrices(library):
    weights = np.random.default_rng(2).standard_normal((9, 50)).astype(np.float32)
    for depth in (1, 4):
        trits = np.zeros(library.trit_trit_bytes(9, 50, depth), np.uint8)
        scales, codebook = np.zeros(library.trit_scale_bytes(9, 50), np.uint8), np.zeros(27, np.float32)
        decoded = np.zeros_like(weights)
        size = (ctypes.c_int64(9), ctypes.c_int64(50))
        bytes_ = [array.ctypes.data_as(ctypes.c_void_p) for array in (trits, scales, codebook)]
        assert library.trit_quantize_matrix(weights.ctypes.data_as(ctypes.c_void_p), *size, f"optimal-d{depth}".encode(), *bytes_, None) == 0
        assert library.trit_decode_matrix(*bytes_, *size, depth, decoded.ctypes.data_as(ctypes.c_void_p), None) == 0
        error = np.linalg.norm(decoded - weights) / np.linalg.norm(weights)
        assert 0 < error < {1: 0.5, 4: 0.03}[depth]
        trits[0] = 1
        assert "trits" in refusal(library, "trit_decode_matrix", *bytes_, *size, depth, decoded.ctypes.data_as(ctypes.c_void_p))
        assert "planes" in refusal(library, "trit_decode_matrix", *bytes_, *size, 9, decoded.ctypes.data_as(ctypes.c_void_p))
    assert library.trit_trit_bytes(0, 5, 1) == library.trit_trit_bytes(2**62, 2**62, 1) == library.trit_trit_bytes(5, 5, 5) == -1


def test_version(library):
    assert f"project(tritllm VERSION {library.trit_version().decode()} " in (SOURCE / "CMakeLists.txt").read_text()
