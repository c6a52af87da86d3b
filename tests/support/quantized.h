// Owns quantising a whole matrix in memory with codec::MatrixQuantizer, as tests want it: stripes in any order, everything kept.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "codec/grouping.h"
#include "codec/quantizer.h"
#include "core/checksum.h"

namespace tritllm {

struct Quantized {
  std::vector<codec::Codebook> codebooks;
  std::vector<uint8_t> trits;   // [depth][lines][16]
  std::vector<uint8_t> scales;  // [lines][3]
  std::vector<int8_t> codes;    // [lines·5][16]
  std::vector<uint8_t> scale_codes;
  codec::MatrixStats stats;

  const codec::Codebook& codebook() const { return codebooks.front(); }
  // Trits, scales and codebooks one after the other, as a manifest's checksum takes them.
  std::vector<uint8_t> stored() const {
    std::vector<uint8_t> all = trits;
    all.insert(all.end(), scales.begin(), scales.end());
    const size_t bytes = codebooks.size() * sizeof(codec::Codebook);
    all.resize(all.size() + bytes);
    std::memcpy(all.data() + all.size() - bytes, codebooks.data(), bytes);
    return all;
  }
  std::string checksum() const {
    const std::vector<uint8_t> all = stored();
    return checksum_of(std::as_bytes(std::span(all)));
  }
};

// Visits 0..count−1 from the first to the last for seed 0, in a random order otherwise.
inline std::vector<size_t> visiting_order(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  if (seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  return order;
}

inline codec::ParallelLoop loop_in_order(uint64_t seed) {
  return [seed](size_t count, const std::function<void(size_t)>& body) {
    for (const size_t i : visiting_order(count, seed)) body(i);
  };
}

// `loop` decides in which order, and on which threads, stripes and parts of the sample are worked on.
inline Quantized quantize(std::span<const float> weights, codec::MatrixShape shape, codec::Config config,
                          const codec::GroupKernels& kernels, const codec::ParallelLoop& loop = loop_in_order(0),
                          const codec::ColumnStatistics& statistics = {}) {
  codec::MatrixQuantizer quantizer(config, shape, kernels, statistics);
  const auto load = [&](size_t stripe) {
    const uint64_t first = quantizer.stripes()[stripe].first_group;
    const size_t groups = quantizer.stripes()[stripe].padded_groups();
    std::vector<float> padded(groups * codec::kGroupSize);
    codec::pad_groups(shape, first, groups, weights.data() + codec::weights_in_groups(shape, first, groups).first, padded.data());
    return padded;
  };
  loop(quantizer.stripes().size(), [&](size_t stripe) { quantizer.collect_scales(stripe, load(stripe).data()); });
  const auto read_group = [&](uint64_t group, float* out) {
    codec::pad_groups(shape, group, 1, weights.data() + codec::weights_in_groups(shape, group, 1).first, out);
  };
  quantizer.choose_codebooks(read_group, loop);

  Quantized result;
  result.codebooks.assign(quantizer.codebooks().begin(), quantizer.codebooks().end());
  result.trits.resize(shape.trit_bytes(config.depth));
  result.scales.resize(shape.scale_bytes());
  result.codes.resize(shape.lines() * codec::kLineGroups * codec::kGroupSize);
  result.scale_codes.resize(shape.lines() * codec::kLineGroups);
  loop(quantizer.stripes().size(), [&](size_t stripe) {
    codec::EncodedStripe encoded;
    quantizer.encode(stripe, load(stripe).data(), encoded);
    const uint64_t line = quantizer.stripes()[stripe].first_line();
    for (size_t plane = 0; plane < encoded.planes.size(); ++plane) {
      std::copy(encoded.planes[plane].begin(), encoded.planes[plane].end(),
                result.trits.data() + (plane * shape.lines() + line) * codec::kGroupSize);
    }
    std::copy(encoded.scales.begin(), encoded.scales.end(), result.scales.data() + line * codec::kScaleTrits);
    std::copy(encoded.codes.begin(), encoded.codes.end(), result.codes.data() + line * codec::kLineGroups * codec::kGroupSize);
    std::copy(encoded.scale_codes.begin(), encoded.scale_codes.end(), result.scale_codes.data() + line * codec::kLineGroups);
  });
  result.stats = quantizer.stats();
  return result;
}

}  // namespace tritllm
