#include "tasks/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "codec/config.h"
#include "codec/quantizer.h"
#include "core/error.h"
#include "core/utf8.h"

namespace tritllm {
namespace {

// What a licence asks of those who pass a derived model on.
struct LicenceRule {
  std::string_view id_start;     // front matter identifiers that begin so
  std::string_view name_prefix;  // every model name must begin with it
  std::string_view attribution;  // shown first
  std::string_view link;
  std::string_view duties;  // Markdown list
};

constexpr std::array kLicenceRules{
    LicenceRule{"llama3.3", "Llama-", "**Built with Llama.**", "https://www.llama.com/llama3_3/license/",
                "1. Comply with the Llama 3.3 Community License Agreement; pass a copy of it on with the model.\n"
                "2. Comply with the [Acceptable Use Policy](https://www.llama.com/llama3_3/use-policy).\n"
                "3. Display \"Built with Llama\", and begin the name of any model made from this one with \"Llama\".\n"},
    LicenceRule{"llama3.2", "Llama-", "**Built with Llama.**", "https://www.llama.com/llama3_2/license/",
                "1. Comply with the Llama 3.2 Community License Agreement; pass a copy of it on with the model.\n"
                "2. Comply with the [Acceptable Use Policy](https://www.llama.com/llama3_2/use-policy).\n"
                "3. Display \"Built with Llama\", and begin the name of any model made from this one with \"Llama\".\n"},
    LicenceRule{"llama3.1", "Llama-", "**Built with Llama.**", "https://www.llama.com/llama3_1/license/",
                "1. Comply with the Llama 3.1 Community License Agreement; pass a copy of it on with the model.\n"
                "2. Comply with the [Acceptable Use Policy](https://www.llama.com/llama3_1/use-policy).\n"
                "3. Display \"Built with Llama\", and begin the name of any model made from this one with \"Llama\".\n"},
    LicenceRule{"llama3", "Llama-", "**Built with Meta Llama 3.**", "https://www.llama.com/llama3/license/",
                "1. Comply with the Meta Llama 3 Community License Agreement; pass a copy of it on with the model.\n"
                "2. Comply with the [Acceptable Use Policy](https://www.llama.com/llama3/use-policy).\n"
                "3. Display \"Built with Meta Llama 3\", and begin the name of any model made from this one with \"Llama 3\".\n"},
    LicenceRule{"gemma", "", "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
                "https://ai.google.dev/gemma/terms",
                "1. Comply with the Gemma Terms of Use; pass a copy of them on with the model.\n"
                "2. Comply with the [Prohibited Use Policy](https://ai.google.dev/gemma/prohibited_use_policy).\n"},
};

const LicenceRule* licence_rule(const CardFacts& facts) {
  if (!facts.license) return nullptr;
  const auto rule = std::find_if(kLicenceRules.begin(), kLicenceRules.end(),
                                 [&](const LicenceRule& candidate) { return facts.license->starts_with(candidate.id_start); });
  return rule == kLicenceRules.end() ? nullptr : &*rule;
}

// Text of the source that goes into YAML and Markdown: one line, no quotes or markup.
std::string plain_text(std::string_view text) {
  std::string kept;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f && std::string_view("\"'`<>|[]\\").find(c) == std::string_view::npos) kept += c;
  }
  const size_t first = kept.find_first_not_of(' ');
  return first == kept.npos ? "" : kept.substr(first, kept.find_last_not_of(' ') + 1 - first);
}

bool is_plain_word(std::string_view text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-") == text.npos;
}

// plain_text() holds no quotes and no backslashes, so that quotes around it suffice for YAML and for a shell.
std::string yaml_value(const std::string& text) { return is_plain_word(text) ? text : fmt::format("\"{}\"", text); }
std::string shell_value(const std::string& text) { return is_plain_word(text) ? text : fmt::format("'{}'", text); }

// Text of the source as cards show it, so that a card names the same source whether the facts came from the source or from a card.
std::optional<std::string> plain_fact(const std::optional<std::string>& text) {
  constexpr size_t kLongest = 200;
  const std::string plain = plain_text(text.value_or(""));
  if (plain.empty() || plain.size() > kLongest) return std::nullopt;
  return plain;
}

std::string card_title(const Manifest& manifest, const CardFacts& facts, const LicenceRule* rule) {
  std::string source = plain_text(facts.base_model.value_or(facts.source_name));
  source = source.substr(source.rfind('/') + 1);
  if (source.ends_with(".gguf")) source.resize(source.size() - std::string_view(".gguf").size());
  const std::string_view prefix = rule != nullptr ? rule->name_prefix : "";
  // "Llama-" asks for a name that begins with "Llama", however it goes on.
  if (!prefix.empty() && !source.starts_with(prefix.substr(0, prefix.size() - 1))) source = std::string(prefix) + source;
  return fmt::format("{}-trit-{}", source, manifest.recipe);
}

std::string front_matter(CardKind kind, const CardFacts& facts, const LicenceRule* rule) {
  std::string text = "---\n";
  if (facts.license) text += fmt::format("license: {}\n", yaml_value(plain_text(*facts.license)));
  if (rule != nullptr) text += fmt::format("license_link: {}\n", rule->link);
  if (facts.base_model)
    text += fmt::format("base_model: {}\nbase_model_relation: quantized\n", yaml_value(plain_text(*facts.base_model)));
  text += "tags:\n- quantization\n- ternary\n- balanced-ternary\n- tritllm\n";
  return text + fmt::format("library_name: {}\n---\n\n", kind == CardKind::kPacked ? "tritllm" : "transformers");
}

struct Totals {
  uint64_t elements = 0, ternary_weights = 0, kept_elements = 0;
  double weight_energy = 0, error_energy = 0;
  std::map<int, size_t> matrices_by_depth;
};

std::string depth_list(const Totals& totals) {
  std::string list;
  for (const auto& [depth, matrices] : totals.matrices_by_depth) {
    const int levels = 2 * codec::largest_code(depth) + 1;
    list += totals.matrices_by_depth.size() == 1
                ? fmt::format("d={} ({} levels)", depth, levels)
                : fmt::format("{}d={} ({} levels): {} matrices", list.empty() ? "" : "; ", depth, levels, matrices);
  }
  return list;
}

Totals totals_of(const Manifest& manifest) {
  Totals totals;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kTied) continue;
    totals.elements += record.elements();
    if (record.fate == Fate::kKept) {
      totals.kept_elements += record.elements();
      continue;
    }
    totals.ternary_weights += record.elements();
    ++totals.matrices_by_depth[record.depth];
  }
  return totals;
}

std::string kept_list(const Manifest& manifest) {
  bool embedding = false, head = false;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate != Fate::kKept) continue;
    embedding = embedding || record.name.find("embed") != record.name.npos;
    head = head || record.name.find("lm_head") != record.name.npos;
  }
  std::string list;
  if (head) list += "`lm_head`, ";
  if (embedding) list += "token embeddings, ";
  return list + "norms, biases, routers";
}

std::string details_table(CardKind kind, const Manifest& manifest, const CardFacts& facts, uint64_t weight_file_bytes) {
  const Totals totals = totals_of(manifest);
  const double whole = 8.0 * static_cast<double>(weight_file_bytes) / static_cast<double>(std::max<uint64_t>(1, totals.elements));
  std::string text = "| Field | Value |\n|---|---|\n";
  const auto row = [&](std::string_view field, const std::string& value) { text += fmt::format("| {} | {} |\n", field, value); };
  row("Source model", plain_text(facts.base_model.value_or(facts.source_name)));
  row("Source digest (names, shapes, types, contents)", fmt::format("`{}`", manifest.source_digest));
  row("Configuration", fmt::format("`{}`", manifest.recipe));
  row("Depth", depth_list(totals));
  row("Group size", "16");
  if (const codec::RecipeRow* const recipe = codec::find_recipe(manifest.recipe)) {
    row("Scale codebook", std::string(recipe->codebook));
  }
  row("Quantised", fmt::format("{} weights in all 2-D linear matrices", totals.ternary_weights));
  row("Kept FP16", fmt::format("{} weights: {}", totals.kept_elements, kept_list(manifest)));
  row("Information content of the quantised matrices", fmt::format("{:.2f} bits per weight", manifest.nominal_bits_per_weight));
  row("Stored, quantised matrices in packed form", fmt::format("{:.2f} bits per weight", manifest.stored_bits_per_weight));
  row(kind == CardKind::kPacked ? "Whole weight files of this folder" : "Whole weight files of this folder (FP16)",
      fmt::format("{:.1f} MB, {:.2f} bits per weight over all weights", static_cast<double>(weight_file_bytes) / 1e6, whole));
  row("Codec", fmt::format("tritllm {}", manifest.tool_version));
  return text;
}

std::string error_table(const Manifest& manifest) {
  std::vector<const TensorRecord*> matrices;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kTernary) matrices.push_back(&record);
  }
  if (matrices.empty()) return "";
  const auto worse = [](const TensorRecord* a, const TensorRecord* b) {
    return a->error.relative_mse != b->error.relative_mse ? a->error.relative_mse > b->error.relative_mse : a->name < b->name;
  };
  std::sort(matrices.begin(), matrices.end(), worse);
  const auto decibel = [](const TensorRecord& record) {
    return record.error.sqnr_db ? fmt::format("{:.2f}", *record.error.sqnr_db) : "exact";
  };
  const TensorRecord& median = *matrices[matrices.size() / 2];
  std::string text = "| Matrix | SQNR, dB | Relative MSE | Cosine | Largest error |\n|---|---|---|---|---|\n";
  const auto row = [&](const std::string& label, const TensorRecord& record) {
    text += fmt::format("| {} | {} | {:.3g} | {:.6f} | {:.3g} |\n", label, decibel(record), record.error.relative_mse,
                        std::floor(record.error.cosine * 1e6) / 1e6, record.error.max_abs_error);
  };
  row(fmt::format("median of {}", matrices.size()), median);
  for (size_t i = 0; i < std::min<size_t>(3, matrices.size()); ++i)
    row(fmt::format("worst: `{}`", plain_text(matrices[i]->name)), *matrices[i]);
  return text;
}

}  // namespace

CardFacts card_facts(const ModelSource& model, std::string options) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(model.path, error);
  if (error) throw io_error(model.path.string(), "find the real path", error.value());
  // Facts become JSON, which holds nothing but UTF-8.
  if (!is_valid_utf8(options)) options = printable(options, options.size() * 4);
  return {plain_fact(printable(path.filename().string())).value_or("model"), plain_fact(model.base_model),
          plain_fact(model.license), std::move(options)};
}

std::string model_card(CardKind kind, const Manifest& manifest, const CardFacts& facts, uint64_t weight_file_bytes) {
  const LicenceRule* const rule = licence_rule(facts);
  const std::string title = card_title(manifest, facts, rule);
  std::string card = front_matter(kind, facts, rule) + fmt::format("# {}\n\n", title);
  if (rule != nullptr) card += fmt::format("{} ", rule->attribution);
  const codec::RecipeRow* const recipe = codec::find_recipe(manifest.recipe);
  card += fmt::format("Balanced ternary quantisation of {}: each weight is a sum of trits with one scale for 16 weights. {}\n\n",
                      plain_text(facts.base_model.value_or(facts.source_name)), recipe != nullptr ? recipe->needs : "");
  if (kind == CardKind::kPacked) {
    card +=
        "## Use\n\nThis folder holds the packed weights. `tritllm dequantize FOLDER OUT` turns it into an FP16 folder for "
        "`transformers`, bit for bit the one that "
        "was written with it; `tritllm verify FOLDER` checks every byte.\n\n";
  } else {
    card += fmt::format(
        "## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\nmodel = "
        "AutoModelForCausalLM.from_pretrained(\"{0}\")\n"
        "tokenizer = AutoTokenizer.from_pretrained(\"{0}\")\n```\n\nThe weights are dequantised to FP16, so this folder is as "
        "large as an FP16 model; "
        "the packed form is the small one.\n\n",
        title);
  }
  card += "## Quantisation\n\n" + details_table(kind, manifest, facts, weight_file_bytes) + "\n## Measured error\n\n" +
          error_table(manifest);
  card +=
      "\nErrors of the decoded weights against the source's, before the last rounding to FP16. How a model answers is another "
      "question: measure it on your task.\n";
  const auto is_quantised = [](const std::string& type) { return type.size() > 1 && type[0] == 'Q'; };
  if (std::any_of(manifest.source_types.begin(), manifest.source_types.end(), is_quantised)) {
    card += "\nThe source was already quantised, so its errors come on top of these.\n";
  }
  card += "\n## Licence\n\nThe weights stay under the source model's licence";
  card += facts.license ? fmt::format(" (`{}`)", plain_text(*facts.license))
                        : ", which the source's files did not name: look it up before you pass this model on";
  card += ".\n";
  if (rule != nullptr) card += fmt::format("\n{}", rule->duties);
  card += fmt::format("\n## Make it again\n\n```bash\ntritllm quantize --model {} --configs {}{} --out out\n```\n",
                      shell_value(plain_text(facts.base_model.value_or(facts.source_name))), manifest.recipe, facts.options);
  card +=
      "\n## Citation\n\n```\n@article{stentzel2026ternaryptq,\n  title  = {Balanced Ternary Post-Training Quantization for Large "
      "Language Models},\n"
      "  author = {Stentzel, Eric},\n  year   = 2026,\n  note   = {Entrit Systems}\n}\n```\n";
  return card;
}

}  // namespace tritllm
