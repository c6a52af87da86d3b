// Owns the integer kernels' vectors for AVX-512 with VNNI: sixteen rows at a time, products by vpdpbusd. With VBMI they read the
// squeezed format. Included inside the namespace of each table that uses them, after ternary_kernels_simd.h and
// ternary_quantize_x86.h.

struct Vector : FloatVector {
  using Codes = __m512i;   // of row i: bytes 4·i to 4·i + 3
  using Scales = __m512i;  // 32 bits for each row
  static constexpr size_t kVectorRows = 16;

  static __m512i bytes(const void* p) noexcept { return _mm512_loadu_si512(p); }
  static __m512i and_bytes(__m512i a, int mask) noexcept { return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(mask))); }
  // a | (b & mask)
  static __m512i merge(__m512i a, __m512i b, int mask) noexcept {
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8(static_cast<char>(mask)), 0xf8);
  }

  static void scales(const uint8_t* places, const ScaleTable& table, Scales (&out)[kTileGroups][1]) noexcept {
    // scale_code_place() has four rows to a 32-bit lane: rows 0, 4, 8 and 12 of a group begin in lanes 0, 4, 1 and 5, or two
    // further.
    const __m128i nibbles = _mm_loadu_si128(reinterpret_cast<const __m128i*>(places));
    int32_t plane;
    __builtin_memcpy(&plane, places + kScaleCodeNibbleBytes, sizeof(plane));
    const __m256i lower = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(nibbles, 4), nibbles), _mm256_set1_epi8(15));
    // The fifth bits: from bit i/4 of their bytes to bit 4.
    const __m256i upper = _mm256_srlv_epi32(_mm256_set1_epi32(plane), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i together = _mm256_or_si256(lower, _mm256_slli_epi16(_mm256_and_si256(upper, _mm256_set1_epi8(1)), 4));
    const __m256i scale_codes = _mm256_permutevar8x32_epi32(together, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m512i low = bytes(table.multiples), high = bytes(table.multiples + 16);
    out[0][0] = _mm512_permutex2var_epi32(low, _mm512_cvtepu8_epi32(_mm256_castsi256_si128(scale_codes)), high);
    out[1][0] = _mm512_permutex2var_epi32(low, _mm512_cvtepu8_epi32(_mm256_extracti128_si256(scale_codes, 1)), high);
  }

  static void keep(Codes& codes) noexcept { asm("" : "+v"(codes)); }

#ifdef __AVX512VBMI__
  static constexpr bool kUnsqueezes = true;
  // 64 bytes of fields out of 56. Reads 8 bytes more, which a block has behind them.
  static __m512i unsqueeze(const uint8_t* from) noexcept {
    alignas(64) static constexpr auto kSevens = [] {
      std::array<uint8_t, 64> places{};
      for (size_t i = 0; i < 64; ++i) places[i] = static_cast<uint8_t>(i / 8 * 7 + i % 8);
      return places;
    }();
    constexpr long long kShifts = 0x312a231c150e0700;  // 7·i in byte i
    const __m512i words = _mm512_permutexvar_epi8(bytes(kSevens.data()), bytes(from));
    const __m512i numbers = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(kShifts), words);  // the eighth bit is not looked at
    return _mm512_permutex2var_epi8(bytes(kSqueezedFields.data()), numbers, bytes(kSqueezedFields.data() + 64));
  }
#else
  static constexpr bool kUnsqueezes = false;
  static __m512i unsqueeze(const uint8_t* from) noexcept;  // not called
#endif
  template <TileFormat kFormat>
  static __m512i fields_at(const uint8_t* block, size_t vector) noexcept {
    if constexpr (is_squeezed(kFormat)) return unsqueeze(block + vector * kSqueezedVectorBytes);
    else return bytes(block + vector * kVectorBytes);
  }

  template <TileFormat kFormat>
  static void codes(const uint8_t* block, size_t group, size_t, Codes (&out)[4]) noexcept {
    for (size_t pair = 0; pair < 2; ++pair) {
      const __m512i fields = fields_at<kFormat>(block, group * 2 + pair);
      out[2 * pair] = and_bytes(fields, 15);
      out[2 * pair + 1] = and_bytes(_mm512_srli_epi16(fields, 4), 15);
    }
    if constexpr (format_depth(kFormat) == 3) {
      const __m512i bits = bits_of_rows(block + kFifthBitsOffset + group * 32);
      out[0] = merge(out[0], bits, 16);
      out[1] = merge(out[1], _mm512_srli_epi16(bits, 1), 16);
      out[2] = merge(out[2], _mm512_srli_epi16(bits, 2), 16);
      out[3] = merge(out[3], _mm512_srli_epi16(bits, 3), 16);
    }
    if constexpr (format_depth(kFormat) == 4) add_joint_parts(block, group, out);
  }

  // A plane's bits of rows 0 to 7 begin at bit 0 of a byte, those of the others at bit 4: now all at bit 4.
  static __m512i bits_of_rows(const uint8_t* plane) noexcept {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_slli_epi16(both, 4)), both, 1);
  }

  static __m512i table_of(const std::array<uint8_t, 16>& table) noexcept {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data())));
  }
  static void add_joint_parts(const uint8_t* block, size_t group, Codes (&out)[4]) noexcept {
    const __m512i numbers = bytes(block + kJointOffset + group * kVectorBytes), plane = bits_of_rows(block + kJointFifthBitsOffset);
    for (size_t pair = 0; pair < 2; ++pair) {
      __m512i &first = out[2 * pair], &second = out[2 * pair + 1];
      const __m512i number = and_bytes(pair == 0 ? numbers : _mm512_srli_epi16(numbers, 4), 15);
      const __m512i sum = _mm512_add_epi8(first, _mm512_shuffle_epi8(table_of(kJointFirst), number));
      first = _mm512_min_epu8(sum, _mm512_set1_epi8(kLargestJointField));
      const __m512i excess = _mm512_slli_epi16(_mm512_sub_epi8(sum, first), 5);
      second = merge(second, _mm512_srlv_epi16(plane, _mm512_set1_epi16(static_cast<int16_t>(pair + 2 * group))), 16);
      second = _mm512_ternarylogic_epi32(second, excess, _mm512_shuffle_epi8(table_of(kJointSecond), number), 0xfe);
    }
  }

  static __m512i four_bytes(const void* p) noexcept {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return _mm512_set1_epi32(word);
  }

  template <TileFormat kFormat>
  static Float dot(const Codes (&codes)[4], Scales scales, const ActivationGroup& input) noexcept {
    __m512i sum = _mm512_set1_epi32(input.offset);
    sum = _mm512_dpbusd_epi32(sum, codes[0], four_bytes(input.values));
    sum = _mm512_dpbusd_epi32(sum, codes[1], four_bytes(input.values + 4));
    sum = _mm512_dpbusd_epi32(sum, codes[2], four_bytes(input.values + 8));
    sum = _mm512_dpbusd_epi32(sum, codes[3], four_bytes(input.values + 12));
    // Up to depth 3 the sum fits in 16 bits, and vpmaddwd, whose upper product is zero, is half of vpmulld's work.
    if constexpr (format_depth(kFormat) == 4) return _mm512_cvtepi32_ps(_mm512_mullo_epi32(sum, scales));
    else return _mm512_cvtepi32_ps(_mm512_madd_epi16(sum, scales));
  }

  // Magnitudes compare as integers do.
  static uint32_t largest_magnitude(const float* x) noexcept {
    return static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_and_si512(bytes(x), _mm512_set1_epi32(0x7fffffff))));
  }

  static float heavier_half(const float* x) noexcept { return heavier_half_of_group(x); }

  template <TileFormat kFormat>
  static void round(const float* x, float inverse, ActivationGroup& group) noexcept {
    const __m128i values = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(multiply(load(x), set(inverse))));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(group.values), values);
    set_offsets<kFormat>(values, group);
  }
};
