"""Tensor values: every element type against the gguf package, and a real model against transformers."""
import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf_support import DEMO_MODEL, add_byte_tokenizer, dump, refusal, swap_rotary_halves, transformers_tensors, write_file

HIDDEN, FEED_FORWARD, HEADS, KEY_VALUE_HEADS, VOCABULARY = 256, 512, 4, 2, 300
SHAPES = {
    "token_embd.weight": (VOCABULARY, HIDDEN),
    "output_norm.weight": (HIDDEN,),
    "blk.0.attn_norm.weight": (HIDDEN,),
    "blk.0.attn_q.weight": (HIDDEN, HIDDEN),
    "blk.0.attn_k.weight": (HIDDEN // 2, HIDDEN),
    "blk.0.attn_v.weight": (HIDDEN // 2, HIDDEN),
    "blk.0.attn_output.weight": (HIDDEN, HIDDEN),
    "blk.0.ffn_norm.weight": (HIDDEN,),
    "blk.0.ffn_gate.weight": (FEED_FORWARD, HIDDEN),
    "blk.0.ffn_up.weight": (FEED_FORWARD, HIDDEN),
    "blk.0.ffn_down.weight": (HIDDEN, FEED_FORWARD),
}
HF_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
    "blk.0.attn_k.weight": "model.layers.0.self_attn.k_proj.weight",
    "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
    "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
    "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
    "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
    "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
    "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
}
BLOCK_TYPES = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K,
               Type.IQ4_NL, Type.MXFP4, Type.IQ4_XS, Type.TQ1_0, Type.TQ2_0]  # fmt: skip


def random_blocks(generator, shape, kind):
    """Any bytes are valid blocks; their scales may be infinite or NaN."""
    return generator.integers(0, 256, gguf.quant_shape_to_byte_shape(shape, kind), dtype=np.uint8)


def write_model(path, kind, make_data):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    add_byte_tokenizer(writer, VOCABULARY)
    stored = {}
    for name, shape in SHAPES.items():
        is_norm = len(shape) == 1
        stored[name] = np.ones(shape, np.float32) if is_norm else make_data(shape)
        writer.add_tensor(name, stored[name], raw_dtype=None if is_norm else kind)
    write_file(writer)
    return stored


def expected_values(stored, kind):
    for name, data in stored.items():
        values = data if data.ndim == 1 else gguf.dequantize(data, kind)
        if ".attn_q." in name:
            values = swap_rotary_halves(values, HEADS)
        if ".attn_k." in name:
            values = swap_rotary_halves(values, KEY_VALUE_HEADS)
        yield HF_NAMES[name], values


def same_bits(a, b):
    both_nan = np.isnan(a) & np.isnan(b)
    return a.shape == b.shape and bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | both_nan))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("piece", [0, 1, 7, 333])
@pytest.mark.parametrize("kind", [*BLOCK_TYPES, Type.F16, Type.BF16], ids=lambda kind: kind.name)
def test_random_bytes_of_every_type(tmp_path, kind, piece):
    generator = np.random.default_rng(kind.value)
    make_data = lambda shape: random_blocks(generator, shape, kind)  # noqa: E731
    if kind == Type.F16:
        make_data = lambda shape: generator.integers(0, 1 << 16, shape, dtype=np.uint16).view(np.float16)  # noqa: E731
    stored = write_model(tmp_path / "model.gguf", kind, make_data)
    source = dump(tmp_path / "model.gguf", tmp_path / "out", piece)
    for name, values in expected_values(stored, kind):
        assert same_bits(source.tensors[name], np.ascontiguousarray(values, np.float32)), name


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.MXFP4, Type.TQ1_0, Type.TQ2_0, Type.BF16], ids=lambda kind: kind.name)
def test_quantised_gaussians(tmp_path, kind):
    generator = np.random.default_rng(1)
    quantised = lambda shape: gguf.quantize(generator.standard_normal(shape).astype(np.float32), kind)  # noqa: E731
    stored = write_model(tmp_path / "model.gguf", kind, quantised)
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    for name, values in expected_values(stored, kind):
        assert same_bits(source.tensors[name], np.ascontiguousarray(values)), name
    assert bool(source.about["warnings"]) == (kind != Type.BF16)
    assert source.config["torch_dtype"] == ("bfloat16" if kind == Type.BF16 else "float16")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_floats(tmp_path, dtype):
    generator = np.random.default_rng(2)
    stored = write_model(tmp_path / "model.gguf", None, lambda shape: generator.standard_normal(shape).astype(dtype))
    source = dump(tmp_path / "model.gguf", tmp_path / "out", 77)
    values = source.tensors["model.layers.0.mlp.up_proj.weight"]
    assert same_bits(values, stored["blk.0.ffn_up.weight"].astype(np.float32))
    assert source.config["torch_dtype"] == "float32" and not source.about["warnings"]


@pytest.mark.parametrize("kind", [Type.IQ3_S, Type.IQ2_XXS, Type.IQ1_M], ids=lambda kind: kind.name)
def test_other_types_are_refused_by_name(tmp_path, kind):
    generator = np.random.default_rng(3)
    write_model(tmp_path / "model.gguf", kind, lambda shape: random_blocks(generator, shape, kind))
    message = refusal(tmp_path / "model.gguf", tmp_path / "out")
    assert "token_embd.weight" in message and kind.name in message


@pytest.mark.skipif(not DEMO_MODEL.is_file(), reason="the demo model is missing (scripts/get_demo_model)")
def test_real_model_as_transformers_loads_it(tmp_path):
    source = dump(DEMO_MODEL, tmp_path / "out")
    expected = transformers_tensors(DEMO_MODEL, source.folder)
    assert sorted(expected) == sorted(source.names)
    for name, tensor in expected.items():
        assert same_bits(source.tensors[name], tensor.numpy()), name
    assert source.about["license"] == "apache-2.0"
    assert "210 Q4_1" in source.about["warnings"][0]
