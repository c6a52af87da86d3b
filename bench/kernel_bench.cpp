// Measures the products with ternary matrices, the engine's inner loops, and in the same run how fast the machine reads memory. For
// one token: weights per cycle and thread and GB/s, with weights in memory and in the second-level cache. For many tokens: products
// per cycle and thread.
//
//   kernel_bench [--threads N] [--megabytes N] [--repetitions N] [--isa NAME]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/page_memory.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"
#include "measure.h"

namespace {

using namespace tritllm;
using namespace tritllm::kernels;

struct Options {
  unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  size_t megabytes = 512;  // weights per thread
  int repetitions = 5;
  std::string isa;  // empty: all
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Times {
  double median, best;  // seconds
};

// Times a loop in which each thread calls work(thread) once.
Times time(ThreadPool& pool, int repetitions, const std::function<void(unsigned thread)>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < repetitions + 1; ++i) {
    const double start = now();
    pool.parallel_for(pool.threads(), [&](size_t index, unsigned) { work(static_cast<unsigned>(index)); });
    if (i > 0) seconds.push_back(now() - start);  // the first one warms up
  }
  const double best = *std::min_element(seconds.begin(), seconds.end());
  return {median(std::move(seconds)), best};
}

// Cycles per second, from a chain of dependent multiplications: three cycles each on every processor that these kernels run on.
double measure_clock() {
  constexpr int kSteps = 5'000'000, kLatency = 3;
  double best = 0.0;
  for (int i = 0; i < 5; ++i) {
    uint64_t x = 3;
    const double start = now();
    for (int step = 0; step < kSteps; ++step) {
      x *= x;
      asm volatile("" : "+r"(x));
    }
    best = std::max(best, kSteps * kLatency / (now() - start));
  }
  return best;
}

// A rate from the median time, and one from the best time, printed in brackets.
struct Rate {
  double median, best;  // per second

  Rate(double work, const Times& times) : median(work / times.median), best(work / times.best) {}
  std::string text(double unit) const { return fmt::format("{:.1f} ({:.1f})", median / unit, best / unit); }
};

// Sums several streams, 64 bytes of each in turn.
using Words = uint64_t __attribute__((vector_size(16)));
Words read_streams(const uint8_t* from, size_t bytes, size_t streams) {
  const size_t part = bytes / streams / 64 * 64;
  Words sums[4] = {};
  for (size_t at = 0; at < part; at += 64) {
    for (size_t stream = 0; stream < streams; ++stream) {
      const auto* const line = reinterpret_cast<const Words*>(from + stream * part + at);
      for (size_t i = 0; i < 4; ++i) sums[i] += line[i];
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), pool_(options.threads), memory_(options.threads * options.megabytes << 20), clock_(measure_clock()) {
    std::mt19937_64 random(1);
    std::vector<uint64_t> pattern(1 << 16);
    for (uint64_t& word : pattern) word = random();
    pool_.parallel_for(pool_.threads(), [&](size_t thread, unsigned) {
      for (size_t at = 0; at < per_thread(); at += pattern.size() * 8) {
        std::memcpy(region(static_cast<unsigned>(thread)) + at, pattern.data(), std::min(per_thread() - at, pattern.size() * 8));
      }
    });
  }

  void run() {
    fmt::print("{} threads, {:.2f} GHz {} MB a thread, median and best of {}\n\n", options_.threads, clock_ / 1e9,
               options_.megabytes, options_.repetitions);
    measure_reading();
    fmt::print(
        "\n| table | depth | bits per weight | weights/cycle, cached | weights/cycle | GB/s | of reading | products/cycle, many "
        "tokens |\n"
        "|---|---|---|---|---|---|---|---|\n");
    for (const KernelTable& table : supported_tables()) {
      if (!options_.isa.empty() ? options_.isa != table.name : table.name == std::string("scalar")) continue;
      constexpr const char* kNames[] = {"d=1", "d=2", "d=3", "d=4", "d=2, squeezed"};
      for (size_t format = 0; format < kTileFormats; ++format) {
        if (table.ternary->products[format].multiply != nullptr) measure(table, static_cast<TileFormat>(format), kNames[format]);
      }
    }
  }

 private:
  static constexpr size_t kManyTokens = 512;  // fewer where a table multiplies fewer at once

  size_t per_thread() const { return options_.megabytes << 20; }
  uint8_t* region(unsigned thread) { return memory_.data() + thread * per_thread(); }

  void measure_reading() {
    for (const size_t streams : {1u, 2u, 4u}) {
      std::vector<Words> sums(options_.threads);
      const Times times = time(pool_, options_.repetitions,
                               [&](unsigned thread) { sums[thread] = read_streams(region(thread), per_thread(), streams); });
      const Rate rate(static_cast<double>(memory_.bytes()), times);
      best_reading_ = std::max(best_reading_, rate.median);
      fmt::print("reading, {} streams a thread: {} GB/s\n", streams, rate.text(1e9));
    }
  }

  // Random bytes serve as weights: speed does not depend on their values.
  Rate weights_per_second(const KernelTable& table, TileFormat format, size_t bytes, size_t tokens, size_t columns) {
    const size_t blocks = blocks_of(columns), tile_bytes = blocks * block_bytes(format),
                 tiles = bytes / tile_bytes / kBandTiles * kBandTiles;
    const std::vector<float> steps(27, 0.01f);
    const ScaleTable scales = make_scale_table(steps.data());
    std::vector<float> x(columns, 0.5f);
    const TernaryFormatKernels& product = table.ternary->products[static_cast<size_t>(format)];
    const size_t part = product.activation_bytes(tokens);
    PageMemory activations(blocks * tokens * part);
    for (size_t token = 0; token < tokens; ++token) {
      product.quantize(x.data(), columns, tokens, activations.data() + token * part, tokens);
    }
    std::vector<std::vector<float>> outputs(options_.threads, std::vector<float>(tokens * tiles * kTileRows));
    const size_t rounds = std::max<size_t>(1, 400'000'000 / (tiles * kTileRows * columns * tokens));
    const Times times = time(pool_, options_.repetitions, [&](unsigned thread) {
      const TernaryTiles matrix{format, tiles, blocks, region(thread), &scales};
      for (size_t round = 0; round < rounds; ++round) {
        for (size_t band = 0; band < matrix.bands(); ++band) {
          product.multiply(matrix, band, activations.data(), tokens, tokens, outputs[thread].data() + band * kBandRows,
                           tiles * kTileRows);
        }
      }
    });
    return {static_cast<double>(rounds * tiles * kTileRows * columns), times};
  }

  void measure(const KernelTable& table, TileFormat format, const char* name) {
    const double bits = static_cast<double>(block_bytes(format)) * 8 / (kTileRows * kTileColumns);
    const Rate cached = weights_per_second(table, format, 192 << 10, 1, 2048);
    const Rate streamed = weights_per_second(table, format, per_thread(), 1, 2048);
    const size_t token_bytes = blocks_of(2048) * table.ternary->products[static_cast<size_t>(format)].activation_bytes(kManyTokens);
    const size_t tokens = std::min(kManyTokens, table.ternary->activation_bytes_at_once / token_bytes);
    const Rate many = weights_per_second(table, format, 192 << 10, tokens, 2048);
    const double bytes_per_weight = bits / 8 * options_.threads;
    fmt::print("| {} | {} | {:.2f} | {} | {} | {} | {:.0f} % | {} |\n", table.name, name, bits, cached.text(clock_),
               streamed.text(clock_), streamed.text(1e9 / bytes_per_weight),
               100 * streamed.median * bytes_per_weight / best_reading_, many.text(clock_ / static_cast<double>(tokens)));
    std::fflush(stdout);
  }

  Options options_;
  ThreadPool pool_;
  PageMemory memory_;
  double clock_, best_reading_ = 0.0;
};

bool read_option(const std::string& name, const std::string& value, Options& options) {
  if (name == "--isa") {
    options.isa = value;
    return std::ranges::any_of(supported_tables(), [&](const KernelTable& table) { return value == table.name; });
  }
  const int number = std::atoi(value.c_str());
  if (name == "--threads") options.threads = static_cast<unsigned>(number);
  else if (name == "--megabytes") options.megabytes = static_cast<size_t>(number);
  else if (name == "--repetitions") options.repetitions = number;
  else return false;
  return number > 0;
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  if (argc % 2 == 0) return std::nullopt;
  for (int i = 1; i < argc; i += 2) {
    if (!read_option(argv[i], argv[i + 1], options)) return std::nullopt;
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = parse(argc, argv);
  if (!options) {
    std::string tables;
    for (const KernelTable& table : supported_tables()) tables += fmt::format("{}{}", tables.empty() ? "" : "|", table.name);
    fmt::print(stderr, "usage: kernel_bench [--threads N] [--megabytes N] [--repetitions N] [--isa {}]\n", tables);
    return 2;
  }
  Bench(*options).run();
  return 0;
}
