// Shows the safetensors reader and the folder writer to test_safetensors.py.
//
//   safetensors_probe read LIST OUT     for each path in the lines of LIST a line of JSON: the tensors and metadata, or the error
//   safetensors_probe write SPEC FOLDER   writes {naming, largest_shard, units: [[{name, dtype, shape, hex}]]} as a folder
#include <fstream>
#include <iostream>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "io/folder_writer.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace tritllm {
namespace {

Json describe(const std::string& path) {
  try {
    const MappedFile file = MappedFile::open(path);
    const SafetensorsHeader header = parse_safetensors(file.bytes(), path);
    Json tensors = Json::array();
    for (const StoredTensor& tensor : header.tensors) {
      tensors.push_back({{"name", tensor.name},
                         {"dtype", layout_of(tensor.type).name},
                         {"shape", tensor.shape},
                         {"offset", tensor.offset},
                         {"bytes", tensor.bytes}});
    }
    return {{"tensors", std::move(tensors)}, {"metadata", header.metadata}};
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

void read_all(const std::string& list, const std::string& out) {
  std::istringstream paths(read_text_file(list));
  std::ofstream answers(out);
  for (std::string path; std::getline(paths, path);) answers << describe(path).dump() << "\n";
}

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

void write_folder(const std::string& spec_path, const std::string& folder) {
  const Json spec = parse_json(read_text_file(spec_path), spec_path);
  std::vector<std::vector<PlannedTensor>> units;
  for (const Json& unit : spec.at("units")) {
    units.emplace_back();
    for (const Json& tensor : unit)
      units.back().push_back(
          {tensor.at("name"), element_type_from_safetensors(tensor.at("dtype").get<std::string>()).value(), tensor.at("shape")});
  }
  const ShardNaming& naming = spec.at("naming") == "packed" ? packed_naming() : plain_naming();
  FolderWriter writer(folder, plan_shards(units, naming, spec.at("largest_shard").get<uint64_t>()));
  for (const Json& unit : spec.at("units")) {
    for (const Json& tensor : unit) {
      const std::string bytes = bytes_of_hex(tensor.at("hex"));
      writer.write(tensor.at("name"), 0, std::as_bytes(std::span(bytes)));
    }
  }
  writer.finish_weights();
  writer.publish_plain("");
}

}  // namespace
}  // namespace tritllm

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    if (std::string(argv[1]) == "read") tritllm::read_all(argv[2], argv[3]);
    else tritllm::write_folder(argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
