// Owns the loops of the integer kernels for depths 2 to 4, written once over a description V of an instruction set (those for depth
// 1 are in ternary_triples_simd.h). Each instruction set's file defines V and includes this inside its own namespace, as it does
// tensor_kernels_simd.h.
//
// One token: a band's sums stay in registers while its blocks stream by. Several tokens: the band streams by in the same order; a
// block's weights are unpacked into registers once and multiplied with a number of tokens, whose sums are read again for every
// block.
//
// V needs: Float, Codes (a vector of bytes: 4 columns of kVectorRows rows), Scales; kVectorRows; kUnsqueezes, whether it reads
// the squeezed format; and
//   zero(), load, store, fma(a, b, c) = a·b + c, multiply(a, b), set(x): of Floats
//   scales(scale_codes, table, out[kTileGroups][kVectors]): of a block's groups
//   codes<format>(block, group, vector, out[4])
//   keep(codes): computed by here, whatever the compiler thinks of its registers
//   dot<format>(codes[4], scales, group): Float, multiple·Σ code·value of each row
//   largest_magnitude(x): the bits of the largest |x[i]| of 16; above those of all finite numbers if an element is NaN or infinite
//   heavier_half(x): the larger of the two sums of eight magnitudes, in the order that reach_of_half() states
//   round<format>(x, inverse, group): sets the group's values, x[i]·inverse to the nearest even, and their offsets

// What the loops of every depth share.
struct TernaryLoops {
  using TileFormat = tritllm::kernels::TileFormat;
  using TernaryTiles = tritllm::kernels::TernaryTiles;
  using TernaryFormatKernels = tritllm::kernels::TernaryFormatKernels;
  static constexpr size_t kTileRows = tritllm::kernels::kTileRows, kTileGroups = tritllm::kernels::kTileGroups;
  // Tokens whose sums for a band stay in the first-level cache.
  static constexpr size_t kTokensAtOnce = 32;
  // How far ahead of the weights that are multiplied others are asked for, in bytes.
  static constexpr size_t kAhead = 8192;

  template <TileFormat kFormat>
  static void prefetch(const uint8_t* block) noexcept {
    for (size_t line = 0; line < tritllm::kernels::block_bytes(kFormat); line += 64)
      __builtin_prefetch(block + kAhead + line, 0, 1);
  }
};

template <typename V>
struct TernaryOperations : TernaryLoops {
  using Float = typename V::Float;
  using Codes = typename V::Codes;
  using Scales = typename V::Scales;
  using ActivationBlock = tritllm::kernels::ActivationBlock;
  using ScaleTable = tritllm::kernels::ScaleTable;
  using ActivationGroup = tritllm::kernels::ActivationGroup;
  static constexpr size_t kVectors = kTileRows / V::kVectorRows;
  using TileSums = float[kVectors][kTokensAtOnce][V::kVectorRows];

  template <TileFormat kFormat, size_t kTiles>
  static void multiply_token(const TernaryTiles& matrix, const uint8_t* blocks, const ActivationBlock* x, size_t x_stride,
                             float* y) noexcept {
    Float sums[kTiles][kVectors];
    for (auto& tile : sums) {
      for (Float& sum : tile) sum = V::zero();
    }
    for (size_t block = 0; block < matrix.column_blocks; ++block) {
      const ActivationBlock& inputs = x[block * x_stride];
#pragma GCC unroll 4
      for (size_t tile = 0; tile < kTiles; ++tile) {
        prefetch<kFormat>(blocks);
        Scales scales[kTileGroups][kVectors];
        V::scales(blocks + tritllm::kernels::block_code_bytes(kFormat), *matrix.scales, scales);
#pragma GCC unroll 2
        for (size_t group = 0; group < kTileGroups; ++group) {
          const Float scale = V::set(inputs.groups[group].scale);
#pragma GCC unroll 4
          for (size_t vector = 0; vector < kVectors; ++vector) {
            Codes codes[4];
            V::template codes<kFormat>(blocks, group, vector, codes);
            const Float dot = V::template dot<kFormat>(codes, scales[group][vector], inputs.groups[group]);
            sums[tile][vector] = V::fma(dot, scale, sums[tile][vector]);
          }
        }
        blocks += tritllm::kernels::block_bytes(kFormat);
      }
    }
    const Float unit = V::set(matrix.scales->unit);
    for (size_t tile = 0; tile < kTiles; ++tile) {
      for (size_t vector = 0; vector < kVectors; ++vector) {
        V::store(y + tile * kTileRows + vector * V::kVectorRows, V::multiply(sums[tile][vector], unit));
      }
    }
  }

  // A band for up to kTokensAtOnce tokens.
  template <TileFormat kFormat>
  static void multiply_tokens(const TernaryTiles& matrix, const uint8_t* blocks, size_t tiles, const ActivationBlock* x,
                              size_t x_stride, size_t tokens, float* y, size_t y_stride) noexcept {
    alignas(64) TileSums sums[tritllm::kernels::kBandTiles];
    for (size_t tile = 0; tile < tiles; ++tile) {
      for (auto& vector : sums[tile]) {
        for (size_t token = 0; token < tokens; ++token) V::store(vector[token], V::zero());
      }
    }
    for (size_t block = 0; block < matrix.column_blocks; ++block) {
      for (size_t tile = 0; tile < tiles; ++tile, blocks += tritllm::kernels::block_bytes(kFormat)) {
        add_products<kFormat>(blocks, *matrix.scales, x + block * x_stride, tokens, sums[tile]);
      }
    }
    const Float unit = V::set(matrix.scales->unit);
    for (size_t token = 0; token < tokens; ++token) {
      float* const out = y + token * y_stride;
      for (size_t tile = 0; tile < tiles; ++tile) {
        for (size_t vector = 0; vector < kVectors; ++vector) {
          V::store(out + tile * kTileRows + vector * V::kVectorRows, V::multiply(V::load(sums[tile][vector][token]), unit));
        }
      }
    }
  }

  // Of one block, to the sums of its tile.
  template <TileFormat kFormat>
  static void add_products(const uint8_t* block, const ScaleTable& table, const ActivationBlock* inputs, size_t tokens,
                           TileSums& sums) noexcept {
    prefetch<kFormat>(block);
    Scales scales[kTileGroups][kVectors];
    V::scales(block + tritllm::kernels::block_code_bytes(kFormat), table, scales);
    for (size_t vector = 0; vector < kVectors; ++vector) {
      Codes codes[kTileGroups][4];
      for (size_t group = 0; group < kTileGroups; ++group) {
        V::template codes<kFormat>(block, group, vector, codes[group]);
        for (Codes& quad : codes[group]) V::keep(quad);
      }
      for (size_t token = 0; token < tokens; ++token) {
        Float sum = V::load(sums[vector][token]);
        for (size_t group = 0; group < kTileGroups; ++group) {
          const ActivationGroup& input = inputs[token].groups[group];
          sum = V::fma(V::template dot<kFormat>(codes[group], scales[group][vector], input), V::set(input.scale), sum);
        }
        V::store(sums[vector][token], sum);
      }
    }
  }

  template <TileFormat kFormat>
  static void multiply_one(const TernaryTiles& matrix, const uint8_t* blocks, size_t tiles, const ActivationBlock* x,
                           size_t x_stride, float* y) noexcept {
    switch (tiles) {
      case 1: return multiply_token<kFormat, 1>(matrix, blocks, x, x_stride, y);
      case 2: return multiply_token<kFormat, 2>(matrix, blocks, x, x_stride, y);
      case 3: return multiply_token<kFormat, 3>(matrix, blocks, x, x_stride, y);
      default: return multiply_token<kFormat, 4>(matrix, blocks, x, x_stride, y);
    }
  }

  template <TileFormat kFormat>
  static void multiply(const TernaryTiles& matrix, size_t band, const void* inputs, size_t x_stride, size_t tokens, float* y,
                       size_t y_stride) noexcept {
    const auto* const x = static_cast<const ActivationBlock*>(inputs);
    const uint8_t* const blocks = matrix.blocks + matrix.band_offset(band);
    const size_t tiles = matrix.tiles_in_band(band);
    if (tokens == 1) return multiply_one<kFormat>(matrix, blocks, tiles, x, x_stride, y);
    for (size_t token = 0; token < tokens; token += kTokensAtOnce) {
      const size_t count = tokens - token < kTokensAtOnce ? tokens - token : kTokensAtOnce;
      multiply_tokens<kFormat>(matrix, blocks, tiles, x + token, x_stride, count, y + token * y_stride, y_stride);
    }
  }

  template <TileFormat kFormat>
  static ActivationGroup quantize_group(const float* x) noexcept {
    ActivationGroup group{};
    float reach = __builtin_bit_cast(float, V::largest_magnitude(x));
    if constexpr (tritllm::kernels::halves_may_overflow(kFormat)) {
      const float half = V::heavier_half(x) * tritllm::kernels::reach_of_half(kFormat);
      reach = reach < half ? half : reach;
    }
    if (!(reach < __builtin_inff())) {
      group.scale = __builtin_nanf("");
    } else if (reach >= tritllm::kernels::kLeastActivation) {
      group.scale = reach / 127.0f;
      V::template round<kFormat>(x, 127.0f / reach, group);
    }
    return group;
  }

  template <TileFormat kFormat>
  static void quantize(const float* x, size_t columns, size_t, void* inputs, size_t out_stride) noexcept {
    auto* const out = static_cast<ActivationBlock*>(inputs);
    const size_t groups = columns / 16;
    for (size_t group = 0; group < groups; ++group) {
      out[group / kTileGroups * out_stride].groups[group % kTileGroups] = quantize_group<kFormat>(x + group * 16);
    }
    if (groups % kTileGroups != 0) out[groups / kTileGroups * out_stride].groups[groups % kTileGroups] = ActivationGroup{};
  }

  static size_t activation_bytes(size_t) noexcept { return sizeof(ActivationBlock); }

  template <TileFormat kFormat>
  static constexpr TernaryFormatKernels product() noexcept {
    if constexpr (tritllm::kernels::is_squeezed(kFormat) && !V::kUnsqueezes) return {};
    else return {activation_bytes, quantize<kFormat>, multiply<kFormat>};
  }

  // With the products of depth 1.
  static constexpr tritllm::kernels::TernaryKernels table(const char* name, const TernaryFormatKernels& of_triples) {
    return {
        .name = name,
        .most_exact_tokens = SIZE_MAX,
        .activation_bytes_at_once = tritllm::kernels::kUsualActivationBytesAtOnce,
        .products = {of_triples, product<TileFormat::kFourBits>(), product<TileFormat::kFiveBits>(),
                     product<TileFormat::kPairsOf13Bits>(), product<TileFormat::kPairsOf7Bits>()},
        .formats = {TileFormat::kTriples, V::kUnsqueezes ? TileFormat::kPairsOf7Bits : TileFormat::kFourBits, TileFormat::kFiveBits,
                    TileFormat::kPairsOf13Bits},
    };
  }
};
