"""Manifests and journals whose checksums fit and whose contents do not: whoever may write to a folder may write those too. Each gives
an error that names the place, or the result that an honest one gives; never an internal error, and nothing is removed."""

import json
import random

import pytest

from cli_support import CONFIG, folder_digest, in_parallel, quantize, run, same_results, small_model, succeeded, tiny_model

xxhash = pytest.importorskip("xxhash")

VALUES = [None, True, -1, 0, 1, 2**32, 2**63, 2**64 - 1, 1e308, "", "x", "../x", "/etc/passwd", "config.json", "\x1b[2J\u009b", "é" * 300, [], [0], [2**40, 2**40], {},
          {"a": 1}]  # fmt: skip


def places(document, path=()):
    """Every value of a document, the containers too."""
    if path:
        yield path
    members = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in members:
        yield from places(value, (*path, key))


def changed(document, path, value):
    document = json.loads(json.dumps(document))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if value == "gone":
        parent.pop(path[-1])
    else:
        parent[path[-1]] = value
    return document


def sealed_manifest(document):
    document.pop("checksum", None)
    before = json.dumps(document, indent=2, ensure_ascii=False)[:-2] + ",\n"
    return before + f'  "checksum": "{xxhash.xxh3_128_hexdigest(before.encode())}"\n}}\n'


def journal_line(document):
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"{xxhash.xxh3_128_hexdigest(text.encode())} {text}\n"


def plainly_ended(result, *statuses):
    assert result.returncode in statuses, result
    assert "internal" not in result.stderr and "\x1b" not in result.stderr, result.stderr
    assert all(line.startswith(("error: ", "warning: ")) for line in result.stderr.splitlines()), result.stderr
    return result


@pytest.fixture
def packed(memory):
    succeeded(quantize(tiny_model(memory / "model", tied=True), memory / "out"))
    return memory / "out" / CONFIG / "packed"


NAMED = {
    "tied to nowhere": (lambda m, t: t("lm_head.weight").update(tied_to="nobody"), "lm_head.weight"),
    "tied to itself": (lambda m, t: t("lm_head.weight").update(tied_to="lm_head.weight"), "lm_head.weight"),
    "tied to another shape": (lambda m, t: t("lm_head.weight").update(tied_to="model.norm.weight"), "lm_head.weight"),
    "tied in a ring": (lambda m, t: (t("lm_head.weight").update(tied_to="model.norm.weight"),
                                     t("model.norm.weight").update(fate="tied", tied_to="lm_head.weight")), "tied"),
    "a shape of equal count": (lambda m, t: t("model.layers.0.mlp.up_proj.weight").update(shape=[17, 7]), "up_proj"),
    "a shape that wraps": (lambda m, t: t("model.layers.0.mlp.up_proj.weight").update(shape=[2**33, 2**31 + 1]), "up_proj"),
    "an empty matrix": (lambda m, t: t("model.layers.0.mlp.up_proj.weight").update(shape=[0, 17]), "up_proj"),
    "another depth": (lambda m, t: t("model.layers.0.mlp.up_proj.weight").update(depth=3), "up_proj"),
    "a histogram of another depth": (lambda m, t: t("model.layers.0.mlp.up_proj.weight")["level_histogram"].append(1), "level_histogram"),
    "a file that is not listed": (lambda m, t: t("model.norm.weight").update(file="other.safetensors"), "other.safetensors"),
    "a file that holds no weights": (lambda m, t: t("model.norm.weight").update(file="config.json"), "config.json"),
    "weights called a side file": (lambda m, t: [f.update(role="side") for f in m["files"] if f["role"] == "weights"], "weight"),
    "a recipe that is Markdown": (lambda m, t: m.update(recipe="# x\n"), "recipe"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_forged_manifests_are_refused_where_they_are_wrong(memory, packed, name):
    edit, words = NAMED[name]
    manifest = json.loads((packed / "tritllm.json").read_text())
    edit(manifest, lambda tensor: next(record for record in manifest["tensors"] if record["name"] == tensor))
    (packed / "tritllm.json").write_text(sealed_manifest(manifest))
    for arguments in (["verify", packed], ["dequantize", packed, memory / "decoded"], ["run", "--model", packed, "-p", "x"]):
        result = plainly_ended(run(*arguments), 1)
        assert words in result.stderr, result.stderr


def test_a_resealed_manifest_is_taken(packed):
    (packed / "tritllm.json").write_text(sealed_manifest(json.loads((packed / "tritllm.json").read_text())))
    succeeded(run("verify", packed))


def test_any_value_of_a_manifest_may_be_anything(memory, packed):
    manifest = json.loads((packed / "tritllm.json").read_text())
    pick = random.Random(5)
    cases = [(path, pick.choice([*VALUES, "gone"])) for path in places(manifest) for _ in range(2)]

    def strike(number):
        path, value = cases[number]
        folder = memory / f"case{number}"
        folder.mkdir()
        for file in packed.iterdir():
            (folder / file.name).hardlink_to(file)
        (folder / "tritllm.json").unlink()
        (folder / "tritllm.json").write_text(sealed_manifest(changed(manifest, path, value)))
        command = [["verify", folder], ["inspect", folder, "--tensors"], ["dequantize", folder, memory / f"decoded{number}"],
                   ["run", "--model", folder, "-p", "x"]][number % 4]  # fmt: skip
        plainly_ended(run(*command, "--quiet", timeout=60), 0, 1)

    in_parallel(strike, pick.sample(range(len(cases)), min(len(cases), 400)))


def test_ties_of_parts_are_checked_when_they_are_joined(memory):
    model = tiny_model(memory / "model", tied=True)
    for part in ("1/2", "2/2"):
        succeeded(quantize(model, memory / "parts", "--shard", part))
    forged = 0
    for path in (memory / "parts" / CONFIG).glob("part-*/tritllm.json"):
        manifest = json.loads(path.read_text())
        for record in manifest["tensors"]:
            if record["fate"] == "tied":
                record["tied_to"] = "nobody"
                forged += 1
        path.write_text(sealed_manifest(manifest))
    assert forged == 1
    result = plainly_ended(run("merge", memory / "parts", "--out", memory / "merged"), 1)
    assert "nobody" in result.stderr
    assert not list((memory / "merged").rglob("*.safetensors"))


# Journals


def unfinished(memory, shim, out):
    """An output folder whose run was killed after some tensors; its journal as documents."""
    model = small_model(memory / "model")
    arguments = ["quantize", "--model", model, "--out", out, "--configs", CONFIG, "--quiet", "--threads", "1"]
    calls = shim.calls([*arguments[:4], memory / "whole", *arguments[5:]], memory / "log")
    shim.run(arguments, "kill", len(calls) * 2 // 3)
    lines = (out / CONFIG / "journal.jsonl").read_text().splitlines()
    assert len(lines) >= 3
    return arguments, [json.loads(line[33:]) for line in lines]


def test_forged_journals_change_no_result(memory, shim):
    out = memory / "out"
    arguments, documents = unfinished(memory, shim, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pick = random.Random(6)
    cases = [(line, path, pick.choice([*VALUES, "gone"])) for line in range(len(documents)) for path in places(documents[line])]
    for line, path, value in pick.sample(cases, min(len(cases), 120)):
        for file in [file for file in out.rglob("*") if file.is_file()]:
            file.unlink()
        for file in sorted((folder for folder in out.rglob("*") if folder.is_dir()), reverse=True):
            file.rmdir()
        for file, contents in before.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents)
        forged = [changed(document, path, value) if number == line else document for number, document in enumerate(documents)]
        (out / CONFIG / "journal.jsonl").write_text("".join(map(journal_line, forged)))
        result = plainly_ended(run(*arguments), 0, 1)
        if result.returncode == 0:
            statistics = line > 0 and path[0] == "record" and path[-1] not in ("shape",) and path[1] in STATISTICS
            if not statistics:  # figures about the error are the journal's word alone
                same_results(out, memory / "whole")


STATISTICS = {"weight_energy", "relative_mse", "sqnr_db", "cosine", "max_abs_error", "clipped", "level_histogram"}


def test_entries_of_another_tensor_are_not_taken(memory, shim):
    out = memory / "out"
    arguments, documents = unfinished(memory, shim, out)
    first, second = documents[1], documents[2]
    swapped = [documents[0], first | {"position": second["position"]}, second | {"position": first["position"]}, *documents[3:], first | {"position": 10**6}]
    (out / CONFIG / "journal.jsonl").write_text("".join(map(journal_line, swapped)))
    succeeded(run(*arguments))
    same_results(out, memory / "whole")


def test_a_journal_that_is_a_pipe_or_a_link_is_refused(memory, shim):
    out = memory / "out"
    arguments, _ = unfinished(memory, shim, out)
    journal = out / CONFIG / "journal.jsonl"
    journal.rename(memory / "theirs")
    journal.symlink_to(memory / "theirs")
    before = (memory / "theirs").read_bytes()
    plainly_ended(run(*arguments), 0, 1)
    assert (memory / "theirs").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"tritllm_folder": 1}', '{\n  "tritllm_folder": 1,\n  "state": "finished",\n  "fingerprint": "' + "0" * 32 + '"\n}\n',
                                  '{\n  "tritllm_folder": 1,\n  "state": "finished",\n  "files": [{"name": "../../victim"}]\n}\n'])  # fmt: skip
def test_forged_marks_of_plain_folders_remove_nothing(memory, text):
    model = small_model(memory / "model")
    succeeded(quantize(model, memory / "out"))
    plain = memory / "out" / CONFIG / "model"
    (memory / "victim").write_text("precious")
    (plain / ".tritllm").write_text(text)
    before = folder_digest(memory)
    plainly_ended(quantize(model, memory / "out"), 1)
    plainly_ended(run("verify", plain, "--quiet"), 0, 1)
    after = folder_digest(memory)
    assert {name for name in before if before[name] != after.get(name)} <= {"out/progress.json", "out/.lock"}
