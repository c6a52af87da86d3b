"""Prints a row for the source and for each configuration of the demo: size, bits per weight, quality, speed. Standard library only.

Usage: demo_table.py OUT        (OUT holds source/, CONFIG/ and EMBEDDINGS/CONFIG/ as scripts/demo leaves them)
"""

import json
import pathlib
import sys

HEADINGS = ["", "file MB", "bits/weight, file", "bits/weight, ternary", "SQNR dB", "perplexity", "KL divergence", "same top token",
            "prefill tokens/s", "decode tokens/s"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def speeds(folder):
    rates = {row["test"]: row["tokens_per_second"] for row in read(folder / "bench.json")}
    return [f"{rates['pp256']:.0f}", f"{rates['tg64']:.1f}"]


def quality(folder):
    result = read(folder / "eval.json")
    return [f"{result['perplexity']:.2f}", f"{result['kl_divergence_mean']:.4f}", f"{100 * result['same_top_token']:.1f} %"]


def source_row(folder, weights):
    size = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
    return ["source, FP16", f"{size / 1e6:.1f}", f"{8 * size / weights:.2f}", "", "", *quality(folder), *speeds(folder)]


def config_row(folder, out):
    report = read(folder / "report.json")
    name = folder.name if folder.parent == out else f"{folder.name}, {folder.parent.name}"
    return [name, f"{report['packed_bytes'] / 1e6:.1f}", f"{report['file_bits_per_weight']:.2f}",
            f"{report['stored_bits_per_weight']:.2f}", f"{report['sqnr_db']:.2f}", *quality(folder), *speeds(folder)]


def table(rows):
    widths = [max(len(line[column]) for line in [HEADINGS, *rows]) for column in range(len(HEADINGS))]

    def line(cells):
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths))
        return "| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |"

    rule = "|" + "-" * (widths[0] + 2) + "|" + "|".join("-" * (width + 1) + ":" for width in widths[1:]) + "|"
    return "\n".join([line(HEADINGS), rule, *(line(cells) for cells in rows)])


def config_order(folder):
    """By depth, so that recipes of equal size are next to each other; then `uniform`; the one with packed embeddings last."""
    recipe, _, depth = folder.name.rpartition("-d")
    return depth, recipe != "uniform", recipe, len(folder.parts)


def main(out):
    folders = sorted((path.parent for pattern in ("*-d?", "embeddings-d?/*-d?") for path in out.glob(pattern + "/eval.json")),
                     key=config_order)
    if not folders:
        sys.exit(f"demo_table.py: no */eval.json in {out}; run scripts/demo first")
    weights = read(folders[0] / "report.json")["all_weights"]
    print(table([source_row(out / "source", weights), *(config_row(folder, out) for folder in folders)]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
