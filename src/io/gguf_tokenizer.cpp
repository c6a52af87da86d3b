// Owns the translation of a GGUF file's vocabulary into tokenizer.json.
#include "io/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "core/error.h"
#include "io/gguf_vocabulary.h"

namespace tritllm {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

// Patterns from the tokenizer.json of the models that llama.cpp has named its own after.
constexpr std::array<std::string_view, 1> kLlama3Splits{
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<std::string_view, 1> kQwen2Splits{
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<std::string_view, 1> kQwen35Splits{
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<std::string_view, 1> kTekkenSplits{
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<std::string_view, 1> kGpt4oSplits{
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<std::string_view, 5> kDeepSeekCoderSplits{"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+",
                                                               R"(\p{N})"};
constexpr std::array<std::string_view, 6> kDeepSeekLlmSplits{
    "[\r\n]",
    // Letters of scripts that have capitals.
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽ)"
    R"(Ა-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼ)"
    R"(ℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)",
    R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)", R"(\s+$)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N}+)"};
constexpr std::array<std::string_view, 3> kDeepSeek3Splits{
    R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::array<std::string_view, 1> kBloomSplits{R"( ?[^(\s|.,!?…。，、।۔،)]+)"};
constexpr std::array<std::string_view, 2> kVikingSplits{kBloomSplits[0], R"(\p{N})"};

// How a byte-level vocabulary cuts text before merging, by tokenizer.ggml.pre.
struct PreTokenizer {
  std::string_view name;
  std::span<const std::string_view> splits = {};  // one after the other; empty: the pattern of GPT-2, which ByteLevel has built in
  bool individual_digits = false;
  bool composes = false;        // normalises to NFC
  bool ignores_merges = false;  // a word that is a token needs no merges
  bool adds_bos = false;        // unless the file says otherwise
};

constexpr std::array kPreTokenizers{
    PreTokenizer{.name = "default"},
    PreTokenizer{.name = "gpt-2"},
    PreTokenizer{.name = "phi-2"},
    PreTokenizer{.name = "mpt"},
    PreTokenizer{.name = "olmo"},
    PreTokenizer{.name = "jais"},
    PreTokenizer{.name = "trillion"},
    PreTokenizer{.name = "granite-docling"},
    PreTokenizer{.name = "smollm", .individual_digits = true},
    PreTokenizer{.name = "starcoder", .individual_digits = true},
    PreTokenizer{.name = "refact", .individual_digits = true},
    PreTokenizer{.name = "command-r", .individual_digits = true},
    PreTokenizer{.name = "codeshell", .individual_digits = true},
    PreTokenizer{.name = "exaone", .individual_digits = true},
    PreTokenizer{.name = "minerva-7b", .individual_digits = true},
    PreTokenizer{.name = "llama-bpe", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "llama3", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "llama-v3", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "falcon3", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "falcon-h1", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "pixtral", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "midm-2.0", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "lfm2", .splits = kLlama3Splits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "dbrx", .splits = kLlama3Splits},
    PreTokenizer{.name = "smaug-bpe", .splits = kLlama3Splits},
    PreTokenizer{.name = "chatglm-bpe", .splits = kLlama3Splits},
    PreTokenizer{.name = "tekken", .splits = kTekkenSplits, .ignores_merges = true, .adds_bos = true},
    PreTokenizer{.name = "gpt-4o", .splits = kGpt4oSplits},
    PreTokenizer{.name = "llama4", .splits = kGpt4oSplits},
    PreTokenizer{.name = "qwen2", .splits = kQwen2Splits, .composes = true},
    PreTokenizer{.name = "deepseek-r1-qwen", .splits = kQwen2Splits, .composes = true},
    PreTokenizer{.name = "qwen35", .splits = kQwen35Splits, .composes = true},
    PreTokenizer{.name = "stablelm2", .splits = kQwen2Splits, .composes = true},
    PreTokenizer{.name = "megrez", .splits = kQwen2Splits, .composes = true},
    PreTokenizer{.name = "hunyuan", .splits = kQwen2Splits},
    PreTokenizer{.name = "solar-open", .splits = kQwen2Splits},
    PreTokenizer{.name = "deepseek-coder", .splits = kDeepSeekCoderSplits},
    PreTokenizer{.name = "deepseek-llm", .splits = kDeepSeekLlmSplits},
    PreTokenizer{.name = "deepseek-v3", .splits = kDeepSeek3Splits},
    PreTokenizer{.name = "hunyuan-dense", .splits = kDeepSeek3Splits},
    PreTokenizer{.name = "bloom", .splits = kBloomSplits},
    PreTokenizer{.name = "poro-chat", .splits = kBloomSplits},
    PreTokenizer{.name = "gpt3-finnish", .splits = kBloomSplits},
    PreTokenizer{.name = "viking", .splits = kVikingSplits},
};

const PreTokenizer& pre_tokenizer_of(const GgufFile& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.pre";
  const std::string_view name = file.text(kKey).value_or("default");
  const auto found = std::ranges::find(kPreTokenizers, name, &PreTokenizer::name);
  if (found != kPreTokenizers.end()) return *found;
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: key '{}'", file.where(), kKey),
              fmt::format("the pre-tokenizer '{}' is not known", printable(name)), "use the model's original folder");
}

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json replace(std::string_view from, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json sequence(std::string_view member, Json parts) { return {{"type", "Sequence"}, {member, std::move(parts)}}; }

Json pre_tokenizer_json(const PreTokenizer& pre) {
  if (!pre.splits.empty()) {
    Json parts = Json::array();
    for (const std::string_view split : pre.splits) {
      parts.push_back({{"type", "Split"}, {"pattern", {{"Regex", split}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
    parts.push_back(byte_level(false));
    return sequence("pretokenizers", std::move(parts));
  }
  if (!pre.individual_digits) return byte_level(true);
  Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  return sequence("pretokenizers", Json::array({std::move(digits), byte_level(true)}));
}

// Appends to an object whose keys are known to differ, without ordered_json's search of all earlier ones.
void append_member(Json& object, std::string_view key, Json value) {
  auto& members = object.get_ref<Json::object_t&>();
  static_cast<std::vector<Json::object_t::value_type>&>(members).emplace_back(std::string(key), std::move(value));
}

Json vocabulary_json(const GgufVocabulary& vocabulary) {
  Json object = Json::object();
  for (uint64_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!vocabulary.tokens[id].text.empty()) append_member(object, vocabulary.tokens[id].text, id);
  }
  return object;
}

Json merges_json(const GgufMerges& merges) {
  Json array = Json::array();
  for (const auto& [left, right] : merges) array.push_back(Json::array({left, right}));
  return array;
}

Json model_json(const GgufVocabulary& vocabulary, const GgufMerges& merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocabulary_json(vocabulary)},
          {"merges", merges_json(merges)}};
}

// Gemma's runs of spaces are user-defined tokens of the file, yet in the vocabulary they are reached through merges.
bool is_run_of_marks(std::string_view text) {
  while (text.starts_with(kSpaceMark)) text.remove_prefix(kSpaceMark.size());
  return text.empty();
}

Json added_tokens_json(const GgufVocabulary& vocabulary) {
  Json tokens = Json::array();
  for (uint64_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const GgufToken& token = vocabulary.tokens[id];
    const bool special = vocabulary.is_special(id);
    if (token.text.empty() || (!special && token.kind != GgufTokenKind::kUserDefined)) continue;
    if (!special && is_run_of_marks(token.text)) continue;
    tokens.push_back({{"id", id},
                      {"content", token.text},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", special}});
  }
  return tokens;
}

struct AddedEnds {
  std::optional<uint64_t> bos, eos;  // put before and after every text
};

AddedEnds added_ends(const GgufFile& file, const GgufTokenIds& ids, bool adds_bos) {
  AddedEnds ends;
  if (file.boolean("tokenizer.ggml.add_bos_token").value_or(adds_bos)) ends.bos = ids.bos;
  if (file.boolean("tokenizer.ggml.add_eos_token").value_or(false)) ends.eos = ids.eos;
  return ends;
}

Json template_json(const GgufVocabulary& vocabulary, const AddedEnds& ends) {
  Json single = Json::array();
  Json pair = Json::array();
  Json special = Json::object();
  const auto add_token = [&](std::optional<uint64_t> id, int type) {
    if (!id) return;
    const std::string& text = vocabulary.tokens[*id].text;
    const Json part = {{"SpecialToken", {{"id", text}, {"type_id", type}}}};
    if (type == 0) single.push_back(part);
    pair.push_back(part);
    special[text] = {{"id", text}, {"ids", Json::array({*id})}, {"tokens", Json::array({text})}};
  };
  const auto add_text = [&](std::string_view name, int type) {
    const Json part = {{"Sequence", {{"id", name}, {"type_id", type}}}};
    if (type == 0) single.push_back(part);
    pair.push_back(part);
  };
  add_token(ends.bos, 0);
  add_text("A", 0);
  add_token(ends.eos, 0);
  add_token(ends.bos, 1);
  add_text("B", 1);
  add_token(ends.eos, 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

Json post_processor_json(const GgufVocabulary& vocabulary, const AddedEnds& ends, bool is_byte_level) {
  const bool adds = ends.bos || ends.eos;
  if (!adds) return is_byte_level ? byte_level(true) : Json(nullptr);
  if (!is_byte_level) return template_json(vocabulary, ends);
  return sequence("processors", Json::array({byte_level(true), template_json(vocabulary, ends)}));
}

Json tokenizer_json(Json added, Json normalizer, Json pre_tokenizer, Json post_processor, Json decoder, Json model) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", std::move(normalizer)},
          {"pre_tokenizer", std::move(pre_tokenizer)},
          {"post_processor", std::move(post_processor)},
          {"decoder", std::move(decoder)},
          {"model", std::move(model)}};
}

Json byte_level_tokenizer(const GgufFile& file, const GgufVocabulary& vocabulary, const PreTokenizer& pre, const AddedEnds& ends) {
  Json model = model_json(vocabulary, read_merges(file, vocabulary));
  model["ignore_merges"] = pre.ignores_merges;
  const Json normalizer = pre.composes ? Json{{"type", "NFC"}} : Json(nullptr);
  return tokenizer_json(added_tokens_json(vocabulary), normalizer, pre_tokenizer_json(pre),
                        post_processor_json(vocabulary, ends, true), byte_level(true), std::move(model));
}

// SentencePiece puts a space before every text; Gemma's vocabularies and files that say so do not.
bool adds_space_prefix(const GgufFile& file, GgufSpaces spaces) {
  return file.boolean("tokenizer.ggml.add_space_prefix").value_or(spaces == GgufSpaces::kLlama);
}

Json sentencepiece_tokenizer(const GgufFile& file, const GgufVocabulary& vocabulary, GgufSpaces spaces, const AddedEnds& ends) {
  Json model = model_json(vocabulary, derive_merges(file, vocabulary, spaces));
  model["fuse_unk"] = true;
  model["byte_fallback"] =
      std::ranges::any_of(vocabulary.tokens, [](const GgufToken& token) { return token.kind == GgufTokenKind::kByte; });
  if (vocabulary.special.unknown) model["unk_token"] = vocabulary.tokens[*vocabulary.special.unknown].text;

  Json decoders = Json::array({replace(kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  Json normalizer = replace(" ", kSpaceMark);
  if (adds_space_prefix(file, spaces)) {
    normalizer = sequence("normalizers", Json::array({{{"type", "Prepend"}, {"prepend", kSpaceMark}}, normalizer}));
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return tokenizer_json(added_tokens_json(vocabulary), std::move(normalizer), nullptr, post_processor_json(vocabulary, ends, false),
                        sequence("decoders", std::move(decoders)), std::move(model));
}

Json special_tokens_json(const GgufVocabulary& vocabulary) {
  Json map = Json::object();
  const auto add = [&](std::string_view name, std::optional<uint64_t> id) {
    if (id) map[std::string(name)] = vocabulary.tokens[*id].text;
  };
  add("bos_token", vocabulary.special.bos);
  add("eos_token", vocabulary.special.eos);
  add("unk_token", vocabulary.special.unknown);
  add("pad_token", vocabulary.special.pad);
  return map;
}

// A file may name its longest template any number of times, and each becomes a copy.
constexpr size_t kMostTemplates = 16;

// One template as text; several, each under its name, as the list that transformers reads.
Json chat_template_json(const GgufFile& file) {
  const auto main = file.text("tokenizer.chat_template");
  const auto names = file.texts("tokenizer.chat_templates");
  if (!names) return main ? Json(*main) : Json(nullptr);
  if (names->size() > kMostTemplates) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: key 'tokenizer.chat_templates'", file.where()),
                fmt::format("expected at most {} names, found {}", kMostTemplates, names->size()));
  }
  Json templates = Json::array();
  if (main) templates.push_back({{"name", "default"}, {"template", *main}});
  for (const std::string_view name : *names) {
    templates.push_back({{"name", name}, {"template", file.required_text(fmt::format("tokenizer.chat_template.{}", name))}});
  }
  return templates;
}

Json tokenizer_config_json(const GgufFile& file, const GgufTokenizer& tokenizer, const AddedEnds& ends, uint64_t context) {
  // The class that takes tokenizer.json as it is; a family's own class would put its habits over what the file says.
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_bos_token", ends.bos.has_value()},
                 {"add_eos_token", ends.eos.has_value()},
                 {"clean_up_tokenization_spaces", false},
                 {"model_max_length", context}};
  config.update(tokenizer.special_tokens_map);
  if (Json chat_template = chat_template_json(file); !chat_template.is_null()) config["chat_template"] = std::move(chat_template);
  return config;
}

}  // namespace

GgufTokenizer read_tokenizer(const GgufFile& file, const GgufFamily& family, const GgufDimensions& dimensions) {
  const std::string_view model = file.required_text("tokenizer.ggml.model");
  const bool is_sentencepiece = model == "llama";
  if (!is_sentencepiece && model != "gpt2") {
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: key 'tokenizer.ggml.model'", file.where()),
                fmt::format("the tokenizer '{}' is not read", printable(model)), "use the model's original folder");
  }
  const GgufVocabulary vocabulary = read_vocabulary(file, family, dimensions, is_sentencepiece);
  GgufTokenizer result;
  result.ids = vocabulary.special;
  result.special_tokens_map = special_tokens_json(vocabulary);
  AddedEnds ends;
  if (is_sentencepiece) {
    ends = added_ends(file, result.ids, true);
    result.tokenizer = sentencepiece_tokenizer(file, vocabulary, family.spaces, ends);
  } else {
    const PreTokenizer& pre = pre_tokenizer_of(file);
    if (pre.name == "default") {
      result.warnings.push_back(
          "The file does not say how its tokenizer cuts text into words, so the pattern of GPT-2 is used; "
          "if the model was trained with another one, its output suffers.");
    }
    ends = added_ends(file, result.ids, pre.adds_bos);
    result.tokenizer = byte_level_tokenizer(file, vocabulary, pre, ends);
  }
  result.tokenizer_config = tokenizer_config_json(file, result, ends, dimensions.context);
  return result;
}

}  // namespace tritllm
