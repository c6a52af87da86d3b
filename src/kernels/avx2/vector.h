// Owns what all kernels for AVX2 share: a vector of eight floats. Included inside the namespace of each table that uses it.

struct FloatVector {
  using Float = __m256;
  static constexpr size_t kLanes = 8;

  static Float zero() noexcept { return _mm256_setzero_ps(); }
  static Float set(float x) noexcept { return _mm256_set1_ps(x); }
  static Float load(const float* p) noexcept { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) noexcept { _mm256_storeu_ps(p, x); }
  static Float multiply(Float a, Float b) noexcept { return _mm256_mul_ps(a, b); }
  static Float add(Float a, Float b) noexcept { return _mm256_add_ps(a, b); }
  static Float subtract(Float a, Float b) noexcept { return _mm256_sub_ps(a, b); }
  static Float divide(Float a, Float b) noexcept { return _mm256_div_ps(a, b); }
  // The second operand where one of them is NaN.
  static Float min(Float a, Float b) noexcept { return _mm256_min_ps(a, b); }
  static Float max(Float a, Float b) noexcept { return _mm256_max_ps(a, b); }
  static Float round_even(Float a) noexcept { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#ifdef __FMA__
  static Float fma(Float a, Float b, Float c) noexcept { return _mm256_fmadd_ps(a, b, c); }
#endif
};
