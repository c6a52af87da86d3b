"""`tritllm serve` on a real model, asked by the clients that people use and by hostile ones. `tritllm run` is the oracle of texts."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cli_support import BINARY, clean_environment, error_line, run, succeeded
from serve_support import serving

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
GREEDY = {"messages": QUESTION, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def server():
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    with serving("--model", f"smollm={DEMO_MODEL}", "--context", 2048, "--slots", 4, "--queue", 8) as running:
        yield running


@pytest.fixture(scope="module")
def openai(server):
    module = pytest.importorskip("openai")
    return module.OpenAI(base_url=server.address + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def solo():
    """What the model says to QUESTION alone."""
    answer = succeeded(run("run", "--model", DEMO_MODEL, "--context", 2048, "--temp", 0, "--tokens", 12, "--quiet", "--json",
                           "-p", QUESTION[0]["content"]))
    return json.loads(answer.stdout)


def test_health_and_models(server):
    assert server.ask("/health")[::2] == (200, {"status": "ok"})
    status, _, models = server.ask("/v1/models")
    assert status == 200
    assert [(model["id"], model["context_length"]) for model in models["data"]] == [("smollm", 2048)]
    assert server.ask("/v1/models/smollm")[2]["id"] == "smollm"
    assert server.ask("/v1/models/other")[0] == 404
    facts = server.ask("/props")[2]["models"][0]["facts"]
    assert facts["architecture"] == "LlamaForCausalLM" and 134e6 < facts["parameters"] < 164e6
    assert facts["stored_bytes"] == pytest.approx(DEMO_MODEL.stat().st_size, rel=0.01)


# The answers


def test_chat_by_the_openai_client(openai, solo):
    answer = openai.chat.completions.create(model="smollm", messages=QUESTION, temperature=0, max_tokens=12, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    assert choice.message.content == solo["text"]
    assert (choice.finish_reason, answer.usage.completion_tokens, answer.usage.prompt_tokens) == ("length", 12, solo["prompt_tokens"])
    assert "".join(token.token for token in choice.logprobs.content) == solo["text"]
    for token in choice.logprobs.content:
        assert bytes(token.bytes).decode() == token.token
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob) and len(token.top_logprobs) == 2


def test_streamed_pieces_are_the_whole_answer(openai, solo):
    chunks = list(openai.chat.completions.create(model="smollm", messages=QUESTION, temperature=0, max_tokens=12, stream=True,
                                                 stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == solo["text"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason] == ["length"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_seed_stop_bias_and_several_answers(server):
    body = {"messages": QUESTION, "max_tokens": 8, "seed": 7, "temperature": 1, "n": 2}
    first, second = (server.ask("/v1/chat/completions", body)[2]["choices"] for _ in range(2))
    assert [choice["message"] for choice in first] == [choice["message"] for choice in second]
    assert first[0]["message"] != first[1]["message"]
    text = server.ask("/v1/chat/completions", GREEDY)[2]["choices"][0]["message"]["content"]
    word = text.split()[3]
    stopped = server.ask("/v1/chat/completions", GREEDY | {"stop": word})[2]["choices"][0]
    assert stopped["message"]["content"] == text[: text.index(word)] and stopped["finish_reason"] == "stop"
    tokens = server.ask("/tokenize", {"prompt": text})[2]["tokens"]
    biased = server.ask("/v1/chat/completions", GREEDY | {"logit_bias": {str(tokens[0]): -100}})[2]["choices"][0]["message"]["content"]
    assert biased != text


def test_parallel_answers_equal_those_alone(server, solo):
    texts = [None] * 8
    others = [{"role": "user", "content": "Tell me a long story about a robot."}]

    def ask(place):
        messages = QUESTION if place % 2 == 0 else others
        texts[place] = server.ask("/v1/chat/completions", GREEDY | {"messages": messages})[2]["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(texts[::2]) == {solo["text"]} and len(set(texts[1::2])) == 1


def test_completions_and_tokens(server, openai):
    prompt = "The capital of France is"
    tokens = server.ask("/tokenize", {"prompt": prompt})[2]["tokens"]
    assert server.ask("/detokenize", {"tokens": tokens})[2] == {"prompt": prompt}
    of_text = openai.completions.create(model="smollm", prompt=prompt, max_tokens=6, temperature=0)
    of_tokens = openai.completions.create(model="smollm", prompt=[tokens, tokens], max_tokens=6, temperature=0)
    assert [choice.text for choice in of_tokens.choices] == [of_text.choices[0].text] * 2
    assert "Paris" in of_text.choices[0].text
    streamed = openai.completions.create(model="smollm", prompt=prompt, max_tokens=6, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == of_text.choices[0].text


def test_scores_of_a_prompt_as_evaluations_ask_for_them(server):
    """The request of lm-evaluation-harness: echo, one token, log probabilities of everything."""
    prompt = "The capital of France is Paris"
    tokens = server.ask("/tokenize", {"prompt": prompt})[2]["tokens"]
    answer = server.ask("/v1/completions", {"prompt": [tokens], "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0})[2]
    choice = answer["choices"][0]
    scores = choice["logprobs"]
    assert choice["text"].startswith(prompt) and "".join(scores["tokens"]) == choice["text"]
    assert len(scores["tokens"]) == len(tokens) + 1 and scores["token_logprobs"][0] is None
    expected = json.loads(succeeded(run("run", "--model", DEMO_MODEL, "--context", 2048, "--raw", "--temp", 0, "--tokens", 1, "--quiet", "--json",
                                        "--prompt-log-probabilities", "-p", prompt)).stdout)
    found = [score["log_probability"] for score in expected["prompt_log_probabilities"]]
    assert scores["token_logprobs"][1:-1] == pytest.approx(found, abs=1e-4)
    assert all(score < 0 for score in scores["token_logprobs"][1:])
    assert all(max(top.values()) >= score for top, score in zip(scores["top_logprobs"][1:], scores["token_logprobs"][1:]))


def test_responses_by_the_openai_client(openai, solo):
    answer = openai.responses.create(model="smollm", input=QUESTION[0]["content"], temperature=0, max_output_tokens=12)
    assert answer.output_text == solo["text"] and answer.status == "incomplete" and answer.usage.output_tokens == 12
    events = list(openai.responses.create(model="smollm", input=QUESTION, temperature=0, max_output_tokens=12, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == solo["text"]
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert events[-1].response.output[0].content[0].text == solo["text"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_ollama_by_its_client(server, solo):
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=server.address)
    options = {"temperature": 0, "num_predict": 12}
    answer = client.chat(model="smollm", messages=QUESTION, options=options)
    assert answer.message.content == solo["text"] and answer.eval_count == 12
    pieces = list(client.chat(model="smollm:latest", messages=QUESTION, options=options, stream=True))
    assert "".join(piece.message.content for piece in pieces) == solo["text"] and pieces[-1].done
    assert client.generate(model="smollm", prompt=QUESTION[0]["content"], options=options).response == solo["text"]
    assert [model.model for model in client.list().models] == ["smollm"]
    with pytest.raises(ollama.ResponseError, match="mirostat"):
        client.chat(model="smollm", messages=QUESTION, options={"mirostat": 1})


def test_embeddings_are_the_states_of_transformers(tmp_path):
    import base64
    import struct

    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model")
    module = pytest.importorskip("openai")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    succeeded(run("dequantize", DEMO_MODEL, tmp_path / "model", "--type", "f16", "--quiet"))
    texts = ["The sky is blue.", "A much longer text about a river that flows through the mountains of an old country.", "no"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    oracle = transformers.AutoModel.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with serving("--model", f"smollm={tmp_path / 'model'}", "--context", 64, "--activations", "f32") as server:
        client = module.OpenAI(base_url=server.address + "/v1", api_key="none", max_retries=0)
        ids = [tokenizer(text)["input_ids"] for text in texts]
        expected = []
        for tokens in ids:
            with torch.no_grad():
                state = oracle(torch.tensor([tokens])).last_hidden_state[0, -1]
            expected.append((state / state.norm()).tolist())
        for form in (texts, ids):
            answer = client.embeddings.create(model="smollm", input=form)  # which asks for base64
            assert [entry.index for entry in answer.data] == [0, 1, 2] and answer.usage.prompt_tokens == sum(map(len, ids))
            for entry, values in zip(answer.data, expected):
                assert entry.embedding == pytest.approx(values, abs=2e-3)
        whole = server.ask("/v1/embeddings", {"input": texts[0]})[2]["data"]
        assert len(whole) == 1 and whole[0]["embedding"] == pytest.approx(expected[0], abs=2e-3)
        text = server.ask("/v1/embeddings", {"input": ids[0], "encoding_format": "base64"})[2]["data"][0]["embedding"]
        assert struct.unpack(f"<{len(expected[0])}f", base64.b64decode(text)) == pytest.approx(whole[0]["embedding"])
        for body, field in [({"input": "x", "dimensions": 5}, "dimensions"), ({"input": ""}, "input"), ({"input": []}, "input"), ({}, "input"),
                            ({"input": "x", "encoding_format": "int8"}, "encoding_format"), ({"input": "word " * 200}, "input"), ({"input": [10**9]}, "input[0]")]:
            status, _, refused = server.ask("/v1/embeddings", body)
            assert status == 400 and refused["error"]["param"] == field, refused
        assert server.metric("tritllm_requests_accepted_total") == server.metric("tritllm_requests_done_total")


# Refusals


@pytest.mark.parametrize(("change", "field"), [
    ({"temperature": -1}, "temperature"), ({"temperature": "warm"}, "temperature"),
    ({"top_p": 2}, "top_p"), ({"top_k": -1}, "top_k"), ({"top_k": 1.5}, "top_k"), ({"n": 0}, "n"), ({"n": 10**9}, "n"), ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 2**40}, "max_tokens"), ({"max_tokens": True}, "max_tokens"), ({"seed": 1.5}, "seed"), ({"seed": 2**70}, "seed"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"99999999": 1}}, "logit_bias"), ({"logit_bias": {"1": "a"}}, "logit_bias[1]"),
    ({"stop": ""}, "stop"), ({"stop": [1]}, "stop"), ({"stop": ["x"] * 300}, "stop"), ({"stream": 1}, "stream"), ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"frequency_penalty": 1e6}, "frequency_penalty"),
    ({"min_tokens": 5}, "min_tokens"), ({"guided_toml": {}}, "guided_toml"), ({"modalities": ["audio"]}, "modalities"), ({"store": True}, "store"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tool_choice": "sometimes"}, "tool_choice"), ({"response_format": {"type": "xml"}}, "response_format.type"), ({"model": "gpt-4"}, "model"),
    ({"messages": []}, "messages"), ({"messages": [{"role": "king", "content": ""}]}, "messages[0].role"), ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0]"), ({"messages": ["hi"]}, "messages[0]"), ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "x", "extra": 1}]}, "messages[0].extra"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "bold": True}]}]}, "messages[0].content[0].bold"),
    ({"messages": [{"role": "user", "content": "x", "reasoning_content": "y"}]}, "messages[0].reasoning_content"),
    ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": "{}", "x": 1}}]}]}, "messages[0].tool_calls[0].function.x"),
    ({"tools": [{"type": "function", "function": {"name": "f"}, "cache": 1}]}, "tools[0].cache"),
    ({"tools": [{"type": "function", "function": {"name": "f", "returns": {}}}]}, "tools[0].function.returns"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
    ({"tool_choice": {"type": "function", "function": {"name": "f", "x": 1}}}, "tool_choice.function.x"),
    ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "loose": True}}}, "response_format.json_schema.loose"),
    ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
    ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template_kwargs.chat_template"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"repetition_penalty": 1.1, "repeat_penalty": 1.1}, "repetition_penalty"),
])  # fmt: skip
def test_a_field_that_cannot_be_honoured_is_refused_by_name(server, change, field):
    status, _, answer = server.ask("/v1/chat/completions", GREEDY | change)
    assert status == (404 if field == "model" else 400), answer
    assert answer["error"]["param"] == field, answer
    assert field in answer["error"]["message"] and answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("path", "change", "field"), [
    ("/v1/responses", {"reasoning": {"effort": "low", "budget": 5}}, "reasoning.budget"), ("/v1/responses", {"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    ("/v1/responses", {"text": {"verbosity": "low"}}, "text.verbosity"), ("/v1/responses", {"text": {"format": {"type": "text", "x": 1}}}, "text.format.x"),
    ("/v1/responses", {"tools": [{"type": "function", "name": "f", "x": 1}]}, "tools[0].x"), ("/v1/responses", {"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type"),
    ("/v1/responses", {"input": [{"role": "user", "content": "x", "weight": 1}]}, "input[0].weight"),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "y": 1}]}]}, "input[0].content[0].y"),
    ("/v1/responses", {"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "input[0].encrypted_content"),
    ("/v1/responses", {"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "caller": "b"}]}, "input[0].caller"),
    ("/api/chat", {"options": {"mirostat": 1}}, "options.mirostat"), ("/api/chat", {"options": {"num_ctx": 100000}}, "options.num_ctx"), ("/api/chat", {"options": {"top_p": 2}}, "options.top_p"),
    ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}, "messages[0].images"),
    ("/api/chat", {"messages": [{"role": "user", "content": "x", "mood": "bright"}]}, "messages[0].mood"),
])  # fmt: skip
def test_members_of_other_routes_are_refused_by_name(server, path, change, field):
    whole = {"input": "x", "max_output_tokens": 1} if path == "/v1/responses" else {"model": "smollm", "messages": QUESTION, "stream": False, "options": {"num_predict": 1}}
    assert server.ask(path, whole)[0] == 200
    status, _, answer = server.ask(path, whole | change)
    assert status == 400 and field in str(answer["error"]), answer


def test_what_clients_send_back_is_taken(server, openai):
    """An answer of the client's own classes, nulls and all, is a message of the next request; labels of Ollama's programs pass."""
    first = openai.chat.completions.create(**GREEDY, model="smollm").choices[0].message
    again = [*QUESTION, first.model_dump(), {"role": "user", "content": "Go on.", "name": "Ann"}]
    assert openai.chat.completions.create(**GREEDY | {"messages": again}, model="smollm").choices[0].message.content
    output = openai.responses.create(model="smollm", input=QUESTION, temperature=0, max_output_tokens=4).output
    again = [*QUESTION, *(item.model_dump() for item in output), {"role": "user", "content": "Go on."}]
    assert openai.responses.create(model="smollm", input=again, temperature=0, max_output_tokens=4).output_text
    body = {"model": "smollm", "messages": QUESTION, "stream": False, "options": {"num_predict": 1, "num_ctx": 1024, "num_gpu": 1, "repeat_last_n": 64}}
    assert server.ask("/api/chat", body)[0] == 200


def test_a_prompt_that_is_too_long_names_both_numbers(server):
    status, _, answer = server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 3000}]})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded" and answer["error"]["param"] == "messages"
    assert "2048" in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[1]", b'{"messages": "\xff\xfe"}', b'{"a": 1, "a": 2}', b"[" * 100000,
                                  b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"messages": NaN}', b"{}\0{}"],
                         ids=lambda body: body[:24].decode(errors="replace"))
def test_a_body_that_is_no_request(server, body):
    status, _, answer = server.ask("/v1/chat/completions", body)
    assert status == 400 and answer["error"]["message"]


def raw_answer(server, *pieces, end=False):
    """The bytes that come back to these bytes, until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if end:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(60)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionResetError):
            pass
        return received


@pytest.mark.parametrize(("request_bytes", "status"), [
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40000 + b"\r\n\r\n", b"431"),
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 200 + b"Connection: close\r\n\r\n", b"431"),
    (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
    (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -2\r\n\r\n", b"400"),
    (b"nonsense\r\n\r\n", b"400"),
    (b"GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
    (b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"403"),
    (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", b"403"),
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n", b"403"),
    (b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
    (b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"405"),
], ids=range(13))  # fmt: skip
def test_http_that_is_hostile(server, request_bytes, status):
    answer = raw_answer(server, request_bytes)
    assert answer.split(b" ")[1] == status, answer[:300]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["message"]
    assert server.ask("/health")[0] == 200


def test_pipelined_requests_are_answered_in_turn(server):
    body = json.dumps(GREEDY).encode()
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    answer = raw_answer(server, post + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2 and answer.endswith(b'{"status":"ok"}')


# Many clients


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def open_stream(server, **more):
    body = json.dumps({"messages": QUESTION, "stream": True, "ignore_eos": True, "max_tokens": 1500} | more).encode()
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(server, stream):
    before = server.metric("tritllm_requests_cancelled_total")
    connections = [open_stream(server, stream=stream) for _ in range(6)]  # more than there are slots
    wait_for(lambda: server.metric("tritllm_live_sequences") == 4 and server.metric("tritllm_queue_requests") == 2)
    for connection in connections:
        connection.close()
    wait_for(lambda: server.metric("tritllm_live_sequences") == 0 and server.metric("tritllm_queue_requests") == 0)
    assert server.metric("tritllm_requests_cancelled_total") == before + 6


def test_a_full_queue_answers_at_once(server):
    connections = [open_stream(server) for _ in range(4)]
    try:
        wait_for(lambda: server.metric("tritllm_live_sequences") == 4)  # before that they fill the queue
        connections += [open_stream(server) for _ in range(8)]
        wait_for(lambda: server.metric("tritllm_queue_requests") == 8)
        begin = time.monotonic()
        status, headers, answer = server.ask("/v1/chat/completions", GREEDY)
        assert status == 503 and int(headers["Retry-After"]) > 0 and answer["error"]["code"] == "server_busy"
        assert time.monotonic() - begin < 20
    finally:
        for connection in connections:
            connection.close()
    wait_for(lambda: server.metric("tritllm_live_sequences") + server.metric("tritllm_queue_requests") == 0)
    assert server.ask("/v1/chat/completions", GREEDY)[0] == 200


def test_the_ledger_balances(server):
    wait_for(lambda: server.metric("tritllm_live_sequences") == 0)
    names = ["accepted", "done", "failed", "cancelled"]
    accepted, *ended = (server.metric(f"tritllm_requests_{name}_total") for name in names)
    assert accepted == sum(ended) and accepted > 20


def test_idle_connections_do_not_keep_others_waiting(server):
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    for connection in connections[:100]:
        connection.sendall(b"GET /hea")
    try:
        assert server.ask("/health")[0] == 200
        assert server.ask("/v1/chat/completions", GREEDY)[0] == 200
    finally:
        for connection in connections:
            connection.close()


# The way in and out


def test_the_page_and_its_files(server):
    status, headers, text = server.ask("/")
    assert status == 200 and "<!doctype html>" in text and "default-src 'none'" in headers["Content-Security-Policy"]
    paths = [word.split('"')[0] for word in text.replace("src=", "href=").split('href="')[1:] if word.startswith("/")]
    assert len(paths) >= 6
    for path in paths:
        assert server.ask(path)[0] == 200, path
    assert server.ask("/page/nothing.js")[0] == 404


def test_every_route_is_described(server):
    document = server.ask("/openapi.json")[2]
    properties = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert properties["temperature"]["maximum"] == 100 and properties["n"]["minimum"] == 1
    assert {"/v1/completions", "/v1/responses", "/v1/models", "/tokenize", "/health", "/metrics", "/props"} <= set(document["paths"])


def test_keys_and_their_limits(tmp_path):
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model")
    key, slow = "k" * 32, "s" * 32
    (tmp_path / "keys").write_text(f"# keys\n{key} name=first\n{slow} requests_per_minute=2\n")
    with serving("--model", DEMO_MODEL, "--context", 512, "--api-key-file", tmp_path / "keys", "--allow-host", "models.example",
                 "--allow-origin", "https://chat.example") as server:
        assert server.ask("/health")[0] == 200 and server.ask("/")[0] == 200
        for wrong in ({}, {"Authorization": "Bearer " + "x" * 32}, {"Authorization": key}, {"Authorization": "Basic " + key}):
            for path in ("/v1/models", "/metrics", "/props"):
                status, headers, answer = server.ask(path, **wrong)
                assert status == 401 and headers["WWW-Authenticate"] == "Bearer" and answer["error"]["code"] == "invalid_api_key"
        right = {"Authorization": "Bearer " + key}
        assert server.ask("/v1/models", **right)[0] == 200
        assert server.ask("/v1/models", **right, Host="models.example:80")[0] == 200
        status, headers, _ = server.ask("/v1/models", **right, Origin="https://chat.example")
        assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://chat.example"
        assert [server.ask("/v1/models", Authorization="Bearer " + slow)[0] for _ in range(3)] == [200, 200, 429]


def test_tls(tmp_path):
    import ssl
    import urllib.request

    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model")
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                           "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"], capture_output=True)
    if made.returncode != 0:
        pytest.skip("no openssl program")
    with serving("--model", DEMO_MODEL, "--context", 512, "--tls-certificate", tmp_path / "certificate.pem", "--tls-key", tmp_path / "key.pem") as server:
        context = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
        request = urllib.request.Request(server.address + "/v1/chat/completions", json.dumps(GREEDY | {"stream": True}).encode())
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            assert answer.read().endswith(b"data: [DONE]\n\n")
        # The end is told: without that, a client could not tell it from an answer that was cut off.
        with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=60), server_hostname="127.0.0.1",
                                 suppress_ragged_eofs=False) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b""
            while part := connection.recv(65536):
                text += part
            assert text.endswith(b'{"status":"ok"}')


def test_tokens_of_reasoning_are_counted(tmp_path):
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model")
    succeeded(run("dequantize", DEMO_MODEL, tmp_path / "model", "--type", "f16", "--quiet"))
    (tmp_path / "model" / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}\n{% endfor %}{% if enable_thinking %}<think>{% endif %}")
    with serving("--model", f"smollm={tmp_path / 'model'}", "--context", 512) as server:
        for thinks in (True, False):
            usage = server.ask("/v1/chat/completions", GREEDY | {"chat_template_kwargs": {"enable_thinking": thinks}, "max_tokens": 5})[2]["usage"]
            assert usage["completion_tokens"] == 5 and usage["completion_tokens_details"] == {"reasoning_tokens": 5 if thinks else 0}


def test_a_signal_lets_answers_end():
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model")
    with serving("--model", DEMO_MODEL, "--context", 512) as server:
        connection = open_stream(server, max_tokens=40, temperature=0)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        server.process.send_signal(signal.SIGTERM)
        text = b""
        while part := connection.recv(65536):
            text += part
        connection.close()
        assert text.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), text[-200:]
        assert server.process.wait(timeout=60) == 0


def test_a_port_that_is_taken_is_told_before_the_weights_are_read():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error_line(run("serve", "--model", "/nothing", "--port", port), "--port", port, "in use", code=2)
    error_line(run("serve", "--model", "/nothing", "--port", 0, "--host", "localhost"), "--host", code=2)
    error_line(run("serve", "--model", "a=/x", "--model", "a=/y", "--port", 0), "--model", "'a'", code=2)
    error_line(run("serve", "--model", "/nothing", "--port", 0), "/nothing")


# The form of an answer, and tools

PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "kind": {"enum": ["human", "robot"]},
                                           "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2}},
          "required": ["name", "age", "kind"], "additionalProperties": False}
INVENT = [{"role": "user", "content": "Invent a person with name, age and kind. Answer in JSON."}]


def is_person(text):
    person = json.loads(text)
    return (set(person) - {"tags"} == {"name", "age", "kind"} and isinstance(person["name"], str) and isinstance(person["age"], int)
            and person["kind"] in ("human", "robot") and len(person.get("tags", [])) <= 2)


def test_an_answer_satisfies_its_schema(server, openai):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    # A string may go on for ever at a high temperature; an answer that was cut is no answer.
    answers = [openai.chat.completions.create(model="smollm", messages=INVENT, response_format=form, temperature=temperature, seed=seed, max_tokens=200)
               for temperature, seed in [(0, 1), (0.5, 2), (0.8, 3), (0.8, 4), (1, 5), (1, 6)]]
    whole = [answer.choices[0].message.content for answer in answers if answer.choices[0].finish_reason == "stop"]
    assert len(whole) >= 4 and all(map(is_person, whole)), whole
    chunks = openai.chat.completions.create(model="smollm", messages=INVENT, response_format=form, temperature=0, max_tokens=200, stream=True, n=2)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [answers[0].choices[0].message.content] * 2


def test_the_form_in_other_routes(server, openai):
    answer = openai.responses.create(model="smollm", input=INVENT, temperature=0, max_output_tokens=200,
                                     text={"format": {"type": "json_schema", "name": "person", "schema": PERSON}})
    assert is_person(answer.output_text)
    body = {"model": "smollm", "messages": INVENT, "stream": False, "format": PERSON, "options": {"temperature": 0, "num_predict": 200}}
    assert is_person(server.ask("/api/chat", body)[2]["message"]["content"])
    body = GREEDY | {"messages": INVENT, "max_tokens": 300, "response_format": {"type": "json_object"}}
    choice = server.ask("/v1/chat/completions", body)[2]["choices"][0]
    assert choice["message"]["content"].startswith("{")
    assert choice["finish_reason"] == "length" or isinstance(json.loads(choice["message"]["content"]), dict)


@pytest.mark.parametrize(("schema", "field"), [
    ({"type": "string", "pattern": "a+"}, "pattern"), ({"type": "integer", "minimum": 3}, "minimum"), ({"oneOf": [{}]}, "oneOf"), ({"$ref": "#/$defs/x"}, "$ref"),
    ({"type": "object", "properties": {"a": {"type": "strin"}}}, "properties.a.type"),
])  # fmt: skip
def test_a_schema_that_cannot_be_guaranteed_is_refused_by_name(server, schema, field):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    status, _, answer = server.ask("/v1/chat/completions", GREEDY | {"response_format": form})
    assert status == 400 and answer["error"]["param"] == "response_format.json_schema.schema." + field, answer
    assert server.ask("/v1/chat/completions", GREEDY)[0] == 200


def test_other_forms_of_an_answer(server, openai):
    import re

    def text(path="/v1/chat/completions", **form):
        body = {"messages": QUESTION} if "chat" in path else {"prompt": "The answer is"}
        status, _, answer = server.ask(path, body | {"temperature": 0.9, "max_tokens": 40, "seed": 5} | form)
        assert status == 200, answer
        assert answer["choices"][0]["finish_reason"] == "stop", answer
        return answer["choices"][0].get("text") or answer["choices"][0]["message"]["content"]

    date = r"(19|20)\d{2}-\d{2}-\d{2} [A-Zé]{2,4}"
    for path in ("/v1/chat/completions", "/v1/completions"):
        assert re.fullmatch(date, text(path, guided_regex=date))
        assert text(path, guided_choice=["red wine", "red", "green"]) in ("red wine", "red", "green")
        assert re.fullmatch(r"(- [a-z ]{1,9}\n){2}", text(path, grammar='root ::= item{2}\nitem ::= "- " [a-z ]{1,9} "\\n"'))
    assert is_person(text(structured_outputs={"json": PERSON}, max_tokens=300, temperature=0))
    assert re.fullmatch(date, text(structured_outputs={"regex": date}))
    answer = openai.completions.create(model="smollm", prompt=["One", "Two"], max_tokens=20, n=2, extra_body={"structured_outputs": {"choice": ["a", "bc"]}})
    assert {choice.text for choice in answer.choices} <= {"a", "bc"} and len(answer.choices) == 4


@pytest.mark.parametrize(("form", "field"), [
    ({"guided_regex": "(a"}, "guided_regex"), ({"structured_outputs": {"regex": r"a\b"}}, "structured_outputs.regex"), ({"grammar": "root ::= x"}, "grammar"),
    ({"structured_outputs": {"grammar": "x"}}, "structured_outputs.grammar"), ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
    ({"guided_choice": []}, "guided_choice"), ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_choice"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs.regex"),
    ({"structured_outputs": {"json": {"type": "string", "pattern": "a"}}}, "structured_outputs.json.pattern"),
])  # fmt: skip
def test_a_form_that_cannot_be_guaranteed_is_refused_by_name(server, form, field):
    status, _, answer = server.ask("/v1/chat/completions", GREEDY | form)
    assert status == 400 and answer["error"]["param"] == field, answer


WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Paris", "London"]}, "days": {"type": "integer"}}, "required": ["city"]}}}


@pytest.mark.parametrize("template", ["qwen25_tools", "hermes_tools", "llama3_tools"])
def test_a_function_is_called_and_answered(tmp_path, template):
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model")
    module = pytest.importorskip("openai")
    succeeded(run("dequantize", DEMO_MODEL, tmp_path / "model", "--type", "f16", "--quiet"))
    templates = Path(os.environ["TRITLLM_SOURCE_DIR"]) / "tests" / "text" / "templates"
    (tmp_path / "model" / "chat_template.jinja").write_text((templates / f"{template}.jinja").read_text())
    with serving("--model", f"qwen={tmp_path / 'model'}", "--context", 1024) as server:
        client = module.OpenAI(base_url=server.address + "/v1", api_key="none", max_retries=0)
        messages = [{"role": "user", "content": "What is the weather in Paris?"}]
        request = {"model": "qwen", "messages": messages, "tools": [WEATHER], "tool_choice": "required", "temperature": 0, "max_tokens": 100}
        choice = client.chat.completions.create(**request).choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        call = choice.message.tool_calls[0]
        assert call.function.name == "get_weather" and json.loads(call.function.arguments)["city"] in ("Paris", "London")

        pieces = [part for chunk in client.chat.completions.create(**request, stream=True) for part in chunk.choices[0].delta.tool_calls or []]
        assert "".join(part.function.arguments or "" for part in pieces) == call.function.arguments
        assert [part.function.name for part in pieces if part.function.name] == ["get_weather"]

        messages += [choice.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "Rain, 12 degrees"}]
        final = client.chat.completions.create(model="qwen", messages=messages, tools=[WEATHER], temperature=0, max_tokens=30)
        assert final.choices[0].message.content

        flat = {"type": "function"} | WEATHER["function"]
        answer = client.responses.create(model="qwen", input="Weather in Paris?", tools=[flat], tool_choice="required", temperature=0, max_output_tokens=100)
        assert answer.output[0].type == "function_call" and json.loads(answer.output[0].arguments)["city"] in ("Paris", "London")


# A mixed crowd, for TRITLLM_SOAK_SECONDS (10)


def resident_bytes(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def descriptors(process):
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


class Crowd:
    """Clients of which some leave, some read slowly and some send nonsense."""

    def __init__(self, server, seconds):
        self.server, self.end = server, time.monotonic() + seconds
        self.counts = {"whole": 0, "left": 0, "slow": 0, "malformed": 0, "busy": 0, "wrong": 0}
        self.lock = threading.Lock()

    def run(self, clients):
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def client(self, seed):
        import random

        draw = random.Random(seed)
        while time.monotonic() < self.end:
            kind = draw.choices(["whole", "left", "slow", "malformed"], [88, 5, 5, 2])[0]
            outcome = getattr(self, kind)(draw)
            with self.lock:
                self.counts[outcome] += 1

    def whole(self, draw):
        status, _, answer = self.server.ask("/v1/chat/completions", GREEDY | {"max_tokens": draw.randint(1, 12)})
        return {200: "whole", 503: "busy"}.get(status, "wrong")

    def left(self, draw):
        connection = open_stream(self.server, max_tokens=200)
        time.sleep(draw.random() / 2)
        connection.close()
        return "left"

    def slow(self, draw):
        with open_stream(self.server, max_tokens=draw.randint(1, 12), n=2) as connection:
            text = b""
            while not text.endswith(b"0\r\n\r\n") and b"HTTP/1.1 503" not in text:
                part = connection.recv(256)
                if not part:
                    return "wrong"
                text += part
                time.sleep(0.01)
        return "busy" if b"HTTP/1.1 503" in text else "slow"

    def malformed(self, draw):
        status = self.server.ask("/v1/chat/completions", draw.choice([b"{", b'{"messages": 5}', b'{"messages": [], "x": 1}']))[0]
        return "malformed" if status == 400 else "wrong"


def test_a_mixed_crowd_leaves_nothing_behind(server):
    seconds = float(os.environ.get("TRITLLM_SOAK_SECONDS", 10))
    names = ["accepted", "done", "failed", "cancelled"]
    Crowd(server, min(seconds, 10)).run(12)  # until memory has its lasting size
    wait_for(lambda: server.metric("tritllm_live_sequences") + server.metric("tritllm_queue_requests") == 0)
    memory, files = resident_bytes(server.process), descriptors(server.process)
    before = {name: server.metric(f"tritllm_requests_{name}_total") for name in names}
    crowd = Crowd(server, seconds)
    crowd.run(12)
    wait_for(lambda: server.metric("tritllm_live_sequences") + server.metric("tritllm_queue_requests") == 0)
    accepted, done, failed, cancelled = (server.metric(f"tritllm_requests_{name}_total") - before[name] for name in names)
    print(crowd.counts, {"accepted": accepted, "done": done, "failed": failed, "cancelled": cancelled},
          {"memory_growth_bytes": resident_bytes(server.process) - memory, "descriptors": descriptors(server.process) - files})
    assert crowd.counts["wrong"] == 0, crowd.counts
    assert accepted == done + failed + cancelled and failed == 0
    assert done >= crowd.counts["whole"] + crowd.counts["slow"]
    wait_for(lambda: descriptors(server.process) <= files + 1)
    assert resident_bytes(server.process) - memory < 8 << 20
