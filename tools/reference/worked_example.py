"""Prints the worked example of docs/format.md; a test compares its output with the page."""

import sys

import numpy as np

from codec import Quantized, decode
from packed import BYTE_OF_VALUE, encode, split_trits

DEPTH, ROWS, COLS = 2, 2, 20
CODES = np.array(
    [
        [4, -4, 3, -3, 2, -2, 1, -1, 0, 1, 2, 3, 4, 0, 0, -1],
        [-4, 2, 0, 1] + 12 * [0],
        [1, 0, -1, 2, 0, -2, 3, 0, -3, 4, 0, -4, 1, 1, -1, -1],
        [0, 3, -1, 4] + 12 * [0],
    ],
    np.int8,
)
SCALE_CODES = np.array([3, 0, 7, 26], np.uint8)
EXAMPLE = Quantized(CODES, SCALE_CODES, np.arange(1, 28).astype(np.float32))


def row_of(cells):
    return "| " + " | ".join(str(cell).replace("-", "−") for cell in cells) + " |"


def table(head, rows):
    return "\n".join([row_of(head), "|" + "---|" * len(head)] + [row_of(row) for row in rows])


def values(packed):
    """The digits' values v of packed bytes."""
    return np.searchsorted(BYTE_OF_VALUE, packed)


def worked_example():
    packed = encode(EXAMPLE, DEPTH)
    weights = decode(EXAMPLE, DEPTH, ROWS, COLS)
    trits = split_trits(np.pad(CODES, ((0, 1), (0, 0))), DEPTH)
    scale_trits = split_trits(np.pad(SCALE_CODES, (0, 1)).astype(np.int16) - 13, 3)
    names = ["row 0, weights 0–15", "row 0, weights 16–19", "row 1, weights 0–15", "row 1, weights 16–19", "filler"]
    groups = [[i, names[i], e, " ".join(map(str, q))] for i, (e, q) in enumerate(zip(np.pad(SCALE_CODES, (0, 1)), np.pad(CODES, ((0, 1), (0, 0)))))]
    bytes_of = [["plane 0", packed["trits"][0, 0]], ["plane 1", packed["trits"][1, 0]], ["`scales`", packed["scales"][0]]]
    first_of_planes = [[f"plane {p}", *trits[p, :, 0], values(packed["trits"][p, 0, 0]), packed["trits"][p, 0, 0]] for p in range(DEPTH)]
    scale_rows = [[f"u_{2 - k}", *scale_trits[k], values(packed["scales"][0, k]), packed["scales"][0, k]] for k in range(3)]
    head = ["", *(f"group {i}" for i in range(5)), "v", "byte"]
    x = int(packed["trits"][0, 0, 0])
    reading = []
    for digit in (4, 3, 2, 1, 0):
        reading.append(f"3·{x} = {3 * x} = {3 * x >> 8}·256 + {3 * x & 255}: digit {digit} is {3 * x >> 8}, trit {(3 * x >> 8) - 1}".replace("-", "−"))
        x = 3 * x & 255
    return f"""### A worked example

A matrix of {ROWS} × {COLS} weights with d = {DEPTH}, so H = 4, has {len(CODES)} groups and one line. Its codebook is 1, 2, …, 27.

{table(["group", "holds", "scale code", "codes"], groups)}

Byte 0 of each plane holds the trits of the groups' first codes, {", ".join(str(q) for q in CODES[:, 0]).replace("-", "−")} and 0:

{table(head, first_of_planes)}

The three bytes of `scales` hold the scale codes:

{table(head, scale_rows)}

Together the bytes of the line, and reading the first one back:

{table(["", "bytes"], [[name, " ".join(map(str, b))] for name, b in bytes_of])}

```
{chr(10).join(reading)}
```

Group 0 has the scale code {SCALE_CODES[0]}, so step = {EXAMPLE.codebook[SCALE_CODES[0]]:g}/4 = {EXAMPLE.codebook[SCALE_CODES[0]] / 4:g} and its first weights are {", ".join(f"{w:g}" for w in weights[0, :4]).replace("-", "−")}; group 2 has
step = {EXAMPLE.codebook[SCALE_CODES[2]]:g}/4 = {EXAMPLE.codebook[SCALE_CODES[2]] / 4:g} and begins with {", ".join(f"{w:g}" for w in weights[1, :4]).replace("-", "−")}.
"""


if __name__ == "__main__":
    sys.stdout.write(worked_example())
