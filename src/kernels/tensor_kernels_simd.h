// Owns the forward pass's inner loops for SIMD, written once over a vector type V. Each instruction set's file defines V and
// includes this inside its own namespace, which keeps code for one machine out of another's tables.
//
// An output of multiply() is kLanes partial sums, lane i taking columns ≡ i in ascending order, added up at the end: the same
// whatever tile of rows and tokens it is computed in. Weights of codes are rounded to float32 before they are multiplied, so that a
// ternary matrix and the dense matrix of its decoded weights give the same bits.
//
// V needs: Float, kLanes, kTileTokens; zero(), set(x), load/store (floats), load_half, load_bfloat16, load_codes (kLanes elements →
// Float), multiply, add, subtract, divide, fma(a, b, c) = a·b + c, min and max (NaN where the second operand is NaN),
// round_even, scale_by_power(x, n) = x·2^n for n in [−126, 128], zero_below(x, limit, value) = x < limit ? 0 : value, sum (of all
// lanes, in a fixed order), largest, exp.

template <typename V>
struct AttentionOperations;

template <typename V>
struct TensorOperations {
  using Float = typename V::Float;
  using WeightRows = tritllm::kernels::WeightRows;
  using WeightType = tritllm::kernels::WeightType;
  static constexpr size_t kLanes = V::kLanes;
  static constexpr size_t kGroup = tritllm::kernels::kRowPadding;

  // A row of weights, read kLanes at a time.
  template <WeightType kType>
  struct Row {
    using Element = __typeof__([] {
      if constexpr (kType == WeightType::kFloat32) return float{};
      else if constexpr (kType == WeightType::kCodes) return int8_t{};
      else return uint16_t{};
    }());
    const Element* values;
    const uint8_t* scale_codes;
    const float* steps;

    Row() = default;
    Row(const WeightRows& weights, size_t row) noexcept
        : values(static_cast<const Element*>(weights.values) + row * weights.stride), scale_codes(nullptr), steps(weights.steps) {
      if constexpr (kType == WeightType::kCodes) scale_codes = weights.scale_codes + row * (weights.stride / kGroup);
    }

    Float load(size_t column) const noexcept {
      if constexpr (kType == WeightType::kFloat32) return V::load(values + column);
      else if constexpr (kType == WeightType::kFloat16) return V::load_half(values + column);
      else if constexpr (kType == WeightType::kBFloat16) return V::load_bfloat16(values + column);
      else return V::multiply(V::load_codes(values + column), V::set(steps[scale_codes[column / kGroup]]));
    }
  };

  template <WeightType kType>
  static void expand_row(const WeightRows& weights, size_t row, float* out) noexcept {
    const Row<kType> source(weights, row);
    for (size_t column = 0; column < weights.stride; column += kLanes) V::store(out + column, source.load(column));
  }

  // kRows × kTokens outputs.
  template <WeightType kType, size_t kRows, size_t kTokens>
  static void tile(const WeightRows& weights, size_t first_row, const float* x, float* y, size_t y_stride) noexcept {
    Row<kType> rows[kRows];
    for (size_t r = 0; r < kRows; ++r) rows[r] = Row<kType>(weights, first_row + r);
    Float sums[kRows][kTokens];
    for (auto& row : sums) {
      for (Float& sum : row) sum = V::zero();
    }
    for (size_t column = 0; column < weights.stride; column += kLanes) {
      Float inputs[kTokens];
      for (size_t t = 0; t < kTokens; ++t) inputs[t] = V::load(x + t * weights.stride + column);
      for (size_t r = 0; r < kRows; ++r) {
        const Float weight = rows[r].load(column);
        for (size_t t = 0; t < kTokens; ++t) sums[r][t] = V::fma(weight, inputs[t], sums[r][t]);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t t = 0; t < kTokens; ++t) y[t * y_stride + r] = V::sum(sums[r][t]);
    }
  }

  // All rows for kTokens tokens, kRows at a time.
  template <WeightType kType, size_t kRows, size_t kTokens>
  static void column_of_tiles(const WeightRows& weights, size_t first_row, size_t rows, const float* x, float* y,
                              size_t y_stride) noexcept {
    size_t row = 0;
    for (; row + kRows <= rows; row += kRows) tile<kType, kRows, kTokens>(weights, first_row + row, x, y + row, y_stride);
    for (; row < rows; ++row) tile<kType, 1, kTokens>(weights, first_row + row, x, y + row, y_stride);
  }

  template <WeightType kType>
  static void multiply_few(const WeightRows& weights, size_t first_row, size_t rows, const float* x, size_t tokens, float* y,
                           size_t y_stride) noexcept {
    switch (tokens) {
      case 0: return;
      case 1: return column_of_tiles<kType, 8, 1>(weights, first_row, rows, x, y, y_stride);
      case 2: return column_of_tiles<kType, 4, 2>(weights, first_row, rows, x, y, y_stride);
      case 3: return column_of_tiles<kType, 4, 3>(weights, first_row, rows, x, y, y_stride);
      default: return column_of_tiles<kType, 2, 4>(weights, first_row, rows, x, y, y_stride);
    }
  }

  template <WeightType kType>
  static void multiply(const WeightRows& weights, size_t first_row, size_t rows, const float* x, size_t tokens, float* panel,
                       float* y, size_t y_stride) noexcept {
    if (tokens < tritllm::kernels::kPanelTokens) return multiply_few<kType>(weights, first_row, rows, x, tokens, y, y_stride);
    const size_t stride = weights.stride;
    for (size_t row = 0; row < rows; ++row) expand_row<kType>(weights, first_row + row, panel + row * stride);
    const WeightRows expanded{WeightType::kFloat32, panel, stride, nullptr, nullptr};
    constexpr WeightType kFloat32 = WeightType::kFloat32;
    size_t token = 0;
    for (; token + V::kTileTokens <= tokens; token += V::kTileTokens) {
      column_of_tiles<kFloat32, 4, V::kTileTokens>(expanded, 0, rows, x + token * stride, y + token * y_stride, y_stride);
    }
    for (; token < tokens; ++token) {
      column_of_tiles<kFloat32, 8, 1>(expanded, 0, rows, x + token * stride, y + token * y_stride, y_stride);
    }
  }

  static void rms_norm(const float* x, const float* gain, size_t width, float epsilon, float* out) noexcept {
    Float squares = V::zero();
    size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) squares = V::fma(V::load(x + i), V::load(x + i), squares);
    float total = V::sum(squares);
    for (; i < width; ++i) total += x[i] * x[i];
    const float inverse = 1.0f / __builtin_sqrtf(total / static_cast<float>(width) + epsilon);
    for (i = 0; i + kLanes <= width; i += kLanes) {
      V::store(out + i, V::multiply(V::multiply(V::load(x + i), V::set(inverse)), V::load(gain + i)));
    }
    for (; i < width; ++i) out[i] = x[i] * inverse * gain[i];
  }

  static Float silu(Float x) noexcept {
    const Float one = V::set(1.0f);
    return V::divide(x, V::add(one, V::exp(V::subtract(V::zero(), x))));
  }

  // tanh u = 1 − 2/(e^2u + 1)
  static Float tanh(Float u) noexcept {
    const Float one = V::set(1.0f), two = V::set(2.0f);
    return V::subtract(one, V::divide(two, V::add(V::exp(V::multiply(two, u)), one)));
  }

  static Float gelu_tanh(Float x) noexcept {
    const Float cubic = V::multiply(V::multiply(x, V::multiply(x, x)), V::set(0.044715f));
    const Float u = V::multiply(V::set(0.7978845608f), V::add(x, cubic));
    return V::multiply(V::multiply(V::set(0.5f), x), V::add(V::set(1.0f), tanh(u)));
  }

  static Float relu_squared(Float x) noexcept {
    const Float positive = V::max(V::zero(), x);  // NaN stays NaN
    return V::multiply(positive, positive);
  }

  template <Float (*kActivation)(Float)>
  static void gate(const float* gate, const float* up, size_t width, float* out) noexcept {
    size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) V::store(out + i, V::multiply(kActivation(V::load(gate + i)), V::load(up + i)));
    if (i == width) return;
    alignas(64) float last[kLanes] = {};
    for (size_t k = i; k < width; ++k) last[k - i] = gate[k];
    V::store(last, kActivation(V::load(last)));
    for (size_t k = i; k < width; ++k) out[k] = last[k - i] * up[k];
  }

  static void gate_gelu_erf(const float* gate, const float* up, size_t width, float* out) noexcept {
    for (size_t i = 0; i < width; ++i) out[i] = 0.5f * gate[i] * (1.0f + __builtin_erff(gate[i] * 0.7071067812f)) * up[i];
  }

  static constexpr tritllm::kernels::TensorKernels table() noexcept {
    return {.expand_row = {expand_row<WeightType::kFloat32>, expand_row<WeightType::kFloat16>, expand_row<WeightType::kBFloat16>,
                           expand_row<WeightType::kCodes>},
            .multiply = {multiply<WeightType::kFloat32>, multiply<WeightType::kFloat16>, multiply<WeightType::kBFloat16>,
                         multiply<WeightType::kCodes>},
            .rms_norm = rms_norm,
            .gate = {gate<silu>, gate<gelu_tanh>, gate_gelu_erf, gate<relu_squared>},
            .attend = {AttentionOperations<V>::template attend<float>, AttentionOperations<V>::template attend<uint16_t>,
                       AttentionOperations<V>::template attend<tritllm::kernels::Float8>,
                       AttentionOperations<V>::template attend<int8_t>},
            .merge = AttentionOperations<V>::merge};
  }
};

// e^x to about two units in the last place, for x clamped to [−87.3, 88.7]; what underflows below that is 0. Range reduction to
// |r| ≤ ln2/2 in two steps (Cody and Waite, 1980) and the Taylor polynomial of degree 7, whose remainder there is below 2^-26.
template <typename V>
typename V::Float exponential(typename V::Float x) noexcept {
  using Float = typename V::Float;
  // x is their second operand, so that NaN stays NaN.
  const Float clamped = V::max(V::set(-87.3f), V::min(V::set(88.7f), x));
  const Float whole = V::round_even(V::multiply(clamped, V::set(1.44269504f)));
  const Float high = V::fma(whole, V::set(-0.693359375f), clamped);
  const Float r = V::fma(whole, V::set(2.12194440e-4f), high);
  constexpr float kCoefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};
  Float sum = V::set(1.0f / 5040);
  for (const float coefficient : kCoefficients) sum = V::fma(sum, r, V::set(coefficient));
  return V::zero_below(x, -87.3f, V::scale_by_power(sum, whole));
}
