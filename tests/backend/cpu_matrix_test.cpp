// Matrices from every form that a file can have them in: what the backend shows of each row is what the file's own reader says.
#include "backend/cpu/matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/backend.h"
#include "backend/cpu/rows.h"
#include "backend/random_ternary.h"
#include "core/half.h"
#include "kernels/kernel_table.h"

namespace tritllm {
namespace {

const kernels::TernaryKernels& kScalar = *kernels::table_named("scalar").ternary;

// Row by row as the backend shows the matrix: [rows][columns]. Checks that the padding is zero.
std::vector<float> shown(const WeightSource& source, unsigned threads = 2, Arithmetic arithmetic = Arithmetic::kInteger,
                         const kernels::KernelTable& table = kernels::active_table()) {
  ThreadPool pool(threads);
  const auto backend = make_cpu_backend(pool, table, arithmetic);
  const auto matrix = backend->upload_matrix(source);
  std::vector<uint32_t> all;
  for (uint32_t row = 0; row < matrix->rows(); ++row) all.push_back(row);
  const auto buffer = backend->allocate_rows(all.size(), static_cast<size_t>(matrix->columns()));
  const auto step = backend->make_step({static_cast<uint32_t>(all.size()), 1, 1});
  const std::vector<TokenPlace> places(all.size());
  const PageId page = 0;
  backend->begin(*step, {all, places, {&page, 1}, 1, {}, nullptr});
  backend->embed(*matrix, *step, 1.0f, first_rows(buffer, all.size()));
  const FloatRows rows = floats_of(first_rows(buffer, all.size()));
  for (size_t row = 0; row < rows.count; ++row) {
    for (size_t i = rows.width; i < rows.stride; ++i) EXPECT_EQ(rows.row(row)[i], 0.0f);
  }
  std::vector<float> out(rows.count * rows.width);
  backend->read(first_rows(buffer, all.size()), out);
  return out;
}

void expect_same(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(expected[i])) << i;
}

// A dense tensor whose bytes begin at an address of the wished alignment. Lives as long as a matrix that
// reads it in place.
class Dense {
 public:
  Dense(ElementType type, uint64_t rows, uint64_t columns, size_t shift, uint32_t interleaved_heads = 0, float offset = 0.0f) {
    tensor.interleaved_heads = interleaved_heads;
    tensor.offset = offset;
    tensor.name = "x.weight";
    tensor.shape = {rows, columns};
    tensor.type = type;
    const ElementLayout layout = layout_of(type);
    const size_t bytes = rows * columns / layout.block_elements * layout.block_bytes;
    storage_.resize(bytes + 64);
    const size_t first = (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 32) % 32 + shift;
    fill(storage_.data() + first, bytes, layout, 1);
    tensor.bytes = std::span(storage_).subspan(first, bytes);
    expected.resize(static_cast<size_t>(tensor.elements()));
    read_float32(tensor, 0, expected);
  }
  Dense(const Dense&) = delete;
  Dense& operator=(const Dense&) = delete;

  SourceTensor tensor{};
  std::vector<float> expected;

 private:
  void fill(std::byte* to, size_t bytes, const ElementLayout& layout, uint64_t seed) const {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (size_t at = 0; at < bytes; at += layout.block_bytes) {
      const double value = normal(random);
      const auto single = static_cast<float>(value);
      const uint16_t half = half_from_float(single), brain = bfloat16_from_float(single);
      switch (tensor.type) {
        case ElementType::kF64: std::memcpy(to + at, &value, 8); break;
        case ElementType::kF32: std::memcpy(to + at, &single, 4); break;
        case ElementType::kF16: std::memcpy(to + at, &half, 2); break;
        case ElementType::kBF16: std::memcpy(to + at, &brain, 2); break;
        default:  // a block of Q8_0: a scale and 32 bytes
          std::memcpy(to + at, &half, 2);
          for (size_t i = 2; i < layout.block_bytes; ++i) to[at + i] = static_cast<std::byte>(random());
      }
    }
  }

  std::vector<std::byte> storage_;
};

TEST(CpuMatrixDense, EveryTypeAlignmentAndWidth) {
  for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kBF16, ElementType::kF64}) {
    for (const size_t shift : {0u, 1u, 2u, 4u, 6u}) {
      for (const uint64_t columns : {1u, 5u, 16u, 37u, 48u, 80u}) {
        const Dense dense(type, 67, columns, shift);
        SCOPED_TRACE(testing::Message() << layout_of(type).name << ", address " << shift << ", columns " << columns);
        expect_same(shown(dense.tensor), dense.expected);
      }
    }
  }
  const Dense blocks(ElementType::kQ8_0, 67, 96, 0);
  expect_same(shown(blocks.tensor), blocks.expected);
}

TEST(CpuMatrixDense, ReadInPlaceWhereThatCanBe) {
  ThreadPool pool(1);
  PageArena arena;
  const auto in_place = [&](const SourceTensor& tensor) {
    return CpuMatrix(tensor, MatrixSlice{}, Arithmetic::kInteger, kScalar, arena, pool).floats()->values == tensor.bytes.data();
  };
  EXPECT_TRUE(in_place(Dense(ElementType::kF32, 3, 32, 0).tensor));
  EXPECT_TRUE(in_place(Dense(ElementType::kF32, 3, 32, 4).tensor));
  EXPECT_TRUE(in_place(Dense(ElementType::kF16, 3, 32, 2).tensor));
  EXPECT_TRUE(in_place(Dense(ElementType::kBF16, 3, 32, 2).tensor));
  EXPECT_FALSE(in_place(Dense(ElementType::kF32, 3, 32, 2).tensor)) << "misaligned";
  EXPECT_FALSE(in_place(Dense(ElementType::kF16, 3, 32, 1).tensor)) << "misaligned";
  EXPECT_FALSE(in_place(Dense(ElementType::kBF16, 3, 40, 0).tensor)) << "rows that need padding";
  const Dense dense(ElementType::kF16, 3, 32, 0);
  EXPECT_EQ(CpuMatrix(dense.tensor, MatrixSlice{}, Arithmetic::kInteger, kScalar, arena, pool).bytes(), 3u * 32 * 2);
}

TEST(CpuMatrixDense, InterleavedHeadsAndOffsets) {
  for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kQ8_0}) {
    const Dense plain(type, 48, 32, 0), interleaved(type, 48, 32, 0, 4), shifted(type, 48, 32, 0, 0, -1.0f);
    const std::vector<float>& stored = plain.expected;
    const std::vector<float> rows = shown(interleaved.tensor), lower = shown(shifted.tensor);
    expect_same(rows, interleaved.expected);
    expect_same(lower, shifted.expected);
    // Of a head's 12 rows, the file has row i of the first half at 2·i and row i of the second at 2·i + 1.
    for (size_t row = 0; row < 48; ++row) {
      const size_t within = row % 12, from = row - within + (within < 6 ? 2 * within : 2 * (within - 6) + 1);
      for (size_t i = 0; i < 32; ++i) ASSERT_EQ(rows[row * 32 + i], stored[from * 32 + i]);
    }
    for (size_t i = 0; i < lower.size(); ++i) ASSERT_EQ(lower[i], stored[i] - 1.0f);
  }
}

constexpr Arithmetic kBothArithmetics[] = {Arithmetic::kInteger, Arithmetic::kFloat};

// Each table of kernels has layouts of its own.
TEST(CpuMatrixTernary, EveryDepthAndWidth) {
  for (int depth = 1; depth <= 4; ++depth) {
    for (const uint64_t columns : {1u, 15u, 16u, 17u, 80u, 81u, 250u}) {
      for (const uint64_t rows : {1u, 33u, 64u, 130u}) {
        const RandomTernary ternary(depth, rows, columns);
        SCOPED_TRACE(testing::Message() << "depth " << depth << ", columns " << columns << ", rows " << rows);
        expect_same(shown(ternary.matrix, 2, Arithmetic::kFloat), ternary.expected);
        for (const kernels::KernelTable& table : kernels::supported_tables()) {
          expect_same(shown(ternary.matrix, 2, Arithmetic::kInteger, table), ternary.expected);
        }
      }
    }
  }
}

TEST(CpuMatrixTernary, MoreLinesThanOneTaskDecodes) {
  const RandomTernary ternary(3, 700, 170);  // 1540 lines
  for (const Arithmetic arithmetic : kBothArithmetics) {
    for (const unsigned threads : {1u, 2u, 5u}) expect_same(shown(ternary.matrix, threads, arithmetic), ternary.expected);
  }
}

TEST(CpuMatrixTernary, BytesAreThoseOfItsForm) {
  const RandomTernary ternary(3, 700, 170);
  ThreadPool pool(1);
  PageArena arena;
  EXPECT_EQ(CpuMatrix(ternary.matrix, MatrixSlice{}, Arithmetic::kFloat, kScalar, arena, pool).bytes(), 700u * 176 + 700u * 11)
      << "a byte a weight, one a group";
  const CpuMatrix matrix(ternary.matrix, MatrixSlice{}, Arithmetic::kInteger, kScalar, arena, pool);
  EXPECT_EQ(matrix.bytes(), 44u * 6 * (512 * 5 + 32 * 5) / 8) << "44 tiles of 6 blocks of 512 weights and 32 groups, 5 bits each";
}

}  // namespace
}  // namespace tritllm
