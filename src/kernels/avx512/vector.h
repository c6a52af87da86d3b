// Owns what all kernels for AVX-512 share: a vector of sixteen floats. Included inside the namespace of each table that uses it.

struct FloatVector {
  using Float = __m512;
  static constexpr size_t kLanes = 16;

  static Float zero() noexcept { return _mm512_setzero_ps(); }
  static Float set(float x) noexcept { return _mm512_set1_ps(x); }
  static Float load(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static void store(float* p, Float x) noexcept { _mm512_storeu_ps(p, x); }
  static Float multiply(Float a, Float b) noexcept { return _mm512_mul_ps(a, b); }
  static Float add(Float a, Float b) noexcept { return _mm512_add_ps(a, b); }
  static Float subtract(Float a, Float b) noexcept { return _mm512_sub_ps(a, b); }
  static Float divide(Float a, Float b) noexcept { return _mm512_div_ps(a, b); }
  static Float fma(Float a, Float b, Float c) noexcept { return _mm512_fmadd_ps(a, b, c); }
  // The second operand where one of them is NaN.
  static Float min(Float a, Float b) noexcept { return _mm512_min_ps(a, b); }
  static Float max(Float a, Float b) noexcept { return _mm512_max_ps(a, b); }
  static Float round_even(Float a) noexcept { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};
