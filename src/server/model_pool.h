// Owns the models that are served, each with its engine, by name. Does not own requests.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/language_model.h"
#include "engine/service.h"

namespace tritllm::server {

struct ServedModel {
  ServedModel(std::string model_name, std::filesystem::path model_path, LanguageModel&& model, const EngineOptions& options)
      : name(std::move(model_name)), path(std::move(model_path)), language(std::move(model)), engine(language, options) {}

  const std::string name;
  const std::filesystem::path path;
  LanguageModel language;
  EngineService engine;  // after the model, which outlives it
  const std::time_t loaded = std::time(nullptr);

  const Tokenizer& tokenizer() const noexcept { return language.tokenizer(); }
  uint32_t context() const noexcept { return language.model().limits().positions; }
};

struct ModelName {
  std::string name;
  std::filesystem::path path;
};

class ModelPool {
 public:
  using Load = std::function<LanguageModel(const std::filesystem::path&)>;
  // `load` makes a model ready; `options` are those of each one's engine. At least one model.
  ModelPool(std::vector<ModelName> models, Load load, EngineOptions options);

  // Loads every model. Throws what loading throws.
  void load_all();
  bool ready() const noexcept;

  // The model of a request: the first one where the request names none. Throws an ApiError of 404 that lists the names, and of 503
  // while models are loading.
  std::shared_ptr<ServedModel> get(const std::optional<std::string>& name) const;
  std::vector<std::shared_ptr<ServedModel>> loaded() const;

 private:
  const std::vector<ModelName> names_;
  const Load load_;
  const EngineOptions options_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<ServedModel>> loaded_;  // in the order of names_, once all are there
};

}  // namespace tritllm::server
