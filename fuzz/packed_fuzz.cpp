// Owns the fuzz target of packed checkpoints. An input is "manifest 0xff weights": sizes and checksums of the manifest are made to
// fit the input, so that mutations get past them to the structure. What open() accepts is examined and decoded.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "codec/decoder.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/json.h"
#include "io/packed_checkpoint.h"
#include "scratch_folder.h"
#include "tasks/dequantize.h"

namespace {

using namespace tritllm;

const codec::ParallelLoop kLoop = [](size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
};

// The manifest with every file's size and checksum as it really is, and its own; as it stands where it is no such document.
std::string fitted_manifest(std::string_view text, std::string_view weights) {
  Json json;
  try {
    json = parse_json(text, "fuzz");
  } catch (const Error&) {
    return std::string(text);
  }
  if (!json.is_object()) return std::string(text);
  json.erase("checksum");
  const auto files = json.find("files");
  if (files != json.end() && files->is_array()) {
    for (Json& file : *files) {
      if (!file.is_object()) continue;
      file["bytes"] = weights.size();
      file["checksum"] = checksum_of(weights);
    }
  }
  std::string fitted = json.dump(2);
  fitted.resize(fitted.size() - 2);
  fitted += ",\n";
  return fitted + fmt::format("  \"checksum\": \"{}\"\n}}\n", checksum_of(fitted));
}

void decode(const PackedCheckpoint& checkpoint, const TensorRecord& record) {
  const TernaryMatrix matrix = checkpoint.matrix(record);
  validate_matrix(matrix, checkpoint.place(record), kLoop);
  const size_t groups = matrix.shape.groups_per_row();
  const uint64_t rows_per_codebook = matrix.shape.rows / matrix.shape.codebooks();
  std::vector<int8_t> codes(groups * codec::kGroupSize);
  std::vector<uint8_t> scale_codes(groups);
  std::vector<uint16_t> halves(groups * codec::kGroupSize);
  for (uint64_t row = 0; row < matrix.shape.rows; ++row) {
    decode_rows(matrix, row, 1, 0, groups, codes.data(), scale_codes.data());
    codec::HalfDecoder(matrix.codebooks[row / rows_per_codebook], matrix.depth)
        .decode(codes.data(), scale_codes.data(), groups, halves.data());
    for (const uint16_t half : halves) {
      if ((half & 0x7c00u) == 0x7c00u) std::abort();  // no accepted matrix decodes to infinity or NaN
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ScratchFolder folder;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t division = input.find('\xff');
  const std::string_view manifest = input.substr(0, division), weights = division == input.npos ? "" : input.substr(division + 1);
  folder.write("trits-00001-of-00001.safetensors", weights);
  folder.write(std::string(kManifestName), fitted_manifest(manifest, weights));
  bool opened = false;
  try {
    const PackedCheckpoint checkpoint = PackedCheckpoint::open(folder.path(), kLoop);
    opened = true;
    for (const TensorRecord& record : checkpoint.manifest().tensors) {
      if (record.fate == Fate::kTernary) decode(checkpoint, record);
    }
  } catch (const Error&) {
  }
  // What cannot be opened is never called sound.
  if (PackedCheckpoint::examine(folder.path(), kLoop).empty() && !opened) std::abort();
  return 0;
}
