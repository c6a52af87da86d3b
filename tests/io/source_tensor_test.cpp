// The reading of tensors as float32: any range, any plain type, row order and offset. Block formats are compared with the gguf
// package in test_gguf_tensors.py.
#include "io/source_tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/half.h"

namespace tritllm {
namespace {

template <typename Stored>
SourceTensor tensor_of(const std::vector<Stored>& values, ElementType type, std::vector<uint64_t> shape) {
  return {
      .name = "t", .shape = std::move(shape), .type = type, .bytes = std::as_bytes(std::span(values)), .place = "FILE: tensor 't'"};
}

std::vector<float> read(const SourceTensor& tensor, uint64_t first, size_t count) {
  std::vector<float> values(count, -1.0f);
  read_float32(tensor, first, values);
  return values;
}

TEST(SourceTensor, ConvertsEveryHalfAndBfloat16) {
  std::vector<uint16_t> bits(65536);
  std::iota(bits.begin(), bits.end(), uint16_t{0});
  const auto halves = read(tensor_of(bits, ElementType::kF16, {65536}), 0, 65536);
  const auto bfloats = read(tensor_of(bits, ElementType::kBF16, {65536}), 0, 65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(halves[i]), std::bit_cast<uint32_t>(float_from_half(static_cast<uint16_t>(i)))) << i;
    EXPECT_EQ(std::bit_cast<uint32_t>(bfloats[i]), i << 16) << i;
  }
}

TEST(SourceTensor, KeepsFloatsAndRoundsDoubles) {
  const std::vector<float> floats{0.0f, -0.0f, 1e-45f, 3.0f, std::numeric_limits<float>::infinity()};
  EXPECT_EQ(read(tensor_of(floats, ElementType::kF32, {5}), 1, 3), (std::vector<float>{-0.0f, 1e-45f, 3.0f}));
  const std::vector<double> doubles{0.1, 1e300};
  EXPECT_EQ(read(tensor_of(doubles, ElementType::kF64, {2}), 0, 2),
            (std::vector<float>{0.1f, std::numeric_limits<float>::infinity()}));
}

TEST(SourceTensor, ReadsUnalignedBytes) {
  std::vector<std::byte> bytes(1 + 3 * 4);
  const float values[] = {1.0f, 2.0f, 3.0f};
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  SourceTensor tensor{.name = "t", .shape = {3}, .type = ElementType::kF32, .bytes = std::span(bytes).subspan(1), .place = ""};
  EXPECT_EQ(read(tensor, 0, 3), (std::vector<float>{1, 2, 3}));
}

TEST(SourceTensor, KnowsItsExtents) {
  const std::vector<float> none;
  EXPECT_EQ(tensor_of(none, ElementType::kF32, {2, 3, 4}).rows(), 6u);
  EXPECT_EQ(tensor_of(none, ElementType::kF32, {2, 3, 4}).elements(), 24u);
  EXPECT_EQ(tensor_of(none, ElementType::kF32, {}).elements(), 1u);
  EXPECT_EQ(tensor_of(none, ElementType::kF32, {4, 0}).rows(), 0u);
}

// Two heads of four rows: the file has rows 0 2 1 3 of each head, so HF's order is 0 2 1 3 of the file.
TEST(SourceTensor, PutsInterleavedRowsInOrder) {
  std::vector<float> stored(8 * 3);
  std::iota(stored.begin(), stored.end(), 0.0f);
  SourceTensor tensor = tensor_of(stored, ElementType::kF32, {8, 3});
  tensor.interleaved_heads = 2;
  std::vector<float> expected;
  for (const int row : {0, 2, 1, 3, 4, 6, 5, 7}) {
    for (int column = 0; column < 3; ++column) expected.push_back(static_cast<float>(row * 3 + column));
  }
  EXPECT_EQ(read(tensor, 0, 24), expected);
  for (uint64_t first = 0; first < 24; ++first) {
    for (uint64_t count = 0; count <= 24 - first; ++count) {
      const auto part = read(tensor, first, count);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), expected.begin() + static_cast<std::ptrdiff_t>(first)));
    }
  }
}

TEST(SourceTensor, PutsInterleavedVectorsInOrder) {
  const std::vector<float> stored{0, 1, 2, 3, 4, 5, 6, 7};
  SourceTensor tensor = tensor_of(stored, ElementType::kF32, {8});
  tensor.interleaved_heads = 2;
  EXPECT_EQ(read(tensor, 0, 8), (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(read(tensor, 2, 3), (std::vector<float>{1, 3, 4}));
}

TEST(SourceTensor, AddsTheOffset) {
  const std::vector<float> stored{1.0f, 1.5f};
  SourceTensor tensor = tensor_of(stored, ElementType::kF32, {2});
  tensor.offset = -1.0f;
  EXPECT_EQ(read(tensor, 0, 2), (std::vector<float>{0.0f, 0.5f}));
}

// Spoiling every byte outside stored_bytes must not change what is read.
void expect_stored_bytes_suffice(ElementType type, uint32_t heads, std::vector<uint64_t> shape) {
  const ElementLayout layout = layout_of(type);
  SourceTensor tensor{.name = "t", .shape = std::move(shape), .type = type, .bytes = {}, .place = "", .interleaved_heads = heads};
  std::vector<std::byte> bytes(tensor.elements() / layout.block_elements * layout.block_bytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 % 61);
  tensor.bytes = bytes;
  const uint64_t total = tensor.elements();
  for (uint64_t first = 0; first < total; first += 97) {
    for (const uint64_t count : {uint64_t{0}, uint64_t{1}, uint64_t{31}, uint64_t{300}, total - first}) {
      if (count > total - first) continue;
      const auto needed = stored_bytes(tensor, first, count);
      const auto start = static_cast<size_t>(needed.data() - bytes.data());
      std::vector<std::byte> spoiled(bytes.size(), std::byte{0x5a});
      if (count != 0) std::memcpy(spoiled.data() + start, needed.data(), needed.size());
      SourceTensor other = tensor;
      other.bytes = spoiled;
      EXPECT_EQ(read(tensor, first, count), read(other, first, count)) << first << " " << count;
      EXPECT_EQ(needed.empty(), count == 0);
    }
  }
}

TEST(SourceTensor, TellsWhichBytesItReads) {
  expect_stored_bytes_suffice(ElementType::kBF16, 0, {8, 64});
  expect_stored_bytes_suffice(ElementType::kQ4_0, 0, {8, 64});
  expect_stored_bytes_suffice(ElementType::kQ5_K, 0, {4, 512});
  expect_stored_bytes_suffice(ElementType::kF32, 2, {8, 33});
  expect_stored_bytes_suffice(ElementType::kQ8_0, 2, {8, 96});
  expect_stored_bytes_suffice(ElementType::kQ6_K, 2, {8, 256});
}

}  // namespace
}  // namespace tritllm
