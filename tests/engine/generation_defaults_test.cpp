// What a model's side files say about generating with it, wherever and however they say it.
#include "engine/generation_defaults.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "support/expect_error.h"

namespace tritllm {
namespace {

using Tokens = std::vector<TokenId>;

// A tokenizer of single letters and these special tokens.
Json tokenizer_document(const std::vector<std::string>& special) {
  Json added = Json::array();
  for (const std::string& content : special) {
    added.push_back({{"id", 3 + added.size()}, {"content", content}, {"special", true}, {"normalized", false}});
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}}}, {"merges", Json::array()}}}};
}

Tokenizer tokenizer_with(const std::vector<std::string>& special) {
  return Tokenizer::parse(tokenizer_document(special).dump(), "MODEL: tokenizer.json");
}

GenerationDefaults defaults(std::string generation, Json config = Json::object()) {
  return read_generation_defaults({{"generation_config.json", std::move(generation)}}, config, tokenizer_with({}), {}, 1000,
                                  "MODEL");
}

Tokens end_tokens(const std::string& generation, const std::string& config) {
  return defaults("{\"eos_token_id\": " + generation + "}", {{"eos_token_id", Json::parse(config)}}).end_tokens;
}

TEST(GenerationDefaults, EndTokensOfBothFiles) {
  EXPECT_EQ(end_tokens("2", "2"), Tokens{2});
  EXPECT_EQ(end_tokens("[2, 7]", "3"), (Tokens{2, 7, 3}));
  EXPECT_EQ(end_tokens("[7, 7, 2]", "[2, 7, 999]"), (Tokens{7, 2, 999}));
  EXPECT_EQ(end_tokens("null", "5"), Tokens{5});
  EXPECT_EQ(end_tokens("[]", "null"), Tokens{});
  EXPECT_EQ(read_generation_defaults({}, Json::object(), tokenizer_with({}), {}, 10, "MODEL").end_tokens, Tokens{});
  EXPECT_EQ(defaults("{}", {{"text_config", {{"eos_token_id", 4}}}}).end_tokens, Tokens{4});
}

// A fine-tune that taught the tokenizer its new end token and forgot the other two files.
TEST(GenerationDefaults, EndTokensOfTheTokenizer) {
  const Tokenizer tokenizer = tokenizer_with({"<|end|>", "<|im_end|>"});
  const auto end_tokens_with = [&](const std::string& tokenizer_config) {
    return read_generation_defaults(
               {{"generation_config.json", R"({"eos_token_id": 3})"}, {"tokenizer_config.json", tokenizer_config}},
               {{"eos_token_id", 3}}, tokenizer, {}, 1000, "MODEL")
        .end_tokens;
  };
  EXPECT_EQ(end_tokens_with(R"({"eos_token": "<|im_end|>"})"), (Tokens{3, 4}));
  EXPECT_EQ(end_tokens_with(R"({"eos_token": {"content": "<|im_end|>"}})"), (Tokens{3, 4}));
  EXPECT_EQ(end_tokens_with(R"({"eos_token": "<|end|>"})"), Tokens{3});
  EXPECT_EQ(end_tokens_with(R"({"eos_token": "unknown to the tokenizer"})"), Tokens{3});
  EXPECT_EQ(end_tokens_with("{}"), Tokens{3});
}

TEST(GenerationDefaults, RulesThatTheEngineLacksAreSaid) {
  for (const char* const rule : {R"("suppress_tokens": [1])", R"("no_repeat_ngram_size": 3)", R"("num_beams": 4)",
                                 R"("guidance_scale": 1.5)", R"("sequence_bias": [[[1], 2.0]])", R"("forced_bos_token_id": 5)",
                                 R"("token_healing": true)", R"("min_length": 7)", R"("encoder_repetition_penalty": 0.5)"}) {
    const auto found = defaults(fmt::format("{{{}}}", rule));
    ASSERT_EQ(found.warnings.size(), 1u) << rule;
    EXPECT_NE(found.warnings[0].find(std::string(rule).substr(1, 8)), std::string::npos) << found.warnings[0];
  }
  EXPECT_TRUE(
      defaults(R"({"suppress_tokens": null, "bad_words_ids": [], "no_repeat_ngram_size": 0, "num_beams": 1, "guidance_scale": 1.0,
                           "token_healing": false, "min_length": 0, "encoder_repetition_penalty": 1.0, "x": Infinity})")
          .warnings.empty());
}

TEST(GenerationDefaults, TurnEndsThatTheTemplateWrites) {
  const auto end_tokens_of = [](const std::string& chat_template, const std::vector<std::string>& special) {
    const ChatTemplates templates = ChatTemplates::find({{"chat_template.jinja", chat_template}}, "MODEL");
    return read_generation_defaults({}, {{"eos_token_id", 2}}, tokenizer_with(special), templates, 1000, "MODEL").end_tokens;
  };
  EXPECT_EQ(end_tokens_of("{{ messages }}<|im_end|>", {"<|im_end|>"}), (Tokens{2, 3}));
  EXPECT_EQ(end_tokens_of("{{ messages }}", {"<|im_end|>"}), Tokens{2}) << "not the model's format";
  EXPECT_EQ(end_tokens_of("{{ messages }}<|im_end|>", {}), Tokens{2}) << "text for this tokenizer";
  EXPECT_EQ(end_tokens_of("{{ messages }}<|end|>", {"<|end|>"}), (Tokens{2, 3}));
  EXPECT_EQ(end_tokens_of("{{ messages }}<|end|><|return|>", {"<|end|>", "<|return|>"}), Tokens{2}) << "a message of several";
}

TEST(GenerationDefaults, EndTokensWithoutARowAreIgnoredAloud) {
  for (const char* const beyond :
       {"1000", "-1", "18446744073709551615", "4294967298", "9223372036854775808", "-9223372036854775808"}) {
    const GenerationDefaults found = defaults(std::string("{\"eos_token_id\": [7, ") + beyond + "]}");
    EXPECT_EQ(found.end_tokens, Tokens{7});
    ASSERT_EQ(found.warnings.size(), 1u);
    EXPECT_NE(found.warnings[0].find(beyond), std::string::npos) << found.warnings[0];
    EXPECT_NE(found.warnings[0].find("generation_config.json"), std::string::npos) << found.warnings[0];
  }
  EXPECT_TRUE(defaults(R"({"eos_token_id": [7, 999]})").warnings.empty());
}

TEST(GenerationDefaults, EndTokensThatCannotBe) {
  for (const char* const bad : {"1.5", "\"2\"", "true", "{}", "[[2]]", "[2, null]"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: generation_config.json", [&] { end_tokens(bad, "null"); });
    expect_error(ErrorCode::kBadInput, "MODEL: config.json", [&] { end_tokens("null", bad); });
    expect_error(ErrorCode::kBadInput, "'eos_token_id'", [&] { end_tokens(bad, "null"); });
  }
  Json many = Json::array();
  for (int id = 0; id < 64; ++id) many.push_back(id);
  EXPECT_EQ(end_tokens(many.dump(), "null").size(), 64u);
  many.push_back(64);
  expect_error(ErrorCode::kBadInput, "at most 64", [&] { end_tokens(many.dump(), "null"); });
}

TEST(GenerationDefaults, TheModelsSamplerOnlyWhereItSamples) {
  const std::string settings =
      R"("temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.01, "typical_p": 0.8, "repetition_penalty": 1.1)";
  const GenerationDefaults sampled = defaults("{\"do_sample\": true, " + settings + "}");
  EXPECT_TRUE(sampled.sampler_is_the_models);
  EXPECT_EQ(sampled.sampler.temperature, 0.6f);
  EXPECT_EQ(sampled.sampler.top_p, 0.9f);
  EXPECT_EQ(sampled.sampler.top_k, 20u);
  EXPECT_EQ(sampled.sampler.min_p, 0.01f);
  EXPECT_EQ(sampled.sampler.typical_p, 0.8f);
  EXPECT_EQ(sampled.sampler.repeat_penalty, 1.1f);
  for (const std::string& other : {"{" + settings + "}", "{\"do_sample\": false, " + settings + "}", std::string("{}")}) {
    const GenerationDefaults usual = defaults(other);
    EXPECT_FALSE(usual.sampler_is_the_models);
    EXPECT_EQ(usual.sampler.temperature, usual_sampler_options().temperature);
    EXPECT_EQ(usual.sampler.top_k, usual_sampler_options().top_k);
    EXPECT_EQ(usual.sampler.top_p, usual_sampler_options().top_p);
    EXPECT_EQ(usual.sampler.min_p, usual_sampler_options().min_p);
  }
}

TEST(GenerationDefaults, MissingAndNullFieldsAreTheModelsOwnDistribution) {
  for (const char* const text :
       {R"({"do_sample": true})",
        R"({"do_sample": true, "temperature": null, "top_p": null, "top_k": null, "min_p": null, "typical_p": null,
                                     "repetition_penalty": null, "eos_token_id": null})",
        R"({"do_sample": true, "top_p": 0.0, "typical_p": 0})"}) {
    const SamplerOptions options = defaults(text).sampler;
    EXPECT_EQ(options.temperature, 1.0f);
    EXPECT_EQ(options.top_p, 1.0f);
    EXPECT_EQ(options.min_p, 0.0f);
    EXPECT_EQ(options.typical_p, 1.0f);
    EXPECT_EQ(options.repeat_penalty, 1.0f);
    EXPECT_EQ(options.top_k, 50u) << "what transformers samples with where the file is silent";
  }
  EXPECT_EQ(defaults(R"({"do_sample": true, "top_k": 0})").sampler.top_k, 0u);
}

TEST(GenerationDefaults, BadValuesAreRefusedWithTheirName) {
  for (const auto& [key, values] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"temperature", {"-0.1", "101", "1e300", "\"hot\"", "[]", "true"}},
           {"top_p", {"-0.1", "1.1", "\"\"", "{}"}},
           {"top_k", {"-1", "1.5", "4294967296", "\"50\""}},
           {"min_p", {"-1", "2"}},
           {"typical_p", {"-1", "2"}},
           {"repetition_penalty", {"0", "-1", "1000"}},
           {"do_sample", {"1", "\"true\"", "[]"}}}) {
    for (const std::string& value : values) {
      const std::string text = (key == "do_sample" ? "{" : "{\"do_sample\": true, ") + ("\"" + key + "\": ") + value + "}";
      expect_error(ErrorCode::kBadInput, key, [&] { defaults(text); });
      expect_error(ErrorCode::kBadInput, "MODEL: generation_config.json", [&] { defaults(text); });
    }
  }
  for (const char* const text : {"", "[]", "null", "{", "{\"a\": 1, \"a\": 2}", "\xff"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: generation_config.json", [&] { defaults(text); });
  }
}

// Chat templates

std::string rendered(const std::vector<SideFile>& files, bool with_tools = false) {
  return ChatTemplates::find(files, "MODEL").choose(with_tools).render({}).text;
}

// As AutoTokenizer: a jinja file goes before tokenizer_config.json, which goes before chat_template.json (a processor's file).
TEST(ChatTemplatePlaces, InTheirOrder) {
  const SideFile in_tokenizer{"tokenizer_config.json", R"({"chat_template": "of tokenizer_config"})"},
      in_json{"chat_template.json", R"({"chat_template": "of json"})"},
      in_additional{"additional_chat_templates/default.jinja", "of additional"}, in_jinja{"chat_template.jinja", "of jinja"},
      no_template{"tokenizer_config.json", "{}"};
  EXPECT_EQ(rendered({in_json}), "of json");
  EXPECT_EQ(rendered({in_json, no_template}), "of json");
  EXPECT_EQ(rendered({in_tokenizer, in_json}), "of tokenizer_config");
  EXPECT_EQ(rendered({in_tokenizer, in_json, in_jinja}), "of jinja");
  EXPECT_EQ(rendered({in_tokenizer, in_additional}), "of additional");
  EXPECT_EQ(rendered({in_tokenizer, {"chat_template.jinja", ""}}), "") << "an empty template is a template";
}

TEST(ChatTemplatePlaces, OfSeveralTheDefault) {
  const std::string list = R"({"chat_template": [{"name": "rag", "template": "wrong"}, {"name": "default", "template": "right"}]})",
                    by_name = R"({"chat_template": {"tool_use": "for tools", "default": "right"}})";
  EXPECT_EQ(rendered({{"tokenizer_config.json", list}}), "right");
  EXPECT_EQ(rendered({{"chat_template.json", list}}), "right");
  EXPECT_EQ(rendered({{"tokenizer_config.json", list}}, true), "right");
  EXPECT_EQ(rendered({{"tokenizer_config.json", by_name}}), "right");
  EXPECT_EQ(rendered({{"tokenizer_config.json", by_name}}, true), "for tools");
  EXPECT_EQ(rendered({{"chat_template.jinja", "right"}, {"additional_chat_templates/tool_use.jinja", "for tools"}}), "right");
}

TEST(ChatTemplatePlaces, WithoutADefaultTheNamesAreListed) {
  for (const std::vector<SideFile>& files : std::vector<std::vector<SideFile>>{
           {{"tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "wrong"}]})"}},
           {{"tokenizer_config.json", R"({"chat_template": "not looked at"})"}, {"additional_chat_templates/rag.jinja", "wrong"}},
           {{"tokenizer_config.json", R"({"chat_template": {"rag": "wrong"}})"}}}) {
    EXPECT_FALSE(ChatTemplates::find(files, "MODEL").has_default());
    expect_error(ErrorCode::kNotFound, "MODEL: has no chat template called 'default', only 'rag'", [&] { rendered(files); });
  }
  for (const std::vector<SideFile>& files :
       std::vector<std::vector<SideFile>>{{},
                                          {{"tokenizer_config.json", R"({"chat_template": null})"}},
                                          {{"tokenizer_config.json", R"({"chat_template": []})"}}}) {
    EXPECT_FALSE(ChatTemplates::find(files, "MODEL").has_default());
    expect_error(ErrorCode::kNotFound, "MODEL: has no chat template;", [&] { rendered(files); });
  }
}

TEST(ChatTemplatePlaces, BadOnesAreRefusedWithTheirPlace) {
  for (const char* const text : {R"({"chat_template": 3})", R"({"chat_template": {"default": 3}})", R"({"chat_template": [3]})",
                                 R"({"chat_template": [{"name": "default"}]})", R"({"chat_template": [{"template": "x"}]})",
                                 R"({"chat_template": "{% if %}"})", "{"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: tokenizer_config.json", [&] { rendered({{"tokenizer_config.json", text}}); });
    expect_error(ErrorCode::kBadInput, "MODEL: chat_template.json", [&] { rendered({{"chat_template.json", text}}); });
  }
  expect_error(ErrorCode::kBadInput, "MODEL: chat_template.jinja", [] { rendered({{"chat_template.jinja", "{{"}}); });
}

}  // namespace
}  // namespace tritllm
