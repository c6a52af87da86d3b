// Writes the inputs from which fuzzing of tokenizers starts: small ones of each kind, with a text that uses all that they have.
#include <cstdio>
#include <filesystem>

#include "core/file.h"
#include "text/tokenizer_json.h"

namespace tritllm {
namespace {

constexpr std::string_view kText = "the in  abc <e> the\n\n12 e\u0301 \u6587\U0001f642 it's <t>X";

Json with_added_tokens(Json document) {
  document["added_tokens"] = {added_token(36, "<e>", {{"lstrip", true}, {"rstrip", true}}),
                              added_token(37, "<t>", {{"special", false}, {"single_word", true}}),
                              added_token(38, "  ", {{"special", false}, {"normalized", true}})};
  return document;
}

Json byte_level_document() {
  Json document = with_added_tokens(tokenizer_document());
  document["normalizer"] = part("NFC");
  const Json bytes = part("ByteLevel", {{"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}});
  const Json words = split(R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+)");
  document["pre_tokenizer"] = sequence("pretokenizers", {part("Digits", {{"individual_digits", true}}), words, bytes});
  document["decoder"] = bytes;
  document["model"]["ignore_merges"] = true;
  return document;
}

Json sentencepiece_document() {
  Json document = with_added_tokens(tokenizer_document());
  document["model"]["byte_fallback"] = true;
  document["model"]["fuse_unk"] = true;
  document["normalizer"] = sequence("normalizers", {part("Prepend", {{"prepend", "\u2581"}}), replace(" ", "\u2581"),
                                                    part("Strip", {{"strip_left", true}, {"strip_right", true}})});
  document["decoder"] = sequence("decoders", {replace("\u2581", " "), part("ByteFallback"), part("Fuse"),
                                              part("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}})});
  return document;
}

Json metaspace_document() {
  Json document = with_added_tokens(tokenizer_document());
  const Json metaspace = part("Metaspace", {{"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", true}});
  document["normalizer"] = part("NFKD");
  document["pre_tokenizer"] = sequence("pretokenizers", {split("\\d+", "MergedWithPrevious", true), metaspace});
  document["decoder"] = metaspace;
  document["post_processor"] =
      part("TemplateProcessing",
           {{"single", {{{"SpecialToken", {{"id", "B"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"pair", Json::array()},
            {"special_tokens", {{"B", {{"id", "B"}, {"ids", {36}}, {"tokens", {"x"}}}}}}});
  return document;
}

}  // namespace
}  // namespace tritllm

int main(int count, char** arguments) {
  using namespace tritllm;
  if (count != 2) {
    std::fputs("usage: tokenizer_seeds FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  create_folders(folder);
  const auto write = [&](const char* name, const Json& document) {
    write_file_atomically(folder / name, document.dump() + '\0' + std::string(kText));
  };
  write("byte_level", byte_level_document());
  write("sentencepiece", sentencepiece_document());
  write("metaspace", metaspace_document());
  return 0;
}
