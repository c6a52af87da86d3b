#include "calibration/calibrated_matrix.h"

#include <algorithm>

#include "codec/config.h"
#include "codec/decoder.h"
#include "codec/grouping.h"
#include "codec/quantizer.h"

namespace tritllm {

namespace {

using codec::kGroupSize;

std::vector<float> groups_of(const std::vector<float>& weights, codec::MatrixShape shape) {
  std::vector<float> groups(shape.groups() * kGroupSize);
  codec::pad_groups(shape, 0, shape.groups(), weights.data(), groups.data());
  return groups;
}

// Of a stripe, with the groups that fill its last line.
std::vector<float> stripe_of(const std::vector<float>& groups, const codec::Stripe& stripe) {
  std::vector<float> padded(stripe.padded_groups() * kGroupSize);
  std::copy_n(groups.data() + stripe.first_group * kGroupSize, stripe.groups * kGroupSize, padded.data());
  return padded;
}

void choose_codebook(codec::MatrixQuantizer& quantizer, const std::vector<float>& groups, ThreadPool& pool) {
  const codec::Stripes& stripes = quantizer.stripes();
  pool.parallel_for(stripes.size(),
                    [&](size_t index, unsigned) { quantizer.collect_scales(index, stripe_of(groups, stripes[index]).data()); });
  const auto loop = [&](size_t count, const std::function<void(size_t)>& body) {
    pool.parallel_for(count, [&](size_t index, unsigned) { body(index); });
  };
  quantizer.choose_codebooks([&](uint64_t group, float* out) { std::copy_n(groups.data() + group * kGroupSize, kGroupSize, out); },
                             loop);
}

}  // namespace

std::vector<float> CalibratedMatrix::decoded(ThreadPool& pool) const {
  std::vector<float> weights(shape.weights());
  const codec::FloatDecoder decoder(codebook, depth);
  const size_t groups = shape.groups_per_row();
  pool.parallel_for(shape.rows, [&](size_t row, unsigned) {
    const size_t first = row * groups;
    if (shape.columns == groups * kGroupSize) {
      decoder.decode(codes.data() + first * kGroupSize, scale_codes.data() + first, groups, weights.data() + row * shape.columns);
      return;
    }
    std::vector<float> padded(groups * kGroupSize);
    decoder.decode(codes.data() + first * kGroupSize, scale_codes.data() + first, groups, padded.data());
    std::copy_n(padded.data(), shape.columns, weights.data() + row * shape.columns);
  });
  return weights;
}

CalibratedMatrix calibrate_matrix(std::vector<float> weights, codec::MatrixShape shape, int depth, const MomentFactors& factors,
                                  bool takes_residual, const codec::GroupKernels& kernels, ThreadPool& pool) {
  CalibratedMatrix result;
  result.shape = shape;
  result.depth = depth;
  factors.shift_targets(weights, takes_residual);
  for (float& weight : weights) weight = std::clamp(weight, -codec::kLargestWeight, codec::kLargestWeight);
  const std::vector<float> groups = groups_of(weights, shape), importance = factors.importance();
  codec::MatrixQuantizer quantizer({codec::Recipe::kCalibrated, depth}, shape, kernels,
                                   {.importance = std::span(importance).first(shape.columns)});
  choose_codebook(quantizer, groups, pool);
  result.codebook = quantizer.codebooks()[0];
  result.codes.resize(groups.size());
  result.scale_codes.resize(shape.groups());

  // The groups of each row in the order of the factors.
  const size_t row_groups = shape.groups_per_row();
  const std::span<const uint32_t> order = factors.order();
  const auto for_groups = [&](auto&& body) {
    pool.parallel_for(shape.rows, [&](size_t row, unsigned) {
      for (size_t i = 0; i < row_groups; ++i) body(row * row_groups + i, row * row_groups + order[i]);
    });
  };
  std::vector<float> targets(groups.size());
  for_groups([&](size_t here, size_t there) {
    std::copy_n(groups.data() + there * kGroupSize, kGroupSize, targets.data() + here * kGroupSize);
  });
  codec::RoundedRows rounded;
  factors.round_rows(result.codebook, depth, targets, rounded);
  for_groups([&](size_t here, size_t there) {
    std::copy_n(rounded.codes.data() + here * kGroupSize, kGroupSize, result.codes.data() + there * kGroupSize);
    result.scale_codes[there] = rounded.scale_codes[here];
  });
  result.loss = factors.unit() * rounded.error;
  return result;
}

CalibratedMatrix optimal_matrix(const std::vector<float>& weights, codec::MatrixShape shape, int depth,
                                const codec::GroupKernels& kernels, ThreadPool& pool) {
  CalibratedMatrix result{.shape = shape,
                          .depth = depth,
                          .codes = std::vector<int8_t>(shape.groups() * kGroupSize),
                          .scale_codes = std::vector<uint8_t>(shape.groups())};
  const std::vector<float> groups = groups_of(weights, shape);
  codec::MatrixQuantizer quantizer({codec::Recipe::kOptimal, depth}, shape, kernels);
  choose_codebook(quantizer, groups, pool);
  result.codebook = quantizer.codebooks()[0];
  pool.parallel_for(quantizer.stripes().size(), [&](size_t index, unsigned) {
    const codec::Stripe stripe = quantizer.stripes()[index];
    codec::EncodedStripe encoded;
    quantizer.encode(index, stripe_of(groups, stripe).data(), encoded);
    std::copy_n(encoded.codes.data(), stripe.groups * kGroupSize, result.codes.data() + stripe.first_group * kGroupSize);
    std::copy_n(encoded.scale_codes.data(), stripe.groups, result.scale_codes.data() + stripe.first_group);
  });
  return result;
}

}  // namespace tritllm
