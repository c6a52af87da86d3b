"""`tritllm chat`: at a real (pseudo-)terminal as a person uses it, and with plain lines as a script does.

What a test waits for is text, never time. The demo model answers; with temperature 0 its answers can be compared.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from cli_support import BINARY, clean_environment, error_line, run, succeeded

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
PATIENCE = 240
LONG_STORY = "Write a very long story about a journey around the world."
STATS = re.compile(r"\[prompt (\d+) tokens, (\d+) of them reused, .+?; answer (\d+) tokens, .+?; (\w+)\]")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

pytestmark = pytest.mark.skipif(not DEMO_MODEL.is_file(), reason="no demo model; run scripts/get_demo_model")


def arguments(*more):
    return ["chat", "--model", str(DEMO_MODEL), "--threads", "2", *map(str, more)]


class Terminal:
    """The program at a terminal; what it wrote is consumed by the waits, in order."""

    def __init__(self, home, *more, **environment):
        environment = clean_environment(**{"HOME": home, "XDG_STATE_HOME": "", "TERM": "xterm", "LC_ALL": "C.UTF-8"} | environment)
        self.home = home
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.program = subprocess.Popen([BINARY, *arguments(*more)], stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        cwd=home, start_new_session=True, preexec_fn=lambda: self._take_terminal(slave))
        self.slave = slave
        self.unread = b""

    @staticmethod
    def _take_terminal(slave):
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def enter(self, text):
        self.type(text + "\r")

    def paste(self, text):
        self.type("\x1b[200~" + text + "\x1b[201~")

    def _read_more(self, deadline, wanted):
        assert time.monotonic() < deadline, f"waited for {wanted!r}, saw {self.unread!r}"
        if select.select([self.master], [], [], 0.2)[0]:
            self.unread += os.read(self.master, 1 << 16)
        else:
            assert self.program.poll() is None, f"left before {wanted!r}: {self.unread!r}"

    def wait(self, text):
        """Everything up to and including the text."""
        wanted, deadline = text.encode(), time.monotonic() + PATIENCE
        while wanted not in self.unread:
            self._read_more(deadline, text)
        end = self.unread.index(wanted) + len(wanted)
        seen, self.unread = self.unread[:end], self.unread[end:]
        return seen.decode().replace("\r\n", "\n")

    def ready(self):
        """What came before the next prompt, without what steers the terminal."""
        return ESCAPES.sub("", self.wait("\x1b[?2004h> ")).removesuffix("> ")

    def answer(self):
        """The answer to what was just entered, and its stats; the prompt stands again."""
        self.wait("\x1b[?2004l")
        seen = self.ready()
        stats = STATS.search(seen)
        assert stats, seen
        return seen[:stats.start()].removesuffix("\n"), stats

    def ask(self, text):
        self.enter(text)
        return self.answer()

    def command(self, text):
        self.enter(text)
        self.wait("\x1b[?2004l")
        return self.ready()

    def conversation(self):
        """The messages so far, by way of /save."""
        self.command("/save conversation.json")
        return [(message["role"], message["content"]) for message in
                json.loads((self.home / "conversation.json").read_text())["messages"]]

    def questions(self):
        return [content for role, content in self.conversation() if role == "user"]

    def read_what_there_is(self):
        if select.select([self.master], [], [], 0.2)[0]:
            self.unread += os.read(self.master, 1 << 16)

    def left(self):
        """The exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.program.poll() is None:
            assert time.monotonic() < deadline, self.unread
            self.read_what_there_is()
        return self.program.returncode

    def close(self):
        self.program.kill()
        self.program.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*more, **environment):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        opened.append(Terminal(home, *more, **environment))
        opened[-1].ready()
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def script(text, *more, **environment):
    command = [BINARY, *arguments("--temp", 0, *more)]
    data = text if isinstance(text, bytes) else text.encode()
    result = subprocess.run(command, input=data, env=clean_environment(**environment), timeout=PATIENCE, capture_output=True)
    return subprocess.CompletedProcess(command, result.returncode, result.stdout.decode(), result.stderr.decode())


# At a terminal


def test_the_answer_streams_and_the_next_one_reuses_the_cache(terminal):
    chat = terminal("--temp", 0, "-n", 24)
    answer, first = chat.ask("Name a colour.")
    expected = run("run", "--model", DEMO_MODEL, "-p", "Name a colour.", "--temp", 0, "-n", 24, "--quiet").stdout
    assert answer == expected.rstrip("\n") and answer
    assert first[2] == "0"
    _, second = chat.ask("And another one.")
    assert int(second[2]) >= int(first[1]) and int(second[1]) > int(second[2])
    assert chat.conversation()[1] == ("assistant", answer)
    chat.enter("/exit")
    assert chat.left() == 0


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(terminal):
    chat = terminal("--temp", 0)
    chat.enter(LONG_STORY)
    chat.wait("\x1b[?2004l")
    seen = chat.wait(" the ")
    chat.type("\x03")
    seen = (seen + chat.ready()).replace("^C", "")  # the terminal's echo
    stats = STATS.search(seen)
    assert stats[4] == "cancelled"
    assert chat.conversation() == [("user", LONG_STORY), ("assistant", seen[:stats.start()].removesuffix("\n"))]
    chat.command("/set tokens 4")
    _, stats = chat.ask("Thanks.")
    assert int(stats[3]) <= 4 and int(stats[2]) > 0


def test_ctrl_c_twice_leaves_while_the_message_is_still_being_read(terminal):
    chat = terminal("--temp", 0)
    chat.paste("one two three " * 100)
    chat.enter("")
    chat.wait("\x1b[?2004l")
    chat.type("\x03")
    chat.wait("^C")
    chat.type("\x03")
    while chat.program.poll() is None and "\x1b[?2004h> " not in chat.unread.decode():
        chat.read_what_there_is()
    # On a busy machine the kernel may make one signal of the two, and the answer is only stopped; then the next one leaves.
    chat.type("\x03")
    assert chat.left() in (0, 130)
    assert termios.tcgetattr(chat.slave) == chat.before


def test_ctrl_c_after_a_stopped_answer_leaves(terminal):
    chat = terminal("--temp", 0)
    chat.enter(LONG_STORY)
    chat.wait(" the ")
    chat.type("\x03")
    chat.ready()
    chat.type("\x03")
    assert chat.left() == 0


def test_ctrl_c_clears_the_line(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    chat.type("never sent")
    chat.wait("never sent")
    chat.type("\x03")
    chat.ready()
    chat.ask("Hello")
    assert chat.questions() == ["Hello"]
    chat.type("\x03")
    assert "again" in chat.ready()
    chat.ask("Still here")
    chat.type("\x03")
    assert "again" in chat.ready()
    chat.type("\x03")
    assert chat.left() == 0


def test_ctrl_d_leaves_and_the_terminal_is_as_before(terminal):
    chat = terminal()
    chat.type("\x04")
    assert chat.left() == 0
    assert termios.tcgetattr(chat.slave) == chat.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_leaves_the_terminal_as_before(terminal, number):
    chat = terminal()
    chat.program.send_signal(number)
    assert chat.left() == -number
    assert termios.tcgetattr(chat.slave) == chat.before


def test_editing_keys_know_characters_of_several_bytes(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    chat.type("Grüße, жизнь 世界 한😀!")
    chat.type("\x1b[D" * 2 + "\x7f" + "\x01" + "\x1b[C" * 4 + "\x7f")
    chat.enter("")
    chat.answer()
    assert chat.questions() == ["Grüe, жизнь 世界 😀!"]


def test_a_resized_terminal_keeps_the_line(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    chat.type("before ")
    chat.wait("before ")
    fcntl.ioctl(chat.master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
    chat.ask("after")
    assert chat.questions() == ["before after"]


def test_a_block_is_one_message(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    for line in ('"""', "/first", ""):
        chat.enter(line)
        chat.wait("... ")
    chat.ask('third"""')
    assert chat.questions() == ["/first\n\nthird"]


def test_pasted_text_is_one_message(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    chat.paste("one\rtwo\r\n\tthree ü\r")
    chat.ask("end")
    assert chat.questions() == ["one\ntwo\n\tthree ü\nend"]


def test_a_long_paste_is_taken_whole(terminal):
    chat = terminal("--context", 128)  # so that the message is refused instead of read for long
    text = "".join(f"line {i} of many\r" for i in range(600))
    remaining = ("\x1b[200~" + text + "\x1b[201~\r").encode()
    while remaining:  # a terminal's buffer is small
        remaining = remaining[os.write(chat.master, remaining[:1024]):]
        chat.read_what_there_is()
    chat.wait("error: message: ")
    history = chat.home / ".local/state/tritllm/chat_history"
    assert json.loads(history.read_text()) == text.replace("\r", "\n")


def test_up_brings_back_what_former_chats_typed(terminal):
    chat = terminal("--temp", 0, "-n", 2)
    chat.ask("first question")
    chat.paste("second\rquestion")
    chat.ask("")
    chat.enter("/exit")
    assert chat.left() == 0
    history = chat.home / ".local/state/tritllm/chat_history"
    assert [json.loads(line) for line in history.read_text().splitlines()] == ["first question", "second\nquestion", "/exit"]
    assert history.stat().st_mode & 0o777 == 0o600 and history.parent.stat().st_mode & 0o777 == 0o700
    chat = terminal("--temp", 0, "-n", 2)
    chat.type("\x10\x10")  # Ctrl-P, as the key up
    chat.wait("question")
    chat.ask("")
    assert chat.questions() == ["second\nquestion"]


def test_history_is_kept_where_the_user_wants_it_or_not_at_all(terminal, tmp_path):
    chat = terminal(XDG_STATE_HOME=tmp_path / "state")
    chat.command("/stats")
    assert (tmp_path / "state/tritllm/chat_history").read_text() == '"/stats"\n'
    chat = terminal("--no-history")
    chat.command("/stats")
    assert not (chat.home / ".local").exists()


def test_a_broken_history_is_left_alone(terminal, tmp_path):
    folder = tmp_path / "state/tritllm"
    folder.mkdir(parents=True)
    (folder / "chat_history").write_text('"good"\n{"not": "a string"}\n')
    chat = terminal("--temp", 0, "-n", 2, XDG_STATE_HOME=tmp_path / "state")
    chat.ask("Hello")
    assert (folder / "chat_history").read_text() == '"good"\n{"not": "a string"}\n'


def test_errors_are_shown_and_the_conversation_goes_on(terminal):
    chat = terminal("--temp", 0, "-n", 3, "--context", 128)
    chat.ask("Hello")
    before = chat.conversation()
    assert "error: /frobnicate: is not a command" in chat.command("/frobnicate now")
    refusal = chat.command("word " * 200)
    tokens, context = re.search(r"conversation takes (\d+) tokens, .* context of (\d+)", refusal).groups()
    assert int(tokens) > 200 and context == "128" and "/clear" in refusal
    assert "error: /save" in chat.command("/save")
    assert "error:" in chat.command("/save no/such/folder/conversation.json")
    assert "error: temperature: expected" in chat.command("/set temperature -1")
    assert chat.conversation() == before
    chat.ask("//slash")
    assert chat.questions() == ["Hello", "/slash"]


def test_what_the_model_writes_cannot_steer_the_terminal(terminal):
    chat = terminal("--temp", 0, "-n", 2)
    (chat.home / "hostile.json").write_text(json.dumps({"messages": [{"role": "system", "content": "a\x1b]0;owned\x07\x9b2J b"}]}))
    assert "Loaded 1" in chat.command("/load hostile.json")
    seen = chat.command("/system")
    assert r"a\x1b]0;owned\x07\xc2\x9b2J b" in seen


def test_no_colours(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    chat.enter("Hello")
    seen = chat.wait("length]")
    assert not re.search(r"\x1b\[[0-9;]*m", seen)


# With plain lines


def test_a_script_gets_the_answers_alone():
    result = script("Name a colour.\n\nAnd a fruit.\n", "-n", 8)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout + result.stderr and "> " not in result.stdout
    assert len(STATS.findall(result.stderr)) == 2
    quiet = script("Name a colour.\r\nAnd a fruit.", "-n", 8, "--quiet")
    assert quiet.stdout == result.stdout and quiet.stderr == ""


def test_a_script_may_hold_blocks_and_commands(tmp_path):
    result = script(f'/system Be brief.\n"""\none\ntwo\n"""\n/set top-k 7\n/save {tmp_path}/conversation.json\n/exit\nnever\n', "-n", 4)
    assert result.returncode == 0
    document = json.loads((tmp_path / "conversation.json").read_text())
    assert [(message["role"], message["content"]) for message in document["messages"]] == [
        ("system", "Be brief."), ("user", "one\ntwo"), ("assistant", result.stdout.removesuffix("\n"))]
    assert document["settings"]["top_k"] == 7 and document["settings"]["temperature"] == 0
    assert document["settings"]["tokens"] == 4 and document["settings"]["seed"] is None


def test_save_and_load_go_on_with_the_same_conversation(tmp_path):
    file = tmp_path / "conversation.json"
    whole = script(f"/set temperature 0.7\n/set seed 5\nName a colour.\n/save {file}\nWhy?\n", "-n", 12, "--quiet")
    later = script(f"/load {file}\nWhy?\n", "--quiet")
    assert whole.returncode == later.returncode == 0
    assert whole.stdout.endswith(later.stdout) and later.stdout.strip() and later.stdout != whole.stdout


def test_regen_with_a_seed_repeats_and_without_it_varies(tmp_path):
    lines = "Invent a name for a dragon.\n" + "/regen\n" * 3 + f"/save {tmp_path}/conversation.json\n"
    same = script("/set temperature 1.5\n/set seed 3\n" + lines, "-n", 12, "--quiet").stdout
    answer = same[:len(same) // 4]
    assert same == answer * 4 and answer.strip()
    varied = script("/set temperature 1.5\n" + lines, "-n", 12, "--quiet").stdout
    assert len(json.loads((tmp_path / "conversation.json").read_text())["messages"]) == 2
    assert varied[:len(varied) // 4] * 4 != varied


def test_system_replaces_and_clear_forgets(tmp_path):
    result = script("/system One.\nHello\n/system Two.\n/save a.json\n/clear\n/save b.json\n/system\n/save c.json\n".replace(
        "/save ", f"/save {tmp_path}/"), "-n", 3, "--quiet")
    assert result.returncode == 0, result.stderr

    def roles(name):
        return [(message["role"], message["content"]) for message in json.loads((tmp_path / name).read_text())["messages"]]

    assert roles("a.json")[0] == ("system", "Two.") and [role for role, _ in roles("a.json")] == ["system", "user", "assistant"]
    assert roles("b.json") == [("system", "Two.")]
    assert roles("c.json") == []
    assert "Two." in result.stderr


def test_the_first_error_ends_a_script():
    for text, words in {"/nope\nHello\n": ["/nope", "/help"], "/set top_p 2\nHello\n": ["top_p", "from 0 to 1"],
                        "/set colour red\n": ["colour", "is not a setting", "temperature"], "/set top_k 1.5\n": ["top_k", "whole"],
                        "/regen\n": ["/regen"], '"""\nopen\n': ['"""'], "/clear all\n": ["/clear", "all"]}.items():
        result = script(text, "--quiet")
        code = 1 if text.startswith('"""') else 2
        error_line(result, *words, code=code)
        assert result.stdout == ""
    error_line(script(b"caf\xe9\n", "--quiet"), "UTF-8")


def thinking_model(folder):
    """The demo model with a template that has a variable of its own, as Qwen 3's has."""
    folder.mkdir()
    succeeded(run("dequantize", DEMO_MODEL, folder / "model", "--type", "f16", "--quiet"))
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    (folder / "model/chat_template.jinja").write_text(template + "{% if enable_thinking is defined and not enable_thinking %}<think>\n</think>\n{% endif %}")
    return folder / "model"


def test_template_variables_are_settings(tmp_path):
    model = thinking_model(tmp_path / "thinking")
    lines = ("Hello\n/set template_var enable_thinking=false\n/clear\nHello\n/set\n"
             f"/save {tmp_path}/conversation.json\n/set template-var enable_thinking=\n/clear\nHello\n"
             f"/load {tmp_path}/conversation.json\n/clear\nHello\n")
    command = [BINARY, "chat", "--model", model, "--threads", "2", "--temp", "0", "-n", "2"]
    result = subprocess.run(command, input=lines, env=clean_environment(), timeout=PATIENCE, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lengths = [int(found[1]) for found in STATS.finditer(result.stderr)]
    assert lengths[0] == lengths[2] < lengths[1] == lengths[3]
    assert "template_var      enable_thinking=false" in result.stderr
    settings = json.loads((tmp_path / "conversation.json").read_text())["settings"]
    assert settings["template_vars"] == {"enable_thinking": False}
    for option, words in {"enable_thnking=false": ["--template-var", "enable_thnking"], "x": ["--template-var", "NAME=VALUE"]}.items():
        error_line(run("chat", "--model", model, "--quiet", "--template-var", option), *words, code=2)
    answer = json.loads(succeeded(run("run", "--model", model, "-p", "Hello", "-n", 1, "--json", "--quiet", "--template-var", "enable_thinking=false")).stdout)
    assert answer["prompt_tokens"] == lengths[1]


@pytest.mark.parametrize("document, words", [
    ("{", ["conversation.json"]),
    ("[]", ["expected a JSON object", "found []"]),
    ("{}", ["messages"]),
    ('{"messages": {}}', ["messages", "expected an array", "found {}"]),
    ('{"messages": ["text"]}', ["messages/0", "expected a JSON object", 'found "text"']),
    ('{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}', ["messages/1", "system"]),
    ('{"messages": [{"role": "user", "content": 7}]}', ["messages/0", "content"]),
    ('{"messages": [{"role": "user"}]}', ["messages/0", "content"]),
    ('{"messages": [], "settings": {"top_q": 1}}', ["settings", "top_q"]),
    ('{"messages": [], "settings": {"top_p": 3}}', ["settings", "top_p", "from 0 to 1"]),
    ('{"messages": [], "settings": {"seed": "x"}}', ["settings", "seed", "number"]),
    ('{"messages": [], "settings": {"top_k": -1}}', ["settings", "top_k"]),
    ('{"messages": [], "settings": {"template_vars": 1}}', ["settings", "template_vars", "object"]),
    ('{"messages": [], "settings": {"template_vars": {"nothing_knows_me": 1}}}', ["settings", "template_vars", "nothing_knows_me"]),
])
def test_a_file_that_is_not_a_conversation_is_refused(tmp_path, document, words):
    (tmp_path / "conversation.json").write_text(document)
    error_line(script(f"/load {tmp_path}/conversation.json\n", "--quiet"), "conversation.json", *words)


def test_a_refused_file_leaves_the_conversation(terminal):
    chat = terminal("--temp", 0, "-n", 3)
    chat.ask("Hello")
    before = chat.conversation()
    (chat.home / "bad.json").write_text('{"messages": [], "settings": {"tokens": 9, "top_p": 3}}')
    assert "error:" in chat.command("/load bad.json")
    assert "error:" in chat.command("/load missing.json")
    assert chat.conversation() == before
    assert json.loads((chat.home / "conversation.json").read_text())["settings"]["tokens"] == 3


def test_a_model_without_chat_template_is_refused(tmp_path):
    model = DEMO_MODEL.read_bytes()
    assert model.count(b"tokenizer.chat_template") == 1
    (tmp_path / "model.gguf").write_bytes(model.replace(b"tokenizer.chat_template", b"tokenizer.chat_nemplate"))
    result = run("chat", "--model", tmp_path / "model.gguf", "--quiet")
    error_line(result, "model.gguf", "chat template")
    assert result.stdout == ""


def test_options_are_checked_before_the_first_prompt():
    error_line(run("chat", "--model", DEMO_MODEL, "--quiet", "--top-p", 2), "--top-p: expected a number from 0 to 1", code=2)
    assert run("chat", "--model", DEMO_MODEL, "--json").returncode == 2
    assert "--json" not in run("chat", "--help").stdout
