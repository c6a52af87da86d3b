"""The safetensors package as oracle: it reads what tritllm writes, tritllm reads what it writes, and tritllm accepts nothing that it refuses."""
import json
import os
import random
import struct
import subprocess

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

PROBE = os.environ["TRITLLM_SAFETENSORS_PROBE"]
ITEM_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
INDEX = {"plain": "model.safetensors.index.json", "packed": "trits.safetensors.index.json"}
METADATA = {"plain": {"format": "pt"}, "packed": {"format": "tritllm", "format_version": "1"}}


def probe(*arguments):
    done = subprocess.run([PROBE, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def read(paths, folder):
    (folder / "list").write_text("".join(f"{path}\n" for path in paths))
    probe("read", folder / "list", folder / "answers")
    return [json.loads(line) for line in (folder / "answers").read_text().splitlines()]


def header_of(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return 8 + length, json.loads(content[8 : 8 + length])


def tensor_of(name, dtype, shape, source):
    return {"name": name, "dtype": dtype, "shape": shape, "hex": source.randbytes(int(np.prod(shape)) * ITEM_BYTES[dtype]).hex()}


def units_to_write():
    source = random.Random(1)
    units = [[tensor_of(f"of {dtype}", dtype, shape, source)] for dtype in ITEM_BYTES for shape in ([3], [5, 7], []) if shape]
    units = [[tensor | {"name": f"{tensor['name']} {tensor['shape']}"} for tensor in unit] for unit in units]
    units += [[tensor_of("scalar", "F32", [], source)], [tensor_of("nothing", "F16", [0, 4], source)], [tensor_of("quoted \"é\"\\", "U8", [1], source)]]
    matrix = [tensor_of("m.trits", "U8", [2, 3, 16], source), tensor_of("m.scales", "U8", [3, 3], source), tensor_of("m.codebook", "F32", [27], source)]
    return units + [matrix]


@pytest.mark.parametrize("naming", ["plain", "packed"])
@pytest.mark.parametrize("largest_shard", [200, 10**9])
def test_folders_are_read_by_safetensors(tmp_path, naming, largest_shard):
    units = units_to_write()
    (tmp_path / "spec").write_text(json.dumps({"naming": naming, "largest_shard": largest_shard, "units": units}))
    folder = tmp_path / "out"
    probe("write", tmp_path / "spec", folder)
    files = sorted(folder.glob("*.safetensors"))
    assert (len(files) > 3) == (largest_shard == 200)

    expected = {tensor["name"]: tensor for unit in units for tensor in unit}
    held = {}
    for path in files:
        start, header = header_of(path)
        assert start % 64 == 0
        assert header.pop("__metadata__") == METADATA[naming]
        sizes = [ITEM_BYTES[entry["dtype"]] for entry in header.values()]
        assert sizes == sorted(sizes, reverse=True), "largest elements first"
        offsets = [entry["data_offsets"][0] for entry in header.values()]
        assert offsets == sorted(offsets), "the header lists tensors in the order of their data"
        for entry in header.values():
            assert (start + entry["data_offsets"][0]) % ITEM_BYTES[entry["dtype"]] == 0
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensor, want = file.get_tensor(name), expected[name]
                assert list(tensor.shape) == want["shape"]
                assert tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes().hex() == want["hex"], name
                assert file.get_slice(name).get_dtype() == want["dtype"]
                held[name] = path.name
        data = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values())
        assert data <= largest_shard or len({name.split(".")[0] for name in header}) == 1
    assert held.keys() == expected.keys()
    if len(files) == 1 and naming == "plain":
        assert not (folder / INDEX[naming]).exists()
    else:
        index = json.loads((folder / INDEX[naming]).read_text())
        assert index["weight_map"] == held
        assert index["metadata"]["total_size"] == sum(len(tensor["hex"]) // 2 for tensor in expected.values())


TORCH_TYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
}  # fmt: skip


def oracle_file(path):
    tensors = {f"{name}.{'x'.join(map(str, shape))}": torch.zeros(shape).to(dtype) for name, dtype in TORCH_TYPES.items() for shape in ((), (3,), (2, 5), (0, 2))}
    save_file(tensors, path, {"format": "pt", "more": "text é"})
    return tensors


def test_files_of_safetensors_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = oracle_file(path)
    start, header = header_of(path)
    (answer,) = read([path], tmp_path)
    assert answer["metadata"] == header.pop("__metadata__")
    found = {tensor["name"]: tensor for tensor in answer["tensors"]}
    assert found.keys() == tensors.keys()
    for name, entry in header.items():
        assert found[name]["dtype"] == entry["dtype"]
        assert found[name]["shape"] == entry["shape"]
        assert found[name]["offset"] == start + entry["data_offsets"][0]
        assert found[name]["bytes"] == entry["data_offsets"][1] - entry["data_offsets"][0]


def mutated(content, source):
    """The file with some bytes changed, mostly in the header, or with its text edited, or cut."""
    content = bytearray(content)
    start = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        kind = source.randrange(6)
        at = source.randrange(start)
        if kind == 0:
            content[at] = source.randrange(256)
        elif kind == 1:
            digits = [i for i in range(8, start) if chr(content[i]).isdigit()]
            content[source.choice(digits or [at])] = ord(source.choice("0123456789"))
        elif kind == 2:
            del content[source.randrange(len(content)) :]
        elif kind == 3:
            content += bytes(source.randrange(1, 9))
        elif kind == 4:
            content[at] = ord(source.choice('{}[]",:-. 0aE\\'))
        else:
            content[:8] = struct.pack("<Q", source.choice((start - 8 + source.randrange(-9, 10), 0, 2**63, 10**8 + 1)) % 2**64)
        if len(content) < 9:
            break
        start = min(start, len(content))
    return bytes(content)


def test_nothing_is_accepted_that_safetensors_refuses(tmp_path):
    """Random damage: tritllm may be stricter, never laxer, and where both accept they see the same tensors."""
    source = random.Random(7)
    base = tmp_path / "base.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(5, dtype=torch.int8), "c.weight": torch.ones(2, 2, dtype=torch.bfloat16)}, base, {"format": "pt"})
    paths = []
    for i in range(1500):
        paths.append(tmp_path / f"{i}.safetensors")
        paths[-1].write_bytes(mutated(base.read_bytes(), source))
    accepted = 0
    for path, answer in zip(paths, read(paths, tmp_path), strict=True):
        if "error" in answer:
            assert str(path) in answer["error"]
            continue
        accepted += 1
        try:
            with safe_open(path, "pt") as file:
                seen = {name: (file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()) for name in file.keys()}
                metadata = file.metadata() or {}
        except SafetensorError as error:
            pytest.fail(f"{path.read_bytes()[:400]} is accepted, but: {error}")
        assert {tensor["name"]: (tensor["dtype"], tensor["shape"]) for tensor in answer["tensors"]} == seen
        assert answer["metadata"] == metadata
    assert accepted > 20, "too few mutations survive for the comparison to mean anything"
