"""`tritllm serve --max-memory`: models are loaded when they are asked for, and the one asked for least recently makes room."""

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from cli_support import error_line, run, succeeded
from serve_support import serving
from small_llama import small_llama

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
# With these, the model takes 586 MB: weights of four bytes, since the file's are quantised, and a cache for two contexts.
SIZES = ["--context", 1024, "--slots", 2]
ROOM_FOR_ONE, ROOM_FOR_TWO = "800M", "1300M"


def serving_copies(names, memory, *more):
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    models = [word for name in names for word in ("--model", f"{name}={DEMO_MODEL}")]
    return serving(*models, *SIZES, "--max-memory", memory, *more)


@pytest.fixture(scope="module")
def solo():
    answer = succeeded(run("run", "--model", DEMO_MODEL, "--context", 1024, "--temp", 0, "--tokens", 12, "--quiet", "--json",
                           "-p", QUESTION[0]["content"]))
    return json.loads(answer.stdout)["text"]


def loaded(server):
    return [model["id"] for model in server.ask("/v1/models")[2]["data"] if model["loaded"]]


def ask(server, model, **more):
    body = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 12} | more
    status, _, answer = server.ask("/v1/chat/completions", body)
    return answer["choices"][0]["message"]["content"] if status == 200 else (status, answer["error"]["message"])


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def begin_to_answer(server, model, tokens, answers):
    """A thread whose request is being answered; what comes goes into `answers` under the model's name."""
    thread = threading.Thread(target=lambda: answers.update({model: ask(server, model, max_tokens=tokens, ignore_eos=True)}))
    thread.start()
    wait_for(lambda: server.metric("tritllm_live_sequences") == 1)
    return thread


def test_the_least_recently_used_makes_room(solo):
    with serving_copies("abc", ROOM_FOR_TWO) as server:
        assert [model["id"] for model in server.ask("/v1/models")[2]["data"]] == ["a", "b", "c"]
        assert loaded(server) == ["a"]
        assert ask(server, "b") == solo and loaded(server) == ["a", "b"]
        assert ask(server, "a") == solo
        assert ask(server, "c") == solo and loaded(server) == ["a", "c"]
        # Every route brings its model, whatever it calls it; lists tell of all models.
        assert server.ask("/tokenize", {"model": "b", "prompt": "hello"})[2]["count"] > 0
        assert loaded(server) == ["b", "c"]
        assert server.ask("/api/chat", {"model": "a:latest", "messages": QUESTION, "stream": False})[0] == 200
        assert loaded(server) == ["a", "b"]
        props = server.ask("/props")[2]["models"]
        assert [model["loaded"] for model in props] == [True, True, False]
        assert all(model["facts"]["architecture"] == "LlamaForCausalLM" and model["context_length"] == 1024 for model in props)
        assert [model["name"] for model in server.ask("/api/tags")[2]["models"]] == ["a", "b", "c"]
        status, _, answer = server.ask("/v1/chat/completions", {"model": "d", "messages": QUESTION})
        assert status == 404 and "'a', 'b', 'c'" in answer["error"]["message"]


def test_an_answer_is_completed_before_its_model_leaves(solo):
    with serving_copies("ab", ROOM_FOR_ONE) as server:
        texts = {}
        first = begin_to_answer(server, "a", 200, texts)
        second = threading.Thread(target=lambda: texts.update(b=ask(server, "b")))
        second.start()
        # Meanwhile the server answers, and a request for the model that is to leave waits its turn.
        time.sleep(0.1)
        assert server.ask("/health")[0] == 200
        third = threading.Thread(target=lambda: texts.update(c=ask(server, "a")))
        third.start()
        for thread in (first, second, third):
            thread.join(120)
        assert texts["a"].startswith(solo) and len(texts["a"]) > len(solo)
        assert (texts["b"], texts["c"]) == (solo, solo)
        assert loaded(server) == ["a"]


def test_many_clients_of_more_models_than_fit(solo):
    with serving_copies("abc", ROOM_FOR_TWO, "--queue", 64) as server:
        wrong = []

        def client(number):
            for i in range(4):
                text = ask(server, "abc"[(number * 7 + i * 5) % 3])
                if text != solo:
                    wrong.append(text)

        clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(300)
        assert wrong == []
        wait_for(lambda: server.metric("tritllm_requests_done_total") == 24)
        assert server.metric("tritllm_requests_accepted_total") == 24 and len(loaded(server)) == 2


def test_a_client_that_leaves_while_it_waits_costs_no_loading():
    with serving_copies("ab", ROOM_FOR_ONE) as server:
        first = begin_to_answer(server, "a", 150, {})
        body = json.dumps({"model": "b", "messages": QUESTION}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        # The first one makes the pool wait for room, the second one only waits for the first.
        with socket.create_connection(("127.0.0.1", server.port)) as one, socket.create_connection(("127.0.0.1", server.port)) as other:
            one.sendall(head + body)
            time.sleep(0.1)
            other.sendall(head + body)
            time.sleep(0.1)
        first.join(120)
        assert ask(server, "a", max_tokens=1) is not None
        assert server.metric("tritllm_requests_accepted_total") == 2
        assert loaded(server) == ["a"]


def test_what_cannot_be_loaded_is_one_models_problem(tmp_path):
    models = {name: small_llama(tmp_path / name) for name in ("good", "broken")}
    (tmp_path / "broken" / "model.safetensors").rename(tmp_path / "away")
    fails = run("serve", "--port", 0, "--model", models["good"], "--model", models["broken"], "--max-memory", "1G", "--quiet")
    error_line(fails, "broken")  # every model is looked at when the server starts
    (tmp_path / "away").rename(tmp_path / "broken" / "model.safetensors")
    with serving("--model", models["good"], "--model", models["broken"], "--max-memory", "1G") as server:
        weights = tmp_path / "broken" / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[: len(whole) // 2])
        body = {"model": "broken", "prompt": "a", "max_tokens": 2, "ignore_eos": True}
        status, _, answer = server.ask("/v1/completions", body)
        assert status == 500 and "'broken' could not be loaded" in answer["error"]["message"]
        assert str(tmp_path) not in answer["error"]["message"]
        assert server.ask("/v1/completions", body | {"model": "good"})[0] == 200
        weights.write_bytes(whole)
        assert server.ask("/v1/completions", body)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert "broken" in server.process.stderr.read()


def test_a_limit_that_no_model_fits_is_refused_at_the_start():
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    refused = run("serve", "--port", 0, "--model", f"a={DEMO_MODEL}", "--max-memory", "100M", "--context", 1024, "--quiet")
    error_line(refused, "--max-memory", "'a' needs", "1024 tokens", "100 MiB", code=2)
    refused = run("serve", "--port", 0, "--model", f"a={DEMO_MODEL}", "--max-memory", "much", "--quiet")
    error_line(refused, "--max-memory", code=2)


def test_a_signal_ends_requests_that_wait_for_a_model():
    with serving_copies("ab", ROOM_FOR_ONE) as server:
        answers = {}
        first = begin_to_answer(server, "a", 100, answers)
        second = threading.Thread(target=lambda: answers.update(b=ask(server, "b")))
        second.start()
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        first.join(60)
        second.join(60)
        assert isinstance(answers["a"], str) and answers["b"][0] == 503, answers
        server.process.wait(60)
