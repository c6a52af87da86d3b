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

inline constexpr size_t kNamedArguments = 256;  // of one call or macro

// Of one rendering. Work and output are in proportion to the input, which is the template and the request: their bytes and the
// number of messages. A conversation of a thousand messages in a template with tools evaluates about 200,000 nodes.
inline constexpr uint64_t kStepLimit = 500'000;     // evaluated nodes and visited elements,
inline constexpr uint64_t kStepsPerMessage = 1000;  // and this many more for each message
inline constexpr int kCallDepth = 600;              // nested evaluations, those of called macros included; 5 MB of stack at most
inline constexpr int kValueDepth = 100;             // nested lists and mappings
inline constexpr size_t kTextLimit = size_t{64} << 20;       // bytes of one text
inline constexpr uint64_t kWorkLimit = uint64_t{64} << 20;   // bytes read and written by all operations together,
inline constexpr uint64_t kWorkPerByte = 256;                // this many more for each byte of input
inline constexpr uint64_t kWorkPerMessage = 64 << 10;        // and for each message
inline constexpr uint64_t kOutputLimit = uint64_t{4} << 20;  // bytes of the rendered prompt
inline constexpr uint64_t kOutputPerByte = 64;               // and this many more for each byte of input
inline constexpr int64_t kRangeLimit = 100'000;              // elements of a range(), as in Jinja's sandbox

// What a rendering may still use. Each member throws an Error of kBadInput where it is used up.
class Budget {
 public:
  Budget(uint64_t input_bytes, uint64_t messages);

  void step() { steps(1); }
  void steps(uint64_t count);
  void work(uint64_t bytes);
  void output(uint64_t bytes);  // printed anywhere, captured text included

  // One level of nested evaluation, while it lives.
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
  uint64_t work_limit_, work_;
  uint64_t output_limit_, output_;
  int depth_ = 0;
};

// Throws an Error of kBadInput without a place: the template did with its values what cannot be done.
[[noreturn]] void fail(std::string_view problem);

// Throws an Error of kUnsupported without a place: Jinja can do this, this engine does not.
[[noreturn]] void refuse(std::string_view construct);

}  // namespace tritllm::jinja
