// Owns what a model's own files say about generating with it: the tokens that end an answer, sampling settings and chat templates,
// wherever they are written. Does not own their use.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "io/model_source.h"
#include "sampling/sampler_options.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tritllm {

// The chat templates of a model. Most have one, some have several by name ("default", "tool_use", "rag").
class ChatTemplates {
 public:
  ChatTemplates() = default;

  // In AutoTokenizer's order: chat_template.jinja and additional_chat_templates/NAME.jinja; where there is neither, the
  // "chat_template" of tokenizer_config.json, a text or named texts. chat_template.json, which belongs to a processor, comes last.
  static ChatTemplates find(const std::vector<SideFile>& files, const std::string& where);

  // Whether choose() has a template for a conversation without tools.
  bool has_default() const noexcept { return sources_.contains("default"); }
  // The text of that template; empty where there is none.
  std::string_view default_source() const noexcept { return source(/*with_tools=*/false); }
  // The text of the template that choose() has; empty where there is none.
  std::string_view source(bool with_tools) const noexcept;

  // "tool_use" for a conversation with tools, where the model has it; else "default". Throws an Error that lists the names there
  // are.
  const ChatTemplate& choose(bool with_tools) const;

 private:
  std::string where_;
  std::map<std::string, std::string, std::less<>> sources_;
  std::map<std::string, ChatTemplate, std::less<>> parsed_;  // those that choose() may choose
};

struct GenerationDefaults {
  std::vector<TokenId> end_tokens;  // in the order of the places below
  SamplerOptions sampler;           // the model's where it has them, else this project's
  bool sampler_is_the_models = false;
  std::vector<std::string> warnings;
};

// What a model without settings of its own is sampled with.
SamplerOptions usual_sampler_options();

// End tokens are collected from all places where engines look, so that an answer ends whichever of them a fine-tune forgot:
// generation_config.json, config.json, its "text_config", the tokenizer's eos_token, and the known names of tokens that end a turn
// where the model's own template writes them.
GenerationDefaults read_generation_defaults(const std::vector<SideFile>& files, const Json& config, const Tokenizer& tokenizer,
                                            const ChatTemplates& templates, size_t vocabulary_size, const std::string& where);

}  // namespace tritllm
