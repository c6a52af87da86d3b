// Measures what clients of a busy service feel, on a model of a well-known shape with random weights: how long a cancelled prompt
// still computes, how long a stream waits while another's prompt is read, and what a second sequence with a common prompt costs.
//
//   service_bench [--shape NAME] [--depth N] [--threads N] [--device NAME] [--prompt TOKENS]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "backend/device.h"
#include "engine/event_queue.h"
#include "engine/service.h"
#include "tasks/synthetic_model.h"

namespace {

using namespace tritllm;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kVocabulary = 256;
constexpr auto kPatience = std::chrono::minutes(10);

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// A token for each byte.
Tokenizer byte_tokenizer() {
  Json vocabulary = Json::object();
  for (uint32_t byte = 0; byte < kVocabulary; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = byte;
  const Json document = {{"version", "1.0"},
                         {"decoder", {{"type", "ByteFallback"}}},
                         {"model", {{"type", "BPE"}, {"byte_fallback", true}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
  return Tokenizer::parse(document.dump(), "tokenizer.json");
}

GenerationRequest request_of(uint32_t prompt_tokens, uint32_t seed, uint32_t tokens) {
  GenerationRequest request;
  for (uint32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back((i * 37 + seed) % kVocabulary);
  request.sampler.temperature = 0;
  request.max_tokens = tokens;
  return request;
}

class ServiceBench {
 public:
  ServiceBench(const SyntheticModel& shape, std::string_view device, unsigned threads, uint32_t prompt)
      : pool_(threads), prompt_(prompt) {
    ModelFiles files = make_synthetic_model({shape.shape, shape.depth, kVocabulary}, pool_);
    backend_ = make_backend(device, Arithmetic::kInteger, pool_, device_bytes(files));
    model_ = std::make_unique<Model>(std::move(files), ModelLimits{prompt + 512, 512}, *backend_);
    service_ = std::make_unique<EngineService>(*model_, tokenizer_, std::vector<TokenId>(),
                                               EngineOptions{.slots = 4, .cache = CacheType::kFloat16});
    fmt::print("{} d={} on {}, prompts of {} tokens\n", shape.shape, shape.depth, backend_->description(), prompt);
  }

  void measure_cancel() {
    std::vector<double> times;
    for (const int milliseconds : {500, 1500, 2500, 3500, 4500}) {
      const auto events = std::make_shared<EventQueue>();
      const RequestId id = service_->submit(request_of(prompt_, next_seed_++, 8), events);
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
      const auto begin = Clock::now();
      service_->cancel(id);
      while (!events->pop(kPatience).value().finish) {
      }
      times.push_back(seconds_since(begin));
    }
    fmt::print("cancel of a prompt: {:.0f} ms at most, {:.0f} ms at least, of {}\n", *std::ranges::max_element(times) * 1e3,
               *std::ranges::min_element(times) * 1e3, times.size());
  }

  // One stream decodes, then another's prompt arrives.
  void measure_waiting() {
    const auto stream = std::make_shared<EventQueue>(), other = std::make_shared<EventQueue>();
    const RequestId id = service_->submit(request_of(8, next_seed_++, 400), stream);
    stream->pop(kPatience);
    const double alone = longest_gap(*stream, 10);
    const RequestId second = service_->submit(request_of(prompt_, next_seed_++, 1), other);
    // The first steps of a prompt also take memory for its first page of the cache.
    const double first_steps = longest_gap(*stream, 3), beside = longest_gap(*stream, 20);
    service_->cancel(id);
    service_->cancel(second);
    finish(*stream);
    finish(*other);
    fmt::print(
        "longest wait of a stream for its next token: {:.0f} ms alone; while another's prompt is read {:.0f} ms in its first three "
        "steps, then {:.0f} ms\n",
        alone * 1e3, first_steps * 1e3, beside * 1e3);
  }

  void measure_sharing() {
    const uint32_t seed = next_seed_++;
    const auto first = std::make_shared<EventQueue>(), second = std::make_shared<EventQueue>();
    auto begin = Clock::now();
    const RequestId id = service_->submit(request_of(prompt_, seed, 400), first);
    first->pop(kPatience);
    const double alone = seconds_since(begin);
    const uint32_t pages = service_->metrics().pages_used;
    begin = Clock::now();
    const RequestId other = service_->submit(request_of(prompt_, seed, 400), second);
    const uint32_t reused = second->pop(kPatience).value().reused_tokens;
    const double again = seconds_since(begin);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const EngineMetrics metrics = service_->metrics();
    service_->cancel(id);
    service_->cancel(other);
    finish(*first);
    finish(*second);
    fmt::print(
        "a second live sequence with the same prompt: first token after {:.2f} s instead of {:.2f} s, {} tokens reused; "
        "{} pages together instead of {}, {} shared\n",
        again, alone, reused, metrics.pages_used, 2 * pages, metrics.pages_shared);
  }

 private:
  static double longest_gap(EventQueue& stream, int tokens) {
    double longest = 0;
    for (int i = 0; i < tokens; ++i) {
      const auto begin = Clock::now();
      stream.pop(kPatience);
      longest = std::max(longest, seconds_since(begin));
    }
    return longest;
  }
  static void finish(EventQueue& events) {
    while (!events.pop(kPatience).value().finish) {
    }
  }

  ThreadPool pool_;
  uint32_t prompt_;
  Tokenizer tokenizer_ = byte_tokenizer();
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<EngineService> service_;
  uint32_t next_seed_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
  SyntheticModel shape{"llama-3.1-8b", 2, 0};
  std::string device = "cpu";
  unsigned threads = 0;
  uint32_t prompt = 2000;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i], value = argv[i + 1];
    if (name == "--shape") shape.shape = value;
    if (name == "--depth") shape.depth = std::stoi(argv[i + 1]);
    if (name == "--threads") threads = static_cast<unsigned>(std::stoul(argv[i + 1]));
    if (name == "--device") device = value;
    if (name == "--prompt") prompt = static_cast<uint32_t>(std::stoul(argv[i + 1]));
  }
  try {
    ServiceBench bench(shape, device, threads, prompt);
    bench.measure_cancel();
    bench.measure_waiting();
    bench.measure_sharing();
  } catch (const std::exception& error) {
    fmt::print(stderr, "service_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
