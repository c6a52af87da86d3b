"""The program as users run it on a real model: SmolLM2-135M-Instruct as a GGUF file, as a float32 folder, as a packed folder and as the
FP16 folder that belongs to it. transformers is the oracle of texts, tokens and perplexity."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli_support import BINARY, clean_environment, error_line, run, succeeded
from terminal_support import run_at_terminal

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
CONFIG = "uniform-d3"

PROMPTS = [
    "The capital of France is", "Once upon a time there was a small robot who", "def fibonacci(n):\n    ", "Water boils at",
    "The three most important things in life are", "In 1969, the first people", "1, 2, 3, 4, 5,", "Dear Sir or Madam,\n\nI am writing to",
    "Der schnelle braune Fuchs", "Q: Why is the sky blue?\nA:",
]  # fmt: skip

TEXT = """The lighthouse stood at the end of a long and narrow spit of land, and for as long as anyone in the village could remember
its lamp had been lit at dusk and put out at dawn. The keeper was an old woman who had learned the work from her father. Every
evening she climbed the hundred and twelve steps with a can of oil in her hand, cleaned the glass, trimmed the wick and waited until
the first ship of the night answered her light with its own.

One autumn the weather turned sooner than usual. For nine days the wind blew from the north, and the boats stayed in the harbour. The
children were not allowed on the beach, the baker ran out of flour, and the teacher read them stories about distant countries where it
never rained. On the tenth day the clouds broke, and a thin line of smoke appeared on the horizon. "That is a steamer," said the
keeper, "and she is far too close to the reef."

She did what she had done many times before. She opened the shutters, turned the great lens by hand and sent three short flashes and
one long one across the water. At first nothing happened. Then the smoke bent to the west, slowly, and the dark shape of the ship
followed it until it had passed the last of the rocks. In the evening the captain came ashore to thank her. He brought a sack of flour
for the baker, a box of oranges for the children and a book of maps for the school.

A map is a drawing of a part of the world as it would look from above. The scale of a map says how many times smaller the drawing is
than the land: at a scale of one to ten thousand, a centimetre on paper is a hundred metres outside. Rivers are blue, forests are
green, and roads are red or yellow. To find a place one looks up its name in the index, which gives a letter and a number; the letter
stands for a column and the number for a row. Maps of the sea show how deep the water is, where the rocks lie, and which lights can be
seen at night. The lighthouse of the village was marked with a small star and the words "three short, one long".

To make bread you need flour, water, salt and yeast. Mix five hundred grams of flour with ten grams of salt, add three hundred and
fifty grams of warm water and a little yeast, and knead the dough until it is smooth. Let it rest for an hour under a cloth. Shape it
into a loaf, let it rest again, and bake it at two hundred and twenty degrees for thirty-five minutes. The bread is done when it sounds
hollow if you knock on its underside. Let it cool before you cut it, however hard that may be.
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folders: "dense" (float32), "packed" and "half" (its FP16 folder); "text", a file to score."""
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    parent = tmp_path_factory.mktemp("models")
    succeeded(run("dequantize", DEMO_MODEL, parent / "dense", "--type", "f32", "--quiet"))
    succeeded(run("quantize", "--model", DEMO_MODEL, "--configs", CONFIG, "--out", parent / "out", "--quiet", timeout=600))
    (parent / "text.txt").write_text(TEXT)
    yield {"gguf": DEMO_MODEL, "dense": parent / "dense", "packed": parent / "out" / CONFIG / "packed",
           "half": parent / "out" / CONFIG / "model", "text": parent / "text.txt"}
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def oracle(models):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(2)
    model = transformers.AutoModelForCausalLM.from_pretrained(models["dense"], dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(models["dense"])

    class Oracle:
        def ids(self, text, special=True):
            return tokenizer(text, add_special_tokens=special)["input_ids"]

        def logits(self, ids):
            with torch.no_grad():
                return model(torch.tensor([ids])).logits[0]

        def text(self, ids):
            return tokenizer.decode(ids, skip_special_tokens=True)

        def chat(self, message):
            messages = [{"role": "user", "content": message}]
            return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)

        def loss(self, ids):
            """Of the second half of a window, each token by what came before it."""
            half = len(ids) // 2
            return torch.nn.functional.cross_entropy(self.logits(ids)[half:-1].double(), torch.tensor(ids[half + 1:])).item()

    return Oracle()


def greedy(model, *arguments, **options):
    return succeeded(run("run", "--model", model, "--raw", "--temp", 0, "--quiet", *arguments, **options)).stdout


def greedy_json(model, *arguments, **options):
    return json.loads(greedy(model, "--json", *arguments, **options))


def lasting(answer):
    """Without what differs from run to run."""
    return {key: value for key, value in answer.items() if key not in ("speed", "seed")}


# run


def test_only_the_answer_is_on_stdout(models):
    for name in ("gguf", "packed"):
        answer = greedy_json(models[name], "-p", PROMPTS[0], "-n", 12)
        assert answer["generated_tokens"] == 12 and answer["finish_reason"] == "length" and len(answer["tokens"]) == 12
        assert answer["text"].startswith(" Paris")
        loud = succeeded(run("run", "--model", models[name], "--raw", "--temp", 0, "-p", PROMPTS[0], "-n", 12))
        assert loud.stdout == answer["text"]
        assert "cpu" in loud.stderr and "tokens" in loud.stderr
        assert succeeded(run("run", "--model", models[name], "--raw", "--temp", 0, "-p", PROMPTS[0], "-n", 12, "--quiet")).stderr == ""


def exact_isa():
    """AMX rounds products of many tokens to BF16 (docs/kernels.md), so there company matters; the other instruction sets agree."""
    cpu = json.loads(succeeded(run("devices", "--json")).stdout)["devices"][0]["name"]
    return {"TRITLLM_ISA": "avx512"} if "amx" in cpu else {}


def test_threads_and_company_change_nothing(models):
    arguments = [argument for prompt in PROMPTS[:8] for argument in ("-p", prompt)]
    isa = exact_isa()
    together = greedy_json(models["packed"], *arguments, "-n", 20, env=isa)
    assert len({answer["text"] for answer in together}) == 8
    for threads, prompt in ((1, 0), (2, 0), (1, 4), (2, 7)):
        alone = greedy(models["packed"], "-p", PROMPTS[prompt], "-n", 20, "--threads", threads, env=isa)
        assert alone == together[prompt]["text"]
    one_by_one = greedy_json(models["packed"], *arguments, "-n", 20, "--slots", 3, "--threads", 1, env=isa)
    assert [lasting(answer) for answer in one_by_one] == [lasting(answer) for answer in together]


def test_the_packed_folder_writes_what_its_fp16_folder_does(models):
    # The weights differ by the last rounding only; the first tokens of these prompts are not that close.
    for prompt in PROMPTS[:2]:
        exact = greedy(models["packed"], "-p", prompt, "-n", 8, "--activations", "f32")
        assert exact == greedy(models["half"], "-p", prompt, "-n", 8)


def test_stop_strings_and_prompt_files(models, memory):
    text = greedy(models["packed"], "-p", PROMPTS[1], "-n", 30)
    stop = text[20:27]
    answer = greedy_json(models["packed"], "-p", PROMPTS[1], "-n", 30, "--stop", "never to be seen", "--stop", stop)
    assert answer["text"] == text[:text.index(stop)]
    assert answer["finish_reason"] == "stop_string"
    (memory / "prompt").write_text(PROMPTS[1])
    assert greedy(models["packed"], "-f", memory / "prompt", "-n", 30) == text
    assert greedy(models["packed"], "-p", PROMPTS[1], "-n", 0) == ""


def test_seeds_decide_draws(models):
    def drawn(seed):
        return succeeded(run("run", "--model", models["packed"], "--raw", "--temp", 1, "--seed", seed, "-p", PROMPTS[1], "-n", 12, "--quiet")).stdout

    assert drawn(1) == drawn(1) != drawn(2)


def test_json_holds_what_repeats_an_answer(models):
    def drawn(*arguments):
        return json.loads(succeeded(run("run", "--model", models["packed"], "--raw", "-p", PROMPTS[1], "-n", 12, "--json", "--quiet", *arguments)).stdout)

    first = drawn("--temp", 1.3, "--top-k", 50, "--frequency-penalty", 0.5, "--logit-bias", "7=-inf")
    sampler = first["sampler"]
    assert sampler["temperature"] == 1.3 and sampler["top_k"] == 50 and sampler["logit_bias"] == {"7": -1e9}
    biases = [f"{token}={bias}" for token, bias in sampler.pop("logit_bias").items()]
    flags = [argument for name, value in sampler.items() for argument in ("--" + name.replace("_", "-"), str(value))]
    again = drawn(*flags, "--seed", first["seed"], *[argument for bias in biases for argument in ("--logit-bias", bias)])
    assert again["tokens"] == first["tokens"] and again["seed"] == first["seed"]
    assert drawn(*flags, "--seed", first["seed"] ^ 1)["tokens"] != first["tokens"]
    assert first["speed"]["tokens_per_second"] > 0 and first["speed"]["prompt_tokens_per_second"] > 0
    assert first["speed"]["seconds"] >= 11 / first["speed"]["tokens_per_second"] - 1e-6


def test_a_cut_answer_is_announced(models):
    arguments = ["run", "--model", models["packed"], "--raw", "--temp", 0, "-p", PROMPTS[0], "--ignore-end"]
    assert "cut after 3 tokens; --tokens" in succeeded(run(*arguments, "-n", 3)).stderr
    full = succeeded(run(*arguments, "--context", 16))
    assert "context of 16 tokens" in full.stderr and "--context" in full.stderr
    assert succeeded(run(*arguments, "-n", 3, "--quiet")).stderr == ""


def test_a_pipe_is_the_prompt(models):
    def piped(data, *arguments):
        command = [BINARY, "run", "--model", models["packed"], "--raw", "--temp", "0", "-n", "8", "--quiet", *arguments]
        return subprocess.run(command, input=data, env=clean_environment(), capture_output=True, text=True, timeout=120)

    expected = greedy(models["packed"], "-p", PROMPTS[0], "-n", 8)
    for data in (PROMPTS[0], PROMPTS[0] + "\n", PROMPTS[0] + "\r\n"):
        assert succeeded(piped(data)).stdout == expected
    assert succeeded(piped("not read", "-p", PROMPTS[0])).stdout == expected
    error_line(piped(""), "there is no prompt", code=2)
    error_line(piped("\n"), "there is no prompt", code=2)


def test_an_interrupt_ends_with_130(models):
    command = [BINARY, "run", "--model", models["packed"], "--raw", "-p", PROMPTS[1], "-n", "5000", "--ignore-end", "--temp", "0"]
    for more in ([], ["--json"]):
        program = subprocess.Popen([*command, *more], env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seen = program.stderr.readline() if more else program.stdout.read(20)
        time.sleep(2 if more else 0)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=120)
        assert program.returncode == 130 and seen, err
        if more:
            assert json.loads(out)["finish_reason"] == "cancelled"


def test_control_tokens_of_a_raw_prompt_only_where_asked_for(models, oracle):
    text = "<|im_start|>user\nHi<|im_end|>\n"
    plain, parsed = greedy_json(models["dense"], "-p", text, "-n", 1), greedy_json(models["dense"], "-p", text, "-n", 1, "--parse-special")
    assert parsed["prompt_tokens"] == len(oracle.ids(text)) < plain["prompt_tokens"]


@pytest.mark.parametrize("arguments, words", [
    (["--raw", "--system", "x"], ["--system", "--raw"]), (["--raw", "--template-var", "a=1"], ["--template-var", "--raw"]),
    (["--parse-special"], ["--parse-special", "--raw"]), (["--log-probabilities"], ["--log-probabilities", "--json"]),
    (["--json", "--top-log-probabilities", "2"], ["--top-log-probabilities"]), (["--template-var", "no_such_name=1"], ["--template-var", "no_such_name"]),
])  # fmt: skip
def test_options_that_would_change_nothing_are_refused(models, arguments, words):
    error_line(run("run", "--model", models["packed"], "--quiet", "-p", "x", *arguments), *words, code=2)


def test_log_probabilities(models, oracle):
    answer = greedy_json(models["dense"], "-p", PROMPTS[2], "-n", 5, "--kv-cache", "f32", "--log-probabilities", "--prompt-log-probabilities",
                         "--top-log-probabilities", 3)
    prompt = oracle.ids(PROMPTS[2])
    ids = prompt + answer["tokens"]
    expected = oracle.logits(ids).double().log_softmax(-1)
    scores = answer["prompt_log_probabilities"] + answer["log_probabilities"]
    assert [score["token"] for score in scores] == ids[1:]
    for row, score in zip(expected, scores, strict=False):
        assert score["log_probability"] == pytest.approx(row[score["token"]].item(), abs=1e-3)
        assert [top["token"] for top in score["top"]] == row.topk(3).indices.tolist()


def test_the_chat_template_is_the_models(models, oracle):
    answer = json.loads(succeeded(run("run", "--model", models["dense"], "--temp", 0, "-p", "Say hello.", "-n", 1, "--json", "--quiet")).stdout)
    expected = oracle.chat("Say hello.")
    assert answer["prompt_tokens"] == len(expected)
    assert answer["tokens"] == [int(oracle.logits(expected)[-1].argmax())]


# Set TRITLLM_SKIP_SLOW where 2000 tokens of a model in float32 take too long.
@pytest.mark.skipif("TRITLLM_SKIP_SLOW" in os.environ, reason="TRITLLM_SKIP_SLOW is set")
def test_two_hundred_tokens_as_transformers_writes_them(models, oracle):
    arguments = [argument for prompt in PROMPTS for argument in ("-p", prompt)]
    answers = greedy_json(models["dense"], *arguments, "--kv-cache", "f32", "--ignore-end", "-n", 200, "--slots", 10, timeout=600)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert len(answer["tokens"]) == 200
        ids = oracle.ids(prompt)
        # Where every token is the most probable one after those before it, generating gives just these tokens.
        logits = oracle.logits(ids + answer["tokens"][:-1])[len(ids) - 1:]
        assert logits.argmax(-1).tolist() == answer["tokens"], prompt
        assert answer["text"] == oracle.text(answer["tokens"])


# Refusals


def test_bad_models(memory):
    (memory / "empty").mkdir()
    (memory / "text").write_text("no model")
    for path in (memory / "nothing", memory / "empty", memory / "text"):
        for command in (["run", "-p", "x"], ["eval", "--text", memory / "text"], ["bench"], ["tokenize", "--text", "x"]):
            error_line(run(*command, "--model", path, "--quiet"), path)


@pytest.mark.parametrize("arguments, word", [
    (["-p", "x", "--temp", "-1"], "temperature"), (["-p", "x", "--temp", "hot"], "--temp"), (["-p", "x", "--top-p", "1.5"], "--top-p: expected a number from 0 to 1"),
    (["-p", "x", "--slots", "0"], "--slots"), (["-p", "x", "--kv-cache", "f8"], "--kv-cache"), (["-p", "x", "--threads", "5000"], "--threads"),
    (["-p", "x", "-n", "-1"], "--tokens"), (["-p", "x", "--context", "9000"], "8192"), (["-p", "x", "--device", "tpu"], "tpu"),
    (["-p", "x", "--logit-bias", "5"], "5"), (["-p", "x", "--logit-bias", "99999=1"], "99999"), (["-p", "x", "--stop", ""], "stop"),
    (["-p", "x", "-p", "y"], "--json"), ([], "prompt"), (["-p", ""], "prompt"),
])  # fmt: skip
def test_bad_options(models, arguments, word):
    result = run("run", "--model", models["packed"], "--raw", "--quiet", *arguments)
    error_line(result, word, code=2)
    assert result.stdout == ""


def test_a_prompt_longer_than_the_context(models):
    count = len(json.loads(succeeded(run("tokenize", "--model", models["packed"], "--text", TEXT)).stdout))
    error_line(run("run", "--model", models["packed"], "--raw", "--quiet", "-p", TEXT, "--context", 50), f"{count} tokens", "context of 50", code=2)


def test_a_model_with_nan_says_so(models, memory):
    folder = memory / "damaged"
    folder.mkdir()
    for path in models["half"].iterdir():
        if path.name != "model.safetensors":
            shutil.copy(path, folder)
    shutil.copyfile(models["half"] / "model.safetensors", folder / "model.safetensors")
    with open(folder / "model.safetensors", "r+b") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
        file.seek(8 + header_bytes + header["model.layers.3.self_attn.k_proj.weight"]["data_offsets"][0])
        file.write(b"\x00\x7e")
    error_line(run("run", "--model", folder, "--raw", "--quiet", "-p", "x", "-n", 3), "nan")


# tokenize


TEXTS = ["", "Hello, world!", " two  spaces\tand\n\nlines ", "naïve café – 東京 🦊 \u0301", "<|im_start|>user\n<|im_end|>", "12345 don't", "\u00a0x\u2003y"]


def test_tokenize_gives_transformers_ids(models, oracle, memory):
    for text in [*TEXTS, TEXT]:
        (memory / "file").write_bytes(text.encode())
        for name in ("gguf", "packed"):
            ids = json.loads(succeeded(run("tokenize", "--model", models[name], "--file", memory / "file", "--parse-special")).stdout)
            assert ids == oracle.ids(text), (name, text)
        flags = ["--no-special", "--parse-special"]
        assert json.loads(succeeded(run("tokenize", "--model", models["packed"], "--text", text, *flags)).stdout) == oracle.ids(text, special=False)
    plain = json.loads(succeeded(run("tokenize", "--model", models["packed"], "--text", "<|im_end|>")).stdout)
    assert len(plain) > 1 and oracle.text(plain) == "<|im_end|>", "a control token's name in a text is text"
    error_line(run("tokenize", "--model", models["packed"]), "--text", code=2)
    (memory / "latin1").write_bytes(b"caf\xe9")
    error_line(run("tokenize", "--model", models["packed"], "--file", memory / "latin1"), "UTF-8")


# eval


def evaluated(model, text, *arguments):
    return json.loads(succeeded(run("eval", "--model", model, "--text", text, "--json", "--quiet", *arguments, timeout=600)).stdout)


def test_perplexity_is_that_of_transformers(models, oracle):
    ids = oracle.ids(TEXT)
    for context, windows in ((64, 4), (200, 2)):
        result = evaluated(models["dense"], models["text"], "--context", context, "--windows", windows, "--kv-cache", "f32")
        losses = [oracle.loss(ids[window * context:(window + 1) * context]) for window in range(windows)]
        assert result["perplexity"] == pytest.approx(math.exp(sum(losses) / windows), rel=1e-3)
        assert result["windows"] == windows and result["tokens_scored"] == windows * (context // 2 - 1)
        assert 0 < result["perplexity_stderr"] < result["perplexity"]
        assert "kl_divergence_mean" not in result


def test_caches_of_eight_bits_lose_little(models):
    def by(cache):
        return evaluated(models["dense"], models["text"], "--context", 128, "--windows", 3, "--kv-cache", cache)["perplexity"]

    exact = by("f32")
    assert by("f16") == pytest.approx(exact, rel=1e-3)
    for cache in ("int8", "fp8"):
        found = by(cache)
        assert found != exact
        assert found == pytest.approx(exact, rel=0.05)


def test_packed_against_its_fp16_folder(models):
    exact = evaluated(models["packed"], models["text"], "--reference", models["half"], "--context", 128, "--activations", "f32")
    assert 0 < exact["kl_divergence_mean"] < 1e-4
    assert exact["perplexity"] == pytest.approx(exact["reference_perplexity"], rel=1e-3)
    result = evaluated(models["packed"], models["text"], "--reference", models["half"], "--context", 128)
    names = ("perplexity perplexity_stderr kl_divergence_mean kl_divergence_stderr kl_divergence_median kl_divergence_p99 same_top_token"
             " tokens_scored reference_perplexity kl_divergence_max")
    assert set(names.split()) <= result.keys()
    # What activations in 8 bits cost (docs/kernels.md).
    assert exact["kl_divergence_mean"] < result["kl_divergence_mean"] < 2.5e-3
    assert result["perplexity"] == pytest.approx(result["reference_perplexity"], rel=1e-2)
    assert result["same_top_token"] > 0.95
    assert result["tokens_scored"] == result["windows"] * 63
    assert len(result["layer_relative_errors"]) == 30
    assert result["kl_divergence_median"] <= result["kl_divergence_p99"] <= result["kl_divergence_max"]


def test_a_model_against_itself_and_against_its_source(models):
    itself = evaluated(models["packed"], models["text"], "--reference", models["packed"], "--context", 64, "--windows", 2)
    assert itself["kl_divergence_mean"] == pytest.approx(0, abs=1e-12)
    assert itself["same_top_token"] == 1
    assert itself["perplexity"] == itself["reference_perplexity"]
    assert set(itself["layer_relative_errors"]) == {0.0}
    source = evaluated(models["packed"], models["text"], "--reference", models["gguf"], "--context", 64, "--windows", 2)
    assert 1e-3 < source["kl_divergence_mean"] < 0.5
    assert all(0 < error < 1 for error in source["layer_relative_errors"])


def test_whole_windows_and_a_table(models):
    scored = evaluated(models["packed"], models["text"], "--context", 64, "--windows", 2, "--scored", "all")
    assert scored["tokens_scored"] == 2 * 63
    table = succeeded(run("eval", "--model", models["packed"], "--text", models["text"], "--context", 64, "--windows", 2, "--scored", "all")).stdout
    assert table.splitlines()[0].split()[0] == "perplexity"
    assert float(table.splitlines()[0].split()[1]) == pytest.approx(scored["perplexity"], rel=1e-5)


def test_eval_refuses(models, memory):
    (memory / "short").write_text("A few words.")
    error_line(run("eval", "--model", models["packed"], "--text", memory / "short", "--quiet"), "tokens do not fill one window of 512", code=2)
    error_line(run("eval", "--model", models["packed"], "--text", models["text"], "--context", 3, "--quiet"), "--context", code=2)
    error_line(run("eval", "--model", models["packed"], "--text", memory / "nothing", "--quiet"), memory / "nothing")


def test_eval_refuses_tokens_that_the_model_does_not_have(models, memory):
    """A hostile tokenizer must not reach beyond the embedding."""
    folder = memory / "other-tokenizer"
    folder.mkdir()
    for path in models["half"].iterdir():
        if path.name == "tokenizer.json":
            tokenizer = json.loads(path.read_text())
            tokenizer["model"]["vocab"]["Ġlighthouse"] = 1_000_000
            (folder / path.name).write_text(json.dumps(tokenizer))
        else:
            shutil.copy(path, folder)
    error_line(run("eval", "--model", folder, "--text", models["text"], "--context", 64, "--windows", 1, "--quiet"), folder, "token 1000000", "49152")


# bench

SYNTHETIC = ["bench", "--synthetic", "smollm2-135m", "--depth", 3, "--vocab", 512, "--tests", "pp8,tg3", "--repetitions", 2, "--quiet"]
FIELDS = {"model", "depth", "test", "threads", "batch", "device", "tokens_per_second", "stddev", "weight_bytes_per_token",
          "gigabytes_per_second", "temperature", "top_k", "top_p", "min_p", "typical_p"}


def test_bench_formats():
    rows = json.loads(succeeded(run(*SYNTHETIC, "--json")).stdout)
    lines = [json.loads(line) for line in succeeded(run(*SYNTHETIC, "--format", "jsonl")).stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(succeeded(run(*SYNTHETIC, "--format", "csv")).stdout)))
    for found in (rows, lines, table):
        assert [row["test"] for row in found] == ["pp8", "tg3"]
        for row in found:
            assert FIELDS <= row.keys()
            assert row["model"] == "smollm2-135m" and int(row["depth"]) == 3
            assert float(row["tokens_per_second"]) > 0 and float(row["stddev"]) >= 0
    matrices = 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 576 * 1536)
    assert rows[1]["weight_bytes_per_token"] == matrices * 340 // 512 + 512 * 576 * 2
    assert rows[1]["gigabytes_per_second"] == pytest.approx(rows[1]["tokens_per_second"] * rows[1]["weight_bytes_per_token"] / 1e9)
    assert rows[0]["gigabytes_per_second"] is None
    markdown = succeeded(run(*SYNTHETIC)).stdout.splitlines()
    assert len(markdown) == 4 and len({line.count("|") for line in markdown}) == 1
    assert "tokens/s" in markdown[0] and "pp8" in markdown[2] and "tg3" in markdown[3]


def test_bench_draws_tokens_and_says_how():
    how = ("--temperature", 0.75, "--top-k", 5, "--top-p", 0.5, "--min-p", 0.25, "--typical-p", 0.875)
    for row in json.loads(succeeded(run(*SYNTHETIC, *how, "--json")).stdout):
        assert [row[name] for name in ("temperature", "top_k", "top_p", "min_p", "typical_p")] == [0.75, 5, 0.5, 0.25, 0.875]
    assert ", drawn |" in succeeded(run(*SYNTHETIC, *how)).stdout
    assert "drawn" not in succeeded(run(*SYNTHETIC)).stdout
    for value in (1.5, "nan", "x", ""):
        error_line(run(*SYNTHETIC, "--top-p", value), "--top-p", code=2)


def test_bench_counts_the_tokens_of_all_sequences():
    rows = json.loads(succeeded(run(*SYNTHETIC, "--batch", 5, "--json")).stdout)
    for row, tokens in zip(rows, (8, 3)):
        assert row["batch"] == 5
        assert row["tokens_per_second"] == pytest.approx(sum(5 * tokens / s for s in row["seconds"]) / len(row["seconds"]))
    assert rows[1]["gigabytes_per_second"] == pytest.approx(rows[1]["tokens_per_second"] / 5 * rows[1]["weight_bytes_per_token"] / 1e9)
    assert "tg3 × 5" in succeeded(run(*SYNTHETIC, "--batch", 5)).stdout


def test_work_is_shown_with_the_time_left():
    status, seen = run_at_terminal("bench", "--synthetic", "smollm2-135m", "--depth", 3, "--vocab", 512, "--tests", "pp256", "--repetitions", 6, stdout=False)
    assert status == 0
    assert re.search(r"pp256  \d+ %, .+ left  run \d/7", seen), seen
    assert seen.endswith("\r\x1b[K"), "nothing stays on the terminal"
    status, seen = run_at_terminal(*SYNTHETIC, stdout=False)
    assert (status, seen) == (0, ""), "--quiet"


def test_evaluation_is_shown_with_the_time_left(models):
    arguments = ["eval", "--model", models["packed"], "--text", models["text"], "--window", 64]
    status, seen = run_at_terminal(*arguments, stdout=False)
    assert status == 0
    assert re.search(r"evaluating  \d+ %, .+ left  window \d+/\d+, perplexity", seen), seen
    log = succeeded(run(*arguments)).stderr
    assert "\x1b" not in log and 5 <= log.count("window ") <= 11


@pytest.mark.parametrize("arguments, word", [
    (["--tests", ""], "--tests"), (["--tests", "pp"], "pp"), (["--tests", "pp5,"], "--tests"), (["--synthetic", "gpt-5"], "gpt-5"),
    (["--depth", 5], "--synthetic-depth"), (["--repetitions", 0], "--repetitions"), (["--format", "xml"], "--format"), (["--model", "x"], "--synthetic"),
])  # fmt: skip
def test_bench_refuses(arguments, word):
    base = [] if arguments[0] == "--synthetic" else ["--synthetic", "smollm2-135m"]
    error_line(run("bench", *base, "--vocab", 512, "--quiet", *arguments), word, code=2)


def test_bench_of_a_real_model(models):
    rows = json.loads(succeeded(run("bench", "--model", models["packed"], "--tests", "tg2", "--repetitions", 1, "--json", "--quiet")).stdout)
    assert len(rows) == 1 and rows[0]["depth"] == 3 and rows[0]["model"] == "packed"
