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


# Refusals


@pytest.mark.parametrize(("change", "field"), [
    ({"temperature": -1}, "temperature"), ({"temperature": "warm"}, "temperature"),
    ({"top_p": 2}, "top_p"), ({"top_k": -1}, "top_k"), ({"top_k": 1.5}, "top_k"), ({"n": 0}, "n"), ({"n": 10**9}, "n"), ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 2**40}, "max_tokens"), ({"max_tokens": True}, "max_tokens"), ({"seed": 1.5}, "seed"), ({"seed": 2**70}, "seed"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"99999999": 1}}, "logit_bias"), ({"logit_bias": {"1": "a"}}, "logit_bias[1]"),
    ({"stop": ""}, "stop"), ({"stop": [1]}, "stop"), ({"stop": ["x"] * 300}, "stop"), ({"stream": 1}, "stream"), ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"frequency_penalty": 1e6}, "frequency_penalty"),
    ({"min_tokens": 5}, "min_tokens"), ({"guided_json": {}}, "guided_json"), ({"modalities": ["audio"]}, "modalities"), ({"store": True}, "store"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tool_choice": "required"}, "tool_choice"), ({"model": "gpt-4"}, "model"),
    ({"messages": []}, "messages"), ({"messages": [{"role": "king", "content": ""}]}, "messages[0].role"), ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0]"), ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "x", "extra": 1}]}, "messages[0].extra"), ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template_kwargs.chat_template"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"repetition_penalty": 1.1, "repeat_penalty": 1.1}, "repetition_penalty"),
])  # fmt: skip
def test_a_field_that_cannot_be_honoured_is_refused_by_name(server, change, field):
    status, _, answer = server.ask("/v1/chat/completions", GREEDY | change)
    assert status == (404 if field == "model" else 400), answer
    assert answer["error"]["param"] == field, answer
    assert field in answer["error"]["message"] and answer["error"]["type"] == "invalid_request_error"


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
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if end:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
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


def wait_for(condition, seconds=20):
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
    wait_for(lambda: server.metric("tritllm_live_sequences") == 0 and server.metric("tritllm_queue_requests") == 0, 5)
    assert server.metric("tritllm_requests_cancelled_total") == before + 6


def test_a_full_queue_answers_at_once(server):
    connections = [open_stream(server) for _ in range(12)]
    try:
        wait_for(lambda: server.metric("tritllm_queue_requests") == 8)
        begin = time.monotonic()
        status, headers, answer = server.ask("/v1/chat/completions", GREEDY)
        assert status == 503 and int(headers["Retry-After"]) > 0 and answer["error"]["code"] == "server_busy"
        assert time.monotonic() - begin < 5
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
        assert server.process.wait(timeout=20) == 0


def test_a_port_that_is_taken_is_told_before_the_weights_are_read():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error_line(run("serve", "--model", "/nothing", "--port", port), "--port", port, "in use", code=2)
    error_line(run("serve", "--model", "/nothing", "--port", 0, "--host", "localhost"), "--host", code=2)
    error_line(run("serve", "--model", "a=/x", "--model", "a=/y", "--port", 0), "--model", "'a'", code=2)
    error_line(run("serve", "--model", "/nothing", "--port", 0), "/nothing")
