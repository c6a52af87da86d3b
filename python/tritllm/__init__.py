"""Balanced ternary language models: quantise them, run them.

    import tritllm

    tritllm.quantize("SmolLM2-135M-Instruct", configs=["optimal-d3"], out="out")
    llm = tritllm.LLM("out/optimal-d3")
    print(llm.chat([{"role": "user", "content": "Why is the sky blue?"}], max_tokens=60).text)

docs/python.md is the guide. ``import tritllm.transformers`` lets ``transformers`` load packed folders.
"""

from ._native import __version__
from .errors import ConflictError, Error, InputOutputError, InvalidInputError, NotFoundError, UnsupportedError
from .gguf_export import export_gguf
from .llm import LLM, Answer, Score, StreamEvent
from .matrix import TernaryMatrix, set_threads
from .tasks import Problem, dequantize, inspect, pack, plan, quantize, verify

__all__ = [
    "LLM", "Answer", "Score", "StreamEvent",
    "quantize", "plan", "pack", "dequantize", "inspect", "verify", "Problem", "export_gguf",
    "TernaryMatrix", "set_threads",
    "Error", "InvalidInputError", "NotFoundError", "InputOutputError", "ConflictError", "UnsupportedError",
    "__version__",
]
