"""scripts/compare_devices.py on the CPU: its rows agree with what the logits themselves say."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(os.environ["TRITLLM_SOURCE_DIR"])
sys.path += [str(ROOT / "scripts"), str(ROOT / "tests" / "cli")]

import compare_devices  # noqa: E402
from small_llama import small_llama  # noqa: E402

BUILD = Path(os.environ["TRITLLM_BINARY"]).parent


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    small_llama(folder / "model")
    (folder / "text").write_text("The sea is wide, and the night is long. " * 4)
    command = [sys.executable, ROOT / "scripts" / "compare_devices.py", folder / "model", "--text", folder / "text", "--build", BUILD,
               "--windows", 2, "--window", 48, "--answers", 1, "--devices", "cpu", "--threads", 1]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    return folder, {tuple(row[:3]): row[3:] for row in rows[2:]}


def test_every_row_but_the_reference(table):
    activations, caches = ["f32", "int8"], ["f32", "f16", "fp8", "int8"]
    assert list(table[1]) == [("cpu", a, c) for a in activations for c in caches][1:]


def test_divergence_is_that_of_the_probabilities(table):
    folder, rows = table
    options = type("Options", (), {"model": folder / "model", "threads": 1, "build": BUILD})
    model = compare_devices.Model(options)
    tokens = model.tokens(folder / "text")
    means, largest = [], 0.0
    for window in (tokens[:48], tokens[48:96]):
        p, q = (np.exp(model.log_probabilities(window, {"device": "cpu", "activations": "f32", "cache": cache})) for cache in ("f32", "int8"))
        divergences = [sum(a * np.log(a / b) for a, b in zip(row, other)) for row, other in zip(p, q)]
        means.append(np.mean(divergences))
        largest = max(largest, max(divergences))
    found, error = map(float, rows["cpu", "f32", "int8"][0].split(" ± "))
    assert found == pytest.approx(np.mean(means), rel=0.01) and found > 0
    assert error == pytest.approx(abs(means[0] - means[1]) / 2, rel=0.5)
    assert float(rows["cpu", "f32", "int8"][1]) == pytest.approx(largest, rel=0.1)
    # Halves lose less than bytes do.
    assert float(rows["cpu", "f32", "f16"][0].split(" ± ")[0]) < found


def test_a_text_that_is_too_short_is_said(table):
    folder, _ = table
    done = subprocess.run([sys.executable, ROOT / "scripts" / "compare_devices.py", folder / "model", "--text", folder / "text",
                           "--build", BUILD, "--windows", "50", "--devices", "cpu"], capture_output=True, text=True)
    assert done.returncode == 2 and "do not fill 50 windows" in done.stderr
