// Owns a ternary matrix of random codes, as it lies in a packed file, and the weights that it decodes to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "codec/decoder.h"
#include "codec/trits.h"
#include "io/packed_checkpoint.h"

namespace tritllm {

struct RandomTernary {
  TernaryMatrix matrix;
  std::vector<uint8_t> trits, scales;
  std::vector<float> expected;  // [rows][columns]

  RandomTernary(const RandomTernary&) = delete;
  RandomTernary& operator=(const RandomTernary&) = delete;
  RandomTernary(int depth, uint64_t rows, uint64_t columns) {
    std::mt19937_64 random(static_cast<uint64_t>(depth) * 1000 + columns);
    matrix.shape = {rows, columns};
    matrix.depth = depth;
    for (float& scale : matrix.codebooks.emplace_back()) scale = std::uniform_real_distribution<float>(0.01f, 3.0f)(random);
    const auto lines = static_cast<size_t>(matrix.shape.lines()), groups = static_cast<size_t>(matrix.shape.groups()),
               row_groups = static_cast<size_t>(matrix.shape.groups_per_row());
    const int largest = codec::largest_code(depth);
    std::vector<int8_t> codes(lines * 80);
    std::vector<uint8_t> scale_codes(lines * 5);
    for (size_t group = 0; group < groups; ++group) {
      scale_codes[group] = static_cast<uint8_t>(random() % 27);
      for (size_t i = 0; i < 16; ++i) {
        if (group % row_groups * 16 + i >= columns) continue;
        codes[group * 16 + i] = static_cast<int8_t>(static_cast<int>(random() % static_cast<uint64_t>(2 * largest + 1)) - largest);
      }
    }
    trits.resize(static_cast<size_t>(matrix.shape.trit_bytes(depth)));
    scales.resize(static_cast<size_t>(matrix.shape.scale_bytes()));
    std::vector<uint8_t*> planes;
    for (int plane = 0; plane < depth; ++plane) planes.push_back(trits.data() + static_cast<size_t>(plane) * lines * 16);
    codec::pack_lines(lines, depth, codes.data(), scale_codes.data(), planes, scales.data());
    matrix.trits = trits;
    matrix.scales = scales;
    std::vector<float> decoded(groups * 16);
    codec::FloatDecoder(matrix.codebooks.front(), depth).decode(codes.data(), scale_codes.data(), groups, decoded.data());
    for (size_t row = 0; row < rows; ++row) {
      const auto begin = decoded.begin() + static_cast<std::ptrdiff_t>(row * row_groups * 16);
      expected.insert(expected.end(), begin, begin + static_cast<std::ptrdiff_t>(columns));
    }
  }
};

}  // namespace tritllm
