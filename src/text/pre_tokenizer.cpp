#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include "text/byte_level.h"

namespace tritllm {
namespace {

// What ByteLevel cuts by unless it is told not to: GPT-2's pattern.
constexpr std::string_view kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

SplitBehavior parse_behavior(const Component& component) {
  const std::string name = json_string(component.json, "behavior", component.where);
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw unsupported(component.where, fmt::format("the behavior \"{}\"", name),
                    "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

}  // namespace

PreTokenizer PreTokenizer::parse(const Component& component) {
  PreTokenizer pre_tokenizer;
  for (const Component& part : flatten_sequences(component, "pretokenizers")) pre_tokenizer.add_steps(part);
  return pre_tokenizer;
}

void PreTokenizer::add_steps(const Component& component) {
  const std::string type = component.type();
  if (type == "Split") return add_split(component);
  if (type == "Digits") return add_digits(component);
  if (type == "ByteLevel") return add_byte_level(component);
  if (type == "Metaspace") return add_metaspace(component);
  throw unsupported(component.where, fmt::format("the pre-tokenizer \"{}\"", type),
                    "Split, Digits, ByteLevel, Metaspace, Sequence");
}

void PreTokenizer::add_split(const Component& component) {
  component.allow_only({"type", "pattern", "behavior", "invert"});
  steps_.push_back(Split{Pattern::parse(component.child("pattern")), parse_behavior(component),
                         json_boolean_or(component.json, "invert", false, component.where)});
}

void PreTokenizer::add_digits(const Component& component) {
  component.allow_only({"type", "individual_digits"});
  const bool individual = json_boolean_or(component.json, "individual_digits", false, component.where);
  steps_.push_back(Split{Pattern::regex(R"(\p{N})", component.where),
                         individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false});
}

void PreTokenizer::add_byte_level(const Component& component) {
  component.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (json_boolean_or(component.json, "add_prefix_space", true, component.where)) steps_.push_back(AddPrefixSpace{});
  if (json_boolean_or(component.json, "use_regex", true, component.where)) {
    steps_.push_back(Split{Pattern::regex(kGpt2Words, component.where), SplitBehavior::kIsolated, false});
  }
  steps_.push_back(MapBytes{});
}

void PreTokenizer::add_metaspace(const Component& component) {
  const MetaspaceFields fields = parse_metaspace(component);
  steps_.push_back(MarkSpaces{fields.mark, fields.prepend});
  if (fields.split) {
    steps_.push_back(Split{Pattern::literal(fields.mark, component.where), SplitBehavior::kMergedWithNext, false});
  }
}

void PreTokenizer::cut(std::string_view text, bool begins_text, MatchScratch& scratch, const Sink& sink) const {
  if (!text.empty()) Run{*this, scratch, sink}.from_step(0, text, begins_text);
}

void PreTokenizer::Run::from_step(size_t index, std::string_view text, bool begins_text) {
  if (index == owner.steps_.size()) return sink(text);
  std::visit([&](const auto& step) { apply(step, index, text, begins_text); }, owner.steps_[index]);
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
  from_step(index + 1, fmt::format(" {}", text), begins_text);
}

void PreTokenizer::Run::apply(const MapBytes&, size_t index, std::string_view text, bool begins_text) {
  std::string mapped;
  mapped.reserve(text.size() * 2);
  append_byte_level(mapped, text);
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
  from_step(index + 1, marked, begins_text);
}

}  // namespace tritllm
