"""One ternary matrix in memory, as docs/format.md stores it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import _native
from .errors import InvalidInputError, NotFoundError

__all__ = ["TernaryMatrix", "set_threads"]


def set_threads(threads: int) -> None:
    """Threads of what this module computes; 0: all processors. Matrices that are made afterwards use them."""
    _native.set_threads(threads)


def stored_tensor(folder: Path, name: str) -> np.ndarray:
    """A tensor of a packed folder, mapped: its pages are read when they are used. BF16, which numpy lacks, comes as float32."""
    index = json.loads((folder / "trits.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    if name not in index:
        raise NotFoundError(f"{folder}: there is no tensor '{name}'", str(folder), f"there is no tensor '{name}'")
    file = folder / index[name]
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(length))[name]
    begin, end = entry["data_offsets"]
    type_ = np.dtype({"U8": np.uint8, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}[entry["dtype"]])
    stored = np.memmap(file, type_, "r", 8 + length + begin, ((end - begin) // type_.itemsize,)).reshape(entry["shape"])
    return (stored.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else stored


@dataclass(frozen=True)
class TernaryMatrix:
    """A matrix of shape [rows, columns] as trits, scale codes and a codebook.

    Attributes:
        trits: uint8 [depth, lines, 16], five trits to a byte.
        scales: uint8 [lines, 3].
        codebook: float32 [27].
        shape: (rows, columns).
    """

    trits: np.ndarray
    scales: np.ndarray
    codebook: np.ndarray
    shape: tuple[int, int]
    _products: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def quantize(weights: Any, config: str = "optimal-d2") -> TernaryMatrix:
        """Quantises weights [rows, columns]: the bytes are those that quantising a model gives this matrix.

        Args:
            weights: anything that numpy reads as floats. A contiguous float32 array, of numpy or by DLPack, is not copied.
            config: RECIPE-dD.

        Raises:
            InvalidInputError: a weight is not finite, or the configuration is unknown.
        """
        array = np.ascontiguousarray(weights, np.float32)
        if array.ndim != 2:
            problem = f"expected [rows, columns], found {list(array.shape)}"
            raise InvalidInputError(f"weights: {problem}", "weights", problem)
        return TernaryMatrix(*_native.quantize_matrix(array, config), shape=(array.shape[0], array.shape[1]))

    @staticmethod
    def load(folder: str | os.PathLike[str], name: str) -> TernaryMatrix:
        """A matrix of a packed folder, such as "model.layers.0.mlp.up_proj.weight". Its bytes stay in the file until they are used."""
        place = Path(folder)
        manifest = json.loads((place / "tritllm.json").read_text(encoding="utf-8"))
        record = next((record for record in manifest["tensors"] if record["name"] == name), None)
        if record is None or len(record["shape"]) != 2:
            raise NotFoundError(f"{place}: there is no matrix '{name}'", str(place), f"there is no matrix '{name}'")
        rows, columns = record["shape"]
        return TernaryMatrix(*(stored_tensor(place, f"{name}.{part}") for part in ("trits", "scales", "codebook")), shape=(rows, columns))

    @property
    def depth(self) -> int:
        """Trits to a weight, 1 to 4."""
        return self.trits.shape[0]

    def dequantize(self) -> np.ndarray:
        """The weights, float32 [rows, columns]."""
        return _native.decode_matrix(self.trits, self.scales, self.codebook, *self.shape)

    def multiply(self, x: Any, arithmetic: str = "int8") -> np.ndarray:
        """x·Wᵀ on the CPU: float32 [..., columns] to float32 [..., rows].

        Args:
            arithmetic: "int8" rounds x to 8 bits in groups of 16 (13 bits at depth 1); "f32" does not.
        """
        product = self._products.get(arithmetic)
        if product is None:
            product = _native.ProductMatrix(self.trits, self.scales, self.codebook, *self.shape, arithmetic)
            self._products[arithmetic] = product
        array = np.asarray(x, np.float32)
        if array.ndim == 0 or array.shape[-1] != self.shape[1]:
            problem = f"expected [..., {self.shape[1]}], found {list(array.shape)}"
            raise InvalidInputError(f"x: {problem}", "x", problem)
        rows = np.ascontiguousarray(array.reshape(-1, self.shape[1]))
        return product.multiply(rows).reshape(*array.shape[:-1], self.shape[0])
