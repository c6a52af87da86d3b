#include "tasks/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <random>

#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "engine/engine.h"
#include "engine/language_model.h"

namespace tritllm {

namespace {

constexpr uint32_t kTogether = 32;  // sequences that are written at the same time
constexpr size_t kChatShare = 5;    // one sequence of so many begins as a conversation

std::string text_of(const CalibrationText& text) {
  std::string all;
  for (const auto& path : text.files) all += read_text_file(path);
  return all;
}

// What the chat template writes before the text of a user's message; empty where there is no template, or it puts no text in as it
// is.
std::vector<TokenId> beginning_of_message(const LanguageModel& model) {
  if (!model.has_chat_template()) return {};
  try {
    const auto encode = [&](const char* content) {
      return model.encode_chat(Json::array({{{"role", "user"}, {"content", content}}}));
    };
    const std::vector<TokenId> one = encode("Why"), other = encode("Yes");
    const auto ends = std::mismatch(one.begin(), one.end(), other.begin(), other.end());
    return {one.begin(), ends.first};
  } catch (const Error&) {
    return {};
  }
}

std::vector<TokenId> beginning(const LanguageModel& model, const std::vector<TokenId>& message, size_t index,
                               std::mt19937_64& random) {
  if (!message.empty() && index % kChatShare == 0) return message;
  std::vector<TokenId> tokens = model.tokenizer().prefix_tokens();
  const uint64_t vocabulary = std::min<uint64_t>(model.tokenizer().vocabulary_size(), model.model().config().vocabulary);
  TokenId token = 0;
  do token = static_cast<TokenId>(random() % vocabulary);
  while (!model.tokenizer().is_known(token));
  tokens.push_back(token);
  return tokens;
}

}  // namespace

std::string description(const CalibrationText& text) {
  if (text.is_own()) return fmt::format("own text, {} x {} tokens, seed {}", text.sequences, text.tokens, text.seed);
  return fmt::format("text {}, {} x {} tokens", checksum_of(text_of(text)), text.sequences, text.tokens);
}

TokenSequences read_calibration_text(const CalibrationText& text, const std::filesystem::path& model) {
  const Tokenizer tokenizer = load_tokenizer(model);
  const std::vector<TokenId> tokens = tokenizer.encode(text_of(text)), prefix = tokenizer.prefix_tokens();
  const size_t windows = tokens.size() / text.tokens;
  if (windows == 0) {
    throw Error(ErrorCode::kUsage, "options.calibration.files",
                fmt::format("{} tokens do not fill one sequence of {}", tokens.size(), text.tokens),
                "give more text, or shorter sequences (options.calibration.tokens)");
  }
  const size_t count = std::min<size_t>(windows, text.sequences);
  TokenSequences sequences;
  for (size_t i = 0; i < count; ++i) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(i * windows / count * text.tokens);
    sequences.emplace_back(begin, begin + text.tokens);
    std::copy_n(prefix.begin(), std::min<size_t>(prefix.size(), text.tokens), sequences.back().begin());
  }
  return sequences;
}

uint64_t writing_memory(const ModelConfig& config, const CalibrationText& text) noexcept {
  // Weights in float32, which mapped ones take less than; keys and values in FP16; rows of logits.
  const uint64_t hidden = config.hidden, heads = config.query_width() + config.key_value_width();
  const uint64_t weights = hidden * (config.vocabulary + uint64_t{config.layer_count} * (2 * heads + 3 * config.feed_forward));
  const uint64_t together = std::min(kTogether, text.sequences);
  const uint64_t cached = together * (text.tokens + 1) * config.layer_count * 2 * config.key_value_width();
  return weights * sizeof(float) + cached * sizeof(uint16_t) + 2 * together * config.vocabulary * sizeof(float);
}

TokenSequences write_calibration_text(const CalibrationText& text, const std::filesystem::path& model, const std::string& device,
                                      unsigned threads, const std::function<void()>& on_token) {
  LanguageModel writer = LanguageModel::load(model, {.device = device, .threads = threads, .context = text.tokens + 1});
  const uint32_t together = std::min({kTogether, text.sequences, writer.model().limits().batch_tokens});
  Engine engine(writer.model(), writer.tokenizer(), {}, {.slots = together});
  const std::vector<TokenId> message = beginning_of_message(writer);
  std::mt19937_64 random(text.seed);
  TokenSequences sequences(text.sequences);
  std::exception_ptr failure;
  for (uint32_t i = 0; i < text.sequences; ++i) {
    sequences[i] = beginning(writer, message, i, random);
    sequences[i].resize(std::min<size_t>(sequences[i].size(), text.tokens));
    if (sequences[i].size() == text.tokens) continue;
    GenerationRequest request;
    request.prompt = sequences[i];
    request.sampler.seed = random();
    request.max_tokens = text.tokens - static_cast<uint32_t>(sequences[i].size());
    request.ignore_end_tokens = true;
    engine.submit(std::move(request), std::make_shared<FunctionSink>([&, i](const GenerationEvent& event) {
                    if (event.token) sequences[i].push_back(*event.token);
                    if (failure) return;
                    try {
                      if (event.finish == FinishReason::kFailed)
                        throw Error(ErrorCode::kBadInput, model.string(), "cannot write its own calibration text: " + event.error,
                                    "give it a text (options.calibration.files)");
                      on_token();
                    } catch (...) {
                      failure = std::current_exception();
                      engine.cancel_all();
                    }
                  }));
  }
  engine.run();
  if (failure) std::rethrow_exception(failure);
  return sequences;
}

}  // namespace tritllm
