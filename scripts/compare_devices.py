#!/usr/bin/env python3
"""How far a model's probabilities move with the device, the arithmetic and the type of the key/value cache.

    scripts/compare_devices.py MODEL --text FILE [--build build/cuda] [--windows 4] [--window 512] [--answers 8] [--devices cpu,cuda]

The reference is the CPU with float32 activations and a float32 cache. For each row: KL divergence from it over whole windows of the text
(mean, standard error over windows, and the largest of a token), how often the most probable token is the same, and how many tokens of
greedy answers of 200 tokens stand at the same place. Needs numpy, and `tritllm` and `logits_probe` in the build folder.
"""

import argparse
import json
import os
import pathlib
import subprocess

import numpy

ANSWER_TOKENS = 200
PROMPTS = ["The sea is", "Once upon a time", "The history of mathematics", "A computer program", "In the morning we",
           "The three largest cities", "Water boils when", "My grandmother used to"]


class Model:
    def __init__(self, options):
        self.path, self.threads = options.model, str(options.threads)
        self.tritllm = options.build / "tritllm"
        self.probe = options.build / "tests" / "model" / "logits_probe"

    def _run(self, command, **more):
        return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, **more).stdout

    def tokens(self, text_file):
        out = self._run([self.tritllm, "tokenize", "--model", self.path, "--file", text_file, "--json"])
        return json.loads(out)

    def log_probabilities(self, tokens, row):
        command = [self.probe, self.path, "prefill", "--threads", self.threads, "--cache", row["cache"], "--device", row["device"],
                   "--activations", row["activations"]]
        logits = numpy.frombuffer(self._run(command, input=" ".join(map(str, tokens)).encode()), numpy.float32)
        logits = logits.reshape(len(tokens), -1).astype(numpy.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))

    def answer(self, prompt, row):
        command = [self.tritllm, "run", "--model", self.path, "--prompt", prompt, "--raw", "--ignore-end", "--tokens", ANSWER_TOKENS,
                   "--temperature", 0, "--json", "--quiet", "--threads", self.threads, "--kv-cache", row["cache"], "--device",
                   row["device"], "--activations", row["activations"]]
        return json.loads(self._run(command))["tokens"]


def compare(model, windows, prompts, reference, row):
    means, largest, same, scored = [], 0.0, 0, 0
    for window, expected in zip(windows, reference["windows"]):
        found = model.log_probabilities(window, row)
        divergences = (numpy.exp(expected) * (expected - found)).sum(axis=1)
        means.append(divergences.mean())
        largest = max(largest, divergences.max())
        same += int((expected.argmax(axis=1) == found.argmax(axis=1)).sum())
        scored += len(window)
    equal = 0
    for prompt, expected in zip(prompts, reference["answers"]):
        equal += sum(a == b for a, b in zip(model.answer(prompt, row), expected))
    error = numpy.std(means, ddof=1) / len(means) ** 0.5 if len(means) > 1 else float("nan")
    answers = f"{equal / (ANSWER_TOKENS * len(prompts)):.1%}" if prompts else "–"
    return [row["device"], row["activations"], row["cache"], f"{numpy.mean(means):.2e} ± {error:.0e}", f"{largest:.1e}",
            f"{same / scored:.2%}", answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--build", type=lambda path: pathlib.Path(path).resolve(), default="build/cuda")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--answers", type=int, default=len(PROMPTS), choices=range(len(PROMPTS) + 1))
    parser.add_argument("--devices", default="cpu,cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()

    model = Model(options)
    tokens = model.tokens(options.text)
    windows = [tokens[first:first + options.window] for first in range(0, options.windows * options.window, options.window)]
    if len(windows[-1]) < options.window:
        parser.error(f"--text: {len(tokens)} tokens do not fill {options.windows} windows of {options.window}")
    prompts = PROMPTS[:options.answers]
    exact = {"device": "cpu", "activations": "f32", "cache": "f32"}
    reference = {"windows": [model.log_probabilities(window, exact) for window in windows],
                 "answers": [model.answer(prompt, exact) for prompt in prompts]}
    print("| device | activations | cache | KL divergence | largest | same top token | same greedy tokens |", flush=True)
    print("|---|---|---|---|---|---|---|")
    for device in options.devices.split(","):
        # A CUDA device has one arithmetic, which the options call int8 because it is the default.
        for activations in ["f32", "int8"] if device == "cpu" else ["int8"]:
            for cache in ["f32", "f16", "fp8", "int8"]:
                row = {"device": device, "activations": activations, "cache": cache}
                if row != exact:
                    cells = compare(model, windows, prompts, reference, row)
                    if device != "cpu":
                        cells[1] = "f16"
                    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
