#include "tasks/model_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "codec/config.h"
#include "codec/quantizer.h"
#include "core/error.h"
#include "core/json.h"
#include "core/utf8.h"
#include "io/tied_head.h"
#include "tasks/licences.h"
#include "tasks/tensor_policy.h"

namespace tritllm {
namespace {

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

std::string last_part(const std::string& id) { return id.substr(id.rfind('/') + 1); }

// A manifest may be a stranger's, and its facts end up in Markdown, YAML and commands.
CardFacts plain_facts(const CardFacts& given) {
  CardFacts facts = given;
  facts.source_name = plain_fact(given.source_name).value_or("model");
  for (auto* const fact :
       {&facts.name, &facts.base_model, &facts.revision, &facts.license, &facts.license_name, &facts.license_link})
    *fact = plain_fact(*fact);
  const bool is_hostile = std::ranges::any_of(facts.options, [](char c) { return (c >= 0 && c < ' ') || c == '`' || c == 0x7F; });
  if (is_hostile) facts.options.clear();
  return facts;
}

// What there is to say, from the manifest and from the folder that the card stands in.
struct Card {
  const Manifest& manifest;
  const CardFolder& folder;
  CardFacts facts = plain_facts(manifest.card);
  const Licence* licence = find_licence(facts.license, facts.license_name);
  const codec::RecipeRow* recipe = codec::find_recipe(manifest.recipe);
  std::string source = facts.base_model.value_or(facts.source_name);
};

// Of the result: NAME-trit-CONFIG.
std::string title_of(const Card& card) {
  std::string name = last_part(card.facts.name.value_or(card.facts.source_name));
  if (name.ends_with(".gguf")) name.resize(name.size() - std::string_view(".gguf").size());
  std::ranges::replace(name, ' ', '-');
  const std::string_view prefix = card.licence != nullptr ? card.licence->name_prefix : "";
  if (!name.starts_with(prefix)) name = fmt::format("{}-{}", prefix, name);
  return fmt::format("{}-trit-{}", name, card.manifest.recipe);
}

// Where the folder will be found by a program that stands in it, or everywhere where the owner on the hub is known.
std::string place_of(const Card& card) {
  const std::string name = card.facts.name.value_or("");
  const size_t slash = name.find('/');
  return slash == name.npos ? "." : fmt::format("{}/{}", name.substr(0, slash), title_of(card));
}

std::string hub_address(const std::string& id) { return "https://huggingface.co/" + id; }

// [title](address), or the title alone.
std::string link(const std::string& title, const std::string& address) {
  return address.empty() ? title : fmt::format("[{}]({})", title, address);
}

std::string source_link(const Card& card) {
  if (!card.facts.base_model) return fmt::format("`{}`", card.source);
  return link(fmt::format("`{}`", card.source), hub_id(card.source) ? hub_address(card.source) : "");
}

std::string licence_title(const Card& card) {
  if (card.licence != nullptr) return std::string(card.licence->title);
  if (card.facts.license_name) return *card.facts.license_name;
  const std::string id = card.facts.license.value_or("other");
  return id == "other" ? "licence of the source" : id;
}

std::string licence_link(const Card& card) { return link(licence_title(card), card.facts.license_link.value_or("")); }

// What the hub files the model under: the family, its generation, and for Llama the version that the licence names.
std::vector<std::string> family_tags(const Card& card) {
  const Json& config = card.folder.config;
  const Json& text = config.contains("text_config") && config["text_config"].is_object() ? config["text_config"] : config;
  const auto found = text.find("model_type");
  std::vector<std::string> tags;
  const auto add = [&](const std::string& tag) {
    if (is_plain_word(tag) && std::ranges::find(tags, tag) == tags.end()) tags.push_back(tag);
  };
  if (found != text.end() && found->is_string()) {
    std::string type = found->get<std::string>();
    if (type.ends_with("_text")) type.resize(type.size() - std::string_view("_text").size());
    add(type.substr(0, type.find_first_of("0123456789_")));
    add(type);
  }
  constexpr std::string_view kLlama = "llama";
  if (card.licence != nullptr && card.licence->id.starts_with(kLlama)) {
    add(fmt::format("llama-{}", card.licence->id.substr(kLlama.size())));
  }
  return tags;
}

std::string architecture_of(const Json& config) {
  const auto list = config.find("architectures");
  const bool is_named = list != config.end() && list->is_array() && !list->empty() && list->front().is_string();
  return is_named ? list->front().get<std::string>() : "";
}

// The class of transformers that loads the plain folder.
std::string_view loading_class(const Json& config) {
  const std::string architecture = architecture_of(config);
  if (architecture.ends_with("ForCausalLM")) return "AutoModelForCausalLM";
  if (architecture.ends_with("ForConditionalGeneration")) return "AutoModelForImageTextToText";
  return "AutoModel";
}

std::string front_matter(const Card& card) {
  const CardFacts& facts = card.facts;
  std::string text = "---\n";
  const auto field = [&](std::string_view key, const std::optional<std::string>& value) {
    if (value) text += fmt::format("{}: {}\n", key, yaml_value(*value));
  };
  field("license", facts.license);
  field("license_name", facts.license_name);
  field("license_link", facts.license_link);
  field("base_model", facts.base_model);
  if (facts.base_model) field("base_model_relation", "quantized");
  text += "tags:\n- quantization\n- ternary\n- balanced-ternary\n- tritllm\n";
  for (const std::string& tag : family_tags(card)) text += fmt::format("- {}\n", yaml_value(tag));
  field("library_name", card.folder.kind == CardKind::kPacked ? "tritllm" : "transformers");
  if (loading_class(card.folder.config) == "AutoModelForCausalLM") field("pipeline_tag", "text-generation");
  if (card.licence != nullptr && card.licence->is_gated) {
    field(
        "extra_gated_description",
        fmt::format("These are quantized weights of {}. Whoever downloads them accepts the {}{}.", card.source, card.licence->title,
                    card.licence->policy_link.empty() ? "" : " and the Acceptable Use Policy that belongs to it"));
  }
  return text + "---\n\n";
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

// "a", "a and b", "a, b and c".
std::string joined(const std::vector<std::string>& parts) {
  if (parts.size() < 2) return parts.empty() ? "none" : parts.front();
  return fmt::format("{} and {}", fmt::join(parts.begin(), parts.end() - 1, ", "), parts.back());
}

// What became of each part of the model.
struct Fates {
  struct Count {
    size_t ternary = 0, kept = 0;
  };
  Count matrices, stacks, towers, embeddings, heads;
  size_t norms = 0, biases = 0, routers = 0, others = 0, transposed = 0;  // kept as FP16
  size_t wider = 0;                                                       // kept as BF16 or F32: beyond FP16
  size_t unchanged = 0;                                                   // kept as they are
  bool is_head_tied = false;
};

Fates fates_of(const Card& card) {
  const TensorRoles roles(card.folder.config);
  Fates fates;
  bool has_head = false;
  for (const TensorRecord& record : card.manifest.tensors) {
    if (record.fate == Fate::kTied) continue;
    if (const auto type = element_type_from_safetensors(record.type);
        record.fate == Fate::kKept && type && !is_weight_type(*type)) {
      ++fates.unchanged;
      continue;
    }
    SourceTensor tensor;
    tensor.name = record.name;
    tensor.shape = record.shape;
    tensor.type = ElementType::kF16;
    const TensorRole role = roles.of(tensor);
    if (record.fate == Fate::kKept && (record.type == "BF16" || record.type == "F32")) {
      has_head = has_head || role == TensorRole::kHead;
      ++fates.wider;
      continue;
    }
    const auto count = [&](Fates::Count& counts) { ++(record.fate == Fate::kTernary ? counts.ternary : counts.kept); };
    const auto holds = [&](std::string_view word) { return record.name.find(word) != record.name.npos; };
    switch (role) {
      case TensorRole::kMatrix: count(record.shape.size() == 3 ? fates.stacks : fates.matrices); break;
      case TensorRole::kTower: count(fates.towers); break;
      case TensorRole::kEmbedding: count(fates.embeddings); break;
      case TensorRole::kHead:
        count(fates.heads);
        has_head = true;
        break;
      case TensorRole::kTransposed: ++fates.transposed; break;
      case TensorRole::kOther:
        if (holds("norm") || holds("ln_")) ++fates.norms;
        else if (record.name.ends_with("bias")) ++fates.biases;
        else if (holds("gate") || holds("router")) ++fates.routers;
        else ++fates.others;
    }
  }
  fates.is_head_tied = !has_head && config_ties_head(card.folder.config);
  return fates;
}

std::string quantized_layers(const Fates& fates) {
  std::vector<std::string> parts;
  const auto add = [&](const Fates::Count& count, std::string_view what) {
    if (count.ternary == 0) return;
    parts.push_back(count.kept == 0 ? fmt::format("all {}", what)
                                    : fmt::format("{} of {} {}", count.ternary, count.ternary + count.kept, what));
  };
  const bool has_towers = fates.towers.ternary + fates.towers.kept > 0;
  add(fates.matrices, has_towers ? "2D linear matrices of the text part" : "2D linear matrices");
  add(fates.stacks, "stacks of experts");
  add(fates.towers, "matrices of vision and audio parts");
  if (fates.embeddings.ternary > 0)
    parts.emplace_back(fates.is_head_tied ? "token embeddings, which are the head too" : "token embeddings");
  if (fates.heads.ternary > 0) parts.emplace_back("`lm_head`");
  return joined(parts);
}

std::string kept_list(const Fates& fates) {
  std::vector<std::string> parts;
  const auto add = [&](size_t count, std::string_view what) {
    if (count > 0) parts.emplace_back(what);
  };
  add(fates.heads.kept, "`lm_head`");
  add(fates.embeddings.kept, fates.is_head_tied ? "token embeddings (the head is tied to them)" : "token embeddings");
  add(fates.norms, "all `*_norm` layers");
  add(fates.biases, "biases");
  add(fates.routers, "routers");
  add(fates.towers.kept, "vision and audio parts");
  add(fates.transposed, "matrices stored [in, out]");
  add(fates.matrices.kept + fates.stacks.kept, "matrices that a depth rule keeps");
  add(fates.others, fmt::format("{} other tensors", fates.others));
  return fmt::format("{}", fmt::join(parts, ", "));
}

// 1.24 B, 135 M.
std::string readable_count(uint64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.2f} B", value / 1e9);
  return value >= 1e6 ? fmt::format("{:.0f} M", value / 1e6) : fmt::format("{}", count);
}

// A whole number of the config, or of its text part.
std::optional<uint64_t> config_number(const Json& config, const char* name) {
  const Json& text = config.contains("text_config") && config["text_config"].is_object() ? config["text_config"] : config;
  const auto found = text.find(name);
  return found != text.end() && found->is_number_integer() && *found > 0 ? std::optional(found->get<uint64_t>()) : std::nullopt;
}

std::string details_table(const Card& card) {
  const Manifest& manifest = card.manifest;
  const Totals totals = totals_of(manifest);
  const Fates fates = fates_of(card);
  const auto bytes = static_cast<double>(card.folder.weight_bytes);
  std::string text = "| Field | Value |\n|---|---|\n";
  const auto row = [&](std::string_view field, const std::string& value) { text += fmt::format("| {} | {} |\n", field, value); };
  row("Source model", source_link(card));
  if (card.facts.revision) row("Source revision", fmt::format("`{}`", *card.facts.revision));
  row("Source digest (names, shapes, types, contents)", fmt::format("`{}`", manifest.source_digest));
  if (const std::string architecture = architecture_of(card.folder.config); is_plain_word(architecture)) {
    row("Architecture", architecture);
  }
  row("Parameters", readable_count(totals.elements));
  if (const auto positions = config_number(card.folder.config, "max_position_embeddings")) {
    row("Context length", fmt::format("{}", *positions));
  }
  row("Configuration", fmt::format("`{}`", manifest.recipe));
  row("Depth", depth_list(totals));
  row("Bits per weight", fmt::format("{:.2f}", manifest.nominal_bits_per_weight));
  row("Bits per weight, stored in packed form", fmt::format("{:.2f}", manifest.stored_bits_per_weight));
  row("Weight files of this folder", fmt::format("{:.1f} MB, {:.2f} bits per weight over all weights", bytes / 1e6,
                                                 8.0 * bytes / static_cast<double>(std::max<uint64_t>(1, totals.elements))));
  row("Group size", "16");
  if (card.recipe != nullptr) {
    row("Scale codebook", std::string(card.recipe->codebook));
    row("Method", std::string(card.recipe->method.empty() ? card.recipe->name : card.recipe->method));
  }
  row("Quantized layers", quantized_layers(fates));
  row("Kept FP16", kept_list(fates));
  if (fates.wider > 0) row("Kept as BF16 or F32", fmt::format("{} tensors with numbers beyond FP16", fates.wider));
  if (fates.unchanged > 0) row("Kept as they are", fmt::format("{} tensors that hold no floating point", fates.unchanged));
  row("Weights", fmt::format("{} ternary, {} kept", totals.ternary_weights, totals.kept_elements));
  row("Codec", "tritllm v2");
  row("Program", fmt::format("tritllm {}", manifest.tool_version));
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

std::string opening(const Card& card) {
  const Totals totals = totals_of(card.manifest);
  std::string text;
  if (card.licence != nullptr && !card.licence->attribution.empty()) text += fmt::format("{} ", card.licence->attribution);
  text += fmt::format(
      "{} in balanced ternary: depth **{}**, **{:.2f} bits per weight**. Each weight is a sum of trits with one scale for 16 "
      "weights. ",
      source_link(card), depth_list(totals), card.manifest.nominal_bits_per_weight);
  if (card.recipe != nullptr) text += card.recipe->needs;
  if (card.facts.license) text += fmt::format(" Licence: {}.", licence_link(card));
  return text +
         "\n\nThe codec, version 2, was published as [Entrit/tritllm-codec](https://huggingface.co/Entrit/tritllm-codec) with the "
         "article cited below; `tritllm` is an independent program for it.\n\n";
}

std::string quick_load(const Card& card) {
  const std::string place = place_of(card);
  std::string text = "## Quick load\n\n";
  if (card.folder.kind == CardKind::kPlain) {
    if (place == ".") text += "In this folder:\n\n";
    return text +
           fmt::format(
               "```python\nfrom transformers import {0}, AutoTokenizer\n\nmodel = {0}.from_pretrained(\"{1}\")\n"
               "tokenizer = AutoTokenizer.from_pretrained(\"{1}\")\n```\n\nThe weights are decoded to FP16, which "
               "`transformers` reads as it is, so this folder is as large as an FP16 model. Bits per weight are those of the "
               "packed form, which is the small one; programs that read it (`tritllm`, or hardware made for trits) gain from "
               "them.\n\n",
               loading_class(card.folder.config), place);
  }
  text += "This folder holds the packed weights. In it:\n\n```bash\n";
  if (card.folder.engine_runs_it) {
    text += fmt::format("tritllm run --model . {}-p 'Why is the sky blue?'\n", card.folder.has_chat_template ? "" : "--raw ");
  }
  const bool fits_half = fates_of(card).wider == 0;
  if (fits_half) text += fmt::format("tritllm dequantize . {}\n", shell_value(fmt::format("../{}-fp16", title_of(card))));
  text += "tritllm verify .\n```\n\n";
  if (fits_half) text += "`dequantize` makes an FP16 folder for `transformers`. ";
  return text + "`verify` checks every byte.\n\n";
}

std::string licence_section(const Card& card) {
  std::string text = "## License and use\n\nThis is a research artifact: nobody has tried it for your use. ";
  if (!card.facts.license && card.licence == nullptr) {
    return text +
           "The files of the source name no licence; its weights stay under the one that it has. Look it up before you pass this "
           "model on or use it commercially.\n\n";
  }
  text += fmt::format("The weights stay under the licence of the source, {}. {}\n\n", licence_link(card),
                      card.licence != nullptr ? card.licence->commercial : "What commercial use it allows is said there.");
  std::vector<std::string> duties{fmt::format("Keep to the {}.", licence_link(card))};
  if (card.licence != nullptr) {
    const Licence& licence = *card.licence;
    if (!licence.policy_link.empty()) {
      duties.push_back(fmt::format("Keep to the {}.", link("acceptable use policy", std::string(licence.policy_link))));
    }
    if (licence.attribution.starts_with("**")) {
      duties.push_back(fmt::format("Show \"{}\" where you pass on or demonstrate this model, or one made from it.",
                                   licence.attribution.substr(2, licence.attribution.size() - 5)));
    }
    if (!licence.name_prefix.empty()) {
      duties.push_back(fmt::format("Begin the name of a model made from this one with \"{}\".", licence.name_prefix));
    }
    if (!licence.notice.empty()) duties.emplace_back("Pass on the `Notice` file, and a copy of the licence.");
  }
  duties.emplace_back("Say that the weights were changed: they are quantized.");
  for (size_t i = 0; i < duties.size(); ++i) text += fmt::format("{}. {}\n", i + 1, duties[i]);
  return text + "\n";
}

std::string reproducibility(const Card& card) {
  const CardFacts& facts = card.facts;
  std::string text = "## Reproducibility\n\n```bash\n", model = card.facts.source_name;
  if (facts.base_model && card.manifest.source_kind != "gguf") {
    model = last_part(*facts.base_model);
    text += fmt::format("hf download {} {}--local-dir {}\n", shell_value(*facts.base_model),
                        facts.revision ? fmt::format("--revision {} ", *facts.revision) : "", shell_value(model));
  }
  text += fmt::format("tritllm quantize --model {}{} --configs {}{} --out out\n```\n\n", shell_value(model),
                      facts.base_model ? fmt::format(" --base-model {}", shell_value(*facts.base_model)) : "", card.manifest.recipe,
                      facts.options);
  const bool calibrates = card.recipe != nullptr && card.recipe->calibrates;
  return text + fmt::format("`out/{}/` then holds the same bytes, on any machine{}. {}\n", card.manifest.recipe,
                            calibrates ? " with the same instruction set and calibration text" : "",
                            facts.base_model && card.manifest.source_kind != "gguf"
                                ? "`hf` is the hub's own program."
                                : "The first name is that of the source's folder or file.");
}

}  // namespace

CardFacts card_facts(const ModelSource& model, std::string options, const CardWishes& wishes) {
  const SourceIdentity& source = model.identity;
  // Facts become JSON, which holds nothing but UTF-8.
  if (!is_valid_utf8(options)) options = printable(options, options.size() * 4);
  CardFacts facts{.source_name = plain_fact(source.path_name).value_or("model"), .options = std::move(options)};
  facts.base_model = plain_fact(wishes.base_model ? wishes.base_model : source.hub_id);
  const bool is_of_source = !wishes.base_model || !source.hub_id || wishes.base_model == source.hub_id;
  if (is_of_source) facts.revision = plain_fact(source.revision);
  facts.name = plain_fact(wishes.name ? wishes.name : wishes.base_model ? last_part(*wishes.base_model) : source.name);
  const bool is_told = !wishes.license || wishes.license == source.license;
  facts.license = plain_fact(is_told ? source.license : wishes.license);
  if (is_told) facts.license_name = plain_fact(source.license_name);
  if (is_told) facts.license_link = plain_fact(source.license_link);

  const SideFile* const file = licence_file(model.side_files);
  const Licence* licence = find_licence(facts.license, facts.license_name);
  if (!facts.license && file != nullptr) licence = recognise_licence(file->contents);
  if (licence != nullptr) {
    if (!facts.license) facts.license = licence->id;
    if (!facts.license_name) facts.license_name = licence->name;
  }
  const auto on_hub = [&](const std::string& name) { return fmt::format("{}/blob/main/{}", hub_address(*facts.base_model), name); };
  const std::string given = facts.license_link.value_or("");
  const bool is_file = !given.empty() && given.find("://") == given.npos;
  if (is_file && facts.base_model) {
    facts.license_link = on_hub(given.starts_with("./") ? given.substr(2) : given);
  } else if (given.empty() && file != nullptr && facts.base_model) {
    facts.license_link = on_hub(plain_text(file->name));
  } else if (given.empty() && licence != nullptr) {
    const bool is_licensors =
        facts.base_model && !licence->owner.empty() && facts.base_model->starts_with(fmt::format("{}/", licence->owner));
    if (is_licensors) facts.license_link = on_hub(std::string(licence->hub_file));
    else if (!licence->link.empty()) facts.license_link = licence->link;
    else if (file != nullptr) facts.license_link = plain_fact(file->name);
  }
  return facts;
}

std::string model_card(const Manifest& manifest, const CardFolder& folder) {
  const Card card{manifest, folder};
  std::string text = front_matter(card) + fmt::format("# {}\n\n", title_of(card)) + opening(card) + quick_load(card);
  text += "## Quantization details\n\n" + details_table(card) + "\n## Measured error\n\n" + error_table(manifest);
  text +=
      "\nErrors of the decoded weights against the source's, before the last rounding to FP16. How a model answers is another "
      "question: measure it on your task.\n";
  const auto is_quantised = [](const std::string& type) { return type.size() > 1 && type[0] == 'Q'; };
  if (std::any_of(manifest.source_types.begin(), manifest.source_types.end(), is_quantised)) {
    text += "\nThe source was already quantised, so its errors come on top of these.\n";
  }
  text += "\n" + licence_section(card);
  text +=
      "## Citation\n\n```\n@article{stentzel2026ternaryptq,\n  title  = {Balanced Ternary Post-Training Quantization for Large "
      "Language Models},\n"
      "  author = {Stentzel, Eric},\n  year   = 2026,\n  note   = {Entrit Systems}\n}\n```\n\n";
  return text + reproducibility(card);
}

}  // namespace tritllm
