// Owns which sequences have a place in the key/value cache, and what tokens each place still holds, so that a request which begins
// as an earlier one did need not compute that part again. Does not own the cache's memory (src/backend).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace tritllm {

class Slots {
 public:
  explicit Slots(uint32_t count) : slots_(count) {}

  struct Claim {
    uint32_t slot;
    uint32_t reused;  // so many tokens of the prompt are in the cache
  };
  // A free slot, the one that holds most of the prompt's beginning; of equal ones the one that was used longest ago. Nothing where
  // all are taken. At least one token of the prompt is always left to compute.
  std::optional<Claim> claim(std::span<const TokenId> prompt);

  // Notes that the cache now holds `token` at the next position of the slot.
  void append(uint32_t slot, TokenId token) { slots_[slot].tokens.push_back(token); }
  uint32_t length(uint32_t slot) const noexcept { return static_cast<uint32_t>(slots_[slot].tokens.size()); }

  // The slot is free again; what it holds may be reused.
  void release(uint32_t slot) noexcept;

  uint32_t count() const noexcept { return static_cast<uint32_t>(slots_.size()); }

 private:
  struct Slot {
    std::vector<TokenId> tokens;  // in the cache, by position
    bool taken = false;
    uint64_t last_use = 0;
  };

  std::vector<Slot> slots_;
  uint64_t uses_ = 0;
};

}  // namespace tritllm
