"""Writes GGUF files of well-known shapes with random weights, all layer matrices of one type, to measure llama.cpp's speed on.

The shapes are those of `tritllm bench --synthetic`. As there, embedding and head are FP16 and not tied, so only the layers' matrices
differ. The blocks hold random codes with scales that give weights of about 1/sqrt(columns). The models have no quality (nothing
is quantised) and no text (no vocabulary, only a number of tokens). Standard library only.

Usage: synthetic_gguf.py SHAPE TYPE VOCABULARY OUT
"""

import math
import os
import random
import struct
import sys
from collections import namedtuple

Shape = namedtuple("Shape", "hidden layers feed_forward heads key_value_heads head_width")

SHAPES = {
    "smollm2-135m": Shape(576, 30, 1536, 9, 3, 64),
    "llama-3.2-1b": Shape(2048, 16, 8192, 32, 8, 64),
    "llama-3.2-3b": Shape(3072, 28, 8192, 24, 8, 128),
    "llama-3.1-8b": Shape(4096, 32, 14336, 32, 8, 128),
}

# `number` is the type's in GGUF's tensor headers and `file_type` in general.file_type.
BlockType = namedtuple("BlockType", "number file_type weights bytes make")

F32, F16 = 0, 1
ALIGNMENT = 32
TILE_BYTES = 1 << 21


def f16(value):
    return struct.pack("<e", value)


def normal_scale(value):
    """The scale as a normal FP16 number: real scales are rarely denormal, and some processors are slow on those."""
    return f16(max(value, 2.0**-13))


# Four fields of two bits, none of them 3: the only bytes that a ternary block may hold.
TERNARY_BYTES = bytes(a | b << 2 | c << 4 | d << 6 for a in range(3) for b in range(3) for c in range(3) for d in range(3))
TO_TERNARY_BYTE = bytes(TERNARY_BYTES[i % len(TERNARY_BYTES)] for i in range(256))

# The divisors below are the standard deviations of random codes times random block scales.


def q4_0_block(spread):
    return normal_scale(spread / 4.6) + os.urandom(16)


def tq2_0_block(spread):
    return os.urandom(64).translate(TO_TERNARY_BYTE) + normal_scale(spread / 0.82)


def q3_k_block(spread):
    return os.urandom(32 + 64 + 12) + normal_scale(spread / 42)


def q5_k_block(spread):
    scale = spread / 523
    # The second scale belongs to the minimum, which is subtracted: 15.5 times the first makes the weights' mean zero.
    return normal_scale(scale) + normal_scale(15.5 * max(scale, 2.0**-13)) + os.urandom(12 + 32 + 128)


def q6_k_block(spread):
    scales = bytes((byte % 17 - 8) & 0xFF for byte in os.urandom(16))  # signed: -8..8
    return os.urandom(128 + 64) + scales + normal_scale(spread / 90)


def f16_block(spread):
    return struct.pack("<32e", *(random.gauss(0.0, spread) for _ in range(32)))


TYPES = {
    "F16": BlockType(F16, 1, 32, 64, f16_block),
    "Q4_0": BlockType(2, 2, 32, 18, q4_0_block),
    "TQ2_0": BlockType(35, 37, 256, 66, tq2_0_block),
    "Q3_K": BlockType(11, 11, 256, 110, q3_k_block),
    "Q5_K": BlockType(13, 16, 256, 176, q5_k_block),
    "Q6_K": BlockType(14, 18, 256, 210, q6_k_block),
}


def matrices(shape):
    """(name, columns, rows) of a layer's matrices, without the layer's prefix."""
    queries, shared = shape.heads * shape.head_width, shape.key_value_heads * shape.head_width
    return [
        ("attn_q", shape.hidden, queries), ("attn_k", shape.hidden, shared), ("attn_v", shape.hidden, shared),
        ("attn_output", queries, shape.hidden), ("ffn_gate", shape.hidden, shape.feed_forward),
        ("ffn_up", shape.hidden, shape.feed_forward), ("ffn_down", shape.feed_forward, shape.hidden),
    ]


def fits(shape, type_name):
    """Whether every row of the layers' matrices is a whole number of the type's blocks."""
    return all(columns % TYPES[type_name].weights == 0 for _, columns, _ in matrices(shape))


def matrix_bytes(columns, rows, block_type):
    return columns * rows // block_type.weights * block_type.bytes


def bytes_per_token(shape, type_name, vocabulary):
    """Weight bytes that decoding one token reads: all but the embedding, from which it takes one row."""
    layer = sum(matrix_bytes(columns, rows, TYPES[type_name]) for _, columns, rows in matrices(shape)) + 2 * 4 * shape.hidden
    return shape.layers * layer + 4 * shape.hidden + 2 * shape.hidden * (vocabulary + 1)


def file_bytes(shape, type_name, vocabulary):
    """Approximate: without header and padding, which are under a mebibyte."""
    return bytes_per_token(shape, type_name, vocabulary) + 2 * shape.hidden * vocabulary


def string_value(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def metadata(shape_name, shape, type_name, vocabulary):
    def entry(key, kind, value):
        return string_value(key) + struct.pack("<I", kind) + value

    def text(key, value):
        return entry(key, 8, string_value(value))

    def number(key, value):
        return entry(key, 4, struct.pack("<I", value))

    def real(key, value):
        return entry(key, 6, struct.pack("<f", value))

    return [
        text("general.architecture", "llama"), text("general.name", f"synthetic {shape_name}"),
        number("general.file_type", TYPES[type_name].file_type), number("general.quantization_version", 2),
        number("llama.vocab_size", vocabulary), number("llama.context_length", 131072),
        number("llama.embedding_length", shape.hidden), number("llama.block_count", shape.layers),
        number("llama.feed_forward_length", shape.feed_forward), number("llama.attention.head_count", shape.heads),
        number("llama.attention.head_count_kv", shape.key_value_heads), number("llama.attention.key_length", shape.head_width),
        number("llama.attention.value_length", shape.head_width), number("llama.rope.dimension_count", shape.head_width),
        real("llama.attention.layer_norm_rms_epsilon", 1e-5), real("llama.rope.freq_base", 500000.0),
        text("tokenizer.ggml.model", "no_vocab"),
    ]


def tensors(shape, type_name, vocabulary):
    """(name, dimensions with the columns first, type number, bytes, what makes the bytes of one tile)."""
    def ones(name):
        size = 4 * shape.hidden
        return name, [shape.hidden], F32, size, lambda: struct.pack("<f", 1.0) * shape.hidden

    def random_matrix(name, columns, rows, block_type, spread):
        return name, [columns, rows], block_type.number, matrix_bytes(columns, rows, block_type), tile_maker(block_type, spread)

    half = TYPES["F16"]
    yield random_matrix("token_embd.weight", shape.hidden, vocabulary, half, 1.0)
    yield random_matrix("output.weight", shape.hidden, vocabulary, half, 1 / math.sqrt(shape.hidden))
    yield ones("output_norm.weight")
    for layer in range(shape.layers):
        yield ones(f"blk.{layer}.attn_norm.weight")
        yield ones(f"blk.{layer}.ffn_norm.weight")
        for name, columns, rows in matrices(shape):
            yield random_matrix(f"blk.{layer}.{name}.weight", columns, rows, TYPES[type_name], 1 / math.sqrt(columns))


TILES = {}


def tile_maker(block_type, spread):
    """Random blocks of about TILE_BYTES, made once and written repeatedly: an odd number, so that rows differ."""
    def make():
        key = (block_type.number, spread)
        if key not in TILES:
            TILES[key] = b"".join(block_type.make(spread) for _ in range(TILE_BYTES // block_type.bytes | 1))
        return TILES[key]
    return make


def write_model(path, shape_name, type_name, vocabulary):
    """Writes under a temporary name and renames: a file named `path` is always complete."""
    shape = SHAPES[shape_name]
    entries = metadata(shape_name, shape, type_name, vocabulary)
    table = list(tensors(shape, type_name, vocabulary))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(entries)) + b"".join(entries)
    offset = 0
    for name, dimensions, number, size, _ in table:
        header += string_value(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, number, offset)
        offset += size + -size % ALIGNMENT
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for _, _, _, size, make in table:
            write_tiled(file, memoryview(make()), size)
            file.write(bytes(-size % ALIGNMENT))
    os.replace(part, path)


def write_tiled(file, tile, size):
    while size > 0:
        piece = tile[:size]
        file.write(piece)
        size -= len(piece)


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] not in SHAPES or sys.argv[2] not in TYPES or not sys.argv[3].isdigit():
        sys.exit(f"{__doc__}\nSHAPE: {', '.join(SHAPES)}\nTYPE: {', '.join(TYPES)}")
    write_model(sys.argv[4], sys.argv[1], sys.argv[2], int(sys.argv[3]))
