"""Prints one row for each config that `tritllm quantize` wrote: sizes, bits per weight, errors. Standard library only.

Usage: demo_table.py OUT        (OUT holds CONFIG/report.json, CONFIG/packed/, CONFIG/model/)
"""

import json
import pathlib
import sys

HEADINGS = [
    "config", "packed MB", "FP16 folder MB", "bits/weight whole file", "nominal", "stored", "SQNR dB", "worst tensor", "seconds",
]
LEFT_ALIGNED = {"config", "worst tensor"}


def bytes_under(folder, pattern="*"):
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def megabytes(size):
    return f"{size / 1e6:.1f}" if size else "-"


def weight_count(tensors):
    """Of the whole model: every tensor of the report, kept or quantised."""
    total = 0
    for tensor in tensors:
        elements = 1
        for dimension in tensor["shape"]:
            elements *= dimension
        total += elements
    return total


def worst_tensor(tensors):
    measured = [tensor for tensor in tensors if tensor.get("depth") and tensor.get("relative_mse") is not None]
    if not measured:
        return "-"
    worst = max(measured, key=lambda tensor: tensor["relative_mse"])
    return f"{worst['name']} ({worst['sqnr_db']:.2f} dB)"


def row(folder):
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    packed = bytes_under(folder / "packed")
    # Every weight of the model against every byte of the weight files: what a download costs, kept tensors included.
    weight_bytes = bytes_under(folder / "packed", "*.safetensors")
    weights = weight_count(report["tensors"])
    return [
        folder.name,
        megabytes(packed),
        megabytes(bytes_under(folder / "model")),
        f"{8 * weight_bytes / weights:.2f}" if weight_bytes and weights else "-",
        f"{report['nominal_bits_per_weight']:.2f}",
        f"{report['stored_bits_per_weight']:.2f}",
        f"{report['sqnr_db']:.2f}",
        worst_tensor(report["tensors"]),
        f"{report['seconds']:.1f}",
    ]


def table(rows):
    widths = [max(len(line[column]) for line in [HEADINGS, *rows]) for column in range(len(HEADINGS))]

    def line(cells):
        aligned = (
            cell.ljust(width) if heading in LEFT_ALIGNED else cell.rjust(width)
            for cell, width, heading in zip(cells, widths, HEADINGS)
        )
        return "| " + " | ".join(aligned) + " |"

    rule = "|" + "|".join(
        "-" * (width + 2) if heading in LEFT_ALIGNED else "-" * (width + 1) + ":" for width, heading in zip(widths, HEADINGS)
    ) + "|"
    return "\n".join([line(HEADINGS), rule, *(line(cells) for cells in rows)])


def main(out):
    folders = sorted((path.parent for path in out.glob("*/report.json")), key=config_order)
    if not folders:
        sys.exit(f"demo_table.py: no */report.json in {out}; run tritllm quantize --out {out} first")
    print(table([row(folder) for folder in folders]))


def config_order(folder):
    """Depth first, so that recipes of equal size stand side by side."""
    recipe, _, depth = folder.name.rpartition("-d")
    return depth, recipe != "uniform", recipe


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
