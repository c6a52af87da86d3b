// Owns the group operations of codec/group_kernels.h for SIMD: one group a lane, so that every lane does the specification's float
// operations in the specification's order and gives its bits. Written once over a vector type V; each instruction set's file
// defines V and includes this inside its own namespace, which keeps code for one machine out of another's tables.
//
// V needs: Float, Int, Mask, kLanes; set(x), load/store (floats), multiply/add/subtract/divide, min/max, root, absolute,
// round_even, greater(a, b), not_less(a, b), both(a, b) and without(a, b) of masks, any(mask), and_mask(mask, x), select(mask, yes,
// no), to_int, set_int, add_int, select_int, combine4 (four int vectors → one whose 32-bit lanes hold their low bytes), load_groups
// (16 vectors, vector i = weight i of kLanes groups), store_codes, store_low_bytes.
//
// Machine, date, gain: AMD Zen 4, 2026-11, against the scalar specification: see docs/performance.md, "Quantising".

template <typename V>
struct GroupOperations {
  using Float = typename V::Float;
  using Int = typename V::Int;
  static constexpr size_t kLanes = V::kLanes;
  static constexpr size_t kSize = tritllm::codec::kGroupSize;
  static constexpr size_t kScales = tritllm::codec::kCodebookSize;

  struct Limits {
    Float largest;   // H
    Float smallest;  // least magnitude that is not a zero group
  };

  static Limits limits_of(int largest_code) noexcept {
    return {V::set(static_cast<float>(largest_code)), V::set(tritllm::codec::kSmallestScale)};
  }

  // Calls body(first, count, weights) for each kLanes groups; the last ones are padded with zeros.
  template <typename Body>
  static void for_lanes(const float* weights, size_t groups, Body&& body) noexcept {
    size_t first = 0;
    for (; first + kLanes <= groups; first += kLanes) body(first, kLanes, weights + first * kSize);
    if (first == groups) return;
    alignas(64) float padded[kLanes * kSize] = {};
    for (size_t i = 0; i < (groups - first) * kSize; ++i) padded[i] = weights[first * kSize + i];
    body(first, groups - first, static_cast<const float*>(padded));
  }

  static void store(Float values, size_t count, float* out) noexcept {
    if (count == kLanes) return V::store(out, values);
    alignas(64) float all[kLanes];
    V::store(all, values);
    for (size_t i = 0; i < count; ++i) out[i] = all[i];
  }

  static void store_scale_codes(Int values, size_t count, uint8_t* out) noexcept {
    alignas(64) uint8_t all[kLanes];
    V::store_low_bytes(all, values);
    for (size_t i = 0; i < count; ++i) out[i] = all[i];
  }

  // The scale of each group; lanes beyond `count` get the first of the codebook.
  static Float scales_of(const float* codebook, const uint8_t* scale_codes, size_t count) noexcept {
    alignas(64) float scales[kLanes];
    for (size_t i = 0; i < kLanes; ++i) scales[i] = codebook[i < count ? scale_codes[i] : 0];
    return V::load(scales);
  }

  static void load_magnitudes(const float* weights, Float* a) noexcept {
    V::load_groups(weights, a);
    for (size_t i = 0; i < kSize; ++i) a[i] = V::absolute(a[i]);
  }

  static Float largest_of(const Float* a) noexcept {
    Float largest = a[0];
    for (size_t i = 1; i < kSize; ++i) largest = V::max(largest, a[i]);
    return largest;
  }

  // What a squared error counts in each lane.
  static void error_weights_of(const Float* a, const float* importance, size_t first, size_t count, Float* h) noexcept {
    if (importance != nullptr) {
      const float* const here = importance + first * kSize;
      if (count == kLanes) return V::load_groups(here, h);
      alignas(64) float padded[kLanes * kSize] = {};
      for (size_t i = 0; i < count * kSize; ++i) padded[i] = here[i];
      return V::load_groups(padded, h);
    }
    Float energy = V::set(0.0f);
    for (size_t i = 0; i < kSize; ++i) energy = V::add(energy, V::multiply(a[i], a[i]));
    const Float rms = V::root(V::multiply(V::set(0.0625f), energy));
    for (size_t i = 0; i < kSize; ++i) h[i] = V::root(V::add(rms, a[i]));
  }

  // Code of a magnitude; clamping first gives the same as rounding first, since H is whole.
  static Float code_of(Float magnitude, Float inverse, Float largest) noexcept {
    return V::round_even(V::min(V::multiply(magnitude, inverse), largest));
  }

  static Float squared_error(const Float* a, Float scale, Float largest) noexcept {
    const Float inverse = V::divide(largest, scale), step = V::divide(scale, largest);
    Float error = V::set(0.0f);
    for (size_t i = 0; i < kSize; ++i) {
      const Float difference = V::subtract(a[i], V::multiply(code_of(a[i], inverse, largest), step));
      error = V::add(error, V::multiply(difference, difference));
    }
    return error;
  }

  static Float weighted_error(const Float* a, const Float* h, Float scale, Float largest) noexcept {
    const Float inverse = V::divide(largest, scale), step = V::divide(scale, largest);
    Float error = V::set(0.0f);
    for (size_t i = 0; i < kSize; ++i) {
      const Float difference = V::subtract(a[i], V::multiply(code_of(a[i], inverse, largest), step));
      error = V::add(error, V::multiply(V::multiply(h[i], difference), difference));
    }
    return error;
  }

  static void exchange(Float& low, Float& high) noexcept {
    const Float smaller = V::min(low, high);
    high = V::max(low, high);
    low = smaller;
  }

  // Batcher's merge-exchange network (Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2 M) for 16 values,
  // ascending.
  static void sort(Float* a) noexcept {
#pragma GCC unroll 4
    for (size_t p = 8; p > 0; p /= 2) {
      size_t q = 8, r = 0, d = p;
      while (true) {
#pragma GCC unroll 16
        for (size_t i = 0; i + d < kSize; ++i) {
          if ((i & p) == r) exchange(a[i], a[i + d]);
        }
        if (q == p) break;
        d = q - p;
        q /= 2;
        r = p;
      }
    }
  }

  static void magnitudes(const float* weights, size_t groups, float* out) noexcept {
    for_lanes(weights, groups, [&](size_t first, size_t count, const float* w) {
      Float a[kSize];
      load_magnitudes(w, a);
      store(largest_of(a), count, out + first);
    });
  }

  static void candidate_scales(const float* weights, size_t groups, int largest_code, float* scales) noexcept {
    const Limits limits = limits_of(largest_code);
    for_lanes(weights, groups, [&](size_t first, size_t count, const float* w) {
      Float a[kSize], sorted[kSize];
      load_magnitudes(w, a);
      for (size_t i = 0; i < kSize; ++i) sorted[i] = a[i];
      sort(sorted);
      const Float candidates[] = {sorted[10], sorted[12], sorted[14], sorted[15]};
      Float best = V::set(0.0f), least = V::set(__builtin_inff());
      for (const Float& candidate : candidates) {
        const Float error = squared_error(a, candidate, limits.largest);
        // Too small a candidate gives NaN or any number; it must not win.
        const auto better = V::both(V::greater(least, error), V::not_less(candidate, limits.smallest));
        best = V::select(better, candidate, best);
        least = V::select(better, error, least);
      }
      store(best, count, scales + first);
    });
  }

  static void nearest_scale_codes(const float* scales, size_t groups, const float* thresholds, uint8_t* scale_codes) noexcept {
    for (size_t first = 0; first < groups; first += kLanes) {
      const size_t count = groups - first < kLanes ? groups - first : kLanes;
      alignas(64) float padded[kLanes] = {};
      for (size_t i = 0; i < count; ++i) padded[i] = scales[first + i];
      const Float scale = V::load(padded);
      Int below = V::set_int(0);
      for (size_t j = 0; j + 1 < kScales; ++j) {
        below = V::add_int(below, V::select_int(V::greater(scale, V::set(thresholds[j])), V::set_int(1), V::set_int(0)));
      }
      store_scale_codes(below, count, scale_codes + first);
    }
  }

  static void best_steps(const float* weights, const float* importance, size_t groups, int largest_code, float* steps,
                         float* curvatures) noexcept {
    const Limits limits = limits_of(largest_code);
    const Float zero = V::set(0.0f), half = V::set(0.5f), one = V::set(1.0f), two = V::set(2.0f);
    for_lanes(weights, groups, [&](size_t first, size_t count, const float* w) {
      Float a[kSize], h[kSize], code[kSize], passing[kSize], ha[kSize];
      load_magnitudes(w, a);
      error_weights_of(a, importance, first, count, h);
      for (size_t i = 0; i < kSize; ++i) {
        ha[i] = V::multiply(h[i], a[i]);
        code[i] = zero;
        passing[i] = V::divide(a[i], half);
      }
      Float sum_a = zero, sum_b = zero, best_gain = zero, best_step = zero, best_curvature = zero;
      for (size_t round = 0; round < kSize * static_cast<size_t>(largest_code); ++round) {
        const Float next = largest_of(passing);
        const auto live = V::greater(next, zero);
        if (!V::any(live)) break;
        auto waiting = live;  // lanes whose passing weight has not been met yet: the lowest index wins a tie
        for (size_t i = 0; i < kSize; ++i) {
          const auto here = V::both(waiting, V::not_less(passing[i], next));
          waiting = V::without(waiting, here);
          const Float raised = V::add(code[i], one);
          const Float later = V::select(V::greater(limits.largest, raised), V::divide(a[i], V::add(raised, half)), zero);
          sum_a = V::select(here, V::add(sum_a, ha[i]), sum_a);
          sum_b = V::select(here, V::add(sum_b, V::multiply(h[i], V::add(V::multiply(two, code[i]), one))), sum_b);
          passing[i] = V::select(here, later, passing[i]);
          code[i] = V::select(here, raised, code[i]);
        }
        const Float gain = V::divide(V::multiply(sum_a, sum_a), sum_b);
        const auto better = V::both(live, V::greater(gain, best_gain));
        best_gain = V::select(better, gain, best_gain);
        best_step = V::select(better, V::divide(sum_a, sum_b), best_step);
        best_curvature = V::select(better, sum_b, best_curvature);
      }
      store(best_step, count, steps + first);
      store(best_curvature, count, curvatures + first);
    });
  }

  static void best_scale_codes(const float* weights, const float* importance, size_t groups, int largest_code,
                               const float* codebook, uint8_t* scale_codes) noexcept {
    const Limits limits = limits_of(largest_code);
    for_lanes(weights, groups, [&](size_t first, size_t count, const float* w) {
      Float a[kSize], h[kSize];
      load_magnitudes(w, a);
      error_weights_of(a, importance, first, count, h);
      Float least = V::set(__builtin_inff());
      Int best = V::set_int(0);
      for (size_t scale_code = 0; scale_code < kScales; ++scale_code) {
        if (codebook[scale_code] == 0.0f) continue;
        const Float error = weighted_error(a, h, V::set(codebook[scale_code]), limits.largest);
        const auto better = V::greater(least, error);
        least = V::select(better, error, least);
        best = V::select_int(better, V::set_int(static_cast<int>(scale_code)), best);
      }
      best = V::select_int(V::not_less(largest_of(a), limits.smallest), best, V::set_int(0));
      store_scale_codes(best, count, scale_codes + first);
    });
  }

  static void step_sums(const float* weights, const float* importance, size_t groups, int largest_code, const float* codebook,
                        const uint8_t* scale_codes, float* numerators, float* denominators) noexcept {
    const Limits limits = limits_of(largest_code);
    for_lanes(weights, groups, [&](size_t first, size_t count, const float* w) {
      Float a[kSize], h[kSize];
      load_magnitudes(w, a);
      error_weights_of(a, importance, first, count, h);
      const Float inverse = V::divide(limits.largest, scales_of(codebook, scale_codes + first, count));
      Float numerator = V::set(0.0f), denominator = V::set(0.0f);
      for (size_t i = 0; i < kSize; ++i) {
        const Float code = code_of(a[i], inverse, limits.largest);
        const Float weighted = V::multiply(h[i], code);
        numerator = V::add(numerator, V::multiply(weighted, a[i]));
        denominator = V::add(denominator, V::multiply(weighted, code));
      }
      store(numerator, count, numerators + first);
      store(denominator, count, denominators + first);
    });
  }

  static void encode(const float* weights, size_t groups, int largest_code, const float* codebook, const uint8_t* scale_codes,
                     int8_t* codes, const tritllm::codec::GroupStats& stats) noexcept {
    const Limits limits = limits_of(largest_code);
    const Float lowest = V::subtract(V::set(0.0f), limits.largest), beyond = V::add(limits.largest, V::set(0.5f));
    for_lanes(weights, groups, [&](size_t first, size_t count, const float* source) {
      Float w[kSize], a[kSize];
      V::load_groups(source, w);
      for (size_t i = 0; i < kSize; ++i) a[i] = V::absolute(w[i]);
      const auto nonzero = V::not_less(largest_of(a), limits.smallest);
      const Float scale = scales_of(codebook, scale_codes + first, count);
      const Float inverse = V::and_mask(nonzero, V::divide(limits.largest, scale)), step = V::divide(scale, limits.largest);
      Float weight_energy = V::set(0.0f), error_energy = weight_energy, product = weight_energy, decoded_energy = weight_energy;
      Float largest_error = weight_energy, clipped = weight_energy;
      Int code_bytes[kSize / 4];
      for (size_t i = 0; i < kSize; i += 4) {
        Int four[4];
        for (size_t k = 0; k < 4; ++k) {
          const Float ideal = V::multiply(w[i + k], inverse);
          const Float code = V::round_even(V::max(lowest, V::min(ideal, limits.largest)));
          const Float decoded = V::multiply(code, step), difference = V::subtract(w[i + k], decoded);
          four[k] = V::to_int(code);
          weight_energy = V::add(weight_energy, V::multiply(w[i + k], w[i + k]));
          error_energy = V::add(error_energy, V::multiply(difference, difference));
          product = V::add(product, V::multiply(w[i + k], decoded));
          decoded_energy = V::add(decoded_energy, V::multiply(decoded, decoded));
          largest_error = V::max(largest_error, V::absolute(difference));
          clipped = V::add(clipped, V::and_mask(V::greater(V::absolute(ideal), beyond), V::set(1.0f)));
        }
        code_bytes[i / 4] = V::combine4(four);
      }
      alignas(64) int8_t all_codes[kLanes * kSize];
      V::store_codes(all_codes, code_bytes);
      for (size_t i = 0; i < count * kSize; ++i) codes[first * kSize + i] = all_codes[i];
      store(weight_energy, count, stats.weight_energy + first);
      store(error_energy, count, stats.error_energy + first);
      store(product, count, stats.product + first);
      store(decoded_energy, count, stats.decoded_energy + first);
      store(largest_error, count, stats.largest_error + first);
      store(clipped, count, stats.clipped + first);
    });
  }

  // One row in each lane. The targets of each weight, and the level that it is rounded to.
  struct FeedbackRows {
    const tritllm::codec::FeedbackGroup& group;
    Float largest, lowest;
    Float targets[kSize];

    // Σ variance·error²; decode(i, target) gives the level, keep(i, level, error) sees it.
    template <typename Decode, typename Keep>
    Float round(Decode&& decode, Keep&& keep) const noexcept {
      Float target[kSize];
      for (size_t i = 0; i < kSize; ++i) target[i] = targets[i];
      Float sum = V::set(0.0f);
#pragma GCC unroll 16
      for (size_t i = 0; i < kSize; ++i) {
        const Float level = decode(i, target[i]), error = V::subtract(target[i], level);
        sum = V::add(sum, V::multiply(V::multiply(V::set(group.variances[i]), error), error));
#pragma GCC unroll 16
        for (size_t j = i + 1; j < kSize; ++j)
          target[j] = V::add(target[j], V::multiply(error, V::set(group.feedback[i * kSize + j])));
        keep(i, level, error);
      }
      return sum;
    }

    Float code(Float target, Float inverse) const noexcept {
      return V::round_even(V::max(lowest, V::min(V::multiply(target, inverse), largest)));
    }
  };

  static void round_with_feedback(const tritllm::codec::FeedbackGroup& group, const float* targets, size_t rows,
                                  const tritllm::codec::RoundedGroup& out) noexcept {
    const Float largest = V::set(static_cast<float>(group.largest_code));
    for_lanes(targets, rows, [&](size_t first, size_t count, const float* lanes) {
      FeedbackRows here{group, largest, V::subtract(V::set(0.0f), largest), {}};
      V::load_groups(lanes, here.targets);
      Float least = V::set(__builtin_inff()), present[kSize];
      Int best = V::set_int(static_cast<int>(kScales));
      if (out.is_rounded) {
        for_lanes(out.decoded + first * kSize, count,
                  [&](size_t, size_t, const float* decoded) { V::load_groups(decoded, present); });
        least = here.round([&](size_t i, Float) { return present[i]; }, [](size_t, Float, Float) {});
      }
      for (size_t scale_code = 0; scale_code < kScales; ++scale_code) {
        if (group.codebook[scale_code] == 0.0f) continue;
        const Float scale = V::set(group.codebook[scale_code]);
        const Float inverse = V::divide(largest, scale), step = V::divide(scale, largest);
        const Float sum = here.round([&](size_t, Float target) { return V::multiply(here.code(target, inverse), step); },
                                     [](size_t, Float, Float) {});
        const auto better = V::greater(least, sum);
        least = V::select(better, sum, least);
        best = V::select_int(better, V::set_int(static_cast<int>(scale_code)), best);
      }
      store_rounded(here, best, present, first, count, out);
    });
  }

  // Rounds once more with the scale that won in each lane; lanes where none did keep what they have.
  static void store_rounded(const FeedbackRows& here, Int best, const Float* present, size_t first, size_t count,
                            const tritllm::codec::RoundedGroup& out) noexcept {
    alignas(64) uint8_t chosen[kLanes];
    V::store_low_bytes(chosen, best);
    alignas(64) float scales[kLanes] = {}, is_new[kLanes] = {};
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (chosen[lane] == kScales) continue;
      scales[lane] = here.group.codebook[chosen[lane]];
      is_new[lane] = 1.0f;
    }
    const Float scale = V::load(scales);
    const auto changes = V::greater(V::load(is_new), V::set(0.0f));
    const Float inverse = V::and_mask(changes, V::divide(here.largest, scale)), step = V::divide(scale, here.largest);
    alignas(64) float codes[kSize][kLanes], decoded[kSize][kLanes], errors[kSize][kLanes];
    here.round(
        [&](size_t i, Float target) {
          const Float code = V::add(here.code(target, inverse), V::set(0.0f));  // −0 becomes 0, as in the specification
          const Float level = V::multiply(code, step);
          V::store(codes[i], code);
          return out.is_rounded ? V::select(changes, level, present[i]) : level;
        },
        [&](size_t i, Float level, Float error) {
          V::store(decoded[i], level);
          V::store(errors[i], error);
        });
    for (size_t lane = 0; lane < count; ++lane) {
      const size_t row = first + lane;
      const bool replaces = chosen[lane] != kScales || !out.is_rounded;
      if (replaces) out.scale_codes[row] = chosen[lane] == kScales ? uint8_t{0} : chosen[lane];
      for (size_t i = 0; i < kSize; ++i) {
        if (replaces) out.codes[row * kSize + i] = static_cast<int8_t>(codes[i][lane]);
        out.decoded[row * kSize + i] = decoded[i][lane];
        out.errors[row * kSize + i] = errors[i][lane];
      }
    }
  }

  static Float multiply_add(Float a, Float b, Float sum) noexcept {
    if constexpr (requires { V::fma(a, b, sum); }) return V::fma(a, b, sum);
    else return V::add(sum, V::multiply(a, b));
  }

  // kRows rows and kVectors vectors of the result at a time.
  template <size_t kRows, size_t kVectors>
  static void product_tile(const float* left, size_t left_stride, const float* right, size_t right_stride, size_t inner, float* out,
                           size_t out_stride) noexcept {
    Float sums[kRows][kVectors];
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) sums[r][v] = V::load(out + r * out_stride + v * kLanes);
    }
    for (size_t k = 0; k < inner; ++k) {
      Float row[kVectors];
      for (size_t v = 0; v < kVectors; ++v) row[v] = V::load(right + k * right_stride + v * kLanes);
      for (size_t r = 0; r < kRows; ++r) {
        const Float factor = V::set(left[r * left_stride + k]);
        for (size_t v = 0; v < kVectors; ++v) sums[r][v] = multiply_add(factor, row[v], sums[r][v]);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) V::store(out + r * out_stride + v * kLanes, sums[r][v]);
    }
  }

  static void add_product(const float* left, size_t left_stride, const float* right, size_t right_stride, size_t inner, float* out,
                          size_t out_stride, size_t rows, size_t columns) noexcept {
    // Rows of `right` that stay in a second-level cache while all rows of `left` meet them. Each result is still one sum in order.
    constexpr size_t kInnerBlock = 256;
    for (size_t k = 0; k < inner; k += kInnerBlock) {
      add_product_block(left + k, left_stride, right + k * right_stride, right_stride,
                        inner - k < kInnerBlock ? inner - k : kInnerBlock, out, out_stride, rows, columns);
    }
  }

  static void add_product_block(const float* left, size_t left_stride, const float* right, size_t right_stride, size_t inner,
                                float* out, size_t out_stride, size_t rows, size_t columns) noexcept {
    constexpr size_t kRows = kLanes == 16 ? 8 : 4;
    size_t c = 0;
    const auto for_rows = [&](auto vectors) {
      size_t r = 0;
      for (; r + kRows <= rows; r += kRows) {
        product_tile<kRows, decltype(vectors)::value>(left + r * left_stride, left_stride, right + c, right_stride, inner,
                                                      out + r * out_stride + c, out_stride);
      }
      for (; r < rows; ++r) {
        product_tile<1, decltype(vectors)::value>(left + r * left_stride, left_stride, right + c, right_stride, inner,
                                                  out + r * out_stride + c, out_stride);
      }
      c += decltype(vectors)::value * kLanes;
    };
    while (c + 2 * kLanes <= columns) for_rows(Number<2>{});
    while (c + kLanes <= columns) for_rows(Number<1>{});
    for (; c < columns; ++c) {
      for (size_t r = 0; r < rows; ++r) {
        for (size_t k = 0; k < inner; ++k) out[r * out_stride + c] += left[r * left_stride + k] * right[k * right_stride + c];
      }
    }
  }

  template <size_t kValue>
  struct Number {
    static constexpr size_t value = kValue;
  };

  static constexpr tritllm::codec::GroupKernels table() noexcept {
    return {magnitudes, candidate_scales, nearest_scale_codes, best_steps, best_scale_codes,
            step_sums,  encode,           round_with_feedback, add_product};
  }
};
