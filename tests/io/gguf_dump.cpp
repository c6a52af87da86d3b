// Owns a tool for tests: it writes what tritllm makes of a GGUF file (config, side files, every tensor as float32) to a folder,
// so that a test in Python compares it with other software. Does not judge anything itself.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "io/gguf_model.h"

namespace tritllm {
namespace {

// Reads `piece` elements at a time (all at once where it is 0), so that pieces start and end inside blocks and rows.
std::vector<float> read_in_pieces(const SourceTensor& tensor, uint64_t piece) {
  std::vector<float> values(tensor.elements());
  if (piece == 0) piece = values.size();
  for (uint64_t first = 0; first < values.size(); first += piece) {
    const uint64_t count = std::min<uint64_t>(piece, values.size() - first);
    read_float32(tensor, first, std::span(values).subspan(first, count));
  }
  return values;
}

void dump(const std::filesystem::path& model, const std::filesystem::path& folder, uint64_t piece) {
  const ModelSource source = open_gguf_model(model);
  create_folders(folder);
  Json tensors = Json::array();
  std::ofstream data(folder / "tensors.f32", std::ios::binary);
  for (const SourceTensor& tensor : source.tensors) {
    const std::vector<float> values = read_in_pieces(tensor, piece);
    data.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
    tensors.push_back(
        {{"name", tensor.name}, {"shape", tensor.shape}, {"type", layout_of(tensor.type).name}, {"place", tensor.place}});
  }
  if (!data.flush()) throw io_error((folder / "tensors.f32").string(), "write", errno);
  Json warnings = source.warnings;
  for (const std::string& warning : source.quantising_warnings) warnings.push_back(warning);
  const Json about = {{"tensors", std::move(tensors)},
                      {"kind", source.kind},
                      {"base_model", source.identity.hub_id ? Json(*source.identity.hub_id) : Json(nullptr)},
                      {"license", source.identity.license ? Json(*source.identity.license) : Json(nullptr)},
                      {"warnings", std::move(warnings)}};
  write_file_atomically(folder / "source.json", json_text(about));
  write_file_atomically(folder / "config.json", json_text(source.config));
  for (const SideFile& file : source.side_files) write_file_atomically(folder / file.name, file.contents);
}

}  // namespace
}  // namespace tritllm

int main(int count, char** arguments) {
  if (count != 4) {
    fmt::print(stderr, "usage: gguf_dump FILE.gguf FOLDER PIECE\n");
    return 2;
  }
  try {
    tritllm::dump(arguments[1], arguments[2], std::strtoull(arguments[3], nullptr, 10));
  } catch (const tritllm::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return 0;
}
