// Owns the loops of the integer kernels for depth 1, written once over a description V of an instruction set, as
// ternary_kernels_simd.h is for the other depths, after which it is included.
//
// Nothing is multiplied by codes: the sums that two neighbouring columns can give were computed with the activations (PairSums),
// and a vector shuffle looks them up for 16 rows, which takes four bits a row as they lie in memory. Sums take two bytes, so there
// are two shuffles and two additions for every two columns of a tile's rows in both groups of a block.
//
// One token: a band's sums stay in registers while its blocks stream by. Several tokens: a block's fields are unpacked once, and a
// token's tables serve the whole band.
//
// V needs: Float, Bytes (a signed byte for each of 16 rows and 2 groups), Multiples; kVectorRows; and
//   zero(), load, store, fma(a, b, c) = a·b + c, multiply(a, b), set(x): of Floats
//   bytes(p), no_bytes(), add(a, b): of Bytes
//   low_fields(bytes), high_fields(bytes): their lower and upper four bits
//   look_up(table, fields): entry `field` of the group's table of 16
//   multiples(entries, table, out): of a block's groups
//   scale(low, high, multiples, out[kVectors]): Floats, of each row Σ over its groups of multiple·(low + 32·high)
//   sum_of_magnitudes(x): of 16, in the order that reach_of_half() and kMostInFineGroup state; none if one is no finite number
//   round(x, inverse, values): 16 of them, x[i]·inverse to the nearest even
//   store_sums(first, second, low, high): the tables of a pair of values of each group
//   keep(bytes): computed by here, whatever the compiler thinks of its registers

template <typename V>
struct PairOperations : TernaryLoops {
  using Float = typename V::Float;
  using Bytes = typename V::Bytes;
  using Multiples = typename V::Multiples;
  using PairSums = tritllm::kernels::PairSums;
  static constexpr auto kFormat = TileFormat::kTwoBits;
  static constexpr size_t kBandTiles = tritllm::kernels::kBandTiles, kBandRows = tritllm::kernels::kBandRows;
  static constexpr size_t kPairs = tritllm::kernels::kGroupPairs;
  static constexpr size_t kBlockBytes = tritllm::kernels::block_bytes(kFormat);
  static constexpr size_t kVectors = kTileRows / V::kVectorRows;
  // Tokens whose sums stay in the first-level cache.
  static constexpr size_t kTokensAtOnce = 32;

  struct Sums {
    Bytes low = V::no_bytes(), high = V::no_bytes();
  };

  static Multiples multiples_of(const uint8_t* block, const TernaryTiles& matrix) noexcept {
    Multiples multiples;
    V::multiples(block + tritllm::kernels::block_code_bytes(kFormat), *matrix.scales, multiples);
    return multiples;
  }

  static void add_scaled(const Sums& sums, const Multiples& multiples, Float scale, Float (&to)[kVectors]) noexcept {
    Float rows[kVectors];
    V::scale(sums.low, sums.high, multiples, rows);
    for (size_t i = 0; i < kVectors; ++i) to[i] = V::fma(rows[i], scale, to[i]);
  }

  static Bytes fields_of(const uint8_t* block, size_t pair) noexcept {
    const Bytes both = V::bytes(block + pair / 2 * sizeof(Bytes));
    return pair % 2 == 0 ? V::low_fields(both) : V::high_fields(both);
  }

  // Of kTiles neighbouring blocks, one pair of columns.
  template <size_t kTiles>
  static void look_up(const PairSums& tables, size_t pair, const Bytes (&fields)[kTiles], Sums (&sums)[kTiles]) noexcept {
    const Bytes low = V::bytes(tables.low[pair]), high = V::bytes(tables.high[pair]);
    for (size_t tile = 0; tile < kTiles; ++tile) {
      sums[tile].low = V::add(sums[tile].low, V::look_up(low, fields[tile]));
      sums[tile].high = V::add(sums[tile].high, V::look_up(high, fields[tile]));
      V::keep(sums[tile].low);
      V::keep(sums[tile].high);
    }
  }

  template <size_t kTiles>
  static void multiply_token(const TernaryTiles& matrix, const uint8_t* blocks, const PairSums* x, size_t x_stride,
                             float* y) noexcept {
    Float sums[kTiles][kVectors];
    for (auto& tile : sums) {
      for (Float& sum : tile) sum = V::zero();
    }
    for (size_t block = 0; block < matrix.column_blocks; ++block, blocks += kTiles * kBlockBytes) {
      const PairSums& tables = x[block * x_stride];
      Sums of_pairs[kTiles];
#pragma GCC unroll 8
      for (size_t pair = 0; pair < kPairs; ++pair) {
        Bytes fields[kTiles];
        for (size_t tile = 0; tile < kTiles; ++tile) fields[tile] = fields_of(blocks + tile * kBlockBytes, pair);
        look_up(tables, pair, fields, of_pairs);
      }
      const Float scale = V::set(tables.scale);
#pragma GCC unroll 4
      for (size_t tile = 0; tile < kTiles; ++tile) {
        prefetch<kFormat>(blocks + tile * kBlockBytes);
        add_scaled(of_pairs[tile], multiples_of(blocks + tile * kBlockBytes, matrix), scale, sums[tile]);
      }
    }
    store(&sums[0][0], kTiles * kVectors, V::set(matrix.scales->unit), y);
  }

  static void store(const Float* sums, size_t count, Float unit, float* y) noexcept {
    for (size_t i = 0; i < count; ++i) V::store(y + i * V::kVectorRows, V::multiply(sums[i], unit));
  }

  // A band's blocks of the same columns, unpacked.
  template <size_t kTiles>
  struct Unpacked {
    Bytes fields[kPairs][kTiles];
    Multiples multiples[kTiles];

    Unpacked(const TernaryTiles& matrix, const uint8_t* blocks) noexcept {
      for (size_t tile = 0; tile < kTiles; ++tile, blocks += kBlockBytes) {
        prefetch<kFormat>(blocks);
        for (size_t pair = 0; pair < kPairs; ++pair) fields[pair][tile] = fields_of(blocks, pair);
        multiples[tile] = multiples_of(blocks, matrix);
      }
    }
  };

  // A band, whose sums are in `y` while it is worked on; up to kTokensAtOnce tokens.
  template <size_t kTiles>
  static void multiply_tokens(const TernaryTiles& matrix, const uint8_t* blocks, const PairSums* x, size_t x_stride, size_t tokens,
                              float* y, size_t y_stride) noexcept {
    Float sums[kTokensAtOnce][kTiles][kVectors];
    for (size_t token = 0; token < tokens; ++token) {
      for (auto& tile : sums[token]) {
        for (Float& sum : tile) sum = V::zero();
      }
    }
    for (size_t block = 0; block < matrix.column_blocks; ++block, blocks += kTiles * kBlockBytes) {
      const Unpacked<kTiles> unpacked(matrix, blocks);
      for (size_t token = 0; token < tokens; ++token) {
        const PairSums& tables = x[block * x_stride + token];
        const Float scale = V::set(tables.scale);
        Sums of_pairs[kTiles];
#pragma GCC unroll 8
        for (size_t pair = 0; pair < kPairs; ++pair) look_up(tables, pair, unpacked.fields[pair], of_pairs);
#pragma GCC unroll 4
        for (size_t tile = 0; tile < kTiles; ++tile) {
          add_scaled(of_pairs[tile], unpacked.multiples[tile], scale, sums[token][tile]);
        }
      }
    }
    const Float unit = V::set(matrix.scales->unit);
    for (size_t token = 0; token < tokens; ++token) store(&sums[token][0][0], kTiles * kVectors, unit, y + token * y_stride);
  }

  template <size_t kTiles>
  static void multiply_band(const TernaryTiles& matrix, const uint8_t* blocks, const PairSums* x, size_t x_stride, size_t tokens,
                            float* y, size_t y_stride) noexcept {
    if (tokens == 1) return multiply_token<kTiles>(matrix, blocks, x, x_stride, y);
    for (size_t token = 0; token < tokens; token += kTokensAtOnce) {
      const size_t count = tokens - token < kTokensAtOnce ? tokens - token : kTokensAtOnce;
      multiply_tokens<kTiles>(matrix, blocks, x + token, x_stride, count, y + token * y_stride, y_stride);
    }
  }

  static void multiply(const TernaryTiles& matrix, size_t band, const void* inputs, size_t x_stride, size_t tokens, float* y,
                       size_t y_stride) noexcept {
    const auto* const x = static_cast<const PairSums*>(inputs);
    const uint8_t* const blocks = matrix.blocks + matrix.band_offset(band);
    switch (matrix.tiles_in_band(band)) {
      case 1: return multiply_band<1>(matrix, blocks, x, x_stride, tokens, y, y_stride);
      case 2: return multiply_band<2>(matrix, blocks, x, x_stride, tokens, y, y_stride);
      case 3: return multiply_band<3>(matrix, blocks, x, x_stride, tokens, y, y_stride);
      default: return multiply_band<kBandTiles>(matrix, blocks, x, x_stride, tokens, y, y_stride);
    }
  }

  // Of one block: `groups` of it belong to the matrix.
  static void quantize_block(const float* x, size_t groups, PairSums& out) noexcept {
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
    for (size_t pair = 0; pair < kPairs; ++pair) {
      V::store_sums(values[0] + 2 * pair, values[1] + 2 * pair, out.low[pair][0], out.high[pair][0]);
    }
  }

  static void quantize(const float* x, size_t columns, size_t, void* inputs, size_t out_stride) noexcept {
    auto* const out = static_cast<PairSums*>(inputs);
    const size_t groups = columns / 16;
    for (size_t group = 0; group < groups; group += kTileGroups) {
      const size_t left = groups - group;
      quantize_block(x + group * 16, left < kTileGroups ? left : kTileGroups, out[group / kTileGroups * out_stride]);
    }
  }

  static size_t activation_bytes(size_t) noexcept { return sizeof(PairSums); }

  static constexpr TernaryProduct product() noexcept { return {activation_bytes, quantize, multiply}; }
};
