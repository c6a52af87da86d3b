#include "text/token_matcher.h"

#include <algorithm>

namespace tritllm {

TokenMatcher::TokenMatcher(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::ranges::sort(entries_, {}, &Entry::text);
  for (const Entry& entry : entries_) starts_[static_cast<unsigned char>(entry.text[0])] = true;
}

void TokenMatcher::candidates_at(std::string_view text, size_t at, std::vector<Candidate>& out) const {
  out.clear();
  auto first = entries_.begin();
  auto last = entries_.end();
  for (size_t depth = 0; at + depth < text.size(); ++depth) {
    // Within the range all have the same bytes before `depth`, and one that ends here stands first.
    const auto byte = static_cast<unsigned char>(text[at + depth]);
    const auto byte_of = [depth](const Entry& entry) { return static_cast<unsigned char>(entry.text[depth]); };
    first = std::lower_bound(first, last, byte, [&](const Entry& entry, unsigned char wanted) { return byte_of(entry) < wanted; });
    last = std::upper_bound(first, last, byte, [&](unsigned char wanted, const Entry& entry) { return wanted < byte_of(entry); });
    if (first == last) return;
    if (first->text.size() == depth + 1) {
      out.push_back({first->index, depth + 1});
      if (++first == last) return;
    }
  }
}

}  // namespace tritllm
