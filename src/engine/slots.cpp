#include "engine/slots.h"

#include <algorithm>

namespace tritllm {

std::optional<Slots::Claim> Slots::claim(std::span<const TokenId> prompt) {
  std::optional<Claim> best;
  for (uint32_t index = 0; index < count(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.taken) continue;
    const size_t most = std::min(slot.tokens.size(), prompt.size() - 1);
    const auto end = prompt.begin() + static_cast<std::ptrdiff_t>(most);
    const auto reused = static_cast<uint32_t>(std::mismatch(prompt.begin(), end, slot.tokens.begin()).first - prompt.begin());
    const bool better = !best || reused > best->reused || (reused == best->reused && slot.last_use < slots_[best->slot].last_use);
    if (better) best = Claim{index, reused};
  }
  if (best) {
    slots_[best->slot].taken = true;
    slots_[best->slot].tokens.resize(best->reused);
  }
  return best;
}

void Slots::release(uint32_t slot) noexcept {
  slots_[slot].taken = false;
  slots_[slot].last_use = ++uses_;
}

}  // namespace tritllm
