"""lm-evaluation-harness gives the served packed model the scores that it gives the FP16 folder in transformers (skipped without
`pip install lm_eval[api] accelerate`, which nothing else needs)."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cli_support import run, succeeded
from serve_support import serving

DEMO_MODEL = Path(os.environ.get("TRITLLM_DEMO_MODEL", ""))
FACTS = {
    "What is the capital of {}?": {"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo",
                                   "Greece": "Athens", "Poland": "Warsaw", "Norway": "Oslo", "Ireland": "Dublin", "Peru": "Lima", "Iraq": "Baghdad"},
    "What is the opposite of {}?": {"hot": "cold", "big": "small", "fast": "slow", "light": "dark", "rich": "poor", "young": "old", "high": "low"},
    "What colour is {}?": {"grass": "green", "snow": "white", "blood": "red", "the sky": "blue", "coal": "black"},
}
CHOICE = """task: tiny_choice
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ANSWER = """task: tiny_answer
output_type: generate_until
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false, temperature: 0}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}]
"""


def write_tasks(folder):
    draw = random.Random(1)
    items = []
    for question, answers in FACTS.items():
        for subject, answer in answers.items():
            choices = draw.sample([other for other in answers.values() if other != answer], 3) + [answer]
            draw.shuffle(choices)
            items.append({"question": question.format(subject), "choices": [f" {choice}" for choice in choices], "label": choices.index(answer)})
    (folder / "facts.jsonl").write_text("\n".join(map(json.dumps, items)))
    common = f"""dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder / "facts.jsonl"}}}}}
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
"""
    for name, text in (("choice", CHOICE), ("answer", ANSWER)):
        (folder / f"{name}.yaml").write_text(text + common)


def scores(folder, name, *arguments):
    out = folder / name
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "lm_eval", *arguments, "--tasks", "tiny_choice,tiny_answer", "--include_path", folder, "--output_path", out]
    subprocess.run([str(part) for part in command], env=environment, check=True, capture_output=True, timeout=600)
    results = json.loads(next(out.rglob("results*.json")).read_text())["results"]
    return {(task, metric): value for task, values in results.items() for metric, value in values.items() if isinstance(value, float)}


def test_the_server_scores_as_transformers_do(tmp_path):
    if importlib.util.find_spec("lm_eval") is None or importlib.util.find_spec("accelerate") is None:
        pytest.skip("no lm_eval, or no accelerate")
    if not DEMO_MODEL.is_file():
        pytest.skip("no demo model; scripts/get_demo_model brings it")
    write_tasks(tmp_path)
    succeeded(run("quantize", "--model", DEMO_MODEL, "--out", tmp_path / "q", "--configs", "uniform-d3", "--quiet"))
    model = tmp_path / "q" / "uniform-d3" / "model"
    expected = scores(tmp_path, "transformers", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu")
    with serving("--model", f"d3={tmp_path / 'q' / 'uniform-d3' / 'packed'}", "--activations", "f32", "--kv-cache", "f32", "--context", 512) as server:
        found = scores(tmp_path, "server", "--model", "local-completions", "--model_args",
                       f"model=d3,base_url={server.address}/v1/completions,tokenizer_backend=huggingface,tokenizer={model},num_concurrent=2")
    assert found == expected and found[("tiny_choice", "acc,none")] > 0.5
