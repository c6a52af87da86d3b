// Fuzzes tokenizer.json and the texts that it is used on. An input is the document, a zero byte and a text; every input must give
// tokens or an Error, decoding must be valid UTF-8, and a stream of tokens must give what decoding all of them gives. Tokens, text
// and time are in proportion to the input.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/utf8.h"
#include "growth_oracle.h"
#include "text/tokenizer.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_decoding(const tritllm::Tokenizer& tokenizer, const std::vector<tritllm::TokenId>& ids, bool skip_special) {
  const std::string whole = tokenizer.decode(ids, skip_special);
  require(tritllm::is_valid_utf8(whole));
  tritllm::StreamDecoder stream(tokenizer, skip_special);
  std::string joined;
  for (const tritllm::TokenId id : ids) {
    const std::string piece = stream.push(id);
    require(tritllm::is_valid_utf8(piece));
    joined += piece;
    (void)tokenizer.token_bytes(id);
  }
  joined += stream.finish();
  require(joined == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(zero + 1, input.size()));
  const GrowthOracle growth(size);
  try {
    const tritllm::Tokenizer tokenizer = tritllm::Tokenizer::parse(input.substr(0, zero), "FILE");
    const std::vector<tritllm::TokenId> ids = tokenizer.encode(text);
    for (const tritllm::TokenId id : ids) require(tokenizer.is_known(id));
    const tritllm::TextSpan user{0, text.size()};
    const tritllm::EncodeOptions as_user{.add_special = false, .parse_special = true, .literal = {&user, 1}};
    const tritllm::EncodeOptions without_special{.add_special = false, .parse_special = false, .literal = {}};
    require(tokenizer.encode(text, as_user) == tokenizer.encode(text, without_special));
    growth.check_output(ids.size(), 4096 + (64 << 10), 64);
    growth.check_output(tokenizer.decode(ids, false).size(), (64 << 10) * 65, 64 * 65);
    check_decoding(tokenizer, ids, false);
    check_decoding(tokenizer, ids, true);
  } catch (const tritllm::Error&) {
  }
  // Two texts to tokens and four decodings, each with the quarter of a second that every text may take.
  growth.check_time(4, 100);
  return 0;
}
