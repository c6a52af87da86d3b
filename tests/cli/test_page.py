"""The chat page in a real browser (Debian's Chromium, by Playwright; skipped where either is missing)."""

import json
import os
import shutil
from pathlib import Path

import pytest

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
def page():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium")
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    with serving("--model", f"smollm={DEMO_MODEL}", "--context", 512) as server, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.foreign, page.errors = [], []
        page.on("request", lambda request: request.url.startswith(server.address) or page.foreign.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(server.address)
        page.wait_for_selector("#sampler label:nth-child(6)", state="attached")
        yield page
        assert page.errors == [] and [url for url in page.foreign if not url.startswith(("data:", "blob:"))] == []
        browser.close()


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
