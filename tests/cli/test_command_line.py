"""The command line as a whole: help, unknown names, aliases, environment twins, completions and the manual page."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cli_support import BINARY, clean_environment, error_line, llama, run, succeeded, tiny_model

COMMANDS = ["quantize", "pack", "dequantize", "inspect", "verify", "merge", "run", "chat", "serve", "eval", "compare", "bench", "tokenize", "devices", "completions", "manual"]


def help_of(command):
    return succeeded(run("help", command)).stdout


def options_of(command):
    """The twin in the environment of each long option, and what the help says about it."""
    # An option begins in the second column; what it does may go on in the lines after it.
    text = help_of(command).split("Options:", 1)[-1]
    options = {}
    for entry in re.split(r"\n  (?=-)", text)[1:]:
        names, flat = entry.split(None, 1)[0], " ".join(entry.split())
        if "--help" not in names:
            twin = re.search(r"\(Env:(\w+)\)", flat)
            options[names] = (twin and twin[1], flat)
    return options


def test_help_in_every_spelling():
    whole = succeeded(run("--help")).stdout
    assert whole == succeeded(run("help")).stdout == succeeded(run("-h")).stdout
    for command in COMMANDS:
        assert command in whole
        assert help_of(command) == succeeded(run(command, "--help")).stdout
    assert re.fullmatch(r"tritllm \d+\.\d+\.\d+\n", succeeded(run("--version")).stdout)
    assert succeeded(run("version")).stdout == succeeded(run("--version")).stdout


@pytest.mark.parametrize("word, guess", [
    ("quantise", "quantize"), ("chta", "chat"), ("tokenise", "tokenize"), ("benhc", "bench"), ("Run", "run"), ("hlep", "help"),
    ("insp", "inspect"),
])  # fmt: skip
def test_an_unknown_command_gets_the_nearest_name(word, guess):
    error_line(run(word, "--model", "x"), word, "is not a command", f"did you mean '{guess}'?", code=2)
    error_line(run("help", word), word, f"did you mean '{guess}'?", code=2)


def test_a_word_that_is_like_none_gets_no_guess():
    line = error_line(run("frobnicate"), "frobnicate: is not a command", "tritllm help", code=2)
    assert "did you mean" not in line
    error_line(run("x" * 100_000), "is not a command", code=2)
    error_line(run(), "expected a command", code=2)


@pytest.mark.parametrize("arguments, word, guess", [
    (["run", "--modle", "x"], "--modle", "--model"), (["run", "--temprature=1"], "--temprature", "--temperature"),
    (["quantize", "--config", "uniform-d1"], "--config", "--configs"), (["chat", "--contxt", "5"], "--contxt", "--context"),
    (["eval", "--windwos", "5"], "--windwos", "--windows"), (["bench", "--synth", "x"], "--synth", "--synthetic"),
])  # fmt: skip
def test_an_unknown_option_gets_the_nearest_name(arguments, word, guess):
    error_line(run(*arguments), f"{word}: is not an option of {arguments[0]}", f"did you mean '{guess}'?", code=2)


def test_what_else_is_left_over_is_named():
    line = error_line(run("run", "--model", "x", "--frobnicate"), "--frobnicate: is not an option of run", "tritllm help run", code=2)
    assert "did you mean" not in line
    error_line(run("run", "--model", "x", "-p", "two", "words"), "unexpected argument 'words'", "quote", code=2)
    error_line(run("run", "--model", "x", "--stop", "a", "b", "-p", "c"), "unexpected argument 'b'", code=2)
    error_line(run("run", "-p", "x"), "--model is required", "tritllm help run", code=2)


def test_short_names():
    for command, names in {"run": "mct", "chat": "mct", "eval": "mct", "bench": "mt", "quantize": "mot", "merge": "ot", "tokenize": "mt"}.items():
        text = help_of(command)
        for name in names:
            assert re.search(rf"^  -{name},--", text, re.MULTILINE), (command, name)


def test_every_option_has_a_twin_and_a_twin_one_meaning():
    meanings = {}
    for command in COMMANDS:
        options = options_of(command)
        assert options or command in ("completions", "manual"), command
        for names, (twin, text) in options.items():
            first = next(name for name in names.split(",") if name.startswith("--"))
            assert twin == "TRITLLM_" + first[2:].upper().replace("-", "_"), (command, names, text)
            meanings.setdefault(twin, set()).add(first)
    assert len(meanings) > 40
    assert all(len(flags) == 1 for flags in meanings.values()), meanings
    # The same name with different kinds of values would be a trap.
    assert {"TRITLLM_DEPTH", "TRITLLM_SYNTHETIC_DEPTH", "TRITLLM_CONTEXT", "TRITLLM_WINDOW", "TRITLLM_TEXT", "TRITLLM_TEXT_FILE"} <= meanings.keys()
    assert "TRITLLM_DEPTH" not in help_of("bench") and "TRITLLM_CONTEXT" not in help_of("eval") and "(Env:TRITLLM_TEXT)" not in help_of("eval")


def test_twins_are_read_and_flags_win():
    error_line(run("run", "-p", "x", env={"TRITLLM_MODEL": "/no/such/model"}), "/no/such/model")
    error_line(run("run", "-m", "/the/flag", "-p", "x", env={"TRITLLM_MODEL": "/no/such/model"}), "/the/flag")
    error_line(run("run", "-m", "x", "-p", "x", env={"TRITLLM_TOP_P": "7"}), "--top-p: expected a number from 0 to 1", code=2)
    error_line(run("bench", "--synthetic", "gpt-5", env={"TRITLLM_SYNTHETIC_DEPTH": "9"}), "--synthetic-depth", code=2)
    error_line(run("bench", "--synthetic", "gpt-5", env={"TRITLLM_DEPTH": "q_proj=3"}), "gpt-5", code=2)


# Errors of the library

SOURCE = Path(os.environ["TRITLLM_SOURCE_DIR"]) / "src"


def library_texts():
    for file in sorted(SOURCE.rglob("*.cpp")):
        module = file.relative_to(SOURCE).parts[0]
        # Model cards hold commands to copy.
        if module == "app" or file.name in ("model_card.cpp", "quantize_command.cpp", "dequantize.cpp"):
            continue
        for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"', file.read_text()):
            yield file, text


def test_the_library_knows_no_flags():
    for file, text in library_texts():
        others = text.replace("llama-gguf-split --merge", "")
        assert not re.search(r"(^|\s)--[a-z]|\btritllm (quantize|merge|run|verify|dequantize)\b", others), (file, text)


def test_every_field_that_an_error_names_has_a_flag():
    table = (SOURCE / "app/option_names.cpp").read_text()
    named = {field.rstrip(".") for file, text in library_texts() for field in re.findall(r"\boptions\.[a-z_.]+", text)}
    assert len(named) > 10
    for field in sorted(named):
        flag = re.search(rf'{{"{re.escape(field)}", "(--[a-z-]+)"}}', table)
        assert flag, field
        assert any(flag[1] in help_of(command) for command in COMMANDS), flag[1]


def test_errors_name_the_flags_that_were_given(tmp_path):
    error_line(run("quantize", "-m", tmp_path, "-o", tmp_path / "out", "--configs", "best"), "error: --configs: unknown", code=2)
    error_line(run("bench", "--synthetic", "gpt-5"), "error: --synthetic: no shape", code=2)
    error_line(run("bench", "--synthetic", "llama-3.2-1b", "--tests", "pp"), "error: --tests: expected", code=2)


def test_bash_completes_commands_options_and_files(tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    (tmp_path / "completion").write_text(succeeded(run("completions", "bash")).stdout)

    def completed(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        code = f". ./completion; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _tritllm; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return subprocess.run([bash, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    assert set(COMMANDS) <= set(completed("tritllm", ""))
    assert completed("tritllm", "quan") == ["quantize"]
    assert completed("tritllm", "help", "insp") == ["inspect"]
    assert sorted(completed("tritllm", "run", "--top-")) == ["--top-k", "--top-log-probabilities", "--top-p"]
    assert completed("tritllm", "quantize", "--max") == ["--max-memory"]
    assert completed("tritllm", "run", "mod") == []  # bash's own completion of files takes over


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(shell, tmp_path):
    script = tmp_path / "script"
    script.write_text(succeeded(run("completions", shell)).stdout)
    for name in ("--max-memory" if shell != "fish" else "-l max-memory", "tokenize"):
        assert name in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    subprocess.run([shell, "-n", script], check=True)


def test_the_manual_names_every_option(tmp_path):
    page = succeeded(run("manual")).stdout
    for command in COMMANDS:
        for names in options_of(command):
            assert "\n.B " + ", ".join(names.split(",")).replace("-", "\\-") in page, names
    man = shutil.which("groff") or shutil.which("mandoc")
    if man is None:
        pytest.skip("neither groff nor mandoc")
    (tmp_path / "page.1").write_text(page)
    checked = subprocess.run([man, *(["-man", "-ww", "-z"] if man.endswith("groff") else ["-Tlint"]), tmp_path / "page.1"], capture_output=True, text=True)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr


# A command line that cannot be parsed, a value that cannot be, a model that is not there.
FAILURES = [("quantize",), ("quantize", "--model"), ("quantize", "--model", "{nothing}", "--out", "{out}"), ("quantize", "--model", "{model}", "--out", "{out}", "--shard", "3/2"),
            ("pack", "--model", "{model}", "--out", "{out}", "--quiet"), ("dequantize", "{nothing}"), ("dequantize", "{nothing}", "{out}"), ("inspect",), ("inspect", "{nothing}"),
            ("verify",), ("verify", "{nothing}"), ("verify", "{model}", "--sample"), ("verify", "{model}", "--sample", "x"), ("verify", "{model}", "--sorce", "x"), ("verify", "a", "b"),
            ("merge",), ("merge", "{nothing}"), ("run",), ("run", "--model", "{nothing}", "-p", "a"), ("run", "--model", "{model}", "--top-k", "-3"), ("serve", "--model", "{nothing}"),
            ("eval", "--model", "{nothing}", "--text", "{nothing}"), ("compare", "{nothing}", "--reference", "{nothing}", "--text", "{nothing}"), ("bench", "--tests", "x"), ("tokenize", "--model", "{model}"), ("devices", "--x")]  # fmt: skip


@pytest.mark.parametrize("words", FAILURES, ids=" ".join)
def test_a_failure_is_json_where_json_was_asked_for(tmp_path, words):
    places = {"nothing": tmp_path / "nothing", "out": tmp_path / "out", "model": tiny_model(tmp_path / "model")}
    arguments = [word.format(**places) for word in words]
    plain = run(*arguments)
    line = error_line(plain, code=None)
    assert plain.stdout == ""
    # Before the other words, behind them, and by the environment.
    for asked, env in (([arguments[0], "--json", *arguments[1:]], {}), ([*arguments, "--json"], {}), (arguments, {"TRITLLM_JSON": "1"})):
        result = run(*asked, env=env)
        assert result.returncode in (1, 2)
        document = json.loads(result.stdout)
        if words[0] == "verify":
            assert document.keys() == {"ok", "errors"} and document["ok"] is False
            problem, = document["errors"]
            assert problem.keys() == {"file", "where", "message"}
        else:
            assert document.keys() == {"error"} and document["error"].keys() == {"where", "message", "remedy"}
            problem = document["error"]
        # Behind an option without its value, --json may be taken for the value: another error, but JSON all the same.
        told = error_line(result, code=None)
        assert f"{problem['where']}: {problem['message']}" in told
        if asked[1:2] == ["--json"] or env:
            assert told == line and result.returncode == plain.returncode


def test_a_full_device_is_an_error(tmp_path):
    model, text = tiny_model(tmp_path / "model"), tmp_path / "text"
    text.write_text("text " * 20)
    for part in ("1/2", "2/2"):
        assert run("quantize", "--model", model, "--out", tmp_path / "parts", "--configs", "optimal-d2", "--shard", part, "--quiet").returncode == 0
    llama(tmp_path / "llama")
    runs = [["--help"], ["--version"], ["help", "run"], ["run", "--help"], ["manual"], ["completions", "bash"], ["devices"], ["devices", "--json"],
            ["inspect", model], ["inspect", model, "--json"], ["verify", model], ["verify", model, "--json"], ["verify", tmp_path / "nothing", "--json"],
            ["quantize", "--model", model, "--out", tmp_path / "out", "--configs", "optimal-d2"],
            ["quantize", "--model", model, "--out", tmp_path / "out", "--configs", "optimal-d2", "--dry-run"],
            ["merge", tmp_path / "parts", "--out", tmp_path / "merged"],
            ["tokenize", "--model", tmp_path / "llama", "--text", "a"], ["run", "--model", tmp_path / "llama", "--raw", "-p", "a", "-n", "2"],
            ["run", "--model", tmp_path / "llama", "--raw", "-p", "a", "-n", "2", "--json"],
            ["eval", "--model", tmp_path / "llama", "--text", text, "--context", "16"],
            ["compare", tmp_path / "llama", "--reference", tmp_path / "llama", "--text", text, "--context", "16"], ["bench", "--model", tmp_path / "llama", "--tests", "tg1"]]  # fmt: skip
    for arguments in runs:
        with open("/dev/full", "w") as full:
            result = subprocess.run([BINARY, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=clean_environment())
        assert result.returncode == 1 and "standard output" in result.stderr and "No space" in result.stderr, (arguments, result)


def test_the_table_of_limits_names_files_that_exist():
    text = (SOURCE.parent / "SECURITY.md").read_text()
    named = set(re.findall(r"`(src/[a-z0-9_/.]+)`", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (SOURCE.parent / name).is_file()] == []
