#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/utf8.h"
#include "text/stream_decoder.h"
#include "text/tokenizer_parts.h"

namespace tritllm {
namespace {

// Offsets within a word are 32 bits wide, and a normalizer may lengthen a text.
constexpr size_t kLongestText = size_t{1} << 28;

void check_text(std::string_view text) {
  if (text.size() > kLongestText) {
    throw Error(ErrorCode::kBadInput, "text", fmt::format("expected at most {} bytes, found {}", kLongestText, text.size()));
  }
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_sequence_length(text.substr(at));
    if (length == 0) {
      throw Error(ErrorCode::kBadInput, fmt::format("text: byte {}", at),
                  fmt::format("expected valid UTF-8, found 0x{:02X}", static_cast<unsigned char>(text[at])));
    }
    at += length;
  }
}

void check_literal(std::span<const TextSpan> literal, size_t text_size) {
  size_t done = 0;
  for (const TextSpan span : literal) {
    if (span.begin < done || span.end < span.begin || span.end > text_size) {
      throw Error(ErrorCode::kUsage, "literal spans",
                  fmt::format("expected ascending stretches of {} bytes, found [{}, {})", text_size, span.begin, span.end));
    }
    done = span.end;
  }
}

bool overlaps(std::span<const TextSpan> literal, TextSpan span) {
  const auto next = std::ranges::upper_bound(literal, span.begin, {}, &TextSpan::end);
  return next != literal.end() && next->begin < span.end && next->begin < next->end;
}

Component field(const Json& document, std::string_view key, const std::string& where) {
  static const Json absent = nullptr;
  const auto found = document.find(key);
  return {found == document.end() ? absent : *found, fmt::format("{}: /{}", where, key)};
}

}  // namespace

// One text on its way to token ids.
class Tokenizer::Encoding {
 public:
  Encoding(const Parts& parts, std::string_view text, const EncodeOptions& options)
      : parts_(parts), text_(text), options_(options), match_scratch_(text.size()) {}

  std::vector<TokenId> run() {
    const auto accepts = [this](const AddedToken& token, TextSpan span) { return may_be(token, span); };
    if (options_.add_special) ids_ = parts_.post_processor.prefix;
    parts_.added_tokens.cut(text_, AddedTokens::Pass::kRaw, accepts, match_scratch_, [this](const AddedTokens::Part& part) {
      if (part.token != nullptr) ids_.push_back(part.token->id);
      else normalize(part.span);
    });
    if (options_.add_special) ids_.insert(ids_.end(), parts_.post_processor.suffix.begin(), parts_.post_processor.suffix.end());
    return std::move(ids_);
  }

 private:
  bool may_be(const AddedToken& token, TextSpan origin) const {
    return !token.special || (options_.parse_special && !overlaps(options_.literal, origin));
  }

  void normalize(TextSpan span) {
    const std::string_view text = text_.substr(span.begin, span.end - span.begin);
    if (parts_.normalizer.changes_nothing()) return cut(text, span, nullptr);
    const bool track = !options_.literal.empty() && parts_.added_tokens.has_special(AddedTokens::Pass::kNormalized);
    const NormalizedText normalized = parts_.normalizer.apply(text, track, match_scratch_);
    cut(normalized.text, span, &normalized);
  }

  // `normalized` is null where the text is still the source's at `source`.
  void cut(std::string_view text, TextSpan source, const NormalizedText* normalized) {
    const bool begins_text = source.begin == 0 && (normalized == nullptr || normalized->keeps_start);
    const auto accepts = [&](const AddedToken& token, TextSpan span) {
      const TextSpan origin = normalized == nullptr ? span : normalized->origin_of(span);
      return may_be(token, {source.begin + origin.begin, source.begin + origin.end});
    };
    parts_.added_tokens.cut(text, AddedTokens::Pass::kNormalized, accepts, match_scratch_, [&](const AddedTokens::Part& part) {
      if (part.token != nullptr) return ids_.push_back(part.token->id);
      parts_.pre_tokenizer.cut(text.substr(part.span.begin, part.span.end - part.span.begin), begins_text && part.span.begin == 0,
                               match_scratch_, [this](std::string_view word) { encode_word(word); });
    });
  }

  void encode_word(std::string_view word) {
    if (word.size() >= Bpe::kLongestWord) throw Error(ErrorCode::kBadInput, "text", "too long once it is normalized");
    parts_.model.encode(word, bpe_scratch_, ids_);
  }

  const Parts& parts_;
  std::string_view text_;
  const EncodeOptions& options_;
  MatchScratch match_scratch_;
  BpeScratch bpe_scratch_;
  std::vector<TokenId> ids_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& where) {
  const Json document = parse_json(tokenizer_json, where);
  if (const std::string version = json_string(document, "version", where); version != "1.0") {
    throw unsupported(where, fmt::format("the version \"{}\"", version), "1.0");
  }
  // Truncation and padding are for batches of training data; here a text is encoded as it is.
  Component{document, where}.allow_only(
      {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"});
  Bpe model = Bpe::parse(field(document, "model", where));
  Normalizer normalizer = Normalizer::parse(field(document, "normalizer", where));
  AddedTokens added_tokens = AddedTokens::parse(field(document, "added_tokens", where), model.vocabulary(), normalizer);
  const auto is_known = [&](TokenId id) { return model.vocabulary().contains(id) || added_tokens.find(id) != nullptr; };
  PostProcessor post_processor = PostProcessor::parse(field(document, "post_processor", where), is_known);
  return Tokenizer(
      std::make_unique<const Parts>(Parts{std::move(model), std::move(normalizer), std::move(added_tokens),
                                          PreTokenizer::parse(field(document, "pre_tokenizer", where)), std::move(post_processor),
                                          TokenDecoder::parse(field(document, "decoder", where))}));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  check_text(text);
  check_literal(options.literal, text.size());
  return Encoding(*parts_, text, options).run();
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  DecodeRun run(parts_->decoder);
  std::string text;
  for (const TokenId id : ids) {
    if (const auto token = shown_text(id, skip_special)) run.push(*token, text);
  }
  run.finish(text);
  return text;
}

std::optional<std::string_view> Tokenizer::shown_text(TokenId id, bool skip_special) const {
  if (!is_known(id)) return std::nullopt;
  const AddedToken* added = parts_->added_tokens.find(id);
  const std::string_view text = added != nullptr ? std::string_view(added->match_text) : parts_->model.vocabulary().content(id);
  // By its text and not by its id, as HF tokenizers does: a special token that the normalizer changes is shown.
  if (skip_special && parts_->added_tokens.is_special_content(text)) return std::nullopt;
  return text;
}

std::optional<TokenId> Tokenizer::token_id(std::string_view content) const {
  if (const auto added = parts_->added_tokens.id_of(content)) return added;
  return parts_->model.vocabulary().find(content);
}

std::string_view Tokenizer::token_content(TokenId id) const {
  const AddedToken* added = parts_->added_tokens.find(id);
  return added != nullptr ? std::string_view(added->content) : parts_->model.vocabulary().content(id);
}

std::string Tokenizer::token_bytes(TokenId id) const {
  const auto text = shown_text(id, false);
  return text ? parts_->decoder.token_bytes(*text) : std::string();
}

bool Tokenizer::is_special(TokenId id) const {
  const AddedToken* added = parts_->added_tokens.find(id);
  return added != nullptr && added->special;
}

bool Tokenizer::is_known(TokenId id) const {
  return parts_->model.vocabulary().contains(id) || parts_->added_tokens.find(id) != nullptr;
}

size_t Tokenizer::vocabulary_size() const {
  return std::max(parts_->model.vocabulary().id_limit(), parts_->added_tokens.id_limit());
}

std::vector<TokenId> Tokenizer::prefix_tokens() const { return parts_->post_processor.prefix; }

}  // namespace tritllm
