"""Turns the rows of interleaved speed measurements into ratios with their spread and into Markdown. Runs nothing.

A row: {"config", "round", "test", "tokens_per_second", "accepted", "bytes_per_token", …}. A ratio always compares two rows of one
round and test, because a disturbance of minutes hits both.
"""

import statistics

YARDSTICK = "llama.cpp Q4_0"

# The type of llama.cpp whose bits per weight are nearest to the depth's.
NEAREST = {
    "tritllm d=1": "llama.cpp TQ2_0",
    "tritllm d=2": "llama.cpp Q3_K",
    "tritllm d=3": "llama.cpp Q5_K",
    "tritllm d=4": "llama.cpp Q6_K",
}


def rates_by_round(rows, config, test):
    return {row["round"]: row["tokens_per_second"]
            for row in rows if row["accepted"] and row["config"] == config and row["test"] == test}


def ratios(rows, config, base, test):
    """One ratio per round in which both were measured, in order."""
    above, below = rates_by_round(rows, config, test), rates_by_round(rows, base, test)
    return [above[number] / below[number] for number in sorted(above.keys() & below.keys())]


def spread(values, digits):
    """'median (least–most)', or a dash where nothing was measured."""
    if not values:
        return "–"
    median, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least}–{most})"


def table(rows, test):
    configs = list(dict.fromkeys(row["config"] for row in rows))
    lines = [f"| {test} | tokens/s | × {YARDSTICK} | × nearest type | MB/token | GB/s |", "|---|---|---|---|---|---|"]
    for config in configs:
        rates = list(rates_by_round(rows, config, test).values())
        nearest = NEAREST.get(config)
        compared = spread(ratios(rows, config, nearest, test), 2) if nearest in configs else "–"
        if compared != "–":
            compared += f" {nearest.split()[-1]}"
        size = next(row["bytes_per_token"] for row in rows if row["config"] == config)
        # In prefill many tokens share one reading of the weights, so bytes per second would mean nothing.
        speed = f"{statistics.median(rates) * size * 1e-9:.1f}" if rates and test.startswith("tg") else "–"
        lines.append(f"| {config} | {spread(rates, 1)} | {spread(ratios(rows, config, YARDSTICK, test), 2)} | {compared} "
                     f"| {size * 1e-6:.0f} | {speed} |")
    return "\n".join(lines)
