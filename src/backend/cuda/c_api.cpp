// The products of include/tritllm.h: checks of what a C caller passes, and exceptions turned into messages.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/context.h"
#include "backend/cuda/devices.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/pack.h"
#include "core/error.h"
#include "tritllm.h"

struct trit_cuda_matrix {
  explicit trit_cuda_matrix(int device) : context(device) {}

  tritllm::cuda::Context context;
  tritllm::cuda::Matrix view;
  std::optional<tritllm::cuda::DeviceMemory> tiles, steps, operands, partial_sums, counters;
  int64_t tokens = 0;  // that there is room for
};

namespace tritllm::cuda {
namespace {

void fail(std::string_view where, const std::string& problem, std::string_view remedy = {}) {
  throw Error(ErrorCode::kUsage, where, problem, remedy);
}

template <typename Action>
int guarded(char** error, Action&& action) noexcept {
  std::string message;
  try {
    action();
    return 0;
  } catch (const std::exception& problem) {
    message = problem.what();
  } catch (...) {
    message = "unknown failure";
  }
  if (error != nullptr) *error = strdup(message.c_str());
  return 1;
}

// Larger sizes would overflow the kernels' 32-bit numbers.
constexpr int64_t kLargestSide = int64_t{1} << 30, kMostTokens = int64_t{1} << 20;

void check_codes(int depth, int64_t count, const int8_t* codes, int64_t groups, const uint8_t* scale_codes) {
  const int largest = largest_code(depth);
  for (int64_t i = 0; i < count; ++i) {
    if (codes[i] < -largest || codes[i] > largest)
      fail("codes", fmt::format("element {} is {}; depth {} has −{} to {}", i, codes[i], depth, largest, largest));
  }
  for (int64_t i = 0; i < groups; ++i) {
    if (scale_codes[i] >= kNoScale) fail("scale_codes", fmt::format("element {} is {}; expected 0 to 26", i, scale_codes[i]));
  }
}

void pack(trit_cuda_matrix& matrix, const int8_t* codes, const uint8_t* scale_codes) {
  const Matrix& view = matrix.view;
  const auto groups = static_cast<size_t>((view.columns + kGroupColumns - 1) / kGroupColumns),
             columns = static_cast<size_t>(view.columns);
  const size_t bytes = tile_bytes(view.depth, blocks_of(view.columns)), tiles = static_cast<size_t>(tiles_of(view.rows));
  constexpr size_t kAtOnce = size_t{32} << 20;
  std::vector<uint8_t> packed;
  std::vector<int8_t> rows(kTileRows * groups * kGroupColumns);
  for (size_t first = 0; first < tiles;) {
    const size_t count = std::min(tiles - first, std::max<size_t>(1, kAtOnce / bytes));
    packed.resize(count * bytes);
    for (size_t tile = 0; tile < count; ++tile) {
      const size_t row = (first + tile) * kTileRows, here = std::min<size_t>(kTileRows, static_cast<size_t>(view.rows) - row);
      std::ranges::fill(rows, int8_t{0});
      for (size_t i = 0; i < here; ++i) std::copy_n(codes + (row + i) * columns, columns, rows.data() + i * groups * kGroupColumns);
      pack_tile(view.depth, {rows.data(), scale_codes + row * groups, static_cast<int>(here), static_cast<int>(groups)},
                packed.data() + tile * bytes);
    }
    matrix.context.upload(packed.data(), matrix.tiles->as<uint8_t>() + first * bytes, packed.size());
    matrix.context.wait();
    first += count;
  }
}

void reserve(trit_cuda_matrix& matrix, int64_t tokens) {
  if (tokens < 0 || tokens > kMostTokens) fail("tokens", fmt::format("{}; expected 0 to {}", tokens, kMostTokens));
  if (!matrix.counters) {
    const DeviceTraits& traits = matrix.context.traits();
    matrix.partial_sums.emplace(matrix.context, partial_sum_bytes(traits));
    matrix.counters.emplace(matrix.context, kCounters * sizeof(uint32_t));
    matrix.context.clear(matrix.counters->as<void>(), matrix.counters->bytes());
    matrix.context.wait();
  }
  if (tokens <= matrix.tokens && matrix.operands) return;
  matrix.operands.reset();
  matrix.operands.emplace(matrix.context, operand_bytes(tokens, matrix.view.columns));
  matrix.tokens = tokens;
}

}  // namespace
}  // namespace tritllm::cuda

extern "C" {

int trit_cuda_matrix_new(int device, int depth, int64_t rows, int64_t columns, const int8_t* codes, const uint8_t* scale_codes,
                         const float* codebook, trit_cuda_matrix** matrix, char** error) {
  using namespace tritllm;
  using namespace tritllm::cuda;
  return guarded(error, [&] {
    if (codes == nullptr || scale_codes == nullptr || codebook == nullptr || matrix == nullptr) fail("arguments", "a null pointer");
    if (depth < 1 || depth > kMaxDepth) fail("depth", fmt::format("{}; expected 1 to {}", depth, kMaxDepth));
    if (rows < 1 || rows > kLargestSide || columns < 1 || columns > kLargestSide) {
      fail("shape", fmt::format("{}×{}; expected 1 to {} rows and columns", rows, columns, kLargestSide));
    }
    const CudaDevices found = find_cuda_devices();
    if (std::ranges::none_of(found.devices, [&](const CudaDevice& one) { return one.index == device; })) {
      fail("device", fmt::format("there is no CUDA device {}{}{}", device, found.problem.empty() ? "" : ": ", found.problem));
    }
    const int64_t groups = (columns + kGroupColumns - 1) / kGroupColumns;
    check_codes(depth, rows * columns, codes, rows * groups, scale_codes);
    auto made = std::make_unique<trit_cuda_matrix>(device);
    made->view.depth = depth;
    made->view.rows = rows;
    made->view.columns = columns;
    made->tiles.emplace(made->context, matrix_bytes(depth, rows, columns));
    made->view.tiles = made->tiles->as<void>();
    std::array<float, kScaleTableSize> steps{};
    for (size_t i = 0; i < kNoScale; ++i) steps[i] = codebook[i] / static_cast<float>(largest_code(depth));
    made->steps.emplace(made->context, sizeof steps);
    made->context.upload(steps.data(), made->steps->as<void>(), sizeof steps);
    made->view.steps = made->steps->as<float>();
    pack(*made, codes, scale_codes);
    *matrix = made.release();
  });
}

void trit_cuda_matrix_free(trit_cuda_matrix* matrix) { delete matrix; }

int64_t trit_cuda_matrix_bytes(const trit_cuda_matrix* matrix) { return static_cast<int64_t>(matrix->tiles->bytes()); }

int trit_cuda_reserve(trit_cuda_matrix* matrix, int64_t tokens, char** error) {
  return tritllm::cuda::guarded(error, [&] {
    matrix->context.use();
    tritllm::cuda::reserve(*matrix, tokens);
  });
}

int trit_cuda_multiply(trit_cuda_matrix* matrix, const float* x, int64_t x_stride, int64_t tokens, float* y, int64_t y_stride,
                       int add, void* stream, char** error) {
  using namespace tritllm::cuda;
  return guarded(error, [&] {
    if (tokens == 0) return;
    if (x == nullptr || y == nullptr) fail("arguments", "a null pointer");
    if (reinterpret_cast<uintptr_t>(x) % 16 != 0) fail("x", "not 16-byte aligned");
    if (x_stride % 4 != 0 || x_stride < matrix->view.columns) {
      fail("x_stride", fmt::format("{}; expected a multiple of 4 from {} on", x_stride, matrix->view.columns));
    }
    if (y_stride < matrix->view.rows) fail("y_stride", fmt::format("{}; expected {} or more", y_stride, matrix->view.rows));
    matrix->context.use();
    if (tokens > matrix->tokens || !matrix->operands) reserve(*matrix, tokens);
    const Product product{matrix->view, nullptr, y, y_stride, add != 0};
    check(multiply(matrix->context.traits(), {x, x_stride, static_cast<int32_t>(tokens), nullptr, 0.0f}, &product, 1,
                   {matrix->operands->as<void>(), matrix->partial_sums->as<void>(), matrix->counters->as<uint32_t>()},
                   static_cast<Stream>(stream)),
          "start a product");
  });
}

void trit_free(void* memory) { std::free(memory); }

}  // extern "C"
