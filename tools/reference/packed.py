"""The packed format of docs/format.md in numpy: codes to bytes and back, and a reader of packed folders that refuses what the page forbids.

Owns bytes, folders and their checks. Does not own how weights become codes: see codec.py. The order is that of the page.

    python tools/reference/packed.py PACKED_DIR --compare MODEL_DIR

decodes every tensor of a packed folder and compares it, bit for bit, with the FP16 folder.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

try:
    import xxhash
except ImportError:  # Everything but the checksums is checked without it.
    xxhash = None

from codec import GROUP, LARGEST_WEIGHT, SCALES, Quantized, decode

GROUPS_OF_A_LINE = 5
POWERS = np.array([1, 3, 9, 27, 81])


class Damaged(Exception):
    """What was read is not what docs/format.md allows."""


def require(condition, message):
    if not condition:
        raise Damaged(message)


# Five trits to a byte

BYTE_OF_VALUE = ((np.arange(243) * 256 + 242) // 243).astype(np.uint8)
IS_BYTE = np.isin(np.arange(256), BYTE_OF_VALUE)


def pack_five(trits):
    """Trits [..., 5, n] to bytes [..., n]."""
    return BYTE_OF_VALUE[((trits + 1) * POWERS[:, None]).sum(axis=-2)]


def unpack_five(packed):
    """Bytes [..., n] to trits [..., 5, n]."""
    bad = ~IS_BYTE[packed]
    require(not bad.any(), f"byte {packed[bad].ravel()[:1]} does not hold five trits")
    trits = np.empty(packed.shape[:-1] + (5,) + packed.shape[-1:], np.int8)
    rest = packed.astype(np.uint16)
    for digit in (4, 3, 2, 1, 0):
        product = 3 * rest
        trits[..., digit, :] = (product >> 8).astype(np.int8) - 1
        rest = product & 255
    return trits


# Lines


def split_trits(numbers, count):
    """Whole numbers to balanced trits, the most significant first, on a new first axis."""
    trits = np.empty((count,) + numbers.shape, np.int8)
    rest = numbers.astype(np.int16)
    for place in reversed(range(count)):
        trits[place] = (rest + 1) % 3 - 1
        rest = (rest - trits[place]) // 3
    return trits


def join_trits(trits):
    numbers = np.zeros(trits.shape[1:], np.int8)
    for plane in trits:
        numbers = 3 * numbers + plane
    return numbers


def encode(quantized, depth):
    """The bytes of a matrix: trits uint8 [depth, lines, 16], scales uint8 [lines, 3], codebook float32 [27] or [experts, 27]."""
    filler = -len(quantized.scale_codes) % GROUPS_OF_A_LINE
    codes = np.pad(quantized.codes, ((0, filler), (0, 0))).reshape(-1, GROUPS_OF_A_LINE, GROUP)
    scale_codes = np.pad(quantized.scale_codes, (0, filler)).reshape(-1, GROUPS_OF_A_LINE, 1)
    scale_trits = split_trits(scale_codes.astype(np.int16) - 13, 3)
    return {
        "trits": pack_five(split_trits(codes, depth)),
        "scales": np.ascontiguousarray(pack_five(scale_trits)[..., 0].T),
        "codebook": quantized.codebook,
    }


def unpack(trits, scales, codebook, shape):
    """The codes, scale codes and codebook of a matrix [rows, cols] or stack [experts, rows, cols], after all checks of its bytes."""
    *outer, cols = shape
    rows = int(np.prod(outer))
    require(rows > 0 and cols > 0, "a matrix without weights")
    groups = rows * -(-cols // GROUP)
    lines = -(-groups // GROUPS_OF_A_LINE)
    require(trits.dtype == np.uint8 and trits.ndim == 3 and 1 <= trits.shape[0] <= 4, "trits are not U8 [1..4, lines, 16]")
    require(trits.shape[1:] == (lines, GROUP), f"trits have shape {trits.shape}, expected {lines} lines of 16 bytes")
    require(scales.dtype == np.uint8 and scales.shape == (lines, 3), f"scales are not U8 [{lines}, 3]")
    of_experts = (shape[0], SCALES) if len(shape) == 3 else None
    require(codebook.dtype == np.float32 and codebook.shape in ((SCALES,), of_experts), "the codebook is not F32 [27] or [experts, 27]")
    in_range = ~np.signbit(codebook) & (codebook <= LARGEST_WEIGHT)  # NaN compares false
    require(in_range.all(), "a scale of the codebook is negative, above 2^32 or NaN")
    require((np.diff(codebook) >= 0).all(), "the codebook does not ascend")

    codes = join_trits(unpack_five(trits)).reshape(-1, GROUP)
    scale_codes = (join_trits(unpack_five(scales.T[:, :, None])).ravel() + 13).astype(np.uint8)
    require(not codes[groups:].any() and not scale_codes[groups:].any(), "a filler group of the last line is not zero")
    codes, scale_codes = codes[:groups], scale_codes[:groups]
    require(not codes.reshape(rows, -1)[:, cols:].any(), "a padding weight has a code other than 0")
    return Quantized(codes, scale_codes, codebook)


def decode_matrix(trits, scales, codebook, shape):
    rows = int(np.prod(shape[:-1]))
    return decode(unpack(trits, scales, codebook, shape), trits.shape[0], rows, shape[-1]).reshape(shape)


# Folders


class PackedFolder:
    """A packed folder whose index, configuration, manifest and weight files agree; iterate for (record, tensor)."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.weight_map = self.read_json("trits.safetensors.index.json")["weight_map"]
        self.depths = self.read_configuration()
        self.tensors = self.read_manifest()
        self.check_weight_files()

    def read_json(self, name):
        return json.loads((self.folder / name).read_bytes())

    def read_configuration(self):
        quantization = self.read_json("config.json")["quantization_config"]
        for field, expected in {"quant_method": "tritllm", "format_version": 1, "group_size": GROUP}.items():
            require(quantization[field] == expected, f"config.json: {field} is {quantization[field]}, expected {expected}")
        return quantization["depths"]

    def read_manifest(self):
        content = (self.folder / "tritllm.json").read_bytes()
        last = re.search(rb'  "checksum": "([0-9a-f]{32})"\n}\n\Z', content)
        require(last, "tritllm.json does not end with its checksum")
        require(checksum_is(last[1].decode(), content[: last.start()]), "tritllm.json does not match its checksum")
        manifest = json.loads(content)
        require(manifest["format"] == "tritllm-packed" and manifest["format_version"] == 1, "tritllm.json: unknown format")
        for file in manifest["files"]:
            data = np.memmap(self.folder / file["name"], np.uint8, "r") if file["bytes"] else b""
            require(len(data) == file["bytes"], f"{file['name']}: size differs from the manifest's")
            require(checksum_is(file["checksum"], data), f"{file['name']} does not match its checksum")
        ternary = {t["name"]: t["depth"] for t in manifest["tensors"] if t["fate"] == "ternary"}
        require(ternary == self.depths, "tritllm.json and config.json name different matrices or depths")
        return manifest["tensors"]

    def check_weight_files(self):
        listed = {part: t["file"] for t in self.tensors for part in stored_names(t)}
        require(listed == self.weight_map, "tritllm.json and the index name different tensors or files")
        held = {}
        for name in sorted(set(self.weight_map.values())):
            with safe_open(self.folder / name, "numpy") as file:
                require(file.metadata() == {"format": "tritllm", "format_version": "1"}, f"{name}: unknown metadata")
                held |= {tensor: name for tensor in file.keys()}
        require(held == self.weight_map, "the weight files hold other tensors than the index lists")

    def __iter__(self):
        for record in self.tensors:
            if record["fate"] == "tied":
                continue
            with safe_open(self.folder / record["file"], "numpy") as file:
                parts = [file.get_tensor(name) for name in stored_names(record)]
            stored = b"".join(part.tobytes() for part in parts)
            require(checksum_is(record["checksum"], stored), f"{record['name']} does not match its checksum")
            yield record, self.decode_record(record, parts)

    def decode_record(self, record, parts):
        if record["fate"] == "kept":
            return parts[0]
        name = record["name"]
        require(parts[0].shape[0] == record["depth"], f"{name}: the trits have another depth than the manifest says")
        try:
            return decode_matrix(*parts, tuple(record["shape"]))
        except Damaged as damage:
            raise Damaged(f"{name}: {damage}") from None


def stored_names(record):
    name = record["name"]
    parts = {"ternary": [f"{name}.trits", f"{name}.scales", f"{name}.codebook"], "kept": [name], "tied": []}
    return parts[record["fate"]]


def checksum_is(expected, data):
    return xxhash is None or xxhash.xxh3_128_hexdigest(data) == expected


# Comparison with the FP16 folder


def compare(packed, model_folder):
    """The number of tensors of each fate, and the names of those that differ from the FP16 folder's."""
    where = {}
    for path in sorted(Path(model_folder).glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            where |= dict.fromkeys(file.keys(), path)
    counts, different = {"ternary": 0, "kept": 0}, []
    for record, tensor in packed:
        name = record["name"]
        counts[record["fate"]] += 1
        expected = None
        if name in where:
            with safe_open(where[name], "numpy") as file:
                expected = file.get_tensor(name)
        found = tensor.astype(np.float16) if record["fate"] == "ternary" else tensor
        if expected is None or (found.dtype, found.shape, found.tobytes()) != (expected.dtype, expected.shape, expected.tobytes()):
            different.append(name)
    return counts, different


def main():
    parser = argparse.ArgumentParser(description="Decode a packed folder and check every byte of it.")
    parser.add_argument("packed")
    parser.add_argument("--compare", metavar="MODEL_DIR", help="the FP16 folder that must hold the same tensors")
    arguments = parser.parse_args()
    if xxhash is None:
        print("package xxhash is missing: checksums are not verified", file=sys.stderr)
    try:
        packed = PackedFolder(arguments.packed)
        if arguments.compare is None:
            print(f"{sum(1 for _ in packed)} tensors decoded")
            return 0
        counts, different = compare(packed, arguments.compare)
    except (Damaged, KeyError, OSError, ValueError) as error:
        print(f"error: {arguments.packed}: {error}", file=sys.stderr)
        return 1
    for name in different:
        print(f"differs: {name}")
    print(f"{counts['ternary']} ternary and {counts['kept']} kept tensors compared, {len(different)} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
