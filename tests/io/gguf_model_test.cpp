// The translation of GGUF files into models: what a file must hold, and that no damage to a file does more than an error.
#include "io/gguf_model.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "core/json.h"
#include "io/gguf_models.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {

Fields with(std::string key, std::function<void(GgufBuilder&, const std::string&)> value, Fields all = fields()) {
  all[std::move(key)] = std::move(value);
  return all;
}
Fields without(const std::string& key, Fields all = fields()) {
  all.erase(key);
  return all;
}

std::string error_of(const std::string& bytes) {
  try {
    translate_gguf(bytes_of(bytes), "FILE");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}
std::string error_of(const Fields& all) { return error_of(builder_of(all).build()); }

#define EXPECT_MESSAGE(text, part) \
  EXPECT_PRED2([](const std::string& a, const std::string& b) { return a.find(b) != a.npos; }, text, part)

TEST(GgufModel, TranslatesNamesInFileOrder) {
  const std::string bytes = builder_of(fields()).build();
  const ModelSource source = translate_gguf(bytes_of(bytes), "FILE");
  EXPECT_EQ(source.kind, "gguf");
  ASSERT_EQ(source.tensors.size(), 11u);
  EXPECT_EQ(source.tensors[0].name, "model.embed_tokens.weight");
  const SourceTensor& k = source.tensors[3];
  EXPECT_EQ(k.name, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(k.shape, (std::vector<uint64_t>{4, 8}));
  EXPECT_EQ(k.interleaved_heads, 2u);
  EXPECT_EQ(k.place, "FILE: tensor 'blk.0.attn_k.weight'");
  EXPECT_EQ(source.tensors[2].interleaved_heads, 4u);
  EXPECT_EQ(source.tensors[4].interleaved_heads, 0u);
  EXPECT_EQ((*source.config)["head_dim"], 2);
  EXPECT_EQ((*source.config)["rms_norm_eps"], 1e-5);
  EXPECT_EQ((*source.config)["tie_word_embeddings"], true);
  EXPECT_TRUE(source.warnings.empty());
}

TEST(GgufModel, OpensAFileAndKeepsItMapped) {
  const TemporaryFolder folder;
  const auto path = folder / "model.gguf";
  std::ofstream(path, std::ios::binary) << builder_of(fields()).build();
  const ModelSource source = open_gguf_model(path);
  ASSERT_EQ(source.files.size(), 1u);
  std::vector<float> values(64);
  read_float32(source.tensors[0], 0, values);
  EXPECT_EQ(values, std::vector<float>(64, 0.5f));
}

TEST(GgufModel, KnowsBaseModelAndLicense) {
  const auto base_of = [](const Fields& all) {
    const std::string bytes = builder_of(all).build();
    const ModelSource source = translate_gguf(bytes_of(bytes), "FILE");
    return source.identity.hub_id.value_or("none");
  };
  EXPECT_EQ(base_of(fields()), "none");
  Fields all = with("general.name", text("Some Name"));
  EXPECT_EQ(base_of(all), "none") << "a title is not a hub id";
  all["general.base_model.0.repo_url"] = text("https://huggingface.co/owner/name");
  EXPECT_EQ(base_of(all), "none") << "the parent of a fine-tune";
  all["general.repo_url"] = text("https://huggingface.co/owner/name");
  all["general.source.repo_url"] = text("https://example.org/a/b");
  EXPECT_EQ(base_of(all), "owner/name");
  all["general.source.huggingface.repository"] = text("first/one");
  EXPECT_EQ(base_of(all), "first/one");
  const std::string bytes = builder_of(with("general.license", text("mit"))).build();
  EXPECT_EQ(translate_gguf(bytes_of(bytes), "FILE").identity.license, "mit");
}

TEST(GgufModel, RefusesOtherContents) {
  EXPECT_MESSAGE(error_of(without("general.architecture")), "general.architecture");
  EXPECT_MESSAGE(error_of(with("general.architecture", text("mamba"))), "'mamba'");
  EXPECT_MESSAGE(error_of(with("general.type", text("adapter"))), "'adapter'");
  EXPECT_MESSAGE(error_of(with("split.count", u32(3))), "is part 1 of 3 of a split model");
  EXPECT_MESSAGE(error_of(with("llama.expert_count", u32(8))), "mixtures of experts");
}

TEST(GgufModel, RefusesWrongSizes) {
  for (const char* const key : {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
                                "llama.attention.head_count"}) {
    EXPECT_MESSAGE(error_of(without(key)), std::string(key));
    EXPECT_MESSAGE(error_of(with(key, u32(0))), "expected a positive number");
    EXPECT_MESSAGE(error_of(with(key, u32(UINT32_MAX))), std::string(key));
  }
  EXPECT_MESSAGE(error_of(without("llama.attention.layer_norm_rms_epsilon")), "layer_norm_rms_epsilon");
  EXPECT_MESSAGE(error_of(with("llama.attention.head_count_kv", u32(3))), "do not go with");
  EXPECT_MESSAGE(error_of(with("llama.attention.head_count_kv", i32s({2, 2}))), "expected one value");
  EXPECT_MESSAGE(error_of(with("llama.attention.key_length", u32(3))), "do not go with");
  EXPECT_MESSAGE(error_of(with("llama.attention.value_length", u32(4))), "expected the head dimension 2, found 4");
  EXPECT_MESSAGE(error_of(with("llama.rope.dimension_count", u32(1))), "do not go with");
  EXPECT_MESSAGE(error_of(with("llama.attention.sliding_window", u32(4))), "window of 4 tokens");
  EXPECT_MESSAGE(error_of(with("llama.block_count", u32(2000000000))), "'blk.1.attn_norm.weight' is missing");
}

TEST(GgufModel, RefusesWrongTensors) {
  const auto renamed = [](std::string_view from, std::string to) {
    GgufBuilder builder = builder_of(fields());
    for (auto& tensor : builder.tensors) {
      if (tensor.name == from) tensor.name = to;
    }
    return builder.build();
  };
  for (const char* const name : {"blk.00.ffn_up.weight", "blk.1.ffn_up.weight", "blk..ffn_up.weight", "blk.0", "blk.0.",
                                 "blk.+0.ffn_up.weight", "blk.99999999999999999999.ffn_up.weight", "blk.0.ffn_up.bias.x"}) {
    EXPECT_MESSAGE(error_of(renamed("blk.0.ffn_up.weight", name)), "has no such tensor") << name;
  }
  EXPECT_MESSAGE(error_of(renamed("output_norm.weight", "rope_freqs.weight")), "'output_norm.weight' is missing");
  EXPECT_MESSAGE(error_of(renamed("token_embd.weight", "output.weight")), "'token_embd.weight' is missing");
  EXPECT_MESSAGE(error_of(renamed("blk.0.ffn_norm.weight", "blk.0.attn_q.bias")), "'blk.0.attn_k.bias' is missing");
  GgufBuilder builder = builder_of(fields());
  std::swap(builder.tensors[9].dimensions[0], builder.tensors[9].dimensions[1]);
  EXPECT_MESSAGE(error_of(builder.build()), "expected the shape [8, 12] that the metadata asks for, found [12, 8]");
}

TEST(GgufModel, RefusesWrongTokenizers) {
  EXPECT_MESSAGE(error_of(without("tokenizer.ggml.model")), "tokenizer.ggml.model");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.model", text("rwkv"))), "'rwkv'");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.pre", text("none such"))), "'none such'");
  EXPECT_MESSAGE(error_of(without("tokenizer.ggml.tokens")), "missing or empty");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.tokens", texts({"a", "a"}), without("tokenizer.ggml.token_type"))), "stands twice");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.tokens", texts({"1", "2", "3", "4", "5", "6", "7", "8", "9"}))),
                 "embedding has 8 rows");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.token_type", i32s({1, 1}))), "expected 8 token kinds");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.token_type", i32s({1, 1, 1, 1, 1, 3, 3, 7}))), "expected 8 token kinds");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.bos_token_id", u32(8))), "none of the 8 tokens has the id 8");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.bos_token_id", u32(7))), "none of the 8 tokens has the id 7");  // a filler
  EXPECT_MESSAGE(error_of(without("tokenizer.ggml.merges")), "list of merges is missing");
  for (const char* const merge : {"", "a", "a ", " a", "a d", "b a", "a b c", "a  b"}) {
    EXPECT_MESSAGE(error_of(with("tokenizer.ggml.merges", texts({merge}))), "does not make a token of two tokens") << merge;
  }
}

TEST(GgufModel, RefusesWrongScores) {
  EXPECT_EQ(error_of(sentencepiece_fields()), "no error");
  EXPECT_MESSAGE(error_of(without("tokenizer.ggml.scores", sentencepiece_fields())), "expected 8 scores");
  EXPECT_MESSAGE(error_of(with("tokenizer.ggml.scores", f32s({1}), sentencepiece_fields())), "expected 8 scores");
  Fields long_token = with("tokenizer.ggml.tokens", texts({"<unk>", std::string(513, 'a')}), sentencepiece_fields());
  long_token["tokenizer.ggml.token_type"] = i32s({2, 1});
  long_token["tokenizer.ggml.scores"] = f32s({0, 0});
  long_token.erase("tokenizer.ggml.bos_token_id");
  long_token.erase("tokenizer.ggml.eos_token_id");
  EXPECT_MESSAGE(error_of(long_token), "token 1 is longer than 512 bytes");
}

TEST(GgufModel, RefusesVocabulariesOfTooManyMerges) {
  Fields all = sentencepiece_fields();
  std::vector<std::string> tokens;
  for (size_t length = 1; length <= 200; ++length) tokens.emplace_back(length, 'a');
  all["tokenizer.ggml.tokens"] = texts(tokens);
  all["tokenizer.ggml.scores"] = f32s(std::vector<float>(tokens.size()));
  all.erase("tokenizer.ggml.token_type");
  GgufBuilder builder = builder_of(all);
  builder.tensors.erase(builder.tensors.begin());
  builder.add_f32_tensor("token_embd.weight", {8, tokens.size()});
  EXPECT_MESSAGE(error_of(builder.build()), "in more ways than in any known vocabulary");
}

TEST(GgufModel, RefusesTooManyTemplates) {
  Fields all = with("tokenizer.chat_templates", texts(std::vector<std::string>(17, "a")));
  all["tokenizer.chat_template.a"] = text("x");
  EXPECT_MESSAGE(error_of(all), "at most 16 names, found 17");
}

TEST(GgufModel, RefusesUnknownRotaryScaling) {
  EXPECT_MESSAGE(error_of(with("llama.rope.scaling.type", text("longrope"))), "'longrope'");
  EXPECT_MESSAGE(error_of(with("llama.rope.scaling.type", text("linear"))), "factor of at least 1");
  EXPECT_MESSAGE(error_of(with("llama.rope.freq_base", f32(0.0f))), "positive base");
  Fields yarn = with("llama.rope.scaling.type", text("yarn"));
  yarn["llama.rope.scaling.factor"] = f32(4.0f);
  EXPECT_MESSAGE(error_of(yarn), "original_context_length");
  yarn["llama.rope.scaling.original_context_length"] = u32(8);
  EXPECT_EQ(error_of(yarn), "no error");
  yarn["llama.rope.scaling.attn_factor"] = f32(0.5f);
  EXPECT_MESSAGE(error_of(yarn), "attn_factor");
}

// Reads everything; any Error is fine, anything else fails the test (or the sanitizers' run of it).
void use(std::string_view bytes) {
  try {
    const ModelSource source = translate_gguf(bytes_of(bytes), "FILE");
    for (const SourceTensor& tensor : source.tensors) {
      std::vector<float> values(tensor.elements());
      read_float32(tensor, 0, values);
    }
  } catch (const Error&) {
  }
}

TEST(GgufModel, SurvivesTruncationAtEveryLength) {
  for (const Fields& all : {fields(), sentencepiece_fields()}) {
    const std::string whole = builder_of(all).build();
    for (size_t length = 0; length < whole.size(); ++length) {
      const std::vector<char> cut(whole.begin(),
                                  whole.begin() + static_cast<std::ptrdiff_t>(length));  // ends where it is allocated
      EXPECT_NE(error_of(std::string(cut.data(), length)), "no error") << length;
      use({cut.data(), length});
    }
  }
}

TEST(GgufModel, SurvivesEveryFlippedBit) {
  for (const Fields& all : {fields(), sentencepiece_fields()}) {
    std::string bytes = builder_of(all).build();
    // To the end of the tensor table; any bits after it are good numbers.
    const size_t end = bytes.rfind("output_norm.weight") + sizeof("output_norm.weight") + 24;
    for (size_t bit = 0; bit < end * 8; ++bit) {
      const auto mask = static_cast<char>(1u << (bit % 8));
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ mask);
      use(bytes);
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ mask);
    }
  }
}

}  // namespace
}  // namespace tritllm
