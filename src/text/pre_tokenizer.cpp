#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include <array>

#include "text/unicode.h"

namespace tritllm {
namespace {

struct ByteMap {
  std::array<std::string, 256> text_of;
  std::array<int, 0x200> byte_of;
};

// Bytes that are visible in Latin-1 map to themselves, the others, in order, to the code points from U+0100 on.
constexpr bool is_visible(uint32_t byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae; }

ByteMap make_map() {
  ByteMap map;
  map.byte_of.fill(-1);
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint32_t code_point = is_visible(byte) ? byte : next++;
    append_character(map.text_of[byte], code_point);
    map.byte_of[code_point] = static_cast<int>(byte);
  }
  return map;
}

const ByteMap& byte_map() {
  static const ByteMap map = make_map();
  return map;
}

}  // namespace

void append_byte_level(std::string& out, std::string_view text) {
  const ByteMap& map = byte_map();
  for (const char byte : text) out += map.text_of[static_cast<unsigned char>(byte)];
}

std::optional<uint8_t> byte_of_character(uint32_t code_point) noexcept {
  const ByteMap& map = byte_map();
  if (code_point >= map.byte_of.size() || map.byte_of[code_point] < 0) return std::nullopt;
  return static_cast<uint8_t>(map.byte_of[code_point]);
}

std::string undo_byte_level(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const Character character = character_at(token, at);
    const auto byte = byte_of_character(character.code_point);
    if (!byte) return std::string(token);
    bytes += static_cast<char>(*byte);
    at += character.length;
  }
  return bytes;
}

namespace {

PrependScheme parse_scheme(const JsonView& component) {
  const std::string name = component.optional_text("prepend_scheme").value_or("always");
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  throw unsupported(component.where(), fmt::format("the prepend_scheme \"{}\"", name), "always, first, never");
}

}  // namespace

MetaspaceFields parse_metaspace(const JsonView& component) {
  allow_only(component, {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  MetaspaceFields fields;
  fields.mark = component.text("replacement");
  if (fields.mark.empty() || character_at(fields.mark, 0).length != fields.mark.size()) {
    throw Error(ErrorCode::kBadInput, component.where(),
                fmt::format("expected a replacement of one character, found \"{}\"", printable(fields.mark)));
  }
  fields.prepend = parse_scheme(component);
  // The older field with the same meaning; files that have both agree.
  if (!component.boolean_or("add_prefix_space", true) && fields.prepend != PrependScheme::kNever) {
    throw Error(ErrorCode::kBadInput, component.where(), "add_prefix_space is false, but prepend_scheme is not \"never\"");
  }
  fields.split = component.boolean_or("split", true);
  return fields;
}

bool SegmentJoiner::joins_previous(const Segment& segment) const {
  switch (behavior_) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated: return false;
    case SplitBehavior::kMergedWithPrevious: return segment.is_match && !previous_is_match_;
    case SplitBehavior::kMergedWithNext: return !segment.is_match && previous_is_match_;
    case SplitBehavior::kContiguous: return segment.is_match == previous_is_match_;
  }
  return false;
}

std::optional<TextSpan> SegmentJoiner::add(const Segment& segment) {
  std::optional<TextSpan> complete;
  if (open_ && joins_previous(segment)) {
    open_->end = segment.span.end;
  } else {
    complete = finish();
    if (behavior_ != SplitBehavior::kRemoved || !segment.is_match) open_ = segment.span;
  }
  previous_is_match_ = segment.is_match;
  return complete;
}

std::optional<TextSpan> SegmentJoiner::finish() {
  const std::optional<TextSpan> last = open_;
  open_.reset();
  if (last && last->begin == last->end) return std::nullopt;
  return last;
}

namespace {

// GPT-2's pattern, by which ByteLevel cuts unless use_regex is false.
constexpr std::string_view kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

SplitBehavior parse_behavior(const JsonView& component) {
  const std::string name = component.text("behavior");
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw unsupported(component.where(), fmt::format("the behavior \"{}\"", name),
                    "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

}  // namespace

PreTokenizer PreTokenizer::parse(const JsonView& component) {
  PreTokenizer pre_tokenizer;
  for (const JsonView& part : flatten_sequences(component, "pretokenizers")) pre_tokenizer.add_steps(part);
  return pre_tokenizer;
}

void PreTokenizer::add_steps(const JsonView& component) {
  const std::string type = component.text("type");
  if (type == "Split") return add_split(component);
  if (type == "Digits") return add_digits(component);
  if (type == "ByteLevel") return add_byte_level(component);
  if (type == "Metaspace") return add_metaspace(component);
  throw unsupported(component.where(), fmt::format("the pre-tokenizer \"{}\"", type),
                    "Split, Digits, ByteLevel, Metaspace, Sequence");
}

void PreTokenizer::add_split(const JsonView& component) {
  allow_only(component, {"type", "pattern", "behavior", "invert"});
  Pattern pattern = Pattern::parse(component.child("pattern"));
  const bool invert = component.boolean_or("invert", false);
  steps_.push_back({Split{std::move(pattern), parse_behavior(component), invert}, component.where()});
}

void PreTokenizer::add_digits(const JsonView& component) {
  allow_only(component, {"type", "individual_digits"});
  const bool individual = component.boolean_or("individual_digits", false);
  const SplitBehavior behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  steps_.push_back({Split{Pattern::regex(R"(\p{N})", component.where()), behavior, false}, component.where()});
}

void PreTokenizer::add_byte_level(const JsonView& component) {
  allow_only(component, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (component.boolean_or("add_prefix_space", true)) steps_.push_back({AddPrefixSpace{}, component.where()});
  if (component.boolean_or("use_regex", true)) {
    steps_.push_back({Split{Pattern::regex(kGpt2Words, component.where()), SplitBehavior::kIsolated, false}, component.where()});
  }
  steps_.push_back({MapBytes{}, component.where()});
}

void PreTokenizer::add_metaspace(const JsonView& component) {
  const MetaspaceFields fields = parse_metaspace(component);
  steps_.push_back({MarkSpaces{fields.mark, fields.prepend}, component.where()});
  if (fields.split) {
    Pattern pattern = Pattern::literal(fields.mark, component.where());
    steps_.push_back({Split{std::move(pattern), SplitBehavior::kMergedWithNext, false}, component.where()});
  }
}

void PreTokenizer::cut(std::string_view text, bool begins_text, MatchScratch& scratch, const Sink& sink) const {
  if (!text.empty()) Run{*this, scratch, sink}.from_step(0, text, begins_text);
}

void PreTokenizer::Run::from_step(size_t index, std::string_view text, bool begins_text) {
  if (index == owner.steps_.size()) return sink(text);
  scratch.budget().work(1, owner.steps_[index].where);
  std::visit([&](const auto& step) { apply(step, index, text, begins_text); }, owner.steps_[index].kind);
}

void PreTokenizer::Run::apply(const Split& step, size_t index, std::string_view text, bool begins_text) {
  const auto pass_on = [&](const std::optional<TextSpan>& piece) {
    if (!piece) return;
    from_step(index + 1, text.substr(piece->begin, piece->end - piece->begin), begins_text && piece->begin == 0);
  };
  SegmentCursor segments(step.pattern, text, scratch);
  SegmentJoiner joiner(step.behavior);
  while (auto segment = segments.next()) {
    if (step.invert) segment->is_match = !segment->is_match;
    pass_on(joiner.add(*segment));
  }
  pass_on(joiner.finish());
}

void PreTokenizer::Run::apply(const AddPrefixSpace&, size_t index, std::string_view text, bool begins_text) {
  if (text.starts_with(' ')) return from_step(index + 1, text, begins_text);
  produce(index, text.size() + 1);
  from_step(index + 1, fmt::format(" {}", text), begins_text);
}

void PreTokenizer::Run::apply(const MapBytes&, size_t index, std::string_view text, bool begins_text) {
  std::string mapped;
  mapped.reserve(text.size() * 2);
  append_byte_level(mapped, text);
  produce(index, mapped.size());
  from_step(index + 1, mapped, begins_text);
}

void PreTokenizer::Run::apply(const MarkSpaces& step, size_t index, std::string_view text, bool begins_text) {
  std::string marked;
  marked.reserve(text.size() + step.mark.size());
  const bool may_prepend = step.prepend == PrependScheme::kAlways || (step.prepend == PrependScheme::kFirst && begins_text);
  if (may_prepend && !text.starts_with(' ') && !text.starts_with(step.mark)) marked = step.mark;
  for (const char c : text) {
    if (c == ' ') marked += step.mark;
    else marked += c;
  }
  produce(index, marked.size());
  from_step(index + 1, marked, begins_text);
}

}  // namespace tritllm
