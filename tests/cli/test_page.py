"""The chat page in a real browser (Debian's Chromium, by Playwright; skipped where either is missing)."""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from cli_support import run, succeeded
from serve_support import serving

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
HOSTILE = """<script>window.hurt = 1</script><img src=x onerror="window.hurt = 1">

[click](javascript:window.hurt=1) ![picture](https://evil.example/a.png) <a href="https://evil.example" onclick="window.hurt=1">x</a>

| a | b |
|---|---|
| **1** | $x^2$ |

```html"><img src=x onerror="window.hurt=1">
<b>code</b>
```

\\[\\href{javascript:window.hurt=1}{x} \\frac{1}{2}\\]
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium")
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def browsing(browser, *models, more=()):
    """The page of a server of these models, which must ask nobody else for anything and raise no error."""
    options = [part for model in models for part in ("--model", model)]
    with serving(*options, "--context", 512, *more) as server:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.server = server
        page.foreign, page.errors = [], []
        page.on("request", lambda request: request.url.startswith(server.address) or page.foreign.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(server.address)
        page.wait_for_selector("#sampler label:nth-child(6)", state="attached")
        yield page
        assert page.errors == [] and [url for url in page.foreign if not url.startswith(("data:", "blob:"))] == []
        page.close()


@pytest.fixture(scope="module")
def page(browser):
    with browsing(browser, f"smollm={DEMO_MODEL}") as page:
        yield page


@pytest.fixture(scope="module")
def two_models(browser, tmp_path_factory):
    out = tmp_path_factory.mktemp("quantised")
    succeeded(run("quantize", "--model", DEMO_MODEL, "--out", out, "--configs", "uniform-d2", "--emit", "packed", "--quiet"))
    # With AMX, activations of eight bits give other last digits where a prompt is divided otherwise.
    with browsing(browser, f"source={DEMO_MODEL}", f"d2={out / 'uniform-d2' / 'packed'}", more=("--activations", "f32")) as page:
        yield page


def set_setting(page, name, value):
    page.evaluate(f"localStorage.setItem('tritllm.sampler', JSON.stringify(Object.assign(JSON.parse(localStorage.getItem('tritllm.sampler') ?? '{{}}'), {{{name}: {value}}})))")


def test_a_conversation(page):
    set_setting(page, "max_tokens", 12)
    set_setting(page, "temperature", 0)
    page.reload()
    page.fill("#input", "Why is the sky blue?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop", state="visible")
    page.wait_for_selector("#stop", state="hidden")
    answers = page.locator(".message.assistant")
    assert answers.count() == 1 and len(answers.first.locator(".body").inner_text()) > 10
    assert "12 tokens" in answers.first.inner_text()
    page.get_by_role("button", name="Write another answer").click()
    page.wait_for_selector("text=2 / 2")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator("#title").inner_text() == "Why is the sky blue?"
    page.reload()
    assert page.locator(".message").count() == 2 and "tokens of the context" in page.locator("#meter").inner_text()


def test_a_stopped_answer_stays(page):
    set_setting(page, "max_tokens", 400)
    page.reload()
    page.click("#new-conversation")
    page.fill("#input", "Tell me a long story.")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message.assistant .body :not(:empty)")
    page.click("#stop")
    page.wait_for_selector("#send", state="visible")
    assert page.locator(".message.assistant .error").count() == 0


def test_hostile_text_is_shown_and_does_nothing(page):
    conversation = {"id": "h", "title": "<b>t</b>", "changed": 1, "system": "", "leaf": "2", "nodes": {
        "1": {"id": "1", "parent": None, "role": "user", "content": "<i>hi</i>"},
        "2": {"id": "2", "parent": "1", "role": "assistant", "content": HOSTILE, "reasoning": "<u>r</u>"}}}
    page.evaluate("text => localStorage.setItem('tritllm.conversations', text)", json.dumps([conversation]))
    page.reload()
    body = page.locator(".message.assistant .body")
    assert "<script>" in body.inner_text() and body.locator("table strong").inner_text() == "1"
    assert body.locator(".katex").count() >= 2 and body.locator("pre").count() == 1
    for selector in ("script", "img", "iframe", "[onclick]", "[onerror]", 'a[href^="javascript"]', "b"):
        assert body.locator(selector).count() == 0, selector
    assert page.locator("#conversations b, .message.user i, .thinking u").count() == 0
    assert page.evaluate("window.hurt") is None


def test_the_models_facts(page):
    page.click("#toggle-facts")
    page.wait_for_selector("text=LlamaForCausalLM")
    text = page.locator("#facts").inner_text()
    assert "134.5" in text and "apache-2.0" in text and "/v1/chat/completions" in text


def ask(page, text):
    page.fill("#input", text)
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop", state="visible")
    page.wait_for_selector("#stop", state="hidden")


def scored(server, model, tokens):
    status, _, answer = server.ask("/v1/completions", {"model": model, "prompt": tokens, "echo": True, "max_tokens": 0, "logprobs": 20})
    assert status == 200
    return answer["choices"][0]["logprobs"]


def test_two_models_side_by_side(two_models):
    page = two_models
    set_setting(page, "max_tokens", 16)
    set_setting(page, "temperature", 0)
    page.reload()
    page.wait_for_selector("#beside", state="visible")
    page.select_option("#model", "source")
    page.select_option("#beside", "d2")
    ask(page, "Why is the sky blue?")
    answer = page.locator(".message.assistant")
    parts = answer.locator(".part")
    assert parts.count() == 2 and [parts.nth(i).locator(".who").inner_text() for i in range(2)] == ["source", "d2"]
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    prompt = page.server.ask("/tokenize", {"messages": messages})[2]["tokens"]
    for i in range(2):
        part = parts.nth(i)
        tokens = part.locator(".body .token")
        text = "".join(tokens.all_text_contents())
        ids = page.server.ask("/tokenize", {"prompt": text, "add_special_tokens": False})[2]["tokens"]
        assert tokens.count() == len(ids) >= 8
        # What the page shows of a token is what the server says of it.
        both = [scored(page.server, model, prompt + ids) for model in ("source", "d2")]
        for k in (0, len(ids) // 2, len(ids) - 1):
            lines = tokens.nth(k).get_attribute("title").split("\n")
            assert float(re.fullmatch(r"at least (\d+\.\d{3}) nats apart", lines[0])[1]) >= 0
            for line, model, scores in zip(lines[1:], ("source", "d2"), both):
                shown = float(re.match(rf"{model}: (\d+\.\d) %", line)[1])
                assert abs(shown - 100 * 2.718281828459045 ** scores["token_logprobs"][len(prompt) + k]) < 0.2
        assert re.search(r"d2 is at least 0\.\d{3} nats a token from source here; farthest, \d+\.\d\d, at ", part.locator(".divergence").inner_text())
        assert "tokens" in part.locator(".note").inner_text()
    page.get_by_role("button", name="Show the answers as text").click()
    assert parts.locator(".body .token").count() == 0 and page.get_by_role("button", name="Show how far the models are apart").count() == 1
    # The conversation goes on from the first model's answer, and all of it is there again.
    page.reload()
    assert page.locator(".message.assistant .part").count() == 2
    page.wait_for_selector("#beside", state="visible")
    page.select_option("#beside", "")
    ask(page, "And at night?")
    assert page.locator(".message.assistant").count() == 2 and page.locator(".message.assistant").last.locator(".part").count() == 1


def test_the_divergence_of_known_distributions(two_models):
    found = two_models.evaluate("""async () => {
      const { divergence } = await import("/page/beside.js");
      const log = (list) => Object.fromEntries(Object.entries(list).map(([token, p]) => [token, Math.log(p)]));
      return [divergence(log({ a: 0.5, b: 0.5 }), log({ a: 0.25, b: 0.75 })), divergence(log({ a: 0.5, b: 0.3 }), log({ a: 0.5, b: 0.3 })),
              divergence(log({ a: 0.6, b: 0.1 }), log({ a: 0.3, c: 0.2 })), divergence(log({ a: 0.9 }), log({ b: 0.9 }))];
    }""")
    expected = [0.5 * 0.6931471806 + 0.5 * -0.4054651081, 0.0, 0.6 * 0.6931471806 + 0.4 * -0.5596157879, 0.0]
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_imported_comparison_is_data(two_models):
    place = {"token": "<b>x</b>", "nats": 0.5, "probabilities": [0.5, 0.25], "best": [[["<i>", 0.5]], [["y", 0.25]]]}
    part = {"content": "x", "reasoning": "", "tokens": None, "note": "", "places": [place]}
    nodes = {"1": {"id": "1", "parent": None, "role": "user", "content": "q"},
             "2": {"id": "2", "parent": "1", "role": "assistant", "model": "m", **part, "beside": {"model": "<u>n</u>", **part}}}
    conversation = {"id": "c", "title": "t", "changed": 1, "system": "", "leaf": "2", "nodes": nodes}
    broken = json.loads(json.dumps(conversation) .replace('"nats": 0.5', '"nats": "a lot"')) | {"id": "b"}
    two_models.evaluate("text => localStorage.setItem('tritllm.conversations', text)", json.dumps([conversation, broken]))
    two_models.reload()
    assert two_models.locator("#conversations li").count() == 1
    message = two_models.locator(".message.assistant")
    assert "<b>x</b>" in message.inner_text() and "<u>n</u> is at least 0.500" in message.inner_text()
    assert message.locator("b, i, u").count() == 0


def test_axe_finds_nothing_serious(two_models):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = two_models
    set_setting(page, "max_tokens", 8)
    for theme in ("light", "dark"):
        page.evaluate("theme => { localStorage.setItem('tritllm.theme', theme); localStorage.removeItem('tritllm.conversations'); }", theme)
        page.reload()
        page.wait_for_selector("#beside", state="visible")
        page.select_option("#beside", "d2")
        ask(page, "Name three colours.")
        for panel in ("facts", "settings"):
            page.click(f"#toggle-{panel}")
        page.wait_for_selector("text=LlamaForCausalLM")
        found = axe.run(page)
        serious = [violation for violation in found.response["violations"] if violation["impact"] in ("serious", "critical")]
        assert serious == [], json.dumps([[violation["id"], [node["html"] for node in violation["nodes"]][:3]] for violation in serious], indent=1)
