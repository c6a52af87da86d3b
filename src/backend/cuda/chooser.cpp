#include "backend/cuda/chooser.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tritllm::cuda {
namespace {

// The rule that finds a row's candidates; none where the settings may keep more than the device looks for.
std::optional<CandidateRule> rule_of(uint32_t row, const DrawSettings& settings) {
  constexpr uint32_t kMostCounted = kMostCandidates / 2;
  constexpr double kMostMass = 0.999;  // the device's sums have a margin
  constexpr float kStepsPerNat = 16.0f;
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
  rule.steps = static_cast<int32_t>(std::min(-std::log(settings.min_p) * kStepsPerNat, float{kCandidateSteps})) + 1;
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
      found_on_host_(kRowsAtOnce * sizeof(CandidateRow)) {
  context.clear(states_.as<void>(), states_.bytes());
}

void Chooser::choose(const RowsView& logits, std::span<const DrawSettings> draws, CudaChosenTokens& chosen) {
  const auto count = static_cast<size_t>(logits.count);
  check(choose_greedily(context_.traits(), logits, chosen.data(), context_.stream()), "start a kernel");
  std::vector<CandidateRule> rules;
  left_.clear();
  for (uint32_t row = 0; row < count; ++row) {
    if (draws[row].temperature == 0) continue;
    if (const auto rule = rule_of(row, draws[row])) {
      rules.push_back(*rule);
    } else {
      left_.push_back(row);
    }
  }
  if (rules.empty() && left_.empty()) return chosen.send(count);
  tokens_.assign(count, kNoToken);
  for (size_t first = 0; first < rules.size(); first += kRowsAtOnce) {
    const size_t together = std::min(kRowsAtOnce, rules.size() - first);
    draw_from_candidates(logits, draws, std::span(rules).subspan(first, together), chosen.data());
  }
  if (!left_.empty()) draw_from_rows(logits, draws, left_);
  // Rows that draw and follow each other are one copy.
  for (size_t row = 0, end; row < count; row = end + 1) {
    for (end = row; end < count && draws[end].temperature != 0;) ++end;
    if (end > row) context_.upload(&tokens_[row], chosen.data() + row, (end - row) * sizeof(uint32_t));
  }
  context_.wait();
  chosen.send(count);
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
