#include "tasks/synthetic_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>

#include "codec/trits.h"
#include "core/error.h"
#include "core/half.h"
#include "core/json.h"
#include "io/decoder_tensors.h"
#include "model/config.h"

namespace tritllm {

namespace {

struct Shape {
  std::string_view name;
  uint32_t hidden, layers, feed_forward, heads, key_value_heads, head_width, vocabulary;
};

// From the models' config.json.
constexpr Shape kShapes[] = {
    {"smollm2-135m", 576, 30, 1536, 9, 3, 64, 49152},       {"llama-3.2-1b", 2048, 16, 8192, 32, 8, 64, 128256},
    {"llama-3.2-3b", 3072, 28, 8192, 24, 8, 128, 128256},   {"llama-3.1-8b", 4096, 32, 14336, 32, 8, 128, 128256},
    {"llama-3.1-70b", 8192, 80, 28672, 64, 8, 128, 128256},
};

const Shape& shape_named(std::string_view name) {
  const auto found = std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& shape) { return shape.name == name; });
  if (found != std::end(kShapes)) return *found;
  throw Error(ErrorCode::kUsage, "options.synthetic", fmt::format("no shape is called '{}'", printable(name)),
              "choose from " + synthetic_shapes());
}

// SplitMix64 (Steele, Lea and Flood, 2014) of an index: random bytes that do not depend on who makes them.
uint64_t random_word(uint64_t index) noexcept {
  uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr size_t kBytesPerTask = 1 << 20;

class Builder {
 public:
  Builder(ThreadPool& pool, int depth, int head_depth)
      : pool_(pool), depth_(depth), head_depth_(head_depth), bytes_(std::make_shared<std::deque<std::vector<std::byte>>>()) {}

  void add(const DecoderTensor& tensor) {
    switch (tensor.role) {
      case DecoderRole::kEmbedding: return add_halves(tensor.name, tensor.shape, 1.0f);
      case DecoderRole::kHead: return add_matrix(tensor.name, tensor.shape[0], tensor.shape[1], head_depth_);
      case DecoderRole::kMatrix: return add_matrix(tensor.name, tensor.shape[0], tensor.shape[1], depth_);
      case DecoderRole::kNorm: return add_halves(tensor.name, tensor.shape, 0.0f, 1.0f);
      case DecoderRole::kBias: return add_halves(tensor.name, tensor.shape, 0.1f);
    }
  }

  // Weights of about 1/sqrt(columns), so that activations keep their size.
  void add_matrix(const std::string& name, uint64_t rows, uint64_t columns, int depth) {
    if (depth == 0) return add_halves(name, {rows, columns}, 1.0f / std::sqrt(static_cast<float>(columns)));
    TernaryMatrix matrix;
    matrix.shape = {rows, columns};
    matrix.depth = depth;
    matrix.trits = random_trits(matrix.shape.trit_bytes(depth), 243);
    matrix.scales = random_trits(matrix.shape.scale_bytes(), 243);
    const float largest = 1.7f / std::sqrt(static_cast<float>(columns));
    codec::Codebook& codebook = matrix.codebooks.emplace_back();
    for (size_t i = 0; i < codec::kCodebookSize; ++i) {
      codebook[i] = largest * static_cast<float>(i + 1) / static_cast<float>(codec::kCodebookSize);
    }
    files.weights.emplace(name, WeightSource(matrix, /*mapped=*/false));
  }

  void add_halves(const std::string& name, std::vector<uint64_t> shape, float spread, float center = 0.0f) {
    SourceTensor tensor{};
    tensor.name = name;
    tensor.shape = std::move(shape);
    tensor.type = ElementType::kF16;
    tensor.place = "synthetic model: tensor '" + name + "'";
    const auto elements = static_cast<size_t>(tensor.elements());
    std::vector<std::byte>& bytes = new_bytes(elements * 2);
    const uint64_t seed = next_seed_++ << 40;
    for_pieces(elements, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const auto fraction = static_cast<float>(random_word(seed + i) >> 40) * 0x1p-24f;
        const uint16_t half = half_from_float(center + spread * (2.0f * fraction - 1.0f));
        std::memcpy(bytes.data() + 2 * i, &half, 2);
      }
    });
    tensor.bytes = bytes;
    files.weights.emplace(name, WeightSource(std::move(tensor), /*mapped=*/false));
  }

  ModelFiles files;
  std::shared_ptr<const void> owner() const { return bytes_; }

 private:
  std::vector<std::byte>& new_bytes(size_t count) { return bytes_->emplace_back(count); }

  template <typename Body>
  void for_pieces(size_t count, Body&& body) {
    pool_.parallel_for((count + kBytesPerTask - 1) / kBytesPerTask,
                       [&](size_t piece, unsigned) { body(piece * kBytesPerTask, std::min(count, (piece + 1) * kBytesPerTask)); });
  }

  std::span<const uint8_t> random_trits(uint64_t count, uint64_t values) {
    std::vector<std::byte>& bytes = new_bytes(static_cast<size_t>(count));
    const uint64_t seed = next_seed_++ << 40;
    for_pieces(bytes.size(), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        bytes[i] = std::byte{codec::byte_from_digits(static_cast<unsigned>(random_word(seed + i) % values))};
      }
    });
    return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  }

  ThreadPool& pool_;
  int depth_, head_depth_;
  uint64_t next_seed_ = 1;
  std::shared_ptr<std::deque<std::vector<std::byte>>> bytes_;
};

Json config_of(const Shape& shape, uint32_t vocabulary) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_act", "silu"},
          {"vocab_size", vocabulary},
          {"hidden_size", shape.hidden},
          {"intermediate_size", shape.feed_forward},
          {"num_hidden_layers", shape.layers},
          {"num_attention_heads", shape.heads},
          {"num_key_value_heads", shape.key_value_heads},
          {"head_dim", shape.head_width},
          {"max_position_embeddings", 131072},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"tie_word_embeddings", false}};
}

}  // namespace

std::string synthetic_shapes() {
  std::string names;
  for (const Shape& shape : kShapes) names += fmt::format("{}{}", names.empty() ? "" : ", ", shape.name);
  return names;
}

ModelFiles make_synthetic_model(const SyntheticModel& model, ThreadPool& pool) {
  const Shape& shape = shape_named(model.shape);
  const uint32_t vocabulary = model.vocabulary == 0 ? shape.vocabulary : model.vocabulary;
  const Json config = config_of(shape, vocabulary);
  Builder builder(pool, model.depth, model.head_depth);
  for_each_tensor(read_model_config(config, "synthetic model").decoder_shape(),
                  [&](const DecoderTensor& tensor) { builder.add(tensor); });
  ModelFiles files = std::move(builder.files);
  files.path = model.shape;
  files.config = config;
  files.config_place = "synthetic model";
  files.owner = builder.owner();
  return files;
}

}  // namespace tritllm
