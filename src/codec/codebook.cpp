#include "codec/codebook.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tritllm::codec {
namespace {

constexpr size_t kSteps = kCodebookSize - 1;

double power_of_steps(double ratio) {
  double power = 1.0;
  for (size_t i = 0; i < kSteps; ++i) power *= ratio;
  return power;
}

// By bisection, because multiplications are exact everywhere while exp, log and pow differ between C libraries.
double root_of_steps(double value) {
  double low = 1.0, high = value;
  while (true) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) return low;
    (power_of_steps(middle) <= value ? low : high) = middle;
  }
}

// Sums over the first j runs of consecutive steps, so that the cost of joining runs i..j−1 takes constant time.
struct PrefixSums {
  std::vector<double> weight{0.0}, first{0.0}, second{0.0};

  void add(double run_weight, double run_first, double run_second) {
    weight.push_back(weight.back() + run_weight);
    first.push_back(first.back() + run_first);
    second.push_back(second.back() + run_second);
  }
  size_t runs() const { return weight.size() - 1; }
  double cost(size_t i, size_t j) const {
    const double sum = first[j] - first[i];
    return (second[j] - second[i]) - sum * sum / (weight[j] - weight[i]);
  }
  double mean(size_t i, size_t j) const { return (first[j] - first[i]) / (weight[j] - weight[i]); }
};

constexpr size_t kLargestAlone = 512;
constexpr size_t kGatheredRuns = 1536;

PrefixSums gather_runs(const std::vector<WeightedStep>& sorted) {
  PrefixSums sums;
  const auto add_run = [&](size_t begin, size_t end) {
    double weight = 0.0, first = 0.0, second = 0.0;
    for (size_t i = begin; i < end; ++i) {
      const double step = sorted[i].step, moment = sorted[i].weight * step;
      weight += sorted[i].weight;
      first += moment;
      second += moment * step;
    }
    sums.add(weight, first, second);
  };
  const size_t gathered = sorted.size() - std::min(sorted.size(), kLargestAlone);
  const size_t runs = std::min(gathered, kGatheredRuns);
  for (size_t k = 0; k < runs; ++k) add_run(k * gathered / runs, (k + 1) * gathered / runs);
  for (size_t i = gathered; i < sorted.size(); ++i) add_run(i, i + 1);
  return sums;
}

// One layer of the dynamic programme: the best split points of runs [first, last), known to lie in [least, most], because the
// best split never moves left as the right end moves right.
class SplitLayer {
 public:
  SplitLayer(const PrefixSums& sums, const std::vector<double>& before, std::vector<double>& costs, std::vector<uint32_t>& splits)
      : sums_(sums), before_(before), costs_(costs), splits_(splits) {}

  void solve(size_t first, size_t last, size_t least, size_t most) {
    if (first >= last) return;
    const size_t j = first + (last - first) / 2;
    double best = std::numeric_limits<double>::infinity();
    size_t split = least;
    for (size_t i = least; i <= std::min(most, j - 1); ++i) {
      const double cost = before_[i] + sums_.cost(i, j);
      if (cost < best) {
        best = cost;
        split = i;
      }
    }
    costs_[j] = best;
    splits_[j] = static_cast<uint32_t>(split);
    solve(first, j, least, split);
    solve(j + 1, last, split, most);
  }

 private:
  const PrefixSums& sums_;
  const std::vector<double>& before_;
  std::vector<double>& costs_;
  std::vector<uint32_t>& splits_;
};

// Ends of the clusters, ascending; the last is the number of runs.
std::vector<size_t> best_clusters(const PrefixSums& sums) {
  const size_t runs = sums.runs(), clusters = std::min(runs, kCodebookSize);
  std::vector<std::vector<uint32_t>> splits(clusters, std::vector<uint32_t>(runs + 1));
  std::vector<double> before(runs + 1), costs(runs + 1);
  for (size_t j = 1; j <= runs; ++j) before[j] = sums.cost(0, j);
  for (size_t k = 1; k < clusters; ++k) {
    SplitLayer(sums, before, costs, splits[k]).solve(k + 1, runs + 1, k, runs - 1);
    before.swap(costs);
  }
  std::vector<size_t> ends(clusters);
  size_t end = runs;
  for (size_t k = clusters; k-- > 0;) {
    ends[k] = end;
    end = splits[k][end];
  }
  return ends;
}

}  // namespace

Codebook geometric_codebook(float smallest, float largest) {
  Codebook codebook{};
  if (largest == 0.0f) return codebook;
  const double low = smallest, ratio = root_of_steps(static_cast<double>(largest) / low);
  double power = 1.0;
  for (float& scale : codebook) {
    scale = static_cast<float>(low * power);
    power *= ratio;
  }
  codebook.back() = largest;
  return codebook;
}

std::array<float, kCodebookSize - 1> nearest_thresholds(const Codebook& codebook) {
  std::array<float, kCodebookSize - 1> thresholds;
  for (size_t j = 0; j < thresholds.size(); ++j) {
    thresholds[j] = static_cast<float>(std::sqrt(static_cast<double>(codebook[j]) * static_cast<double>(codebook[j + 1])));
  }
  return thresholds;
}

Codebook clustered_codebook(std::vector<WeightedStep>& steps, int largest_code, float largest_scale) {
  Codebook codebook{};
  if (steps.empty()) return codebook;
  std::stable_sort(steps.begin(), steps.end(), [](const WeightedStep& a, const WeightedStep& b) { return a.step < b.step; });
  const PrefixSums sums = gather_runs(steps);
  size_t begin = 0, filled = 0;
  for (const size_t end : best_clusters(sums)) {
    codebook[filled++] = std::min(static_cast<float>(sums.mean(begin, end)) * static_cast<float>(largest_code), largest_scale);
    begin = end;
  }
  for (; filled < kCodebookSize; ++filled) codebook[filled] = codebook[filled - 1];
  return codebook;
}

}  // namespace tritllm::codec
