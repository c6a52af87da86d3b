// Owns how room for passing results is kept from one operation to the next.
#pragma once

#include <cstddef>
#include <vector>

namespace tritllm {

// Room for `count` floats: grows to the largest use and stays.
inline float* sized(std::vector<float>& room, size_t count) {
  if (room.size() < count) room.resize(count);
  return room.data();
}

}  // namespace tritllm
