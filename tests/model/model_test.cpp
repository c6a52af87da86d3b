// A model takes every tensor once, and refuses missing, misshapen and unknown ones by name. What it computes is tested against
// transformers (test_families.py).
#include "model/model.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/cpu/backend.h"
#include "kernels/kernel_table.h"
#include "model/plain_sequences.h"
#include "support/expect_error.h"
#include "support/small_llama.h"
#include "support/temporary_folder.h"

namespace tritllm {
namespace {

constexpr uint32_t kVocabulary = 37;

// Loads it and returns the logits after three tokens.
std::vector<float> load(ModelFiles files) {
  ThreadPool pool(1);
  const auto backend = make_cpu_backend(pool, kernels::active_table());
  Model model(std::move(files), {16, 4}, *backend);
  PlainSequences sequence(model, 1, CacheType::kFloat32);
  const uint32_t tokens[] = {1, 2, 3}, last = 2;
  const TokenPlace places[] = {{0, 0}, {0, 1}, {0, 2}};
  std::vector<float> logits(kVocabulary);
  sequence.forward(tokens, places, {&last, 1});
  sequence.logits(0, 1, logits);
  return logits;
}

void refused(ErrorCode code, const std::string& tensor, const std::string& words, const ModelFiles& files) {
  SCOPED_TRACE(tensor);
  expect_error(code, "tensor '" + tensor + "'", [&] { load(files); });
  expect_error(code, words, [&] { load(files); });
}

TEST(ModelLoading, EachTensorIsNeededUnderItsNameAndInItsShape) {
  const SmallLlama llama(kVocabulary);
  const std::vector<float> healthy = load(llama.files());
  for (const auto& [name, tensor] : llama.tensors) {
    SmallLlama changed = llama;
    changed.tensors.erase(name);
    refused(ErrorCode::kNotFound, name, "is missing", changed.files());

    std::vector<std::vector<uint64_t>> wrong_shapes;
    const std::vector<uint64_t>& shape = tensor.shape;
    wrong_shapes.push_back({shape[0] + 1});
    if (shape.size() == 1) wrong_shapes.push_back({shape[0], 1});
    else
      wrong_shapes.insert(wrong_shapes.end(),
                          {{shape[0] + 1, shape[1]}, {shape[0], shape[1] - 1}, {shape[0], 1, shape[1]}, {shape[0] * shape[1]}});
    if (shape.size() == 2 && shape[0] != shape[1]) wrong_shapes.push_back({shape[1], shape[0]});
    for (const auto& wrong : wrong_shapes) {
      changed = llama;
      changed.add(name, wrong, 1.0f);
      refused(ErrorCode::kBadInput, name, "expected floats of shape [" + std::to_string(shape[0]), changed.files());
    }

    changed = llama;
    changed.add(name, shape, 0.5f, 1.0f);
    EXPECT_NE(load(changed.files()), healthy) << name << " plays no part";
  }
}

TEST(ModelLoading, OtherTypesThanFloatsAreRefused) {
  const SmallLlama llama(kVocabulary);
  for (const std::string name : {"model.norm.weight", "model.layers.1.self_attn.q_proj.weight"}) {
    ModelFiles files = llama.files();
    SourceTensor tensor = *files.weights.at(name).dense();
    tensor.type = ElementType::kI32;
    files.weights.insert_or_assign(name, tensor);
    refused(ErrorCode::kBadInput, name, "expected floats", files);
  }
}

TEST(ModelLoading, UnknownTensorsAreRefused) {
  SmallLlama llama(kVocabulary);
  llama.add("model.layers.0.self_attn.q_proj.bias", {84}, 1.0f);
  refused(ErrorCode::kBadInput, "model.layers.0.self_attn.q_proj.bias", "LlamaForCausalLM has no place", llama.files());
  llama = SmallLlama(kVocabulary);
  llama.add("model.layers.2.input_layernorm.weight", {40}, 1.0f);
  refused(ErrorCode::kBadInput, "model.layers.2.input_layernorm.weight", "no place", llama.files());
}

TEST(ModelLoading, BuffersOfOldFilesAreNotWeights) {
  SmallLlama llama(kVocabulary);
  const std::vector<float> healthy = load(llama.files());
  llama.add("model.layers.0.self_attn.rotary_emb.inv_freq", {7}, 1.0f);
  EXPECT_EQ(load(llama.files()), healthy);
}

TEST(ModelLoading, ATiedHeadIsTheEmbedding) {
  SmallLlama llama(kVocabulary);
  llama.tensors.at("lm_head.weight") = llama.tensors.at("model.embed_tokens.weight");
  const std::vector<float> untied = load(llama.files());
  llama.config["tie_word_embeddings"] = true;
  EXPECT_EQ(load(llama.files()), untied) << "a copy that the file has beside it";
  llama.tensors.erase("lm_head.weight");
  EXPECT_EQ(load(llama.files()), untied);
}

TEST(ModelLoading, TernaryNormsAreRefused) {
  const std::vector<uint8_t> trits(16), scales(3);
  TernaryMatrix matrix;
  matrix.shape = {1, 40};
  matrix.depth = 1;
  matrix.trits = trits;
  matrix.scales = scales;
  ModelFiles files = SmallLlama(kVocabulary).files();
  files.weights.at("model.layers.1.input_layernorm.weight") = matrix;
  refused(ErrorCode::kBadInput, "model.layers.1.input_layernorm.weight", "is ternary", files);
  matrix.shape = {84, 41};
  files = SmallLlama(kVocabulary).files();
  files.weights.at("model.layers.0.self_attn.q_proj.weight") = matrix;
  refused(ErrorCode::kBadInput, "model.layers.0.self_attn.q_proj.weight", "found [84, 41]", files);
}

TEST(ModelLoading, AFolderIsTheSameAsMemory) {
  const TemporaryFolder folder;
  const SmallLlama llama(kVocabulary);
  llama.write(folder.path());
  ThreadPool pool(2);
  EXPECT_EQ(load(open_model_files(folder.path(), pool)), load(llama.files()));
  EXPECT_EQ(weight_place(open_model_files(folder.path(), pool), "x\n"), folder.path().string() + ": tensor 'x\\x0a'");
}

TEST(ModelRunning, CountsWeightsOfAToken) {
  ThreadPool pool(1);
  const auto backend = make_cpu_backend(pool, kernels::active_table());
  const SmallLlama llama(kVocabulary);
  const Model model(llama.files(), {16, 4}, *backend);
  // Each matrix once, rows padded to 16 elements; of the embedding only a row.
  const auto padded = [](uint64_t columns) { return (columns + 15) / 16 * 16; };
  uint64_t matrices = 0;
  for (const auto& [name, tensor] : llama.tensors) {
    if (tensor.shape.size() == 2 && name != "model.embed_tokens.weight") matrices += tensor.shape[0] * padded(tensor.shape[1]) * 4;
  }
  EXPECT_EQ(model.weight_bytes_per_token(), matrices);
}

class Recorder final : public ForwardObserver {
 public:
  explicit Recorder(Backend& backend) : backend_(backend) {}
  void before_linears(std::span<const Linear* const> linears, Rows inputs, const Norm* norm) override {
    for (const Linear* const linear : linears) {
      EXPECT_EQ(linear->weights->columns(), inputs.width()) << linear->name;
      names.push_back(linear->name + (norm != nullptr ? " after a norm" : ""));
    }
  }
  void after_layer(uint32_t layer, Rows hidden) override {
    layers.push_back(layer);
    backend_.read(hidden, states.emplace_back(hidden.count * hidden.width()));
  }

  std::vector<std::string> names;
  std::vector<uint32_t> layers;
  std::vector<std::vector<float>> states;

 private:
  Backend& backend_;
};

TEST(ModelRunning, TheObserverSeesTheInputsOfEveryLinearAndEveryLayersStates) {
  ThreadPool pool(1);
  const auto backend = make_cpu_backend(pool, kernels::active_table());
  Model model(SmallLlama(kVocabulary).files(), {16, 4}, *backend);
  PlainSequences sequence(model, 1, CacheType::kFloat32);
  const uint32_t tokens[] = {1, 2, 3};
  const TokenPlace places[] = {{0, 0}, {0, 1}, {0, 2}};
  Recorder recorder(*backend);
  sequence.forward(tokens, places, {}, &recorder);
  EXPECT_EQ(recorder.layers, (std::vector<uint32_t>{0, 1}));
  ASSERT_EQ(recorder.states[1].size(), 3u * 40);
  EXPECT_NE(recorder.states[0], recorder.states[1]);
  std::vector<std::string> expected;
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* const name : {"q_proj", "k_proj", "v_proj"}) expected.push_back(layer + "self_attn." + name + " after a norm");
    expected.push_back(layer + "self_attn.o_proj");
    for (const char* const name : {"gate_proj", "up_proj"}) expected.push_back(layer + "mlp." + name + " after a norm");
    expected.push_back(layer + "mlp.down_proj");
  }
  EXPECT_EQ(recorder.names, expected);
}

// A layer that is loaded by itself, in a cache of one layer, does what it does in the model.
TEST(ModelRunning, ALayerRunsByItself) {
  ThreadPool pool(1);
  const auto backend = make_cpu_backend(pool, kernels::active_table());
  const SmallLlama llama(kVocabulary);
  Model model(llama.files(), {16, 4}, *backend);
  PlainSequences sequence(model, 1, CacheType::kFloat32);
  const uint32_t tokens[] = {1, 2, 3};
  const TokenPlace places[] = {{0, 0}, {0, 1}, {0, 2}};
  Recorder recorder(*backend);
  sequence.forward(tokens, places, {}, &recorder);

  ModelFiles files = llama.files();
  const ModelConfig config = read_model_config(files.config, files.config_place);
  WeightLoader loader(files, config, *backend);
  LayerContext context(config, 16, 4, *backend);
  const Layer layer = Layer::load(loader, 1);
  const auto cache = backend->make_cache({1, config.key_value_heads, config.head_width, 1, CacheType::kFloat32});
  const auto step = backend->make_step({4, 1, 1});
  const PageId page = 0;
  backend->begin(*step, {tokens, places, {&page, 1}, 1, {}, nullptr});
  const auto hidden = backend->allocate_rows(3, config.hidden);
  backend->write(recorder.states[0], first_rows(hidden, 3));
  layer.forward(context, *step, first_rows(hidden, 3), *cache, 0);
  std::vector<float> found(3 * config.hidden);
  backend->read(first_rows(hidden, 3), found);
  EXPECT_EQ(found, recorder.states[1]);
}

TEST(ModelRunning, AnInterruptedPassIsNotFinished) {
  ThreadPool pool(1);
  const auto backend = make_cpu_backend(pool, kernels::active_table());
  Model model(SmallLlama(kVocabulary).files(), {16, 4}, *backend);
  const auto cache = model.make_cache(1, CacheType::kFloat32);
  const auto step = model.make_step(1);
  const uint32_t token = 1;
  const TokenPlace place{0, 0};
  const PageId page = 0;
  backend->begin(*step, {{&token, 1}, {&place, 1}, {&page, 1}, 1, {}, nullptr});
  std::atomic<bool> interrupt = true;
  EXPECT_FALSE(model.forward_unless(interrupt, *step, *cache));
  interrupt = false;
  EXPECT_TRUE(model.forward_unless(interrupt, *step, *cache));
}

}  // namespace
}  // namespace tritllm
