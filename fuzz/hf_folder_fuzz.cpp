// Owns the fuzz target of Hugging Face folders: config, model card and index of the input stand beside sound weights; the folder is
// opened, planned and described as quantising does. An input is "config 0xff card 0xff index"; an empty section means no such file.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "core/error.h"
#include "core/json.h"
#include "io/hf_folder.h"
#include "scratch_folder.h"
#include "tasks/inspect.h"
#include "tasks/model_card.h"
#include "tasks/output_folder.h"
#include "tasks/tensor_policy.h"

namespace {

using namespace tritllm;

std::string sound_weights(const std::vector<PlannedTensor>& tensors) {
  const SafetensorsLayout layout = plan_safetensors(tensors, {});
  std::string file = layout.header;
  file.resize(layout.file_bytes, '\0');
  return file;
}

// A matrix as BitNet packs it. A scale of zeros would be refused.
std::string packed_trits() {
  const PlannedTensor tensors[] = {{"model.layers.0.mlp.up_proj.weight", ElementType::kU8, {3, 5}},
                                   {"model.layers.0.mlp.up_proj.bias", ElementType::kF16, {12}},
                                   {"model.layers.0.mlp.up_proj.weight_scale", ElementType::kF32, {1}}};
  const SafetensorsLayout layout = plan_safetensors(tensors, {});
  std::string file = sound_weights({std::begin(tensors), std::end(tensors)});
  constexpr float kScale = 0.5f;
  std::memcpy(file.data() + layout.offsets[2], &kScale, sizeof(kScale));
  return file;
}

// Every use that quantising makes of what it read.
void use(const ModelSource& model) {
  for (const SourceTensor& tensor : model.tensors) {
    std::vector<float> values(is_weight_type(tensor.type) ? tensor.elements() : 0);
    if (!values.empty()) read_float32(tensor, 0, values);
  }
  const std::vector<TensorPlan> plans = plan_tensors(model, {}, 2);
  Manifest manifest;
  manifest.recipe = "optimal-d2";
  manifest.source_name = model.identity.hub_id.value_or("fuzz");
  for (size_t i = 0; i < plans.size(); ++i) {
    TensorRecord record;
    record.name = model.tensors[i].name;
    record.shape = model.tensors[i].shape;
    record.source_type = record.type = layout_of(model.tensors[i].type).name;
    record.fate = plans[i].fate;
    record.depth = plans[i].depth;
    record.tied_to = plans[i].tied_to;
    manifest.tensors.push_back(std::move(record));
  }
  manifest.card = card_facts(model, "");
  for (const CardKind kind : {CardKind::kPacked, CardKind::kPlain}) {
    model_card(manifest, {.kind = kind, .config = model.config, .weight_bytes = 1000});
  }
  // What is written is a document that can be read again.
  parse_json(json_text(packed_config(model.config, manifest)), "fuzz", kJsonDepthLimit + 2);
  parse_json(json_text(plain_config(model.config)), "fuzz");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ScratchFolder folder;
  static const bool prepared = [] {
    const PlannedTensor embedding{"model.embed_tokens.weight", ElementType::kBF16, {4, 3}};
    const PlannedTensor matrix{"model.layers.0.mlp.up_proj.weight", ElementType::kF16, {3, 5}};
    const PlannedTensor head{"lm_head.weight", ElementType::kBF16, {4, 3}};
    folder.write("model.safetensors", sound_weights({embedding, matrix, head}));
    folder.write("a.safetensors", sound_weights({embedding, matrix}));
    folder.write("b.safetensors", sound_weights({head}));
    folder.write("c.safetensors", packed_trits());
    folder.write("tokenizer.json", "{}");
    return true;
  }();
  (void)prepared;
  const std::vector<std::string_view> parts = sections({reinterpret_cast<const char*>(data), size});
  constexpr const char* kNames[] = {"config.json", "README.md", "model.safetensors.index.json"};
  for (size_t i = 0; i < std::size(kNames); ++i) {
    std::error_code ignored;
    if (i < parts.size() && !parts[i].empty()) folder.write(kNames[i], parts[i]);
    else std::filesystem::remove(folder.path() / kNames[i], ignored);
  }
  try {
    inspect_model(folder.path());
    use(open_hf_folder(folder.path()));
  } catch (const Error&) {
  }
  return 0;
}
