#include "text/normalizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/unicode.h"

namespace tritllm {
namespace {

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

}  // namespace

NormalizedText::NormalizedText(std::string_view source, bool track) : text(source), tracks_origins(track) {
  if (!track) return;
  origins.reserve(source.size());
  for (size_t at = 0; at < source.size();) {
    const size_t end = at + character_at(source, at).length;
    origins.insert(origins.end(), end - at, TextSpan{at, end});
    at = end;
  }
}

NormalizedText NormalizedText::like(const NormalizedText& source) {
  NormalizedText result({}, false);
  result.tracks_origins = source.tracks_origins;
  result.keeps_start = source.keeps_start;
  result.text.reserve(source.text.size());
  return result;
}

void NormalizedText::append(std::string_view bytes, TextSpan origin) {
  text += bytes;
  if (tracks_origins) origins.insert(origins.end(), bytes.size(), origin);
}

void NormalizedText::copy(const NormalizedText& source, TextSpan span) {
  text.append(source.text, span.begin, span.end - span.begin);
  if (!tracks_origins) return;
  const auto at = [&](size_t byte) { return source.origins.begin() + static_cast<std::ptrdiff_t>(byte); };
  origins.insert(origins.end(), at(span.begin), at(span.end));
}

TextSpan NormalizedText::origin_of(TextSpan span) const {
  if (!tracks_origins || span.begin >= span.end) return {};
  TextSpan whole = origins[span.begin];
  for (size_t i = span.begin; i < span.end; ++i) {
    whole = {std::min(whole.begin, origins[i].begin), std::max(whole.end, origins[i].end)};
  }
  return whole;
}

Normalizer::Step Normalizer::parse_step(const JsonView& component) {
  const std::string type = component.text("type");
  for (const auto& [name, form] : {std::pair{"NFC", UnicodeForm::kNfc},
                                   {"NFD", UnicodeForm::kNfd},
                                   {"NFKC", UnicodeForm::kNfkc},
                                   {"NFKD", UnicodeForm::kNfkd}}) {
    if (type != name) continue;
    allow_only(component, {"type"});
    return {form, component.where()};
  }
  if (type == "Replace") {
    allow_only(component, {"type", "pattern", "content"});
    Pattern pattern = Pattern::parse(component.child("pattern"));
    return {Replace{std::move(pattern), component.text("content")}, component.where()};
  }
  if (type == "Prepend") {
    allow_only(component, {"type", "prepend"});
    return {Prepend{component.text("prepend")}, component.where()};
  }
  if (type == "Strip") {
    allow_only(component, {"type", "strip_left", "strip_right"});
    return {Strip{component.boolean_or("strip_left", false), component.boolean_or("strip_right", false)}, component.where()};
  }
  throw unsupported(component.where(), fmt::format("the normalizer \"{}\"", type),
                    "NFC, NFD, NFKC, NFKD, Replace, Prepend, Strip, Sequence");
}

Normalizer Normalizer::parse(const JsonView& component) {
  Normalizer normalizer;
  for (const JsonView& part : flatten_sequences(component, "normalizers")) normalizer.steps_.push_back(parse_step(part));
  return normalizer;
}

// One step on one text.
struct Normalizer::Run {
  const NormalizedText& source;
  MatchScratch& scratch;
  const std::string& where;

  NormalizedText operator()(UnicodeForm form) const;
  NormalizedText operator()(const Replace& step) const;
  NormalizedText operator()(const Prepend& step) const;
  NormalizedText operator()(const Strip& step) const;

  void produce(size_t bytes) const { scratch.budget().produce(bytes, where); }
};

NormalizedText Normalizer::apply(std::string_view source, bool track_origins, MatchScratch& scratch) const {
  NormalizedText text(source, track_origins);
  for (const Step& step : steps_) {
    text = std::visit(Run{text, scratch, step.where}, step.kind);
  }
  return text;
}

// An ASCII character changes only together with marks that follow it, and never what comes before it. So the tables are consulted
// for runs of other characters and the one ASCII character before each.
NormalizedText Normalizer::Run::operator()(UnicodeForm form) const {
  NormalizedText result = NormalizedText::like(source);
  const std::string& text = source.text;
  for (size_t begin = 0; begin < text.size();) {
    const size_t other = static_cast<size_t>(
        std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(begin), text.end(), is_ascii) - text.begin());
    const size_t mixed = other == text.size() ? other : other - (other > begin ? 1 : 0);
    produce(mixed - begin);
    result.copy(source, {begin, mixed});
    const size_t end =
        static_cast<size_t>(std::find_if(text.begin() + static_cast<std::ptrdiff_t>(other), text.end(), is_ascii) - text.begin());
    if (mixed < end) {
      const std::string_view before = std::string_view(text).substr(mixed, end - mixed);
      const std::string after = to_unicode_form(before, form);
      scratch.budget().work(1 + before.size() / 4, where);
      produce(after.size());
      if (after == before) result.copy(source, {mixed, end});
      else result.append(after, source.origin_of({mixed, end}));
    }
    begin = end;
  }
  return result;
}

NormalizedText Normalizer::Run::operator()(const Replace& step) const {
  NormalizedText result = NormalizedText::like(source);
  SegmentCursor segments(step.pattern, source.text, scratch);
  while (const auto segment = segments.next()) {
    if (!segment->is_match) {
      produce(segment->span.end - segment->span.begin);
      result.copy(source, segment->span);
      continue;
    }
    // As in HF tokenizers, a replacement belongs to the last character that it replaces.
    const bool is_one_character = segment->span.begin < segment->span.end &&
                                  segment->span.begin + character_at(source.text, segment->span.begin).length == segment->span.end;
    if (segment->span.begin == 0 && (step.content.empty() || !is_one_character)) result.keeps_start = false;
    produce(step.content.size());
    result.append(step.content, source.origin_of(segment->span));
  }
  return result;
}

NormalizedText Normalizer::Run::operator()(const Prepend& step) const {
  NormalizedText result = NormalizedText::like(source);
  if (source.text.empty()) return result;
  produce(step.text.size() + source.text.size());
  const size_t start = source.origin_of({0, 1}).begin;
  result.append(step.text, {start, start});
  result.copy(source, {0, source.text.size()});
  return result;
}

NormalizedText Normalizer::Run::operator()(const Strip& step) const {
  const std::string_view text = source.text;
  TextSpan kept{0, text.size()};
  while (step.left && kept.begin < kept.end) {
    const Character first = character_at(text, kept.begin);
    if (!is_white_space(first.code_point)) break;
    kept.begin += first.length;
  }
  while (step.right && kept.begin < kept.end) {
    const size_t last = previous_character(text, kept.end);
    if (!is_white_space(character_at(text, last).code_point)) break;
    kept.end = last;
  }
  produce(kept.end - kept.begin);
  NormalizedText result = NormalizedText::like(source);
  result.copy(source, kept);
  if (kept.begin > 0) result.keeps_start = false;
  return result;
}

}  // namespace tritllm
