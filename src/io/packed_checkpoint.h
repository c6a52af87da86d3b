// Owns the reading of a packed checkpoint (docs/format.md): opening it with every checksum verified, and the bytes of its tensors.
// Does not own writing (src/tasks) nor the layouts that kernels want (src/kernels).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "codec/codebook.h"
#include "codec/quantizer.h"
#include "io/manifest.h"
#include "io/mapped_file.h"
#include "io/model_problem.h"
#include "io/safetensors.h"

namespace tritllm {

// A ternary matrix or stack as it is stored; the spans stay valid as long as the checkpoint.
struct TernaryMatrix {
  codec::MatrixShape shape;
  int depth = 0;
  std::span<const uint8_t> trits;          // [depth][lines][16]
  std::span<const uint8_t> scales;         // [lines][3]
  std::vector<codec::Codebook> codebooks;  // [shape.codebooks()]

  std::span<const uint8_t> plane(int index) const noexcept {
    const size_t bytes = trits.size() / static_cast<size_t>(depth);
    return trits.subspan(static_cast<size_t>(index) * bytes, bytes);
  }
};

// Groups [first_group, first_group + groups) of each of the rows [first_row, first_row + rows), padding included: codes
// [rows][groups][16] and scale codes [rows][groups]. The bytes must have been validated.
void decode_rows(const TernaryMatrix& matrix, uint64_t first_row, size_t rows, uint64_t first_group, size_t groups, int8_t* codes,
                 uint8_t* scale_codes);

// The codebook of these rows. Throws an Error of kUnsupported where they are rows of experts with several codebooks.
const codec::Codebook& codebook_of_rows(const TernaryMatrix& matrix, uint64_t first_row, uint64_t rows);

// Refuses bytes that hold no trits, codebooks out of range, and padding that is not zero.
void validate_matrix(const TernaryMatrix& matrix, const std::string& where, const codec::ParallelLoop& loop);

// Names of the three stored tensors of a matrix.
std::string trits_name(const std::string& matrix);
std::string scales_name(const std::string& matrix);
std::string codebook_name(const std::string& matrix);

// Those three with type and shape, in the order that the matrix's checksum covers.
std::vector<PlannedTensor> matrix_tensors(const std::string& matrix, const codec::MatrixShape& shape, int depth);

// Names of the stored tensors that a record's checksum covers, in its order: none for a tied tensor.
std::vector<std::string> stored_names(const TensorRecord& record);

class PackedCheckpoint {
 public:
  // Refuses a folder whose manifest, index or weights do not match their checksums, and matrices that validate_matrix() refuses;
  // other differences become warnings.
  static PackedCheckpoint open(const std::filesystem::path& folder, const codec::ParallelLoop& loop);
  // Everything that can be found wrong with the folder by itself, without stopping at the first.
  static std::vector<ModelProblem> examine(const std::filesystem::path& folder, const codec::ParallelLoop& loop);

  const std::filesystem::path& folder() const noexcept { return folder_; }
  const Manifest& manifest() const noexcept { return manifest_; }
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }

  TernaryMatrix matrix(const TensorRecord& record) const;
  std::span<const std::byte> kept(const TensorRecord& record) const;
  // "FILE: tensor 'NAME'".
  std::string place(const TensorRecord& record) const;
  // Of the bytes as they are now, in the order that the record's checksum covers.
  std::string checksum(const TensorRecord& record) const;

 private:
  struct Stored {
    std::span<const std::byte> bytes;
    ElementType type;
    std::vector<uint64_t> shape;
  };

  void read_weights();
  void read_weight_file(const FileRecord& file);
  // Checksums of all files, and trits, codebooks and padding of the matrices.
  void check_all(const codec::ParallelLoop& loop, bool with_matrices);
  // Refuses a tensor that the weight files lack or hold in another type or shape than follows from the manifest. Returns how many
  // stored tensors belong to it; all of them together are all that the files hold.
  size_t check_stored(const TensorRecord& record) const;
  void check_stored_count(size_t expected) const;
  // Of a tensor that is stored.
  void check_contents(const TensorRecord& record, const codec::ParallelLoop& loop) const;
  const Stored& stored(const std::string& name) const { return stored_.at(name); }

  std::filesystem::path folder_;
  Manifest manifest_;
  std::vector<MappedFile> files_;
  std::unordered_map<std::string, Stored> stored_;
  std::vector<std::string> warnings_;
};

bool is_packed_checkpoint(const std::filesystem::path& folder);

Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace tritllm
