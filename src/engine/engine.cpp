#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "core/error.h"

namespace tritllm {

namespace {

// Tokens of prompts in a step that also writes answers: so few that nobody's answer waits long for another's prompt.
constexpr size_t kPromptTokensBesideAnswers = 64;
// Rows of logits that are in memory at a time.
constexpr size_t kLogitBlock = 32;

void check_prompt(const GenerationRequest& request, uint32_t vocabulary, uint32_t context) {
  if (request.prompt.empty()) throw Error(ErrorCode::kUsage, "prompt", "holds no token");
  for (const TokenId token : request.prompt) {
    if (token < vocabulary) continue;
    throw Error(ErrorCode::kUsage, "prompt", fmt::format("token {} is not below the vocabulary's size {}", token, vocabulary));
  }
  if (request.prompt.size() >= context) {
    throw Error(ErrorCode::kUsage, "prompt",
                fmt::format("{} tokens leave no room for an answer in a context of {}", request.prompt.size(), context),
                "shorten the prompt or load the model with a larger context");
  }
  if (request.top_log_probabilities > kMostReportedProbabilities) {
    throw Error(ErrorCode::kUsage, "top_log_probabilities",
                fmt::format("expected at most {}, found {}", kMostReportedProbabilities, request.top_log_probabilities));
  }
}

// Every live answer has a token in each step, so a step must have room for all of them.
uint32_t checked_slots(const EngineOptions& options, const ModelLimits& limits) {
  if (options.slots >= 1 && options.slots <= limits.batch_tokens) return options.slots;
  throw Error(ErrorCode::kUsage, "slots",
              fmt::format("expected 1 to {}, the tokens of a forward pass, found {}", limits.batch_tokens, options.slots));
}

}  // namespace

Engine::Engine(Model& model, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens, const EngineOptions& options)
    : model_(model),
      tokenizer_(tokenizer),
      end_tokens_(std::move(end_tokens)),
      cache_(model.make_cache(checked_slots(options, model.limits()), options.cache)),
      slots_(options.slots),
      logits_(kLogitBlock * model.config().vocabulary) {}

RequestId Engine::submit(GenerationRequest request, GenerationListener listener) {
  const uint32_t vocabulary = model_.config().vocabulary, context = model_.limits().positions;
  check_prompt(request, vocabulary, context);
  const std::lock_guard lock(mutex_);
  auto sequence =
      std::make_unique<Sequence>(next_id_, std::move(request), std::move(listener), tokenizer_, end_tokens_, context, vocabulary);
  waiting_.push_back(std::move(sequence));
  return next_id_++;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
}

bool Engine::step() {
  std::exception_ptr failure;
  end_cancelled(failure);
  admit();
  const bool busy = !live_.empty();
  if (busy) {
    const std::vector<Share> shares = plan();
    model_.forward(tokens_, places_, *cache_);
    deliver(shares, failure);
    drop_finished();
  }
  if (failure) std::rethrow_exception(failure);
  return busy;
}

void Engine::end_cancelled(std::exception_ptr& failure) {
  std::vector<std::unique_ptr<Sequence>> ended;
  {
    const std::lock_guard lock(mutex_);
    for (const RequestId id : cancelled_) {
      const auto is_meant = [&](const auto& sequence) { return sequence->id() == id; };
      if (const auto found = std::find_if(waiting_.begin(), waiting_.end(), is_meant); found != waiting_.end()) {
        ended.push_back(std::move(*found));
        waiting_.erase(found);
      }
      if (const auto found = std::find_if(live_.begin(), live_.end(), is_meant); found != live_.end()) {
        slots_.release((*found)->slot());
        ended.push_back(std::move(*found));
        live_.erase(found);
      }
    }
    cancelled_.clear();
  }
  for (const auto& sequence : ended) {  // outside the lock: a listener may submit the next request
    try {
      sequence->cancel();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
}

void Engine::admit() {
  const std::lock_guard lock(mutex_);
  while (!waiting_.empty()) {
    const GenerationRequest& request = waiting_.front()->request();
    // Where the prompt is to be scored, every token of it has to be computed.
    const auto claim = slots_.claim(request.prompt_log_probabilities ? std::span(request.prompt).first(1) : request.prompt);
    if (!claim) return;
    waiting_.front()->start(claim->slot, claim->reused);
    live_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

std::vector<Engine::Share> Engine::plan() {
  tokens_.clear();
  places_.clear();
  std::vector<Share> shares;
  for (const auto& sequence : live_) {
    if (!sequence->in_prompt()) add_share(*sequence, 1, shares);
  }
  const size_t free = model_.limits().batch_tokens - tokens_.size();
  size_t room = tokens_.empty() ? free : std::min(free, kPromptTokensBesideAnswers);
  for (const auto& sequence : live_) {
    if (!sequence->in_prompt() || room == 0) continue;
    const size_t count = std::min(room, sequence->pending().size());
    add_share(*sequence, count, shares);
    room -= count;
  }
  return shares;
}

void Engine::add_share(Sequence& sequence, size_t count, std::vector<Share>& shares) {
  shares.push_back({&sequence, static_cast<uint32_t>(tokens_.size()), static_cast<uint32_t>(count)});
  const auto pending = sequence.pending();
  for (size_t i = 0; i < count; ++i) {
    tokens_.push_back(pending[i]);
    places_.push_back({sequence.slot(), sequence.computed() + static_cast<uint32_t>(i)});
  }
}

void Engine::deliver(const std::vector<Share>& shares, std::exception_ptr& failure) {
  struct Wanted {
    Sequence* sequence;
    uint32_t position;
  };
  std::vector<Wanted> wanted;
  std::vector<uint32_t> rows;
  for (const Share& share : shares) {
    for (uint32_t i = 0; i < share.count; ++i) {
      const uint32_t position = share.sequence->computed() + i;
      if (!share.sequence->wants_logits(position)) continue;
      wanted.push_back({share.sequence, position});
      rows.push_back(share.first_row + i);
    }
    // Only now: a pass that failed has put nothing into the cache that may be reused.
    for (uint32_t i = 0; i < share.count; ++i) slots_.append(share.sequence->slot(), tokens_[share.first_row + i]);
    share.sequence->advance(share.count);
  }
  const size_t vocabulary = model_.config().vocabulary;
  for (size_t first = 0; first < rows.size(); first += kLogitBlock) {
    const size_t count = std::min(kLogitBlock, rows.size() - first);
    model_.logits(std::span(rows).subspan(first, count), logits_);
    for (size_t i = 0; i < count; ++i) {
      const auto& [sequence, position] = wanted[first + i];
      if (sequence->finished()) continue;
      try {
        sequence->take_logits(position, std::span(logits_).subspan(i * vocabulary, vocabulary));
      } catch (...) {
        sequence->abandon();
        if (!failure) failure = std::current_exception();
      }
    }
  }
}

void Engine::drop_finished() {
  std::erase_if(live_, [&](const auto& sequence) {
    if (sequence->finished()) slots_.release(sequence->slot());
    return sequence->finished();
  });
}

}  // namespace tritllm
