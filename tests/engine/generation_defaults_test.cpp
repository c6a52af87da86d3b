// What a model's side files say about generating with it, wherever and however they say it.
#include "engine/generation_defaults.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "support/expect_error.h"

namespace tritllm {
namespace {

using Tokens = std::vector<TokenId>;

GenerationDefaults defaults(std::string generation, Json config = Json::object()) {
  return read_generation_defaults({{"generation_config.json", std::move(generation)}}, config, 1000, "MODEL");
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
  EXPECT_EQ(read_generation_defaults({}, Json::object(), 10, "MODEL").end_tokens, Tokens{});
}

TEST(GenerationDefaults, EndTokensThatCannotBe) {
  for (const char* const bad : {"1000", "-1", "1.5", "\"2\"", "true", "{}", "[[2]]", "[2, null]", "18446744073709551615",
                                "4294967298", "9223372036854775808", "-9223372036854775808"}) {
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

// Special tokens

std::string bos(const std::string& tokenizer_config) {
  return special_token_text({{"tokenizer_config.json", tokenizer_config}}, "bos_token", "MODEL");
}

TEST(SpecialTokens, AsStringsAndAsObjects) {
  EXPECT_EQ(bos(R"({"bos_token": "<s>"})"), "<s>");
  EXPECT_EQ(bos(R"({"bos_token": {"__type": "AddedToken", "content": "<|begin|>", "lstrip": false}})"), "<|begin|>");
  EXPECT_EQ(bos(R"({"bos_token": null})"), "");
  EXPECT_EQ(bos(R"({"eos_token": "</s>"})"), "");
  EXPECT_EQ(special_token_text({}, "bos_token", "MODEL"), "");
  for (const char* const bad :
       {R"({"bos_token": 1})", R"({"bos_token": ["<s>"]})", R"({"bos_token": {}})", R"({"bos_token": {"content": 3}})", "[]"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: tokenizer_config.json", [&] { bos(bad); });
  }
}

// Chat templates

std::string rendered(const std::vector<SideFile>& files) {
  const auto found = find_chat_template(files, "MODEL");
  if (!found) return "none";
  ChatTemplateInputs inputs;
  inputs.messages = Json::array();
  return found->render(inputs).text;
}

TEST(ChatTemplatePlaces, InTheirOrder) {
  const SideFile in_tokenizer{"tokenizer_config.json", R"({"chat_template": "of tokenizer_config"})"},
      in_json{"chat_template.json", R"({"chat_template": "of json"})"},
      in_additional{"additional_chat_templates/default.jinja", "of additional"}, in_jinja{"chat_template.jinja", "of jinja"},
      other{"additional_chat_templates/rag.jinja", "of another name"};
  EXPECT_EQ(rendered({}), "none");
  EXPECT_EQ(rendered({other}), "none");
  EXPECT_EQ(rendered({other, in_tokenizer}), "of tokenizer_config");
  EXPECT_EQ(rendered({in_tokenizer, in_json}), "of json");
  EXPECT_EQ(rendered({in_tokenizer, in_json, in_additional, other}), "of additional");
  EXPECT_EQ(rendered({in_tokenizer, in_json, in_additional, in_jinja}), "of jinja");
}

TEST(ChatTemplatePlaces, OfSeveralTheDefault) {
  const std::string list = R"({"chat_template": [{"name": "rag", "template": "wrong"}, {"name": "default", "template": "right"}]})";
  EXPECT_EQ(rendered({{"tokenizer_config.json", list}}), "right");
  EXPECT_EQ(rendered({{"chat_template.json", list}}), "right");
  EXPECT_EQ(rendered({{"tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "wrong"}]})"}}), "none");
  EXPECT_EQ(rendered({{"tokenizer_config.json", R"({"chat_template": null})"}}), "none");
}

TEST(ChatTemplatePlaces, BadOnesAreRefusedWithTheirPlace) {
  for (const char* const text : {R"({"chat_template": 3})", R"({"chat_template": {}})", R"({"chat_template": [3]})",
                                 R"({"chat_template": [{"name": "default"}]})", R"({"chat_template": [{"template": "x"}]})",
                                 R"({"chat_template": "{% if %}"})", "{"}) {
    expect_error(ErrorCode::kBadInput, "MODEL: tokenizer_config.json", [&] { rendered({{"tokenizer_config.json", text}}); });
    expect_error(ErrorCode::kBadInput, "MODEL: chat_template.json", [&] { rendered({{"chat_template.json", text}}); });
  }
  expect_error(ErrorCode::kBadInput, "MODEL: chat_template.jinja", [] { rendered({{"chat_template.jinja", "{{"}}); });
}

}  // namespace
}  // namespace tritllm
