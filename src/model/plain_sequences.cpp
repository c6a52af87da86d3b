#include "model/plain_sequences.h"

#include <algorithm>
#include <numeric>

namespace tritllm {

PlainSequences::PlainSequences(Model& model, uint32_t sequences, CacheType type)
    : model_(model),
      cache_(model.make_cache(sequences * model.pages_per_sequence(), type)),
      step_(model.make_step(sequences)),
      pages_(size_t{sequences} * model.pages_per_sequence()) {
  std::iota(pages_.begin(), pages_.end(), PageId{0});
}

void PlainSequences::forward(std::span<const uint32_t> tokens, std::span<const TokenPlace> places, std::span<const uint32_t> scored,
                             ForwardObserver* observer) {
  model_.backend().begin(
      *step_,
      {.tokens = tokens, .places = places, .pages = pages_, .pages_per_sequence = model_.pages_per_sequence(), .scored = scored});
  model_.forward(*step_, *cache_, observer);
}

void PlainSequences::logits(size_t first, size_t count, std::span<float> out) {
  const size_t vocabulary = model_.config().vocabulary, at_once = model_.limits().logit_rows;
  for (size_t begin = 0; begin < count; begin += at_once) {
    const size_t rows = std::min(at_once, count - begin);
    model_.backend().read(model_.logits(*step_, first + begin, rows), out.subspan(begin * vocabulary, rows * vocabulary));
  }
}

}  // namespace tritllm
