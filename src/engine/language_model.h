// Owns a model that is ready to talk: weights on a device, tokenizer, chat template and the model's own settings, loaded together
// from one folder or file. Does not own requests (engine.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/device.h"
#include "core/thread_pool.h"
#include "engine/generation_defaults.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tritllm {

inline constexpr uint32_t kUsualContext = 8192;

struct LoadOptions {
  std::string device = "cpu";
  Arithmetic arithmetic = Arithmetic::kInteger;
  unsigned threads = 0;       // 0: all processors
  uint32_t context = 0;       // tokens of a sequence; 0: what the model was trained for, at most kUsualContext
  uint32_t batch_tokens = 0;  // of a forward pass; 0: as many as suit the device
  LoadProgress on_progress = {};
};

class LanguageModel {
 public:
  static LanguageModel load(const std::filesystem::path& path, const LoadOptions& options);

  Model& model() noexcept { return *model_; }
  const Model& model() const noexcept { return *model_; }
  const Tokenizer& tokenizer() const noexcept { return *tokenizer_; }
  const GenerationDefaults& defaults() const noexcept { return defaults_; }
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }
  const ChatTemplates& chat_templates() const noexcept { return chat_templates_; }
  bool has_chat_template() const noexcept { return chat_templates_.has_default(); }

  // Tokens of a text as it stands: names of control tokens in it are text, unless `parse_special`.
  std::vector<TokenId> encode(std::string_view text, bool parse_special = false) const;

  // Tokens of a conversation, written by the model's template up to where its answer begins. Text of the messages never becomes a
  // control token. `tools` are functions that the model may call, in OpenAI's shape; null: none. Throws where the model has no
  // template, or the template refuses the messages.
  std::vector<TokenId> encode_chat(const Json& messages, const Json& variables = Json::object(), const Json& tools = nullptr) const;

 private:
  LanguageModel() = default;

  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
  ChatTemplates chat_templates_;
  std::string bos_text_, eos_text_, place_;
  GenerationDefaults defaults_;
  std::vector<std::string> warnings_;
};

// The tokenizer alone, without the weights.
Tokenizer load_tokenizer(const std::filesystem::path& path);

}  // namespace tritllm
