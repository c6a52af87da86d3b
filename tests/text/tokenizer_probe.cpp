// Shows the tokenizer to test_tokenizer_oracle.py: a request a line on standard input, an answer a line on standard output, both
// JSON.
//
//   {"extract": MODEL, "to": PATH}                      → {}: the tokenizer.json of a GGUF file or a folder, written to PATH
//   {"load": PATH}                                      → {"size": …, "prefix": […]} or {"error": …}
//   {"encode": TEXT, "add_special"?, "parse_special"?, "literal"?: [[begin, end], …]}   → {"ids": […]} or {"error": …}
//   {"decode": [id, …], "skip_special"?}                → {"text": …, "stream": [pieces], "bytes": hex of each token's bytes}
//   {"repeat": TEXT, "bytes": n}                        → {"tokens": …, "seconds": …} of encoding TEXT over and over, n bytes long
#include <fmt/format.h>

#include <chrono>
#include <iostream>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "io/model_source.h"
#include "text/tokenizer.h"

namespace tritllm {
namespace {

Json load(const std::string& path, std::optional<Tokenizer>& tokenizer) {
  tokenizer = Tokenizer::parse(read_text_file(path), path);
  return {{"size", tokenizer->vocabulary_size()}, {"prefix", tokenizer->prefix_tokens()}};
}

Json extract(const Json& request) {
  const ModelSource source = open_model(request.at("extract").get<std::string>());
  for (const SideFile& file : source.side_files) {
    if (file.name == "tokenizer.json") write_file_atomically(request.at("to").get<std::string>(), file.contents);
  }
  return Json::object();
}

Json encode(const Json& request, const Tokenizer& tokenizer) {
  std::vector<TextSpan> literal;
  for (const Json& span : request.value("literal", Json::array()))
    literal.push_back({span[0].get<size_t>(), span[1].get<size_t>()});
  const EncodeOptions options{
      .add_special = request.value("add_special", true), .parse_special = request.value("parse_special", true), .literal = literal};
  return {{"ids", tokenizer.encode(request.at("encode").get_ref<const std::string&>(), options)}};
}

Json decode(const Json& request, const Tokenizer& tokenizer) {
  const auto ids = request.at("decode").get<std::vector<TokenId>>();
  const bool skip_special = request.value("skip_special", false);
  Json stream = Json::array();
  std::string bytes;
  StreamDecoder decoder(tokenizer, skip_special);
  for (const TokenId id : ids) {
    stream.push_back(decoder.push(id));
    for (const char byte : tokenizer.token_bytes(id)) bytes += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  stream.push_back(decoder.finish());
  return {{"text", tokenizer.decode(ids, skip_special)}, {"stream", std::move(stream)}, {"bytes", bytes}};
}

Json repeat(const Json& request, const Tokenizer& tokenizer) {
  const std::string unit = request.at("repeat");
  std::string text;
  while (text.size() + unit.size() <= request.at("bytes").get<size_t>()) text += unit;
  const auto start = std::chrono::steady_clock::now();
  const size_t tokens = tokenizer.encode(text).size();
  return {{"tokens", tokens}, {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()}};
}

Json answer(const Json& request, std::optional<Tokenizer>& tokenizer) {
  try {
    if (request.contains("extract")) return extract(request);
    if (request.contains("load")) return load(request.at("load"), tokenizer);
    if (request.contains("encode")) return encode(request, tokenizer.value());
    if (request.contains("repeat")) return repeat(request, tokenizer.value());
    return decode(request, tokenizer.value());
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace
}  // namespace tritllm

int main() {
  std::ios::sync_with_stdio(false);
  std::optional<tritllm::Tokenizer> tokenizer;
  for (std::string line; std::getline(std::cin, line);) {
    const tritllm::Json request = tritllm::Json::parse(line);
    std::cout << tritllm::answer(request, tokenizer).dump() << std::endl;
  }
}
