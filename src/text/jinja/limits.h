// Owns the limits of a template and of one rendering, the account that a rendering keeps of them, and how the parts of the engine
// report a failure whose place they do not know (the interpreter adds it). A template comes with a model and a conversation with a
// request: neither may take more time, stack or memory than this. docs/chat_templates.md lists the limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tritllm::jinja {

// Of a template's source. The longest known template of a model has about 60 KB and nests about 20 deep.
inline constexpr size_t kSourceLimit = size_t{1} << 20;  // bytes
inline constexpr int kSourceDepth = 150;                 // nested blocks and expressions; a chain a + b + c counts as nested

// Of one rendering. A conversation of a thousand messages in a template with tools evaluates about 200,000 nodes.
inline constexpr uint64_t kStepLimit = 500'000;     // evaluated nodes and visited elements…
inline constexpr uint64_t kStepsPerMessage = 1000;  // …and so many more for each message
inline constexpr int kCallDepth = 600;              // nested evaluations, those of called macros included; 5 MB of stack at most
inline constexpr int kValueDepth = 100;             // nested lists and mappings
inline constexpr size_t kTextLimit = size_t{64} << 20;       // bytes of one text, the rendered prompt being one
inline constexpr uint64_t kWorkLimit = uint64_t{512} << 20;  // bytes read and written by all operations together
inline constexpr int64_t kRangeLimit = 100'000;              // elements of a range(), as in Jinja's sandbox

// What a rendering may still use. Each member throws an Error of kBadInput where it is used up.
class Budget {
 public:
  explicit Budget(uint64_t steps) : steps_(steps) {}

  void step() { steps(1); }
  void steps(uint64_t count);
  void work(uint64_t bytes);

  // Stands for one level of nested evaluation while it lives.
  class Level {
   public:
    explicit Level(Budget& budget);
    ~Level() { --budget_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Budget& budget_;
  };

 private:
  uint64_t steps_;
  uint64_t work_ = kWorkLimit;
  int depth_ = 0;
};

// Throws an Error of kBadInput without a place: the template did with its values what cannot be done.
[[noreturn]] void fail(std::string_view problem);

// Throws an Error of kUnsupported without a place: Jinja can do this, this engine does not.
[[noreturn]] void refuse(std::string_view construct);

}  // namespace tritllm::jinja
