// Owns the integer kernels' place where AMX multiplies: for 16 tokens and more, weights and activations become BF16, whose rounding
// is finer than that of 8-bit activations, and a tile instruction multiplies 16 × 32 by 32 × 16 of them. Fewer tokens are left to
// the kernels of AVX-512 with VBMI.
#include "kernels/ternary_kernels.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/instruction_sets.h"

namespace tritllm::kernels::amx {
namespace {

#include "kernels/ternary_kernels_simd.h"
#include "kernels/ternary_quantize_x86.h"

#include "kernels/avx512/vector.h"
// After the vector of floats that it extends.
#include "kernels/avx512/ternary_vector.h"

constexpr size_t kTileTokens = 16;     // lines of a tile of activations or of sums
constexpr size_t kPanelBlocks = 32;    // blocks of columns unpacked together: 128 KiB for a band
constexpr size_t kTokensAtOnce = 512;  // whose sums for a band, 128 KiB, stay in the second-level cache beside the panel
constexpr size_t kLine = 64;           // bytes of a tile's line
constexpr size_t kFewestTokens = 16;   // fewer would leave most of a tile empty

// A block of 16 rows' weights: for every two columns a line of 16 rows × 2.
struct alignas(kLine) WeightTile {
  uint32_t pairs[kTileColumns / 2][kTileRows];
};

struct Panel {
  WeightTile tiles[kBandTiles][kPanelBlocks];
  size_t blocks;
};

// Sums in lines next to each other: rows of an output lie so far apart that they would push each other out of the caches.
using Sums = float[kTokensAtOnce][kBandRows];

// Those of consecutive tokens, from some block of columns on.
struct Activations {
  const ActivationBlock* first;
  size_t stride;  // from block to block

  const ActivationBlock* block(size_t index) const noexcept { return first + index * stride; }
  Activations from(size_t block, size_t token) const noexcept { return {this->block(block) + token, stride}; }
};

// Columns 2·pair and 2·pair + 1 of a quad, times the rows' steps, rounded to BF16. Weights are finite, so adding half a unit
// rounds.
__m512i brain_pair(__m512i codes, size_t pair, __m512 steps) noexcept {
  const auto weight = [&](unsigned column) {
    const __m512i code = _mm512_srai_epi32(_mm512_slli_epi32(codes, 24 - 8 * column), 24);
    return _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(code), steps));
  };
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  const auto first = static_cast<unsigned>(2 * pair);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(weight(first), half), 16);
  const __m512i high = _mm512_add_epi32(weight(first + 1), half);
  return _mm512_or_si512(low, _mm512_and_si512(high, upper));
}

// A group's weights of 16 rows: multiples, and for each four columns their codes.
struct GroupCodes {
  __m512i multiples, quads[4];
};

template <TileFormat kFormat>
void unpack_groups(const uint8_t* block, const ScaleTable& table, GroupCodes (&out)[kTileGroups]) noexcept {
  const __m512i centre = _mm512_set1_epi8(static_cast<char>(format_largest_code(kFormat)));
  __m512i multiples[kTileGroups][1];
  Vector::scales(block + block_code_bytes(kFormat), table, multiples);
  for (size_t group = 0; group < kTileGroups; ++group) {
    out[group].multiples = multiples[group][0];
    Vector::codes<kFormat>(block, group, 0, out[group].quads);
    for (__m512i& quad : out[group].quads) quad = _mm512_sub_epi8(quad, centre);
  }
}

// A group's bytes in a plane of depth 1, 32 bits for each row.
__m512i triple_plane(const uint8_t* block, size_t plane, size_t group) noexcept {
  const uint8_t* const from = block + plane * kTriplePlaneBytes + group * kTileRows;
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// The three codes of numbers, the first one in the lowest byte. Looks at the lowest four bits of magnitudes and at the top bits of
// signs.
__m512i codes_of_triples(__m512i magnitudes, __m512i signs) noexcept {
  alignas(kLine) static constexpr auto kCodes = [] {
    std::array<uint32_t, 16> codes{};
    for (size_t number = 0; number < 16; ++number) {
      for (size_t i = 0; i < 3; ++i) codes[number] |= static_cast<uint32_t>(kTripleCodes[i][number] & 255) << 8 * i;
    }
    return codes;
  }();
  const __m512i codes = _mm512_permutexvar_epi32(magnitudes, _mm512_load_si512(kCodes.data()));
  const __m512i negative = _mm512_srai_epi32(signs, 31);
  return _mm512_sub_epi8(_mm512_xor_si512(codes, negative), negative);
}

// A block's scale_codes at depth 1, [group][row].
__m256i triple_scale_codes(const uint8_t* block) noexcept {
  alignas(kLine) static constexpr auto kPlaces = [] {
    std::array<uint8_t, kBlockScaleCodes> places{};
    for (size_t i = 0; i < kBlockScaleCodes; ++i)
      places[i] = static_cast<uint8_t>(triple_scale_code_place(i % kTileRows, i / kTileRows));
    return places;
  }();
  const auto plane = [block](size_t index) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + index * kTriplePlaneBytes));
  };
  const __m256i low = _mm256_and_si256(_mm256_srli_epi16(plane(2), 4), _mm256_set1_epi8(15));
  const __m256i fifth = _mm256_and_si256(_mm256_slli_epi16(plane(3), 2), _mm256_set1_epi8(16));
  const __m256i places = _mm256_load_si256(reinterpret_cast<const __m256i*>(kPlaces.data()));
  return _mm256_permutexvar_epi8(places, _mm256_or_si256(low, fifth));
}

// A group's codes at depth 1.
void spread_triples(const uint8_t* block, size_t group, __m512i (&quads)[4]) noexcept {
  const __m512i signs = triple_plane(block, 3, group);
  __m512i codes[kGroupTriples];
  for (size_t triple = 0; triple < kGroupTriples; ++triple) {
    const __m512i fields = triple_plane(block, triple / 2, group);
    const auto to_top = static_cast<unsigned>(24 + triple);
    codes[triple] = codes_of_triples(triple % 2 == 0 ? fields : _mm512_srli_epi32(fields, 4), _mm512_slli_epi32(signs, to_top));
  }
  const __m512i last = _mm512_sub_epi32(_mm512_and_si512(signs, _mm512_set1_epi32(3)), _mm512_set1_epi32(2));
  // The fourth columns of the first three quads are the fifth triple.
  const __m512i fourth = codes[kGroupTriples - 1], top = _mm512_set1_epi32(static_cast<int32_t>(0xff000000u));
  const __m512i fourths[4] = {_mm512_slli_epi32(fourth, 24), _mm512_slli_epi32(fourth, 16), _mm512_slli_epi32(fourth, 8),
                              _mm512_slli_epi32(last, 24)};
  // (codes & ~top) | (fourths & top)
  for (size_t quad = 0; quad < 4; ++quad) quads[quad] = _mm512_ternarylogic_epi32(top, fourths[quad], codes[quad], 0xca);
}

template <>
void unpack_groups<TileFormat::kTriples>(const uint8_t* block, const ScaleTable& table, GroupCodes (&out)[kTileGroups]) noexcept {
  const __m256i scale_codes = triple_scale_codes(block);
  const __m128i of_group[kTileGroups] = {_mm256_castsi256_si128(scale_codes), _mm256_extracti128_si256(scale_codes, 1)};
  const __m512i low = _mm512_load_si512(table.multiples), high = _mm512_load_si512(table.multiples + 16);
  for (size_t group = 0; group < kTileGroups; ++group) {
    out[group].multiples = _mm512_permutex2var_epi32(low, _mm512_cvtepu8_epi32(of_group[group]), high);
    spread_triples(block, group, out[group].quads);
  }
}

template <TileFormat kFormat>
void unpack_block(const uint8_t* block, const ScaleTable& table, WeightTile& out) noexcept {
  GroupCodes groups[kTileGroups];
  unpack_groups<kFormat>(block, table, groups);
  for (size_t group = 0; group < kTileGroups; ++group) {
    const __m512 steps = _mm512_mul_ps(_mm512_cvtepi32_ps(groups[group].multiples), _mm512_set1_ps(table.unit));
    for (size_t quad = 0; quad < 4; ++quad) {
      for (size_t pair = 0; pair < 2; ++pair) {
        _mm512_store_si512(out.pairs[group * 8 + quad * 2 + pair], brain_pair(groups[group].quads[quad], pair, steps));
      }
    }
  }
}

// The shapes of tiles (Intel's manual, "TILECFG"). 0 to 3: sums, tokens × 16 rows. 4 and 5: activations, tokens × 32 columns. 6 and
// 7: weights.
struct alignas(kLine) TileConfiguration {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t line_bytes[16] = {kLine, kLine, kLine, kLine, kLine, kLine, kLine, kLine};
  uint8_t lines[16] = {};

  explicit TileConfiguration(size_t tokens) noexcept {
    const auto first = static_cast<uint8_t>(tokens < kTileTokens ? tokens : kTileTokens);
    const auto second = static_cast<uint8_t>(tokens - first);
    lines[0] = lines[1] = lines[4] = first;
    lines[2] = lines[3] = lines[5] = second == 0 ? first : second;
    lines[6] = lines[7] = kTileColumns / 2;
  }
};

// Into the second-level cache. Past the last activations as well: nothing comes of an address that is not there.
void prefetch_tile(const ActivationBlock* activations) noexcept {
  for (size_t token = 0; token < kTileTokens; ++token) __builtin_prefetch(activations + token, 0, 2);
}

// Up to 32 tokens × 32 rows; those beyond 16 tokens where kSecondTokens. Adds to the sums unless `fresh`, and asks for `next`, a
// tile for each block. A tile is loaded as soon as its register's last product has begun, since two threads that share a core seem
// to have no tile registers to spare. Numbers of tiles must be literals.
template <bool kSecondTokens>
void multiply_tiles(const WeightTile* first, const WeightTile* second, size_t blocks, const Activations& x, const Activations& next,
                    bool fresh, float* sums) noexcept {
  constexpr size_t kSumLine = sizeof(Sums) / kTokensAtOnce;
  float* const below = sums + kTileTokens * kBandRows;
  if (fresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kSumLine);
    _tile_loadd(1, sums + kTileRows, kSumLine);
    if constexpr (kSecondTokens) _tile_loadd(2, below, kSumLine);
    if constexpr (kSecondTokens) _tile_loadd(3, below + kTileRows, kSumLine);
  }
  _tile_loadd(4, x.first, kLine);
  _tile_loadd(6, first, kLine);
  if constexpr (kSecondTokens) _tile_loadd(5, x.first + kTileTokens, kLine);
  _tile_loadd(7, second, kLine);
  prefetch_tile(next.first);
  for (size_t block = 1; block < blocks; ++block) {
    const ActivationBlock* const inputs = x.block(block);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kSecondTokens) _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(6, first + block, kLine);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(4, inputs, kLine);
    prefetch_tile(next.block(block));
    if constexpr (kSecondTokens) _tile_dpbf16ps(3, 5, 7);
    if constexpr (kSecondTokens) _tile_loadd(5, inputs + kTileTokens, kLine);
    _tile_loadd(7, second + block, kLine);
  }
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (kSecondTokens) _tile_dpbf16ps(2, 5, 6);
  if constexpr (kSecondTokens) _tile_dpbf16ps(3, 5, 7);
  _tile_stored(0, sums, kSumLine);
  _tile_stored(1, sums + kTileRows, kSumLine);
  if constexpr (kSecondTokens) _tile_stored(2, below, kSumLine);
  if constexpr (kSecondTokens) _tile_stored(3, below + kTileRows, kSumLine);
}

// A panel's rows for up to 32 tokens, those that the tiles are configured for. Asks for the activations of the 32 that follow. A
// tile that has no second one is its own: what comes of it is not read.
void multiply_panel(const Panel& panel, size_t tiles, const Activations& x, const Activations& next, size_t tokens, bool fresh,
                    float* sums) noexcept {
  const auto multiply = tokens > kTileTokens ? multiply_tiles<true> : multiply_tiles<false>;
  for (size_t tile = 0; tile < tiles; tile += 2) {
    const WeightTile* const second = panel.tiles[tile + 1 < tiles ? tile + 1 : tile];
    multiply(panel.tiles[tile], second, panel.blocks, x, next.from(0, tile / 2 * kTileTokens), fresh, sums + tile * kTileRows);
  }
}

template <TileFormat kFormat>
struct Product {
  static const TernaryFormatKernels& of_few_tokens() noexcept {
    return avx512vbmi::ternary_kernels().products[static_cast<size_t>(kFormat)];
  }

  static size_t activation_bytes(size_t tokens) noexcept {
    return tokens < kFewestTokens ? of_few_tokens().activation_bytes(tokens) : sizeof(ActivationBlock);
  }

  static void quantize(const float* x, size_t columns, size_t tokens, void* inputs, size_t out_stride) noexcept {
    if (tokens < kFewestTokens) return of_few_tokens().quantize(x, columns, tokens, inputs, out_stride);
    auto* const out = static_cast<ActivationBlock*>(inputs);
    for (size_t block = 0; block < blocks_of(columns); ++block) {
      const size_t column = block * kTileColumns;
      const __m512 low = _mm512_loadu_ps(x + column);
      const __m512 high = column + 16 < columns ? _mm512_loadu_ps(x + column + 16) : _mm512_setzero_ps();
      _mm512_store_si512(out[block * out_stride].halves, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
    }
  }

  static void multiply(const TernaryTiles& matrix, size_t band, const void* inputs, size_t x_stride, size_t tokens, float* y,
                       size_t y_stride) noexcept {
    if (tokens < kFewestTokens) return of_few_tokens().multiply(matrix, band, inputs, x_stride, tokens, y, y_stride);
    const Activations x{static_cast<const ActivationBlock*>(inputs), x_stride};
    for (size_t token = 0; token < tokens; token += kTokensAtOnce) {
      const size_t count = tokens - token < kTokensAtOnce ? tokens - token : kTokensAtOnce;
      multiply_band(matrix, band, x.from(0, token), count, y + token * y_stride, y_stride);
    }
    _tile_release();
  }

  // For up to kTokensAtOnce tokens. Leaves tiles configured.
  static void multiply_band(const TernaryTiles& matrix, size_t band, const Activations& x, size_t tokens, float* y,
                            size_t y_stride) noexcept {
    const uint8_t* block = matrix.blocks + matrix.band_offset(band);
    const size_t tiles = matrix.tiles_in_band(band);
    Panel panel;
    alignas(kLine) Sums sums;
    for (size_t column = 0; column < matrix.column_blocks; column += kPanelBlocks) {
      const size_t rest = matrix.column_blocks - column;
      panel.blocks = rest < kPanelBlocks ? rest : kPanelBlocks;
      for (size_t i = 0; i < panel.blocks; ++i) {
        for (size_t tile = 0; tile < tiles; ++tile, block += block_bytes(kFormat)) {
          unpack_block<kFormat>(block, *matrix.scales, panel.tiles[tile][i]);
        }
      }
      add_panel(panel, tiles, x.from(column, 0), tokens, column == 0, sums);
    }
    for (size_t token = 0; token < tokens; ++token)
      __builtin_memcpy(y + token * y_stride, sums[token], tiles * kTileRows * sizeof(float));
  }

  static void add_panel(const Panel& panel, size_t tiles, const Activations& x, size_t tokens, bool fresh, Sums& sums) noexcept {
    for (size_t token = 0; token < tokens; token += 2 * kTileTokens) {
      const size_t left = tokens - token, count = left < 2 * kTileTokens ? left : 2 * kTileTokens;
      if (token == 0 || count < 2 * kTileTokens) {
        const TileConfiguration configuration(count);
        _tile_loadconfig(&configuration);
      }
      // Behind the last tokens come the first ones of the next panel.
      const Activations next = left > 2 * kTileTokens ? x.from(0, token + 2 * kTileTokens) : x.from(panel.blocks, 0);
      multiply_panel(panel, tiles, x.from(0, token), next, count, fresh, sums[token]);
    }
  }

  static constexpr TernaryFormatKernels functions() noexcept { return {activation_bytes, quantize, multiply}; }
};

// Linux: arch/x86/include/uapi/asm/prctl.h.
constexpr int kRequestPermission = 0x1023;
constexpr unsigned long kTileData = 18;

}  // namespace

bool supported() noexcept {
  constexpr unsigned kTiles = 1u << 24, kBrainTiles = 1u << 22, kBrainVectors = 1u << 5;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTiles) == 0 || (d & kBrainTiles) == 0) return false;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a & kBrainVectors) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

const TernaryKernels& ternary_kernels() noexcept {
  static constexpr TernaryKernels kTable{
      .name = "amx",
      .most_exact_tokens = kFewestTokens - 1,
      .activation_bytes_at_once = size_t{16} << 20,
      .products = {Product<TileFormat::kTriples>::functions(), Product<TileFormat::kFourBits>::functions(),
                   Product<TileFormat::kFiveBits>::functions(), Product<TileFormat::kPairsOf13Bits>::functions(),
                   Product<TileFormat::kPairsOf7Bits>::functions()},
      .formats = {TileFormat::kTriples, TileFormat::kPairsOf7Bits, TileFormat::kFiveBits, TileFormat::kPairsOf13Bits},
  };
  return kTable;
}

}  // namespace tritllm::kernels::amx
