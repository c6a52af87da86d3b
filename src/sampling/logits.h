// Owns the passes over a whole row of logits, one for each token of a vocabulary of up to some hundred thousand, in loops that a
// compiler turns into vectors. Does not own what is done with what they find.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tritllm {

// The largest; minus infinity where all are. Throws an Error for NaN and plus infinity.
float largest_logit(std::span<const float> logits);

// A logit that at least `count` tokens reach, if there are so many, and usually few more. Logits hold no NaN. `room` is kept by the
// caller, so that nothing is allocated after the first call.
float logit_reached_by(std::span<const float> logits, size_t count, std::vector<int32_t>& room);

// values[i] = e^values[i], for values up to 0: to two units in the last place, and 0 below e^-708. The same bits on every machine.
void exponentiate(std::span<double> values) noexcept;

}  // namespace tritllm
