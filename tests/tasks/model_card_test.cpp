// Model cards: what licences ask for, names that nobody vouches for, and the figures.
#include "tasks/model_card.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/json.h"
#include "io/source_identity.h"
#include "tasks/licences.h"

namespace tritllm {
namespace {

TensorRecord ternary(const std::string& name, int depth, double relative_mse) {
  TensorRecord record;
  record.name = name;
  record.shape = {32, 64};
  record.fate = Fate::kTernary;
  record.depth = depth;
  record.error = {.weight_energy = 1,
                  .relative_mse = relative_mse,
                  .sqnr_db = 17.25,
                  .cosine = 0.9999999,
                  .max_abs_error = 0.01,
                  .clipped = 0,
                  .level_histogram = {}};
  return record;
}

Manifest sample_manifest() {
  Manifest manifest;
  manifest.tool_version = "9.8.7";
  manifest.recipe = "optimal-d2";
  manifest.source_digest = std::string(32, 'c');
  manifest.source_types = {"BF16"};
  manifest.nominal_bits_per_weight = 3.4672;
  manifest.stored_bits_per_weight = 3.5012;
  TensorRecord head;
  head.name = "lm_head.weight";
  head.shape = {10, 64};
  head.type = "F16";
  manifest.source_kind = "hf_folder";
  manifest.tensors = {ternary("best.weight", 2, 0.01), ternary("worst.weight", 2, 0.04), ternary("middle.weight", 2, 0.02), head};
  return manifest;
}

// As card_facts() makes them of a model with this hub id and licence.
CardFacts facts_of(const std::string& base_model, const std::string& license) {
  ModelSource source;
  source.identity = {
      .path_name = "folder", .name = base_model.substr(base_model.rfind('/') + 1), .hub_id = base_model, .license = license};
  return card_facts(source, "");
}

const Json kConfig{{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}, {"max_position_embeddings", 4096}};

std::string card_text(CardKind kind, Manifest manifest, const CardFacts& facts, uint64_t bytes) {
  manifest.card = facts;
  return model_card(manifest,
                    {.kind = kind, .config = kConfig, .weight_bytes = bytes, .has_chat_template = true, .engine_runs_it = true});
}

std::string card_of(const CardFacts& facts, CardKind kind = CardKind::kPacked) {
  return card_text(kind, sample_manifest(), facts, 1'234'567);
}

std::string title_of(const std::string& card) {
  const size_t begin = card.find("\n# ") + 3;
  return card.substr(begin, card.find('\n', begin) - begin);
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

TEST(ModelCard, Llama31AsksForNoticeNameAndPolicy) {
  for (const CardKind kind : {CardKind::kPacked, CardKind::kPlain}) {
    const std::string card = card_of(facts_of("meta-llama/Llama-3.1-8B-Instruct", "llama3.1"), kind);
    EXPECT_TRUE(has(card, "Built with Llama")) << card;
    EXPECT_TRUE(has(card, "\nlicense: llama3.1\n"));
    EXPECT_TRUE(has(card, "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct/blob/main/LICENSE"));
    EXPECT_TRUE(has(card, "https://www.llama.com/llama3_1/use-policy"));
    EXPECT_TRUE(has(card, "a copy of the licence"));
    EXPECT_EQ(title_of(card), "Llama-3.1-8B-Instruct-trit-optimal-d2");
  }
}

TEST(ModelCard, NamesOfLlamasBeginWithLlama) {
  EXPECT_EQ(title_of(card_of(facts_of("somebody/Fine-Tune-8B", "llama3.1"))), "Llama-Fine-Tune-8B-trit-optimal-d2");
  EXPECT_EQ(title_of(card_of(facts_of("Llama-3.2-1B", "llama3.2"))), "Llama-3.2-1B-trit-optimal-d2");
  EXPECT_TRUE(title_of(card_of(facts_of("meta-llama/Meta-Llama-3-8B", "llama3"))).starts_with("Llama"))
      << "the licence asks so of Llama 3 too";
  EXPECT_EQ(title_of(card_of(facts_of("org/Other-7B", "apache-2.0"))), "Other-7B-trit-optimal-d2");
}

TEST(ModelCard, EachLlamaLicenceHasItsOwnLink) {
  const std::pair<const char*, const char*> links[] = {{"llama3", "llama3/license"},
                                                       {"llama3.1", "llama3_1/license"},
                                                       {"llama3.2", "llama3_2/license"},
                                                       {"llama3.3", "llama3_3/license"}};
  for (const auto& [license, link] : links) EXPECT_TRUE(has(card_of(facts_of("a/Llama-b", license)), link)) << license;
  EXPECT_TRUE(has(card_of(facts_of("a/Llama-b", "llama3")), "Built with Meta Llama 3"));
}

TEST(ModelCard, GemmaCarriesItsNotice) {
  const std::string card = card_of(facts_of("google/gemma-3-1b-it", "gemma"));
  EXPECT_TRUE(has(card, "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"));
  EXPECT_TRUE(has(card, "https://ai.google.dev/gemma/prohibited_use_policy"));
  EXPECT_EQ(title_of(card), "gemma-3-1b-it-trit-optimal-d2");
}

TEST(ModelCard, UnknownLicencesAskTheReaderToLook) {
  const std::string card = card_text(CardKind::kPacked, sample_manifest(), {.source_name = "my-folder"}, 1);
  EXPECT_TRUE(has(card, "Look it up"));
  EXPECT_FALSE(has(card, "\nlicense:"));
  EXPECT_FALSE(has(card, "base_model"));
  EXPECT_EQ(title_of(card), "my-folder-trit-optimal-d2");
}

TEST(ModelCard, HostileNamesStayPlainText) {
  const std::string hostile = "org/x; rm y\n---\n# Owned\n<script>alert(1)</script>[a](javascript:b)`c`|d\x1b[2J\"'\\";
  for (const CardKind kind : {CardKind::kPacked, CardKind::kPlain}) {
    const CardFacts facts = facts_of(hostile, "mit\nlicense_link: http://evil");
    Manifest manifest = sample_manifest();
    manifest.tensors[1].name = "a`|\n# Tensor<img>";
    const std::string card = card_text(kind, manifest, facts, 1);
    for (const char* const forbidden : {"\n# Owned", "<script", "](javascript", "\x1b", "\nlicense_link", "\n# Tensor", "<img"})
      EXPECT_FALSE(has(card, forbidden)) << forbidden;
    EXPECT_EQ(card.find("\n---\n"), card.find("\n---\n", 4)) << "the front matter ends once";
    EXPECT_TRUE(has(card, "\nbase_model: \"org/x; rm y---# Ownedscriptalert(1)/scripta(javascript:b)cd2J\"\n")) << card;
    EXPECT_TRUE(has(card, "\nlicense: \"mitlicense_link: http://evil\"\n")) << card;
    EXPECT_TRUE(has(card, "--base-model 'org/x; rm y"));
  }
}

// A manifest may be a stranger's: what it says of itself is text, wherever the card puts it.
TEST(ModelCard, FactsOfAStrangersManifestStayPlainText) {
  const std::string hostile = "x\ninjected: true\n```\n# title\n$(rm -r ~); `id`";
  CardFacts facts;
  facts.source_name = hostile;
  facts.options = " --depth 'a=1'\ninjected: true";
  for (auto* const fact :
       {&facts.name, &facts.base_model, &facts.revision, &facts.license, &facts.license_name, &facts.license_link})
    *fact = hostile;
  for (const CardKind kind : {CardKind::kPacked, CardKind::kPlain}) {
    const std::string card = card_of(facts, kind);
    EXPECT_FALSE(has(card, "\ninjected")) << card;
    EXPECT_FALSE(has(card, "`id`")) << card;
    EXPECT_FALSE(has(card, "../x injected")) << "a command's argument must be quoted:\n" << card;
  }
}

TEST(ModelCard, TensorsBeyondFp16AreNotCalledFp16) {
  Manifest manifest = sample_manifest();
  manifest.tensors.back().type = "BF16";
  const std::string card = card_text(CardKind::kPacked, manifest, facts_of("a/b", "mit"), 1000);
  EXPECT_TRUE(has(card, "Kept as BF16 or F32")) << card;
  EXPECT_FALSE(has(card, "tritllm dequantize")) << "FP16 cannot hold it:\n" << card;
}

TEST(ModelCard, FrontMatterOfBothOutputs) {
  const CardFacts facts = facts_of("org/Name", "apache-2.0");
  const std::string packed = card_of(facts), plain = card_of(facts, CardKind::kPlain);
  EXPECT_EQ(front_matter_value(packed, "library_name"), "tritllm");
  EXPECT_EQ(front_matter_value(plain, "library_name"), "transformers");
  for (const std::string& card : {packed, plain}) {
    EXPECT_EQ(front_matter_value(card, "license"), "apache-2.0");
    EXPECT_EQ(front_matter_value(card, "base_model"), "org/Name");
    EXPECT_EQ(front_matter_value(card, "base_model_relation"), "quantized");
  }
  EXPECT_TRUE(has(plain, "from_pretrained"));
  EXPECT_FALSE(has(packed, "from_pretrained")) << "stock transformers does not load the packed folder";
  EXPECT_TRUE(has(packed, "tritllm dequantize"));
}

TEST(ModelCard, FiguresComeFromTheManifest) {
  const std::string card = card_of(facts_of("org/Name", "mit"));
  EXPECT_TRUE(has(card, "| Bits per weight | 3.47 |"));
  EXPECT_TRUE(has(card, "| Bits per weight, stored in packed form | 3.50 |"));
  EXPECT_TRUE(has(card, "1.2 MB"));
  EXPECT_TRUE(has(card, "| Weights | 6144 ternary, 640 kept |"));
  EXPECT_TRUE(has(card, "| Kept FP16 | `lm_head` |"));
  EXPECT_TRUE(has(card, "d=2 (9 levels)"));
  EXPECT_TRUE(has(card, "tritllm 9.8.7"));
  EXPECT_TRUE(has(card, std::string(32, 'c')));
  EXPECT_TRUE(has(card, "| median of 3 | 17.25 | 0.02 | 0.999999 | 0.01 |"));
  EXPECT_LT(card.find("worst: `worst.weight`"), card.find("worst: `middle.weight`"));
  EXPECT_LT(card.find("worst: `middle.weight`"), card.find("worst: `best.weight`"));
  EXPECT_FALSE(has(card, "already quantised"));
  EXPECT_TRUE(has(card, "--configs optimal-d2 --out"));
}

TEST(ModelCard, MixedDepthsAndQuantisedSourcesAreTold) {
  Manifest manifest = sample_manifest();
  manifest.tensors[0].depth = 4;
  manifest.source_types = {"F32", "Q4_K"};
  const std::string card = card_text(CardKind::kPacked, manifest, {.source_name = "f", .options = " --depth 'best=4'"}, 1);
  EXPECT_TRUE(has(card, "d=2 (9 levels): 2 matrices; d=4 (81 levels): 1 matrices"));
  EXPECT_TRUE(has(card, "already quantised"));
  EXPECT_TRUE(has(card, "--configs optimal-d2 --depth 'best=4' --out"));
}

TEST(ModelCard, AMatrixWithoutErrorIsExact) {
  Manifest manifest = sample_manifest();
  manifest.tensors = {ternary("m", 1, 0)};
  manifest.tensors[0].error.sqnr_db.reset();
  EXPECT_TRUE(has(card_text(CardKind::kPacked, manifest, facts_of("a/b", "mit"), 1), "| exact | 0 |"));
  manifest.tensors.clear();
  EXPECT_FALSE(has(card_text(CardKind::kPacked, manifest, facts_of("a/b", "mit"), 0), "median"));
}

// The fields of the two published descriptions (a card and a hosted page), for a source of each kind.
struct Published {
  const char* base_model;
  const char* license;
  std::optional<std::string> license_name, license_link;
  const char* file_text;  // of LICENSE, or nullptr
  std::vector<std::string> has;
};

TEST(ModelCard, HasEveryFieldOfThePublishedOnes) {
  const std::string qwen = "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE";
  const Published published[] = {
      {"meta-llama/Llama-3.1-8B",
       "llama3.1",
       {},
       {},
       "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT",
       {"\nlicense: llama3.1\nlicense_name: llama3.1\nlicense_link: "
        "\"https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/LICENSE\"\nbase_model: meta-llama/Llama-3.1-8B\n",
        "\n- llama-3.1\n", "\nextra_gated_description: \"", "\n# Llama-3.1-8B-trit-optimal-d2\n", "**Built with Llama.**",
        "https://www.llama.com/llama3_1/use-policy", "research artifact", "Commercial use is allowed within the terms"}},
      {"Qwen/Qwen2.5-3B",
       "other",
       "qwen-research",
       "LICENSE",
       nullptr,
       {"\nlicense: other\nlicense_name: qwen-research\nlicense_link: \"" + qwen + "\"\n", "\n# Qwen2.5-3B-trit-optimal-d2\n",
        "\nextra_gated_description: \"", "does not allow commercial use", "research artifact", "**Built with Qwen.**"}},
      {"org/Name",
       "apache-2.0",
       {},
       {},
       nullptr,
       {"\nlicense: apache-2.0\n", "https://www.apache.org/licenses/LICENSE-2.0", "research artifact", "allows commercial use"}},
      {"google/gemma-3-1b-it",
       "gemma",
       {},
       {},
       nullptr,
       {"\nlicense: gemma\nlicense_name: gemma\nlicense_link: \"https://ai.google.dev/gemma/terms\"\n",
        "\nextra_gated_description: \"", "research artifact", "ai.google.dev/gemma/prohibited_use_policy"}},
  };
  for (const Published& one : published) {
    SCOPED_TRACE(one.base_model);
    ModelSource source;
    source.identity = {.path_name = "folder",
                       .hub_id = one.base_model,
                       .license = one.license,
                       .license_name = one.license_name,
                       .license_link = one.license_link};
    source.identity.name = std::string(one.base_model).substr(std::string(one.base_model).find('/') + 1);
    if (one.file_text != nullptr) source.side_files = {{"LICENSE", one.file_text}};
    const std::string card = card_of(card_facts(source, ""), CardKind::kPlain);
    for (const std::string& part : one.has) EXPECT_TRUE(has(card, part)) << part << "\n" << card;
    for (const char* const tag : {"quantization", "ternary", "balanced-ternary", "tritllm", "llama"})
      EXPECT_TRUE(has(card, std::string("\n- ") + tag + "\n")) << tag;
    for (const char* const field : {"Source model", "Depth", "Bits per weight", "Group size", "Scale codebook", "Method",
                                    "Quantized layers", "Kept FP16", "Codec", "Architecture", "Parameters", "Context length"})
      EXPECT_TRUE(has(card, std::string("\n| ") + field + " | ")) << field;
    EXPECT_TRUE(has(card, "\n| Codec | tritllm v2 |\n"));
    EXPECT_TRUE(has(card, "\n| Quantized layers | all 2D linear matrices |\n"));
    EXPECT_TRUE(has(card, std::string("[`") + one.base_model + "`](https://huggingface.co/" + one.base_model + ")"));
    for (const char* const section : {"Quick load", "Quantization details", "License and use", "Citation", "Reproducibility"})
      EXPECT_TRUE(has(card, std::string("\n## ") + section + "\n")) << section;
  }
}

TEST(ModelCard, SaysTrulyWhatWasKept) {
  Manifest manifest = sample_manifest();
  const auto add = [&](const char* name, std::vector<uint64_t> shape, const char* type) {
    TensorRecord record;
    record.name = name;
    record.shape = std::move(shape);
    record.type = type;
    manifest.tensors.push_back(std::move(record));
  };
  const auto kept_row = [&] {
    const std::string card = card_text(CardKind::kPlain, manifest, facts_of("a/b", "mit"), 1);
    const size_t at = card.find("| Kept FP16 | ") + 14;
    return card.substr(at, card.find(" |\n", at) - at);
  };
  manifest.tensors.resize(3);
  EXPECT_EQ(kept_row(), "");
  add("model.embed_tokens.weight", {10, 64}, "F16");
  EXPECT_EQ(kept_row(), "token embeddings");
  add("lm_head.weight", {10, 64}, "F16");
  add("model.norm.weight", {64}, "F16");
  EXPECT_EQ(kept_row(), "`lm_head`, token embeddings, all `*_norm` layers");
  add("model.layers.0.mlp.gate.weight", {4, 64}, "F16");
  add("model.layers.0.self_attn.q_proj.bias", {64}, "F16");
  add("model.ids", {5}, "I64");
  EXPECT_EQ(kept_row(), "`lm_head`, token embeddings, all `*_norm` layers, biases, routers");
  EXPECT_TRUE(has(card_text(CardKind::kPlain, manifest, facts_of("a/b", "mit"), 1), "| Kept as they are | 1 tensors"));
  add("model.layers.1.mlp.up_proj.weight", {64, 64}, "F16");
  EXPECT_TRUE(has(kept_row(), "matrices that a depth rule keeps"));
  EXPECT_TRUE(has(card_text(CardKind::kPlain, manifest, facts_of("a/b", "mit"), 1), "| 3 of 4 2D linear matrices |"));
  manifest.tensors[3] = ternary("model.embed_tokens.weight", 4, 0.01);
  EXPECT_FALSE(has(kept_row(), "embeddings"));
  EXPECT_TRUE(has(card_text(CardKind::kPlain, manifest, facts_of("a/b", "mit"), 1), "2D linear matrices and token embeddings |"));
}

TEST(CardFacts, WishesComeFirst) {
  ModelSource source;
  source.identity = {.path_name = "folder",
                     .name = "Own",
                     .hub_id = "org/Own",
                     .license = "other",
                     .license_name = "own",
                     .license_link = "LICENSE"};
  const CardFacts own = card_facts(source, "");
  EXPECT_EQ(own.name, "Own");
  EXPECT_EQ(own.license_link, "https://huggingface.co/org/Own/blob/main/LICENSE");
  const CardFacts wished = card_facts(source, "", {.name = "Me/New", .base_model = "a/B", .license = "mit"});
  EXPECT_EQ(wished.name, "Me/New");
  EXPECT_EQ(wished.base_model, "a/B");
  EXPECT_EQ(wished.license, "mit");
  EXPECT_EQ(wished.license_name, "mit") << "what the source says of another licence is not of this one";
  EXPECT_TRUE(has(card_of(wished, CardKind::kPlain), "from_pretrained(\"Me/New-trit-optimal-d2\")"));
  EXPECT_TRUE(has(card_of(own, CardKind::kPlain), "from_pretrained(\".\")"));
}

TEST(CardFacts, ALicenceIsKnownByItsText) {
  const std::pair<const char*, const char*> texts[] = {
      {"                                 Apache License\n                           Version 2.0, January 2004", "apache-2.0"},
      {"MIT License\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy of", "mit"},
      {"META LLAMA 3 COMMUNITY LICENSE AGREEMENT\n", "llama3"},
      {"# **Llama 3.2** **Community License Agreement**", "llama3.2"},
      {"Gemma Terms of Use\nLast modified", "gemma"},
      {"Qwen RESEARCH LICENSE AGREEMENT\n", "other"},
      {"Do as you like.", nullptr},
  };
  for (const auto& [text, id] : texts) {
    ModelSource source;
    source.side_files = {{"LICENSE.txt", text}};
    EXPECT_EQ(card_facts(source, "").license, id == nullptr ? std::optional<std::string>() : id) << text;
    source.identity.license = "bsd";
    EXPECT_EQ(card_facts(source, "").license, "bsd") << "what the card says counts before the text";
  }
}

TEST(Notice, IsThereWhereTheLicenceAsksForIt) {
  const Licence* const llama = find_licence("llama3.1", std::nullopt);
  const std::string line = std::string(llama->notice) + "\n";
  const auto contents = [](const std::vector<SideFile>& files, const char* name) {
    const auto found = std::ranges::find(files, name, &SideFile::name);
    return found == files.end() ? "none" : found->contents;
  };
  EXPECT_EQ(contents(with_notice({}, llama), "Notice"), line);
  EXPECT_EQ(contents(with_notice({{"NOTICE.txt", "Mine."}}, llama), "NOTICE.txt"), "Mine.\n" + line);
  const auto once = with_notice({{"NOTICE", "Mine.\n"}}, llama);
  EXPECT_EQ(contents(with_notice(once, llama), "NOTICE"), "Mine.\n" + line) << "a second time changes nothing";
  const SideFile newer{
      "LICENSE", "… \"Llama 3.1 is licensed under the Llama 3.1\nCommunity License, Copyright © Another. All Rights Reserved.\" …"};
  EXPECT_EQ(contents(with_notice({newer}, llama), "Notice"),
            "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Another. All Rights Reserved.\n");
  EXPECT_TRUE(with_notice({}, find_licence("apache-2.0", std::nullopt)).empty());
  EXPECT_TRUE(with_notice({}, nullptr).empty());
}

}  // namespace
}  // namespace tritllm
