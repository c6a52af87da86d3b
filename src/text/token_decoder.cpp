#include "text/token_decoder.h"

#include <fmt/format.h>

#include "core/utf8.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace tritllm {
namespace {

struct BadStart {
  size_t length;   // bytes that become one U+FFFD: the longest start of a valid sequence, at least one byte
  bool may_go_on;  // whether more bytes could make it valid
};

// For bytes that do not start with a valid sequence.
BadStart bad_start(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned first = byte(0);
  if (first < 0xc2 || first > 0xf4) return {1, false};
  const size_t needed = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  unsigned least = 0x80;
  unsigned most = 0xbf;
  if (first == 0xe0) least = 0xa0;
  if (first == 0xed) most = 0x9f;
  if (first == 0xf0) least = 0x90;
  if (first == 0xf4) most = 0x8f;
  size_t length = 1;
  while (length < needed && length < bytes.size() && byte(length) >= least && byte(length) <= most) {
    least = 0x80;
    most = 0xbf;
    ++length;
  }
  return {length, length == bytes.size()};
}

}  // namespace

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!held_.empty()) {
    joined = std::move(held_);
    joined += bytes;
    bytes = joined;
    held_.clear();
  }
  while (!bytes.empty()) {
    size_t length = utf8_sequence_length(bytes);
    if (length > 0) {
      out += bytes.substr(0, length);
    } else {
      const BadStart bad = bad_start(bytes);
      if (bad.may_go_on) {
        held_ = bytes;
        return;
      }
      out += kReplacementCharacter;
      length = bad.length;
    }
    bytes.remove_prefix(length);
  }
}

void Utf8Repair::finish(std::string& out) {
  if (!held_.empty()) out += kReplacementCharacter;
  held_.clear();
}

namespace {

bool is_one_character(std::string_view text) { return !text.empty() && character_at(text, 0).length == text.size(); }

std::optional<unsigned> hexadecimal(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  return std::nullopt;
}

}  // namespace

TokenDecoder TokenDecoder::parse(const JsonView& component) {
  TokenDecoder decoder;
  if (component.json().is_null()) {
    decoder.stages_.push_back({JoinWithSpaces{}, component.where()});
    return decoder;
  }
  for (const JsonView& part : flatten_sequences(component, "decoders")) decoder.stages_.push_back(parse_stage(part));
  return decoder;
}

TokenDecoder::Stage TokenDecoder::parse_stage(const JsonView& component) {
  const std::string type = component.text("type");
  if (type == "ByteLevel") {
    allow_only(component, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    return {ByteLevel{}, component.where()};
  }
  if (type == "Metaspace") {
    const MetaspaceFields fields = parse_metaspace(component);
    return {Metaspace{fields.mark, fields.prepend != PrependScheme::kNever}, component.where()};
  }
  if (type == "Replace") {
    allow_only(component, {"type", "pattern", "content"});
    Pattern pattern = Pattern::parse(component.child("pattern"));
    const bool fits_fragments = is_one_character(pattern.literal_text());
    return {Replace{std::move(pattern), component.text("content"), fits_fragments}, component.where()};
  }
  if (type == "Strip") return {parse_strip(component), component.where()};
  if (type == "ByteFallback" || type == "Fuse") {
    allow_only(component, {"type"});
    if (type == "Fuse") return {Fuse{}, component.where()};
    return {ByteFallback{}, component.where()};
  }
  throw unsupported(component.where(), fmt::format("the decoder \"{}\"", type),
                    "ByteLevel, Metaspace, Replace, Strip, ByteFallback, Fuse, Sequence");
}

TokenDecoder::Strip TokenDecoder::parse_strip(const JsonView& component) {
  allow_only(component, {"type", "content", "start", "stop"});
  Strip strip{component.text("content"), component.integer("start"), component.integer("stop")};
  if (is_one_character(strip.content)) return strip;
  throw Error(ErrorCode::kBadInput, component.where(),
              fmt::format("expected a content of one character, found \"{}\"", printable(strip.content)));
}

namespace {

// The byte of a token such as <0xE2>. As in HF tokenizers, the first of the two digits may be a plus sign.
std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  const auto high = token[3] == '+' ? 0u : hexadecimal(token[3]);
  const auto low = hexadecimal(token[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<char>(static_cast<unsigned char>(*high * 16 + *low));
}

std::string replace_matches(const Pattern& pattern, std::string_view content, std::string_view text, const std::string& where,
                            MatchScratch& scratch) {
  std::string result;
  scratch.budget().produce(text.size(), where);
  SegmentCursor segments(pattern, text, scratch);
  while (const auto segment = segments.next()) {
    if (segment->is_match) {
      scratch.budget().produce(content.size(), where);
      result += content;
      continue;
    }
    result += text.substr(segment->span.begin, segment->span.end - segment->span.begin);
  }
  return result;
}

std::string_view strip_ends(std::string_view token, std::string_view content, uint64_t start, uint64_t stop) {
  for (uint64_t i = 0; i < start && token.starts_with(content); ++i) token.remove_prefix(content.size());
  for (uint64_t i = 0; i < stop && token.ends_with(content); ++i) token.remove_suffix(content.size());
  return token;
}

}  // namespace

std::string TokenDecoder::token_bytes(std::string_view token) const {
  std::string bytes(token);
  MatchScratch scratch(token.size());
  for (const Stage& stage : stages_) {
    if (const auto* replace = std::get_if<Replace>(&stage.kind)) {
      bytes = replace_matches(replace->pattern, replace->content, bytes, stage.where, scratch);
    } else if (const auto* metaspace = std::get_if<Metaspace>(&stage.kind)) {
      bytes = replace_matches(Pattern::literal(metaspace->mark, ""), " ", bytes, stage.where, scratch);
    } else if (std::holds_alternative<ByteFallback>(stage.kind)) {
      if (const auto byte = byte_of_token(bytes)) return std::string(1, *byte);
    } else if (std::holds_alternative<ByteLevel>(stage.kind)) {
      return undo_byte_level(bytes);
    }
  }
  return bytes;
}

DecodeRun::DecodeRun(const TokenDecoder& decoder)
    : decoder_(&decoder), states_(decoder.stages_.size()), scratch_(std::make_unique<MatchScratch>(0)) {}

void DecodeRun::consume(size_t index, std::string_view text, bool ends_token, std::string& out) {
  if (index == states_.size()) {
    out += text;
    return;
  }
  const D::Stage& stage = decoder_->stages_[index];
  scratch_->budget().work(1, stage.where);
  std::visit([&](const auto& kind) { apply(kind, index, text, ends_token, out); }, stage.kind);
}

// Other work of the thread between two tokens does not count.
void DecodeRun::push(std::string_view token, std::string& out) {
  scratch_->budget().allow(token.size());
  scratch_->budget().pause();
  consume(0, token, true, out);
}

void DecodeRun::finish(std::string& out) {
  scratch_->budget().pause();
  for (size_t index = 0; index < states_.size(); ++index) finish_stage(index, out);
}

void DecodeRun::finish_stage(size_t index, std::string& out) {
  const auto& stage = decoder_->stages_[index].kind;
  if (std::holds_alternative<D::ByteFallback>(stage)) {
    flush_bytes(index, out);
  } else if (std::holds_alternative<D::Fuse>(stage)) {
    emit(index, "", true, out);
  } else if (std::holds_alternative<D::ByteLevel>(stage)) {
    std::string rest;
    states_[index].repair.finish(rest);
    emit(index, rest, true, out);
  }
}

std::string DecodeRun::replaced(const D::Replace& stage, size_t index, std::string_view text) {
  return replace_matches(stage.pattern, stage.content, text, decoder_->stages_[index].where, *scratch_);
}

void DecodeRun::apply(const D::Replace& stage, size_t index, std::string_view text, bool ends_token, std::string& out) {
  if (stage.fits_fragments) return emit(index, replaced(stage, index, text), ends_token, out);
  State& state = states_[index];
  state.held += text;
  if (!ends_token) return;
  const std::string token = std::exchange(state.held, {});
  emit(index, replaced(stage, index, token), true, out);
}

void DecodeRun::apply(const D::ByteFallback&, size_t index, std::string_view text, bool ends_token, std::string& out) {
  State& state = states_[index];
  state.held += text;
  if (!ends_token) return;
  const std::string token = std::exchange(state.held, {});
  if (const auto byte = byte_of_token(token)) {
    state.bytes += *byte;
    return;
  }
  flush_bytes(index, out);
  emit(index, token, true, out);
}

// One bad byte anywhere in a run of byte tokens makes U+FFFD of each of them, so a run is held back until it ends.
void DecodeRun::flush_bytes(size_t index, std::string& out) {
  const std::string bytes = std::exchange(states_[index].bytes, {});
  if (bytes.empty()) return;
  if (is_valid_utf8(bytes)) return emit(index, bytes, true, out);
  for (size_t i = 0; i < bytes.size(); ++i) emit(index, kReplacementCharacter, true, out);
}

void DecodeRun::apply(const D::Fuse&, size_t index, std::string_view text, bool, std::string& out) {
  emit(index, text, false, out);
}

void DecodeRun::apply(const D::ByteLevel&, size_t index, std::string_view text, bool ends_token, std::string& out) {
  State& state = states_[index];
  state.held += text;
  if (!ends_token) return;
  std::string certain;
  state.repair.push(undo_byte_level(std::exchange(state.held, {})), certain);
  emit(index, certain, false, out);
}

void DecodeRun::apply(const D::JoinWithSpaces&, size_t index, std::string_view text, bool ends_token, std::string& out) {
  State& state = states_[index];
  if (state.at_start && state.tokens > 0) emit(index, " ", false, out);
  state.at_start = ends_token;
  if (ends_token) ++state.tokens;
  emit(index, text, ends_token, out);
}

void DecodeRun::apply(const D::Strip& stage, size_t index, std::string_view text, bool ends_token, std::string& out) {
  State& state = states_[index];
  if (stage.stop > 0) {
    state.held += text;
    if (!ends_token) return;
    const std::string token = std::exchange(state.held, {});
    return emit(index, strip_ends(token, stage.content, stage.start, stage.stop), true, out);
  }
  if (state.at_start) {
    const std::string_view kept = strip_ends(text, stage.content, stage.start - state.removed, 0);
    state.removed += (text.size() - kept.size()) / stage.content.size();
    state.at_start = kept.empty();
    text = kept;
  }
  if (ends_token) state.removed = 0;
  if (ends_token) state.at_start = true;
  emit(index, text, ends_token, out);
}

void DecodeRun::apply(const D::Metaspace& stage, size_t index, std::string_view text, bool ends_token, std::string& out) {
  State& state = states_[index];
  const std::string_view space = state.tokens == 0 && stage.drops_first ? "" : " ";
  std::string shown;
  while (!text.empty()) {
    const size_t mark = text.find(stage.mark);
    shown += text.substr(0, mark);
    if (mark == std::string_view::npos) break;
    shown += space;
    text.remove_prefix(mark + stage.mark.size());
  }
  if (ends_token) ++state.tokens;
  emit(index, shown, ends_token, out);
}

}  // namespace tritllm
