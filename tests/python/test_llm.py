"""Answers, streams and scores. transformers is the oracle: it runs the FP16 folder that belongs to the packed one."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import tritllm
from conftest import greedy_tokens

PROMPTS = ["The capital of France is", "Once upon a time, there was a little", "def fibonacci(n):\n"]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def greedy(oracle):
    """transformers' answers of 24 tokens to the prompts."""
    model, tokenizer = oracle
    return [greedy_tokens(model, tokenizer(prompt)["input_ids"], 24) for prompt in PROMPTS]


def test_greedy_text_is_transformers(llm, oracle, greedy):
    _, tokenizer = oracle
    for prompt, expected in zip(PROMPTS, greedy):
        answer = llm.generate(prompt, max_tokens=24, temperature=0)
        assert answer.tokens == expected
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.finish_reason == ("end_token" if expected[-1] in llm.end_tokens else "length")
        assert answer.prompt_tokens == len(tokenizer(prompt)["input_ids"])
        assert answer.logprobs is None and answer.message is None and str(answer) == answer.text


def test_a_list_gives_a_list(llm, greedy):
    assert [answer.tokens for answer in llm.generate(PROMPTS, max_tokens=24, temperature=0)] == greedy
    assert llm.generate([], max_tokens=3) == []


def test_tokens_as_lists_and_arrays(llm, greedy):
    ids = llm.encode(PROMPTS[0])
    for prompt in (ids, np.array(ids), np.array(ids, np.uint16)):
        assert llm.generate(prompt, max_tokens=24, temperature=0).tokens == greedy[0]
    both = llm.generate([ids, np.array(llm.encode(PROMPTS[1]))], max_tokens=24, temperature=0)
    assert [answer.tokens for answer in both] == greedy[:2]


def test_chat_is_the_template_of_transformers(llm, oracle):
    model, tokenizer = oracle
    ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert llm.encode_chat(MESSAGES) == ids
    answer = llm.chat(MESSAGES, max_tokens=12, temperature=0)
    assert answer.tokens == greedy_tokens(model, ids, 12)
    assert answer.message == {"role": "assistant", "content": answer.text}
    assert llm.chat("Hello", max_tokens=4, temperature=0).tokens == llm.chat([{"role": "user", "content": "Hello"}], max_tokens=4,
                                                                            temperature=0).tokens


def test_encode_and_decode_are_tokenizers(llm, oracle):
    _, tokenizer = oracle
    for text in ("Grüße, 世界! 👩‍👩‍👧", "  two  spaces\n\ttab", "<|im_start|>user", ""):
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert llm.encode(text) == ids
        assert llm.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True)
        assert llm.decode(np.array(ids, np.int32)) == llm.decode(ids)
    assert llm.encode("<|im_start|>", parse_special=True) == tokenizer("<|im_start|>")["input_ids"]


def test_log_probabilities_are_those_of_transformers(llm, oracle):
    torch = pytest.importorskip("torch")
    model, _ = oracle
    answer = llm.generate(PROMPTS[0], max_tokens=6, temperature=0, logprobs=3)
    assert answer.logprobs.dtype == np.float32 and answer.logprobs.shape == (len(answer.tokens),)
    prompt = llm.encode(PROMPTS[0])
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1:-1]
    # The FP16 folder, which transformers runs, has each weight rounded once more.
    expected = torch.log_softmax(logits.double(), -1).numpy()
    np.testing.assert_allclose(answer.logprobs, expected[np.arange(len(answer.tokens)), answer.tokens], atol=1e-2)
    for row, tops in zip(expected, answer.top_logprobs):
        assert list(tops) == np.argsort(-row)[:3].tolist()
        np.testing.assert_allclose(list(tops.values()), np.sort(row)[::-1][:3], atol=1e-2)


def test_score_is_the_loss_of_transformers(llm, oracle):
    torch = pytest.importorskip("torch")
    model, tokenizer = oracle
    text = "Paris is the capital of France, and Rome is the capital of Italy."
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
    score = llm.score(text)
    assert score.tokens == ids[0].tolist() and score.logprobs.shape == (len(score.tokens) - 1,)
    assert score.total == pytest.approx(-loss * len(score.logprobs), rel=2e-3)
    assert score.perplexity == pytest.approx(np.exp(loss), rel=5e-3)
    both = llm.score([text, np.array(score.tokens[:5])], top_logprobs=2)
    np.testing.assert_array_equal(both[0].logprobs, score.logprobs)
    np.testing.assert_array_equal(both[1].logprobs, score.logprobs[:4])
    assert all(len(tops) == 2 for tops in both[0].top_logprobs)


def test_a_stream_is_the_answer_in_pieces(llm, greedy):
    events = list(llm.stream(PROMPTS[0], max_tokens=24, temperature=0, logprobs=True))
    answer = events[-1].answer
    assert answer.tokens == greedy[0] == [event.token for event in events if event.token is not None]
    assert "".join(event.text for event in events) == answer.text
    assert all(event.answer is None for event in events[:-1]) and len(answer.logprobs) == len(answer.tokens)
    assert "".join(map(str, llm.stream(MESSAGES, max_tokens=12, temperature=0))) == llm.chat(MESSAGES, max_tokens=12, temperature=0).text


def test_a_stream_that_is_left_ends(llm):
    with_break = llm.stream(PROMPTS[1], max_tokens=400, ignore_eos=True)
    for event in with_break:
        if event.token is not None:
            break
    with_break.close()
    begin = time.monotonic()
    llm.generate(PROMPTS[0], max_tokens=1)
    assert time.monotonic() - begin < 5


def test_async(llm, greedy):
    async def everything():
        one, many, chat = await asyncio.gather(
            llm.agenerate(PROMPTS[0], max_tokens=24, temperature=0), llm.agenerate(PROMPTS, max_tokens=24, temperature=0),
            llm.achat(MESSAGES, max_tokens=6, temperature=0))
        assert one.tokens == greedy[0] and [answer.tokens for answer in many] == greedy
        assert chat.tokens == llm.chat(MESSAGES, max_tokens=6, temperature=0).tokens
        pieces = [event async for event in llm.astream(PROMPTS[1], max_tokens=24, temperature=0)]
        assert "".join(event.text for event in pieces) == pieces[-1].answer.text and pieces[-1].answer.tokens == greedy[1]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(llm.agenerate(PROMPTS[1], max_tokens=450, ignore_eos=True), 0.3)
    asyncio.run(everything())


def test_threads_share_the_engine(llm, greedy):
    found = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: llm.generate(PROMPTS[i], max_tokens=24, temperature=0).tokens}))
               for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(3)] == greedy


def test_options_change_the_answer(llm):
    drawn = [llm.generate(PROMPTS[1], max_tokens=12, temperature=1.5, seed=seed).tokens for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    text = llm.generate(PROMPTS[0], max_tokens=20, temperature=0).text
    stop = text[6:9]
    cut = llm.generate(PROMPTS[0], max_tokens=20, temperature=0, stop=[stop])
    assert cut.text == text[:text.index(stop)] and cut.finish_reason == "stop_string"
    first = llm.generate(PROMPTS[0], max_tokens=1, temperature=0).tokens[0]
    assert llm.generate(PROMPTS[0], max_tokens=1, temperature=0, logit_bias={first: -100.0}).tokens[0] != first
    answer = llm.generate("A person: ", max_tokens=60, temperature=0, response_format={"type": "json_schema", "json_schema": {
        "name": "n", "schema": {"type": "object", "properties": {"age": {"enum": [7, 42]}}, "required": ["age"],
                                "additionalProperties": False}}})
    assert json.loads(answer.text)["age"] in (7, 42)


@pytest.mark.parametrize("options, where, words", [
    ({"temperature": -1}, "temperature", "-1"),
    ({"temperature": "hot"}, "temperature", "hot"),
    ({"temprature": 1}, "temprature", ""),
    ({"max_tokens": -1}, "max_tokens", "-1"),
    ({"top_k": 2.5}, "top_k", "2.5"),
    ({"seed": 0.5}, "seed", "0.5"),
    ({"temperature": float("nan")}, "request", "JSON"),
    ({"logprobs": 1000}, "top_logprobs", "100"),
    ({"tools": []}, "tools", ""),
])
def test_refusals_name_the_option(llm, options, where, words):
    with pytest.raises(tritllm.InvalidInputError) as refused:
        llm.generate("Hi", **{"max_tokens": 1, **options})
    assert where in refused.value.where and words in str(refused.value)
    assert isinstance(refused.value, ValueError)


def test_refused_prompts(llm):
    for prompt, words in (([0, 10**6], "1000000"), ([], ""), ("x " * 600, "512"), (np.zeros((2, 2, 2), int), ""), (np.array([0.5]), "float")):
        with pytest.raises((tritllm.InvalidInputError, ValueError)) as refused:
            llm.generate(prompt if len(prompt) else np.array([], int), max_tokens=1)
        assert words in str(refused.value)
    with pytest.raises(tritllm.InvalidInputError):
        llm.chat([{"role": "robot", "content": "x"}])


def test_refused_models(tmp_path):
    with pytest.raises(FileNotFoundError) as refused:
        tritllm.LLM(tmp_path / "nowhere")
    assert isinstance(refused.value, tritllm.NotFoundError) and "nowhere" in refused.value.where
    assert refused.value.remedy is not None and refused.value.args[0] == str(refused.value)
    for options, where in (({"device": "abacus"}, ""), ({"slots": 0}, "slots"), ({"cache": "f8"}, "cache")):
        with pytest.raises(tritllm.Error) as refused:
            tritllm.LLM(tmp_path, **options)
        assert where in refused.value.where


def test_ctrl_c(folders):
    """SIGINT while the main thread waits: KeyboardInterrupt within a second, and the model answers on."""
    code = textwrap.dedent(f"""
        import time, tritllm
        llm = tritllm.LLM({str(folders["packed"])!r}, device="cpu", context=2048)
        print("ready", flush=True)
        try:
            llm.generate(["Once upon a time"] * 4, max_tokens=2000, ignore_eos=True)
        except KeyboardInterrupt:
            begin = time.monotonic()
            print("interrupted", len(llm.generate("Hello", max_tokens=3, ignore_eos=True).tokens), flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    assert process.stdout.readline() == "interrupted 3\n"
    assert time.monotonic() - begin < 10 and process.wait(10) == 0


def test_other_threads_run_while_the_model_works(llm):
    counted = []
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counted.append(time.monotonic())
            time.sleep(0.005)
    thread = threading.Thread(target=count)
    thread.start()
    begin = time.monotonic()
    llm.generate(PROMPTS[1], max_tokens=40, ignore_eos=True)
    end = time.monotonic()
    stop.set()
    thread.join()
    inside = [moment for moment in counted if begin < moment < end]
    assert len(inside) > 0.2 * (end - begin) / 0.005
