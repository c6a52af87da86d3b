#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "engine/stop_matcher.h"

namespace tritllm {

namespace {

// Tokens of a prompt in a step whose speed is not known yet.
constexpr size_t kFirstPromptTokens = 32;
// A prompt that nobody waits for is computed in larger parts, which read the weights less often.
constexpr int kBudgetsAlone = 10;
// Fewer tokens of a common beginning are not worth waiting for.
constexpr size_t kWorthWaiting = 32;
// The share of the latest step in the running means of times.
constexpr double kNewest = 0.3;

void check(const GenerationRequest& request, uint32_t vocabulary, uint32_t context) {
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
  validate(request.sampler, vocabulary);
  static_cast<void>(StopMatcher(request.stops));
}

// Every live answer has a token in each step, so a step must have room for all of them.
const EngineOptions& checked(const EngineOptions& options, const ModelLimits& limits) {
  if (options.slots >= 1 && options.slots <= limits.batch_tokens) return options;
  throw Error(ErrorCode::kUsage, "slots",
              fmt::format("expected 1 to {}, the tokens of a forward pass, found {}", limits.batch_tokens, options.slots));
}

uint32_t pages_of(const EngineOptions& options, const Model& model) {
  const uint64_t whole = uint64_t{options.slots} * model.pages_per_sequence();
  const uint64_t page = model.backend().page_positions();
  const uint64_t pages = options.cache_tokens == 0 ? whole : (options.cache_tokens + page - 1) / page;
  if (pages >= model.pages_per_sequence() && pages <= UINT32_MAX) return static_cast<uint32_t>(pages);
  throw Error(ErrorCode::kUsage, "cache_tokens",
              fmt::format("{} tokens do not hold one context of {}", options.cache_tokens, model.limits().positions),
              "take a larger cache or a smaller context");
}

size_t common_beginning(std::span<const TokenId> a, std::span<const TokenId> b) noexcept {
  const auto count = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + count, b.begin()).first - a.begin());
}

}  // namespace

Engine::Engine(Model& model, const Tokenizer& tokenizer, std::vector<TokenId> end_tokens, const EngineOptions& options)
    : model_(model),
      tokenizer_(tokenizer),
      end_tokens_(std::move(end_tokens)),
      options_(checked(options, model.limits())),
      pages_(pages_of(options, model), model.backend().page_positions()),
      cache_(model.make_cache(pages_.pages(), options.cache)),
      step_(model.make_step(options.slots)),
      chosen_(model.backend().make_chosen_tokens(kLogitRows)) {
  metrics_.pages = pages_.pages();
}

std::optional<RequestId> Engine::try_submit(GenerationRequest request, std::shared_ptr<EventSink> sink) {
  check(request, model_.config().vocabulary, model_.limits().positions);
  const std::lock_guard lock(mutex_);
  if (waiting_.size() >= options_.queued) return std::nullopt;
  waiting_.push_back({next_id_, std::move(request), std::move(sink)});
  return next_id_++;
}

RequestId Engine::submit(GenerationRequest request, std::shared_ptr<EventSink> sink) {
  const auto id = try_submit(std::move(request), std::move(sink));
  if (!id) throw Error(ErrorCode::kUsage, "queue", fmt::format("{} requests wait already", options_.queued), "try again later");
  return *id;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
  interrupt_ = true;
}

void Engine::cancel_all() {
  const std::lock_guard lock(mutex_);
  all_cancelled_ = true;
  interrupt_ = true;
}

bool Engine::has_requests() const {
  const std::lock_guard lock(mutex_);
  return !waiting_.empty() || metrics_.live > 0;
}

void Engine::resume(RequestId id) {
  const std::lock_guard lock(mutex_);
  resumed_.push_back(id);
}

bool Engine::step() {
  take_orders();
  admit();
  plan();
  const bool busy = !slices_.empty();
  if (busy && forward()) deliver();
  drop_finished();
  note_metrics();
  return busy;
}

// Cancels and resumes what was asked for.
void Engine::take_orders() {
  std::vector<Queued> ended_in_queue;
  std::vector<Sequence*> ended;
  {
    const std::lock_guard lock(mutex_);
    interrupt_ = false;
    const auto live = [&](RequestId id) {
      const auto found = std::ranges::find_if(live_, [&](const auto& sequence) { return sequence->id() == id; });
      return found == live_.end() ? nullptr : found->get();
    };
    for (const RequestId id : resumed_) {
      if (Sequence* const sequence = live(id)) sequence->resume();
    }
    for (const RequestId id : cancelled_) {
      if (Sequence* const sequence = live(id)) ended.push_back(sequence);
      const auto queued = std::ranges::find_if(waiting_, [&](const Queued& entry) { return entry.id == id; });
      if (queued == waiting_.end()) continue;
      ended_in_queue.push_back(std::move(*queued));
      waiting_.erase(queued);
    }
    if (std::exchange(all_cancelled_, false)) {
      for (const auto& sequence : live_) ended.push_back(sequence.get());
      std::ranges::move(waiting_, std::back_inserter(ended_in_queue));
      waiting_.clear();
    }
    resumed_.clear();
    cancelled_.clear();
  }
  // Outside the lock: a sink may submit the next request.
  for (Sequence* const sequence : ended) {
    if (!sequence->finished()) sequence->cancel();
  }
  for (const Queued& entry : ended_in_queue) end_queued(entry, FinishReason::kCancelled, "");
  drop_finished();
}

void Engine::end_queued(const Queued& entry, FinishReason reason, const std::string& error) {
  GenerationEvent event;
  event.request = entry.id;
  event.finish = reason;
  event.error = error;
  event.prompt_tokens = static_cast<uint32_t>(entry.request.prompt.size());
  entry.sink->accept(std::move(event));
}

void Engine::fail_all(const std::exception_ptr& failure) noexcept {
  std::string message = "the engine failed";
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    message = error.what();
  } catch (...) {
  }
  std::deque<Queued> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
  }
  for (const auto& sequence : live_) {
    if (!sequence->finished()) sequence->fail(message);
  }
  drop_finished();
  for (const Queued& entry : waiting) end_queued(entry, FinishReason::kFailed, message);
  note_metrics();
}

void Engine::admit() {
  while (live_.size() < options_.slots) {
    Queued next;
    std::optional<PageLease> pages;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      const GenerationRequest& request = waiting_.front().request;
      const uint64_t most = uint64_t{request.prompt.size()} + request.max_tokens, context = model_.limits().positions;
      pages = pages_.claim(Sequence::reusable_prompt(request), static_cast<uint32_t>(std::min(most, context)));
      if (!pages) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    try {
      live_.push_back(std::make_unique<Sequence>(next.id, std::move(next.request), next.sink, *pages, tokenizer_, end_tokens_,
                                                 model_.limits().positions, model_.config().vocabulary));
    } catch (const std::bad_alloc&) {
      pages_.release(*pages);
      end_queued(next, FinishReason::kFailed, "out of memory");
    }
  }
}

void Engine::plan() {
  slices_.clear();
  tokens_.clear();
  places_.clear();
  page_lists_.clear();
  for (const auto& sequence : live_) {
    if (!sequence->in_prompt() && !sequence->paused()) add_slice(*sequence, 1);
  }
  const bool beside_answers = !tokens_.empty();
  size_t room = prompt_room(model_.limits().batch_tokens - tokens_.size(), beside_answers);
  prompt_tokens_ = 0;
  for (size_t i = 0; i < live_.size(); ++i) {
    Sequence& sequence = *live_[i];
    if (!sequence.in_prompt() || sequence.paused() || room == 0 || waits_for_another(i)) continue;
    const uint32_t before = sequence.computed();
    if (const auto copy = pages_.extend(sequence.pages(), sequence.reusable_prompt())) {
      model_.backend().copy_page(*cache_, copy->from, copy->to);
    }
    if (before == 0 || sequence.computed() != before) sequence.note_reused();
    const size_t count = std::min(room, sequence.pending().size());
    add_slice(sequence, count);
    prompt_tokens_ += count;
    room -= count;
  }
}

bool Engine::waits_for_another(size_t index) const noexcept {
  const Sequence& own = *live_[index];
  if (own.reusable_prompt().size() == 1) return false;
  return std::any_of(live_.begin(), live_.begin() + static_cast<std::ptrdiff_t>(index), [&](const auto& other) {
    if (!other->in_prompt() || other->paused() || other->computed() < own.computed()) return false;
    const size_t common = common_beginning(own.prompt(), other->prompt());
    return other->computed() < common && common >= own.computed() + kWorthWaiting;
  });
}

size_t Engine::prompt_room(size_t free, bool beside_answers) const noexcept {
  if (prompt_token_seconds_ == 0) return std::min(free, kFirstPromptTokens);
  const double budget = std::chrono::duration<double>(options_.step_budget).count() * (beside_answers ? 1 : kBudgetsAlone);
  return std::min(free, std::max<size_t>(1, static_cast<size_t>(std::min(budget / prompt_token_seconds_, 1e9))));
}

void Engine::add_slice(Sequence& sequence, size_t count) {
  const auto sequence_index = static_cast<uint32_t>(slices_.size());
  slices_.push_back({&sequence, static_cast<uint32_t>(tokens_.size()), static_cast<uint32_t>(count)});
  const auto pending = sequence.pending();
  for (size_t i = 0; i < count; ++i) {
    tokens_.push_back(pending[i]);
    places_.push_back({sequence_index, sequence.computed() + static_cast<uint32_t>(i)});
  }
  pages_.make_room(sequence.pages(), sequence.computed() + static_cast<uint32_t>(count));
  const std::vector<PageId>& pages = sequence.pages().pages;
  page_lists_.insert(page_lists_.end(), pages.begin(), pages.end());
  page_lists_.resize(slices_.size() * model_.pages_per_sequence());
}

bool Engine::forward() {
  scored_.clear();
  wanted_.clear();
  for (const Slice& slice : slices_) {
    for (uint32_t i = 0; i < slice.count; ++i) {
      const uint32_t position = slice.sequence->computed() + i;
      if (!slice.sequence->wants_logits(position)) continue;
      scored_.push_back(slice.first_row + i);
      wanted_.push_back({slice.sequence, position});
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  model_.backend().begin(*step_, {.tokens = tokens_,
                                  .places = places_,
                                  .pages = page_lists_,
                                  .pages_per_sequence = model_.pages_per_sequence(),
                                  .scored = scored_});
  // A pass over prompts alone may last several budgets; one with answers ends soon.
  if (prompt_tokens_ == tokens_.size()) {
    if (!model_.forward_unless(interrupt_, *step_, *cache_)) return false;
  } else {
    model_.forward(*step_, *cache_);
  }
  note_speed(std::chrono::steady_clock::now() - begin);
  return true;
}

void Engine::note_speed(std::chrono::duration<double> time) noexcept {
  const auto blend = [](double& mean, double newest) { mean = mean == 0 ? newest : mean + kNewest * (newest - mean); };
  if (prompt_tokens_ == 0) return blend(token_seconds_, time.count());
  const double of_prompt = std::max(time.count() - (prompt_tokens_ == tokens_.size() ? 0.0 : token_seconds_), 1e-9);
  blend(prompt_token_seconds_, of_prompt / static_cast<double>(prompt_tokens_));
}

void Engine::deliver() {
  // Only now: a pass that failed has put nothing into the cache that may be reused.
  for (const Slice& slice : slices_) {
    pages_.append(slice.sequence->pages(), std::span(tokens_).subspan(slice.first_row, slice.count));
  }
  for (size_t first = 0; first < scored_.size(); first += kLogitRows) {
    deliver_block(first, std::min(kLogitRows, scored_.size() - first));
  }
  computed_prompt_tokens_ += prompt_tokens_;
}

void Engine::deliver_block(size_t first, size_t count) {
  Backend& backend = model_.backend();
  const Rows scores = model_.logits(*step_, first, count);
  draws_.assign(count, {});
  std::vector<bool> drawn(count, false);
  for (size_t i = 0; i < count; ++i) {
    const auto settings = wanted_[first + i].sequence->draw_settings(wanted_[first + i].position);
    drawn[i] = settings.has_value();
    if (settings) draws_[i] = *settings;
  }
  const bool any = std::ranges::find(drawn, true) != drawn.end();
  drawn_.assign(count, kNoToken);
  if (any) {
    backend.choose(scores, draws_, *chosen_);
    backend.tokens(*chosen_, drawn_);
  }
  const size_t vocabulary = model_.config().vocabulary;
  bool has_logits = false;
  for (size_t i = 0; i < count; ++i) {
    const auto [sequence, position] = wanted_[first + i];
    if (sequence->finished()) continue;
    if (drawn[i] && drawn_[i] != kNoToken) {
      sequence->take_token(drawn_[i]);
      continue;
    }
    if (!std::exchange(has_logits, true)) {
      logits_.resize(kLogitRows * vocabulary);
      backend.read(scores, std::span(logits_).first(count * vocabulary));
    }
    sequence->take_logits(position, std::span(logits_).subspan(i * vocabulary, vocabulary), room_);
  }
}

void Engine::drop_finished() {
  std::erase_if(live_, [&](const auto& sequence) {
    if (!sequence->finished()) return false;
    pages_.release(sequence->pages());
    ++finished_;
    reused_tokens_ += sequence->reused();
    generated_tokens_ += sequence->generated();
    return true;
  });
}

void Engine::note_metrics() {
  const std::lock_guard lock(mutex_);
  metrics_ = {.queued = 0,
              .live = static_cast<uint32_t>(live_.size()),
              .pages = pages_.pages(),
              .pages_used = pages_.used(),
              .pages_shared = pages_.shared(),
              .prompt_tokens = computed_prompt_tokens_,
              .reused_tokens = reused_tokens_,
              .generated_tokens = generated_tokens_,
              .finished_requests = finished_,
              .prompt_tokens_per_second = prompt_token_seconds_ == 0 ? 0 : 1 / prompt_token_seconds_};
}

EngineMetrics Engine::metrics() const {
  const std::lock_guard lock(mutex_);
  EngineMetrics metrics = metrics_;
  metrics.queued = static_cast<uint32_t>(waiting_.size());
  return metrics;
}

}  // namespace tritllm
