"""Prints a row for the source and for each config of the demo: size, bits per weight, quality, speed. Standard library only.

Usage: demo_table.py OUT        (OUT holds source/ and CONFIG/, each with eval.json and bench.json, as scripts/demo leaves them)
"""

import json
import pathlib
import sys

HEADINGS = ["", "weights MB", "bits/weight, whole file", "bits/weight, ternary", "SQNR dB", "perplexity", "KL divergence", "same top token",
            "prompt tokens/s", "answer tokens/s"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def weight_bytes(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def weight_count(folder):
    """Of the whole model: the elements of every tensor in the headers of an FP16 folder's files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                total += (end - begin) // 2
    return total


def speeds(folder):
    rates = {row["test"]: row["tokens_per_second"] for row in read(folder / "bench.json")}
    return [f"{rates['pp256']:.0f}", f"{rates['tg64']:.1f}"]


def quality(folder):
    figures = read(folder / "eval.json")
    return [f"{figures['perplexity']:.2f}", f"{figures['kl_divergence_mean']:.4f}", f"{100 * figures['same_top_token']:.1f} %"]


def source_row(folder, weights):
    size = weight_bytes(folder / "model")
    return ["source, FP16", f"{size / 1e6:.1f}", f"{8 * size / weights:.2f}", "", "", *quality(folder), *speeds(folder)]


def config_row(folder, weights):
    report = read(folder / "report.json")
    size = weight_bytes(folder / "packed")
    return [folder.name, f"{size / 1e6:.1f}", f"{8 * size / weights:.2f}", f"{report['stored_bits_per_weight']:.2f}",
            f"{report['sqnr_db']:.2f}", *quality(folder), *speeds(folder)]


def table(rows):
    widths = [max(len(line[column]) for line in [HEADINGS, *rows]) for column in range(len(HEADINGS))]

    def line(cells):
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths))
        return "| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |"

    rule = "|" + "-" * (widths[0] + 2) + "|" + "|".join("-" * (width + 1) + ":" for width in widths[1:]) + "|"
    return "\n".join([line(HEADINGS), rule, *(line(cells) for cells in rows)])


def config_order(folder):
    """Depth first, so that recipes of equal size stand side by side."""
    recipe, _, depth = folder.name.rpartition("-d")
    return depth, recipe != "uniform", recipe


def main(out):
    folders = sorted((path.parent for path in out.glob("*-d?/eval.json")), key=config_order)
    if not folders:
        sys.exit(f"demo_table.py: no */eval.json in {out}; run scripts/demo first")
    weights = weight_count(out / "source" / "model")
    print(table([source_row(out / "source", weights), *(config_row(folder, weights) for folder in folders)]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
