// Sources that are quantised already: FP8 and eight-bit integers with their scales, the other methods by their marks, and heads
// that config.json ties to an embedding from which they differ.
#include "io/quantised_source.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/json.h"
#include "io/hf_folder.h"
#include "support/expect_error.h"
#include "support/model_folder.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {
namespace fs = std::filesystem;

constexpr const char* kName = "model.layers.0.mlp.up_proj.weight";

TestTensor raw_tensor(std::string name, ElementType type, std::vector<uint64_t> shape, const std::string& bytes) {
  return {{std::move(name), type, std::move(shape)}, bytes};
}

class QuantisedSource : public testing::Test {
 protected:
  void write(const Json& config, const std::vector<TestTensor>& tensors) {
    write_plainly(path() / "config.json", config.dump());
    write_plainly(path() / "model.safetensors", safetensors_text(tensors));
  }
  fs::path path() const { return folder_.path() / "m"; }
  void refused(std::string_view words) {
    expect_error(ErrorCode::kUnsupported, words, [&] { open_hf_folder(path()); });
  }
  std::vector<float> values(const ModelSource& model, uint64_t first = 0) {
    std::vector<float> out(model.tensors[0].elements() - first);
    read_float32(model.tensors[0], first, out);
    return out;
  }

  const TemporaryFolder folder_;
  const TestTensor plain_ = f32_tensor("a.weight", {2, 2}, {1, 2, 3, 4});
};

// By the definition of E4M3: (−1)^s · 2^(e−7) · (1 + m/8), subnormal where e = 0.
TEST_F(QuantisedSource, EveryFp8Number) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  write({{"quantization_config", {{"quant_method", "fp8"}}}},
        {raw_tensor(kName, ElementType::kF8E4M3, {16, 16}, bytes), f32_tensor(std::string(kName) + "_scale", {}, {0.5f})});
  const ModelSource model = open_hf_folder(path());
  ASSERT_EQ(model.tensors.size(), 1u) << "the scales are not a tensor of the model";
  EXPECT_TRUE(is_weight_type(model.tensors[0].type));
  EXPECT_FALSE(model.config->contains("quantization_config"));
  EXPECT_TRUE(model.warnings.empty()) << "who runs it need not hear of it";
  ASSERT_EQ(model.quantising_warnings.size(), 1u);
  EXPECT_NE(model.quantising_warnings[0].find("already quantised (1 matrices"), std::string::npos);
  const std::vector<float> found = values(model);
  for (int i = 0; i < 256; ++i) {
    const int exponent = (i >> 3) & 15, mantissa = i & 7;
    const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    const float value = found[static_cast<size_t>(i)];
    if ((i & 127) == 127) EXPECT_TRUE(std::isnan(value)) << i;
    else EXPECT_EQ(value, static_cast<float>((i & 128 ? -0.5 : 0.5) * size)) << i;
    EXPECT_EQ(std::signbit(value), (i & 128) != 0) << i;
  }
}

// Blocks that do not divide the matrix, read from every position.
TEST_F(QuantisedSource, ScalesOfBlocks) {
  const uint64_t rows = 5, columns = 7;
  std::string bytes;
  for (uint64_t i = 0; i < rows * columns; ++i) bytes += static_cast<char>(static_cast<int8_t>(i) - 17);
  std::vector<float> scales{1, 10, 100, 1000, 1e4f, 1e5f, 1e6f, 1e7f, 1e8f};
  write(
      {{"text_config", {{"quantization_config", {{"quant_method", "x"}, {"weight_block_size", {2, 3}}}}}}},
      {raw_tensor(kName, ElementType::kI8, {rows, columns}, bytes), f32_tensor(std::string(kName) + "_scale_inv", {3, 3}, scales)});
  const ModelSource model = open_hf_folder(path());
  EXPECT_FALSE((*model.config)["text_config"].contains("quantization_config"));
  for (uint64_t first = 0; first < rows * columns; ++first) {
    const std::vector<float> found = values(model, first);
    for (uint64_t i = first; i < rows * columns; ++i) {
      const float scale = scales[i / columns / 2 * 3 + i % columns / 3];
      EXPECT_EQ(found[i - first], (static_cast<float>(i) - 17.0f) * scale) << first << " " << i;
    }
  }
}

TEST_F(QuantisedSource, OneScaleForEachRow) {
  const std::string bytes = {1, 2, 3, 4, 5, 6};
  for (const std::vector<uint64_t>& shape : {std::vector<uint64_t>{3, 1}, std::vector<uint64_t>{3}}) {
    write(Json::object(), {raw_tensor(kName, ElementType::kI8, {3, 2}, bytes),
                           bf16_tensor(std::string(kName) + "_scale", shape, {1.0f, 2.0f, 4.0f})});
    EXPECT_EQ(values(open_hf_folder(path())), (std::vector<float>{1, 2, 6, 8, 20, 24}));
  }
  // bitsandbytes: the largest magnitude of each row, for 127.
  write(Json::object(),
        {raw_tensor(kName, ElementType::kI8, {1, 2}, {127, 1}), f32_tensor("model.layers.0.mlp.up_proj.SCB", {1}, {254.0f}),
         filled_tensor("model.layers.0.mlp.up_proj.weight_format", ElementType::kU8, {}, 0)});
  const ModelSource model = open_hf_folder(path());
  EXPECT_EQ(model.tensors.size(), 1u);
  EXPECT_NEAR(double{values(model)[0]}, 254.0, 1e-4);
}

TEST_F(QuantisedSource, ScalesThatDoNotFitAreRefused) {
  const TestTensor weights = raw_tensor(kName, ElementType::kI8, {3, 2}, {1, 2, 3, 4, 5, 6});
  for (const std::vector<uint64_t>& shape : {std::vector<uint64_t>{2, 1}, {3, 4}, {3, 1, 1}, {0}, {4}}) {
    write(Json::object(), {weights, filled_tensor(std::string(kName) + "_scale", ElementType::kF32, shape)});
    refused("another shape");
  }
  write(Json::object(), {weights, filled_tensor(std::string(kName) + "_scale", ElementType::kU8, {3, 1})});
  refused("scales of type U8");
  write(Json::object(), {weights});
  refused("without scales");
  write(Json::object(), {weights, f32_tensor(std::string(kName) + "_scale", {}, {1}),
                         raw_tensor(std::string(kName) + "_zero_point", ElementType::kI8, {1}, {3})});
  refused("zero points");
}

TEST_F(QuantisedSource, OtherMethodsAreRefusedByName) {
  for (const char* const name : {"a.qweight", "a.qzeros", "a.weight.absmax", "a.weight_packed", "a.experts.gate_up_proj_blocks"}) {
    write({{"quantization_config", {{"quant_method", "some_method"}}}}, {plain_, filled_tensor(name, ElementType::kU8, {4, 4})});
    refused("'some_method'");
  }
  // MLX says it in another field, with packed elements under the usual name.
  write({{"quantization", {{"bits", 4}, {"group_size", 64}}}}, {filled_tensor("b.weight", ElementType::kU32, {4, 4}), plain_});
  refused("'4 bits'");
  // GPTQ's old way: nothing in config.json.
  write(Json::object(), {filled_tensor("b.qweight", ElementType::kI32, {4, 4}), plain_});
  write_plainly(path() / "quantize_config.json", R"({"bits": 4})");
  refused("quantize_config.json");
  fs::remove(path() / "quantize_config.json");
  write({{"quantization_config", {{"quant_method", "bitnet"}, {"quantization_mode", "online"}}}}, {plain_});
  refused("while it runs");
  write({{"quantization_config", {{"quant_method", "bitnet"}}}}, {plain_});
  refused("no matrix is packed");
}

// Bits 2k and 2k + 1 of byte row i hold a trit plus 1 of row 3k + i, as transformers packs them.
TEST_F(QuantisedSource, FourRowsOfTritsInAByte) {
  constexpr size_t kByteRows = 3, kColumns = 5, kRows = 4 * kByteRows;
  const auto trit = [](size_t row, size_t column) { return static_cast<int>((row * 37 + column * 11) / 4 % 3) - 1; };
  std::string bytes;
  for (size_t i = 0; i < kByteRows; ++i) {
    for (size_t c = 0; c < kColumns; ++c) {
      int byte = 0;
      for (size_t k = 0; k < 4; ++k) byte |= (trit(k * kByteRows + i, c) + 1) << (2 * k);
      bytes += static_cast<char>(byte);
    }
  }
  for (const auto& [linear_class, factor] : {std::pair{"bitlinear", 1.0f / 2.5f}, {"autobitlinear", 2.5f}}) {
    write({{"quantization_config", {{"quant_method", "bitnet"}, {"linear_class", linear_class}}}},
          {raw_tensor(kName, ElementType::kU8, {kByteRows, kColumns}, bytes),
           f32_tensor(std::string(kName) + "_scale", {1}, {2.5f})});
    const ModelSource model = open_hf_folder(path());
    ASSERT_EQ(model.tensors.size(), 1u);
    EXPECT_EQ(model.tensors[0].shape, (std::vector<uint64_t>{kRows, kColumns}));
    EXPECT_EQ(model.config->at(kActivationBitsField), 8);
    for (const size_t first : {size_t{0}, size_t{7}, kColumns * kRows - 1}) {
      const std::vector<float> found = values(model, first);
      for (size_t i = 0; i < found.size(); ++i) {
        const size_t at = first + i;
        ASSERT_FLOAT_EQ(found[i], static_cast<float>(trit(at / kColumns, at % kColumns)) * factor) << at;
      }
    }
  }
}

TEST_F(QuantisedSource, AMarkOnPlainWeightsIsRefused) {
  write({{"quantization_config", {{"quant_method", "awq"}}}}, {plain_});
  refused("already quantised ('awq')");
  write(Json::object(), {plain_});
  write_plainly(path() / "hf_quant_config.json", R"({"quantization": {"quant_algo": "FP8"}})");
  refused("hf_quant_config.json");
}

class TiedHead : public QuantisedSource {
 protected:
  const TestTensor embedding_ = f32_tensor("model.embed_tokens.weight", {2, 2}, {1, 2, 3, 4});
  const TestTensor other_ = f32_tensor("lm_head.weight", {2, 2}, {1, 2, 3, 5}),
                   same_ = f32_tensor("lm_head.weight", {2, 2}, {1, 2, 3, 4});
};

TEST_F(TiedHead, AHeadThatDiffersIsKept) {
  for (const Json& config : {Json{{"tie_word_embeddings", true}}, Json{{"architectures", {"Gemma3ForCausalLM"}}},
                             Json{{"text_config", {{"tie_word_embeddings", true}}}}}) {
    write(config, {embedding_, other_});
    const ModelSource model = open_hf_folder(path());
    EXPECT_EQ((*model.config)["tie_word_embeddings"], false);
    ASSERT_EQ(model.warnings.size(), 1u) << config;
    EXPECT_NE(model.warnings[0].find("another head"), std::string::npos);
    write(config, {embedding_, same_});
    EXPECT_EQ(*open_hf_folder(path()).config, config);
    write(config, {embedding_});
    EXPECT_EQ(*open_hf_folder(path()).config, config);
  }
  write({{"tie_word_embeddings", false}}, {embedding_, other_});
  EXPECT_TRUE(open_hf_folder(path()).warnings.empty());
}

}  // namespace
}  // namespace tritllm
