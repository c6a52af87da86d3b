#include "codec/scale_cover.h"

#include <algorithm>
#include <bit>
#include <optional>

namespace tritllm::codec {
namespace {

constexpr size_t kNone = SIZE_MAX;
constexpr uint64_t kWeight = 1 << 20;  // of a demand of one range
constexpr size_t kAttempts = 10, kExchanges = 100;
constexpr size_t kMostWork = 400'000'000;  // ends of ranges that all attempts together may pass

// Where a range of a demand begins or ends.
struct RangeEnd {
  uint32_t at;
  bool opens;
  size_t demand;
};

// The last range that begins at or below the chosen one is the only one that may hold it.
bool meets(const ScaleRange& chosen, const ScaleDemand& demand) {
  const auto after = std::upper_bound(demand.scales.begin(), demand.scales.end(), chosen.least,
                                      [](uint32_t least, const ScaleRange& range) { return least < range.least; });
  return after != demand.scales.begin() && std::prev(after)->holds(chosen);
}

bool shares_scales(const ScaleRange& chosen, const ScaleDemand& demand) {
  return std::ranges::any_of(demand.scales,
                             [&](const ScaleRange& range) { return range.least <= chosen.most && chosen.least <= range.most; });
}

// Chooses ranges, any scale of which will do: a demand is met where one of its ranges holds a chosen one.
class Cover {
 public:
  Cover(std::span<const ScaleDemand> demands, size_t most) : demands_(demands), most_(most), met_(demands.size()) {
    choose_for_plain_demands();
    for (size_t i = 0; i < demands_.size(); ++i) {
      // The fewer scales fit a group, the more it says about the codebook.
      weights_.push_back(kWeight / demands_[i].scales.size());
      if (demands_[i].scales.size() == 1) continue;
      for (const ScaleRange& range : demands_[i].scales) {
        ends_.push_back({range.least, true, i});
        ends_.push_back({range.most, false, i});
      }
    }
    // Ranges hold their ends, so that one opens before another closes at the same place.
    std::ranges::stable_sort(ends_,
                             [](const RangeEnd& a, const RangeEnd& b) { return a.at != b.at ? a.at < b.at : a.opens > b.opens; });
  }

  // What an attempt leaves over weighs more in the next one.
  void run() {
    if (plain_.size() > most_) return;
    const size_t exchanges = std::min(kExchanges, kMostWork / kAttempts / std::max<size_t>(1, ends_.size()));
    for (size_t attempt = 0; attempt < kAttempts; ++attempt) {
      choose(exchanges);
      if (heaviest_unmet() == kNone) return;
      for (size_t i = 0; i < demands_.size(); ++i) {
        if (met_[i] == 0) weights_[i] *= 4;
      }
    }
  }

  ScaleCover result() const {
    ScaleCover cover;
    const std::span<const ScaleRange> chosen = std::span(chosen_).first(std::min(most_, chosen_.size()));
    // In the middle of its range a scale is likely to fit groups that are not among the demands yet.
    for (const ScaleRange& range : chosen)
      cover.scales.push_back(std::bit_cast<float>(range.least + (range.most - range.least) / 2));
    std::ranges::sort(cover.scales);
    std::optional<uint64_t> unmet;
    for (const ScaleDemand& demand : demands_) {
      const bool is_met = std::ranges::any_of(chosen, [&](const ScaleRange& range) { return meets(range, demand); });
      if (!is_met && (!unmet || demand.group < *unmet)) unmet = demand.group;
    }
    cover.complete = !unmet;
    cover.unmet_group = unmet.value_or(0);
    return cover;
  }

 private:
  // Demands of one range. From below: the range that ends first needs a scale, and no scale within it meets more of the others than
  // its end does. What is left of the range meets the same demands.
  void choose_for_plain_demands() {
    std::vector<ScaleRange> ranges;
    for (const ScaleDemand& demand : demands_) {
      if (demand.scales.size() == 1) ranges.push_back(demand.scales.front());
    }
    std::ranges::sort(ranges, {}, &ScaleRange::most);
    for (const ScaleRange& range : ranges) {
      if (plain_.empty() || range.least > plain_.back().most) plain_.push_back(range);
      else plain_.back().least = std::max(plain_.back().least, range.least);
    }
    chosen_ = plain_;
  }

  // Demands of several ranges. First ranges for those that have nothing in common with a chosen one; then the chosen ones are
  // narrowed for others. Where demands are left over, chosen ranges are exchanged, one by one.
  void choose(size_t exchanges) {
    chosen_ = plain_;
    for (size_t i = 0; i < demands_.size(); ++i) {
      met_[i] =
          static_cast<size_t>(std::ranges::count_if(chosen_, [&](const ScaleRange& range) { return meets(range, demands_[i]); }));
    }
    while (chosen_.size() < most_) {
      const size_t wanted = heaviest_unmet(/*is_apart=*/true);
      if (wanted == kNone) break;
      add_best(wanted);
    }
    narrow_chosen();
    for (size_t i = 0; i < exchanges && plain_.size() < most_; ++i) {
      const size_t wanted = heaviest_unmet();
      if (wanted == kNone) return;
      if (chosen_.size() == most_) remove_least_missed();
      add_best(wanted);
      narrow_chosen();
      for (size_t k = 0; k < demands_.size(); ++k) {
        if (met_[k] == 0) weights_[k] += kWeight / demands_[k].scales.size();
      }
    }
  }

  // The demand of most weight that is not met; if asked, of those that share no scale with a chosen range.
  size_t heaviest_unmet(bool is_apart = false) const {
    size_t heaviest = kNone;
    for (size_t i = 0; i < demands_.size(); ++i) {
      if (met_[i] != 0 || (heaviest != kNone && weights_[i] <= weights_[heaviest])) continue;
      const auto shares = [&](const ScaleRange& range) { return shares_scales(range, demands_[i]); };
      if (is_apart && std::ranges::any_of(chosen_, shares)) continue;
      heaviest = i;
    }
    return heaviest;
  }

  // The range that `wanted` shares with most of the other unmet demands, by weight.
  void add_best(size_t wanted) {
    uint64_t open = 0, best = 0;
    bool is_wanted_open = false;
    bool is_best = false;  // since the last end that was passed
    ScaleRange best_range{};
    for (const RangeEnd& end : ends_) {
      if (met_[end.demand] != 0) continue;
      if (end.demand == wanted) is_wanted_open = end.opens;
      if (end.opens) {
        open += weights_[end.demand];
        is_best = is_wanted_open && open > best;
        if (is_best) {
          best = open;
          best_range.least = end.at;
        }
      } else {
        if (is_best) best_range.most = end.at;
        is_best = false;
        open -= weights_[end.demand];
      }
    }
    chosen_.push_back(best_range);
    for (size_t i = 0; i < demands_.size(); ++i) met_[i] += meets(best_range, demands_[i]) ? 1u : 0u;
  }

  // Of those that were added; the last one stays.
  void remove_least_missed() {
    size_t least = plain_.size();
    uint64_t least_missed = UINT64_MAX;
    for (size_t k = plain_.size(); k + 1 < chosen_.size(); ++k) {
      uint64_t missed = 0;
      for (size_t i = 0; i < demands_.size(); ++i) {
        if (met_[i] == 1 && meets(chosen_[k], demands_[i])) missed += weights_[i];
      }
      if (missed >= least_missed) continue;
      least_missed = missed;
      least = k;
    }
    for (size_t i = 0; i < demands_.size(); ++i) met_[i] -= meets(chosen_[least], demands_[i]) ? 1u : 0u;
    chosen_.erase(chosen_.begin() + static_cast<ptrdiff_t>(least));
  }

  // For each demand that no chosen range meets as it is, one that shares scales with it is narrowed to these.
  void narrow_chosen() {
    std::vector<size_t> open;
    for (size_t i = 0; i < demands_.size(); ++i) {
      if (met_[i] == 0) open.push_back(i);
    }
    std::ranges::stable_sort(open, std::greater<>(), [&](size_t i) { return weights_[i]; });
    for (const size_t i : open) {
      if (met_[i] == 0) narrow_for(demands_[i]);
    }
  }

  // The range that loses least.
  void narrow_for(const ScaleDemand& demand) {
    ScaleRange* narrowed = nullptr;
    ScaleRange best{};
    for (ScaleRange& chosen : chosen_) {
      for (const ScaleRange& range : demand.scales) {
        const ScaleRange both{std::max(chosen.least, range.least), std::min(chosen.most, range.most)};
        if (both.least > both.most || (narrowed != nullptr && both.most - both.least <= best.most - best.least)) continue;
        narrowed = &chosen;
        best = both;
      }
    }
    if (narrowed == nullptr) return;
    for (size_t i = 0; i < demands_.size(); ++i) {
      if (!meets(*narrowed, demands_[i]) && meets(best, demands_[i])) ++met_[i];
    }
    *narrowed = best;
  }

  std::span<const ScaleDemand> demands_;
  size_t most_;
  std::vector<ScaleRange> plain_;   // what demands of one range need
  std::vector<ScaleRange> chosen_;  // these, perhaps narrowed, and what was added
  std::vector<size_t> met_;         // [demands]: the number of chosen ranges that meet it
  std::vector<uint64_t> weights_;   // [demands]
  std::vector<RangeEnd> ends_;      // of demands of several ranges, ascending
};

}  // namespace

ScaleCover cover_demands(std::span<const ScaleDemand> demands, size_t most) {
  Cover cover(demands, most);
  cover.run();
  return cover.result();
}

}  // namespace tritllm::codec
