// What config.json may say: both dialects of the rotary parameters, defaults, and everything that would make the model compute
// something else than this project does, refused by name.
#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/json.h"
#include "model/families.h"
#include "support/expect_error.h"

namespace tritllm {
namespace {

Json llama(const Json& changes = Json::object()) {
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"hidden_act", "silu"},
                 {"vocab_size", 131},
                 {"hidden_size", 48},
                 {"intermediate_size", 65},
                 {"num_hidden_layers", 3},
                 {"num_attention_heads", 6},
                 {"num_key_value_heads", 2},
                 {"max_position_embeddings", 64}};
  for (const auto& [key, value] : changes.items()) config[key] = value;
  return config;
}

Json of_family(const std::string& architecture, const Json& changes = Json::object()) {
  Json config = llama(changes);
  config["architectures"] = {architecture};
  if (architecture.starts_with("Gemma")) config["hidden_activation"] = "gelu_pytorch_tanh";
  return config;
}

ModelConfig read(const Json& config) { return read_model_config(config, "CONFIG"); }

void refused(ErrorCode code, const std::string& words, const Json& config) {
  SCOPED_TRACE(config.dump().substr(0, 400));
  expect_error(code, words, [&] { read(config); });
  expect_error(code, "CONFIG", [&] { read(config); });
}

TEST(Config, SizesAndDefaults) {
  const ModelConfig model = read(llama());
  EXPECT_EQ(model.vocabulary, 131u);
  EXPECT_EQ(model.hidden, 48u);
  EXPECT_EQ(model.feed_forward, 65u);
  EXPECT_EQ(model.layer_count, 3u);
  EXPECT_EQ(model.heads, 6u);
  EXPECT_EQ(model.key_value_heads, 2u);
  EXPECT_EQ(model.head_width, 8u);
  EXPECT_EQ(model.trained_positions, 64u);
  EXPECT_EQ(model.query_width(), 48u);
  EXPECT_EQ(model.key_value_width(), 16u);
  EXPECT_EQ(model.norm_epsilon, 1e-6f);
  EXPECT_EQ(model.attention_scale, static_cast<float>(1.0 / std::sqrt(8.0)));
  EXPECT_EQ(model.embedding_scale, 1.0f);
  EXPECT_EQ(model.attention_softcap, 0.0f);
  EXPECT_EQ(model.logit_softcap, 0.0f);
  EXPECT_FALSE(model.query_key_value_biases || model.output_bias || model.feed_forward_biases || model.tied_head);
  EXPECT_EQ(model.layers.size(), 3u);
  ASSERT_EQ(model.rotaries.size(), 1u);
  ASSERT_EQ(model.rotaries[0].inverse_wavelengths.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(double{model.rotaries[0].inverse_wavelengths[i]}, std::pow(1e4, -static_cast<double>(i) / 4.0), 1e-6);
  }
  EXPECT_EQ(read(llama({{"num_key_value_heads", nullptr}})).key_value_heads, 6u);
  EXPECT_EQ(read(llama({{"head_dim", 20}})).head_width, 20u);
  EXPECT_TRUE(read(llama({{"tie_word_embeddings", true}, {"attention_bias", true}})).output_bias);
}

TEST(Config, TheModelTypeDecides) {
  Json config = llama({{"model_type", "mistral"}});
  EXPECT_EQ(read(config).family, find_family("MistralForCausalLM")) << "as in transformers";
  config.erase("architectures");
  EXPECT_EQ(read(config).family, find_family("MistralForCausalLM"));
  config["architectures"] = {"MistralForSequenceClassification"};
  refused(ErrorCode::kUnsupported, "'MistralForSequenceClassification'", config);
  EXPECT_EQ(read(llama({{"model_type", "of_a_remote_file"}})).family, find_family("LlamaForCausalLM"));
}

TEST(Config, ArchitecturesThatAreNotRunAreRefusedByName) {
  refused(ErrorCode::kUnsupported, "'GPT2LMHeadModel'", of_family("GPT2LMHeadModel"));
  refused(ErrorCode::kUnsupported, "LlamaForCausalLM", of_family("llamaforcausallm"));
  refused(ErrorCode::kUnsupported, "architecture ''", of_family(""));
  for (const Json& bad : {Json(nullptr), Json("LlamaForCausalLM"), Json::array(), Json::array({1}), Json::object()}) {
    refused(ErrorCode::kBadInput, "architectures", llama({{"architectures", bad}}));
  }
  Json without = llama();
  without.erase("architectures");
  expect_error(ErrorCode::kBadInput, "architectures", [&] { read(without); });
  without["model_type"] = "nobody_knows";
  expect_error(ErrorCode::kUnsupported, "'nobody_knows'", [&] { read(without); });
  for (const Json& bad : {Json(), Json::array(), Json("config"), Json(7)})
    expect_error(ErrorCode::kBadInput, "object", [&] { read(bad); });
}

TEST(Config, SizesThatCannotBe) {
  for (const char* const key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"}) {
    for (const Json& bad : {Json(0), Json(-1), Json("48"), Json(1.5), Json(true), Json(nullptr), Json(uint64_t{1} << 40),
                            Json(UINT64_MAX), Json::array({48}), Json::object()}) {
      refused(ErrorCode::kBadInput, key, llama({{key, bad}}));
    }
  }
  for (const char* const key : {"num_key_value_heads", "head_dim"}) {
    for (const Json& bad : {Json(0), Json(-1), Json("2"), Json(2.5), Json(true), Json(uint64_t{1} << 40)}) {
      refused(ErrorCode::kBadInput, key, llama({{key, bad}}));
    }
  }
  refused(ErrorCode::kBadInput, "6 attention heads cannot share 4", llama({{"num_key_value_heads", 4}}));
  refused(ErrorCode::kBadInput, "6 attention heads cannot share 12", llama({{"num_key_value_heads", 12}}));
  refused(ErrorCode::kBadInput, "a head of 9", llama({{"head_dim", 9}}));
  refused(ErrorCode::kBadInput, "a head of 9", llama({{"hidden_size", 54}}));
  refused(ErrorCode::kBadInput, "a head of 0", llama({{"hidden_size", 5}}));
  refused(ErrorCode::kBadInput, "too wide", llama({{"num_attention_heads", 16384}, {"head_dim", 16384}}));
}

TEST(Config, NumbersOutOfRange) {
  for (const auto& [key, values] :
       std::vector<std::pair<std::string, std::vector<Json>>>{{"rms_norm_eps", {-1e-6, 2.0, "1e-6", true}},
                                                              {"rope_theta", {0, -1.0, 1e13, "10000", Json::array()}},
                                                              {"tie_word_embeddings", {1, "true"}},
                                                              {"attention_bias", {0, "no"}},
                                                              {"mlp_bias", {0, "no"}}}) {
    for (const Json& value : values) refused(ErrorCode::kBadInput, key, llama({{key, value}}));
  }
  for (const Json& value : {Json(-1.0), Json(0.0), Json("50")}) {
    for (const char* const key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
      refused(ErrorCode::kBadInput, key, of_family("Gemma2ForCausalLM", {{key, value}}));
    }
  }
}

// A file that states nothing but its architecture has the sizes of transformers' configuration class.
TEST(Config, AbsentFieldsTakeTheFamilysDefaults) {
  const auto bare = [](const char* architecture) { return read({{"architectures", {architecture}}}); };
  const ModelConfig first = bare("LlamaForCausalLM");
  EXPECT_EQ(first.vocabulary, 32000u);
  EXPECT_EQ(first.feed_forward, 11008u);
  EXPECT_EQ(first.key_value_heads, 32u);
  EXPECT_EQ(first.head_width, 128u);
  EXPECT_EQ(first.trained_positions, 2048u);
  EXPECT_EQ(first.activation, Activation::kSilu);
  EXPECT_EQ(bare("MistralForCausalLM").key_value_heads, 8u);
  EXPECT_EQ(bare("MistralForCausalLM").layers[31].window, 4096u);
  EXPECT_EQ(bare("Qwen3ForCausalLM").head_width, 128u);
  const ModelConfig gemma2 = bare("Gemma2ForCausalLM");
  EXPECT_EQ(gemma2.attention_softcap, 50.0f);
  EXPECT_EQ(gemma2.logit_softcap, 30.0f);
  EXPECT_EQ(gemma2.activation, Activation::kGeluTanh);
  EXPECT_EQ(gemma2.layers[0].window, 4096u);
  EXPECT_EQ(gemma2.layers[1].window, 0u);
  EXPECT_TRUE(gemma2.tied_head);
  EXPECT_EQ(bare("Gemma3ForCausalLM").logit_softcap, 0.0f);
  EXPECT_EQ(bare("Gemma3ForCausalLM").vocabulary, 262208u);
  const Json uncapped = {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}};
  EXPECT_EQ(read(of_family("Gemma2ForCausalLM", uncapped)).attention_softcap, 0.0f) << "null means none";
  EXPECT_EQ(read(of_family("Gemma2ForCausalLM", uncapped)).logit_softcap, 0.0f);
}

TEST(Config, AttentionScoresAreCappedInGemma2Only) {
  const Json capped = {{"attn_logit_softcapping", 50.0}, {"final_logit_softcapping", 30.0}};
  EXPECT_EQ(read(of_family("Gemma2ForCausalLM", capped)).attention_softcap, 50.0f);
  EXPECT_EQ(read(of_family("Gemma3ForCausalLM", capped)).attention_softcap, 0.0f);
  EXPECT_EQ(read(of_family("Gemma2ForCausalLM", capped)).logit_softcap, 30.0f);
}

TEST(Config, Activations) {
  for (const auto& [name, activation] :
       std::vector<std::pair<std::string, Activation>>{{"silu", Activation::kSilu},
                                                       {"swish", Activation::kSilu},
                                                       {"gelu", Activation::kGeluErf},
                                                       {"gelu_new", Activation::kGeluTanh},
                                                       {"gelu_pytorch_tanh", Activation::kGeluTanh}}) {
    EXPECT_EQ(read(llama({{"hidden_act", name}})).activation, activation);
  }
  EXPECT_EQ(read(llama({{"hidden_act", "relu2"}})).activation, Activation::kReluSquared);
  EXPECT_EQ(read(of_family("BitNetForCausalLM", {{"hidden_act", nullptr}})).activation, Activation::kReluSquared);
  refused(ErrorCode::kUnsupported, "'quick_gelu'", llama({{"hidden_act", "quick_gelu"}}));
  EXPECT_EQ(read(llama({{"hidden_act", nullptr}})).activation, Activation::kSilu);
  refused(ErrorCode::kBadInput, "hidden_act", llama({{"hidden_act", 3}}));
  Json gemma = of_family("Gemma3ForCausalLM");
  gemma["hidden_act"] = "gelu";
  EXPECT_EQ(read(gemma).activation, Activation::kGeluTanh) << "hidden_activation counts";
  gemma.erase("hidden_activation");
  EXPECT_EQ(read(gemma).activation, Activation::kGeluTanh) << "transformers' class has no field hidden_act";
}

TEST(Config, OtherGraphsAreRefused) {
  refused(ErrorCode::kUnsupported, "use_bidirectional_attention",
          of_family("Gemma3ForCausalLM", {{"use_bidirectional_attention", true}}));
  refused(ErrorCode::kUnsupported, "is_causal", llama({{"is_causal", false}}));
  refused(ErrorCode::kUnsupported, "per_layer_config", llama({{"per_layer_config", {{"1", {{"intermediate_size", 8}}}}}}));
  refused(ErrorCode::kUnsupported, "partial_rotary_factor", llama({{"partial_rotary_factor", 0.5}}));
  refused(ErrorCode::kUnsupported, "partial_rotary_factor",
          llama({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}, {"partial_rotary_factor", 0.25}}}}));
}

// Windows

std::vector<uint32_t> windows(const Json& config) {
  std::vector<uint32_t> found;
  for (const LayerConfig& layer : read(config).layers) found.push_back(layer.window);
  return found;
}
using Windows = std::vector<uint32_t>;

// What the families' classes in transformers assume.
TEST(Config, RotaryBaseAndEpsilonOfAFamilyThatSaysNothing) {
  for (const auto& [name, base, epsilon] : {std::tuple{"LlamaForCausalLM", 1e4, 1e-6f}, {"BitNetForCausalLM", 5e5, 1e-5f}}) {
    const ModelConfig model = read(of_family(name));
    ASSERT_EQ(model.rotaries.size(), 1u);
    EXPECT_NEAR(model.rotaries[0].inverse_wavelengths[1], std::pow(base, -2.0 / model.head_width), 1e-6) << name;
    EXPECT_EQ(model.norm_epsilon, epsilon) << name;
  }
}

TEST(Config, WindowsOfEachFamily) {
  EXPECT_EQ(windows(llama({{"sliding_window", 9}})), (Windows{0, 0, 0})) << "Llama has none";
  EXPECT_EQ(windows(of_family("MistralForCausalLM", {{"sliding_window", 9}})), (Windows{9, 9, 9}));
  EXPECT_EQ(windows(of_family("MistralForCausalLM", {{"sliding_window", nullptr}})), (Windows{0, 0, 0}));
  EXPECT_EQ(windows(of_family("MistralForCausalLM")), (Windows{4096, 4096, 4096}));
  EXPECT_EQ(windows(of_family("Gemma2ForCausalLM", {{"sliding_window", 9}, {"sliding_window_pattern", 3}})), (Windows{9, 0, 9}))
      << "Gemma 2 alternates, whatever the pattern says";
  const Json qwen = {{"sliding_window", 9}, {"use_sliding_window", true}, {"max_window_layers", 2}};
  EXPECT_EQ(windows(of_family("Qwen2ForCausalLM", qwen)), (Windows{0, 0, 9}));
  EXPECT_EQ(windows(of_family("Qwen2ForCausalLM", {{"sliding_window", 9}, {"max_window_layers", 2}})), (Windows{0, 0, 0}));
  const Json types = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows(of_family("Qwen3ForCausalLM", {{"sliding_window", 9}, {"use_sliding_window", true}, {"layer_types", types}})),
            (Windows{9, 0, 9}));
  for (const char* const name : {"MistralForCausalLM", "MinistralForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"}) {
    EXPECT_EQ(windows(of_family(name, {{"sliding_window", 9}, {"layer_types", types}})), (Windows{9, 0, 9})) << name;
    refused(ErrorCode::kBadInput, "no width", of_family(name, {{"sliding_window", nullptr}, {"layer_types", types}}));
  }
  refused(ErrorCode::kBadInput, "no width", of_family("Qwen2ForCausalLM", {{"sliding_window", 9}, {"layer_types", types}}));
  EXPECT_EQ(windows(of_family("Gemma3ForCausalLM", {{"sliding_window", 9}, {"sliding_window_pattern", 2}})), (Windows{9, 0, 9}));
  const ModelConfig gemma = read(of_family(
      "Gemma3ForCausalLM", {{"sliding_window", 9}, {"layer_types", types}, {"rope_theta", 1e6}, {"rope_local_base_freq", 1e4}}));
  EXPECT_EQ(gemma.rotaries.size(), 2u);
  EXPECT_EQ(gemma.layers[0].rotary_index, 1u);
  EXPECT_EQ(gemma.layers[1].rotary_index, 0u);
  EXPECT_EQ(gemma.embedding_scale, std::sqrt(48.0f));
  EXPECT_EQ(gemma.attention_scale, 1.0f / 16.0f) << "query_pre_attn_scalar is 256 unless told";
}

TEST(Config, LayerTypesThatCannotBe) {
  const auto with = [](const Json& types) {
    return of_family("Gemma3ForCausalLM", {{"sliding_window", 9}, {"layer_types", types}});
  };
  refused(ErrorCode::kUnsupported, "chunked_attention", with({"full_attention", "chunked_attention", "full_attention"}));
  refused(ErrorCode::kBadInput, "/layer_types/1: expected a string, found 3", with({"full_attention", 3, "full_attention"}));
  for (const Json& bad : {Json::array(), Json({"full_attention"}), Json("full_attention"), Json(3), Json::object()}) {
    refused(ErrorCode::kBadInput, "/layer_types: expected", with(bad));
  }
  for (const Json& bad : {Json(0), Json(-1), Json("9"), Json(1.5)}) {
    refused(ErrorCode::kBadInput, "sliding_window", of_family("MistralForCausalLM", {{"sliding_window", bad}}));
  }
}

// Rotary parameters

Json with_rope(const Json& parameters) { return llama({{"rope_parameters", parameters}}); }

TEST(ConfigRotary, BothDialectsMeanTheSame) {
  const auto same = [](const Json& newer, const Json& older) {
    const auto a = read(newer).rotaries, b = read(older).rotaries;
    EXPECT_EQ(a, b) << newer << older;
    EXPECT_NE(a, read(llama()).rotaries);
  };
  same(with_rope({{"rope_type", "default"}, {"rope_theta", 5e5}}), llama({{"rope_theta", 5e5}}));
  same(with_rope({{"rope_type", "linear"}, {"rope_theta", 5e5}, {"factor", 4.0}}),
       llama({{"rope_theta", 5e5}, {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}}));
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 32}};
  Json newer = llama3;
  newer["rope_theta"] = 5e5;
  same(with_rope(newer), llama({{"rope_theta", 5e5}, {"rope_scaling", llama3}}));
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  newer = yarn;
  newer["rope_theta"] = 5e5;
  same(with_rope(newer), llama({{"rope_theta", 5e5}, {"rope_scaling", yarn}}));
  // Both at once, agreeing, as some files have it.
  same(llama({{"rope_theta", 5e5}, {"rope_scaling", yarn}, {"rope_parameters", newer}}),
       llama({{"rope_theta", 5e5}, {"rope_scaling", yarn}}));
}

// Against the papers' formulas, written out here.
TEST(ConfigRotary, LinearAndLlama3) {
  const auto base = [](size_t i) { return std::pow(5e5, -static_cast<double>(i) / 4.0); };
  const auto linear = read(with_rope({{"rope_type", "linear"}, {"rope_theta", 5e5}, {"factor", 4.0}})).rotaries[0];
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(double{linear.inverse_wavelengths[i]} / (base(i) / 4.0), 1.0, 1e-5);
  const auto llama3 = read(with_rope({{"rope_type", "llama3"},
                                      {"rope_theta", 5e5},
                                      {"factor", 8.0},
                                      {"low_freq_factor", 1.0},
                                      {"high_freq_factor", 4.0},
                                      {"original_max_position_embeddings", 400}}))
                          .rotaries[0];
  // Wavelengths 2π·{1, 26.6, 707, 18803}: below 400/4 kept, between 100 and 400 mixed, above 400 divided by 8.
  const double mixed = (400.0 / (2.0 * M_PI / base(1)) - 1.0) / 3.0;
  const double expected[] = {base(0), (1.0 - mixed) * base(1) / 8.0 + mixed * base(1), base(2) / 8.0, base(3) / 8.0};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(double{llama3.inverse_wavelengths[i]} / expected[i], 1.0, 1e-5) << i;
}

TEST(ConfigRotary, YarnAmplitude) {
  const Json yarn = {{"rope_type", "yarn"}, {"rope_theta", 1e4}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  EXPECT_NEAR(double{read(with_rope(yarn)).rotaries[0].amplitude}, 0.1 * std::log(4.0) + 1.0, 1e-6);
  Json given = yarn;
  given["attention_factor"] = 1.5;
  EXPECT_EQ(read(with_rope(given)).rotaries[0].amplitude, 1.5f);
}

TEST(ConfigRotary, Conflicts) {
  const Json linear = {{"rope_type", "linear"}, {"factor", 4.0}};
  refused(ErrorCode::kBadInput, "'rope_parameters' and 'rope_theta' contradict",
          llama({{"rope_theta", 1e4}, {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}}));
  refused(ErrorCode::kBadInput, "'rope_parameters' and 'rope_scaling' contradict",
          llama({{"rope_scaling", linear}, {"rope_parameters", {{"rope_type", "linear"}, {"factor", 8.0}}}}));
  refused(ErrorCode::kBadInput, "'rope_parameters' and 'rope_scaling' contradict",
          llama({{"rope_scaling", linear}, {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}));
}

TEST(ConfigRotary, TypesAndValuesThatCannotBe) {
  refused(ErrorCode::kUnsupported, "rotary type 'longrope'", with_rope({{"rope_type", "longrope"}, {"factor", 4.0}}));
  refused(ErrorCode::kUnsupported, "/rope_scaling/mrope_section",
          llama({{"rope_scaling", {{"type", "default"}, {"mrope_section", {1, 1, 2}}}}}));
  refused(ErrorCode::kUnsupported, "layer type", with_rope({{"full_attention", {{"rope_type", "default"}}}}));
  const Json flat = {{"rope_type", "default"}, {"rope_theta", 1e4}};
  refused(ErrorCode::kUnsupported, "full_attention", of_family("Gemma3ForCausalLM", {{"rope_parameters", flat}}));
  const Json further = {{"full_attention", flat}, {"chunked_attention", flat}};
  refused(ErrorCode::kUnsupported, "/chunked_attention", of_family("Gemma3ForCausalLM", {{"rope_parameters", further}}));
  refused(ErrorCode::kUnsupported, "rotary type ''", with_rope({{"rope_type", ""}}));
  refused(ErrorCode::kBadInput, "'linear' needs 'factor'", with_rope({{"rope_type", "linear"}}));
  refused(ErrorCode::kBadInput, "'yarn' needs 'factor'", with_rope({{"rope_type", "yarn"}}));
  refused(ErrorCode::kBadInput, "'llama3' needs 'low_freq_factor'", with_rope({{"rope_type", "llama3"}, {"factor", 8.0}}));
  refused(ErrorCode::kBadInput, "high_freq_factor",
          with_rope({{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}}));
  for (const Json& bad : {Json(0), Json(-4), Json("4"), Json(1e300), Json::array()}) {
    refused(ErrorCode::kBadInput, "factor", with_rope({{"rope_type", "linear"}, {"factor", bad}}));
  }
  refused(ErrorCode::kBadInput, "rope_type", with_rope({{"rope_type", 3}}));
  for (const Json& bad : {Json("yarn"), Json::array(), Json(4)}) {
    refused(ErrorCode::kBadInput, "/rope_parameters: expected a JSON object", with_rope(bad));
    refused(ErrorCode::kBadInput, "/rope_scaling: expected a JSON object", llama({{"rope_scaling", bad}}));
  }
}

TEST(Families, AreListedAndFound) {
  for (const char* const name : {"LlamaForCausalLM", "MistralForCausalLM", "MinistralForCausalLM", "Qwen2ForCausalLM",
                                 "Qwen3ForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"}) {
    ASSERT_NE(find_family(name), nullptr);
    EXPECT_EQ(find_family(name)->architecture, name);
    EXPECT_NE(supported_architectures().find(name), std::string::npos);
    EXPECT_EQ(read(of_family(name)).family, find_family(name));
  }
  EXPECT_EQ(find_family("BertForMaskedLM"), nullptr);
}

}  // namespace
}  // namespace tritllm
