#include "text/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/unicode.h"

namespace tritllm {

TokenMatcher::TokenMatcher(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::ranges::sort(entries_, {}, &Entry::text);
  for (const Entry& entry : entries_) starts_[static_cast<unsigned char>(entry.text[0])] = true;
}

size_t TokenMatcher::candidates_at(std::string_view text, size_t at, std::vector<Candidate>& out) const {
  out.clear();
  auto first = entries_.begin();
  auto last = entries_.end();
  size_t depth = 0;
  for (; at + depth < text.size(); ++depth) {
    // Within the range all have the same bytes before `depth`, and one that ends here stands first.
    const auto byte = static_cast<unsigned char>(text[at + depth]);
    const auto byte_of = [depth](const Entry& entry) { return static_cast<unsigned char>(entry.text[depth]); };
    first = std::lower_bound(first, last, byte, [&](const Entry& entry, unsigned char wanted) { return byte_of(entry) < wanted; });
    last = std::upper_bound(first, last, byte, [&](unsigned char wanted, const Entry& entry) { return wanted < byte_of(entry); });
    if (first == last) break;
    if (first->text.size() == depth + 1) {
      out.push_back({first->index, depth + 1});
      if (++first == last) break;
    }
  }
  return depth;
}

namespace {

// Looking for a token costs at most its length at each place of a text.
constexpr size_t kLongestAddedToken = 1024;

// What a word is made of to the flag single_word: \w in Rust's syntax of regular expressions, with the two joiners.
bool is_word_character(std::string_view character, MatchScratch& scratch) {
  static const Pattern word = Pattern::regex("[\\w\u200c\u200d]", "built in");
  return word.find(character, 0, scratch).has_value();
}

bool word_ends_before(std::string_view text, size_t at, MatchScratch& scratch) {
  if (at == 0) return false;
  const size_t last = previous_character(text, at);
  return is_word_character(text.substr(last, at - last), scratch);
}

bool word_starts_at(std::string_view text, size_t at, MatchScratch& scratch) {
  return at < text.size() && is_word_character(text.substr(at, character_at(text, at).length), scratch);
}

size_t space_start_before(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    const size_t last = previous_character(text, at);
    if (!is_white_space(character_at(text, last).code_point)) break;
    at = last;
  }
  return at;
}

}  // namespace

// One pass over one text.
struct AddedTokens::Cut {
  const AddedTokens& owner;
  const TokenMatcher& matcher;
  std::string_view text;
  const Accepts& accepts;
  MatchScratch& scratch;
  const Sink& sink;
  std::vector<TokenMatcher::Candidate> candidates = {};
  size_t done = 0;            // before here all parts are with the sink
  TextSpan white_space = {};  // a run that was walked already: tokens within it must not walk it again

  void run();
  const AddedToken* longest_at(size_t at, size_t& length);
  void emit(const AddedToken& token, TextSpan span);
  size_t space_end_after(size_t at);
};

const AddedToken* AddedTokens::Cut::longest_at(size_t at, size_t& length) {
  if (!matcher.may_start_with(text[at])) return nullptr;
  scratch.budget().work(1 + matcher.candidates_at(text, at, candidates) / 4, owner.where_);
  for (auto candidate = candidates.rbegin(); candidate != candidates.rend(); ++candidate) {
    const AddedToken& token = owner.tokens_[candidate->index];
    length = candidate->length;
    if (accepts(token, {at, at + length})) return &token;
  }
  return nullptr;
}

void AddedTokens::Cut::run() {
  for (size_t at = 0; at < text.size();) {
    size_t length = 1;
    const AddedToken* token = longest_at(at, length);
    if (token == nullptr) {
      ++at;
      continue;
    }
    // A token that turns out to be part of a word is passed over as a whole: no shorter one is looked for within it.
    const TextSpan span{at, at + length};
    at = span.end;
    const bool is_within_word =
        token->single_word && (word_ends_before(text, span.begin, scratch) || word_starts_at(text, span.end, scratch));
    if (!is_within_word) emit(*token, span);
  }
  if (done < text.size()) sink({{done, text.size()}, nullptr});
}

// White space that a token took with it may hold the next one. That one counts as well, as in HF tokenizers, unless it takes white
// space before it: then it starts where the first has ended, and nothing of it is left.
void AddedTokens::Cut::emit(const AddedToken& token, TextSpan span) {
  if (token.lstrip) span.begin = std::max(done, space_start_before(text, span.begin, done));
  if (token.rstrip) span.end = space_end_after(span.end);
  if (done < span.begin) sink({{done, span.begin}, nullptr});
  if (span.begin < span.end) sink({span, &token});
  done = span.end;
}

size_t AddedTokens::Cut::space_end_after(size_t at) {
  if (at >= white_space.begin && at < white_space.end) return white_space.end;
  white_space = {at, at};
  while (white_space.end < text.size()) {
    const Character character = character_at(text, white_space.end);
    if (!is_white_space(character.code_point)) break;
    white_space.end += character.length;
  }
  return white_space.end;
}

void AddedTokens::cut(std::string_view text, Pass pass, const Accepts& accepts, MatchScratch& scratch, const Sink& sink) const {
  const TokenMatcher& matcher = pass == Pass::kRaw ? raw_ : normalized_;
  if (text.empty()) return;
  if (matcher.empty()) return sink({{0, text.size()}, nullptr});
  Cut{*this, matcher, text, accepts, scratch, sink}.run();
}

AddedToken AddedTokens::parse_token(const JsonView& element) {
  allow_only(element, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.id = static_cast<TokenId>(element.integer("id", 0, kLargestTokenId));
  token.content = element.text("content");
  token.single_word = element.boolean_or("single_word", false);
  token.lstrip = element.boolean_or("lstrip", false);
  token.rstrip = element.boolean_or("rstrip", false);
  token.special = element.boolean_or("special", false);
  token.normalized = element.boolean_or("normalized", !token.special);
  if (token.content.size() > kLongestAddedToken) {
    throw unsupported(element.where(), fmt::format("an added token of {} bytes", token.content.size()),
                      fmt::format("at most {} bytes", kLongestAddedToken));
  }
  return token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Vocabulary& vocabulary, const Normalizer& normalizer,
                         const std::string& where)
    : where_(where) {
  MatchScratch scratch(0);
  // Indices by view must outlive the vector's growth.
  tokens_.reserve(tokens.size());
  size_t index = 0;
  for (AddedToken& token : tokens) {
    const std::string place = fmt::format("{}/{}", where, index++);
    if (token.content.empty()) continue;
    scratch.restart(token.content.size());
    token.match_text = token.normalized ? normalizer.apply(token.content, false, scratch).text : token.content;
    add(std::move(token), vocabulary, place);
  }
  build_matchers(where);
}

// HF tokenizers ignores the ids of this list: a token that the vocabulary has keeps its id there, and the others are numbered on
// from the vocabulary's size. A file that says otherwise would mean one thing here and another there.
void AddedTokens::add(AddedToken token, const Vocabulary& vocabulary, const std::string& where) {
  if (index_of_content_.contains(token.content)) {
    throw Error(ErrorCode::kBadInput, where, fmt::format("the token \"{}\" is added twice", printable(token.content, 60)));
  }
  const auto known = vocabulary.find(token.content);
  const size_t expected = known ? *known : vocabulary.count() + new_count_++;
  if (token.id != expected || (!known && vocabulary.contains(token.id))) {
    throw Error(ErrorCode::kBadInput, where,
                fmt::format("expected the id {} for the token \"{}\", found {}", expected, printable(token.content, 60), token.id));
  }
  const auto index = static_cast<uint32_t>(tokens_.size());
  tokens_.push_back(std::move(token));
  const AddedToken& stored = tokens_.back();
  index_of_id_[stored.id] = index;
  index_of_content_[stored.content] = index;
  if (stored.special) special_contents_.insert(stored.content);
  id_limit_ = std::max<size_t>(id_limit_, stored.id + 1);
}

void AddedTokens::build_matchers(const std::string& where) {
  std::vector<TokenMatcher::Entry> raw, normalized;
  std::unordered_set<std::string_view> seen[2];
  for (uint32_t index = 0; index < tokens_.size(); ++index) {
    const AddedToken& token = tokens_[index];
    if (token.match_text.empty() || !seen[token.normalized ? 1 : 0].insert(token.match_text).second) {
      throw Error(
          ErrorCode::kBadInput, fmt::format("{}/{}", where, index),
          fmt::format("the token \"{}\" is empty or equal to another one once it is normalized", printable(token.content, 60)));
    }
    (token.normalized ? normalized : raw).push_back({token.match_text, index});
  }
  raw_ = TokenMatcher(std::move(raw));
  normalized_ = TokenMatcher(std::move(normalized));
}

const AddedToken* AddedTokens::find(TokenId id) const noexcept {
  const auto found = index_of_id_.find(id);
  return found == index_of_id_.end() ? nullptr : &tokens_[found->second];
}

std::optional<TokenId> AddedTokens::id_of(std::string_view content) const {
  const auto found = index_of_content_.find(content);
  if (found == index_of_content_.end()) return std::nullopt;
  return tokens_[found->second].id;
}

bool AddedTokens::has_special(Pass pass) const noexcept {
  return std::ranges::any_of(
      tokens_, [&](const AddedToken& token) { return token.special && token.normalized == (pass == Pass::kNormalized); });
}

}  // namespace tritllm
