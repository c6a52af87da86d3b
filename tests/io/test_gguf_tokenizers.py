"""Tokenizers: the ids must be those of the tokenizer that the file was made from, loaded by transformers or by tokenizers."""
import argparse
import inspect
import io
import json
import random
import textwrap

import gguf
import numpy as np
import pytest
import sentencepiece
from gguf import TokenType
from gguf_support import DEMO_MODEL, add_byte_tokenizer, byte_alphabet, dump, refusal, write_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

CORPUS = [inspect.getsource(module) for module in (argparse, textwrap, json.decoder, random)]
TEXTS = [
    "",
    " ",
    "Hello world",
    " leading and trailing ",
    "two  spaces   three\ttab\n\nnewlines\r\n end   ",
    "The year 2024, 1234567 things; 3.14159 and 00:12",
    "don't WE'LL they'Re I'm",
    "naïve café – “quotes” … €5",
    "e\u0301 cafe\u0301 A\u030a ﬁ ½ ²",
    "日本語のテキスト 中文 한국어 العربية עברית ไทย हिन्दी",
    "emoji 🙂👩‍👩‍👧‍👦 flags 🇫🇷",
    "def f(x):\n    return x**2  # comment\n\n\n",
    "<|im_start|>user\nHi<|im_end|>\n<|begin|>x<|end|> <|begin|> y",
    "a<|begin|>  b <tool_call> c<tool_call>d",
    "x\u00a0y\u2003z\u200b\u0000\u0007",
    "▁literal▁mark",
    *CORPUS[1].split("\n\n")[:40],
]


def write_model(path, vocabulary, add_tokenizer, architecture="llama"):
    """A file with a tokenizer and the smallest model that goes with it."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer)
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    norms = ["attn_norm", "ffn_norm"]
    if architecture == "gemma3":
        norms += ["post_attention_norm", "post_ffw_norm"]
    shapes = {f"blk.0.{name}.weight": (8, 8) for name in matrices} | {f"blk.0.{name}.weight": (8,) for name in norms}
    if architecture == "gemma3":
        shapes |= {"blk.0.attn_q_norm.weight": (4,), "blk.0.attn_k_norm.weight": (4,)}
    if architecture == "qwen2":
        shapes |= {f"blk.0.attn_{part}.bias": (8,) for part in "qkv"}
    shapes |= {"token_embd.weight": (vocabulary, 8), "output_norm.weight": (8,)}
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    write_file(writer)


def byte_level_original(split, *, digits=False, composes=False, ignores_merges=False):
    """A trained tokenizer as the families publish theirs, with two special tokens and a plain added one."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignores_merges))
    parts = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if split:
        parts.append(pre_tokenizers.Split(Regex(split), behavior="isolated"))
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    if composes:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=byte_alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS + TEXTS, trainer)
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False)])
    return tokenizer


def add_byte_level(writer, original, pre):
    model = json.loads(original.to_str())["model"]
    size = original.get_vocab_size()
    tokens = [original.id_to_token(i) for i in range(size)]
    kinds = [TokenType.NORMAL] * (size - 3) + [TokenType.CONTROL] * 2 + [TokenType.USER_DEFINED]
    fillers = [f"[PAD{i}]" for i in range(size, size + 5)]
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens + fillers)
    writer.add_token_types(kinds + [TokenType.UNUSED] * 5)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(original.token_to_id("<|begin|>"))
    writer.add_eos_token_id(original.token_to_id("<|end|>"))
    return size + 5


LLAMA3 = GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"]
QWEN2 = GGUF_PRE_TOKENIZER_SPLITS["qwen2"]
TEKKEN = GGUF_PRE_TOKENIZER_SPLITS["tekken"]
BYTE_LEVEL = {
    "gpt-2": ("llama", byte_level_original("")),
    "smollm": ("llama", byte_level_original("", digits=True)),
    "starcoder": ("llama", byte_level_original("", digits=True)),
    "refact": ("llama", byte_level_original("", digits=True)),
    "llama-bpe": ("llama", byte_level_original(LLAMA3, ignores_merges=True)),
    "tekken": ("llama", byte_level_original(TEKKEN, ignores_merges=True)),
    "qwen2": ("qwen2", byte_level_original(QWEN2, composes=True)),
    "deepseek-r1-qwen": ("qwen2", byte_level_original(QWEN2, composes=True)),
    "": ("llama", byte_level_original("")),
}


@pytest.mark.parametrize("pre", BYTE_LEVEL)
def test_byte_level_ids_are_the_originals(tmp_path, pre):
    architecture, original = BYTE_LEVEL[pre]
    size = original.get_vocab_size() + 5
    write_model(tmp_path / "model.gguf", size, lambda writer: add_byte_level(writer, original, pre), architecture)
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    raw = Tokenizer.from_file(str(source.folder / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(source.folder)
    begins = [original.token_to_id("<|begin|>")] if pre in ("llama-bpe", "tekken") else []
    for text in TEXTS:
        expected = original.encode(text).ids
        assert raw.encode(text, add_special_tokens=False).ids == expected, text
        assert raw.encode(text).ids == begins + expected, text
        assert loaded.encode(text, add_special_tokens=False) == expected, text
        assert loaded.encode(text) == begins + expected, text
        assert raw.decode(expected, skip_special_tokens=False) == original.decode(expected, skip_special_tokens=False)
    assert raw.get_vocab() == original.get_vocab()
    assert len(source.about["warnings"]) == (pre == "")


@pytest.mark.skipif(not DEMO_MODEL.is_file(), reason="the demo model is missing (scripts/get_demo_model)")
def test_real_tokenizer(tmp_path):
    source = dump(DEMO_MODEL, tmp_path / "out")
    loaded = AutoTokenizer.from_pretrained(source.folder)
    converted = AutoTokenizer.from_pretrained(DEMO_MODEL.parent, gguf_file=DEMO_MODEL.name)
    # transformers' conversion leaves out that SmolLM2 splits digits.
    converted.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    for text in TEXTS:
        assert loaded.encode(text) == converted.encode(text), text
        assert loaded.decode(loaded.encode(text)) == text
    assert loaded.encode("In 2024") == loaded.encode("In") + loaded.encode(" ") + [loaded.encode(d)[0] for d in "2024"]
    messages = [{"role": "user", "content": "Hi"}]
    prompt = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == converted.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert loaded.special_tokens_map == converted.special_tokens_map
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, 2, 2)


def train_sentencepiece(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS + TEXTS for line in text.split("\n") if "\0" not in line),
        model_writer=model,
        model_type="bpe",
        vocab_size=1500,
        character_coverage=0.98,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def add_sentencepiece(writer, original, gemma):
    tokens, scores, kinds = [], [], []
    for i in range(original.vocab_size()):
        piece, kind = original.id_to_piece(i), TokenType.NORMAL
        if original.is_unknown(i):
            kind = TokenType.UNKNOWN
        elif original.is_control(i):
            kind = TokenType.CONTROL
        elif original.is_byte(i):
            kind = TokenType.BYTE
        elif gemma and i < 40:  # the user-defined pieces
            kind, piece = TokenType.USER_DEFINED, piece.replace("▁", " ")
        tokens.append(piece.encode())
        scores.append(original.get_score(i))
        kinds.append(kind)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(original.bos_id())
    writer.add_eos_token_id(original.eos_id())
    writer.add_unk_token_id(original.unk_id())
    if gemma:
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(True)


def plain(text):
    """Texts with special tokens are for other tests: sentencepiece does not cut them out. It drops NUL."""
    return "<" not in text and "\0" not in text and text != ""


def test_llama_sentencepiece_ids_are_the_originals(tmp_path):
    original = train_sentencepiece()
    write_model(tmp_path / "model.gguf", original.vocab_size(), lambda writer: add_sentencepiece(writer, original, False))
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    raw = Tokenizer.from_file(str(source.folder / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(source.folder)
    converted = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in filter(plain, TEXTS):
        expected = [original.bos_id(), *original.encode(text)]
        assert raw.encode(text).ids == expected, text
        assert loaded.encode(text) == expected, text
        assert loaded.decode(expected, skip_special_tokens=True) == text.replace("▁", " ")
        if not text.startswith((" ", "▁")):  # there, transformers' conversion leaves out sentencepiece's own space
            assert converted.encode(text) == expected, text


def test_gemma_sentencepiece_ids_are_the_originals(tmp_path):
    runs = ["▁" * count for count in range(2, 32)] + ["\n\n", "\n\n\n", "\t\t", "<table>", "\n"]
    original = train_sentencepiece(
        user_defined_symbols=["[multimodal]", *runs], add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3
    )
    assert original.id_to_piece(39) == "\n"
    write_model(tmp_path / "model.gguf", original.vocab_size(), lambda writer: add_sentencepiece(writer, original, True), "gemma3")
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    raw = Tokenizer.from_file(str(source.folder / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(source.folder)
    converted = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in [*filter(plain, TEXTS), "a <table>\n\n\n\n   b", " " * 31 + "x" + " " * 5]:
        expected = [original.bos_id(), *original.encode(text)]
        if " " * 32 in text:  # longer than any token: merges and sentencepiece cut such runs at different places
            expected = converted.encode(text)
        assert raw.encode(text).ids == expected, text
        assert loaded.encode(text) == expected, text
        assert converted.encode(text) == expected, text
        assert loaded.decode(expected, skip_special_tokens=True) == text.replace("▁", " ")


def test_flags_and_templates(tmp_path):
    def add_tokenizer(writer):
        add_byte_tokenizer(writer)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(True)
        writer.add_eot_token_id(260)
        writer.add_chat_template([{"name": "default", "template": "D{{ x }}"}, {"name": "tool_use", "template": "T{{ x }}"}])

    write_model(tmp_path / "model.gguf", 300, add_tokenizer)
    source = dump(tmp_path / "model.gguf", tmp_path / "out")
    loaded = AutoTokenizer.from_pretrained(source.folder)
    assert loaded.encode("x") == [298, *Tokenizer.from_file(str(source.folder / "tokenizer.json")).encode("x").ids[1:-1], 299]
    assert loaded.chat_template == {"default": "D{{ x }}", "tool_use": "T{{ x }}"}
    assert json.loads((source.folder / "generation_config.json").read_text())["eos_token_id"] == [299, 260]


@pytest.mark.parametrize("pre", ["chameleon", "qwen99", "kimi-k2"])
def test_unknown_pre_tokenizers_are_refused_by_name(tmp_path, pre):
    write_model(tmp_path / "model.gguf", 300, lambda writer: add_byte_tokenizer(writer, pre=pre))
    assert f"'{pre}'" in refusal(tmp_path / "model.gguf", tmp_path / "out")
