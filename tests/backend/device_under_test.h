// Owns what the tests of backends share: the devices that exist here, each with the errors that its arithmetic may make, and ways
// to put rows in and get them out by write() and read() alone.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/devices.h"
#include "backend/device.h"
#include "core/thread_pool.h"
#include "io/weight_source.h"

namespace tritllm {

inline std::vector<float> random_values(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A kind of device, with the largest errors that it may make.
struct DeviceKind {
  std::string name;             // of make_backend()
  std::string missing = {};     // why there is no such device here; empty: there is one
  double float_error = 1e-5;    // of single values of about 1
  double dense_error = 1e-6;    // of products with dense matrices, relative to the root of the sum of squares
  double ternary_error = 0.02;  // of products with ternary ones
  double cache_error = 1e-5;    // of attention
};

inline std::vector<DeviceKind> device_kinds() {
  const CudaDevices cuda = find_cuda_devices();
  // Weights and activations are halves in products.
  return {{.name = "cpu"},
          {.name = "cuda", .missing = cuda.devices.empty() ? cuda.problem : "", .dense_error = 1e-3, .ternary_error = 1e-3}};
}

inline void PrintTo(const DeviceKind& kind, std::ostream* out) { *out << kind.name; }

class TestDevice {
 public:
  explicit TestDevice(const DeviceKind& kind, unsigned threads = 2)
      : pool_(threads), backend_(make_backend(kind.name, Arithmetic::kInteger, pool_)) {}

  Backend* operator->() const noexcept { return backend_.get(); }
  Backend& backend() const noexcept { return *backend_; }

  std::unique_ptr<RowBuffer> rows(size_t width, const std::vector<float>& values) const {
    auto buffer = backend_->allocate_rows(values.size() / width, width);
    backend_->write(values, first_rows(buffer, values.size() / width));
    return buffer;
  }
  std::unique_ptr<RowBuffer> empty(size_t count, size_t width) const { return backend_->allocate_rows(count, width); }
  std::vector<float> values(const std::unique_ptr<RowBuffer>& buffer) const {
    return values(first_rows(buffer, buffer->capacity()));
  }
  std::vector<float> values(Rows rows) const {
    std::vector<float> out(rows.count * rows.width());
    backend_->read(rows, out);
    return out;
  }

  // Keeps a copy of the values, which the matrix may read in place.
  WeightSource source(const std::vector<float>& values, uint64_t columns) const {
    SourceTensor tensor{};
    tensor.shape = {values.size() / columns, columns};
    tensor.type = ElementType::kF32;
    tensor.bytes = std::as_bytes(std::span(copies_.emplace_back(values)));
    return WeightSource(tensor, /*mapped=*/false);
  }
  std::unique_ptr<DeviceMatrix> matrix(const std::vector<float>& values, uint64_t columns) const {
    return backend_->upload_matrix(source(values, columns));
  }

 private:
  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  mutable std::deque<std::vector<float>> copies_;
};

// A test that every device passes; skipped, with the reason, where there is no such device.
class DeviceTest : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (!GetParam().missing.empty()) GTEST_SKIP() << GetParam().missing;
  }

  // Of the CPU where the test is skipped.
  TestDevice device{GetParam().missing.empty() ? GetParam() : DeviceKind{.name = "cpu"}};
};

inline std::string device_name(const testing::TestParamInfo<DeviceKind>& kind) { return kind.param.name; }

// Rows of x by their root mean square, times the gain.
inline std::vector<double> normed(const std::vector<float>& x, size_t width, const std::vector<float>& gain, double epsilon) {
  std::vector<double> out(x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    double squares = 0.0;
    for (size_t i = 0; i < width; ++i) squares += double{x[row + i]} * double{x[row + i]};
    for (size_t i = 0; i < width; ++i) {
      out[row + i] = double{x[row + i]} * double{gain[i]} / std::sqrt(squares / static_cast<double>(width) + epsilon);
    }
  }
  return out;
}

// The inputs of a step, with pages that belong to one sequence each unless a test says otherwise.
struct TestStep {
  std::vector<uint32_t> tokens, scored;
  std::vector<TokenPlace> places;
  std::vector<PageId> pages = {0};
  uint32_t pages_per_sequence = 1;
  const ChosenTokens* chosen = nullptr;

  std::unique_ptr<Step> begin(const TestDevice& device) const {
    auto step = device->make_step({.tokens = 4096, .sequences = 16, .pages_per_sequence = pages_per_sequence});
    begin_into(device, *step);
    return step;
  }
  void begin_into(const TestDevice& device, Step& step) const {
    std::vector<uint32_t> some = tokens;
    some.resize(places.size());
    device->begin(step, {some, places, pages, pages_per_sequence, scored, chosen});
  }
  // `count` tokens of one sequence.
  static TestStep of_one(uint32_t count) {
    TestStep step;
    for (uint32_t i = 0; i < count; ++i) step.places.push_back({0, i});
    return step;
  }
};

}  // namespace tritllm
