"""What chat templates give in Jinja2, with the environment that transformers sets up for them, and in tritllm, by its probe."""

import datetime
import json
import os
import pathlib
import subprocess
import time

from transformers.utils import chat_template_utils

NOW = datetime.datetime(2025, 3, 9, 14, 5, 6)
# A day whose local time is the same everywhere that the tests run: the probe and Python share the time zone.
NOW_SECONDS = int(time.mktime(NOW.timetuple()))


def strftime_now(format):
    return NOW.strftime(format)


def jinja_render(request):
    """The text, or the exception that Jinja2 raised."""
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[request["messages"]],
            tools=request.get("tools"),
            documents=request.get("documents"),
            chat_template=request["source"],
            add_generation_prompt=request.get("add_generation_prompt", False),
            strftime_now=strftime_now,
            **{name: request[name] for name in ("bos_token", "eos_token") if request.get(name)},
            **request.get("variables", {}),
        )
        return texts[0]
    except RecursionError:
        raise
    except Exception as error:  # templates can raise whatever Python's own operations raise
        return error


class _Placeholder:
    pass


# transformers replaces what is no plain data, functions included; the fixed clock has to pass.
_plain_template_data = chat_template_utils._plain_template_data


def _keep_clock(value):
    if isinstance(value, dict) and value.get("strftime_now") is strftime_now:
        rest = {name: item for name, item in value.items() if name != "strftime_now"}
        return {**_plain_template_data(rest), "strftime_now": strftime_now}
    return _plain_template_data(value)


chat_template_utils._plain_template_data = _keep_clock


def tritllm_render(requests, folder):
    """The answers of the probe: {text, literal} or {error, unsupported} for each request."""
    folder = pathlib.Path(folder)
    requests_file, answers_file = folder / "requests", folder / "answers"
    with requests_file.open("w") as out:
        for request in requests:
            out.write(json.dumps({**request, "now": NOW_SECONDS}) + "\n")
    subprocess.run([os.environ["TRITLLM_CHAT_TEMPLATE_PROBE"], requests_file, answers_file], check=True, timeout=600)
    return [json.loads(line) for line in answers_file.read_text().split("\n") if line]


def difference(expected, answer):
    """None where both gave the same text or both refused, else a description."""
    if isinstance(expected, Exception):
        return None if "error" in answer else f"Jinja2 raised {expected!r}, tritllm gave {answer['text']!r}"
    if "error" in answer:
        return f"Jinja2 gave {expected!r}, tritllm: {answer['error']}"
    return None if answer["text"] == expected else f"Jinja2 gave {expected!r}\n    tritllm gave {answer['text']!r}"


def literal_bytes(answer):
    """The prompt's bytes with everything that came from the template replaced by NUL, and the other way round."""
    text = answer["text"].encode()
    inside, outside = bytearray(len(text)), bytearray(text)
    last = 0
    for begin, end in answer["literal"]:
        assert last <= begin < end <= len(text)
        last = end
        inside[begin:end] = text[begin:end]
        outside[begin:end] = bytes(end - begin)
    return bytes(inside), bytes(outside)
