// Owns the pre_tokenizer of tokenizer.json: how a normalised text is cut into the words within which tokens are merged, and the two
// ways to write bytes and spaces as visible characters (ByteLevel, Metaspace), which the decoder undoes. Does not own added tokens,
// which are cut out before, nor merging.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"
#include "text/tokenizer_parts.h"

namespace tritllm {

// Each byte of `text` as its character.
void append_byte_level(std::string& out, std::string_view text);

// The byte that a character means; nothing for other characters.
std::optional<uint8_t> byte_of_character(uint32_t code_point) noexcept;

// A token's bytes, or the token unchanged if one of its characters means no byte.
std::string undo_byte_level(std::string_view token);

enum class PrependScheme { kAlways, kFirst, kNever };

struct MetaspaceFields {
  std::string mark;       // one character
  PrependScheme prepend;  // whether a text that does not start with the mark gets one
  bool split;             // whether each mark starts a word
};

MetaspaceFields parse_metaspace(const JsonView& component);

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Takes the segments of a text in order and returns the pieces that they form: in order, none empty. Decides whether the matches of
// a split are dropped, kept apart or joined to their neighbours.
class SegmentJoiner {
 public:
  explicit SegmentJoiner(SplitBehavior behavior) : behavior_(behavior) {}

  // The piece that is complete now that this segment is known not to join it, if there is one.
  std::optional<TextSpan> add(const Segment& segment);
  // The last piece.
  std::optional<TextSpan> finish();

 private:
  bool joins_previous(const Segment& segment) const;

  SplitBehavior behavior_;
  std::optional<TextSpan> open_;  // a piece that the next segment may still join
  bool previous_is_match_ = false;
};

class PreTokenizer {
 public:
  using Sink = std::function<void(std::string_view word)>;

  // `component` is the field of tokenizer.json, which may be null.
  static PreTokenizer parse(const JsonView& component);

  // Gives the words of `text` to `sink`, in order; a word lives only for its call. `begins_text` says whether this is the start of
  // the whole text rather than the text after an added token.
  void cut(std::string_view text, bool begins_text, MatchScratch& scratch, const Sink& sink) const;

 private:
  struct Split {
    Pattern pattern;
    SplitBehavior behavior;
    bool invert;
  };
  struct AddPrefixSpace {};  // to a piece that does not start with one
  struct MapBytes {};        // each byte to its visible character
  struct MarkSpaces {
    std::string mark;
    PrependScheme prepend;
  };
  // The types of tokenizer.json are sequences of these.
  struct Step {
    std::variant<Split, AddPrefixSpace, MapBytes, MarkSpaces> kind;
    std::string where;  // for errors
  };

  // A text on its way through the steps; each piece goes all the way before the next one starts.
  struct Run {
    const PreTokenizer& owner;
    MatchScratch& scratch;
    const Sink& sink;

    void from_step(size_t index, std::string_view text, bool begins_text);
    void produce(size_t index, size_t bytes) { scratch.budget().produce(bytes, owner.steps_[index].where); }
    void apply(const Split& step, size_t index, std::string_view text, bool begins_text);
    void apply(const AddPrefixSpace& step, size_t index, std::string_view text, bool begins_text);
    void apply(const MapBytes& step, size_t index, std::string_view text, bool begins_text);
    void apply(const MarkSpaces& step, size_t index, std::string_view text, bool begins_text);
  };

  void add_steps(const JsonView& component);
  void add_split(const JsonView& component);
  void add_digits(const JsonView& component);
  void add_byte_level(const JsonView& component);
  void add_metaspace(const JsonView& component);

  std::vector<Step> steps_;
};

}  // namespace tritllm
