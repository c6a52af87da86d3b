#include "text/stream_decoder.h"

#include "text/tokenizer_parts.h"

namespace tritllm {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special), run_(tokenizer.parts_->decoder) {}

std::string StreamDecoder::push(TokenId id) {
  std::string text;
  if (const auto token = tokenizer_->shown_text(id, skip_special_)) run_.push(*token, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  run_.finish(text);
  return text;
}

}  // namespace tritllm
