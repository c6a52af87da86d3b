#include "backend/cuda/chooser.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"

namespace tritllm::cuda {
namespace {

bool narrows_nothing(const DrawSettings& settings) {
  return settings.top_k == 0 && settings.typical_p >= 1 && settings.top_p >= 1 && settings.min_p <= 0;
}

// Rows at once: more are found in turns.
constexpr size_t kRowsAtOnce = 64;

template <typename T, typename Work>
void in_turns(std::span<const T> all, const Work& work) {
  for (size_t first = 0; first < all.size(); first += kRowsAtOnce) {
    work(all.subspan(first, std::min(kRowsAtOnce, all.size() - first)));
  }
}

// The rule that finds a row's candidates; none where the settings may keep more than the device looks for.
std::optional<CandidateRule> rule_of(uint32_t row, const DrawSettings& settings) {
  constexpr uint32_t kMostCounted = kMostCandidates / 2;
  constexpr double kMostMass = 0.999;  // the device's sums have a margin
  CandidateRule rule{.row = row, .by_mass = false, .count = 0xffffffffu, .steps = kCandidateSteps, .mass = 0.0};
  if (settings.top_k > 0) {
    if (settings.top_k > kMostCounted) return std::nullopt;
    rule.count = settings.top_k;
    return rule;
  }
  if (settings.typical_p < 1) return std::nullopt;
  if (settings.top_p < 1) {
    if (settings.top_p > kMostMass) return std::nullopt;
    rule.by_mass = true;
    rule.mass = settings.top_p;
    return rule;
  }
  if (settings.min_p <= 0) return std::nullopt;
  rule.steps = static_cast<int32_t>(std::min(-std::log(settings.min_p) * kCandidateStepsPerNat, float{kCandidateSteps})) + 1;
  return rule;
}

}  // namespace

Chooser::Chooser(Context& context, ThreadPool& pool)
    : context_(context),
      pool_(pool),
      draws_(pool.threads()),
      rules_(context, kRowsAtOnce * sizeof(CandidateRule)),
      states_(context, kRowsAtOnce * sizeof(CandidateState)),
      found_(context, kRowsAtOnce * sizeof(CandidateRow)),
      whole_draws_(context, kRowsAtOnce * sizeof(WholeDraw)),
      sums_(context, kRowsAtOnce * kCandidateParts * sizeof(double)),
      found_on_host_(kRowsAtOnce * sizeof(CandidateRow)) {
  context.clear(states_.as<void>(), states_.bytes());
  // Rows are copied to the host with the places that no candidate has taken.
  context.clear(found_.as<void>(), found_.bytes());
}

void Chooser::choose(const RowsView& logits, std::span<const DrawSettings> draws, CudaChosenTokens& chosen) {
  const auto count = static_cast<size_t>(logits.count);
  check(choose_greedily(context_.traits(), logits, chosen.data(), context_.stream()), "start a kernel");
  std::vector<CandidateRule> rules;
  std::vector<WholeDraw> whole;
  std::vector<uint8_t> by_host(count);
  left_.clear();
  for (uint32_t row = 0; row < count; ++row) {
    const DrawSettings& draw = draws[row];
    if (draw.temperature == 0) continue;
    if (narrows_nothing(draw)) {
      whole.push_back({row, 0, draw.temperature, draw.uniform});
      continue;
    }
    by_host[row] = 1;
    if (const auto rule = rule_of(row, draw)) {
      rules.push_back(*rule);
    } else {
      left_.push_back(row);
    }
  }
  // All of them find the largest logit by the greedy choice.
  if (!rules.empty() || !left_.empty()) tokens_.assign(count, kNoToken);
  in_turns<CandidateRule>(rules, [&](auto turn) { draw_from_candidates(logits, draws, turn, chosen.data()); });
  if (!left_.empty()) draw_from_rows(logits, draws, left_);
  in_turns<WholeDraw>(whole, [&](auto turn) { draw_from_all_tokens(logits, turn, chosen.data()); });
  // Rows that follow each other are one copy.
  for (size_t row = 0, end; row < count; row = end + 1) {
    for (end = row; end < count && by_host[end] != 0;) ++end;
    if (end > row) context_.upload(&tokens_[row], chosen.data() + row, (end - row) * sizeof(uint32_t));
  }
  chosen.send(count);
}

void Chooser::draw_from_all_tokens(const RowsView& logits, std::span<const WholeDraw> draws, uint32_t* chosen) {
  context_.upload(draws.data(), whole_draws_.as<void>(), draws.size_bytes());
  check(draw_from_all(context_.traits(), logits, whole_draws_.as<WholeDraw>(), static_cast<int>(draws.size()), sums_.as<double>(),
                      chosen, context_.stream()),
        "start a kernel");
}

void Chooser::draw_from_candidates(const RowsView& logits, std::span<const DrawSettings> draws,
                                   std::span<const CandidateRule> rules, const uint32_t* chosen) {
  context_.upload(rules.data(), rules_.as<void>(), rules.size_bytes());
  check(collect_candidates(context_.traits(), logits, rules_.as<CandidateRule>(), static_cast<int>(rules.size()), chosen,
                           states_.as<CandidateState>(), found_.as<CandidateRow>(), context_.stream()),
        "start a kernel");
  const auto* const found = found_on_host_.as<const CandidateRow>();
  check(cudaMemcpyAsync(found_on_host_.as<void>(), found_.as<void>(), rules.size() * sizeof(CandidateRow), cudaMemcpyDeviceToHost,
                        context_.stream()),
        "copy candidates");
  context_.wait();
  pool_.parallel_for(rules.size(), [&](size_t i, unsigned worker) {
    const CandidateRow& row = found[i];
    if (row.count == 0 || row.count > kMostCandidates) return;
    tokens_[rules[i].row] = draws_[worker].draw_from(std::span(row.tokens).first(row.count), std::span(row.logits).first(row.count),
                                                     row.total, draws[rules[i].row]);
  });
  for (size_t i = 0; i < rules.size(); ++i) {
    if (found[i].count > kMostCandidates) left_.push_back(rules[i].row);
  }
}

void Chooser::draw_from_rows(const RowsView& logits, std::span<const DrawSettings> draws, std::span<const uint32_t> rows) {
  const auto width = static_cast<size_t>(logits.width);
  values_.resize(rows.size() * width);
  for (size_t i = 0; i < rows.size(); ++i) {
    check(cudaMemcpyAsync(values_.data() + i * width, logits.data + static_cast<int64_t>(rows[i]) * logits.stride,
                          width * sizeof(float), cudaMemcpyDeviceToHost, context_.stream()),
          "copy logits");
  }
  context_.wait();
  pool_.parallel_for(rows.size(), [&](size_t i, unsigned worker) {
    try {
      tokens_[rows[i]] = draws_[worker].draw(std::span(values_).subspan(i * width, width), draws[rows[i]]);
    } catch (const Error&) {
      // The row has no token to choose: kNoToken says so.
    }
  });
}

}  // namespace tritllm::cuda
