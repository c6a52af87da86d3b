// Owns cuBLAS, which is opened when it is first wanted, so that programs run without it. All matrices here are row by row. Does not
// own what is multiplied.
#pragma once

#include <cstdint>
#include <string>

#include "backend/cuda/launch.h"

namespace tritllm::cuda {

class Cublas {
 public:
  // The library that TRITLLM_CUBLAS names, else the system's: 12 or 13. Throws an Error of kUnsupported where there is none.
  explicit Cublas(Stream stream);
  ~Cublas();
  // Why it cannot be used; empty where it can.
  static std::string problem();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // out [rows][columns] = left·right (+ out, where `adds`) in float32, with `inner` between them. `left_across`: left is
  // [inner][rows]; `right_across`: right is [columns][inner]. Strides in floats.
  void multiply(int64_t rows, int64_t columns, int64_t inner, const float* left, int64_t left_stride, bool left_across,
                const float* right, int64_t right_stride, bool right_across, float* out, int64_t out_stride, bool adds) const;

  // Of a symmetric matrix whose lower half is read column by column, as cuBLAS does: the panel [first + width, size) of columns
  // [first, first + width) becomes that of the Cholesky factor, whose diagonal block stands already; then the rest loses its
  // square.
  void cholesky_step(double* matrix, int64_t size, int64_t first, int64_t width) const;
  // identity becomes L⁻¹ for the lower triangle L of `matrix`, both column by column.
  void invert_lower(const double* matrix, int64_t size, double* identity) const;

 private:
  struct Functions;
  void check(int status) const;
  const Functions* functions_;
  void* handle_ = nullptr;
};

}  // namespace tritllm::cuda
