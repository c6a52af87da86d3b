// Owns quantising a whole matrix in memory with codec::MatrixQuantizer, as tests want it: blocks in any order, everything kept.
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
  codec::Codebook codebook{};
  std::vector<uint8_t> trits;   // [depth][lines][16]
  std::vector<uint8_t> scales;  // [lines][3]
  std::vector<int8_t> codes;    // [lines·5][16]
  std::vector<uint8_t> entries;
  codec::MatrixFigures figures;

  // Trits, scales and codebook one after the other, as a manifest's checksum takes them.
  std::vector<uint8_t> stored() const {
    std::vector<uint8_t> all = trits;
    all.insert(all.end(), scales.begin(), scales.end());
    all.resize(all.size() + sizeof(codebook));
    std::memcpy(all.data() + all.size() - sizeof(codebook), codebook.data(), sizeof(codebook));
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

// `loop` decides in which order, and on which threads, blocks are surveyed and encoded and pieces of the sample are worked on.
inline Quantized quantize(std::span<const float> weights, codec::MatrixShape shape, codec::Config config,
                          const codec::GroupKernels& kernels, const codec::ParallelLoop& loop = loop_in_order(0)) {
  codec::MatrixQuantizer quantizer(config, shape, kernels);
  const auto load = [&](size_t block) {
    const uint64_t first = block * codec::kBlockGroups;
    const size_t groups = quantizer.padded_groups(block);
    std::vector<float> padded(groups * codec::kGroupSize);
    codec::pad_groups(shape, first, groups, weights.data() + codec::weights_in_groups(shape, first, groups).first, padded.data());
    return padded;
  };
  loop(quantizer.blocks(), [&](size_t block) { quantizer.survey(block, load(block).data()); });
  const auto read_group = [&](uint64_t group, float* out) {
    codec::pad_groups(shape, group, 1, weights.data() + codec::weights_in_groups(shape, group, 1).first, out);
  };
  quantizer.choose_codebook(read_group, loop);

  Quantized result;
  result.codebook = quantizer.codebook();
  result.trits.resize(shape.trit_bytes(config.depth));
  result.scales.resize(shape.scale_bytes());
  result.codes.resize(shape.lines() * codec::kLineGroups * codec::kGroupSize);
  result.entries.resize(shape.lines() * codec::kLineGroups);
  loop(quantizer.blocks(), [&](size_t block) {
    codec::EncodedBlock encoded;
    quantizer.encode(block, load(block).data(), encoded);
    const size_t line = block * codec::kBlockLines;
    for (size_t plane = 0; plane < encoded.planes.size(); ++plane) {
      std::copy(encoded.planes[plane].begin(), encoded.planes[plane].end(),
                result.trits.data() + (plane * shape.lines() + line) * codec::kGroupSize);
    }
    std::copy(encoded.scales.begin(), encoded.scales.end(), result.scales.data() + line * codec::kScaleTrits);
    std::copy(encoded.codes.begin(), encoded.codes.end(), result.codes.data() + line * codec::kLineGroups * codec::kGroupSize);
    std::copy(encoded.entries.begin(), encoded.entries.end(), result.entries.data() + line * codec::kLineGroups);
  });
  result.figures = quantizer.figures();
  return result;
}

}  // namespace tritllm
