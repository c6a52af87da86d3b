#include "server/model_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

// Between two looks whether the clients that wait for a model are still there.
constexpr std::chrono::milliseconds kClientInterval{100};

std::string without_latest(const std::string& name) {
  constexpr std::string_view kLatest = ":latest";  // as Ollama's clients write it
  return name.ends_with(kLatest) ? name.substr(0, name.size() - kLatest.size()) : name;
}

std::string mebibytes(uint64_t bytes) { return fmt::format("{} MiB", (bytes + 0xfffff) >> 20); }

}  // namespace

ServedModel::ServedModel(std::string model_name, LanguageModel&& model, const EngineOptions& engine_options)
    : name(std::move(model_name)),
      language(std::move(model)),
      engine(language, engine_options),
      options(engine_options),
      grammars(language.tokenizer(), language.defaults().end_tokens) {}

ModelPool::ModelPool(std::vector<ModelName> models, Load load, PoolOptions options) : load_(std::move(load)), options_(options) {
  if (models.empty()) throw Error(ErrorCode::kUsage, "options.models", "there is none");
  for (ModelName& model : models) {
    if (std::ranges::any_of(entries_, [&](const auto& entry) { return entry->name.name == model.name; })) {
      throw Error(ErrorCode::kUsage, "options.models", fmt::format("two have the name '{}'", model.name), "name them: NAME=PATH");
    }
    auto entry = std::make_unique<Entry>();
    entry->name = std::move(model);
    entry->since = std::time(nullptr);
    entries_.push_back(std::move(entry));
  }
}

ModelPool::~ModelPool() {
  stop_loading();
  // Engines end the answers that are open, and these give back their uses.
  for (const auto& entry : entries_) entry->model.reset();
}

void ModelPool::stop_loading() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ModelPool::start() {
  for (const auto& entry : entries_) {
    entry->facts = read_model_facts(entry->name.path, options_.engine.cache, options_.context);
    entry->weight_bytes = entry->facts->expected_weight_bytes;
    if (const uint64_t least = entry->facts->least_weight_bytes + cache_bytes(*entry, 1); least > options_.max_memory) {
      throw Error(ErrorCode::kUsage, "options.max_memory",
                  fmt::format("'{}' needs {} with one context of {} tokens; the limit is {}", entry->name.name, mebibytes(least),
                              entry->facts->context, mebibytes(options_.max_memory)),
                  "take a larger limit or a smaller context");
    }
  }
  const size_t at_start = options_.max_memory == PoolOptions::kNoLimit ? entries_.size() : 1;
  for (size_t i = 0; i < at_start; ++i) {
    Loaded loaded = make(*entries_[i], options_.max_memory);
    const std::lock_guard lock(mutex_);
    place(*entries_[i], std::move(loaded));
  }
  if (at_start < entries_.size()) thread_ = std::thread([this] { run(); });
  const std::lock_guard lock(mutex_);
  ready_ = true;
}

void ModelPool::place(Entry& entry, Loaded&& loaded) noexcept {
  if (entry.last_request == 0) entry.since = std::time(nullptr);
  entry.weight_bytes = loaded.weight_bytes;
  entry.bytes = loaded.weight_bytes + loaded.cache_bytes;
  entry.model = std::move(loaded.model);
}

bool ModelPool::ready() const noexcept {
  const std::lock_guard lock(mutex_);
  return ready_;
}

void ModelPool::begin_drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  changed_.notify_all();
}

ModelPool::Entry& ModelPool::find(const std::optional<std::string>& name) const {
  if (!ready_) throw ApiError(503, "the model is being loaded", "", "loading");
  if (!name) return *entries_.front();
  for (const std::string& wanted : {*name, without_latest(*name)}) {
    const auto found = std::ranges::find_if(entries_, [&](const auto& entry) { return entry->name.name == wanted; });
    if (found != entries_.end()) return **found;
  }
  std::string known;
  for (const auto& entry : entries_) known += (known.empty() ? "'" : ", '") + entry->name.name + "'";
  throw ApiError(404, fmt::format("model: there is no model '{}'; this server has {}", printable(*name, 80), known), "model",
                 "model_not_found");
}

ModelUse ModelPool::use(Entry& entry) {
  ++entry.uses;
  return {entry.model.get(), [this, &entry](ServedModel*) { release(entry); }};
}

void ModelPool::release(Entry& entry) noexcept {
  const std::lock_guard lock(mutex_);
  if (--entry.uses == 0) changed_.notify_all();
}

ModelUse ModelPool::get(const std::optional<std::string>& name) {
  const std::lock_guard lock(mutex_);
  Entry& entry = find(name);
  if (entry.model) {
    entry.last_request = ++requests_;
    return use(entry);
  }
  if (draining_) throw ApiError(503, "the server is shutting down", "", "shutting_down");
  if (!entry.problem.empty()) throw ApiError(500, entry.problem, "model", "model_not_loaded");
  throw ApiError(503, fmt::format("the model '{}' is not loaded", entry.name.name), "model", "loading");
}

bool ModelPool::must_load(const std::optional<std::string>& name) const {
  const std::lock_guard lock(mutex_);
  const Entry& entry = find(name);
  return !draining_ && (!entry.model || entry.is_leaving);
}

void ModelPool::load_then(const std::optional<std::string>& name, std::function<bool()> is_wanted, std::function<void()> then) {
  {
    const std::lock_guard lock(mutex_);
    Entry& entry = find(name);
    if (waiting_.size() >= options_.engine.queued) throw ApiError(503, "the server is busy: its queue is full", "", "server_busy");
    waiting_.push_back({&entry, std::move(is_wanted), std::move(then)});
  }
  changed_.notify_all();
}

std::vector<ModelState> ModelPool::states() {
  const std::lock_guard lock(mutex_);
  std::vector<ModelState> states;
  if (!ready_) return states;
  states.reserve(entries_.size());
  for (const auto& entry : entries_) states.push_back(state_of(*entry));
  return states;
}

ModelState ModelPool::state(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return state_of(find(name));
}

ModelState ModelPool::state_of(Entry& entry) {
  return {entry.name.name, *entry.facts->json, entry.facts->context, entry.since, entry.model ? use(entry) : nullptr};
}

std::vector<ModelUse> ModelPool::loaded() {
  const std::lock_guard lock(mutex_);
  std::vector<ModelUse> models;
  models.reserve(entries_.size());
  for (const auto& entry : entries_) {
    if (entry->model) models.push_back(use(*entry));
  }
  return models;
}

uint64_t ModelPool::cache_bytes(const Entry& entry, uint64_t contexts) noexcept {
  return contexts * entry.facts->context * entry.facts->cache_bytes_per_token;
}

uint64_t ModelPool::bytes_taken() const noexcept {
  uint64_t bytes = 0;
  for (const auto& entry : entries_) bytes += entry->bytes;
  return bytes;
}

ModelPool::Loaded ModelPool::make(const Entry& entry, uint64_t room) const {
  LanguageModel language = load_(entry.name.path);
  const Model& model = language.model();
  EngineOptions engine = options_.engine;
  const uint64_t weights = model.weight_bytes(), page = model.cache_bytes(1, engine.cache), least = model.pages_per_sequence();
  uint64_t pages = engine.slots * least;
  if (options_.max_memory != PoolOptions::kNoLimit) {
    const uint64_t fit = room > weights ? (room - weights) / page : 0;
    if (fit < least) {
      throw Error(ErrorCode::kUsage, "options.max_memory",
                  fmt::format("'{}' needs {} with one context; {} are left", entry.name.name, mebibytes(weights + least * page),
                              mebibytes(room)),
                  "take a larger limit or a smaller context");
    }
    if (fit < pages) {
      pages = fit;
      engine.cache_tokens = pages * model.backend().page_positions();
    }
  }
  return {std::make_unique<ServedModel>(entry.name.name, std::move(language), engine), weights, pages * page};
}

void ModelPool::run() noexcept {
  Lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Entry& entry = *waiting_.front().entry;
    if (!entry.model) bring(entry, lock);
    // Where nobody wanted it any more, whoever has come since has a turn of his own.
    if (entry.model || !entry.problem.empty() || draining_) answer_waiting(entry, lock);
  }
}

// Whether anybody still waits for it. Forgets those who have left.
bool ModelPool::is_wanted(const Entry& entry) {
  std::erase_if(waiting_, [](const Waiting& waiting) { return !waiting.is_wanted(); });
  return std::ranges::any_of(waiting_, [&](const Waiting& waiting) { return waiting.entry == &entry; });
}

void ModelPool::bring(Entry& entry, Lock& lock) {
  entry.problem.clear();
  if (!make_room(entry, lock)) return;
  const uint64_t room = options_.max_memory - bytes_taken();
  lock.unlock();
  std::optional<Loaded> loaded;
  try {
    loaded = make(entry, room);
  } catch (const std::exception& error) {
    if (options_.on_problem) options_.on_problem(error);
  }
  lock.lock();
  if (loaded) place(entry, std::move(*loaded));
  // A client is not told what lies on the server's disk.
  else entry.problem = fmt::format("the model '{}' could not be loaded; the server's messages say why", entry.name.name);
}

// False where nobody wants the model any more, or the server shuts down. Models in use make room when their answers are complete.
bool ModelPool::make_room(const Entry& entry, Lock& lock) {
  const uint64_t wanted = std::min(entry.weight_bytes + cache_bytes(entry, options_.engine.slots), options_.max_memory);
  std::vector<Entry*> candidates, leaving;
  for (const auto& other : entries_) {
    if (other->model) candidates.push_back(other.get());
  }
  std::ranges::sort(candidates, {}, [](const Entry* other) { return std::pair(other->uses > 0, other->last_request); });
  uint64_t free = options_.max_memory - bytes_taken();
  for (Entry* const other : candidates) {
    if (free >= wanted) break;
    free += other->bytes;
    other->is_leaving = true;
    leaving.push_back(other);
  }
  const auto are_unused = [&] { return std::ranges::all_of(leaving, [](const Entry* other) { return other->uses == 0; }); };
  bool has_room = false;
  while (!draining_ && !has_room && is_wanted(entry)) has_room = changed_.wait_for(lock, kClientInterval, are_unused);
  std::vector<std::unique_ptr<ServedModel>> gone;
  for (Entry* const other : leaving) {
    other->is_leaving = false;
    if (!has_room) continue;
    gone.push_back(std::move(other->model));
    other->bytes = 0;
  }
  lock.unlock();
  gone.clear();
  lock.lock();
  return has_room;
}

void ModelPool::answer_waiting(const Entry& entry, Lock& lock) {
  std::vector<Waiting> served;
  static_cast<void>(is_wanted(entry));
  std::erase_if(waiting_, [&](Waiting& waiting) {
    const bool is_its = waiting.entry == &entry;
    if (is_its) served.push_back(std::move(waiting));
    return is_its;
  });
  lock.unlock();
  for (const Waiting& waiting : served) waiting.then();
  served.clear();
  lock.lock();
}

}  // namespace tritllm::server
