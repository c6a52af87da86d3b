#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "engine/stop_matcher.h"

namespace tritllm {

namespace {

// Tokens of a prompt in a step whose speed is not known yet: alone, and beside answers, which wait for them.
constexpr size_t kFirstPromptTokensAlone = 32, kFirstPromptTokensBeside = 1;
// A prompt that nobody waits for is computed in larger parts, which read the weights less often.
constexpr double kBudgetsAlone = 10;
// Beside answers a step keeps a reserve, because the times of steps vary.
constexpr double kShareOfBudget = 0.85;
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
  const bool is_given = options.cache_tokens != 0;
  const uint64_t asked = is_given ? (options.cache_tokens - 1) / page + 1 : whole, least = model.pages_per_sequence();
  if (asked < least || asked > UINT32_MAX) {
    throw Error(ErrorCode::kUsage, "cache_tokens",
                fmt::format("{} tokens do not hold one context of {}", options.cache_tokens, model.limits().positions),
                "take a larger cache or a smaller context");
  }
  // Where nobody asked for more than a context, sequences wait for pages rather than fail for want of memory.
  const uint64_t fit = model.backend().free_memory() / std::max<uint64_t>(1, model.cache_bytes(1, options.cache));
  const auto pages = static_cast<uint32_t>(is_given ? asked : std::clamp(fit, least, asked));
  require_memory(model.backend(), model.cache_bytes(pages, options.cache),
                 is_given ? "cache_tokens" : model.limits().positions_field,
                 fmt::format("keys and values of {} tokens", pages * page));
  return pages;
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
      cache_(model.make_cache(pages_.pages(), options.cache)) {
  for (Pass& pass : passes_) {
    pass.step = model.make_step(options.slots);
    pass.chosen = model.backend().make_chosen_tokens(model.limits().logit_rows);
  }
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
  if (running_ != nullptr) {
    Pass& pass = *running_;
    running_ = may_run_ahead(pass) ? &launch_after(pass) : nullptr;
    collect(pass);
    drop_finished();
    note_metrics();
    return true;
  }
  take_orders();
  admit();
  Pass& pass = passes_[0];
  plan(pass);
  const bool busy = !pass.slices.empty();
  if (busy && forward(pass, nullptr)) {
    if (may_be_collected_later(pass)) {
      choose_tokens(pass);
      running_ = &pass;
    } else {
      deliver(pass);
    }
  }
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
  running_ = nullptr;
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

void Engine::plan(Pass& pass) {
  pass.slices.clear();
  pass.tokens.clear();
  pass.places.clear();
  pass.page_lists.clear();
  for (const auto& sequence : live_) {
    if (!sequence->in_prompt() && !sequence->paused()) add_slice(pass, *sequence, 1);
  }
  const bool beside_answers = !pass.tokens.empty();
  size_t room = prompt_room(model_.limits().batch_tokens - pass.tokens.size(), beside_answers);
  pass.prompt_tokens = 0;
  for (size_t i = 0; i < live_.size(); ++i) {
    Sequence& sequence = *live_[i];
    if (!sequence.in_prompt() || sequence.paused() || room == 0 || waits_for_another(i)) continue;
    const uint32_t before = sequence.computed();
    if (const auto copy = pages_.extend(sequence.pages(), sequence.reusable_prompt())) {
      model_.backend().copy_page(*cache_, copy->from, copy->to);
    }
    if (before == 0 || sequence.computed() != before) sequence.note_reused();
    const size_t count = std::min(room, sequence.pending().size());
    add_slice(pass, sequence, count);
    pass.prompt_tokens += count;
    room -= count;
  }
  want_logits(pass);
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
  const double seconds = beside_answers ? prompt_token_seconds_beside_ : prompt_token_seconds_alone_;
  if (seconds == 0) return std::min(free, beside_answers ? kFirstPromptTokensBeside : kFirstPromptTokensAlone);
  const double budget =
      std::chrono::duration<double>(options_.step_budget).count() * (beside_answers ? kShareOfBudget : kBudgetsAlone);
  auto room = static_cast<size_t>(std::min(budget / seconds, 1e9));
  // A few prompt tokens are almost free, because the weights are read anyway: their cost does not predict that of many.
  if (beside_answers) room = std::min(room, prompt_tokens_beside_ + std::max<size_t>(1, prompt_tokens_beside_ / 4));
  return std::min(free, std::max<size_t>(1, room));
}

void Engine::add_slice(Pass& pass, Sequence& sequence, size_t count) {
  const auto sequence_index = static_cast<uint32_t>(pass.slices.size());
  pass.slices.push_back({&sequence, static_cast<uint32_t>(pass.tokens.size()), static_cast<uint32_t>(count)});
  const auto pending = sequence.pending();
  for (size_t i = 0; i < count; ++i) {
    pass.tokens.push_back(pending[i]);
    pass.places.push_back({sequence_index, sequence.computed() + static_cast<uint32_t>(i)});
  }
  pages_.make_room(sequence.pages(), sequence.computed() + static_cast<uint32_t>(count));
  const std::vector<PageId>& pages = sequence.pages().pages;
  pass.page_lists.insert(pass.page_lists.end(), pages.begin(), pages.end());
  pass.page_lists.resize(pass.slices.size() * model_.pages_per_sequence());
}

void Engine::want_logits(Pass& pass) {
  pass.scored.clear();
  pass.wanted.clear();
  for (const Slice& slice : pass.slices) {
    for (uint32_t row = slice.first_row; row < slice.first_row + slice.count; ++row) {
      const uint32_t position = pass.places[row].position;
      if (!slice.sequence->wants_logits(position)) continue;
      pass.scored.push_back(row);
      pass.wanted.push_back({slice.sequence, position});
    }
  }
}

bool Engine::forward(Pass& pass, const ChosenTokens* chosen) {
  pass.begin = std::chrono::steady_clock::now();
  model_.backend().begin(*pass.step, {.tokens = pass.tokens,
                                      .places = pass.places,
                                      .pages = pass.page_lists,
                                      .pages_per_sequence = model_.pages_per_sequence(),
                                      .scored = pass.scored,
                                      .chosen = chosen});
  // A pass over prompts alone may last several budgets; one with answers ends soon.
  if (pass.prompt_tokens == pass.tokens.size() && !model_.backend().asynchronous()) {
    return model_.forward_unless(interrupt_, *pass.step, *cache_);
  }
  model_.forward(*pass.step, *cache_);
  return true;
}

// To be called when the pass has been computed.
void Engine::note_speed(const Pass& pass) noexcept {
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - pass.begin;
  const auto blend = [](double& mean, double newest) { mean = mean == 0 ? newest : mean + kNewest * (newest - mean); };
  if (pass.prompt_tokens == 0) return blend(token_seconds_, time.count());
  const bool alone = pass.prompt_tokens == pass.tokens.size();
  if (!alone) prompt_tokens_beside_ = pass.prompt_tokens;
  const double of_prompts = std::max(time.count() - (alone ? 0.0 : token_seconds_), 1e-9);
  const double of_token = of_prompts / static_cast<double>(pass.prompt_tokens);
  if (alone) return blend(prompt_token_seconds_alone_, of_token);
  // A step that was slower than expected is believed at once: somebody waited for it.
  blend(prompt_token_seconds_beside_, of_token);
  prompt_token_seconds_beside_ = std::max(prompt_token_seconds_beside_, of_token);
}

// Only after the pass: one that failed has put nothing into the cache that may be reused.
void Engine::append_to_cache(const Pass& pass) {
  for (const Slice& slice : pass.slices) {
    pages_.append(slice.sequence->pages(), slice.sequence->pending().first(slice.count));
  }
  computed_prompt_tokens_ += pass.prompt_tokens;
}

void Engine::deliver(Pass& pass) {
  append_to_cache(pass);
  const size_t at_once = model_.limits().logit_rows;
  for (size_t first = 0; first < pass.scored.size(); first += at_once) {
    deliver_block(pass, first, std::min(at_once, pass.scored.size() - first));
  }
  note_speed(pass);
}

void Engine::deliver_block(Pass& pass, size_t first, size_t count) {
  Backend& backend = model_.backend();
  const Rows scores = model_.logits(*pass.step, first, count);
  draws_.assign(count, {});
  drawn_.assign(count, kNoToken);
  std::vector<bool> draws(count, false);
  for (size_t i = 0; i < count; ++i) {
    const auto settings = pass.wanted[first + i].sequence->draw_settings(pass.wanted[first + i].position);
    draws[i] = settings.has_value();
    if (settings) draws_[i] = *settings;
  }
  if (std::ranges::find(draws, true) != draws.end()) {
    backend.choose(scores, draws_, *pass.chosen);
    backend.tokens(*pass.chosen, drawn_);
  }
  const size_t vocabulary = model_.config().vocabulary;
  bool has_logits = false;
  for (size_t i = 0; i < count; ++i) {
    const auto [sequence, position] = pass.wanted[first + i];
    if (sequence->finished()) continue;
    if (sequence->wants_state()) {
      std::vector<float> state(model_.config().hidden);
      backend.read(model_.state(*pass.step, first + i), state);
      sequence->take_state(std::move(state));
      continue;
    }
    if (draws[i] && drawn_[i] != kNoToken) {
      sequence->take_token(drawn_[i]);
      continue;
    }
    if (!std::exchange(has_logits, true)) {
      logits_.resize(count * vocabulary);
      backend.read(scores, std::span(logits_).first(count * vocabulary));
    }
    sequence->take_logits(position, std::span(logits_).subspan(i * vocabulary, vocabulary), room_);
  }
}

bool Engine::may_be_collected_later(const Pass& pass) const noexcept {
  return model_.backend().asynchronous() && pass.prompt_tokens == 0 && pass.wanted.size() <= model_.limits().logit_rows &&
         std::ranges::all_of(pass.wanted, [](const Scored& row) { return row.sequence->draws(); });
}

void Engine::choose_tokens(Pass& pass) {
  draws_.clear();
  for (const auto& [sequence, position] : pass.wanted) draws_.push_back(sequence->draw_settings(position).value());
  model_.backend().choose(model_.logits(*pass.step, 0, pass.wanted.size()), draws_, *pass.chosen);
}

bool Engine::may_run_ahead(const Pass& pass) {
  // Rows of sequences that have ended leave gaps: then the next pass is planned anew.
  if (pass.slices.size() != live_.size() || pass.slices.size() != pass.wanted.size()) return false;
  for (const Slice& slice : pass.slices) {
    if (slice.sequence->paused() || !slice.sequence->goes_on_after_next()) return false;
  }
  const std::lock_guard lock(mutex_);
  const bool may_admit = !waiting_.empty() && live_.size() < options_.slots;
  return !may_admit && cancelled_.empty() && resumed_.empty() && !all_cancelled_;
}

Engine::Pass& Engine::launch_after(const Pass& pass) {
  Pass& next = &pass == &passes_[0] ? passes_[1] : passes_[0];
  next.slices.clear();
  next.tokens.clear();
  next.places.clear();
  next.page_lists.clear();
  next.prompt_tokens = 0;
  for (uint32_t i = 0; i < pass.slices.size(); ++i) {
    Sequence& sequence = *pass.slices[i].sequence;
    const uint32_t position = sequence.computed() + pass.slices[i].count;
    next.slices.push_back({&sequence, i, 1});
    next.tokens.push_back(kChosenToken | i);
    next.places.push_back({i, position});
    pages_.make_room(sequence.pages(), position + 1);
    const std::vector<PageId>& pages = sequence.pages().pages;
    next.page_lists.insert(next.page_lists.end(), pages.begin(), pages.end());
    next.page_lists.resize(next.slices.size() * model_.pages_per_sequence());
  }
  want_logits(next);
  forward(next, pass.chosen.get());
  choose_tokens(next);
  return next;
}

void Engine::collect(Pass& pass) {
  drawn_.resize(pass.wanted.size());
  model_.backend().tokens(*pass.chosen, drawn_);
  append_to_cache(pass);
  note_speed(pass);
  for (size_t i = 0; i < pass.wanted.size(); ++i) {
    if (pass.wanted[i].sequence == nullptr) continue;
    Sequence& sequence = *pass.wanted[i].sequence;
    if (drawn_[i] == kNoToken) sequence.fail("logits: a value is nan or infinite, or every token is at minus infinity");
    else sequence.take_token(drawn_[i]);
  }
  if (running_ == nullptr) return;
  // What the next pass computes for a sequence that has ended is not read.
  std::erase_if(running_->slices, [](const Slice& slice) { return slice.sequence->finished(); });
  for (Scored& row : running_->wanted) {
    if (row.sequence->finished()) row.sequence = nullptr;
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
  const double seconds = prompt_token_seconds_alone_ == 0 ? prompt_token_seconds_beside_ : prompt_token_seconds_alone_;
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
              .prompt_tokens_per_second = seconds == 0 ? 0 : 1 / seconds};
}

EngineMetrics Engine::metrics() const {
  const std::lock_guard lock(mutex_);
  EngineMetrics metrics = metrics_;
  metrics.queued = static_cast<uint32_t>(waiting_.size());
  return metrics;
}

}  // namespace tritllm
