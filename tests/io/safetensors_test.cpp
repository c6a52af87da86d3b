// The safetensors reader, rule by rule, and the writer's headers read back. test_safetensors.py compares both with the
// safetensors package.
#include "io/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <string>

#include "support/expect_error.h"
#include "support/model_folder.h"

namespace tritllm {
namespace {

// The most memory that this process has held, in bytes.
uint64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) << 10;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, 'x');
}

SafetensorsHeader parse(const std::string& file) { return parse_safetensors(std::as_bytes(std::span(file)), "FILE"); }

void expect_refused(const std::string& file, std::string_view words, ErrorCode code = ErrorCode::kBadInput) {
  SCOPED_TRACE(file.substr(0, 200));
  expect_error(code, words, [&] { parse(file); });
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const SafetensorsHeader header = parse(file_of(
      R"({"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},"__metadata__":{"format":"pt","k":""},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   )",
      16));
  ASSERT_EQ(header.tensors.size(), 2u);
  const StoredTensor &a = header.tensors[0], &b = header.tensors[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.type, ElementType::kF32);
  EXPECT_TRUE(a.shape.empty());
  EXPECT_EQ(a.bytes, 4u);
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.type, ElementType::kF16);
  EXPECT_EQ(b.shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(b.offset, a.offset + 4);
  EXPECT_EQ(b.bytes, 12u);
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"k", ""}}));
}

TEST(Safetensors, ReadsEmptyFilesAndEmptyTensors) {
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors.empty());
  // An empty tensor stands between two others, listed after the one that shares its offset.
  const SafetensorsHeader header = parse(file_of(
      R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"none":{"dtype":"F64","shape":[0,9],"data_offsets":[1,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      3));
  EXPECT_EQ(header.tensors[1].name, "none");
  EXPECT_EQ(header.tensors[1].bytes, 0u);
}

TEST(Safetensors, RefusesFilesWithoutAHeader) {
  expect_refused("", "at least 8 bytes");
  expect_refused("1234567", "found 7");
  expect_refused(std::string(8, '\0'), "start with '{'");
  std::string longer = file_of("{}", 0), huge = longer;
  longer[0] = 3;
  expect_refused(longer, "header length");
  huge[7] = '\x7f';
  expect_refused(huge, "header length at byte 0: expected at most 100000000");
  EXPECT_TRUE(parse(file_of(" \n{}", 0)).tensors.empty()) << "white space before the header is legal";
  expect_refused(file_of("  ", 0), "start with '{'");
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer");
  expect_refused("GGUF" + std::string(60, '\0'), "GGUF file");
  expect_refused("PK\x03\x04" + std::string(60, '\0'), "written by PyTorch");
  expect_refused(file_of("[]", 0), "start with '{'");
}

TEST(Safetensors, RefusesHeadersThatAreNoStrictJson) {
  expect_refused(file_of("{", 0), "not valid JSON");
  expect_refused(file_of("{} x", 0), "not valid JSON");
  expect_refused(file_of(std::string("{}\0", 3), 0), "NUL");
  expect_refused(
      file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
      "twice");
  expect_refused(file_of("{\"\xff\":1}", 0), "not valid JSON");
  expect_refused(file_of("{\"a\":" + std::string(100, '['), 0), "nested deeper");
}

std::string one_tensor(const std::string& entry, const std::string& name = "a") { return "{\"" + name + "\":" + entry + "}"; }

TEST(Safetensors, RefusesEntriesThatAreNoTensors) {
  expect_refused(file_of(one_tensor("1"), 0), "exactly the fields");
  expect_refused(file_of(one_tensor(R"({"dtype":"U8","shape":[1]})"), 1), "exactly the fields");
  expect_refused(file_of(one_tensor(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1})"), 1), "exactly the fields");
  expect_refused(file_of(one_tensor(R"({"dtype":"U8","shape":[1],"offsets":[0,1]})"), 1), "data_offsets");
  expect_refused(file_of(one_tensor(R"({"dtype":3,"shape":[1],"data_offsets":[0,1]})"), 1), "dtype");
  expect_refused(file_of(one_tensor(R"({"dtype":"F4","shape":[2],"data_offsets":[0,1]})"), 1), "unknown dtype 'F4'",
                 ErrorCode::kUnsupported);
  expect_refused(file_of(one_tensor(R"({"dtype":"Q4_0","shape":[32],"data_offsets":[0,18]})"), 18), "unknown dtype",
                 ErrorCode::kUnsupported);
  for (const char* const shape : {"3", "[1.0]", "[-1]", "[\"1\"]", "[18446744073709551616]", "{}"}) {
    expect_refused(file_of(one_tensor(std::string(R"({"dtype":"U8","shape":)") + shape + R"(,"data_offsets":[0,1]})"), 1), "shape");
  }
  std::string many = "[1";
  for (int i = 0; i < 64; ++i) many += ",1";
  expect_refused(file_of(one_tensor(R"({"dtype":"U8","shape":)" + many + R"(],"data_offsets":[0,1]})"), 1), "64 dimensions");
  for (const char* const range : {"1", "[0]", "[0,1,1]", "[0,1.0]", "[-1,0]", "[\"0\",1]"}) {
    expect_refused(file_of(one_tensor(std::string(R"({"dtype":"U8","shape":[1],"data_offsets":)") + range + "}"), 1),
                   "data_offsets");
  }
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  expect_refused(file_of(one_tensor(entry, ""), 1), "expected a name");
  expect_refused(file_of(one_tensor(entry, "\\u0000"), 1), "expected a name");
  expect_refused(file_of(one_tensor(entry, std::string(4097, 'n')), 1), "expected a name");
  EXPECT_EQ(parse(file_of(one_tensor(entry, std::string(4096, 'n')), 1)).tensors.size(), 1u);
}

TEST(Safetensors, RefusesRangesThatDoNotFitTheShape) {
  const auto refused = [](const std::string& dtype, const std::string& shape, const std::string& range, size_t bytes,
                          std::string_view words) {
    expect_refused(
        file_of(one_tensor(R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + range + "}"), bytes), words);
  };
  refused("U8", "[1]", "[1,0]", 1, "found [1, 0]");
  refused("U8", "[2]", "[0,2]", 1, "inside the 1 bytes");
  refused("U8", "[18446744073709551615]", "[0,18446744073709551615]", 1, "inside the 1 bytes");
  refused("F32", "[2]", "[0,4]", 4, "expected the 8 bytes");
  refused("F32", "[]", "[0,8]", 8, "expected the 4 bytes");
  refused("U8", "[4294967296,4294967296]", "[0,0]", 0, "more than 2^64");
  refused("F64", "[2305843009213693952]", "[0,0]", 0, "more than 2^64");
}

TEST(Safetensors, RefusesHolesOverlapsAndTails) {
  const std::string two =
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[%,^]}})";
  const auto with = [&](const char* begin, const char* end) {
    std::string header = two;
    header.replace(header.find('%'), 1, begin);
    return header.replace(header.find('^'), 1, end);
  };
  EXPECT_EQ(parse(file_of(with("2", "4"), 4)).tensors.size(), 2u);
  expect_refused(file_of(with("3", "5"), 5), "where the tensor before ends");
  expect_refused(file_of(with("1", "3"), 3), "where the tensor before ends");
  expect_refused(file_of(with("0", "2"), 2), "where the tensor before ends");
  expect_refused(file_of(with("2", "4"), 5), "end with its last tensor");
  expect_refused(file_of("{}", 1), "end with its last tensor");
  expect_refused(file_of(one_tensor(R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})"), 2), "where the tensor before ends");
}

// What a header costs in memory is bounded by its bytes and by the number of tensors: a tree of this one would take gigabytes.
TEST(Safetensors, LargeHeadersCostNoTree) {
  std::string header = "{";
  for (int i = 0; i < 300'000; ++i) header += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  header.back() = '}';
  const uint64_t before = peak_memory();
  EXPECT_EQ(parse(file_of(header, 0)).tensors.size(), 300'000u);
  EXPECT_LT(peak_memory() - before, uint64_t{100} << 20);
  std::string deep = "{\"a\":[";
  for (int i = 0; i < 2000; ++i) deep += "[],";
  expect_refused(file_of(deep + "[]]}", 0), "more than 1000 values");
}

TEST(Safetensors, RefusesMetadataThatIsNoText) {
  expect_refused(file_of(R"({"__metadata__":[]})", 0), "__metadata__");
  expect_refused(file_of(R"({"__metadata__":{"a":1}})", 0), "expected a string at 'a'");
}

TEST(Safetensors, ErrorsEscapeHostileNames) { expect_refused(file_of(one_tensor("1", "\\u001b[2J\\n"), 0), "\\x1b[2J\\x0a"); }

TEST(PlanSafetensors, IsReadBackAndAligned) {
  const std::vector<TestTensor> tensors{
      filled_tensor("first", ElementType::kF32, {3, 5}), filled_tensor("none", ElementType::kI64, {0}),
      filled_tensor("scalar", ElementType::kF16, {}), filled_tensor("odd \"name\"\t\xc3\xa9", ElementType::kBool, {7})};
  const std::string file = safetensors_text(tensors, {{"format", "pt"}, {"quote", "\"\\"}});
  const SafetensorsHeader header = parse(file);
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"quote", "\"\\"}}));
  ASSERT_EQ(header.tensors.size(), tensors.size());
  EXPECT_EQ(header.tensors[0].offset % 64, 0u);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(header.tensors[i].name, tensors[i].planned.name);
    EXPECT_EQ(header.tensors[i].type, tensors[i].planned.type);
    EXPECT_EQ(header.tensors[i].shape, tensors[i].planned.shape);
  }
}

TEST(PlanSafetensors, EveryLengthOfHeaderIsPaddedTo64Bytes) {
  for (size_t length = 1; length < 140; ++length) {
    const std::vector<PlannedTensor> tensors{{std::string(length, 'n'), ElementType::kU8, {5}}};
    const SafetensorsLayout layout = plan_safetensors(tensors, {});
    EXPECT_EQ(layout.header.size() % 64, 0u);
    EXPECT_EQ(layout.offsets, std::vector<uint64_t>{layout.header.size()});
    EXPECT_EQ(layout.file_bytes, layout.header.size() + 5);
    EXPECT_EQ(parse(layout.header + "12345").tensors.size(), 1u);
  }
}

}  // namespace
}  // namespace tritllm
