// Owns a matrix or vector of weights as a file holds it, dense or ternary, and the release of the file's pages once a device has
// the weights in a form of its own. Does not own the file.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <variant>

#include "io/mapped_file.h"
#include "io/packed_checkpoint.h"
#include "io/source_tensor.h"

namespace tritllm {

class WeightSource {
 public:
  // `mapped`: the bytes lie in a mapped file, so pages that are released can be read again.
  // NOLINTNEXTLINE(google-explicit-constructor): the two are one value
  WeightSource(SourceTensor tensor, bool mapped = true) : source_(std::move(tensor)), mapped_(mapped) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  WeightSource(TernaryMatrix matrix, bool mapped = true) : source_(std::move(matrix)), mapped_(mapped) {}

  // One of the two.
  const SourceTensor* dense() const noexcept { return std::get_if<SourceTensor>(&source_); }
  const TernaryMatrix* ternary() const noexcept { return std::get_if<TernaryMatrix>(&source_); }

  uint64_t bytes() const noexcept {
    if (const SourceTensor* const tensor = dense()) return tensor->bytes.size();
    return ternary()->trits.size() + ternary()->scales.size();
  }

  // Tells the system that the bytes are not needed for now.
  void release() const noexcept {
    if (!mapped_) return;
    if (const SourceTensor* const tensor = dense()) {
      release_pages(tensor->bytes);
    } else {
      release_pages(std::as_bytes(ternary()->trits));
      release_pages(std::as_bytes(ternary()->scales));
    }
  }

 private:
  std::variant<SourceTensor, TernaryMatrix> source_;
  bool mapped_;
};

}  // namespace tritllm
