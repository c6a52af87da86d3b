"""What is done to models on disk: the same work as that of the command line's subcommands."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import _native

__all__ = ["quantize", "plan", "pack", "dequantize", "inspect", "verify", "Problem"]

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a model."""

    file: str
    where: str
    message: str


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def _options(model: Path, out: Path, options: dict[str, Any]) -> str:
    given = {name: value for name, value in options.items() if value is not None}
    return json.dumps({"model": os.fspath(model), "out": os.fspath(out), **given})


def quantize(model: Path, configs: str | Sequence[str] = "optimal-d2", out: Path = "out", *,
             on_progress: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Turns the matrices of a model into balanced ternary.

    Writes ``out/CONFIG/packed``, ``out/CONFIG/model`` (FP16) and ``out/CONFIG/report.json``; the bytes are those of
    ``tritllm quantize``. A run that was interrupted goes on where it stopped.

    Args:
        model: a Hugging Face folder or a GGUF file.
        configs: RECIPE-dD, or a list of them: "uniform-d1" to "calibrated-d4", or "calibrated" with bits or size.
        out: the folder for the results.
        on_progress: called a few times a second with {"tensor", "tensors_done", "tensors_total", "weights_done", "weights_total",
            "seconds", "seconds_left"}.
        options: emit ("packed", "model" or both), depth (a list of 'REGEX=D'), embed_depth, head_depth, name, base_model, license,
            max_memory (bytes), threads, fresh; calibration (files), calibration_sequences, calibration_tokens, seed, bits, size
            (bytes). They are the command's flags.

    Returns:
        For each configuration {"config", "was_complete", "report"}; the report is that of report.json.

    Raises:
        NotFoundError, InvalidInputError, ConflictError, InputOutputError, UnsupportedError: as their names say.
        KeyboardInterrupt: Ctrl-C; what is done is kept.
    """
    hand_on = None if on_progress is None else lambda text: on_progress(json.loads(text))
    names = [configs] if isinstance(configs, str) else list(configs)
    return json.loads(_native.quantize(_options(model, out, {"configs": names, **options}), hand_on, _warn))


def plan(model: Path, configs: str | Sequence[str] = "optimal-d2", out: Path = "out", **options: Any) -> dict[str, Any]:
    """What quantize() would do: sizes in bytes, memory, time in seconds and the fate of each tensor. Writes nothing."""
    names = [configs] if isinstance(configs, str) else list(configs)
    return json.loads(_native.plan(_options(model, out, {"configs": names, **options})))


def pack(model: Path, out: Path = "out", *, on_progress: Callable[[dict[str, Any]], None] | None = None,
         **options: Any) -> dict[str, Any]:
    """Packs a model whose matrices are ternary already, without changing a value, into ``out/exact/packed``.

    Raises:
        InvalidInputError: a matrix is not ternary; the error names the first group that does not fit.
    """
    return quantize(model, "exact", out, on_progress=on_progress, **{"emit": "packed", **options})[0]


def dequantize(model: Path, out: Path, *, type: str | None = None, threads: int = 0) -> None:
    """Turns a packed checkpoint or a GGUF file into an ordinary Hugging Face folder.

    Args:
        type: "f16" or "f32". A packed folder always gives "f16"; others "f32" unless told.
    """
    _native.dequantize(os.fspath(model), os.fspath(out), type or "", threads, _warn)


def inspect(path: Path) -> dict[str, Any]:
    """What a model on disk holds: its kind, its tensors and its sizes in bytes. Reads structure, not weights."""
    return json.loads(_native.inspect(os.fspath(path)))


def verify(model: Path, *, source: Path | None = None, sample: int = 8, threads: int = 0) -> list[Problem]:
    """Everything that is wrong with a model: structure, checksums, impossible values. An empty list: it is sound.

    Args:
        source: quantise ``sample`` matrices (0: all) again from this source and compare them byte for byte.
    """
    found = _native.verify(os.fspath(model), os.fspath(source) if source is not None else "", sample, threads)
    return [Problem(**problem) for problem in json.loads(found)]
