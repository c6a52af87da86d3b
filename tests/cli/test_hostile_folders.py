"""Model folders that came from a stranger: links that lead out of them, files that cannot be read, and reports on all that is wrong.
What holds for one command holds for all that read a model."""

import json
import os
import shutil

import pytest

from cli_support import CONFIG, error_line, folder_bytes, quantize, run, succeeded, tiny_model

SECRET = "a private key"
WEIGHTS = "trits-00001-of-00001.safetensors"
# Each of a plain folder's kinds of files.
NAMES = ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja", "LICENSE", "NOTICE",
         "README.md", "adapter_config.json", "additional_chat_templates", "additional_chat_templates/tool.jinja",
         "model.safetensors.index.json"]  # fmt: skip
PACKED_NAMES = [WEIGHTS, "trits.safetensors.index.json", "tritllm.json", "config.json", "tokenizer.json", "LICENSE"]


def commands(model, out):
    """Every command that reads a model folder."""
    text = out.parent / "text.txt"
    text.write_text("text")
    return {"quantize": ["quantize", "--model", model, "--out", out, "--configs", CONFIG],
            "dequantize": ["dequantize", model, out],
            "verify": ["verify", model],
            "inspect": ["inspect", model],
            "run": ["run", "--model", model, "-p", "hello"],
            "chat": ["chat", "--model", model],
            "tokenize": ["tokenize", "--model", model, "--text", "a"],
            "eval": ["eval", "--model", model, "--text", text],
            "bench": ["bench", "--model", model, "--tests", "pp8"]}  # fmt: skip


# Those that do not read every file.
SKIPS = {"tokenize": {"model.safetensors", "config.json", "README.md", "adapter_config.json", "model.safetensors.index.json"}}
PACKED_SKIPS = {"inspect": {WEIGHTS, "trits.safetensors.index.json", "config.json", "tokenizer.json", "LICENSE"},
                "tokenize": {WEIGHTS, "trits.safetensors.index.json", "tritllm.json", "config.json"},
                "quantize": set(PACKED_NAMES)}  # fmt: skip


def put_in_place(kind, path, outside):
    """Something that is not the file that the name promises; what the error must say."""
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "chain":
        (path.parent / "hop").symlink_to(outside)
        path.symlink_to("hop")
    elif kind == "climbing":
        path.symlink_to(os.path.relpath(outside, path.parent))


KINDS = ["fifo", "folder", "dangling", "loop", "device", "link", "chain", "climbing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_file_of_the_folder_is_refused_by_every_command(tmp_path, name, kind):
    if kind == "folder" and name == "additional_chat_templates":
        return
    model = tiny_model(tmp_path / "model")
    outside = tmp_path / "secret"
    if name == "additional_chat_templates":
        outside.mkdir()
        (outside / "tool.jinja").write_text(SECRET)
    else:
        outside.write_text(SECRET)
    put_in_place(kind, model / name, outside)
    for command, arguments in commands(model, tmp_path / "out").items():
        if name in SKIPS.get(command, ()):
            continue
        result = run(*arguments, timeout=20)
        assert result.returncode == 1, (command, result)
        assert name in result.stderr and "internal" not in result.stderr, (command, result.stderr)
        assert SECRET not in result.stdout + result.stderr
    assert all(SECRET.encode() not in contents for path in tmp_path.glob("out*") for contents in folder_bytes(path).values())


@pytest.mark.parametrize("kind", ["link", "fifo", "dangling"])
@pytest.mark.parametrize("name", PACKED_NAMES)
def test_the_same_for_packed_folders(tmp_path, name, kind):
    succeeded(quantize(tiny_model(tmp_path / "model"), tmp_path / "made"))
    packed = tmp_path / "made" / CONFIG / "packed"
    shutil.move(packed / name, tmp_path / "outside")  # the very bytes that the manifest expects
    put_in_place(kind, packed / name, tmp_path / "outside")
    for command, arguments in commands(packed, tmp_path / "out").items():
        if name in PACKED_SKIPS.get(command, ()):
            continue
        result = run(*arguments, timeout=20)
        assert result.returncode == 1 and name in result.stderr, (command, result)


@pytest.mark.parametrize("name", PACKED_NAMES)
def test_merge_refuses_links_in_parts(tmp_path, name):
    model = tiny_model(tmp_path / "model")
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, tmp_path / "parts", "--shard", part))
    folder = tmp_path / "parts" / CONFIG / "part-1-of-2"
    name = {WEIGHTS: next(path.name for path in folder.glob("*.safetensors"))}.get(name, name)
    shutil.move(folder / name, tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    error_line(run("merge", tmp_path / "parts", "--out", tmp_path / "out"), name, "leads out")


def hub_cache(cache, source):
    """The folder of a model as huggingface_hub lays it out; the snapshot is what is read."""
    snapshot = cache / "models--someone--tiny" / "snapshots" / ("0" * 40)
    blobs = cache / "models--someone--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(source.iterdir())):
        shutil.move(file, blobs / f"{number:040}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040}")
    return snapshot


def test_links_of_the_hubs_cache_are_followed(tmp_path):
    snapshot = hub_cache(tmp_path / "cache", tiny_model(tmp_path / "model", shards=2))
    (tmp_path / "alias").symlink_to(snapshot)
    for number, name in enumerate([snapshot, tmp_path / "alias", tmp_path / "cache" / "models--someone--tiny"]):
        succeeded(quantize(name, tmp_path / f"out{number}"))
        succeeded(run("verify", name))
        succeeded(run("inspect", name))
    succeeded(quantize(tiny_model(tmp_path / "model", shards=2), tmp_path / "plain"))
    assert (tmp_path / "out0" / CONFIG / "packed" / WEIGHTS).read_bytes() == (tmp_path / "plain" / CONFIG / "packed" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("target", ["{cache}/models--other--one/blobs/1", "{cache}/secret", "../../blobs/../../secret", "../../blobs/link"])
def test_links_of_the_hubs_cache_to_elsewhere_are_refused(tmp_path, target):
    cache = tmp_path / "cache"
    snapshot = hub_cache(cache, tiny_model(tmp_path / "model"))
    (cache / "models--other--one" / "blobs").mkdir(parents=True)
    for file in (cache / "models--other--one" / "blobs" / "1", cache / "secret"):
        file.write_text(SECRET)
    (cache / "models--someone--tiny" / "blobs" / "link").symlink_to(cache / "secret")
    (snapshot / "NOTICE").unlink()
    (snapshot / "NOTICE").symlink_to(target.format(cache=cache))
    error_line(quantize(snapshot, tmp_path / "out"), "NOTICE", "leads out")


def test_links_within_the_folder_are_followed(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "originals").mkdir()
    for name in ("LICENSE", "model.safetensors"):
        (model / name).rename(model / "originals" / name)
        (model / name).symlink_to(f"originals/{name}")
    succeeded(quantize(model, tmp_path / "out"))
    assert (tmp_path / "out" / CONFIG / "packed" / "LICENSE").read_text() == "A licence.\n"


@pytest.mark.parametrize("name", ["a\\b.json", os.fsdecode(b"\xff.txt")])
def test_side_files_of_odd_names_are_refused_rather_than_dropped(tmp_path, name):
    model = tiny_model(tmp_path / "model")
    (model / name).write_text("{}")
    error_line(quantize(model, tmp_path / "out"), "file name")


def test_a_folder_that_may_not_be_looked_into(memory):
    model = tiny_model(memory / "model")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "a.jinja").write_text("x")
    model.chmod(0o755)
    (model / "additional_chat_templates").chmod(0)

    def become_nobody():
        os.setgid(65534)
        os.setuid(65534)

    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    error_line(run("inspect", model, preexec_fn=become_nobody), "additional_chat_templates", "Permission denied")
    (model / "additional_chat_templates").chmod(0o755)
    (model / "NOTICE").chmod(0)
    error_line(run("inspect", model, preexec_fn=become_nobody), "NOTICE", "Permission denied")


# Reports


def report_of(*arguments, code=1):
    result = run("verify", *arguments, "--json")
    assert result.returncode == code, result
    document = json.loads(result.stdout)
    assert document["ok"] is (code == 0) and bool(document["errors"]) is (code != 0)
    return document["errors"]


def test_verify_answers_in_json_whatever_is_wrong(tmp_path):
    model = tiny_model(tmp_path / "model")
    assert report_of(model, code=0) == []
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.gguf").write_bytes(b"GGUF")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for path in [tmp_path / "nothing", tmp_path / "empty", tmp_path / "junk.gguf", tmp_path / "dangling", tmp_path / "fifo", "/dev/zero"]:
        report_of(path)
    succeeded(quantize(model, tmp_path / "out"))
    packed = tmp_path / "out" / CONFIG / "packed"
    report_of(packed, "--source", tmp_path / "nothing")
    shutil.copytree(packed, tmp_path / "out" / "other" / "packed")
    report = run("verify", tmp_path / "out", "--json")  # two models: a matter of usage
    assert report.returncode == 2 and json.loads(report.stdout)["ok"] is False


def test_verify_names_all_that_is_wrong_with_a_folder(tmp_path):
    model = tiny_model(tmp_path / "model", shards=3)
    shards = sorted(path.name for path in model.glob("*.safetensors"))
    (model / shards[0]).write_bytes(b"short")
    (model / shards[2]).write_bytes(bytes([255]) * 100)
    (model / "tokenizer.json").write_text("{")
    (model / "config.json").write_text("[]")
    os.mkfifo(model / "NOTICE.txt")
    (model / "LICENSE").unlink()
    (model / "LICENSE").symlink_to("/etc/passwd")
    found = {error["file"] for error in report_of(model)}
    assert found >= {shards[0], shards[2], "tokenizer.json", "config.json", "NOTICE.txt", "LICENSE"}


def test_verify_checks_the_checksums_of_plain_folders_that_tritllm_made(tmp_path):
    succeeded(quantize(tiny_model(tmp_path / "model"), tmp_path / "out", "--emit", "packed,model"))
    plain = tmp_path / "out" / CONFIG / "model"
    assert report_of(plain, code=0) == []
    weights = next(plain.glob("*.safetensors"))
    contents = bytearray(weights.read_bytes())
    contents[-1] ^= 1
    weights.write_bytes(contents)
    (plain / "NOTICE").write_text("another")
    assert {error["file"] for error in report_of(plain)} == {weights.name, "NOTICE"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_byte_order_mark_is_refused_by_name(tmp_path, name):
    model = tiny_model(tmp_path / "model", shards=2)
    text = (model / name).read_bytes() if (model / name).exists() else b"{}"
    (model / name).write_bytes(b"\xef\xbb\xbf" + text)
    errors = report_of(model)
    assert any(name in error["where"] and "byte order mark" in error["message"] for error in errors), errors
    if name in ("config.json", "model.safetensors.index.json"):
        error_line(quantize(model, tmp_path / "out"), name, "byte order mark")


def test_a_mark_does_not_make_a_link_ours(tmp_path):
    """A result whose file was replaced by a link to the same bytes elsewhere is not whole."""
    model = tiny_model(tmp_path / "model")
    succeeded(quantize(model, tmp_path / "out"))
    packed = tmp_path / "out" / CONFIG / "packed"
    shutil.move(packed / WEIGHTS, tmp_path / "elsewhere")
    (packed / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    result = quantize(model, tmp_path / "out")
    assert result.returncode == 1 and "leads out" in result.stderr, result
    assert (tmp_path / "elsewhere").exists()
