"""torch's autograd as oracle of the backward pass: every family that calibration takes and variant of the tiny models, on sequences beyond their windows."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "model"))
from tiny_models import VARIANTS, VOCABULARY, load, sequences, write_model  # noqa: E402

PROBE = os.environ["TRITLLM_GRADIENT_PROBE"]
TOLERANCE = 1e-4  # of the largest gradient of a linear
SEQUENCES = sequences()[1:]
LABELS = [tuple((token * 7 + place) % VOCABULARY for place, token in enumerate(ids)) for ids in SEQUENCES]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


# Calibrated recipes refuse models with norms inside their blocks (tests/model/test_bitnet.py).
@pytest.fixture(params=[name for name in VARIANTS if not name.startswith("bitnet")])
def folder(request, tmp_path):
    yield write_model(VARIANTS[request.param], tmp_path / "model")
    load.cache_clear()
    shutil.rmtree(tmp_path)


def expected_gradients(folder, ids, labels):
    """Of the sum of −log p(label) by the output of each linear, in the probe's order."""
    model = load(folder)
    outputs = {}

    def keep(name):
        def hook(_module, _inputs, output):
            output.retain_grad()
            outputs[name] = output

        return hook

    hooks = []
    for index, layer in enumerate(model.model.layers):
        for name in LINEARS:
            part = layer.self_attn if name in LINEARS[:4] else layer.mlp
            hooks.append(getattr(part, name).register_forward_hook(keep((index, name))))
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum").backward()
    for hook in hooks:
        hook.remove()
    return [outputs[index, name].grad[0].numpy() for index in range(len(model.model.layers)) for name in LINEARS]


def test_gradients_are_those_of_autograd(folder):
    lines = (" ".join(map(str, ids)) + "|" + " ".join(map(str, labels)) for ids, labels in zip(SEQUENCES, LABELS))
    done = subprocess.run([PROBE, folder], input="".join(line + "\n" for line in lines).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    found = np.frombuffer(done.stdout, dtype="<f4")
    at = 0
    for ids, labels in zip(SEQUENCES, LABELS):
        for index, expected in enumerate(expected_gradients(folder, ids, labels)):
            own = found[at : at + expected.size].reshape(expected.shape)
            at += expected.size
            place = f"layer {index // len(LINEARS)}, {LINEARS[index % len(LINEARS)]}, {len(ids)} tokens"
            assert np.abs(own - expected).max() < TOLERANCE * np.abs(expected).max(), place
    assert at == len(found)
