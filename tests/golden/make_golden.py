"""Writes the golden data of the codec: inputs by an integer formula, outputs by tools/reference. README.md describes the files.

    python tests/golden/make_golden.py [OUTPUT_FOLDER]      needs numpy, safetensors and xxhash

The formula of the inputs, so that other languages can compute those that are not stored. For weight k = row * cols + col of a matrix with
a seed, in 64-bit unsigned arithmetic that wraps around:
    hash(stream, k) = splitmix64(seed * 2^40 + stream * 2^36 + k), where splitmix64(x) is
        z = x + 0x9E3779B97F4A7C15;  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;  z ^ (z >> 31)
and, in double, each operation rounded once, in the order written:
    unit(stream, k) = (hash(stream, k) >> 40) / 2^24
    bell(k)  = (sum of the four 16-bit fields of hash(0, k) - 131070) / 32768        near to a normal distribution
    heavy(k) = bell(k) / (0.125 + unit(1, k)) * (0.5 + unit(2, row)) * (0.5 + unit(3, col))
    large matrices: float32(0.02 * bell(k)) or float32(0.02 * heavy(k)), but 0 in all rows with row mod 97 = 5
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools" / "reference"))

from codec import quantize, statistics  # noqa: E402
from packed import encode  # noqa: E402

CONFIGURATIONS = [(recipe, depth) for recipe in ("uniform", "optimal") for depth in (1, 2, 3, 4)]


class Field:
    """The random numbers of one matrix."""

    def __init__(self, seed, rows, cols):
        self.seed = seed
        self.k = np.arange(rows * cols, dtype=np.uint64).reshape(rows, cols)
        self.row = np.arange(rows, dtype=np.uint64)[:, None]
        self.col = np.arange(cols, dtype=np.uint64)[None, :]

    def hash(self, stream, k):
        z = k + np.uint64((self.seed * 2**40 + stream * 2**36 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def unit(self, stream, k):
        return (self.hash(stream, k) >> np.uint64(40)).astype(np.float64) / 2**24

    def choice(self, stream, count):
        return (self.hash(stream, self.k) % np.uint64(count)).astype(np.int64)

    def bell(self):
        hashed = self.hash(0, self.k)
        fields = sum((hashed >> np.uint64(shift) & np.uint64(65535)).astype(np.float64) for shift in (0, 16, 32, 48))
        return (fields - 131070) / 32768

    def heavy(self):
        tailed = self.bell() / (0.125 + self.unit(1, self.k))
        return tailed * (0.5 + self.unit(2, self.row)) * (0.5 + self.unit(3, self.col))


def bell(field):
    return 0.02 * field.bell()


def heavy(field):
    return 0.02 * field.heavy()


def zeros(field):
    return np.where(field.choice(1, 2), 0.0, -0.0)


def outlier(field):
    weights = bell(field)
    weights[weights.shape[0] // 2, weights.shape[1] // 3] = 3000
    return weights


def any_exponent(field):
    """Down to the least subnormal number; most groups are neither zero groups nor free of subnormal weights."""
    return np.ldexp(field.bell(), -field.choice(1, 152))


def near_zero_group(field):
    return np.ldexp(field.bell(), -36 - field.choice(1, 8))


def all_zero_groups(field):
    return np.ldexp(field.bell(), -60)


def constant(field):
    return np.full(field.k.shape, 0.0123)


def equal_magnitude(field):
    return np.where(field.choice(1, 2), 0.0123, -0.0123)


def largest(field):
    magnitude = np.choose(field.choice(1, 4), [65504.0, 65503.0, 65504.0 * field.unit(2, field.k), 65504.0 / 3])
    return np.where(field.choice(3, 2), magnitude, -magnitude)


def lattice(field):
    """Few distinct values, so that every comparison meets ties."""
    return np.rint(field.bell() * 4) / 64


def sparse(field):
    weights = bell(field)
    zero = field.hash(4, field.k // np.uint64(16)) % np.uint64(3) > 0
    return np.where(zero, zeros(field), weights)


def lone_weight(field):
    weights = np.zeros(field.k.shape)
    weights[-1, -1] = -0.75
    return weights


SMALL = [
    (bell, 1, 1), (bell, 12, 1), (bell, 6, 15), (bell, 9, 16), (bell, 5, 17), (bell, 7, 80), (bell, 33, 81),
    (heavy, 1, 81), (heavy, 17, 16), (heavy, 32, 80), (heavy, 33, 17), (zeros, 4, 17), (outlier, 20, 80), (any_exponent, 33, 80),
    (near_zero_group, 16, 80), (all_zero_groups, 2, 40), (constant, 8, 48), (equal_magnitude, 8, 48), (largest, 16, 80), (lattice, 24, 80), (sparse, 33, 81),
    (lone_weight, 3, 40),
]  # fmt: skip

# More sample groups than runs; a stride of 2; a stride of 3 with padded rows.
LARGE = [(bell, 200, 320), (bell, 700, 1024), (heavy, 1000, 1100)]


def small_matrix(kind, seed, rows, cols):
    return kind(Field(seed, rows, cols)).astype(np.float32)


def large_matrix(kind, seed, rows, cols):
    weights = small_matrix(kind, seed, rows, cols)
    weights[np.arange(rows) % 97 == 5] = 0
    return weights


def small_cases():
    for seed, (kind, rows, cols) in enumerate(SMALL, start=1):
        yield f"codec_{kind.__name__}_{rows}x{cols}", small_matrix(kind, seed, rows, cols)


def importance_case():
    """A matrix and the importance of its columns: recipe `optimal` only."""
    field = Field(51, 33, 81)
    importance = (0.01 + 2 * field.unit(5, field.col)).astype(np.float32)[0]
    return "codec_importance_33x81", heavy(field).astype(np.float32), importance


def stack_case():
    """Three experts of 28 groups, so that lines hold groups of two of them."""
    return "codec_stack_3x7x50", heavy(Field(52, 21, 50)).astype(np.float32).reshape(3, 7, 50)


def large_cases():
    for seed, (kind, rows, cols) in enumerate(LARGE, start=101):
        yield {"kind": kind.__name__, "seed": seed, "rows": rows, "cols": cols}, large_matrix(kind, seed, rows, cols)


def outputs_of(matrix, importance=None):
    """For each configuration trits, scales, codebook and figures of a matrix."""
    for recipe, depth in CONFIGURATIONS:
        if importance is not None and recipe != "optimal":
            continue
        quantized = quantize(matrix, recipe, depth, importance)
        measured = statistics(matrix, quantized, depth)
        numbers = [measured[name] for name in ("relative_mse", "cosine", "max_abs_error", "clipped")]
        yield f"{recipe}-d{depth}", encode(quantized, depth) | {
            "figures": np.array(numbers, np.float64),
            "level_histogram": np.array(measured["level_histogram"], np.int64),
        }


def tensors_of(matrix, importance=None):
    """The tensors of a golden file."""
    named = {f"{name}.{part}": array for name, parts in outputs_of(matrix, importance) for part, array in parts.items()}
    return {"input": matrix} | ({} if importance is None else {"importance": importance}) | named


def digests_of(matrix, digest):
    """Digests of the input and, as in a manifest, of trits, scales and codebook one after the other."""
    outputs = {name: b"".join(parts[p].tobytes() for p in ("trits", "scales", "codebook")) for name, parts in outputs_of(matrix)}
    return {"input": digest(matrix.tobytes())} | {name: digest(stored) for name, stored in outputs.items()}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def main():
    import xxhash

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, *inputs in [*small_cases(), importance_case(), stack_case()]:
        save_file(tensors_of(*inputs), folder / f"{name}.safetensors")
    large = []
    for case, matrix in large_cases():
        digests = digests_of(matrix, lambda content: {"xxh3": xxhash.xxh3_128_hexdigest(content), "sha256": sha256(content)})
        large.append(case | {"digests": digests})
    (folder / "codec_large.json").write_text(json.dumps(large, indent=1) + "\n")


if __name__ == "__main__":
    main()
