// Owns tritllm.json, the manifest of a packed checkpoint: what became of every tensor of the source, and the checksums that let a
// reader trust the rest (docs/format.md). Does not own the weights (packed_checkpoint.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/quantizer.h"
#include "core/json_fwd.h"
#include "core/owned_folder.h"
#include "io/element_type.h"

namespace tritllm {

inline constexpr std::string_view kManifestName = kPackedManifestName;
inline constexpr uint64_t kFormatVersion = 1;

enum class Fate {
  kTernary,  // a matrix turned into trits
  kKept,     // stored as FP16 (BF16 or F32 where that cannot hold it), or unchanged where it holds no floating point
  kTied,     // equal to another tensor that the config ties it to; not stored twice
};

std::string_view fate_name(Fate fate) noexcept;

// How far the decoded matrix is from the source (docs/codec.md, "Statistics").
struct ErrorStats {
  double weight_energy = 0;  // Σ w², so that matrices can be added up
  double relative_mse = 0;
  std::optional<double> sqnr_db;  // nothing if there is no error
  double cosine = 1;
  double max_abs_error = 0;
  uint64_t clipped = 0;
  std::vector<uint64_t> level_histogram;
};

ErrorStats error_stats(const codec::MatrixStats& stats);

// One tensor of the source and what became of it.
struct TensorRecord {
  std::string name;
  std::vector<uint64_t> shape;
  std::string source_type;      // as ElementLayout names it
  std::string source_checksum;  // of the stored bytes in the source file
  Fate fate = Fate::kKept;
  int depth = 0;         // ternary only
  std::string type;      // kept only: the dtype it is stored as
  std::string tied_to;   // tied only
  std::string file;      // not for tied
  std::string checksum;  // of the stored bytes; trits, scales and codebook one after the other
  ErrorStats error;      // ternary only

  uint64_t elements() const noexcept;
  codec::MatrixShape matrix_shape() const noexcept;  // of a matrix or a stack [experts, rows, columns]
};

Json to_json(const TensorRecord& record);
TensorRecord parse_tensor_record(const Json& json, const std::string& where);

enum class FileRole {
  kWeights,  // must match its checksum to be loaded
  kIndex,    // must match as well
  kSide,     // may be edited by its owner: a difference is a warning
};

struct FileRecord {
  std::string name;
  FileRole role;
  uint64_t bytes;
  std::string checksum;
};

// One of several runs that each quantise some of the tensors (`--shard i/n`).
struct PartOfModel {
  uint64_t index;  // from 1
  uint64_t count;
  uint64_t tensors;                 // of the whole model
  std::vector<uint64_t> positions;  // of this part's tensors among them, ascending
};

// What a model card says about where the model comes from.
struct CardFacts {
  std::string source_name;   // folder or file name of the source
  std::string options = {};  // of the quantize command beside --model, --base-model, --configs and --out: " --depth …"
  std::optional<std::string> name = {};          // what results are named after: NAME or OWNER/NAME; nothing: source_name
  std::optional<std::string> base_model = {};    // hub id of the source
  std::optional<std::string> revision = {};      // commit of the source on the hub
  std::optional<std::string> license = {};       // identifier as model cards have it
  std::optional<std::string> license_name = {};  // of the licence
  std::optional<std::string> license_link = {};  // address, or the name of a file of the folder

  bool operator==(const CardFacts&) const = default;
};

Json to_json(const CardFacts& facts);

struct Manifest {
  std::string tool_version;
  std::string recipe;  // the configuration, e.g. "optimal-d2"
  std::string fingerprint;
  std::string source_name, source_kind, source_digest;
  std::vector<std::string> source_types;
  CardFacts card;  // of older manifests the source's name only
  double nominal_bits_per_weight = 0, stored_bits_per_weight = 0;
  std::optional<PartOfModel> part;
  std::vector<TensorRecord> tensors;
  std::vector<FileRecord> files;
};

// The file's bytes, its own checksum included; and the reverse, which checks everything.
std::string manifest_text(const Manifest& manifest);
Manifest parse_manifest(std::string_view text, const std::string& where);

// Throws unless every tied tensor names another one of these that is stored and has its shape.
void check_tied(const std::vector<TensorRecord>& tensors, const std::string& where);

// Bits per ternary weight of these tensors: information content, and bytes in the file.
struct BitsPerWeight {
  double nominal = 0, stored = 0;
  uint64_t ternary_weights = 0;
};
BitsPerWeight bits_per_weight(const std::vector<TensorRecord>& tensors);

// Identifies a source by what its tensors are called and hold.
std::string source_digest(const std::vector<TensorRecord>& tensors);

// Gives the manifest its tensors and what follows from them: the source's types (in order of first mention) and digest, and the
// bits per weight.
void set_tensors(Manifest& manifest, std::vector<TensorRecord> tensors);

}  // namespace tritllm
