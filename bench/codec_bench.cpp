// Measures the codec on simulated matrices: signal-to-noise ratio by distribution, or weights per second of one thread, from
// float32 weights in memory to packed bytes in memory. Prints the copy bandwidth of the same run for comparison.
//
//   codec_bench [--rows N] [--columns N] [--repetitions N] [--quality]
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "codec/quantizer.h"
#include "kernels/kernel_table.h"
#include "measure.h"

namespace {

using namespace tritllm;

std::vector<float> simulate(const std::string& distribution, codec::MatrixShape shape) {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  std::vector<double> row_gain(shape.rows, 1.0), column_gain(shape.columns, 1.0);
  if (distribution == "t5+spread") {
    for (double& gain : row_gain) gain = std::exp(0.3 * normal(random));
    for (double& gain : column_gain) gain = std::exp(0.3 * normal(random));
  }
  std::student_t_distribution<double> student(5.0);
  std::exponential_distribution<double> exponential;
  std::vector<float> weights(shape.weights());
  for (size_t i = 0; i < weights.size(); ++i) {
    const double gain = row_gain[i / shape.columns] * column_gain[i % shape.columns];
    double value = 0.0;
    if (distribution == "gauss") value = normal(random);
    else if (distribution == "laplace") value = exponential(random) * ((random() & 1) != 0 ? 1.0 : -1.0) / std::sqrt(2.0);
    else value = student(random) / std::sqrt(5.0 / 3.0);
    weights[i] = static_cast<float>(0.02 * gain * value);
  }
  return weights;
}

codec::MatrixStats quantize(const std::vector<float>& weights, codec::MatrixShape shape, codec::Config config,
                            const codec::GroupKernels& kernels) {
  codec::MatrixQuantizer quantizer(config, shape, kernels);
  const codec::Stripes& stripes = quantizer.stripes();
  codec::EncodedStripe encoded;
  std::vector<float> last;
  const auto weights_of = [&](size_t index) {
    const codec::Stripe stripe = stripes[index];
    const float* const first = weights.data() + stripe.first_group * codec::kGroupSize;
    if (stripe.groups == stripe.padded_groups()) return first;
    last.assign(first, first + stripe.groups * codec::kGroupSize);
    last.resize(stripe.padded_groups() * codec::kGroupSize);
    return static_cast<const float*>(last.data());
  };
  for (size_t i = 0; i < stripes.size(); ++i) quantizer.collect_scales(i, weights_of(i));
  quantizer.choose_codebooks(
      [&](uint64_t group, float* out) { std::copy_n(weights.data() + group * codec::kGroupSize, codec::kGroupSize, out); },
      [](size_t count, const std::function<void(size_t)>& body) {
        for (size_t i = 0; i < count; ++i) body(i);
      });
  for (size_t i = 0; i < stripes.size(); ++i) quantizer.encode(i, weights_of(i), encoded);
  return quantizer.stats();
}

double copy_gigabytes_per_second(size_t bytes) {
  std::vector<char> from(bytes, 1), to(bytes);
  std::vector<double> seconds;
  for (int i = 0; i < 7; ++i) seconds.push_back(seconds_of([&] { std::memcpy(to.data(), from.data(), bytes); }));
  return 2e-9 * static_cast<double>(bytes) / median(seconds);
}

}  // namespace

int main(int argc, char** argv) {
  codec::MatrixShape shape{4096, 4096};
  int repetitions = 5;
  bool quality = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--quality") quality = true;
    else if (flag == "--rows" && i + 1 < argc) shape.rows = std::stoul(argv[++i]);
    else if (flag == "--columns" && i + 1 < argc) shape.columns = std::stoul(argv[++i]) / 16 * 16;
    else if (flag == "--repetitions" && i + 1 < argc) repetitions = std::stoi(argv[++i]);
    else {
      fmt::print(stderr, "usage: codec_bench [--rows N] [--columns N] [--repetitions N] [--quality]\n");
      return 2;
    }
  }
  const std::vector<std::string> distributions{"gauss", "t5", "laplace", "t5+spread"};
  if (quality) {
    fmt::print("SQNR in dB, {} x {}\n| distribution | recipe | d=1 | d=2 | d=3 | d=4 |\n|---|---|---|---|---|---|\n", shape.rows,
               shape.columns);
    for (const std::string& distribution : distributions) {
      const std::vector<float> weights = simulate(distribution, shape);
      for (const codec::RecipeRow& recipe : codec::recipes()) {
        if (recipe.search == codec::ScaleSearch::kGivesBack) continue;  // there is no error to measure
        fmt::print("| {} | {} |", distribution, recipe.name);
        for (int depth = recipe.least_depth; depth <= recipe.most_depth; ++depth) {
          fmt::print(" {:.2f} |",
                     quantize(weights, shape, codec::Config{recipe.recipe, depth}, *kernels::active_table().groups).sqnr_db());
        }
        fmt::print("\n");
      }
    }
    return 0;
  }
  const std::vector<float> weights = simulate("t5+spread", shape);
  fmt::print("one thread, {} x {}, copy bandwidth {:.1f} GB/s (bytes read + written)\n", shape.rows, shape.columns,
             copy_gigabytes_per_second(size_t{1} << 28));
  fmt::print("| instruction set | recipe | d=1 | d=2 | d=3 | d=4 | (million weights/s, median of {})\n|---|---|---|---|---|---|\n",
             repetitions);
  for (const kernels::KernelTable& table : kernels::supported_tables()) {
    for (const codec::RecipeRow& recipe : codec::recipes()) {
      if (recipe.search == codec::ScaleSearch::kGivesBack) continue;
      fmt::print("| {} | {} |", table.name, recipe.name);
      for (int depth = recipe.least_depth; depth <= recipe.most_depth; ++depth) {
        std::vector<double> seconds;
        for (int i = 0; i < repetitions; ++i) {
          seconds.push_back(seconds_of([&] { quantize(weights, shape, codec::Config{recipe.recipe, depth}, *table.groups); }));
        }
        fmt::print(" {:.0f} |", 1e-6 * static_cast<double>(weights.size()) / median(seconds));
      }
      fmt::print("\n");
    }
  }
  return 0;
}
