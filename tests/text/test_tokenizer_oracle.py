"""HF tokenizers as oracle: tritllm gives the same ids for any text, and the same text for any ids.

Environment: TRITLLM_TOKENIZER_PROBE, the program of tokenizer_probe.cpp; TRITLLM_DEMO_MODEL, a GGUF file whose tokenizer is compared too.
TRITLLM_TOKENIZERS, paths of further tokenizer.json files with colons between them. TRITLLM_ORACLE_MIB, how much text is compared over
all families (default 3): give 50 or more after a change to this module.
"""
import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from tokenizer_models import FAMILIES, PIECES
from tokenizer_texts import texts
from tokenizers import Tokenizer

os.environ["TOKENIZERS_PARALLELISM"] = "false"
DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
FURTHER = [path for path in os.environ.get("TRITLLM_TOKENIZERS", "").split(":") if path]
REAL = (["demo model"] if DEMO_MODEL.is_file() else []) + FURTHER
BYTES_PER_FAMILY = int(float(os.environ.get("TRITLLM_ORACLE_MIB", "3")) * 2**20 / (len(FAMILIES) + len(REAL)))


class Probe:
    def __init__(self):
        self.process = subprocess.Popen(
            [os.environ["TRITLLM_TOKENIZER_PROBE"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def load(self, path):
        answer = self.ask(load=str(path))
        assert "error" not in answer, answer
        return answer


def running_probe():
    probe = Probe()
    yield probe
    probe.process.stdin.close()
    assert probe.process.wait() == 0


# What a family's tests share has that family loaded.
probe = pytest.fixture(scope="module", name="probe")(running_probe)
own_probe = pytest.fixture(name="own_probe")(running_probe)


@pytest.fixture(scope="module", params=[*FAMILIES, *REAL])
def family(request, probe, tmp_path_factory):
    """The oracle of one family; the probe has loaded the same file."""
    path = tmp_path_factory.mktemp("family") / "tokenizer.json"
    if request.param in FAMILIES:
        FAMILIES[request.param]().save(str(path))
    elif request.param == "demo model":
        assert probe.ask(extract=str(DEMO_MODEL), to=str(path)) == {}
    else:
        path = Path(request.param)
    oracle = Tokenizer.from_file(str(path))
    oracle.no_truncation()
    about = probe.load(path)
    oracle.path = path
    assert about["size"] == max(oracle.get_vocab().values()) + 1
    return oracle


def first_difference(found, expected):
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    return at, found[at : at + 6], expected[at : at + 6]


def pieces(oracle):
    own = [token.content for token in oracle.get_added_tokens_decoder().values()]
    return PIECES + own[:60]


def test_ids_of_texts(family, probe):
    for text in texts(1, BYTES_PER_FAMILY, pieces(family)):
        expected = family.encode(text).ids
        answer = probe.ask(encode=text)
        assert answer.get("ids") == expected, (text, answer.get("error") or first_difference(answer["ids"], expected))


def test_ids_without_special_tokens(family, probe):
    for text in texts(2, BYTES_PER_FAMILY // 8, pieces(family)):
        assert probe.ask(encode=text, add_special=False).get("ids") == family.encode(text, add_special_tokens=False).ids, text
    family.encode_special_tokens = True
    try:
        for text in texts(3, BYTES_PER_FAMILY // 8, pieces(family)):
            expected = family.encode(text).ids
            assert probe.ask(encode=text, parse_special=False).get("ids") == expected, text
            # Text that is the user's through and through.
            assert probe.ask(encode=text, literal=[[0, len(text.encode())]]).get("ids") == expected, text
    finally:
        family.encode_special_tokens = False


def check_decoding(oracle, probe, ids):
    for skip_special in (False, True):
        answer = probe.ask(decode=ids, skip_special=skip_special)
        expected = oracle.decode(ids, skip_special_tokens=skip_special)
        assert answer["text"] == expected, (ids, skip_special)
        assert "".join(answer["stream"]) == expected, (ids, skip_special)


def test_text_of_ids(family, probe):
    for text in texts(4, BYTES_PER_FAMILY // 4, pieces(family)):
        check_decoding(family, probe, family.encode(text).ids)


def test_text_of_any_ids(family, probe):
    source = random.Random(5)
    highest = max(family.get_vocab().values())
    bytes_and_spaces = [i for token, i in family.get_vocab().items() if token.startswith("<0x") or token in ("▁", "Ġ", "ð", "Ł", "ĺ", "â")]
    for _ in range(300):
        ids = [source.randrange(highest + 3) for _ in range(source.choice([0, 1, 2, 40]))]
        ids += source.choices(bytes_and_spaces or [0], k=source.choice([0, 3, 12]))
        source.shuffle(ids)
        check_decoding(family, probe, ids)


def test_streams_hold_back_no_more_than_they_must(own_probe, tmp_path):
    oracle = FAMILIES["llama3"]()
    oracle.save(str(tmp_path / "tokenizer.json"))
    own_probe.load(tmp_path / "tokenizer.json")
    text = "plain words, é 文 🙂 and so on"
    ids = oracle.encode(text, add_special_tokens=False).ids
    answer = own_probe.ask(decode=ids)
    shown, sent = "", bytearray()
    for token, piece in zip(ids, answer["stream"]):
        sent += bytes.fromhex(own_probe.ask(decode=[token])["bytes"])
        shown += piece
        # All whole characters so far, and nothing of the next.
        assert shown == bytes(sent).decode(errors="ignore")
    assert bytes.fromhex(answer["bytes"]).decode() == text


@pytest.mark.parametrize("name", ["gpt2", "llama3", "gemma"])
def test_bytes_of_tokens_are_those_of_the_text(name, own_probe, tmp_path):
    oracle = FAMILIES[name]()
    oracle.save(str(tmp_path / "tokenizer.json"))
    own_probe.load(tmp_path / "tokenizer.json")
    for text in texts(6, 20000):
        # Marks in the text itself cannot be told from spaces afterwards.
        text = text.replace("▁", "")
        ids = oracle.encode(text, add_special_tokens=False).ids
        assert bytes.fromhex(own_probe.ask(decode=ids)["bytes"]).decode() == text
