#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>

#include "core/utf8.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoder.h"

namespace tritllm {
namespace {

using IsKnown = std::function<bool(TokenId)>;

// The post_processor of tokenizer.json: the tokens that are put before and after a text. Pairs of texts are not supported.
struct PostProcessor {
  std::vector<TokenId> prefix, suffix;
};

constexpr size_t kMostTokens = 1024;

// The ids of a template's special token.
std::vector<TokenId> special_ids(const JsonView& tokens, const std::string& name, const IsKnown& is_known) {
  const JsonView entry = tokens.child(name);
  const JsonView ids = entry.child("ids");
  if (!ids.json().is_array() || ids.json().size() > kMostTokens) ids.refuse("an array of ids");
  std::vector<TokenId> result;
  for (const Json& id : ids.json()) {
    const bool is_whole = id.is_number_unsigned() || (id.is_number_integer() && id.get<int64_t>() >= 0);
    if (!is_whole || id.get<uint64_t>() > kLargestTokenId || !is_known(id.get<TokenId>())) {
      throw Error(ErrorCode::kBadInput, ids.where(), "expected the id of a token");
    }
    result.push_back(id.get<TokenId>());
  }
  return result;
}

PostProcessor parse_template(const JsonView& component, const IsKnown& is_known) {
  allow_only(component, {"type", "single", "pair", "special_tokens"});
  const JsonView single = component.child("single");
  const JsonView tokens = component.child("special_tokens");
  PostProcessor result;
  bool has_text = false;
  for (const JsonView& part : single.items()) {
    allow_only(part, {"Sequence", "SpecialToken"});
    if (part.has("Sequence")) {
      const JsonView sequence = part.child("Sequence");
      const std::string name = sequence.text("id");
      if (name != "A" || has_text) throw unsupported(single.where(), "a template that holds more than one text", "one text, \"A\"");
      has_text = true;
      continue;
    }
    const JsonView token = part.child("SpecialToken");
    auto& side = has_text ? result.suffix : result.prefix;
    for (const TokenId id : special_ids(tokens, token.text("id"), is_known)) side.push_back(id);
    if (side.size() > kMostTokens) throw unsupported(single.where(), fmt::format("more than {} tokens", kMostTokens), "fewer");
  }
  if (!has_text) throw Error(ErrorCode::kBadInput, single.where(), "expected a template that holds the text \"A\"");
  return result;
}

PostProcessor parse_post_processor(const JsonView& component, const IsKnown& is_known) {
  PostProcessor result;
  bool has_template = false;
  for (const JsonView& part : flatten_sequences(component, "processors")) {
    const std::string type = part.text("type");
    if (type == "ByteLevel") {
      // It trims the places of tokens in the text, which nothing here reports.
      allow_only(part, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    } else if (type != "TemplateProcessing") {
      throw unsupported(part.where(), fmt::format("the post-processor \"{}\"", type), "TemplateProcessing, ByteLevel, Sequence");
    } else if (has_template) {
      throw unsupported(part.where(), "a second template", "one template");
    } else {
      has_template = true;
      result = parse_template(part, is_known);
    }
  }
  return result;
}

// Offsets within a word are 32 bits wide, and a normalizer may make a text longer.
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
                  fmt::format("expected ascending spans within {} bytes, found [{}, {})", text_size, span.begin, span.end));
    }
    done = span.end;
  }
}

bool overlaps(std::span<const TextSpan> literal, TextSpan span) {
  const auto next = std::ranges::upper_bound(literal, span.begin, {}, &TextSpan::end);
  return next != literal.end() && next->begin < span.end && next->begin < next->end;
}

// Fields that may be missing are read as null.
JsonView field(const JsonView& document, std::string_view key) {
  static const Json absent = nullptr;
  return document.has(key) ? document.child(key) : JsonView(absent, fmt::format("{}: /{}", document.where(), key));
}

// The long lists of tokenizer.json, read one element at a time: a tree of them would take some forty times their bytes.
class LongLists {
 public:
  Vocabulary vocabulary;
  MergeList merges;
  std::vector<AddedToken> added_tokens;

  // Returns the rest of the document.
  Json read(std::string_view text, const std::string& where, const Json* other_added_tokens) {
    static constexpr std::string_view kLists[] = {"/model/vocab", "/model/merges", "/added_tokens"};
    const std::string vocabulary_place = where + ": /model/vocab", merges_place = where + ": /model/merges";
    Json rest = parse_json_in_parts(text, where, kLists, [&](size_t list, const std::string& key, const Json& value) {
      // Unigram's vocabulary is a list of pairs. It comes before the model's type is looked at, or without a type.
      if (list == 0 && value.is_array()) throw unsupported(where + ": /model", "the model \"Unigram\"", "BPE");
      if (list == 0) vocabulary.add(key, value, vocabulary_place);
      else if (list == 1) merges.add(value, merges_place);
      else if (other_added_tokens == nullptr) add_token(value, where);
    });
    vocabulary.finish(vocabulary_place);
    if (other_added_tokens != nullptr) {
      for (const Json& token : *other_added_tokens) add_token(token, where);
    }
    return rest;
  }

 private:
  void add_token(const Json& token, const std::string& where) {
    const JsonView element(token, fmt::format("{}: /added_tokens/{}", where, added_tokens.size()));
    added_tokens.push_back(AddedTokens::parse_token(element));
  }
};

}  // namespace

struct Tokenizer::Parts {
  Bpe model;
  Normalizer normalizer;
  AddedTokens added_tokens;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  TokenDecoder decoder;
};

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

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& where, const Json* other_added_tokens) {
  LongLists lists;
  const Json rest = lists.read(tokenizer_json, where, other_added_tokens);
  const JsonView document(rest, where);
  if (const std::string version = document.text("version"); version != "1.0") {
    throw unsupported(where, fmt::format("the version \"{}\"", version), "1.0");
  }
  // Truncation and padding are for batches of training data; here a text is encoded as it is.
  allow_only(document, {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                        "decoder", "model"});
  Bpe model = Bpe::parse(field(document, "model"), std::move(lists.vocabulary), lists.merges);
  Normalizer normalizer = Normalizer::parse(field(document, "normalizer"));
  const JsonView added_field = field(document, "added_tokens");
  if (!added_field.json().is_null() && !added_field.json().is_array()) added_field.refuse("an array of tokens");
  AddedTokens added_tokens(std::move(lists.added_tokens), model.vocabulary(), normalizer, added_field.where());
  const auto is_known = [&](TokenId id) { return model.vocabulary().contains(id) || added_tokens.find(id) != nullptr; };
  PostProcessor post_processor = parse_post_processor(field(document, "post_processor"), is_known);
  return Tokenizer(std::make_unique<const Parts>(
      Parts{std::move(model), std::move(normalizer), std::move(added_tokens), PreTokenizer::parse(field(document, "pre_tokenizer")),
            std::move(post_processor), TokenDecoder::parse(field(document, "decoder"))}));
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
  // By text and not by id, as HF tokenizers does: a special token that the normalizer changes is shown.
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

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special), run_(std::make_unique<DecodeRun>(tokenizer.parts_->decoder)) {}
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(TokenId id) {
  std::string text;
  if (const auto token = tokenizer_->shown_text(id, skip_special_)) run_->push(*token, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  run_->finish(text);
  return text;
}

}  // namespace tritllm
