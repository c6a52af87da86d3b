// The GGUF container: what is read, and one wrong file for each rule.
#include "io/gguf.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "io/gguf_builder.h"

namespace tritllm {
namespace {

using Builder = GgufBuilder;

GgufFile parse(const std::string& bytes) { return GgufFile::parse(bytes_of(bytes), "FILE"); }

// The message of the error that parsing gives; a test failure where it gives none.
std::string error_of(const std::string& bytes, ErrorCode code = ErrorCode::kBadInput) {
  try {
    parse(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "expected an error";
  return {};
}

#define EXPECT_MESSAGE(text, part) \
  EXPECT_PRED2([](const std::string& a, const std::string& b) { return a.find(b) != a.npos; }, text, part)

Builder small() {
  Builder builder;
  builder.add_text("general.name", "small").add_f32_tensor("a", {4, 2}).add_f32_tensor("b", {3}, 2.0f);
  return builder;
}

TEST(Gguf, ReadsEveryValueType) {
  Builder builder;
  builder.entry("u8", kFileU8, Builder::number<uint8_t>(200))
      .entry("i8", kFileI8, Builder::number<int8_t>(100))
      .entry("u16", kFileU16, Builder::number<uint16_t>(60000))
      .entry("i16", kFileI16, Builder::number<int16_t>(-1))
      .entry("u32", kFileU32, Builder::number<uint32_t>(4000000000))
      .entry("i32", kFileI32, Builder::number<int32_t>(7))
      .entry("u64", kFileU64, Builder::number<uint64_t>(UINT64_MAX))
      .entry("i64", kFileI64, Builder::number<int64_t>(INT64_MAX))
      .entry("f32", kFileF32, Builder::number<float>(1.5f))
      .entry("f64", kFileF64, Builder::number<double>(-0.25))
      .add_bool("yes", true)
      .add_text("text", "h\u00e9")
      .add_texts("texts", {"", "a", "bc"})
      .add_i32s("i32s", {3, 0})
      .add_f32s("f32s", {0.5f})
      .add_array("bools", kFileBool, 2, std::string("\0\1", 2));
  const std::string bytes = builder.build();
  const GgufFile file = parse(bytes);
  EXPECT_EQ(file.integer("u8"), 200u);
  EXPECT_EQ(file.integer("i8"), 100u);
  EXPECT_EQ(file.integer("u16"), 60000u);
  EXPECT_THROW(file.integer("i16"), Error);
  EXPECT_EQ(file.integer("u32"), 4000000000u);
  EXPECT_THROW(file.integer("u32", 3999999999), Error);
  EXPECT_EQ(file.integer("i32"), 7u);
  EXPECT_EQ(file.integer("u64"), UINT64_MAX);
  EXPECT_EQ(file.integer("i64"), static_cast<uint64_t>(INT64_MAX));
  EXPECT_EQ(file.real("f32"), 1.5f);
  EXPECT_EQ(file.real("f64"), -0.25f);
  EXPECT_EQ(file.boolean("yes"), true);
  EXPECT_EQ(file.text("text"), "h\u00e9");
  EXPECT_EQ(file.texts("texts"), (std::vector<std::string_view>{"", "a", "bc"}));
  EXPECT_EQ(file.integers("i32s"), (std::vector<uint64_t>{3, 0}));
  EXPECT_EQ(file.reals("f32s"), std::vector<float>{0.5f});
  EXPECT_EQ(file.booleans("bools"), (std::vector<bool>{false, true}));
  EXPECT_TRUE(file.has("u8") && file.is_array("texts"));
  EXPECT_FALSE(file.has("none") || file.is_array("u8") || file.integer("none") || file.text("none") || file.texts("none"));
}

TEST(Gguf, RefusesValuesOfAnotherType) {
  const std::string bytes = Builder()
                                .add_u32("number", 1)
                                .add_text("text", "t")
                                .add_texts("texts", {"a", "\xff"})
                                .add_text("invalid", "\xc0\xaf")
                                .add_f32("nan", std::numeric_limits<float>::quiet_NaN())
                                .add_f32s("nans", {std::numeric_limits<float>::quiet_NaN()})
                                .add_i32s("negatives", {-1})
                                .build();
  const GgufFile file = parse(bytes);
  EXPECT_THROW(file.text("number"), Error);
  EXPECT_THROW(file.boolean("number"), Error);
  EXPECT_THROW(file.real("number"), Error);
  EXPECT_THROW(file.integer("text"), Error);
  EXPECT_THROW(file.text("texts"), Error);
  EXPECT_THROW(file.texts("text"), Error);
  EXPECT_THROW(file.texts("texts"), Error);
  EXPECT_THROW(file.text("invalid"), Error);
  EXPECT_THROW(file.real("nan"), Error);
  EXPECT_THROW(file.reals("nans"), Error);
  EXPECT_THROW(file.integers("negatives"), Error);
  EXPECT_THROW(file.booleans("negatives"), Error);
  EXPECT_THROW(file.required_integer("none"), Error);
  EXPECT_THROW(file.required_text("none"), Error);
}

TEST(Gguf, PlacesTensors) {
  for (const uint32_t version : {2u, 3u}) {
    Builder builder = small();
    builder.version = version;
    const std::string bytes = builder.build();
    const GgufFile file = parse(bytes);
    ASSERT_EQ(file.tensors().size(), 2u);
    const GgufTensor& b = *file.find_tensor("b");
    EXPECT_EQ(b.bytes.size(), 12u);
    float value = 0;
    std::memcpy(&value, b.bytes.data(), sizeof(value));
    EXPECT_EQ(value, 2.0f);
    EXPECT_EQ(file.tensors()[0].dimensions[1], 2u);
    EXPECT_EQ(file.find_tensor("c"), nullptr);
  }
}

TEST(Gguf, TakesOtherAlignments) {
  for (const uint32_t alignment : {1u, 2u, 4u, 8u, 64u, 65536u}) {
    Builder builder = small();
    builder.alignment = alignment;
    builder.add_u32("general.alignment", alignment);
    const std::string bytes = builder.build();
    EXPECT_EQ(parse(bytes).find_tensor("b")->bytes.size(), 12u);
  }
}

TEST(Gguf, TensorsMayBeEmpty) {
  Builder builder = small();
  builder.add_f32_tensor("none", {3, 0}).add_f32_tensor("some", {2});
  const std::string bytes = builder.build();
  const GgufFile file = parse(bytes);
  EXPECT_TRUE(file.find_tensor("none")->bytes.empty());
  EXPECT_EQ(file.find_tensor("some")->bytes.size(), 8u);
}

TEST(Gguf, RefusesWrongHeaders) {
  Builder builder = small();
  builder.magic = 0x46554746;
  EXPECT_MESSAGE(error_of(builder.build()), "expected a GGUF file");
  for (const uint32_t version : {0u, 1u, 4u}) {
    builder = small();
    builder.version = version;
    EXPECT_MESSAGE(error_of(builder.build(), ErrorCode::kUnsupported), "GGUF version 2 or 3");
  }
  builder = small();
  builder.version = 3u << 24;
  EXPECT_MESSAGE(error_of(builder.build(), ErrorCode::kUnsupported), "big endian");
}

TEST(Gguf, RefusesCountsThatTheBytesCannotHold) {
  for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 61, UINT64_MAX - 2}) {
    Builder builder = small();
    builder.extra_entries = count;
    EXPECT_MESSAGE(error_of(builder.build()), "metadata count");
    builder = small();
    builder.extra_tensors = count;
    EXPECT_MESSAGE(error_of(builder.build()), "tensor count");
  }
}

TEST(Gguf, RefusesWrongMetadata) {
  EXPECT_MESSAGE(error_of(small().add_u32("general.name", 1).build()), "twice");
  EXPECT_MESSAGE(error_of(small().add_u32("", 1).build()), "empty or not valid UTF-8");
  EXPECT_MESSAGE(error_of(small().add_u32("a\xff", 1).build()), "\\xff");
  EXPECT_MESSAGE(error_of(small().entry("k", 13, "1234").build()), "unknown value type 13");
  EXPECT_MESSAGE(error_of(small().entry("k", kFileBool, "\2").build()), "neither 0 nor 1");
  EXPECT_MESSAGE(error_of(small().add_array("k", kFileBool, 2, "\1\3").build()), "neither 0 nor 1");
  EXPECT_MESSAGE(error_of(small().add_array("k", kFileArray, 0, "").build(), ErrorCode::kUnsupported), "arrays of arrays");
  EXPECT_MESSAGE(error_of(small().add_array("k", 99, 1, "1").build()), "unknown value type 99");
  EXPECT_MESSAGE(error_of(small().add_array("k", kFileU64, uint64_t{1} << 61, "").build()), "more than any file holds");
  EXPECT_MESSAGE(error_of(small().add_array("k", kFileU8, uint64_t{1} << 61, "").build()), "ends inside");
  EXPECT_MESSAGE(error_of(small().add_array("k", kFileString, uint64_t{1} << 40, "").build()), "do not fit");
  EXPECT_MESSAGE(error_of(small().entry("k", kFileString, Builder::number<uint64_t>(UINT64_MAX)).build()), "ends inside");
}

TEST(Gguf, RefusesWrongAlignments) {
  for (const uint32_t alignment : {0u, 3u, 24u, 131072u}) {
    EXPECT_MESSAGE(error_of(small().add_u32("general.alignment", alignment).build()), "power of two");
  }
  EXPECT_MESSAGE(error_of(small().add_text("general.alignment", "32").build()), "general.alignment");
}

// small() with its last tensor changed.
std::string with_tensor(const std::function<void(Builder::Tensor&)>& change) {
  Builder builder = small();
  change(builder.tensors.back());
  return builder.build();
}

TEST(Gguf, RefusesWrongTensors) {
  using Tensor = Builder::Tensor;
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.name = std::string("a"); })), "twice");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.name.clear(); })), "empty or not valid UTF-8");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.name = std::string("\xed\xa0\x80"); })), "not valid UTF-8");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.dimensions = {}; })), "1 to 4 dimensions, found 0");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.dimensions = {1, 1, 1, 1, 1}; })), "found 5");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.dimensions = {1ull << 32, 1ull << 32}; })), "more than any file");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.dimensions = {1ull << 62}; })), "more than any file");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.dimensions = {4}; })), "reach beyond");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.offset = 31; })), "not a multiple of 32");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.offset = 64; })), "reach beyond");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.offset = INT64_MAX / 32 * 32; })), "reach beyond");
  EXPECT_MESSAGE(error_of(with_tensor([](Tensor& t) { t.offset = 0; })), "overlap");
}

TEST(Gguf, RefusesOtherElementTypesByNameOrNumber) {
  const auto with_type = [](uint32_t type) { return with_tensor([type](Builder::Tensor& t) { t.type = type; }); };
  EXPECT_MESSAGE(error_of(with_type(4), ErrorCode::kUnsupported), "tensor 'b': elements of type Q4_2");
  EXPECT_MESSAGE(error_of(with_type(21), ErrorCode::kUnsupported), "IQ3_S");
  EXPECT_MESSAGE(error_of(with_type(26), ErrorCode::kUnsupported), "I32");
  EXPECT_MESSAGE(error_of(with_type(33), ErrorCode::kUnsupported), "Q4_0_8_8");
  EXPECT_MESSAGE(error_of(with_type(40), ErrorCode::kUnsupported), "NVFP4");
  EXPECT_MESSAGE(error_of(with_type(777), ErrorCode::kUnsupported), "unknown element type 777");
}

TEST(Gguf, RefusesRowsThatAreNoWholeBlocks) {
  const auto with_row = [](uint32_t type, uint64_t row) {
    return with_tensor([=](Builder::Tensor& t) {
      t.type = type;
      t.dimensions = {row, 32};
      t.data.resize(1 << 16);
    });
  };
  EXPECT_MESSAGE(error_of(with_row(2, 48)), "whole number of Q4_0 blocks of 32");
  EXPECT_MESSAGE(error_of(with_row(14, 128)), "whole number of Q6_K blocks of 256");
  const std::string bytes = with_row(14, 512);
  EXPECT_EQ(parse(bytes).find_tensor("b")->bytes.size(), 512u / 256 * 210 * 32);
}

TEST(Gguf, TakesAFileWithoutTensors) {
  EXPECT_TRUE(parse(Builder().build()).tensors().empty());
  std::string bytes = Builder().add_u32("k", 1).build();
  bytes.resize(24 + 9 + 4 + 4);  // nothing after the metadata
  EXPECT_TRUE(parse(bytes).has("k"));
}

}  // namespace
}  // namespace tritllm
