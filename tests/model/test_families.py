"""transformers as oracle of the forward pass: every family and variant, by every path that tokens can take through the engine."""
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import ONE_OF_EACH_FAMILY, VARIANTS, VOCABULARY, reference_logits, sequences, write_model

PROBE = os.environ["TRITLLM_LOGITS_PROBE"]
TOLERANCE = 1e-4
SEQUENCES = sequences()
INSTRUCTION_SETS = ["scalar", "avx2"]
# Chunks that are shorter than, equal to and longer than the windows, and that leave a rest; all sequences in one batch.
MODES = ["prefill", "chunked:3", "chunked:7", "chunked:64", "steps", "together"]
# Keys and values of about 5 are off by 2^-10 in float16: some hundred times what float32 rounding makes.
HALF_CACHE_TOLERANCE = 3e-2


def runs(instruction_set):
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return instruction_set == "scalar" or instruction_set in flags.split()


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    if not runs(request.param):
        pytest.skip(f"this machine does not run {request.param}")
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("models")
    made = {}

    def folder(name, dtype=torch.float32):
        key = f"{name}-{dtype}"
        if key not in made:
            made[key] = write_model(VARIANTS[name], parent / key, dtype)
        return made[key]

    yield folder
    shutil.rmtree(parent)


def probe_logits(folder, mode, instruction_set, *options):
    done = subprocess.run(
        [PROBE, folder, mode, *options],
        input="".join(" ".join(map(str, ids)) + "\n" for ids in SEQUENCES).encode(),
        capture_output=True,
        env=os.environ | {"TRITLLM_ISA": instruction_set},
    )
    assert done.returncode == 0, done.stderr.decode()
    logits = np.frombuffer(done.stdout, dtype="<f4").reshape(-1, VOCABULARY)
    assert len(logits) == sum(map(len, SEQUENCES))
    return logits


def expected_logits(folder):
    return np.concatenate([reference_logits(folder, ids) for ids in SEQUENCES])


def assert_close(found, folder, tolerance=TOLERANCE):
    difference = np.abs(found - expected_logits(folder)).max(axis=1)
    place = int(difference.argmax())  # NaN counts as largest
    for ids in SEQUENCES:
        if place < len(ids):
            break
        place -= len(ids)
    assert difference.max() < tolerance, f"{difference.max()} at position {place} of the sequence of {len(ids)} tokens"


@pytest.mark.parametrize("name", VARIANTS)
def test_prefill(folders, name, instruction_set):
    assert_close(probe_logits(folders(name), "prefill", instruction_set), folders(name))


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("name", [*ONE_OF_EACH_FAMILY, "qwen2_window", "qwen2_yarn", "llama_llama3", "gemma3_linear"])
def test_chunks_and_steps(folders, name, mode, instruction_set):
    assert_close(probe_logits(folders(name), mode, instruction_set), folders(name))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_stored_in_16_bits(folders, name, dtype, instruction_set):
    folder = folders(name, dtype)
    for mode in ("prefill", "steps"):
        assert_close(probe_logits(folder, mode, instruction_set), folder)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_cache_of_16_bits(folders, name, instruction_set):
    exact = probe_logits(folders(name), "prefill", instruction_set)
    for mode in ("prefill", "steps"):
        found = probe_logits(folders(name), mode, instruction_set, "--cache", "f16")
        assert np.abs(found - exact).max() > TOLERANCE, "the cache was not of 16 bits"
        assert_close(found, folders(name), HALF_CACHE_TOLERANCE)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_threads_change_nothing(folders, name, instruction_set):
    for mode in ("prefill", "steps"):
        alone = probe_logits(folders(name), mode, instruction_set)
        np.testing.assert_array_equal(probe_logits(folders(name), mode, instruction_set, "--threads", "3"), alone)
