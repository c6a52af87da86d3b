"""The codec of docs/codec.md in numpy: a matrix becomes codes, scale codes and codebooks, bit for bit as src/codec makes them.

Owns both recipes and the statistics. Does not own bytes and files: see packed.py. Groups are lanes: an array of shape [16, n] holds
weight i of n groups in row i, so that a sum over a group is a Python loop over i and every lane keeps the order of the page.
"""

from dataclasses import dataclass

import numpy as np

GROUP = 16
SCALES = 27
LARGEST_HALF = np.float32(65504)
LARGEST_WEIGHT = np.float32(2**32)
ZERO = np.float32(2.0**-40)
SAMPLE = 32768
LARGE_GROUPS = 1024
LLOYD_ROUNDS = 10
LANES_AT_ONCE = 8192  # The working arrays then stay in cache; it has no influence on the result.
STRIPE_LINES = 1024
LONGEST_WHOLE_ROW = 16384  # groups


@dataclass
class Quantized:
    codes: np.ndarray  # int8 [rows * groups of a row, 16]
    scale_codes: np.ndarray  # uint8 [rows * groups of a row]
    codebook: np.ndarray  # float32 [27], or [experts, 27] for a stack


def outermost_code(depth):
    return np.float32((3**depth - 1) // 2)


def quantize(matrix, recipe, depth, importance=None):
    """Quantises a float32 matrix [rows, cols], or each expert of a stack [experts, rows, cols] by itself.

    `recipe` is "uniform" or "optimal"; the latter takes the importance of the columns, float32 [cols] or [experts, cols].
    """
    if np.ndim(matrix) == 2:
        return quantize_matrix(matrix, recipe, depth, importance)
    of_expert = [None] * len(matrix) if importance is None else importance
    experts = [quantize_matrix(m, recipe, depth, i) for m, i in zip(matrix, of_expert, strict=True)]
    return Quantized(
        np.concatenate([e.codes for e in experts]),
        np.concatenate([e.scale_codes for e in experts]),
        np.stack([e.codebook for e in experts]),
    )


def quantize_matrix(matrix, recipe, depth, importance):
    largest_code = outermost_code(depth)
    weights = checked_lanes(matrix)
    magnitudes = np.abs(weights)
    live = magnitudes.max(axis=0) >= ZERO
    choose = {"uniform": uniform, "optimal": optimal}[recipe]
    scale_codes = np.zeros(weights.shape[1], np.uint8)
    codebook = np.zeros(SCALES, np.float32)
    if live.any():
        h = emphasis(magnitudes) if importance is None else checked_importance(importance, recipe, *matrix.shape)
        codebook, scale_codes[live] = choose(magnitudes, h, live, largest_code)
    codes = np.zeros(weights.shape, np.int8)
    codes[:, live] = round_to_codes(weights[:, live], codebook[scale_codes[live]], largest_code)
    return Quantized(np.ascontiguousarray(codes.T), scale_codes, codebook)


def checked_importance(importance, recipe, rows, cols):
    importance = np.asarray(importance, np.float32)
    if recipe != "optimal" or importance.shape != (cols,) or not ((importance >= 2.0**-20) & (importance <= 2.0**20)).all():
        raise ValueError("expected recipe optimal and for each column an importance from 2^-20 to 2^20")
    return lanes_of(np.broadcast_to(importance, (rows, cols)))


def checked_lanes(matrix):
    matrix = np.asarray(matrix, np.float32)
    wrong = ~(np.abs(matrix) <= LARGEST_WEIGHT)  # NaN compares false, so it is found as well.
    if wrong.any():
        row, col = np.argwhere(wrong)[0]
        raise ValueError(f"row {row}, column {col}: expected a finite weight of at most 2^32, found {matrix[row, col]}")
    return lanes_of(matrix)


def lanes_of(matrix):
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % GROUP)))
    return np.ascontiguousarray(padded.reshape(-1, GROUP).T)


def round_to_codes(weights, scale, largest_code):
    inverse = largest_code / scale
    return np.rint(np.clip(weights * inverse, -largest_code, largest_code))


def sum_over_group(terms):
    total = np.zeros(terms.shape[1], np.float32)
    for term in terms:
        total = total + term
    return total


def in_pieces(function, *lanes):
    """Applies a function of lanes to a few thousand lanes at a time."""
    count = lanes[0].shape[1]
    pieces = [function(*(x[:, at : at + LANES_AT_ONCE] for x in lanes)) for at in range(0, count, LANES_AT_ONCE)]
    return np.concatenate(pieces, axis=-1)


# Recipe `uniform`


def uniform(magnitudes, _, live, largest_code):
    scales = in_pieces(lambda a: best_of_four(a, largest_code), magnitudes[:, live])
    codebook = log_spaced_codebook(float(scales.min()), float(magnitudes.max()))
    wide = codebook.astype(np.float64)
    thresholds = np.sqrt(wide[:-1] * wide[1:]).astype(np.float32)
    return codebook, np.searchsorted(thresholds, scales, side="left")  # the number of thresholds below the scale


def best_of_four(magnitudes, largest_code):
    ascending = np.sort(magnitudes, axis=0)
    least = np.full(magnitudes.shape[1], np.inf, np.float32)
    best = np.zeros(magnitudes.shape[1], np.float32)
    for position in (10, 12, 14, 15):
        usable = ascending[position] >= ZERO
        scale = np.where(usable, ascending[position], np.float32(1))
        difference = magnitudes - round_to_codes(magnitudes, scale, largest_code) * (scale / largest_code)
        error = sum_over_group(difference * difference)
        better = usable & (error < least)
        least = np.where(better, error, least)
        best = np.where(better, scale, best)
    return best


def log_spaced_codebook(low_scale, high_scale):
    ratio = root_of_26(high_scale / low_scale)
    codebook = np.empty(SCALES, np.float32)
    power = 1.0
    for j in range(SCALES):
        codebook[j] = np.float32(low_scale * power)
        power *= ratio
    codebook[-1] = np.float32(high_scale)
    return codebook


def root_of_26(value):
    low, high = 1.0, value
    while True:
        middle = 0.5 * (low + high)
        if middle == low or middle == high:
            return low
        power = 1.0
        for _ in range(26):
            power *= middle  # may become infinite, which is above every value
        if power <= value:
            low = middle
        else:
            high = middle


# Recipe `optimal`


def optimal(magnitudes, h, live, largest_code):
    chosen, sample_weight = sample(magnitudes.max(axis=0), live)
    sampled, sampled_h = magnitudes[:, chosen], h[:, chosen]
    steps, curvatures = in_pieces(lambda a, h: best_steps(a, h, largest_code), sampled, sampled_h)
    means = cluster(*gather_runs(steps.astype(np.float64), curvatures.astype(np.float64) * sample_weight))
    largest_scale = LARGEST_WEIGHT if magnitudes.max() > LARGEST_HALF else LARGEST_HALF
    codebook = np.minimum(means.astype(np.float32) * largest_code, largest_scale)
    codebook = np.append(codebook, np.full(SCALES - len(codebook), codebook[-1]))
    codebook = lloyd(sampled, sampled_h, sample_weight, codebook, largest_code, largest_scale)
    return codebook, best_scale_codes(magnitudes[:, live], h[:, live], codebook, largest_code)


def emphasis(magnitudes):
    rms = np.sqrt(np.float32(0.0625) * sum_over_group(magnitudes * magnitudes))
    return np.sqrt(rms + magnitudes)


def sample(largest, live):
    """The indices of the sample's groups, ascending, and for each the number of groups it stands for."""
    descending = np.argsort(-largest, kind="stable")
    large = np.zeros(len(largest), bool)
    large[descending[:LARGE_GROUPS]] = True
    stride = -(-len(largest) // SAMPLE)
    chosen = np.flatnonzero(live & (large | (np.arange(len(largest)) % stride == 0)))
    return chosen, np.where(large[chosen], 1.0, float(stride))


def best_steps(a, h, largest_code):
    """The best step of each group for free (any real number) and the curvature of its error there, as the rows of one array."""
    lane = np.arange(a.shape[1])
    codes = np.zeros_like(a)
    passing = a / np.float32(0.5)
    A, B, best_gain, best_step, curvature = np.zeros((5, a.shape[1]), np.float32)
    for _ in range(GROUP * int(largest_code)):
        i = passing.argmax(axis=0)  # the first of equals
        moving = passing[i, lane] > 0
        code = codes[i, lane]
        A = np.where(moving, A + h[i, lane] * a[i, lane], A)
        B = np.where(moving, B + h[i, lane] * (2 * code + 1), B)
        codes[i, lane] = code = code + 1
        passing[i, lane] = np.where(moving & (code < largest_code), a[i, lane] / (code + np.float32(0.5)), np.float32(0))
        gain = (A * A) / B
        better = moving & (gain > best_gain)
        best_gain = np.where(better, gain, best_gain)
        best_step = np.where(better, A / B, best_step)
        curvature = np.where(better, B, curvature)
    return np.stack([best_step, curvature])


def gather_runs(steps, weights):
    """Sums of weight, weight * step and weight * step^2 (double) over at most 2,048 runs of the ascending steps."""
    order = np.argsort(steps, kind="stable")
    steps, weights = steps[order], weights[order]
    m = max(len(steps) - 512, 0)
    runs = min(1536, m)
    first = np.append([k * m // runs for k in range(runs)], np.arange(m, len(steps))).astype(np.int64)
    length = np.diff(first, append=len(steps))
    sums = np.zeros((3, len(first)))
    for t in range(length.max()):
        at = np.minimum(first + t, len(steps) - 1)
        terms = np.stack([weights[at], weights[at] * steps[at], (weights[at] * steps[at]) * steps[at]])
        sums = np.where(t < length, sums + terms, sums)
    return sums


def cluster(W, S, Q):
    """The mean steps of the (at most) 27 clusters of consecutive runs with the least sum of squares."""
    W, S, Q = (np.append(0.0, np.cumsum(x)) for x in (W, S, Q))  # cumsum adds one by one
    bounds = best_bounds(W, S, Q) if len(W) - 1 > SCALES else np.arange(len(W))
    i, j = bounds[:-1], bounds[1:]
    return (S[j] - S[i]) / (W[j] - W[i])


def best_bounds(W, S, Q):
    runs = len(W) - 1
    cost = np.full(runs + 1, np.inf)  # of the first j runs in k clusters, first for k = 0
    cost[0] = 0.0
    choices = []
    for k in range(1, SCALES + 1):
        layer = np.full(runs + 1, np.inf)
        choice = np.zeros(runs + 1, np.int64)

        def solve(first, last, least, most):
            if first == last:
                return
            j = first + (last - first) // 2
            i = slice(least, min(most, j - 1) + 1)
            difference = S[j] - S[i]
            total = cost[i] + ((Q[j] - Q[i]) - difference * difference / (W[j] - W[i]))
            best = total.argmin()  # the first of equals
            layer[j], choice[j] = total[best], least + best
            solve(first, j, least, choice[j])
            solve(j + 1, last, choice[j], most)

        solve(k, runs + 1, k - 1, runs - 1)
        cost = layer
        choices.append(choice)
    bounds = [runs]
    for choice in reversed(choices):
        bounds.append(choice[bounds[-1]])
    return np.array(bounds[::-1])


def lloyd(a, h, sample_weight, codebook, largest_code, largest_scale):
    before = None
    for _ in range(LLOYD_ROUNDS):
        scale_codes = best_scale_codes(a, h, codebook, largest_code)
        if before is not None and np.array_equal(scale_codes, before):
            break
        before = scale_codes
        q = round_to_codes(a, codebook[scale_codes], largest_code)
        N = sum_by_scale_code(scale_codes, sample_weight * sum_over_group((h * q) * a).astype(np.float64))
        D = sum_by_scale_code(scale_codes, sample_weight * sum_over_group((h * q) * q).astype(np.float64))
        used = D > 0
        codebook = codebook.copy()
        codebook[used] = np.minimum((float(largest_code) * (N[used] / D[used])).astype(np.float32), largest_scale)
        codebook.sort()
    return codebook


def sum_by_scale_code(scale_codes, terms):
    return np.bincount(scale_codes, terms, SCALES)  # adds one by one


def best_scale_codes(magnitudes, h, codebook, largest_code):
    return in_pieces(lambda a, h: best_scale_codes_of_piece(a, h, codebook, largest_code), magnitudes, h)


def best_scale_codes_of_piece(a, h, codebook, largest_code):
    least = np.full(a.shape[1], np.inf, np.float32)
    scale_codes = np.zeros(a.shape[1], np.uint8)
    for scale_code, scale in enumerate(codebook):
        if scale == 0:
            continue
        difference = a - round_to_codes(a, scale, largest_code) * (scale / largest_code)
        error = sum_over_group((h * difference) * difference)
        better = error < least
        least = np.where(better, error, least)
        scale_codes[better] = scale_code
    return scale_codes


# What both share: decoding and the statistics


def scales_of(quantized):
    """The scale of each group."""
    codebooks = quantized.codebook.reshape(-1, SCALES)
    expert = np.repeat(np.arange(len(codebooks)), len(quantized.scale_codes) // len(codebooks))
    return codebooks[expert, quantized.scale_codes]


def decode(quantized, depth, rows, cols):
    """The float32 matrix [rows, cols], for a stack the rows of all experts; a code of 0 is +0 whatever the weight's sign was."""
    step = scales_of(quantized) / outermost_code(depth)
    return (quantized.codes.astype(np.float32) * step[:, None]).reshape(rows, -1)[:, :cols]


def add_in_order(numbers):
    return np.cumsum(numbers)[-1]


def groups_of_a_stripe(groups_of_a_row):
    if groups_of_a_row > LONGEST_WHOLE_ROW:
        return 5 * STRIPE_LINES
    return 5 * groups_of_a_row * max(1, STRIPE_LINES // groups_of_a_row)


def statistics(matrix, quantized, depth):
    matrix = matrix.reshape(-1, matrix.shape[-1])
    rows, cols = matrix.shape
    w = lanes_of(matrix)
    v = lanes_of(decode(quantized, depth, rows, cols))
    largest_code = outermost_code(depth)
    live = np.abs(w).max(axis=0) >= ZERO
    stripe = groups_of_a_stripe(w.shape[1] // rows)

    def total(terms):
        sums = sum_over_group(terms).astype(np.float64)
        stripes = [add_in_order(sums[at : at + stripe]) for at in range(0, len(sums), stripe)]
        return float(add_in_order(np.array(stripes)))

    error, ww, vv, wv = total((w - v) * (w - v)), total(w * w), total(v * v), total(w * v)
    relative = error / ww if ww > 0 else 0.0
    with np.errstate(divide="ignore"):
        inverse = largest_code / scales_of(quantized)
    beyond = np.abs(w[:, live]) * inverse[live] > largest_code + np.float32(0.5)
    levels = quantized.codes.reshape(rows, -1)[:, :cols] + int(largest_code)
    return {
        "relative_mse": relative,
        "sqnr_db": round(-10 * float(np.log10(relative)), 4) + 0.0 if relative > 0 else None,
        "cosine": wv / float(np.sqrt(ww * vv)) if ww > 0 and vv > 0 else float(ww == vv),
        "max_abs_error": float(np.abs(w - v).max()),
        "clipped": int(beyond.sum()),
        "level_histogram": np.bincount(levels.ravel(), minlength=2 * int(largest_code) + 1).tolist(),
    }
