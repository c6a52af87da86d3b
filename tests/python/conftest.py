"""What the tests of the Python package share: the demo model as a Hugging Face folder, quantised once, and transformers' own run of
the FP16 folder that belongs to the packed one."""

import os
import sys
from pathlib import Path

import pytest

SOURCE = Path(os.environ["TRITLLM_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tools" / "reference"))

CONFIG = "optimal-d3"


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """{"source", "out", "packed", "half"} of the demo model."""
    import tritllm

    demo = Path(os.environ["TRITLLM_DEMO_MODEL"])
    if not demo.exists():
        pytest.skip("no demo model; scripts/get_demo_model downloads it")
    top = tmp_path_factory.mktemp("models")
    tritllm.dequantize(demo, top / "source", type="f16")
    reports = tritllm.quantize(top / "source", configs=[CONFIG], out=top / "out")
    assert [report["config"] for report in reports] == [CONFIG]
    return {"source": top / "source", "out": top / "out", "packed": top / "out" / CONFIG / "packed",
            "half": top / "out" / CONFIG / "model", "report": reports[0]["report"]}


@pytest.fixture(scope="session")
def llm(folders):
    """The packed model in float arithmetic: a matrix gives the bits of the dense matrix of its decoded weights."""
    import tritllm

    return tritllm.LLM(folders["packed"], device="cpu", arithmetic="f32", cache="f32", context=512, threads=1)


@pytest.fixture(scope="session")
def oracle(folders):
    """(model, tokenizer) of the FP16 folder in float32, by transformers."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folders["half"], dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folders["half"])


def greedy_tokens(model, tokens, count):
    """The answer's token ids by transformers."""
    import torch

    with torch.no_grad():
        out = model.generate(torch.tensor([tokens]), max_new_tokens=count, do_sample=False, temperature=None, top_p=None, top_k=None,
                             pad_token_id=0)
    return out[0, len(tokens):].tolist()
