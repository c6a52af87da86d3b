#include "tasks/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/error.h"
#include "model/plain_sequences.h"

namespace tritllm {

namespace {

// A model that reads windows, one after the other.
class WindowedModel {
 public:
  WindowedModel(const std::filesystem::path& path, const EvaluateOptions& options)
      : language_model_(LanguageModel::load(path, {.device = options.device,
                                                   .arithmetic = options.arithmetic,
                                                   .threads = options.threads,
                                                   .context = options.context,
                                                   .on_progress = options.on_load})),
        sequence_(language_model_.model(), 1, options.cache) {}

  const LanguageModel& language_model() const noexcept { return language_model_; }
  size_t vocabulary() const noexcept { return language_model_.model().config().vocabulary; }
  Backend& backend() const noexcept { return language_model_.model().backend(); }

  // Computes tokens [first, first + count) of the window; logits are wanted after those of [begin, end).
  void read(std::span<const TokenId> window, size_t first, size_t count, size_t begin, size_t end, ForwardObserver* observer) {
    std::vector<TokenPlace> places;
    for (size_t i = 0; i < count; ++i) places.push_back({0, static_cast<uint32_t>(first + i)});
    std::vector<uint32_t> scored;
    for (size_t i = begin; i < end; ++i) scored.push_back(static_cast<uint32_t>(i - first));
    sequence_.forward(window.subspan(first, count), places, scored, observer);
  }

  const ModelLimits& limits() const noexcept { return language_model_.model().limits(); }

  // Of the wanted rows [first, first + count) of the latest read(), count up to limits().logit_rows.
  std::span<const float> logits(size_t first, size_t count) {
    logits_.resize(std::max(logits_.size(), count * vocabulary()));
    const auto out = std::span(logits_).first(count * vocabulary());
    sequence_.logits(first, count, out);
    return out;
  }

 private:
  LanguageModel language_model_;
  PlainSequences sequence_;
  std::vector<float> logits_;
};

// Squared error and energy of the hidden states after each layer, against those of the reference.
class LayerErrors {
 public:
  // Keeps the hidden states of the reference.
  class Remember final : public ForwardObserver {
   public:
    Remember(LayerErrors& errors, Backend& backend) : errors_(errors), backend_(backend) {}
    void after_layer(uint32_t layer, Rows hidden) override {
      errors_.reference_.resize(std::max<size_t>(errors_.reference_.size(), layer + 1));
      errors_.reference_[layer] = values_of(hidden, backend_);
    }

   private:
    LayerErrors& errors_;
    Backend& backend_;
  };
  // Compares those of the model with them.
  class Compare final : public ForwardObserver {
   public:
    Compare(LayerErrors& errors, Backend& backend) : errors_(errors), backend_(backend) {}
    void after_layer(uint32_t layer, Rows hidden) override { errors_.add(layer, values_of(hidden, backend_)); }

   private:
    LayerErrors& errors_;
    Backend& backend_;
  };

  std::vector<double> relative() const {
    std::vector<double> errors;
    for (const Sums& sums : sums_) errors.push_back(sums.energy > 0.0 ? std::sqrt(sums.error / sums.energy) : 0.0);
    return errors;
  }

 private:
  struct Sums {
    double error = 0, energy = 0;
  };

  static std::vector<float> values_of(Rows rows, Backend& backend) {
    std::vector<float> values(rows.count * rows.width());
    backend.read(rows, values);
    return values;
  }

  void add(uint32_t layer, const std::vector<float>& hidden) {
    if (layer >= reference_.size() || reference_[layer].size() != hidden.size()) return;  // another number of layers, or width
    sums_.resize(std::max<size_t>(sums_.size(), layer + 1));
    for (size_t i = 0; i < hidden.size(); ++i) {
      const double difference = double{hidden[i]} - double{reference_[layer][i]};
      sums_[layer].error += difference * difference;
      sums_[layer].energy += double{reference_[layer][i]} * double{reference_[layer][i]};
    }
  }

  std::vector<std::vector<float>> reference_;
  std::vector<Sums> sums_;
};

class Evaluator {
 public:
  explicit Evaluator(const EvaluateOptions& options) : options_(options), model_(options.model, options) {
    if (options.reference) reference_.emplace(*options.reference, options);
    tokens_ = model_.language_model().encode(options.text);
    check_tokens(tokens_);
    check_tokens(model_.language_model().tokenizer().prefix_tokens());
    if (reference_) check_agreement();
    windows_ = tokens_.size() / options.context;
    if (windows_ == 0) {
      throw Error(ErrorCode::kUsage, "options.text",
                  fmt::format("{} tokens do not fill one window of {}", tokens_.size(), options.context),
                  "give more text, or a smaller options.context");
    }
    if (options.windows != 0) windows_ = std::min(windows_, options.windows);
  }

  uint64_t windows() const noexcept { return windows_; }

  void score_window(uint64_t index) {
    const auto window = window_tokens(index);
    const size_t first_scored = options_.scored == ScoredPart::kSecondHalf ? options_.context / 2 : 0;
    const size_t batch = std::min<size_t>(options_.context, least_of_both(&ModelLimits::batch_tokens));
    for (size_t first = 0; first < window.size(); first += batch) {
      const size_t count = std::min(batch, window.size() - first);
      // The last token's successor lies in the next window.
      const size_t begin = std::min(std::max(first, first_scored), first + count), end = std::min(first + count, window.size() - 1);
      if (reference_) {
        LayerErrors::Remember remember(layer_errors_, reference_->backend());
        reference_->read(window, first, count, begin, std::max(begin, end), index == 0 ? &remember : nullptr);
      }
      LayerErrors::Compare compare(layer_errors_, model_.backend());
      model_.read(window, first, count, begin, std::max(begin, end), index == 0 && reference_ ? &compare : nullptr);
      score_rows(window, begin, end);
    }
  }

  double perplexity_so_far() const { return std::exp(mean_estimate(losses_).value); }

  Evaluation result() const {
    Evaluation evaluation;
    evaluation.perplexity = exponential_estimate(mean_estimate(losses_));
    evaluation.windows = windows_;
    evaluation.tokens_scored = losses_.size();
    evaluation.warnings = model_.language_model().warnings();
    if (!reference_) return evaluation;
    evaluation.layer_errors = layer_errors_.relative();
    evaluation.sorted_divergences = divergences_;
    std::sort(evaluation.sorted_divergences.begin(), evaluation.sorted_divergences.end());
    std::vector<double> differences(losses_.size());
    std::transform(losses_.begin(), losses_.end(), reference_losses_.begin(), differences.begin(), std::minus<>());
    evaluation.divergence = {.mean = mean_estimate(divergences_),
                             .median = quantile_estimate(evaluation.sorted_divergences, 0.5),
                             .percentile_99 = quantile_estimate(evaluation.sorted_divergences, 0.99),
                             .same_top_token = mean_estimate(same_top_),
                             .largest = evaluation.sorted_divergences.back(),
                             .reference_perplexity = exponential_estimate(mean_estimate(reference_losses_)),
                             .log_perplexity_ratio = mean_estimate(differences)};
    return evaluation;
  }

 private:
  // A tokenizer may know tokens that the model has no embedding of.
  void check_tokens(std::span<const TokenId> tokens) const {
    const auto beyond = std::find_if(tokens.begin(), tokens.end(), [&](TokenId token) { return token >= model_.vocabulary(); });
    if (beyond == tokens.end()) return;
    throw Error(ErrorCode::kBadInput, options_.model.string(),
                fmt::format("the tokenizer gives token {}, but the model has a vocabulary of {}", *beyond, model_.vocabulary()),
                "take the tokenizer files that belong to this model");
  }

  void check_agreement() const {
    if (reference_->vocabulary() != model_.vocabulary() || reference_->language_model().encode(options_.text) != tokens_) {
      throw Error(ErrorCode::kUsage, "options.reference", "has another tokenizer than the model", "compare models of one family");
    }
  }

  uint32_t least_of_both(uint32_t ModelLimits::*limit) const {
    return std::min(model_.limits().*limit, (reference_ ? *reference_ : model_).limits().*limit);
  }

  // Each window begins as a text does: with what the tokenizer puts first.
  std::vector<TokenId> window_tokens(uint64_t index) const {
    const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(index * options_.context);
    std::vector<TokenId> window(begin, begin + options_.context);
    const std::vector<TokenId> prefix = model_.language_model().tokenizer().prefix_tokens();
    std::copy_n(prefix.begin(), std::min(prefix.size(), window.size()), window.begin());
    return window;
  }

  // The tokens [begin, end) of the window, all of the latest read().
  void score_rows(const std::vector<TokenId>& window, size_t begin, size_t end) {
    const size_t at_once = least_of_both(&ModelLimits::logit_rows);
    for (size_t at = begin; at < end; at += at_once) {
      const size_t count = std::min(at_once, end - at);
      const auto own = model_.logits(at - begin, count);
      const auto reference = reference_ ? reference_->logits(at - begin, count) : std::span<const float>();
      const std::span<const TokenId> targets(window.data() + at + 1, count);
      if (reference_) compare_block(own, reference, targets);
      else score_block(own, targets);
    }
  }

  void score_block(std::span<const float> logits, std::span<const TokenId> targets) {
    const size_t vocabulary = model_.vocabulary(), before = losses_.size();
    losses_.resize(before + targets.size());
    pool_.parallel_for(targets.size(), [&](size_t row, unsigned) {
      losses_[before + row] = negative_log_likelihood(logits.subspan(row * vocabulary, vocabulary), targets[row]);
    });
  }

  void compare_block(std::span<const float> logits, std::span<const float> reference, std::span<const TokenId> targets) {
    const size_t vocabulary = model_.vocabulary();
    std::vector<RowComparison> rows(targets.size());
    pool_.parallel_for(targets.size(), [&](size_t row, unsigned) {
      const size_t at = row * vocabulary;
      rows[row] = compare_rows(logits.subspan(at, vocabulary), reference.subspan(at, vocabulary), targets[row]);
    });
    for (const RowComparison& row : rows) {
      losses_.push_back(row.negative_log_likelihood);
      reference_losses_.push_back(row.reference_negative_log_likelihood);
      divergences_.push_back(row.kl_divergence);
      same_top_.push_back(row.same_top ? 1.0 : 0.0);
    }
  }

  const EvaluateOptions& options_;
  WindowedModel model_;
  std::optional<WindowedModel> reference_;
  ThreadPool pool_{options_.threads};
  std::vector<TokenId> tokens_;
  uint64_t windows_ = 0;
  LayerErrors layer_errors_;
  std::vector<double> losses_, reference_losses_, divergences_, same_top_;  // of each scored token
};

void check(const EvaluateOptions& options) {
  if (options.context < 4)
    throw Error(ErrorCode::kUsage, "options.context", fmt::format("expected at least 4, found {}", options.context));
}

}  // namespace

Evaluation evaluate(const EvaluateOptions& options, const std::function<void(const EvaluateProgress&)>& on_progress) {
  check(options);
  const auto begin = std::chrono::steady_clock::now();
  Evaluator evaluator(options);
  for (uint64_t window = 0; window < evaluator.windows(); ++window) {
    evaluator.score_window(window);
    on_progress({window + 1, evaluator.windows(), evaluator.perplexity_so_far()});
  }
  Evaluation evaluation = evaluator.result();
  evaluation.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return evaluation;
}

Json to_json(const Evaluation& evaluation) {
  Json json = {{"perplexity", evaluation.perplexity.value},
               {"perplexity_stderr", evaluation.perplexity.standard_error},
               {"tokens_scored", evaluation.tokens_scored},
               {"windows", evaluation.windows},
               {"seconds", evaluation.seconds}};
  if (!evaluation.divergence) return json;
  const Divergence& divergence = *evaluation.divergence;
  const auto put = [&](const std::string& name, const Estimate& estimate) {
    json[name] = estimate.value;
    json[name + "_stderr"] = estimate.standard_error;
  };
  json["kl_divergence_mean"] = divergence.mean.value;
  json["kl_divergence_stderr"] = divergence.mean.standard_error;
  put("kl_divergence_median", divergence.median);
  put("kl_divergence_p99", divergence.percentile_99);
  json["kl_divergence_max"] = divergence.largest;
  put("same_top_token", divergence.same_top_token);
  put("reference_perplexity", divergence.reference_perplexity);
  put("log_perplexity_ratio", divergence.log_perplexity_ratio);
  json["layer_relative_errors"] = evaluation.layer_errors;
  return json;
}

}  // namespace tritllm
