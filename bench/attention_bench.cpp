// Measures attention alone, without the matrices around it: bytes of the key/value cache read per second in decoding, multiply-adds
// per second in prefill. Times are processor time of one thread, so other programs on the machine do not count.
//
//   attention_bench [--heads N] [--shared-heads N] [--width N] [--repetitions N] [--f32]
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/backend.h"
#include "kernels/kernel_table.h"
#include "measure.h"

namespace {

using namespace tritllm;

struct Shape {
  uint32_t heads = 32, shared_heads = 8, width = 64;  // of Llama 3.2 1B
  CacheType type = CacheType::kFloat16;
  int repetitions = 15;
};

struct Seconds {
  double median, least;
};

Seconds summary(const std::vector<double>& seconds) { return {median(seconds), *std::min_element(seconds.begin(), seconds.end())}; }

// A filled cache. It has as many layers as decoding passes through before it returns to the first, which is then out of the caches.
class FilledCache {
 public:
  FilledCache(const Shape& shape, uint32_t layers, uint32_t positions, uint32_t tokens)
      : shape_(shape), layers_(layers), pool_(1), backend_(make_cpu_backend(pool_, kernels::active_table())) {
    const uint32_t page = backend_->page_positions();
    pages_.resize((positions + page - 1) / page);
    std::iota(pages_.begin(), pages_.end(), PageId{0});
    cache_ = backend_->make_cache({layers, shape.shared_heads, shape.width, static_cast<uint32_t>(pages_.size()), shape.type});
    step_ = backend_->make_step({std::max(tokens, kStored), 1, static_cast<uint32_t>(pages_.size())});
    queries_ = random_rows(tokens, shape.heads * shape.width);
    out_ = backend_->allocate_rows(tokens, shape.heads * shape.width);
    const auto queries = random_rows(kStored, shape.heads * shape.width),
               keys = random_rows(kStored, shape.shared_heads * shape.width);
    const auto rotary = backend_->make_rotary_table({std::vector<float>(shape.width / 2, 0.0f), 1.0f}, positions);
    for (uint32_t first = 0; first < positions; first += kStored) {
      const uint32_t count = std::min(kStored, positions - first);
      begin(first, count);
      for (uint32_t layer = 0; layer < layers; ++layer) {
        backend_->store_heads(first_rows(queries, count), first_rows(keys, count), first_rows(keys, count),
                              {nullptr, nullptr, rotary.get()}, *step_, layer, *cache_);
      }
    }
  }

  void attend(uint32_t first, uint32_t count) {
    begin(first, count);
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      backend_->attend(first_rows(queries_, count), *cache_, {layer, shape_.heads, 0, 0.125f, 0.0f}, *step_,
                       first_rows(out_, count));
    }
  }

 private:
  static constexpr uint32_t kStored = 64;

  std::unique_ptr<RowBuffer> random_rows(size_t count, size_t width) {
    auto rows = backend_->allocate_rows(count, width);
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(count * width);
    for (float& value : values) value = normal(random);
    backend_->write(values, first_rows(rows, count));
    return rows;
  }
  void begin(uint32_t first, uint32_t count) {
    std::vector<TokenPlace> places;
    for (uint32_t i = 0; i < count; ++i) places.push_back({0, first + i});
    const std::vector<uint32_t> tokens(count);
    backend_->begin(*step_, {tokens, places, pages_, static_cast<uint32_t>(pages_.size()), {}, nullptr});
  }

  Shape shape_;
  uint32_t layers_;
  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  std::vector<PageId> pages_;
  std::unique_ptr<KeyValueCache> cache_;
  std::unique_ptr<Step> step_;
  std::unique_ptr<RowBuffer> queries_, out_;
};

uint64_t sum_of(const std::vector<uint64_t>& words) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= words.size(); i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += words[i + k];
  }
  return std::accumulate(std::begin(sums), std::end(sums), uint64_t{0});
}

// Measured in turn with plain reading of as many bytes, because other programs slow both.
void measure_decode(const Shape& shape, uint32_t positions) {
  constexpr uint32_t kLayers = 16;
  FilledCache cache(shape, kLayers, positions, 1);
  const double bytes = 2.0 * shape.shared_heads * shape.width * (shape.type == CacheType::kFloat16 ? 2 : 4) * positions * kLayers;
  const std::vector<uint64_t> words(static_cast<size_t>(bytes) / 8, 1);
  std::vector<double> attending, reading;
  uint64_t sum = 0;
  for (int i = 0; i < shape.repetitions; ++i) {
    attending.push_back(seconds_of([&] { cache.attend(positions - 1, 1); }));
    reading.push_back(seconds_of([&] { sum += sum_of(words); }));
  }
  const Seconds attention = summary(attending), plain = summary(reading);
  fmt::print("decode at {:5}: {:6.2f} GB/s of the cache, at best {:6.2f}; plain reading {:6.2f}, at best {:6.2f}{}\n", positions,
             bytes / attention.median * 1e-9, bytes / attention.least * 1e-9, bytes / plain.median * 1e-9,
             bytes / plain.least * 1e-9, sum == 0 ? "!" : "");
}

void measure_prefill(const Shape& shape, uint32_t positions) {
  constexpr uint32_t kTokens = 512;
  FilledCache cache(shape, 1, positions, kTokens);
  std::vector<double> attending;
  for (int i = 0; i < shape.repetitions; ++i) attending.push_back(seconds_of([&] { cache.attend(positions - kTokens, kTokens); }));
  const Seconds seconds = summary(attending);
  const double pairs = kTokens * (positions - kTokens + (kTokens + 1) / 2.0);
  const double products = 2.0 * shape.heads * shape.width * pairs;
  fmt::print("prefill to {:5}: {:6.2f} G multiply-adds/s, at best {:6.2f}\n", positions, products / seconds.median * 1e-9,
             products / seconds.least * 1e-9);
}

}  // namespace

int main(int argc, char** argv) {
  Shape shape;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto number = [&] { return i + 1 < arguments.size() ? static_cast<uint32_t>(std::stoul(arguments[++i])) : 0u; };
    if (arguments[i] == "--heads") shape.heads = number();
    else if (arguments[i] == "--shared-heads") shape.shared_heads = number();
    else if (arguments[i] == "--width") shape.width = number();
    else if (arguments[i] == "--repetitions") shape.repetitions = static_cast<int>(number());
    else if (arguments[i] == "--f32") shape.type = CacheType::kFloat32;
  }
  if (shape.shared_heads == 0 || shape.heads % shape.shared_heads != 0 || shape.width == 0 || shape.repetitions < 1) {
    fmt::print(stderr, "attention_bench: expected heads that are a multiple of the shared ones\n");
    return 2;
  }
  fmt::print("{} heads, {} of keys and values, {} wide, {}, one thread\n", shape.heads, shape.shared_heads, shape.width,
             kernels::active_table().name);
  for (const uint32_t positions : {512u, 2048u, 8192u}) measure_decode(shape, positions);
  for (const uint32_t positions : {512u, 4096u}) measure_prefill(shape, positions);
  return 0;
}
