"""`tritllm compare`: the figures are those of eval, bench and the files themselves; the picture is sound SVG."""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cli_support import error_line, llama, run, succeeded
from small_llama import small_llama

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny model with four results of quantize, and a text."""
    folder = tmp_path_factory.mktemp("models")
    small_llama(folder / "source")
    succeeded(run("quantize", "--model", folder / "source", "--configs", "uniform-d2,uniform-d4,optimal-d2,optimal-d4", "--out", folder / "out", "--quiet"))
    (folder / "text").write_text("some text to read " * 20)
    return folder


def compared(models, *arguments, reference="source"):
    command = ("compare", *arguments, "--reference", models / reference, "--text", models / "text", "--window", 16, "--windows", 3)
    return succeeded(run(*command, "--json", "--quiet")).stdout


def packed(models, config):
    return models / "out" / config / "packed"


def test_figures_are_those_of_the_other_commands(models):
    result = json.loads(compared(models, packed(models, "uniform-d2"), packed(models, "optimal-d4"), "FP16/d4=" + str(models / "out" / "optimal-d4" / "model"), "--answer-tokens", 3))
    rows = result["models"]
    assert [(row["series"], row["name"]) for row in rows] == [("uniform", "uniform-d2"), ("optimal", "optimal-d4"), ("FP16", "d4")]
    for row in rows:
        alone = json.loads(succeeded(run("eval", "--model", row["path"], "--reference", models / "source", "--text", models / "text", "--window", 16, "--windows", 3, "--json", "--quiet")).stdout)
        assert {name: row[name] for name in alone if name != "seconds"} == {name: value for name, value in alone.items() if name != "seconds"}
        assert row["tokens_per_second"] > 0 and row["tokens_per_second_stddev"] >= 0
        assert row["weights"] == result["reference"]["weights"]
        assert row["bits_per_weight"] == pytest.approx(8 * row["bytes"] / row["weights"])
    for row in rows[:2]:
        report = json.loads((Path(row["path"]).parent / "report.json").read_text())
        assert row["bytes"] == sum(path.stat().st_size for path in Path(row["path"]).glob("*.safetensors"))
        assert row["weights"] == report["all_weights"]
        # In a tiny matrix, padding to whole lines counts, and the report counts the codebooks too.
        depth = int(row["name"][-1])
        assert 1.6 * depth + 0.3 <= row["matrix_bits_per_weight"] <= report["stored_bits_per_weight"]
    assert rows[2]["matrix_bits_per_weight"] == 16
    reference = result["reference"]
    assert reference["perplexity"] == rows[0]["reference_perplexity"] and reference["tokens_per_second"] > 0
    assert "kl_divergence_mean" not in reference


def test_a_table_and_a_picture(models):
    plot = models / "plot.svg"
    arguments = ["compare", *(packed(models, config) for config in ("optimal-d4", "uniform-d2", "uniform-d4", "optimal-d2")), f"<b>&/x={packed(models, 'optimal-d2')}",
                 "--reference", models / "source", "--text", models / "text", "--window", 16, "--answer-tokens", 0, "--plot", plot]  # fmt: skip
    table = succeeded(run(*arguments)).stdout.splitlines()
    assert [line.split("|")[1].strip() for line in table] == ["model", "---", "source", "optimal-d4", "uniform-d2", "uniform-d4", "optimal-d2", "<b>& x"]
    assert len({line.count("|") for line in table}) == 1
    tree = ET.parse(plot).getroot()
    assert len(tree.findall(f".//{SVG}polyline")) == 6 and len(tree.findall(f".//{SVG}circle")) == 10
    texts = [element.text for element in tree.iter(f"{SVG}text")]
    assert texts.count("optimal") == 1 and "<b>&" in texts and texts.count("d4") == 4
    # Each series is drawn from its smallest file to its largest, and inside its chart.
    for line in tree.findall(f".//{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        assert points == sorted(points)
        assert all(0 < x < float(tree.get("width")) and 0 < y < float(tree.get("height")) for x, y in points)


def test_rows_that_are_done_survive_a_failure(models, tmp_path):
    """A model that opens but cannot be measured with this reference comes last; the others' figures are there."""
    other = tmp_path / "other"
    llama(other)
    result = run("compare", packed(models, "optimal-d4"), other, "--reference", models / "source", "--text", models / "text", "--window", 16, "--windows", 2, "--answer-tokens", 0, "--plot", tmp_path / "plot.svg")
    assert result.returncode != 0 and "another tokenizer" in result.stderr
    assert [line.split("|")[1].strip() for line in result.stdout.splitlines()] == ["model", "---", "source", "optimal-d4"]
    assert len(ET.parse(tmp_path / "plot.svg").findall(f".//{SVG}circle")) == 2


def test_rows_of_an_earlier_comparison(models, tmp_path):
    first, second, alone = (tmp_path / name for name in ("first.json", "second.json", "alone.json"))
    first.write_text(compared(models, packed(models, "uniform-d2"), "--answer-tokens", 2))
    second.write_text(compared(models, packed(models, "optimal-d2"), "--with", first, "--answer-tokens", 0))
    before, after = json.loads(first.read_text()), json.loads(second.read_text())
    assert after["models"][0] == before["models"][0] and [row["name"] for row in after["models"]] == ["uniform-d2", "optimal-d2"]
    assert after["reference"]["tokens_per_second"] == before["reference"]["tokens_per_second"] and after["text"] == before["text"]
    # Without a model to measure: the rows again, of several files.
    alone.write_text(compared(models, packed(models, "optimal-d4"), "--answer-tokens", 0))
    result = run("compare", "--with", second, "--with", alone, "--plot", tmp_path / "plot.svg")
    assert [line.split("|")[1].strip() for line in succeeded(result).stdout.splitlines()][2:] == ["source", "uniform-d2", "optimal-d2", "optimal-d4"]
    assert len(ET.parse(tmp_path / "plot.svg").findall(f".//{SVG}circle")) == 6
    assert json.loads(succeeded(run("compare", "--with", second, "--json")).stdout) == after

    # Figures that do not belong side by side.
    error_line(run("compare", "--with", first, "--with", second), "another model is called 'uniform-d2' too", code=2)
    (tmp_path / "text").write_text("another text to read " * 20)

    def refused(reference, text, *words, windows=3, scored="second-half", more=()):
        error_line(run("compare", packed(models, "optimal-d4"), "--with", first, "--reference", reference, "--text", text, "--window", 16, "--windows", windows,
                       "--scored", scored, "--answer-tokens", 0, *more), *words, code=2)  # fmt: skip

    source, text = models / "source", models / "text"
    refused(source, tmp_path / "text", "--with: another text")
    refused(source, text, "3 windows of 16", windows=2)
    refused(source, text, "scored part", scored="all")
    refused(packed(models, "optimal-d2"), text, "another source")
    refused(source, text, "other activations", more=["--activations", "f32"])
    refused(source, text, "key/value cache", more=["--kv-cache", "f32"])
    for damage in ({"models": []}, {"models": [{}]}, {"text": {}}, {"reference": 3}):
        (tmp_path / "damaged.json").write_text(json.dumps(before | damage))
        error_line(run("compare", "--with", tmp_path / "damaged.json"), tmp_path / "damaged.json")


def test_refusals(models):
    common = ["--reference", models / "source", "--text", models / "text", "--window", 16]
    error_line(run("compare", packed(models, "optimal-d2"), models / "out" / "optimal-d2" / "model", *common), "another model is called 'optimal-d2' too", "NAME=PATH", code=2)
    error_line(run("compare", "/x=" + str(packed(models, "optimal-d2")), *common), "SERIES/NAME=PATH", code=2)
    error_line(run("compare", packed(models, "optimal-d2"), models / "nothing", *common), models / "nothing")
    error_line(run("compare", models / "out", *common), "several packed models", code=2)
    # Before the first model is measured.
    late = run("compare", packed(models, "optimal-d2"), models / "text", *common)
    assert late.returncode == 1 and "source" not in late.stdout
    error_line(run("compare", *common), "a model to measure", "--with", code=2)
    error_line(run("compare", packed(models, "optimal-d2"), "--text", models / "text"), "--reference", code=2)
    error_line(run("compare", packed(models, "optimal-d2"), "--reference", models / "source"), "--text-file", code=2)


def test_a_gguf_file_is_called_after_itself(models):
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    result = json.loads(succeeded(run("compare", DEMO_MODEL, "--reference", DEMO_MODEL, "--text", models / "text", "--window", 16, "--windows", 1, "--answer-tokens", 0, "--json", "--quiet")).stdout)
    row, = result["models"]
    assert (row["series"], row["name"]) == ("GGUF", DEMO_MODEL.stem)
    assert row["bytes"] == DEMO_MODEL.stat().st_size and row["kl_divergence_mean"] == 0
    assert 5 <= row["matrix_bits_per_weight"] < 5.5  # Q4_1 has 5; some matrices have more
    assert "tokens_per_second" not in row
