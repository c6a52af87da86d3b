// Times products of packed matrices on a GPU, cold: weights rotate over more than four times the L2 cache. Beside them, in the same
// run, plain reading of memory and cuBLAS FP16. Prints tables for docs/cuda.md.
//
//   product_bench [--tokens 1,8,16,32] [--depths 0,1,2,3,4] [--prefill 512,1024]
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/random_matrix.h"
#include "cuda/ceilings.h"
#include "cuda/cublas.h"

namespace tritllm::cuda {
namespace {

struct Shape {
  const char* name;
  int64_t rows, columns;
};
// One layer of Llama-3.1-8B as it is launched: q, k, v in one, gate and up in one.
constexpr Shape kLayer[] = {{"qkv", 6144, 4096}, {"o", 4096, 4096}, {"gate-up", 28672, 4096}, {"down", 4096, 14336}};
constexpr Shape kCublasLayer[] = {{"q", 4096, 4096},     {"k", 1024, 4096},   {"v", 1024, 4096},    {"o", 4096, 4096},
                                  {"gate", 14336, 4096}, {"up", 14336, 4096}, {"down", 4096, 14336}};
constexpr int kLayers = 32;
constexpr int64_t kMostColumns = 14336, kMostRows = 28672;

class Bench {
 public:
  Bench() {
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
    check(device_traits(0, traits_), "device_traits");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    cold_bytes_ = static_cast<size_t>(properties.l2CacheSize) * 5;
    arena_ = std::make_unique<DeviceArray<uint8_t>>(size_t{16} << 30);
    fmt::print("{}, {} multiprocessors, L2 {} MB\n", properties.name, traits_.multiprocessors, properties.l2CacheSize >> 20);
    counters_.fill(0);
    // Sane halves everywhere, for cuBLAS.
    std::vector<uint16_t> noise(size_t{1} << 24);
    std::mt19937 random(1);
    for (uint16_t& half : noise) half = half_from_float((static_cast<float>(random() % 2001) - 1000.0f) * 2e-5f);
    for (size_t at = 0; at < arena_->size(); at += noise.size() * 2) {
      check(cudaMemcpy(arena_->data() + at, noise.data(), noise.size() * 2, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    check(cudaMemcpy(halves_.data(), noise.data(), std::min(halves_.size() * 2, noise.size() * 2), cudaMemcpyHostToDevice),
          "cudaMemcpy");
    std::vector<float> input(size_t{1} << 22);
    for (float& value : input) value = (static_cast<float>(random() % 2001) - 1000.0f) * 1e-3f;
    for (size_t at = 0; at < input_.size(); at += input.size()) {
      check(cudaMemcpy(input_.data() + at, input.data(), std::min(input.size(), input_.size() - at) * 4, cudaMemcpyHostToDevice),
            "cudaMemcpy");
    }
    std::vector<float> gain(static_cast<size_t>(kMostColumns), 1.0f);
    gain_.write(gain);
    measure_reading();
  }

  void layer(int depth, int tokens) {
    check_kernel(depth, tokens);
    const std::vector<Shape> shapes(std::begin(kLayer), std::end(kLayer));
    std::string line = fmt::format("| {} | {} |", depth == 0 ? "dense FP16" : fmt::format("d={}", depth), tokens);
    size_t layer_bytes = 0;
    for (const Shape& shape : shapes) layer_bytes += aligned(matrix_bytes(depth, shape.rows, shape.columns));
    steps_.write(table(depth));
    for (const Shape& shape : {shapes[1], shapes[2]}) {
      const size_t bytes = aligned(matrix_bytes(depth, shape.rows, shape.columns));
      const int copies = copies_of(bytes);
      const double seconds =
          time([&] {
            for (int copy = 0; copy < copies; ++copy)
              multiply_once(depth, shape, static_cast<size_t>(copy) * bytes, tokens, input_.data(), output(copy), false);
          }) /
          copies;
      line += fmt::format(" {:.2f} µs, {:.0f} GB/s, {:.0f} % |", seconds * 1e6, static_cast<double>(bytes) / seconds / 1e9,
                          100.0 * static_cast<double>(bytes) / seconds / read_speed_);
    }
    const int layers = static_cast<int>(std::min<size_t>(kLayers, arena_->size() / layer_bytes));
    const double seconds =
        time([&] {
          int number = 0;
          for (int i = 0; i < layers; ++i) {
            size_t at = static_cast<size_t>(i) * layer_bytes;
            for (const Shape& shape : shapes) {
              const float* from = number == 0 ? input_.data() : output(number + 1);
              // As in a model: qkv and gate-up norm their input.
              multiply_once(depth, shape, at, tokens, from, output(number), shape.name[0] == 'q' || shape.name[0] == 'g');
              at += aligned(matrix_bytes(depth, shape.rows, shape.columns));
              ++number;
            }
          }
        }) /
        layers;
    line += fmt::format(" {:.2f} µs, {:.0f} % |", seconds * 1e6, 100.0 * static_cast<double>(layer_bytes) / seconds / read_speed_);
    const auto& [separate, fused] = cublas(tokens);
    if (separate > 0) line += fmt::format(" {:.2f} / {:.2f} |", separate / seconds, fused / seconds);
    fmt::print("{}\n", line);
    std::fflush(stdout);
  }

  static void header() {
    fmt::print(
        "| layout | tokens | 4096×4096 | 28672×4096 | layer of four launches, share of reading | against cuBLAS: seven launches, "
        "four |\n|---|---|---|---|---|---|\n");
  }

 private:
  static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }
  static std::vector<float> table(int depth) {
    std::vector<float> steps(kScaleTableSize, 0.0f);
    for (size_t i = 0; i < 27; ++i)
      steps[i] = 1e-3f * std::exp2(0.15f * static_cast<float>(i)) / static_cast<float>(largest_code(depth));
    return steps;
  }
  float* output(int number) const { return outputs_.data() + (number % 2 == 0 ? 0 : outputs_.size() / 2); }
  int copies_of(size_t bytes) const {
    return static_cast<int>(std::min(std::max<size_t>(3, cold_bytes_ / bytes + 1), arena_->size() / bytes));
  }

  void multiply_once(int depth, const Shape& shape, size_t at, int tokens, const float* from, float* to, bool norm) {
    const Product product{
        {depth, shape.rows, shape.columns, arena_->data() + at, steps_.data(), 1.0f}, nullptr, to, kMostRows, false};
    const Input input{from, kMostRows, tokens, norm ? gain_.data() : nullptr, 1e-5f};
    check(multiply(traits_, input, &product, 1, {operands_.data(), partial_sums_.data(), counters_.data()}, stream_), "multiply");
  }

  // Median seconds of one replay of what `work` puts on the stream.
  double time(const std::function<void()>& work) const {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaEvent_t begin = nullptr, end = nullptr;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    work();
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    std::vector<float> times;
    for (int i = 0; i < 11; ++i) {
      check(cudaEventRecord(begin, stream_), "record");
      check(cudaGraphLaunch(executable, stream_), "launch");
      check(cudaEventRecord(end, stream_), "record");
      check(cudaEventSynchronize(end), "synchronise");
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
      if (i >= 2) times.push_back(milliseconds);
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2] * 1e-3;
  }

  void measure_reading() {
    constexpr size_t kBytes = size_t{1} << 30;
    const double seconds = time([&] { check(read_memory(traits_, arena_->data(), kBytes, counters_.data(), stream_), "read"); });
    read_speed_ = static_cast<double>(kBytes) / seconds;
    fmt::print("plain reading of 1 GiB: {:.0f} GB/s\n", read_speed_ / 1e9);
  }

  // A layer by cuBLAS FP16: seven launches, and the four that ours are.
  const std::pair<double, double>& cublas(int tokens) {
    const auto [found, fresh] = cublas_.try_emplace(tokens, 0.0, 0.0);
    if (fresh && blas_.available()) {
      const auto seconds_of = [&](const Shape& shape) {
        const size_t bytes = static_cast<size_t>(shape.rows * shape.columns) * 2;
        const int copies = copies_of(bytes);
        const auto run = [&](int copy) {
          check(blas_.multiply(stream_, arena_->data() + static_cast<size_t>(copy) * bytes, halves_.data(), outputs_.data(),
                               static_cast<int>(shape.rows), static_cast<int>(shape.columns), tokens),
                "cuBLAS");
        };
        run(0);
        check(cudaStreamSynchronize(stream_), "synchronise");
        return time([&] {
                 for (int copy = 0; copy < copies; ++copy) run(copy);
               }) /
               copies;
      };
      for (const Shape& shape : kCublasLayer) found->second.first += seconds_of(shape);
      for (const Shape& shape : kLayer) found->second.second += seconds_of(shape);
      fmt::print("<!-- cuBLAS FP16, {} tokens: {:.1f} µs a layer by seven launches, {:.1f} µs by four -->\n", tokens,
                 found->second.first * 1e6, found->second.second * 1e6);
    }
    return found->second;
  }

  // Against double precision, on a real matrix, before anything is timed.
  void check_kernel(int depth, int tokens) {
    constexpr int64_t kRows = 160, kColumns = 4096;
    const int checked = std::min(tokens, 4);
    const RandomMatrix matrix = random_matrix(depth, kRows, kColumns, 5);
    const Product product{matrix.view(), nullptr, outputs_.data(), kMostRows, false};
    check(multiply(traits_, {input_.data(), kMostRows, tokens, nullptr, 0.0f}, &product, 1,
                   {operands_.data(), partial_sums_.data(), counters_.data()}, stream_),
          "multiply");
    check(cudaStreamSynchronize(stream_), "synchronise");
    double difference = 0, reference = 0;
    std::vector<float> x(static_cast<size_t>(kColumns)), y(static_cast<size_t>(kRows));
    for (int token = 0; token < checked; ++token) {
      check(cudaMemcpy(x.data(), input_.data() + token * kMostRows, x.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
      check(cudaMemcpy(y.data(), outputs_.data() + token * kMostRows, y.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
      for (size_t row = 0; row < y.size(); ++row) {
        double sum = 0;
        for (size_t k = 0; k < x.size(); ++k)
          sum += static_cast<double>(matrix.values[row * x.size() + k]) * static_cast<double>(x[k]);
        difference += (sum - static_cast<double>(y[row])) * (sum - static_cast<double>(y[row]));
        reference += sum * sum;
      }
    }
    if (const double error = std::sqrt(difference / reference); !(error < 1e-3)) {
      fmt::print("WRONG: depth {}, {} tokens: relative error {:.1e}\n", depth, tokens, error);
    }
    // Fill the arena with real tiles of this depth.
    const size_t bytes = matrix.tiles.size();
    for (size_t at = 0; at + bytes <= arena_->size(); at += bytes) {
      check(cudaMemcpyAsync(arena_->data() + at, matrix.tiles.data(), bytes, cudaMemcpyDeviceToDevice, stream_), "cudaMemcpy");
    }
    check(cudaStreamSynchronize(stream_), "synchronise");
  }

  cudaStream_t stream_ = nullptr;
  DeviceTraits traits_;
  std::unique_ptr<DeviceArray<uint8_t>> arena_;
  static constexpr int64_t kMostTokens = 4096;
  DeviceArray<float> input_{static_cast<size_t>(kMostTokens * kMostRows)},
      outputs_{static_cast<size_t>(2 * kMostTokens * kMostRows)};
  DeviceArray<float> gain_{static_cast<size_t>(kMostColumns)}, steps_{kScaleTableSize};
  DeviceArray<uint16_t> halves_{static_cast<size_t>(kMostTokens * kMostColumns)};
  DeviceArray<uint8_t> operands_{operand_bytes(kMostTokens, kMostColumns)}, partial_sums_{size_t{64} << 20};
  DeviceArray<uint32_t> counters_{kCounters};
  std::map<int, std::pair<double, double>> cublas_;
  Cublas blas_;
  size_t cold_bytes_ = 0;
  double read_speed_ = 0;
};

std::vector<int> numbers(const std::string& text) {
  std::vector<int> values;
  for (size_t at = 0; at < text.size();) {
    size_t length = 0;
    values.push_back(std::stoi(text.substr(at), &length));
    at += length + 1;
  }
  return values;
}

int run(int argc, char** argv) {
  std::vector<int> tokens{1, 8, 16, 32, 512, 1024}, depths{1, 2, 3, 4, 0};
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--tokens") {
      tokens = numbers(argv[i + 1]);
    } else if (option == "--depths") {
      depths = numbers(argv[i + 1]);
    } else {
      fmt::print("product_bench: unknown option {}\n", option);
      return 2;
    }
  }
  Bench bench;
  for (const int count : tokens) {
    Bench::header();
    for (const int depth : depths) bench.layer(depth, count);
  }
  return 0;
}

}  // namespace
}  // namespace tritllm::cuda

int main(int argc, char** argv) {
  try {
    return tritllm::cuda::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print("product_bench: {}\n", error.what());
    return 1;
  }
}
