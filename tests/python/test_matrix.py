"""Single matrices: codec and format against the numpy twin (tools/reference), products against numpy's."""

import numpy as np
import pytest
import tritllm
from codec import quantize  # tools/reference
from packed import decode_matrix, encode

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("config", ["uniform-d1", "uniform-d3", "optimal-d1", "optimal-d2", "optimal-d4"])
@pytest.mark.parametrize("shape", [(7, 80), (33, 17), (1, 1), (64, 256)])
def test_bytes_are_the_numpy_twins(config, shape):
    weights = RNG.standard_t(5, shape).astype(np.float32)
    recipe, depth = config.split("-d")
    matrix = tritllm.TernaryMatrix.quantize(weights, config)
    expected = encode(quantize(weights, recipe, int(depth)), int(depth))
    for part in ("trits", "scales", "codebook"):
        np.testing.assert_array_equal(getattr(matrix, part), expected[part])
    decoded = decode_matrix(matrix.trits, matrix.scales, matrix.codebook, shape)
    np.testing.assert_array_equal(matrix.dequantize(), decoded)
    assert matrix.depth == int(depth) and matrix.shape == shape


def test_a_matrix_of_a_folder(folders):
    name = "model.layers.3.mlp.down_proj.weight"
    matrix = tritllm.TernaryMatrix.load(folders["packed"], name)
    assert isinstance(matrix.trits, np.memmap)
    safetensors = pytest.importorskip("safetensors.numpy")
    half = safetensors.load_file(folders["half"] / "model.safetensors")[name]
    np.testing.assert_array_equal(matrix.dequantize().astype(np.float16), half)
    for missing in ("model.norm.weight", "nothing"):
        with pytest.raises(FileNotFoundError):
            tritllm.TernaryMatrix.load(folders["packed"], missing)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_products_are_numpys(depth):
    matrix = tritllm.TernaryMatrix.quantize(RNG.standard_normal((150, 96)), f"optimal-d{depth}")
    x = RNG.standard_normal((3, 5, 96)).astype(np.float32)
    expected = x.astype(np.float64) @ matrix.dequantize().astype(np.float64).T
    exact, fast = matrix.multiply(x, "f32"), matrix.multiply(x)
    assert exact.shape == fast.shape == (3, 5, 150) and exact.dtype == np.float32
    np.testing.assert_allclose(exact, expected, atol=2e-4 * np.abs(expected).max())
    error = np.linalg.norm(fast - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.01
    np.testing.assert_array_equal(matrix.multiply(x[1, 2]), fast[1, 2])


def test_arrays_of_other_kinds():
    weights = RNG.standard_normal((8, 64))
    expected = tritllm.TernaryMatrix.quantize(weights.astype(np.float32))
    for same in (weights, np.asfortranarray(weights), weights.tolist()):
        np.testing.assert_array_equal(tritllm.TernaryMatrix.quantize(same).trits, expected.trits)
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(weights, dtype=torch.float32)
    np.testing.assert_array_equal(tritllm.TernaryMatrix.quantize(tensor).trits, expected.trits)


def test_hostile_input():
    good = tritllm.TernaryMatrix.quantize(RNG.standard_normal((5, 32)))
    for weights in (np.full((2, 16), np.nan), np.full((2, 16), np.inf), np.zeros((2, 2, 2)), np.zeros((0, 4))):
        with pytest.raises(tritllm.InvalidInputError):
            tritllm.TernaryMatrix.quantize(weights)
    for config in ("optimal-d5", "exact", "", "best"):
        with pytest.raises(tritllm.InvalidInputError):
            tritllm.TernaryMatrix.quantize(np.ones((2, 16)), config)
    bad_trits, bad_codebook = good.trits.copy(), good.codebook.copy()
    bad_trits[0, 0, 0] = 1  # no five trits make this byte
    bad_codebook[3] = -1
    for trits, scales, codebook, shape in (
            (bad_trits, good.scales, good.codebook, (5, 32)), (good.trits, good.scales, bad_codebook, (5, 32)),
            (good.trits[:, :1], good.scales, good.codebook, (5, 32)), (good.trits, good.scales[:1], good.codebook, (5, 32)),
            (good.trits, good.scales, good.codebook[:26], (5, 32)), (good.trits, good.scales, good.codebook, (50, 32)),
            (good.trits, good.scales, good.codebook, (2**31, 2**31)), (good.trits, good.scales, good.codebook, (0, 0))):
        arrays = (np.ascontiguousarray(array) for array in (trits, scales, codebook))
        with pytest.raises(tritllm.InvalidInputError):
            tritllm.TernaryMatrix(*arrays, shape=shape).dequantize()
    for x in (np.zeros(31), np.zeros((2, 33)), np.float32(1)):
        with pytest.raises(tritllm.InvalidInputError):
            good.multiply(x)
    with pytest.raises(tritllm.InvalidInputError):
        good.multiply(np.zeros(32), "f64")


def test_threads_change_nothing():
    weights, x = RNG.standard_normal((200, 128)), RNG.standard_normal((4, 128))
    found = []
    for threads in (1, 2, 0):
        tritllm.set_threads(threads)
        matrix = tritllm.TernaryMatrix.quantize(weights)
        found.append((matrix.trits.tobytes(), matrix.multiply(x).tobytes()))
    assert found[0] == found[1] == found[2]


