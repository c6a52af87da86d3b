// Writes the inputs from which fuzzing of model folders and packed checkpoints starts: FOLDER/TARGET/… for each target, made by
// quantising a tiny model.
#include <cstdio>

#include "core/file.h"
#include "io/packed_checkpoint.h"
#include "scratch_folder.h"
#include "tasks/journal.h"
#include "tasks/quantize_model.h"

namespace {

using namespace tritllm;
namespace fs = std::filesystem;

constexpr const char* kConfig = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "tie_word_embeddings": true,
  "torch_dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "tie_word_embeddings": false}, "_name_or_path": "someone/tiny"
})";
constexpr const char* kCard = "---\nlicense: llama3.2\nbase_model: someone/tiny\n---\n# Tiny\n";
constexpr const char* kIndex = R"({"metadata": {"total_size": 78}, "weight_map": {
  "model.embed_tokens.weight": "a.safetensors", "model.layers.0.mlp.up_proj.weight": "a.safetensors", "lm_head.weight": "b.safetensors"}})";
constexpr const char* kBitnetConfig = R"({"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "quantization_config":
  {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline", "modules_to_not_convert": ["lm_head"]}})";
constexpr const char* kBitnetIndex = R"({"metadata": {}, "weight_map": {
  "model.layers.0.mlp.up_proj.weight": "c.safetensors", "model.layers.0.mlp.up_proj.bias": "c.safetensors",
  "model.layers.0.mlp.up_proj.weight_scale": "c.safetensors"}})";

std::string tiny_weights() {
  const std::vector<PlannedTensor> tensors{{"model.embed_tokens.weight", ElementType::kBF16, {3, 2}},
                                           {"model.layers.0.mlp.up_proj.weight", ElementType::kF32, {2, 17}},
                                           {"model.layers.0.mlp.experts.down_proj", ElementType::kF16, {2, 2, 16}},
                                           {"position_ids", ElementType::kI64, {2}}};
  const SafetensorsLayout layout = plan_safetensors(tensors, {{"format", "pt"}});
  std::string file = layout.header;
  while (file.size() < layout.file_bytes) file += static_cast<char>(0x3c - file.size() % 7);
  file.resize(layout.file_bytes);
  return file;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fputs("usage: model_seeds FOLDER\n", stderr);
    return 2;
  }
  const fs::path folder = arguments[1];
  for (const char* const target : {"safetensors", "hf_folder", "json", "manifest", "packed", "journal"})
    create_folders(folder / target);
  const std::string weights = tiny_weights();
  write_file_atomically(folder / "safetensors" / "tiny", weights);
  write_file_atomically(folder / "json" / "config", kConfig);
  write_file_atomically(folder / "hf_folder" / "single", std::string(kConfig) + "\xff" + kCard);
  write_file_atomically(folder / "hf_folder" / "sharded", std::string(kConfig) + "\xff\xff" + kIndex);
  write_file_atomically(folder / "hf_folder" / "bitnet", std::string(kBitnetConfig) + "\xff\xff" + kBitnetIndex);

  const ScratchFolder scratch;
  create_folders(scratch.path() / "model");
  scratch.write("model/config.json", kConfig);
  scratch.write("model/model.safetensors", weights);
  for (const char* const config : {"uniform-d1", "optimal-d3"}) {
    QuantizeOptions options;
    options.model = scratch.path() / "model";
    options.configs = {codec::parse_config(config)};
    options.output.folder = scratch.path() / "out";
    options.threads = 1;
    quantize_model(options);
    const fs::path packed = options.output.folder / config / "packed";
    const Manifest parsed = read_manifest(packed);
    remove_file(folder / "journal" / config);
    Journal journal(folder / "journal" / config, parsed.fingerprint);
    for (size_t i = 0; i < parsed.tensors.size(); ++i) journal.add(i, {parsed.tensors[i], parsed.tensors[i].checksum, {}});
    const std::string manifest = read_text_file(packed / kManifestName);
    write_file_atomically(folder / "manifest" / config, manifest);
    write_file_atomically(folder / "packed" / config,
                          manifest + "\xff" + read_text_file(packed / "trits-00001-of-00001.safetensors"));
  }
  return 0;
}
