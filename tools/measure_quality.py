"""Measures how far quantised models are from their source: perplexity and KL divergence on a text.

It quantises nothing, and reads models only through stock transformers (torch, float32, on the CPU or a GPU), so another project's
forward pass judges the FP16 folders. Needs the test environment (requirements-test.txt).

    python tools/measure_quality.py --source SOURCE_FOLDER --text FILE --windows 40 --context 512 FOLDER...

The windows are those of `tritllm eval` and of llama.cpp's perplexity tool. The text is tokenised as a whole and cut into consecutive
windows from its start; where the tokenizer puts BOS before a text, BOS replaces each window's first token. The second half of a window
is scored without its first token, so every scored token has at least half a window of context. Each window's source logits are
computed once and compared with every folder; memory is bounded by all models in float32 plus the scored logits of one window, twice
in float32 and once in float64.

KL divergence is sum p·(log p − log q) in nats at each scored token, in float64, p from the source and q from the folder. Its standard
error is over tokens. Tokens of one window depend on each other a little, so the JSON also has each window's mean: all folders are
measured on the same windows, so two folders can be compared window by window, more sharply than the two errors suggest.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
import time

import torch
import transformers

# Rows of logits turned to float64 at a time: 32 rows of the largest vocabularies (262,144) are 64 MiB.
ROWS_AT_A_TIME = 32


class Scores:
    """The scores of one folder, token by token."""

    def __init__(self):
        self.losses = []
        self.divergences = []
        self.same_top = []
        self.window_divergences = []

    def add_window(self, source, logits, targets):
        """Scores one window. `source` are log probabilities in float64, shaped [tokens, vocabulary] as logits; targets [tokens]."""
        before = len(self.divergences)
        for start in range(0, len(targets), ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            model = torch.log_softmax(logits[rows].double(), dim=-1)
            self.losses += (-model.gather(1, targets[rows, None]).squeeze(1)).tolist()
            self.divergences += (source[rows].exp() * (source[rows] - model)).sum(dim=-1).tolist()
            self.same_top += (source[rows].argmax(dim=-1) == model.argmax(dim=-1)).tolist()
        self.window_divergences.append(statistics.fmean(self.divergences[before:]))

    def summary(self):
        perplexity = math.exp(statistics.fmean(self.losses))
        divergences = torch.tensor(self.divergences, dtype=torch.float64)
        return {
            "perplexity": perplexity,
            "perplexity_stderr": perplexity * standard_error(self.losses),
            "kl_divergence_mean": divergences.mean().item(),
            "kl_divergence_stderr": standard_error(self.divergences),
            "kl_divergence_median": divergences.quantile(0.5).item(),
            "kl_divergence_p99": divergences.quantile(0.99).item(),
            "same_top_token": statistics.fmean(self.same_top),
            "tokens_scored": len(self.losses),
            "window_kl_divergences": self.window_divergences,
        }


def standard_error(values):
    return statistics.stdev(values) / math.sqrt(len(values))


def load(folder, device):
    """Loads a model in float32 and refuses one whose weights do not fill it exactly, which transformers only warns about."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    faults = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    if faults:
        sys.exit(f"error: {folder}: weights do not fit the model: {faults}")
    return model.to(device).eval()


def cut_windows(tokenizer, text, count, context):
    """The first `count` windows as a tensor [count, context]."""
    tokens = tokenizer(text, verbose=False).input_ids
    if len(tokens) < count * context:
        sys.exit(f"error: the text has {len(tokens)} tokens, enough for {len(tokens) // context} windows of {context}, not {count}")
    windows = torch.tensor(tokens[:count * context]).view(count, context)
    # Checked on an encoded text, because tokenizers do not always obey the settings that promise a BOS.
    if tokenizer.bos_token_id is not None and tokens[0] == tokenizer.bos_token_id:
        windows[:, 0] = tokenizer.bos_token_id
    return windows


def scored_targets(window):
    return window[len(window) // 2 + 1:]


def scored_logits(model, window):
    """Logits [scored, vocabulary] that predict the scored tokens: those of the position before each."""
    return model(window[None], logits_to_keep=len(scored_targets(window)) + 1, use_cache=False).logits[0, :-1]


@torch.inference_mode()
def measure(source, folders, windows, device):
    """Returns the Scores of the source and of each folder, in order."""
    models = [load(folder, device) for folder in [source, *folders]]
    scores = [Scores() for _ in models]
    began = time.monotonic()
    for number, window in enumerate(windows.to(device), start=1):
        targets = scored_targets(window)
        source_logits = scored_logits(models[0], window)
        source_log_probabilities = torch.log_softmax(source_logits.double(), dim=-1)
        for model, score in zip(models, scores):
            logits = source_logits if model is models[0] else scored_logits(model, window)
            score.add_window(source_log_probabilities, logits, targets)
        so_far = " ".join(f"{statistics.fmean(score.divergences):.4f}" for score in scores[1:])
        seconds = time.monotonic() - began
        print(f"window {number}/{len(windows)}, {seconds:.0f} s: KL divergence {so_far}", file=sys.stderr, flush=True)
    return scores


def print_table(rows):
    print("| model | perplexity | KL divergence, mean | median | 99 % | same top token |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['model']} | {row['perplexity']:.2f} ± {row['perplexity_stderr']:.2f} "
              f"| {row['kl_divergence_mean']:.4f} ± {row['kl_divergence_stderr']:.4f} | {row['kl_divergence_median']:.4f} "
              f"| {row['kl_divergence_p99']:.3f} | {100 * row['same_top_token']:.1f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--source", required=True, help="folder of the unquantised model")
    parser.add_argument("--text", required=True, type=pathlib.Path, help="UTF-8 text file")
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--context", type=int, default=512, help="tokens of a window")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cuda")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders of the models to compare with the source")
    arguments = parser.parse_args()
    if arguments.windows < 1 or arguments.context < 4:
        parser.error("--windows must be at least 1 and --context at least 4")
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()

    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.source)
    windows = cut_windows(tokenizer, arguments.text.read_text(encoding="utf-8"), arguments.windows, arguments.context)
    scores = measure(arguments.source, arguments.folders, windows, arguments.device)
    rows = [{"model": folder} | score.summary() for folder, score in zip([arguments.source, *arguments.folders], scores)]
    if arguments.json:
        print(json.dumps({"text": str(arguments.text), "context": arguments.context, "models": rows}, indent=1))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
