// Owns what all kernels for NEON share: a vector of four floats. Included inside the namespace of each table that uses it.

struct FloatVector {
  using Float = float32x4_t;
  static constexpr size_t kLanes = 4;

  static Float zero() noexcept { return vdupq_n_f32(0.0f); }
  static Float set(float x) noexcept { return vdupq_n_f32(x); }
  static Float load(const float* p) noexcept { return vld1q_f32(p); }
  static void store(float* p, Float x) noexcept { vst1q_f32(p, x); }
  static Float multiply(Float a, Float b) noexcept { return vmulq_f32(a, b); }
  static Float add(Float a, Float b) noexcept { return vaddq_f32(a, b); }
  static Float subtract(Float a, Float b) noexcept { return vsubq_f32(a, b); }
  static Float divide(Float a, Float b) noexcept { return vdivq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) noexcept { return vfmaq_f32(c, a, b); }
  // NaN where one of them is NaN.
  static Float min(Float a, Float b) noexcept { return vminq_f32(a, b); }
  static Float max(Float a, Float b) noexcept { return vmaxq_f32(a, b); }
  static Float round_even(Float a) noexcept { return vrndnq_f32(a); }
};
