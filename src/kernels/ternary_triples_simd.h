// Owns the loops of the integer kernels for depth 1, written once over a description V of an instruction set, as
// ternary_kernels_simd.h is for the other depths, after which it is included.
//
// Nothing is multiplied by codes: the sums that three columns can give were computed with the activations (TripleSums), those of
// them that are not others negated, and a vector shuffle looks them up for 16 rows. Sums take two bytes, so there are two shuffles,
// two negations and two additions for every three columns of a tile's rows in both groups of a block.
//
// One token: a band's sums stay in registers while its blocks stream by. Several tokens: a block's fields are unpacked once, and a
// token's tables serve the whole band.
//
// V needs: Float, Bytes (a byte for each of 16 rows and 2 groups), Multiples; kVectorRows; and
//   zero(), load, store, fma(a, b, c) = a·b + c, multiply(a, b), set(x): of Floats
//   bytes(p), add(a, b): of Bytes
//   low_fields(bytes), high_fields(bytes), last_fields(bytes): their lower four, upper four and lowest two bits
//   look_up(table, fields): element `field` of the group's table of 16
//   negate(bytes, signs): where the top bit of a sign is set; the other bits are not all zero
//   multiples(scale_codes, fifth, table, out): of a block's groups, fifth bits at the top of their bytes, whose lower halves are
//   zero scale(low, high, multiples, out[kVectors]): Floats, of each row Σ over its groups of multiple·(low + 32·high)
//   sum_of_magnitudes(x): of 16, in the order that reach_of_half() and kMostInFineGroup state; NaN if an element is NaN or infinite
//   round(x, inverse, values): 16 of them, x[i]·inverse to the nearest even
//   store_sums(values, columns, low, high): the tables of three of the values of each group
//   store_last(values, low, high): those of the last one
//   keep(bytes): computed by here, whatever the compiler thinks of its registers

template <typename V>
struct TripleOperations : TernaryLoops {
  using Float = typename V::Float;
  using Bytes = typename V::Bytes;
  using Multiples = typename V::Multiples;
  using TripleSums = tritllm::kernels::TripleSums;
  static constexpr auto kFormat = TileFormat::kTriples;
  static constexpr size_t kBandTiles = tritllm::kernels::kBandTiles, kBandRows = tritllm::kernels::kBandRows;
  static constexpr size_t kTriples = tritllm::kernels::kGroupTriples;
  static constexpr size_t kBlockBytes = tritllm::kernels::block_bytes(kFormat);
  static constexpr size_t kVectors = kTileRows / V::kVectorRows;

  struct Sums {
    Bytes low, high;
  };

  static Bytes plane(const uint8_t* block, size_t index) noexcept {
    return V::bytes(block + index * tritllm::kernels::kTriplePlaneBytes);
  }
  static Bytes magnitudes_of(const uint8_t* block, size_t triple) noexcept {
    const Bytes both = plane(block, triple / 2);
    return triple % 2 == 0 ? V::low_fields(both) : V::high_fields(both);
  }
  // Plane 3: the top bits are signs of the first triple, then, after each step, of the next, and at last fifth bits of scale_codes.
  static Bytes signs_of(const uint8_t* block) noexcept { return plane(block, 3); }
  static Bytes next_signs(Bytes signs) noexcept { return V::add(signs, signs); }

  static Multiples multiples_of(const uint8_t* block, Bytes fifth, const TernaryTiles& matrix) noexcept {
    Multiples multiples;
    V::multiples(V::high_fields(plane(block, 2)), fifth, *matrix.scales, multiples);
    return multiples;
  }

  // Of a block's groups the sums begin with their last columns.
  static Sums look_up_last(const TripleSums& tables, Bytes fields) noexcept {
    return {V::look_up(V::bytes(tables.low[kTriples]), fields), V::look_up(V::bytes(tables.high[kTriples]), fields)};
  }
  static void add_triple(Bytes low, Bytes high, Bytes magnitudes, Bytes signs, Sums& sums) noexcept {
    sums.low = V::add(sums.low, V::negate(V::look_up(low, magnitudes), signs));
    sums.high = V::add(sums.high, V::negate(V::look_up(high, magnitudes), signs));
    V::keep(sums.low);
    V::keep(sums.high);
  }

  static void add_scaled(const Sums& sums, const Multiples& multiples, Float scale, Float (&to)[kVectors]) noexcept {
    Float rows[kVectors];
    V::scale(sums.low, sums.high, multiples, rows);
    for (size_t i = 0; i < kVectors; ++i) to[i] = V::fma(rows[i], scale, to[i]);
  }

  template <size_t kTiles>
  static void multiply_token(const TernaryTiles& matrix, const uint8_t* blocks, const TripleSums* x, size_t x_stride,
                             float* y) noexcept {
    Float totals[kTiles][kVectors];
    for (auto& tile : totals) {
      for (Float& total : tile) total = V::zero();
    }
    for (size_t block = 0; block < matrix.column_blocks; ++block, blocks += kTiles * kBlockBytes) {
      const TripleSums& tables = x[block * x_stride];
      Bytes signs[kTiles];
      Sums sums[kTiles];
      for (size_t tile = 0; tile < kTiles; ++tile) {
        signs[tile] = signs_of(blocks + tile * kBlockBytes);
        sums[tile] = look_up_last(tables, V::last_fields(signs[tile]));
      }
#pragma GCC unroll 5
      for (size_t triple = 0; triple < kTriples; ++triple) {
        const Bytes low = V::bytes(tables.low[triple]), high = V::bytes(tables.high[triple]);
        for (size_t tile = 0; tile < kTiles; ++tile) {
          add_triple(low, high, magnitudes_of(blocks + tile * kBlockBytes, triple), signs[tile], sums[tile]);
          signs[tile] = next_signs(signs[tile]);
        }
      }
      const Float scale = V::set(tables.scale);
#pragma GCC unroll 4
      for (size_t tile = 0; tile < kTiles; ++tile) {
        prefetch<kFormat>(blocks + tile * kBlockBytes);
        add_scaled(sums[tile], multiples_of(blocks + tile * kBlockBytes, signs[tile], matrix), scale, totals[tile]);
      }
    }
    store(&totals[0][0], kTiles * kVectors, V::set(matrix.scales->unit), y);
  }

  static void store(const Float* sums, size_t count, Float unit, float* y) noexcept {
    for (size_t i = 0; i < count; ++i) V::store(y + i * V::kVectorRows, V::multiply(sums[i], unit));
  }

  // A band's blocks of the same columns, unpacked.
  template <size_t kTiles>
  struct Unpacked {
    Bytes magnitudes[kTriples][kTiles], signs[kTriples][kTiles], last[kTiles];
    Multiples multiples[kTiles];

    Unpacked(const TernaryTiles& matrix, const uint8_t* blocks) noexcept {
      for (size_t tile = 0; tile < kTiles; ++tile, blocks += kBlockBytes) {
        prefetch<kFormat>(blocks);
        Bytes top = signs_of(blocks);
        last[tile] = V::last_fields(top);
        for (size_t triple = 0; triple < kTriples; ++triple, top = next_signs(top)) {
          magnitudes[triple][tile] = magnitudes_of(blocks, triple);
          signs[triple][tile] = top;
        }
        multiples[tile] = multiples_of(blocks, top, matrix);
      }
    }
  };

  // A band for up to kTokensAtOnce tokens.
  template <size_t kTiles>
  static void multiply_tokens(const TernaryTiles& matrix, const uint8_t* blocks, const TripleSums* x, size_t x_stride,
                              size_t tokens, float* y, size_t y_stride) noexcept {
    Float totals[kTokensAtOnce][kTiles][kVectors];
    for (size_t token = 0; token < tokens; ++token) {
      for (auto& tile : totals[token]) {
        for (Float& total : tile) total = V::zero();
      }
    }
    for (size_t block = 0; block < matrix.column_blocks; ++block, blocks += kTiles * kBlockBytes) {
      const Unpacked<kTiles> unpacked(matrix, blocks);
      for (size_t token = 0; token < tokens; ++token) {
        const TripleSums& tables = x[block * x_stride + token];
        const Float scale = V::set(tables.scale);
        Sums sums[kTiles];
        for (size_t tile = 0; tile < kTiles; ++tile) sums[tile] = look_up_last(tables, unpacked.last[tile]);
#pragma GCC unroll 5
        for (size_t triple = 0; triple < kTriples; ++triple) {
          const Bytes low = V::bytes(tables.low[triple]), high = V::bytes(tables.high[triple]);
          for (size_t tile = 0; tile < kTiles; ++tile) {
            add_triple(low, high, unpacked.magnitudes[triple][tile], unpacked.signs[triple][tile], sums[tile]);
          }
        }
#pragma GCC unroll 4
        for (size_t tile = 0; tile < kTiles; ++tile) {
          add_scaled(sums[tile], unpacked.multiples[tile], scale, totals[token][tile]);
        }
      }
    }
    const Float unit = V::set(matrix.scales->unit);
    for (size_t token = 0; token < tokens; ++token) store(&totals[token][0][0], kTiles * kVectors, unit, y + token * y_stride);
  }

  template <size_t kTiles>
  static void multiply_band(const TernaryTiles& matrix, const uint8_t* blocks, const TripleSums* x, size_t x_stride, size_t tokens,
                            float* y, size_t y_stride) noexcept {
    if (tokens == 1) return multiply_token<kTiles>(matrix, blocks, x, x_stride, y);
    for (size_t token = 0; token < tokens; token += kTokensAtOnce) {
      const size_t count = tokens - token < kTokensAtOnce ? tokens - token : kTokensAtOnce;
      multiply_tokens<kTiles>(matrix, blocks, x + token, x_stride, count, y + token * y_stride, y_stride);
    }
  }

  static void multiply(const TernaryTiles& matrix, size_t band, const void* inputs, size_t x_stride, size_t tokens, float* y,
                       size_t y_stride) noexcept {
    const auto* const x = static_cast<const TripleSums*>(inputs);
    const uint8_t* const blocks = matrix.blocks + matrix.band_offset(band);
    switch (matrix.tiles_in_band(band)) {
      case 1: return multiply_band<1>(matrix, blocks, x, x_stride, tokens, y, y_stride);
      case 2: return multiply_band<2>(matrix, blocks, x, x_stride, tokens, y, y_stride);
      case 3: return multiply_band<3>(matrix, blocks, x, x_stride, tokens, y, y_stride);
      default: return multiply_band<kBandTiles>(matrix, blocks, x, x_stride, tokens, y, y_stride);
    }
  }

  // Of one block: `groups` of it belong to the matrix.
  static void quantize_block(const float* x, size_t groups, TripleSums& out) noexcept {
    alignas(64) int16_t values[kTileGroups][16] = {};
    const float first = V::sum_of_magnitudes(x), second = groups == kTileGroups ? V::sum_of_magnitudes(x + 16) : 0.0f;
    const float reach = first < second ? second : first;
    out.scale = 0.0f;
    if (!(first < __builtin_inff() && second < __builtin_inff())) {
      out.scale = __builtin_nanf("");
    } else if (reach >= tritllm::kernels::kLeastActivation) {
      out.scale = reach / tritllm::kernels::kFineReach;
      for (size_t group = 0; group < groups; ++group) {
        V::round(x + group * 16, tritllm::kernels::kFineReach / reach, values[group]);
      }
    }
    for (size_t triple = 0; triple < kTriples; ++triple) {
      V::store_sums(values, tritllm::kernels::kTripleColumns[triple], out.low[triple][0], out.high[triple][0]);
    }
    V::store_last(values, out.low[kTriples][0], out.high[kTriples][0]);
  }

  static void quantize(const float* x, size_t columns, size_t, void* inputs, size_t out_stride) noexcept {
    auto* const out = static_cast<TripleSums*>(inputs);
    const size_t groups = columns / 16;
    for (size_t group = 0; group < groups; group += kTileGroups) {
      const size_t left = groups - group;
      quantize_block(x + group * 16, left < kTileGroups ? left : kTileGroups, out[group / kTileGroups * out_stride]);
    }
  }

  static size_t activation_bytes(size_t) noexcept { return sizeof(TripleSums); }

  static constexpr TernaryFormatKernels product() noexcept { return {activation_bytes, quantize, multiply}; }
};
