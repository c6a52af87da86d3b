// Owns attention for SIMD, written once over a vector type V as tensor_kernels_simd.h is. Scores and weighted sums are the same
// product: rows of coefficients times tiles of keys or strips of values, each element read once for several rows.
//
// V needs, besides what tensor_kernels_simd.h names: kAccumulators and kAttentionRows, the vectors and rows of one product;
// load_float8 (kLanes codes);
// shift_exponent(x, n) = x·2^n where the result is normal.

template <typename V>
struct AttentionOperations {
  using Float = typename V::Float;
  using Task = tritllm::kernels::AttentionTask;
  using State = tritllm::kernels::AttentionState;
  static constexpr size_t kLanes = V::kLanes;
  static constexpr size_t kTile = tritllm::kernels::kCacheTile;
  static constexpr size_t kScoreStride = tritllm::kernels::kScoreStride;
  static constexpr size_t kPanelPositions = tritllm::kernels::kPanelPositions;
  static constexpr size_t kTileVectors = kTile / kLanes;
  // The hardware's own prefetching ends with each page of memory, and too few lines are under way where every line is followed by
  // tens of operations. Lines are asked for into the second-level cache: the first level has too few fill buffers.
  // Beyond the end of a head's keys lie its values, which are read next.
  static constexpr size_t kPrefetchBytes = 6144;
  template <typename Element>
  static void prefetch(const Element* p) noexcept {
    __builtin_prefetch(p + kPrefetchBytes / sizeof(Element), 0, 2);
  }

  static Float read(const float* p) noexcept { return V::load(p); }
  static Float read(const uint16_t* p) noexcept { return V::load_half(p); }
  static Float read(const tritllm::kernels::Float8* p) noexcept { return V::load_float8(&p->bits); }
  static Float read(const int8_t* p) noexcept { return V::load_codes(p); }

  // body(0) to body(kCount − 1), each a call of its own: a loop that the compiler unrolls late leaves its sums on the stack.
  template <size_t kCount, size_t kNext = 0, typename Body>
  [[gnu::always_inline]] static inline void unrolled(const Body& body) noexcept {
    if constexpr (kNext < kCount) {
      body(kNext);
      unrolled<kCount, kNext + 1>(body);
    }
  }

  // Tiles in memory: `stride` elements from one to the next, kTile elements for each step of the sum.
  template <typename Element>
  struct Tiles {
    const Element* data;
    size_t stride;
  };

  // Rows of coefficients, `stride` apart, and where the sums go.
  struct Coefficients {
    const float* data;
    size_t stride;
  };
  struct Sums {
    float* data;  // tiles beside each other
    size_t stride;
  };

  // sums[r][t] = [sums[r][t] +] Σ_step coefficients[r][step]·tiles[t][step], in ascending order. Inlined, it would share the
  // general registers with its callers and read the rows' addresses from memory at every step.
  template <size_t kRows, size_t kTiles, bool kContinues, typename Element>
  [[gnu::noinline, gnu::flatten]] static void product(Coefficients rows, Tiles<Element> tiles, size_t steps, Sums out) noexcept {
    constexpr size_t kVectors = kTiles * kTileVectors;
    Float sums[kRows][kVectors];
    unrolled<kRows * kVectors>([&](size_t i) {
      const size_t r = i / kVectors, v = i % kVectors;
      sums[r][v] = kContinues ? V::load(out.data + r * out.stride + v * kLanes) : V::zero();
    });
    const auto add = [&](size_t step) {
      Float elements[kVectors];
      unrolled<kVectors>([&](size_t v) {
        const size_t tile = v / kTileVectors, lane = v % kTileVectors * kLanes;
        elements[v] = read(tiles.data + tile * tiles.stride + step * kTile + lane);
      });
      unrolled<kRows>([&](size_t r) {
        const Float coefficient = V::set(rows.data[r * rows.stride + step]);
        unrolled<kVectors>([&](size_t v) { sums[r][v] = V::fma(coefficient, elements[v], sums[r][v]); });
      });
    };
    // Two steps of halves are a line of memory, two steps of bytes half of one.
    size_t step = 0;
    for (; step + 2 <= steps; step += 2) {
      if constexpr (sizeof(Element) < sizeof(float)) {
        unrolled<kTiles>([&](size_t t) { prefetch(tiles.data + t * tiles.stride + step * kTile); });
      }
      add(step);
      add(step + 1);
    }
    if (step < steps) add(step);
    unrolled<kRows * kVectors>([&](size_t i) {
      const size_t r = i / kVectors, v = i % kVectors;
      V::store(out.data + r * out.stride + v * kLanes, sums[r][v]);
    });
  }

  template <size_t kTiles, bool kContinues, typename Element, size_t kRows = V::kAttentionRows>
  static void product_of_rows(size_t count, Coefficients rows, Tiles<Element> tiles, size_t steps, Sums out) noexcept {
    if constexpr (kRows * kTiles * kTileVectors <= V::kAccumulators) {
      if (count == kRows) return product<kRows, kTiles, kContinues>(rows, tiles, steps, out);
    }
    if constexpr (kRows > 1) return product_of_rows<kTiles, kContinues, Element, kRows - 1>(count, rows, tiles, steps, out);
  }

  // As many rows at once as there are accumulators for, and two tiles where they allow it.
  static bool takes_two_tiles(size_t rows) noexcept { return rows * 2 * kTileVectors <= V::kAccumulators; }

  template <bool kContinues, typename Element>
  static void product_of_tiles(size_t rows, Coefficients coefficients, Tiles<Element> tiles, size_t tile_count, size_t steps,
                               Sums out) noexcept {
    size_t tile = 0;
    const auto rest = [&] { return Tiles<Element>{tiles.data + tile * tiles.stride, tiles.stride}; };
    const auto place = [&] { return Sums{out.data + tile * kTile, out.stride}; };
    if (takes_two_tiles(rows)) {
      for (; tile + 2 <= tile_count; tile += 2) product_of_rows<2, kContinues>(rows, coefficients, rest(), steps, place());
    }
    for (; tile < tile_count; ++tile) product_of_rows<1, kContinues>(rows, coefficients, rest(), steps, place());
  }

  // The rows of a task in blocks of like size, none larger than a product takes.
  class Blocks {
   public:
    explicit Blocks(size_t rows) noexcept : rows_(rows), count_((rows + V::kAttentionRows - 1) / V::kAttentionRows) {}
    size_t count() const noexcept { return count_; }
    size_t first(size_t block) const noexcept { return block * rows_ / count_; }
    size_t rows(size_t block) const noexcept { return first(block + 1) - first(block); }

   private:
    size_t rows_, count_;
  };

  // Tiles as floats: converted into the panel where several blocks of rows read them.
  template <typename Element>
  static Tiles<float> converted(Tiles<Element> tiles, size_t tile_count, size_t steps, float* panel) noexcept {
    for (size_t tile = 0; tile < tile_count; ++tile) {
      const Element* const from = tiles.data + tile * tiles.stride;
      float* const to = panel + tile * steps * kTile;
      for (size_t i = 0; i < steps * kTile; i += kTile) {
        prefetch(from + i);
        for (size_t v = 0; v < kTile; v += kLanes) V::store(to + i + v, read(from + i + v));
      }
    }
    return {panel, steps * kTile};
  }
  static Tiles<float> converted(Tiles<float> tiles, size_t, size_t, float*) noexcept { return tiles; }

  // Scores of whole tiles of keys: what a row does not see in them is masked later.
  template <typename Element>
  static void score(const Task& task, const Blocks& blocks, size_t first_tile, size_t end_tile) noexcept {
    const size_t tile_stride = task.head_stride * kTile, steps = task.head_stride;
    const auto keys = [&](size_t tile) {
      return Tiles<Element>{static_cast<const Element*>(task.keys) + tile * tile_stride, tile_stride};
    };
    const auto multiply = [&](size_t block, auto tiles, size_t tile, size_t count) {
      const size_t row = blocks.first(block);
      product_of_tiles<false>(blocks.rows(block), {task.queries + row * task.head_stride, task.head_stride}, tiles, count, steps,
                              {task.scores + row * kScoreStride + tile * kTile, kScoreStride});
    };
    if (blocks.count() == 1) return multiply(0, keys(first_tile), first_tile, end_tile - first_tile);
    for (size_t tile = first_tile; tile < end_tile; tile += 2) {
      const size_t count = tile + 2 <= end_tile ? 2 : 1;
      const auto tiles = converted(keys(tile), count, steps, task.panel);
      for (size_t block = 0; block < blocks.count(); ++block) multiply(block, tiles, tile, count);
    }
  }

  // e^x for x that is not above 0, to about a unit in the last place, and 0 below −86.6. 2^r on [−1/2, 1/2] is the polynomial of
  // degree 6 with the least relative error, 2·10^-9.
  static Float falling_exponential(Float x) noexcept {
    const Float power = V::multiply(x, V::set(1.44269504f));
    const Float clamped = V::max(V::set(-125.0f), power);  // NaN stays NaN
    const Float whole = V::round_even(clamped);
    const Float r = V::subtract(clamped, whole);
    constexpr float kCoefficients[] = {1.33999309e-3f, 9.61848907e-3f, 5.55032864e-2f, 2.40226462e-1f, 6.93147182e-1f, 1.0f};
    Float sum = V::set(1.53458110e-4f);
    for (const float coefficient : kCoefficients) sum = V::fma(sum, r, V::set(coefficient));
    return V::zero_below(power, -125.0f, V::shift_exponent(sum, whole));
  }

  static void multiply_by_scales(float* numbers, const uint16_t* scales, size_t begin, size_t end) noexcept {
    for (size_t i = begin; i < end; i += kLanes) {
      V::store(numbers + i, V::multiply(V::load(numbers + i), V::load_half(scales + i)));
    }
  }

  // Scores of one row become weights, which include the scales of values. Only the tiles that the row sees something of are
  // touched, so that the sum's order is its own.
  static void weigh(const Task& task, size_t row) noexcept {
    float* const scores = task.scores + row * kScoreStride;
    const size_t first = task.seen[row].first, end = task.seen[row].end;
    const size_t begin = first / kTile * kTile, stop = (end + kTile - 1) / kTile * kTile;
    if (task.key_scales != nullptr) multiply_by_scales(scores, task.key_scales, begin, stop);
    if (task.softcap > 0.0f) {
      const Float cap = V::set(task.softcap);
      for (size_t i = begin; i < stop; i += kLanes) {
        V::store(scores + i, V::multiply(cap, TensorOperations<V>::tanh(V::divide(V::load(scores + i), cap))));
      }
    }
    for (size_t i = begin; i < first; ++i) scores[i] = -__builtin_inff();
    for (size_t i = end; i < stop; ++i) scores[i] = -__builtin_inff();
    Float largest[2] = {V::set(-__builtin_inff()), V::set(-__builtin_inff())};
    for (size_t i = begin; i < stop; i += kTile) {
      for (size_t v = 0; v < kTile; v += 2 * kLanes) {  // from both ends of a tile
        largest[0] = V::max(largest[0], V::load(scores + i + v));
        largest[1] = V::max(largest[1], V::load(scores + i + kTile - kLanes - v));
      }
    }
    const float top = V::largest(V::max(largest[0], largest[1]));
    Float total = V::zero();
    for (size_t i = begin; i < stop; i += kLanes) {
      const Float weight = falling_exponential(V::subtract(V::load(scores + i), V::set(top)));
      V::store(scores + i, weight);
      total = V::add(total, weight);
    }
    task.state.largest[row] = top;
    task.state.totals[row] = V::sum(total);
    if (task.value_scales != nullptr) multiply_by_scales(scores, task.value_scales, begin, stop);
  }

  // Adds the weighted values of the positions in [from, to) to a block's sums. Positions that only some rows see, at either end,
  // are done row by row: a weight of 0 would not do, because 0 · NaN is NaN.
  template <typename Element>
  static void add_values(const Task& task, size_t first_row, size_t rows, Tiles<Element> strips, size_t strip, size_t strip_count,
                         size_t from, size_t to) noexcept {
    size_t common_first = from, common_end = to;
    for (size_t row = first_row; row < first_row + rows; ++row) {
      common_first = larger(common_first, task.seen[row].first);
      common_end = smaller(common_end, task.seen[row].end);
    }
    const auto add = [&](size_t row, size_t count, size_t begin, size_t end) {
      if (begin >= end) return;
      product_of_tiles<true>(count, {task.scores + row * kScoreStride + begin, kScoreStride},
                             Tiles<Element>{strips.data + (begin - from) * kTile, strips.stride}, strip_count, end - begin,
                             {task.state.sums + row * task.head_stride + strip * kTile, task.head_stride});
    };
    common_end = larger(common_first, common_end);
    for (size_t row = first_row; row < first_row + rows; ++row) {
      add(row, 1, larger(from, task.seen[row].first), smaller(smaller(to, task.seen[row].end), common_first));
    }
    add(first_row, rows, common_first, common_end);
    for (size_t row = first_row; row < first_row + rows; ++row) {
      add(row, 1, larger(common_end, task.seen[row].first), smaller(to, task.seen[row].end));
    }
  }

  template <typename Element>
  static void sum_values(const Task& task, const Blocks& blocks, size_t first, size_t end) noexcept {
    const size_t strip_count = task.head_stride / kTile;
    const auto values = [&](size_t strip, size_t from) {
      return Tiles<Element>{static_cast<const Element*>(task.values) + (strip * task.value_stride + from) * kTile,
                            task.value_stride * kTile};
    };
    if (blocks.count() == 1) return add_values(task, 0, task.rows, values(0, first), 0, strip_count, first, end);
    for (size_t from = first; from < end; from += kPanelPositions) {
      const size_t to = smaller(from + kPanelPositions, end);
      for (size_t strip = 0; strip < strip_count; strip += 2) {
        const size_t count = strip + 2 <= strip_count ? 2 : 1;
        const auto strips = converted(values(strip, from), count, to - from, task.panel);
        for (size_t block = 0; block < blocks.count(); ++block) {
          add_values(task, blocks.first(block), blocks.rows(block), strips, strip, count, from, to);
        }
      }
    }
  }

  template <typename Element>
  static void attend(const Task& task) noexcept {
    size_t first = kScoreStride, end = 0;
    for (size_t row = 0; row < task.rows; ++row) {
      task.state.largest[row] = -__builtin_inff();
      task.state.totals[row] = 0.0f;
      if (task.seen[row].first >= task.seen[row].end) continue;
      first = smaller(first, task.seen[row].first);
      end = larger(end, task.seen[row].end);
    }
    for (size_t i = 0; i < task.rows * task.head_stride; i += kLanes) V::store(task.state.sums + i, V::zero());
    if (first >= end) return;
    const Blocks blocks(task.rows);
    score<Element>(task, blocks, first / kTile, (end + kTile - 1) / kTile);
    for (size_t row = 0; row < task.rows; ++row) {
      if (task.seen[row].first < task.seen[row].end) weigh(task, row);
    }
    sum_values<Element>(task, blocks, first, end);
  }

  static void merge(const State& span, size_t rows, size_t head_stride, const State& into) noexcept {
    for (size_t row = 0; row < rows; ++row) {
      if (span.totals[row] == 0.0f) continue;
      const float* const from = span.sums + row * head_stride;
      float* const to = into.sums + row * head_stride;
      if (into.totals[row] == 0.0f) {
        for (size_t i = 0; i < head_stride; i += kLanes) V::store(to + i, V::load(from + i));
        into.largest[row] = span.largest[row];
        into.totals[row] = span.totals[row];
        continue;
      }
      const float before = into.largest[row], now = span.largest[row], top = before > now ? before : now;
      const Float kept = falling_exponential(V::set(before - top)), added = falling_exponential(V::set(now - top));
      for (size_t i = 0; i < head_stride; i += kLanes) {
        V::store(to + i, V::fma(V::load(from + i), added, V::multiply(V::load(to + i), kept)));
      }
      alignas(64) float total[kLanes];
      V::store(total, V::fma(V::set(span.totals[row]), added, V::multiply(V::set(into.totals[row]), kept)));
      into.totals[row] = total[0];
      into.largest[row] = top;
    }
  }

  static size_t smaller(size_t a, size_t b) noexcept { return a < b ? a : b; }
  static size_t larger(size_t a, size_t b) noexcept { return a > b ? a : b; }
};
