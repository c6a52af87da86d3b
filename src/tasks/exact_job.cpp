#include "tasks/exact_job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "io/mapped_file.h"
#include "tasks/stripe_reader.h"

namespace tritllm {
namespace {

// The roundings that the weights may have been through since they were ternary, by how they are stored now.
std::vector<codec::Rounding> roundings_of(ElementType type) {
  using codec::Rounding;
  switch (type) {
    case ElementType::kF16: return {Rounding::kHalf};
    case ElementType::kBF16: return {Rounding::kHalfThenBfloat16, Rounding::kBfloat16};
    default: return {Rounding::kHalf, Rounding::kNone};
  }
}

}  // namespace

codec::ExactResult find_exact_form(const SourceTensor& tensor, int most_depth, ThreadPool& pool, const OnWeights& on_weights) {
  const codec::MatrixShape shape = codec_shape(tensor);
  const codec::Stripes stripes(shape);
  std::vector<StripeReader> readers(pool.threads());
  const codec::VisitStripes visit = [&](const auto& wanted, const auto& body) {
    pool.parallel_for(stripes.size(), [&](size_t index, unsigned worker) {
      if (worker == 0) on_weights(0);
      if (wanted(index)) body(index, readers[worker].read(tensor, stripes[index]));
    });
    release_pages(tensor.bytes);
  };
  return codec::find_exact_form(shape, most_depth, roundings_of(tensor.type), visit);
}

Error not_ternary(const SourceTensor& tensor, const codec::ExactMisfit& misfit, const std::vector<std::string>& others) {
  constexpr size_t kMostNamed = 3;
  const codec::WeightRange range = codec::weights_in_groups(codec_shape(tensor), misfit.group, 1);
  const uint64_t column = range.first % tensor.columns();
  const codec::GroupFit& fit = misfit.nearest;
  std::string problem = misfit.lacks_scales
                            ? fmt::format("no 27 scales were found that give all groups back at depth {}", misfit.depth)
                            : fmt::format("not ternary: no scale gives this group back at depth {}", misfit.depth);
  problem += fmt::format("; nearest is {}, which leaves {} of {} weights different: {} becomes {}", fit.scale, fit.different,
                         range.count, fit.stored, fit.nearest);
  if (!others.empty()) {
    const auto named = others.begin() + static_cast<ptrdiff_t>(std::min(others.size(), kMostNamed));
    problem += fmt::format("; {} other matri{} not ternary either: {}{}", others.size(), others.size() == 1 ? "x is" : "ces are",
                           fmt::join(others.begin(), named, ", "), others.size() > kMostNamed ? ", …" : "");
  }
  return Error(
      ErrorCode::kBadInput,
      fmt::format("{}: row {}, columns {} to {}", tensor.place, range.first / tensor.columns(), column, column + range.count - 1),
      problem, "keep what is not ternary by depth rules (options.policy.rules, 'REGEX=keep'), or choose another recipe");
}

}  // namespace tritllm
