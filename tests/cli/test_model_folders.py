"""What surrounds the weights of a model, as folders in the wild have it: tokens named outside of tokenizer.json, end tokens, chat
templates. AutoTokenizer of transformers is the oracle."""

import json
import shutil

import pytest

from cli_support import error_line, run, succeeded
from terminal_support import run_at_terminal

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

VOCABULARY = 272  # 256 bytes and room for added tokens
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|bot|>"
MESSAGES = [{"role": "user", "content": "Hi"}]


def byte_tokenizer(added):
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(content, special=True, normalized=False) for content in added])
    return tokenizer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random model of one layer."""
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                                      num_key_value_heads=1, max_position_embeddings=256, bos_token_id=None, eos_token_id=256, pad_token_id=None)
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("weights")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(weights, tmp_path):
    """Makes a model folder: `added` are the tokenizer's own, `files` others by name."""
    def make(added=("<|end|>", "<|user|>", "<|bot|>"), **files):
        target = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        shutil.copytree(weights, target)
        byte_tokenizer(added).save(str(target / "tokenizer.json"))
        files = {"tokenizer_config.json": {}} | files
        files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"} | files["tokenizer_config.json"]
        for name, contents in files.items():
            path = target / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes((contents if isinstance(contents, str) else json.dumps(contents)).encode())
        return target
    return make


def described(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} | flags


# Tokens

TEXT = "<|im_start|> user\nHi <|im_end|>\n<|a|> <|b|>x <|end|>"
IM = {"256": described("<|end|>"), "257": described("<|im_start|>"), "258": described("<|im_end|>")}
NAMED_ELSEWHERE = {
    "nothing": {},
    "added_tokens_decoder": {"tokenizer_config.json": {"added_tokens_decoder": IM}},
    "with special tokens of it": {"tokenizer_config.json": {"added_tokens_decoder": IM, "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}},
    "special tokens alone": {"tokenizer_config.json": {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>", "<|a|>"]}},
    "extra_special_tokens": {"tokenizer_config.json": {"extra_special_tokens": ["<|b|>", "<|im_start|>"]}},
    "extra_special_tokens by name": {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "<|b|>", "other": "<|a|>"}}},
    "a token of this model": {"tokenizer_config.json": {"image_token": "<|a|>", "pad_token": "<|b|>", "add_bos_token": False}},
    "an object": {"tokenizer_config.json": {"eos_token": described("<|im_end|>", lstrip=True) | {"__type": "AddedToken"}}},
    "added_tokens.json": {"added_tokens.json": {"<|im_start|>": 257, "<|im_end|>": 258}},
    "added_tokens.json, special by name": {"added_tokens.json": {"<|im_end|>": 257, "<|a|>": 258}, "tokenizer_config.json": {"eos_token": "<|im_end|>"}},
    "special_tokens_map.json": {"special_tokens_map.json": {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}},
    "special_tokens_map.json is not read": {"special_tokens_map.json": {"eos_token": "<|a|>"}, "tokenizer_config.json": {"added_tokens_decoder": IM}},
    "ids out of order": {"tokenizer_config.json": {"added_tokens_decoder": {"300": described("<|a|>"), "299": described("<|b|>"), "5": described("<|im_start|>")}}},
    "other flags": {"tokenizer_config.json": {"added_tokens_decoder": {"256": described("<|end|>", lstrip=True), "257": described("<|a|>", rstrip=True)}}},
    "not special": {"tokenizer_config.json": {"added_tokens_decoder": {"257": described("<|a|>", special=False, normalized=True)}}},
    "a token of the vocabulary": {"tokenizer_config.json": {"added_tokens_decoder": {"87": described("x")}}},
}


@pytest.mark.parametrize("name", NAMED_ELSEWHERE)
def test_tokens_named_elsewhere(folder, name):
    model = folder(added=("<|end|>",), **NAMED_ELSEWHERE[name])
    expected = transformers.AutoTokenizer.from_pretrained(model)
    assert json.loads(succeeded(run("tokenize", "--model", model, "--text", TEXT, "--parse-special")).stdout) == expected.encode(TEXT)
    ordinary = "plain <text> without any"
    assert json.loads(succeeded(run("tokenize", "--model", model, "--text", ordinary)).stdout) == expected.encode(ordinary)


# Chat templates

PLACES = {
    "a text": {"tokenizer_config.json": {"chat_template": TEMPLATE}},
    "a list": {"tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": "XX" + TEMPLATE}, {"name": "default", "template": TEMPLATE}]}},
    "a list without default": {"tokenizer_config.json": {"chat_template": [{"name": "chat", "template": TEMPLATE}, {"name": "rag", "template": "XX"}]}},
    "a list of one": {"tokenizer_config.json": {"chat_template": [{"name": "chat", "template": TEMPLATE}]}},
    "texts by name": {"tokenizer_config.json": {"chat_template": {"default": TEMPLATE, "tool_use": "XX" + TEMPLATE}}},
    "jinja over the config": {"tokenizer_config.json": {"chat_template": "YYYYYY" + TEMPLATE}, "chat_template.jinja": TEMPLATE},
    "jinja and another": {"chat_template.jinja": TEMPLATE, "additional_chat_templates/rag.jinja": "ZZ" + TEMPLATE},
    "another alone": {"additional_chat_templates/rag.jinja": TEMPLATE},
    "another alone, over the config": {"tokenizer_config.json": {"chat_template": TEMPLATE}, "additional_chat_templates/rag.jinja": TEMPLATE},
    "a processor's next to it": {"tokenizer_config.json": {"chat_template": "YYYYYY" + TEMPLATE}, "chat_template.json": {"chat_template": TEMPLATE}},
    "none": {},
    "null": {"tokenizer_config.json": {"chat_template": None}},
    "lines that end as on Windows": {"chat_template.jinja": TEMPLATE.replace("%}", "%}\r\n")},
    "a byte order mark": {"chat_template.jinja": "\ufeff" + TEMPLATE},
    "tokens": {"tokenizer_config.json": {"chat_template": "{{ eos_token }}" + TEMPLATE}},
}


@pytest.mark.parametrize("name", PLACES)
def test_chat_templates_are_found_where_auto_tokenizer_looks(folder, name):
    model = folder(**PLACES[name])
    result = run("run", "--model", model, "-p", "Hi", "-n", 1, "--json", "--quiet")
    try:
        expected = transformers.AutoTokenizer.from_pretrained(model).apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]
    except ValueError:
        error_line(result, model, "has no chat template", "--raw")
        succeeded(run("run", "--model", model, "-p", "Hi", "-n", 1, "--raw", "--quiet"))
        return
    assert json.loads(succeeded(result).stdout)["prompt_tokens"] == len(expected)


def test_a_processors_template_is_better_than_none(folder):
    model = folder(**{"chat_template.json": {"chat_template": TEMPLATE}})
    expected = transformers.AutoTokenizer.from_pretrained(model).apply_chat_template(MESSAGES, chat_template=TEMPLATE, add_generation_prompt=True)["input_ids"]
    assert json.loads(succeeded(run("run", "--model", model, "-p", "Hi", "-n", 1, "--json", "--quiet")).stdout)["prompt_tokens"] == len(expected)


def test_names_are_listed_where_none_is_the_default(folder):
    model = folder(**PLACES["a list without default"])
    for command in (["run", "-p", "Hi"], ["chat"]):
        error_line(run(*command, "--model", model, "--quiet"), model, "'chat', 'rag'", "default")


# End tokens


def ends_at(model, token):
    """Whether an answer ends at this token: the only one that is not banned."""
    answer = json.loads(succeeded(run("run", "--model", model, "--raw", "-p", "x", "-n", 3, "--temp", 0, "--json", "--quiet", "--logit-bias", f"{token}=1e6")).stdout)
    assert set(answer["tokens"]) == {token}
    return answer["finish_reason"] == "end_token"


def test_an_answer_ends_at_the_end_tokens_of_every_place(folder):
    added = ("<|end|>", "<|im_start|>", "<|im_end|>", "<|stop|>")
    template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    cases = [
        ({}, {"eos_token": "<|im_end|>"}, {}, {256, 258}),
        ({}, {"eos_token": "<|stop|>", "chat_template": template}, {}, {256, 258, 259}),
        ({"eos_token_id": [258, 259]}, {}, {}, {256, 258, 259}),
        ({}, {}, {"eos_token_id": 258}, {256, 258}),
        ({"eos_token_id": -1}, {}, {}, {256}),
        ({"eos_token_id": VOCABULARY}, {}, {}, {256}),
    ]
    for generation, tokenizer, config, expected in cases:
        model = folder(added=added, **{"tokenizer_config.json": tokenizer})
        (model / "generation_config.json").write_text(json.dumps({"eos_token_id": 256} | generation))
        document = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(document | config))
        assert {token for token in range(256, 260) if ends_at(model, token)} == expected, (generation, tokenizer, config)


def test_an_end_token_without_a_row_is_said(folder):
    model = folder()
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, VOCABULARY]}))
    assert f"'eos_token_id' {VOCABULARY} is ignored" in succeeded(run("run", "--model", model, "--raw", "-p", "x", "-n", 1)).stderr


# What the model writes


def test_an_answer_cannot_steer_the_terminal(folder):
    model = folder()
    escape = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()).index("\u011b")  # how byte-level tokenizers write the byte 1B
    arguments = ["run", "--model", model, "--raw", "-p", "x", "-n", 3, "--temp", 0, "--quiet", "--logit-bias", f"{escape}=1e6"]
    assert succeeded(run(*arguments)).stdout == "\x1b" * 3, "a file gets the answer as it is"
    assert run_at_terminal(*arguments) == (0, r"\x1b\x1b\x1b" + "\n")


# Numbers that only Python writes


def test_infinity_and_nan_on_the_whole_way(folder, tmp_path):
    model = folder(**{"tokenizer_config.json": {"model_max_length": float("inf"), "chat_template": TEMPLATE}})
    for name in ("config.json", "generation_config.json"):
        document = json.loads((model / name).read_text()) if (model / name).exists() else {}
        (model / name).write_text(json.dumps(document | {"unknown": [float("nan"), float("-inf")]}))
    succeeded(run("run", "--model", model, "-p", "x", "-n", 1, "--quiet"))
    out = tmp_path / "out"
    succeeded(run("quantize", "--model", model, "--out", out, "--configs", "uniform-d2", "--quiet"))
    succeeded(run("dequantize", out / "uniform-d2" / "packed", tmp_path / "back", "--quiet"))
    assert (tmp_path / "back" / "config.json").read_bytes() == (out / "uniform-d2" / "model" / "config.json").read_bytes()
    for shard in ("1/2", "2/2"):
        succeeded(run("quantize", "--model", model, "--out", tmp_path / "parts", "--configs", "uniform-d2", "--shard", shard, "--quiet"))
    succeeded(run("merge", tmp_path / "parts", "--quiet"))
    transformers.AutoConfig.from_pretrained(tmp_path / "parts" / "uniform-d2" / "model")
