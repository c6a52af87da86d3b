// Owns the pre_tokenizer of tokenizer.json: how a normalised text is cut into the words within which tokens are merged. Does not
// own added tokens, which are cut out before, nor merging.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/component.h"
#include "text/metaspace.h"
#include "text/pattern.h"
#include "text/segment_joiner.h"

namespace tritllm {

class PreTokenizer {
 public:
  using Sink = std::function<void(std::string_view word)>;

  // `component` is the field of tokenizer.json, which may be null.
  static PreTokenizer parse(const Component& component);

  // Gives the words of `text` to `sink`, in order; a word lives only for its call. `begins_text` says whether this is the start of
  // the whole text and not what stands behind an added token.
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
  using Step = std::variant<Split, AddPrefixSpace, MapBytes, MarkSpaces>;

  // A text on its way through the steps; each piece goes all the way before the next one starts.
  struct Run {
    const PreTokenizer& owner;
    MatchScratch& scratch;
    const Sink& sink;

    void from_step(size_t index, std::string_view text, bool begins_text);
    void apply(const Split& step, size_t index, std::string_view text, bool begins_text);
    void apply(const AddPrefixSpace& step, size_t index, std::string_view text, bool begins_text);
    void apply(const MapBytes& step, size_t index, std::string_view text, bool begins_text);
    void apply(const MarkSpaces& step, size_t index, std::string_view text, bool begins_text);
  };

  void add_steps(const Component& component);
  void add_split(const Component& component);
  void add_digits(const Component& component);
  void add_byte_level(const Component& component);
  void add_metaspace(const Component& component);

  std::vector<Step> steps_;
};

}  // namespace tritllm
