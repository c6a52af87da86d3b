// Owns what the x86 kernels share of quantising a group of activations. Included inside the namespace of each instruction set,
// after the intrinsics.

// The sums of the eight magnitudes of columns 0, 1 of every 4 and of columns 2, 3: lanes 0 and 2.
inline __m128 halves_of_group(const float* x) noexcept {
  const auto magnitudes = [x](size_t first) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), _mm_loadu_ps(x + first)); };
  const __m128 columns = _mm_add_ps(_mm_add_ps(magnitudes(0), magnitudes(4)), _mm_add_ps(magnitudes(8), magnitudes(12)));
  return _mm_add_ps(columns, _mm_shuffle_ps(columns, columns, 0xb1));
}
inline float heavier_half_of_group(const float* x) noexcept {
  const __m128 halves = halves_of_group(x);
  return _mm_cvtss_f32(_mm_max_ss(halves, _mm_movehl_ps(halves, halves)));
}

template <tritllm::kernels::TileFormat kFormat>
void set_offsets(__m128i values, tritllm::kernels::ActivationGroup& group) noexcept {
  // 16-bit sums of two neighbours: of every 4 columns the first two and the last two, side by side in a 32-bit lane.
  const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), values);
  const __m128i two = _mm_add_epi16(pairs, _mm_shuffle_epi32(pairs, 0xb1));
  const __m128i centre = _mm_set1_epi16(static_cast<int16_t>(-tritllm::kernels::format_largest_code(kFormat)));
  const __m128i offsets = _mm_mullo_epi16(_mm_add_epi16(two, _mm_shuffle_epi32(two, 0x4e)), centre);
  _mm_storeu_si32(group.offsets, offsets);
  group.offset = _mm_cvtsi128_si32(_mm_madd_epi16(offsets, _mm_set1_epi16(1)));
}
