// Writes the inputs that the fuzz target of model configs starts from: model_config_seeds FOLDER. Each is what a model of one
// family has in its files, with every field that is read.
#include <filesystem>
#include <fstream>
#include <string>

#include "core/json.h"

namespace {

using tritllm::Json;

Json config(const std::string& architecture) {
  return {{"architectures", {architecture}},
          {"hidden_act", "silu"},
          {"hidden_activation", "gelu_pytorch_tanh"},
          {"vocab_size", 131},
          {"hidden_size", 48},
          {"intermediate_size", 65},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"rms_norm_eps", 1e-6},
          {"max_position_embeddings", 64},
          {"tie_word_embeddings", true},
          {"attention_bias", true},
          {"mlp_bias", false},
          {"sliding_window", 9},
          {"use_sliding_window", true},
          {"max_window_layers", 2},
          {"query_pre_attn_scalar", 256},
          {"attn_logit_softcapping", nullptr},
          {"final_logit_softcapping", 30.0},
          {"eos_token_id", {1, 2}},
          {"partial_rotary_factor", 1.0}};
}

const std::string kGeneration =
    R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "typical_p": 1.0,
"repetition_penalty": 1.1, "eos_token_id": 2})";
const std::string kTokenizer = R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ bos_token }}"})";
const std::string kTemplates =
    R"({"chat_template": [{"name": "default", "template": "{% for m in messages %}{{ m.content }}{% endfor %}"}]})";

const std::string kAddedTokens = R"({"<turn>": 4, "<end>": 3})";
const std::string kSpecialTokens =
    R"({"eos_token": {"content": "<end>", "lstrip": true}, "additional_special_tokens": ["<turn>"]})";

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  int count = 0;
  const auto write = [&](const Json& document) {
    std::ofstream(folder / std::to_string(count++)) << document.dump() << '\xff' << kGeneration << '\xff' << kTokenizer << '\xff'
                                                    << kTemplates << '\xff' << kAddedTokens << '\xff' << kSpecialTokens;
  };
  for (const char* const name :
       {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM"}) {
    Json document = config(name);
    document["rope_theta"] = 5e5;
    document["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
    write(document);
    document["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
    document.erase("rope_scaling");
    document["rope_local_base_freq"] = 1e4;
    document["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 5e5}}},
                                   {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}};
    write(document);
    document.erase("rope_theta");
    document["rope_parameters"] = {{"rope_type", "llama3"},  {"rope_theta", 5e5},       {"factor", 8.0},
                                   {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 32}};
    write(document);
    document["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 4.0},         {"original_max_position_embeddings", 16},
                                   {"beta_fast", 32.0},   {"beta_slow", 1.0},      {"truncate", false},
                                   {"mscale", 1.0},       {"mscale_all_dim", 0.5}, {"attention_factor", 1.2}};
    write(document);
  }
  return 0;
}
