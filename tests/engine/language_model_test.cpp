// A model folder that is loaded as a whole: weights, tokenizer, template and settings.
#include "engine/language_model.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "engine/small_engine.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {

using Tokens = std::vector<TokenId>;

class LanguageModelTest : public testing::Test {
 protected:
  LanguageModelTest() {
    SmallLlama llama(kSmallVocabulary + 1);
    llama.config["eos_token_id"] = kEndToken;
    llama.write(folder_.path());
    Json tokenizer = tokenizer_document();
    tokenizer["added_tokens"] = Json::array({added_token(kEndToken, "</s>"), added_token(kEndToken + 1, "<s>")});
    write_plainly(folder_ / "tokenizer.json", tokenizer.dump());
  }
  void write(const std::string& name, const std::string& text) const { write_plainly(folder_ / name, text); }
  LanguageModel load(const LoadOptions& options = {}) const { return LanguageModel::load(folder_.path(), options); }

  TemporaryFolder folder_;
};

TEST_F(LanguageModelTest, TakesEverythingFromTheFolder) {
  write("generation_config.json", R"({"do_sample": true, "temperature": 0.3, "eos_token_id": [3]})");
  write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  write("chat_template.jinja",
        "{{ bos_token }}{% for m in messages %}{{ m.role }} {{ m.content }}{{ eos_token }}{% endfor %}{{ more }}");
  const LanguageModel model = load({.threads = 1});
  EXPECT_EQ(model.defaults().end_tokens, (Tokens{3, kEndToken}));
  EXPECT_EQ(model.defaults().sampler.temperature, 0.3f);
  ASSERT_TRUE(model.has_chat_template());
  EXPECT_EQ(model.model().limits().positions, 256u);
  EXPECT_EQ(model.encode("the </s>"), model.tokenizer().encode("the </s>", {.add_special = true, .parse_special = false}));
  EXPECT_EQ(model.encode("the </s>", true).back(), kEndToken);
  // A control token's name in a message stays text; the template's own are tokens.
  Tokens expected = model.tokenizer().encode("<s>user a");
  for (const TokenId token : model.tokenizer().encode("<s>", {.add_special = false, .parse_special = false}))
    expected.push_back(token);
  for (const TokenId token : model.tokenizer().encode("</s>in")) expected.push_back(token);
  EXPECT_EQ(model.encode_chat({{{"role", "user"}, {"content", "a<s>"}}}, {{"more", "in"}}), expected);
}

TEST_F(LanguageModelTest, TheContextIsTheModelsUnlessAskedFor) {
  EXPECT_EQ(load({.context = 100}).model().limits().positions, 100u);
  expect_error(ErrorCode::kUsage, "257 tokens", [&] { load({.context = 257}); });
  expect_error(ErrorCode::kUsage, "trained for 256", [&] { load({.context = 257}); });
}

TEST_F(LanguageModelTest, WithoutATemplateAChatIsRefused) {
  const LanguageModel model = load();
  EXPECT_FALSE(model.has_chat_template());
  expect_error(ErrorCode::kNotFound, "has no chat template", [&] { model.encode_chat(Json::array()); });
}

TEST_F(LanguageModelTest, WithoutATokenizerNothingIsLoaded) {
  std::filesystem::remove(folder_ / "tokenizer.json");
  expect_error(ErrorCode::kNotFound, "tokenizer.json", [&] { load(); });
  expect_error(ErrorCode::kNotFound, "tokenizer.json", [&] { load_tokenizer(folder_.path()); });
}

TEST_F(LanguageModelTest, UnknownDevicesAreRefused) {
  expect_error(ErrorCode::kUsage, "'tpu'", [&] { load({.device = "tpu"}); });
}

}  // namespace
}  // namespace tritllm
