"""Tests of tools/reference: it keeps to docs/codec.md and docs/format.md, and the golden files are what it makes."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
sys.path[:0] = [str(ROOT / "tools" / "reference"), str(GOLDEN)]

import codec  # noqa: E402
import make_golden  # noqa: E402
import packed  # noqa: E402
import worked_example  # noqa: E402

DEPTHS = (1, 2, 3, 4)
CONFIGURATIONS = list(itertools.product(("uniform", "optimal"), DEPTHS))


def random_quantized(depth, rows, cols, seed=0):
    random = np.random.default_rng(seed)
    largest_code = (3**depth - 1) // 2
    groups = -(-cols // 16)
    codes = random.integers(-largest_code, largest_code + 1, (rows, groups * 16)).astype(np.int8)
    codes[:, cols:] = 0
    scale_codes = random.integers(0, 27, rows * groups).astype(np.uint8)
    return codec.Quantized(codes.reshape(-1, 16), scale_codes, np.sort(random.random(27, np.float32)))


def unpack(stored, *shape):
    return packed.unpack(stored["trits"], stored["scales"], stored["codebook"], shape)


# The codec


def direct_quantize_group(weights, scale, depth):
    """docs/codec.md word for word, one number at a time."""
    largest_code = np.float32((3**depth - 1) // 2)
    inverse, step = largest_code / scale, scale / largest_code
    error, codes = np.float32(0), []
    for w in weights:
        q = np.rint(max(-largest_code, min(largest_code, w * inverse)))
        d = w - q * step
        error = error + d * d
        codes.append(int(q))
    return codes, error


@pytest.mark.parametrize("depth", DEPTHS)
def test_candidates_of_uniform_by_trying_them_one_by_one(depth):
    weights = make_golden.small_matrix(make_golden.heavy, 7, 5, 160)
    groups = weights.reshape(-1, 16)
    found = codec.best_of_four(np.abs(codec.lanes_of(weights)), codec.outermost_code(depth))
    for group, scale in zip(groups, found):
        candidates = np.sort(np.abs(group))[[10, 12, 14, 15]]
        errors = [direct_quantize_group(group, candidate, depth)[1] for candidate in candidates]
        assert scale == candidates[int(np.argmin(errors))]


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_step_is_better_than_the_best_step(depth):
    largest_code = codec.outermost_code(depth)
    a = np.abs(codec.lanes_of(make_golden.small_matrix(make_golden.heavy, 8, 4, 160)))
    h = codec.emphasis(a)
    steps, _ = codec.best_steps(a, h, largest_code)

    def error(step):
        q = np.clip(np.rint(a / step), -largest_code, largest_code)
        return (h.astype(np.float64) * (a - q * step) ** 2).sum(axis=0)

    least = error(steps.astype(np.float64))
    for factor in np.geomspace(0.02, 3, 2000):
        assert (error(steps.astype(np.float64) * factor) >= least * (1 - 1e-4)).all()


def test_clusters_are_the_least_of_all_partitions(monkeypatch):
    monkeypatch.setattr(codec, "SCALES", 4)
    random = np.random.default_rng(5)
    steps, weights = np.sort(random.random(11)), random.random(11)
    W, S, Q = (np.append(0.0, np.cumsum(x)) for x in (weights, weights * steps, weights * steps * steps))

    def cost(bounds):
        return sum(np.sum(weights[i:j] * (steps[i:j] - np.average(steps[i:j], weights=weights[i:j])) ** 2) for i, j in itertools.pairwise(bounds))

    best = min(cost((0, *cuts, 11)) for cuts in itertools.combinations(range(1, 11), 3))
    assert cost(codec.best_bounds(W, S, Q).tolist()) == pytest.approx(best)


def test_runs_hold_every_step_once():
    random = np.random.default_rng(6)
    for count in (1, 27, 512, 513, 2047, 2048, 2049, 5000):
        steps, weights = random.random(count), random.random(count)
        W, S, Q = codec.gather_runs(steps, weights)
        assert len(W) == min(count, 512 + 1536)
        assert W.sum() == pytest.approx(weights.sum())
        assert Q.sum() == pytest.approx((weights * steps * steps).sum())
        assert (np.diff(S / W) >= 0).all()


@pytest.mark.parametrize(
    ("recipe", "expected"), [("uniform", (7.64, 16.77, 26.40, 34.90)), ("optimal", (7.77, 17.26, 27.28, 36.90))]
)
def test_signal_to_noise_ratio_of_a_gaussian(recipe, expected):
    matrix = np.random.default_rng(1).standard_normal((4096, 1024), np.float32)
    for depth, sqnr in zip(DEPTHS, expected):
        assert codec.statistics(matrix, codec.quantize(matrix, recipe, depth), depth)["sqnr_db"] == pytest.approx(sqnr, abs=0.03)


@pytest.mark.parametrize(("recipe", "depth"), CONFIGURATIONS)
def test_codes_are_the_nearest_levels(recipe, depth):
    matrix = make_golden.small_matrix(make_golden.sparse, 20, 33, 81)
    quantized = codec.quantize(matrix, recipe, depth)
    decoded = codec.decode(quantized, depth, 33, 81)
    step = np.repeat((quantized.codebook / codec.outermost_code(depth))[quantized.scale_codes].reshape(33, -1), 16, axis=1)[:, :81]
    outermost = np.abs(decoded) >= step * (codec.outermost_code(depth) - np.float32(0.5))
    assert (outermost | (np.abs(matrix - decoded) <= step * 0.5000001)).all()
    assert (decoded[matrix == 0] == 0).all() and not np.signbit(decoded[matrix == 0]).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 2.0**32 + 1024, -1e30])
def test_weights_out_of_range_are_refused(wrong):
    matrix = np.zeros((2, 20), np.float32)
    matrix[1, 17] = wrong
    with pytest.raises(ValueError, match="row 1, column 17"):
        codec.quantize(matrix, "uniform", 2)


def test_an_importance_of_one_everywhere_is_least_squares():
    matrix = make_golden.small_matrix(make_golden.heavy, 9, 12, 80)
    quantized = codec.quantize(matrix, "optimal", 2, np.ones(80, np.float32))
    groups = matrix.reshape(-1, 16)
    for group, scale_code in zip(groups, quantized.scale_codes):
        errors = [direct_quantize_group(group, scale, 2)[1] for scale in quantized.codebook]
        assert scale_code == int(np.argmin(errors))


def test_errors_move_to_columns_of_little_importance():
    matrix = make_golden.small_matrix(make_golden.bell, 10, 200, 80)
    importance = np.where(np.arange(80) % 2 == 0, 4, 0.25).astype(np.float32)

    def column_errors(quantized):
        return ((matrix - codec.decode(quantized, 2, 200, 80)) ** 2).sum(axis=0)

    plain = column_errors(codec.quantize(matrix, "optimal", 2))
    weighed = column_errors(codec.quantize(matrix, "optimal", 2, importance))
    assert weighed[::2].sum() < 0.97 * plain[::2].sum()
    assert weighed[1::2].sum() > plain[1::2].sum()


@pytest.mark.parametrize("wrong", [0, 2.0**-21, -1, np.nan, np.inf, 2.0**21])
def test_an_importance_out_of_bounds_is_refused(wrong):
    importance = np.ones(20, np.float32)
    importance[17] = wrong
    with pytest.raises(ValueError, match="importance"):
        codec.quantize(np.ones((2, 20), np.float32), "optimal", 2, importance)


def test_a_stack_is_its_experts_one_by_one():
    _, stack = make_golden.stack_case()
    quantized = codec.quantize(stack, "optimal", 2)
    assert quantized.codebook.shape == (3, 27)
    decoded = codec.decode(quantized, 2, 21, 50).reshape(3, 7, 50)
    for expert, matrix in enumerate(stack):
        assert (decoded[expert] == codec.decode(codec.quantize(matrix, "optimal", 2), 2, 7, 50)).all()


# The format


def test_five_trits_to_a_byte():
    assert packed.BYTE_OF_VALUE.tolist() == [-(-v * 256 // 243) for v in range(243)]
    all_trits = np.array(list(itertools.product((-1, 0, 1), repeat=5)), np.int8).T
    assert (packed.unpack_five(packed.pack_five(all_trits)) == all_trits).all()
    bad = [b for b in range(256) if -(-(b * 243 // 256) * 256 // 243) != b]
    assert len(bad) == 13
    for b in bad:
        with pytest.raises(packed.Damaged):
            packed.unpack_five(np.array([b], np.uint8))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 80), (4, 17), (5, 16), (33, 81)])
def test_decoding_undoes_encoding(depth, rows, cols):
    quantized = random_quantized(depth, rows, cols)
    back = unpack(packed.encode(quantized, depth), rows, cols)
    assert (back.codes == quantized.codes).all()
    assert (back.scale_codes == quantized.scale_codes).all()


def test_a_stack_has_a_codebook_for_each_expert_or_one_for_all():
    _, stack = make_golden.stack_case()
    stored = packed.encode(codec.quantize(stack, "optimal", 2), 2)
    parts = stored["trits"], stored["scales"]
    assert (packed.decode_matrix(*parts, stored["codebook"], (3, 7, 50)) == packed.decode_matrix(**stored, shape=(3, 7, 50))).all()
    shared = packed.decode_matrix(*parts, stored["codebook"][0], (3, 7, 50))
    assert (shared == packed.decode_matrix(*parts, stored["codebook"][0], (21, 50)).reshape(3, 7, 50)).all()
    for codebook, shape in ((stored["codebook"], (21, 50)), (stored["codebook"][:2], (3, 7, 50)), (stored["codebook"][:, :26], (3, 7, 50))):
        with pytest.raises(packed.Damaged, match="codebook"):
            packed.unpack(*parts, codebook, shape)


@pytest.mark.parametrize("depth", (2, 3, 4))
def test_the_first_planes_are_a_matrix_of_less_depth(depth):
    quantized = random_quantized(depth, 7, 50)
    stored = packed.encode(quantized, depth)
    for k in range(1, depth):
        codes = unpack(stored | {"trits": stored["trits"][:k]}, 7, 50).codes
        assert (codes == np.rint(quantized.codes / 3 ** (depth - k))).all()


def damage_byte(stored):
    stored["trits"][1, 0, 3] = 20


def damage_scale_byte(stored):
    stored["scales"][0, 2] = 79


def fill_padding(stored):
    stored["trits"][0, 0, 15] = packed.BYTE_OF_VALUE[121 + 3]  # group 1 of the line has 4 weights


def fill_last_group(stored):
    stored["scales"][0, 0] = packed.BYTE_OF_VALUE[81 + int(np.searchsorted(packed.BYTE_OF_VALUE, stored["scales"][0, 0]))]


def negative_scale(stored):
    stored["codebook"][0] = -1


def negative_zero_scale(stored):
    stored["codebook"][0] = -0.0


def nan_scale(stored):
    stored["codebook"][26] = np.nan


def large_scale(stored):
    stored["codebook"][26] = np.nextafter(np.float32(2**32), np.float32(np.inf))


def descending_scales(stored):
    stored["codebook"][3] = 6


def too_few_lines(stored):
    stored["trits"] = stored["trits"][:, :0]


def too_deep(stored):
    stored["trits"] = np.concatenate([stored["trits"]] * 3)


def other_type(stored):
    stored["scales"] = stored["scales"].view(np.int8)


DAMAGES = [
    (damage_byte, "byte"), (damage_scale_byte, "byte"), (fill_padding, "padding"), (fill_last_group, "filler"), (negative_scale, "negative"),
    (negative_zero_scale, "negative"), (nan_scale, "NaN"), (large_scale, r"2\^32"), (descending_scales, "ascend"),
    (too_few_lines, "shape"), (too_deep, "lines, 16"), (other_type, "U8"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[d.__name__ for d, _ in DAMAGES])
def test_damaged_bytes_are_refused(damage, message):
    stored = {name: array.copy() for name, array in packed.encode(worked_example.EXAMPLE, worked_example.DEPTH).items()}
    unpack(stored, worked_example.ROWS, worked_example.COLS)
    damage(stored)
    with pytest.raises(packed.Damaged, match=message):
        unpack(stored, worked_example.ROWS, worked_example.COLS)


def test_worked_example_of_the_page():
    assert worked_example.worked_example() in (ROOT / "docs" / "format.md").read_text(encoding="utf-8")


# Folders


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A packed folder and the FP16 folder that belongs to it; the checksums are left out."""
    monkeypatch.setattr(packed, "xxhash", None)
    matrix = make_golden.small_matrix(make_golden.bell, 1, 6, 40)
    quantized = codec.quantize(matrix, "optimal", 3)
    stored = {f"m.{part}": array for part, array in packed.encode(quantized, 3).items()} | {"norm": np.ones(4, np.float16)}
    (tmp_path / "packed").mkdir()
    (tmp_path / "model").mkdir()
    weights = "trits-00001-of-00001.safetensors"
    save_file(stored, tmp_path / "packed" / weights, {"format": "tritllm", "format_version": "1"})
    decoded = codec.decode(quantized, 3, 6, 40).reshape(2, 3, 40).astype(np.float16)
    save_file({"m": decoded, "norm": np.ones(4, np.float16)}, tmp_path / "model" / "model.safetensors")
    blank = "0" * 32
    tensors = [
        {"name": "m", "shape": [2, 3, 40], "fate": "ternary", "depth": 3, "file": weights, "checksum": blank},
        {"name": "norm", "shape": [4], "fate": "kept", "type": "F16", "file": weights, "checksum": blank},
        {"name": "head", "shape": [4], "fate": "tied", "tied_to": "norm"},
    ]
    manifest = {"format": "tritllm-packed", "format_version": 1, "tensors": tensors, "files": [], "checksum": blank}
    quantization = {"quant_method": "tritllm", "format_version": 1, "group_size": 16, "recipe": "optimal-d3", "depths": {"m": 3}}
    documents = {
        "tritllm.json": manifest,
        "config.json": {"quantization_config": quantization},
        "trits.safetensors.index.json": {"metadata": {}, "weight_map": dict.fromkeys(stored, weights)},
    }
    for name, document in documents.items():
        (tmp_path / "packed" / name).write_text(json.dumps(document, indent=2) + "\n")
    return tmp_path / "packed", tmp_path / "model"


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2) + "\n")


def test_a_packed_folder_equals_its_fp16_folder(folders):
    packed_folder, model_folder = folders
    assert packed.compare(packed.PackedFolder(packed_folder), model_folder) == ({"ternary": 1, "kept": 1}, [])


def test_a_different_weight_is_found(folders):
    packed_folder, model_folder = folders
    tensors = {name: array.copy() for name, array in load_file(model_folder / "model.safetensors").items()}
    tensors["m"].view(np.uint16)[1, 2, 39] ^= 1
    save_file(tensors, model_folder / "model.safetensors")
    assert packed.compare(packed.PackedFolder(packed_folder), model_folder)[1] == ["m"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda d: d["quantization_config"].update(group_size=32), "group_size"),
        ("config.json", lambda d: d["quantization_config"].update(depths={"m": 2}), "depths"),
        ("tritllm.json", lambda d: d.update(format="other"), "unknown format"),
        ("tritllm.json", lambda d: d.update(more=1), "checksum"),
        ("tritllm.json", lambda d: d["tensors"].pop(1), "different tensors"),
        ("trits.safetensors.index.json", lambda d: d["weight_map"].pop("norm"), "different tensors"),
    ],
)
def test_documents_that_disagree_are_refused(folders, name, change, message):
    edit(folders[0] / name, change)
    with pytest.raises(packed.Damaged, match=message):
        packed.PackedFolder(folders[0])


def test_checksum_is_verified(folders, monkeypatch):
    monkeypatch.setattr(packed, "xxhash", pytest.importorskip("xxhash"))
    with pytest.raises(packed.Damaged, match="checksum"):
        packed.PackedFolder(folders[0])
    path = folders[0] / "tritllm.json"
    before = path.read_bytes().rsplit(b'  "checksum"', 1)[0]
    path.write_bytes(before + f'  "checksum": "{packed.xxhash.xxh3_128_hexdigest(before)}"\n}}\n'.encode())
    opened = packed.PackedFolder(folders[0])
    with pytest.raises(packed.Damaged, match="m does not match its checksum"):
        next(iter(opened))


# Golden files


GOLDEN_CASES = [*make_golden.small_cases(), make_golden.importance_case(), make_golden.stack_case()]


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case[0])
def test_golden_file_is_what_the_reference_makes(case):
    name, *inputs = case
    golden, made = load_file(GOLDEN / f"{name}.safetensors"), make_golden.tensors_of(*inputs)
    assert golden.keys() == made.keys()
    for part, array in golden.items():
        assert (array.dtype, array.shape, array.tobytes()) == (made[part].dtype, made[part].shape, made[part].tobytes()), part


def test_large_golden_matrices():
    golden = json.loads((GOLDEN / "codec_large.json").read_text())
    for expected, (case, matrix) in zip(golden, make_golden.large_cases(), strict=True):
        assert case.items() <= expected.items()
        digests = make_golden.digests_of(matrix, make_golden.sha256)
        assert digests == {name: both["sha256"] for name, both in expected["digests"].items()}
