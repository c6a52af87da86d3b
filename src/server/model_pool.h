// Owns the models that are served, each with its engine, by name: which of them are loaded, who uses them, and which makes room for
// another. Does not own requests.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <ctime>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/json_fwd.h"
#include "engine/language_model.h"
#include "engine/service.h"
#include "server/grammar_cache.h"
#include "server/model_facts.h"

namespace tritllm::server {

struct ServedModel {
  ServedModel(std::string model_name, LanguageModel&& model, const EngineOptions& options);

  const std::string name;
  LanguageModel language;
  EngineService engine;  // after the model, which outlives it
  const EngineOptions options;
  GrammarCache grammars;

  const Tokenizer& tokenizer() const noexcept { return language.tokenizer(); }
  uint32_t context() const noexcept { return language.model().limits().positions; }
};

// A model that is loaded and stays so while this exists. Dropping it never destroys the model, so any thread may, the engine's
// included.
using ModelUse = std::shared_ptr<ServedModel>;

struct ModelName {
  std::string name;
  std::filesystem::path path;
};

struct PoolOptions {
  EngineOptions engine;  // of each model
  uint32_t context = 0;  // tokens of a sequence; 0: each model's usual ones
  // Bytes of weights and caches. kNoLimit: all models are loaded at the start, and stay. Otherwise the first one is, and others
  // when they are asked for: the one asked for least recently makes room.
  static constexpr uint64_t kNoLimit = UINT64_MAX;
  uint64_t max_memory = kNoLimit;
  std::function<void(const std::exception&)> on_problem = {};  // is told why a model could not be loaded after the start
};

// A model as lists show it.
struct ModelState {
  const std::string& name;
  const Json& facts;
  uint32_t context;
  std::time_t since;  // when it was loaded for the first time, or else when the pool began
  ModelUse model;     // null where it is not loaded
};

class ModelPool {
 public:
  using Load = std::function<LanguageModel(const std::filesystem::path&)>;
  // At least one model. `load` makes one ready.
  ModelPool(std::vector<ModelName> models, Load load, PoolOptions options);
  // Ends all answers.
  ~ModelPool();
  ModelPool(const ModelPool&) = delete;
  ModelPool& operator=(const ModelPool&) = delete;

  // Loads what is there from the start. Throws what loading throws, and where a model needs more than max_memory.
  void start();
  bool ready() const noexcept;
  // Requests that wait for a model are refused from now on.
  void begin_drain();
  // The same, and waits for a model that is being loaded: no load_then() calls back after this.
  void stop_loading();

  // The model of a request: the first one where the request names none; "NAME:latest" is NAME. Throws an ApiError of 404 that lists
  // the names, of 503 while it is not loaded, and of 500 where it could not be.
  ModelUse get(const std::optional<std::string>& name);

  // Whether the model has to be loaded before get(). Throws an ApiError of 404, and of 503 before start() has returned.
  bool must_load(const std::optional<std::string>& name) const;
  // Calls `then` from the pool's thread once get() answers for this model, with the model or with the error that kept it from being
  // loaded. `is_wanted` is asked before anything is done for it. Neither throws. Throws an ApiError of 503 where too many wait.
  void load_then(const std::optional<std::string>& name, std::function<bool()> is_wanted, std::function<void()> then);

  // Of all models; none before start() has returned.
  std::vector<ModelState> states();
  // Throws as get() does where there is no such model.
  ModelState state(const std::string& name);
  std::vector<ModelUse> loaded();

 private:
  struct Entry {
    ModelName name;
    std::optional<ModelFacts> facts;  // once start() has read them
    std::time_t since = 0;
    std::unique_ptr<ServedModel> model;
    uint64_t weight_bytes = 0;  // in memory: expected, or exact once it was loaded
    uint64_t bytes = 0;         // that the loaded model may take; 0 where it is not loaded
    uint64_t last_request = 0;  // its number among the requests of all models
    size_t uses = 0;
    bool is_leaving = false;  // makes room: new requests wait until it comes back
    std::string problem;      // why it could not be loaded when that was tried last
  };
  struct Waiting {
    Entry* entry;
    std::function<bool()> is_wanted;
    std::function<void()> then;
  };
  struct Loaded {
    std::unique_ptr<ServedModel> model;
    uint64_t weight_bytes = 0, cache_bytes = 0;
  };
  using Lock = std::unique_lock<std::mutex>;

  Entry& find(const std::optional<std::string>& name) const;
  ModelUse use(Entry& entry);
  ModelState state_of(Entry& entry);
  void release(Entry& entry) noexcept;
  // With keys and values of so many contexts.
  static uint64_t cache_bytes(const Entry& entry, uint64_t contexts) noexcept;
  uint64_t bytes_taken() const noexcept;
  // Without the lock. The cache gets what `room` leaves, up to a whole context for each slot.
  Loaded make(const Entry& entry, uint64_t room) const;
  void place(Entry& entry, Loaded&& loaded) noexcept;

  // All of the pool's thread; the lock is held when they are called and when they return.
  void run() noexcept;
  bool is_wanted(const Entry& entry);
  void bring(Entry& entry, Lock& lock);
  bool make_room(const Entry& entry, Lock& lock);
  void answer_waiting(const Entry& entry, Lock& lock);

  const Load load_;
  const PoolOptions options_;
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Entry>> entries_;  // in the order of the names
  std::deque<Waiting> waiting_;
  uint64_t requests_ = 0;
  bool ready_ = false, draining_ = false, stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tritllm::server
