#include "server/model_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/api_error.h"

namespace tritllm::server {

ModelPool::ModelPool(std::vector<ModelName> models, Load load, EngineOptions options)
    : names_(std::move(models)), load_(std::move(load)), options_(options) {
  if (names_.empty()) throw Error(ErrorCode::kUsage, "options.models", "there is none");
  for (size_t i = 0; i < names_.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (names_[i].name == names_[j].name) {
        throw Error(ErrorCode::kUsage, "options.models", fmt::format("two have the name '{}'", names_[i].name),
                    "name them: NAME=PATH");
      }
    }
  }
}

void ModelPool::load_all() {
  std::vector<std::shared_ptr<ServedModel>> all;
  for (const auto& [name, path] : names_) all.push_back(std::make_shared<ServedModel>(name, path, load_(path), options_));
  const std::lock_guard lock(mutex_);
  loaded_ = std::move(all);
}

bool ModelPool::ready() const noexcept {
  const std::lock_guard lock(mutex_);
  return !loaded_.empty();
}

std::shared_ptr<ServedModel> ModelPool::get(const std::optional<std::string>& name) const {
  const std::lock_guard lock(mutex_);
  if (loaded_.empty()) throw ApiError(503, "the model is being loaded", "", "loading");
  if (!name) return loaded_.front();
  const auto found = std::ranges::find_if(loaded_, [&](const auto& model) { return model->name == *name; });
  if (found != loaded_.end()) return *found;
  std::string known;
  for (const auto& model : loaded_) known += (known.empty() ? "'" : ", '") + model->name + "'";
  throw ApiError(404, fmt::format("model: there is no model '{}'; this server has {}", printable(*name, 80), known), "model",
                 "model_not_found");
}

std::vector<std::shared_ptr<ServedModel>> ModelPool::loaded() const {
  const std::lock_guard lock(mutex_);
  return loaded_;
}

}  // namespace tritllm::server
