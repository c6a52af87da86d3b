#include "engine/language_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>

#include "core/error.h"
#include "core/file.h"
#include "engine/named_tokens.h"
#include "io/hf_folder.h"
#include "io/model_location.h"

namespace tritllm {

namespace fs = std::filesystem;

namespace {

Tokenizer tokenizer_of(const std::vector<SideFile>& files, const std::string& where) {
  const SideFile* const file = find_side_file(files, "tokenizer.json");
  if (file == nullptr) {
    throw Error(ErrorCode::kNotFound, where, "has no tokenizer.json",
                "convert the model's tokenizer with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)");
  }
  const std::optional<JsonDocument> added_tokens = completed_added_tokens(files, where);
  return Tokenizer::parse(file->contents, fmt::format("{}: tokenizer.json", where), added_tokens ? &**added_tokens : nullptr);
}

uint32_t context_of(const LoadOptions& options, const ModelConfig& config, const std::string& where) {
  if (options.context == 0) return std::min(config.trained_positions, kUsualContext);
  if (options.context > config.trained_positions) {
    throw Error(ErrorCode::kUsage, "options.context",
                fmt::format("{} tokens were asked for, the model in {} was trained for {}", options.context, where,
                            config.trained_positions));
  }
  return options.context;
}

}  // namespace

Tokenizer load_tokenizer(const fs::path& path) {
  const fs::path found = locate_model(path);
  const bool is_folder = kind_of_target(found) == FileKind::kFolder;
  return tokenizer_of(is_folder ? read_side_files(found) : open_model(found).side_files, found.string());
}

LanguageModel LanguageModel::load(const fs::path& path, const LoadOptions& options) {
  LanguageModel loaded;
  loaded.place_ = path.string();
  loaded.pool_ = std::make_unique<ThreadPool>(options.threads);
  ModelFiles files = open_model_files(path, *loaded.pool_);
  loaded.backend_ = make_backend(options.device, options.arithmetic, *loaded.pool_, device_bytes(files));
  files.on_progress = options.on_progress;
  ModelConfig config = read_model_config(files.config, files.config_place);
  const ModelLimits limits{.positions = context_of(options, config, loaded.place_), .batch_tokens = options.batch_tokens};
  const uint64_t vocabulary = config.vocabulary;
  const std::vector<SideFile> side_files = std::move(files.side_files);
  const JsonDocument stored_config = std::move(files.config);
  loaded.warnings_ = files.warnings;
  // A thread reads the tokenizer while the pool brings the weights into the backend's form. Where the system refuses the thread,
  // get() reads it.
  const auto policy = loaded.pool_->threads() > 1 ? std::launch::async | std::launch::deferred : std::launch::deferred;
  std::future<Tokenizer> tokenizer = std::async(policy, [&] { return tokenizer_of(side_files, loaded.place_); });
  loaded.model_ = std::make_unique<Model>(std::move(files), std::move(config), limits, *loaded.backend_);
  loaded.tokenizer_ = tokenizer.get();
  loaded.chat_templates_ = ChatTemplates::find(side_files, loaded.place_);
  loaded.bos_text_ = special_token_text(side_files, "bos_token", loaded.place_);
  loaded.eos_text_ = special_token_text(side_files, "eos_token", loaded.place_);
  loaded.defaults_ =
      read_generation_defaults(side_files, stored_config, *loaded.tokenizer_, loaded.chat_templates_, vocabulary, loaded.place_);
  loaded.warnings_.insert(loaded.warnings_.end(), loaded.defaults_.warnings.begin(), loaded.defaults_.warnings.end());
  return loaded;
}

std::vector<TokenId> LanguageModel::encode(std::string_view text, bool parse_special) const {
  return tokenizer_->encode(text, {.add_special = true, .parse_special = parse_special, .literal = {}});
}

std::vector<TokenId> LanguageModel::encode_chat(const Json& messages, const Json& variables, const Json& tools) const {
  ChatTemplateInputs inputs;
  inputs.messages = messages;
  inputs.tools = tools;
  inputs.variables = variables;
  inputs.bos_token = bos_text_;
  inputs.eos_token = eos_text_;
  inputs.now = std::chrono::system_clock::now();
  const RenderedPrompt prompt = chat_templates_.choose(/*with_tools=*/!tools.is_null()).render(inputs);
  // The template writes what the post-processor would add.
  return tokenizer_->encode(prompt.text, {.add_special = false, .parse_special = true, .literal = prompt.literal});
}

}  // namespace tritllm
