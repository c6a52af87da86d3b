// Owns the interface by which a request limits which tokens may come next. Does not own any rule (grammar_constraint.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace tritllm {

// The state of one answer. Used by one thread at a time.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Makes the logits of tokens that may not come next minus infinity. Throws an Error where none is left.
  virtual void mask(std::span<float> logits) = 0;
  // The token that was chosen after mask().
  virtual void accept(uint32_t token) = 0;
  // The same rule for another answer, from its beginning.
  virtual std::shared_ptr<TokenConstraint> fresh() const = 0;
};

}  // namespace tritllm
