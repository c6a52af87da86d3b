// Owns vectors of 256 bits: what the integer kernels of AVX2 share, and the looking up of sums at depth 1, which those of AVX-512
// do with them too, by fewer instructions: a core has as many such look-ups in a cycle as it has wider ones. Included inside the
// namespace of each table that uses them, after ternary_kernels_simd.h, ternary_pairs_simd.h and ternary_quantize_x86.h.

struct Vector256 {
  using Float = __m256;
  static constexpr size_t kVectorRows = 8;

  static Float zero() noexcept { return _mm256_setzero_ps(); }
  static Float set(float x) noexcept { return _mm256_set1_ps(x); }
  static Float load(const float* p) noexcept { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) noexcept { _mm256_storeu_ps(p, x); }
  static Float multiply(Float a, Float b) noexcept { return _mm256_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) noexcept { return _mm256_fmadd_ps(a, b, c); }

  static __m256i bytes(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static __m256i and_bytes(__m256i a, int mask) noexcept { return _mm256_and_si256(a, _mm256_set1_epi8(static_cast<char>(mask))); }
  static __m256i four_bytes(const void* p) noexcept {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return _mm256_set1_epi32(word);
  }

#ifdef __AVX512BW__
  static void keep(__m256i& bytes) noexcept { asm("" : "+v"(bytes)); }
#else
  static void keep(__m256i& bytes) noexcept { asm("" : "+x"(bytes)); }
#endif

  // The same 16 bytes in both halves.
  static __m256i both_halves(const void* p) noexcept {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }

  // Byte `entry` of a table of 32.
  static __m256i look_up(const uint8_t* table, __m256i entries, __m256i upper) noexcept {
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(both_halves(table), entries),
                              _mm256_shuffle_epi8(both_halves(table + 16), entries), upper);
  }
  // The multiples of a block's groups, 16 bits each: of group 0 and of group 1, rows 0 to 3 and 8 to 11 in the lower half of the
  // vector, rows 4 to 7 and 12 to 15 in the upper one.
  static void multiples_of_groups(const uint8_t* places, const ScaleTable& table, __m256i (&out)[kTileGroups]) noexcept {
    const __m128i nibbles = _mm_loadu_si128(reinterpret_cast<const __m128i*>(places));
    const __m256i entries = and_bytes(_mm256_set_m128i(_mm_srli_epi16(nibbles, 4), nibbles), 15);
    // The fifth bits, at the top of their bytes.
    const __m256i upper = _mm256_sllv_epi32(four_bytes(places + kEntryNibbleBytes), _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
    const __m256i low = look_up(table.low, entries, upper), high = look_up(table.high, entries, upper);
    out[0] = _mm256_unpacklo_epi8(low, high);
    out[1] = _mm256_unpackhi_epi8(low, high);
  }

  // 16 values x[i]·inverse, to the nearest even.
  static __m256i rounded(const float* x, float inverse) noexcept {
    const __m256i low = _mm256_cvtps_epi32(multiply(load(x), set(inverse)));
    const __m256i high = _mm256_cvtps_epi32(multiply(load(x + 8), set(inverse)));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  }
};

struct PairVector : Vector256 {
  using Bytes = __m256i;  // rows of group 0, rows of group 1
  struct Multiples {
    __m256i rows[2];  // 16 bits: group 0, group 1 of each of eight rows
  };

  static __m256i no_bytes() noexcept { return _mm256_setzero_si256(); }
  static __m256i add(__m256i a, __m256i b) noexcept { return _mm256_add_epi8(a, b); }
  static __m256i low_fields(__m256i a) noexcept { return and_bytes(a, 15); }
  static __m256i high_fields(__m256i a) noexcept { return and_bytes(_mm256_srli_epi16(a, 4), 15); }
  static __m256i look_up(__m256i table, __m256i fields) noexcept { return _mm256_shuffle_epi8(table, fields); }

#ifdef __AVX512BW__
  static void multiples(const uint8_t* places, const ScaleTable& table, Multiples& out) noexcept {
    alignas(64) static constexpr auto kPlaces = [] {
      std::array<uint16_t, kBlockEntries> order{};
      for (size_t i = 0; i < kBlockEntries; ++i) order[i] = static_cast<uint16_t>(entry_place(i / kTileGroups, i % kTileGroups));
      return order;
    }();
    const __m128i nibbles = _mm_loadu_si128(reinterpret_cast<const __m128i*>(places));
    const __m256i lower = and_bytes(_mm256_set_m128i(_mm_srli_epi16(nibbles, 4), nibbles), 15);
    // The fifth bits, from bit i/4 of their bytes to bit 4.
    const __m256i upper = _mm256_rorv_epi32(four_bytes(places + kEntryNibbleBytes), _mm256_setr_epi32(28, 29, 30, 31, 0, 1, 2, 3));
    const __m256i entries = _mm256_ternarylogic_epi32(lower, upper, _mm256_set1_epi8(16), 0xf8);  // lower | (upper & 16)
    const __m512i in_order = _mm512_permutexvar_epi16(_mm512_load_si512(kPlaces.data()), _mm512_cvtepu8_epi16(entries));
    const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_load_si512(table.multiples))),
                                             _mm512_cvtepi32_epi16(_mm512_load_si512(table.multiples + 16)), 1);
    const __m512i of_groups = _mm512_permutexvar_epi16(in_order, words);
    out.rows[0] = _mm512_castsi512_si256(of_groups);
    out.rows[1] = _mm512_extracti64x4_epi64(of_groups, 1);
  }

  // Rows' sums of group 0 in the lower half, of group 1 in the upper one: now the two of a row side by side.
  static __m256i beside(__m256i sums) noexcept {
    return _mm256_permutexvar_epi16(_mm256_setr_epi16(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15), sums);
  }
#else
  static void multiples(const uint8_t* places, const ScaleTable& table, Multiples& out) noexcept {
    __m256i groups[kTileGroups];
    multiples_of_groups(places, table, groups);
    out.rows[0] = _mm256_unpacklo_epi16(groups[0], groups[1]);
    out.rows[1] = _mm256_unpackhi_epi16(groups[0], groups[1]);
  }

  static __m256i beside(__m256i sums) noexcept {
    const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(sums, 0xd8), order);
  }
#endif

  static void scale(__m256i low, __m256i high, const Multiples& multiples, Float (&out)[2]) noexcept {
    const __m256i units = _mm256_set1_epi16(kHighUnit << 8 | 1);
    const __m256i first = _mm256_maddubs_epi16(units, _mm256_unpacklo_epi8(low, high)),
                  second = _mm256_maddubs_epi16(units, _mm256_unpackhi_epi8(low, high));
    out[0] = _mm256_cvtepi32_ps(_mm256_madd_epi16(beside(first), multiples.rows[0]));
    out[1] = _mm256_cvtepi32_ps(_mm256_madd_epi16(beside(second), multiples.rows[1]));
  }

  static float sum_of_magnitudes(const float* x) noexcept {
    const __m128 halves = halves_of_group(x);
    return _mm_cvtss_f32(_mm_add_ss(halves, _mm_movehl_ps(halves, halves)));
  }
  static void round(const float* x, float inverse, int16_t* values) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), rounded(x, inverse));
  }
  // The sums that entries' fields make of two values in a 32-bit lane; field 3 is none.
  static __m256i sums_of_pair(const int16_t* values) noexcept {
    int32_t pair;
    __builtin_memcpy(&pair, values, sizeof(pair));
    const __m256i both = _mm256_set1_epi32(pair);
    // Codes −1, 0, 1 and none of the first value, with one of the second: entries 0 to 3 and 8 to 11, 4 to 7 and 12 to 15.
    const __m256i first = _mm256_setr_epi16(-1, -1, 0, -1, 1, -1, 0, 0, -1, 1, 0, 1, 1, 1, 0, 0),
                  second = _mm256_setr_epi16(-1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm256_packs_epi32(_mm256_madd_epi16(both, first), _mm256_madd_epi16(both, second));
  }
  static void store_sums(const int16_t* first, const int16_t* second, int8_t* low, int8_t* high) noexcept {
    static_assert(kHighUnit == 1 << 5);
    const __m256i sums[kTileGroups] = {sums_of_pair(first), sums_of_pair(second)};
    __m256i low_parts[kTileGroups], high_parts[kTileGroups];
    for (size_t group = 0; group < kTileGroups; ++group) {
      high_parts[group] = _mm256_mulhrs_epi16(sums[group], _mm256_set1_epi16(1 << 10));  // (sum + 16) >> 5
      low_parts[group] = _mm256_sub_epi16(sums[group], _mm256_slli_epi16(high_parts[group], 5));
    }
    store_bytes(low_parts, low);
    store_bytes(high_parts, high);
  }
  static void store_bytes(const __m256i (&words)[kTileGroups], int8_t* to) noexcept {
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(words[0], words[1]), 0xd8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), bytes);
  }
};
