// Owns what the x86 kernels share of quantising a group of activations: the offsets that belong to its values. Included inside the
// namespace of each instruction set, after the intrinsics.

inline void set_offsets(__m128i values, tritllm::kernels::TileFormat format, tritllm::kernels::ActivationGroup& group) noexcept {
  // 16-bit sums of two neighbours: of every 4 columns the first two and the last two, side by side in a 32-bit lane.
  const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), values);
  const __m128i halves = _mm_add_epi16(pairs, _mm_shuffle_epi32(pairs, 0xb1));  // lane 0: columns below 8, lane 2: the others
  const __m128i all = _mm_add_epi16(halves, _mm_shuffle_epi32(halves, 0x4e));
  const __m128i centre = _mm_set1_epi16(static_cast<int16_t>(-tritllm::kernels::format_largest_code(format)));
  const __m128i folds = tritllm::kernels::format_depth(format) == 4 ? _mm_shuffle_epi32(halves, 0x08)
                                                                    : _mm_and_si128(all, _mm_setr_epi32(-1, 0, 0, 0));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(group.offsets), _mm_mullo_epi16(folds, centre));
  group.offset = _mm_cvtsi128_si32(_mm_madd_epi16(all, centre));
}
