// Model cards: what licences ask for, names that nobody vouches for, and the figures.
#include "tasks/model_card.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/hf_folder.h"

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
  manifest.tensors = {ternary("best.weight", 2, 0.01), ternary("worst.weight", 2, 0.04), ternary("middle.weight", 2, 0.02), head};
  return manifest;
}

CardFacts facts_of(const std::string& base_model, const std::string& license) { return {"folder", base_model, license, ""}; }

std::string card_of(const CardFacts& facts, CardKind kind = CardKind::kPacked) {
  return model_card(kind, sample_manifest(), facts, 1'234'567);
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
    EXPECT_TRUE(has(card, "https://www.llama.com/llama3_1/license/"));
    EXPECT_TRUE(has(card, "https://www.llama.com/llama3_1/use-policy"));
    EXPECT_TRUE(has(card, "pass a copy of it on"));
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
  EXPECT_TRUE(has(card, "Prohibited Use Policy"));
  EXPECT_EQ(title_of(card), "gemma-3-1b-it-trit-optimal-d2");
}

TEST(ModelCard, UnknownLicencesAskTheReaderToLook) {
  const std::string card = model_card(CardKind::kPacked, sample_manifest(), {"my-folder", std::nullopt, std::nullopt, ""}, 1);
  EXPECT_TRUE(has(card, "look it up"));
  EXPECT_FALSE(has(card, "\nlicense:"));
  EXPECT_FALSE(has(card, "base_model"));
  EXPECT_EQ(title_of(card), "my-folder-trit-optimal-d2");
}

TEST(ModelCard, HostileNamesStayPlainText) {
  const std::string hostile = "org/x; rm y\n---\n# Owned\n<script>alert(1)</script>[a](javascript:b)`c`|d\x1b[2J\"'\\";
  for (const CardKind kind : {CardKind::kPacked, CardKind::kPlain}) {
    Manifest manifest = sample_manifest();
    manifest.tensors[1].name = "a`|\n# Tensor<img>";
    const std::string card = model_card(kind, manifest, {hostile, hostile, "mit\nlicense_link: http://evil", ""}, 1);
    for (const char* const forbidden : {"\n# Owned", "<script", "](javascript", "\x1b", "\nlicense_link", "\n# Tensor", "<img"})
      EXPECT_FALSE(has(card, forbidden)) << forbidden;
    EXPECT_EQ(card.find("\n---\n"), card.find("\n---\n", 4)) << "the front matter ends once";
    EXPECT_TRUE(has(card, "\nbase_model: \"org/x; rm y---# Ownedscriptalert(1)/scripta(javascript:b)cd2J\"\n")) << card;
    EXPECT_TRUE(has(card, "\nlicense: \"mitlicense_link: http://evil\"\n")) << card;
    EXPECT_TRUE(has(card, "--model 'org/x; rm y"));
  }
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
  EXPECT_TRUE(has(card, "3.47 bits per weight"));
  EXPECT_TRUE(has(card, "3.50 bits per weight"));
  EXPECT_TRUE(has(card, "1.2 MB"));
  EXPECT_TRUE(has(card, "6144 weights"));
  EXPECT_TRUE(has(card, "640 weights: `lm_head`"));
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
  const std::string card = model_card(CardKind::kPacked, manifest, {"f", std::nullopt, std::nullopt, " --depth 'best=4'"}, 1);
  EXPECT_TRUE(has(card, "d=2 (9 levels): 2 matrices; d=4 (81 levels): 1 matrices"));
  EXPECT_TRUE(has(card, "already quantised"));
  EXPECT_TRUE(has(card, "--configs optimal-d2 --depth 'best=4' --out"));
}

TEST(ModelCard, AMatrixWithoutErrorIsExact) {
  Manifest manifest = sample_manifest();
  manifest.tensors = {ternary("m", 1, 0)};
  manifest.tensors[0].error.sqnr_db.reset();
  EXPECT_TRUE(has(model_card(CardKind::kPacked, manifest, facts_of("a/b", "mit"), 1), "| exact | 0 |"));
  manifest.tensors.clear();
  EXPECT_FALSE(has(model_card(CardKind::kPacked, manifest, facts_of("a/b", "mit"), 0), "median"));
}

TEST(CardFactsOf, TheFolderNameHoldsHoweverItWasWritten) {
  ModelSource source;
  source.path = std::filesystem::temp_directory_path() / ".";
  EXPECT_EQ(card_facts(source, "").source_name, std::filesystem::canonical(std::filesystem::temp_directory_path()).filename());
}

}  // namespace
}  // namespace tritllm
