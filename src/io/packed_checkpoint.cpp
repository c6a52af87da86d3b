#include "io/packed_checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codec/trits.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "core/half.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLargestManifest = uint64_t{1} << 30;
constexpr std::string_view kDamaged = "the file is damaged or incomplete; restore it, or quantise again";

std::span<const uint8_t> as_uint8(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

// Compares size and checksum with the manifest; throws where they differ.
void check_file(const fs::path& folder, const FileRecord& file) {
  const fs::path path = folder / file.name;
  const MappedFile mapped = MappedFile::open(path);
  if (mapped.bytes().size() != file.bytes) {
    throw Error(ErrorCode::kBadInput, path.string(), fmt::format("expected {} bytes, found {}", file.bytes, mapped.bytes().size()),
                kDamaged);
  }
  if (const std::string found = checksum_and_release(mapped.bytes()); found != file.checksum) {
    throw Error(ErrorCode::kBadInput, path.string(), fmt::format("expected the checksum {}, found {}", file.checksum, found),
                kDamaged);
  }
}

void check_codebook(const codec::Codebook& codebook, const std::string& where) {
  float former = 0.0f;
  for (size_t entry = 0; entry < codebook.size(); ++entry) {
    const float scale = codebook[entry];
    if (!(scale >= former && scale <= kLargestHalf) || std::signbit(scale)) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("codebook entry {}: expected a scale from {} to {}, found {}", entry, former, kLargestHalf, scale),
                  kDamaged);
    }
    former = scale;
  }
}

void check_trit_bytes(std::span<const uint8_t> bytes, const char* kind, const std::string& where, const codec::ParallelLoop& loop) {
  constexpr size_t kPiece = size_t{1} << 20;
  loop((bytes.size() + kPiece - 1) / kPiece, [&](size_t piece) {
    const size_t begin = piece * kPiece;
    if (const auto bad = codec::find_invalid_trit_byte(bytes.subspan(begin, std::min(kPiece, bytes.size() - begin)))) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("{} byte {}: {} is not a byte of five trits", kind, begin + *bad, bytes[begin + *bad]), kDamaged);
    }
  });
}

// Weights that the manifest does not speak for: of another run, or put there for software that knows only their name.
void refuse_unlisted_weights(const fs::path& folder, const Manifest& manifest) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const auto is_listed = [&](const FileRecord& file) { return file.name == name; };
    if (entry->path().extension() != ".safetensors" || std::any_of(manifest.files.begin(), manifest.files.end(), is_listed))
      continue;
    throw Error(ErrorCode::kBadInput, entry->path().string(), "is not among the files of this checkpoint", "remove it");
  }
  if (error) throw io_error(folder.string(), "list the folder", error.value());
}

[[noreturn]] void refuse_padding(const std::string& where, uint64_t group) {
  throw Error(ErrorCode::kBadInput, where, fmt::format("group {}: expected zeros as padding", group), kDamaged);
}

// Groups that end a row carry the row's padding; the last line is filled with zero groups.
void check_padding(const TernaryMatrix& matrix, const std::string& where) {
  const uint64_t per_row = matrix.shape.groups_per_row(), groups = matrix.shape.groups();
  std::array<int8_t, codec::kLineGroups * codec::kGroupSize> codes;
  std::array<uint8_t, codec::kLineGroups> scale_codes;
  const auto is_zero = [&](uint64_t slot, size_t from) {
    const auto begin = codes.begin() + static_cast<ptrdiff_t>(slot * codec::kGroupSize);
    return std::all_of(begin + static_cast<ptrdiff_t>(from), begin + codec::kGroupSize, [](int8_t code) { return code == 0; });
  };
  if (const size_t used = matrix.shape.columns % codec::kGroupSize; used != 0) {
    for (uint64_t group = per_row - 1; group < groups; group += per_row) {
      decode_lines(matrix, group / codec::kLineGroups, 1, codes.data(), scale_codes.data());
      if (!is_zero(group % codec::kLineGroups, used)) refuse_padding(where, group);
    }
  }
  decode_lines(matrix, matrix.shape.lines() - 1, 1, codes.data(), scale_codes.data());
  for (uint64_t group = groups; group < matrix.shape.lines() * codec::kLineGroups; ++group) {
    if (scale_codes[group % codec::kLineGroups] != 0 || !is_zero(group % codec::kLineGroups, 0)) refuse_padding(where, group);
  }
}

}  // namespace

std::string trits_name(const std::string& matrix) { return matrix + ".trits"; }
std::string scales_name(const std::string& matrix) { return matrix + ".scales"; }
std::string codebook_name(const std::string& matrix) { return matrix + ".codebook"; }

std::vector<PlannedTensor> matrix_tensors(const std::string& matrix, const codec::MatrixShape& shape, int depth) {
  return {{trits_name(matrix), ElementType::kU8, {static_cast<uint64_t>(depth), shape.lines(), codec::kGroupSize}},
          {scales_name(matrix), ElementType::kU8, {shape.lines(), codec::kScaleTrits}},
          {codebook_name(matrix), ElementType::kF32, {codec::kCodebookSize}}};
}

std::vector<std::string> stored_names(const TensorRecord& record) {
  if (record.fate == Fate::kTied) return {};
  if (record.fate == Fate::kKept) return {record.name};
  return {trits_name(record.name), scales_name(record.name), codebook_name(record.name)};
}

void decode_lines(const TernaryMatrix& matrix, uint64_t first_line, size_t lines, int8_t* codes, uint8_t* scale_codes) {
  std::array<const uint8_t*, codec::kMaxDepth> planes{};
  for (int plane = 0; plane < matrix.depth; ++plane) {
    planes[static_cast<size_t>(plane)] = matrix.plane(plane).data() + first_line * codec::kGroupSize;
  }
  codec::unpack_lines(lines, matrix.depth, planes, matrix.scales.data() + first_line * codec::kScaleTrits, codes, scale_codes);
}

void validate_matrix(const TernaryMatrix& matrix, const std::string& where, const codec::ParallelLoop& loop) {
  check_codebook(matrix.codebook, where);
  check_trit_bytes(matrix.trits, "trits", where, loop);
  check_trit_bytes(matrix.scales, "scales", where, loop);
  check_padding(matrix, where);
}

PackedCheckpoint PackedCheckpoint::open(const fs::path& folder, const codec::ParallelLoop& loop) {
  PackedCheckpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.manifest_ = read_manifest(folder);
  checkpoint.check_files(loop);
  for (const FileRecord& file : checkpoint.manifest_.files) {
    if (file.role == FileRole::kWeights) checkpoint.read_weight_file(file);
  }
  checkpoint.check_tensors();
  return checkpoint;
}

void PackedCheckpoint::check_files(const codec::ParallelLoop& loop) {
  std::vector<std::string> warnings(manifest_.files.size());
  loop(manifest_.files.size(), [&](size_t i) {
    const FileRecord& file = manifest_.files[i];
    if (file.role != FileRole::kSide) return check_file(folder_, file);
    std::error_code error;
    const fs::path path = folder_ / file.name;
    const bool unchanged = fs::is_regular_file(path, error) && fs::file_size(path, error) == file.bytes &&
                           checksum_of(read_text_file(path)) == file.checksum;
    if (!unchanged) warnings[i] = fmt::format("{} was changed since the model was quantised", path.string());
  });
  std::erase(warnings, std::string());
  warnings_ = std::move(warnings);
}

void PackedCheckpoint::read_weight_file(const FileRecord& file) {
  MappedFile mapped = MappedFile::open(folder_ / file.name);
  const std::string where = mapped.path().string();
  for (StoredTensor& tensor : parse_safetensors(mapped.bytes(), where).tensors) {
    Stored stored{mapped.bytes().subspan(tensor.offset, tensor.bytes), tensor.type, std::move(tensor.shape)};
    if (!stored_.emplace(tensor.name, std::move(stored)).second) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("the tensor '{}' stands in two files", printable(tensor.name)),
                  kDamaged);
    }
  }
  files_.push_back(std::move(mapped));
}

// The weight files hold exactly what the manifest lists, in the type and shape that follow from it.
void PackedCheckpoint::check_tensors() const {
  size_t expected = 0;
  const auto expect = [&](const TensorRecord& record, const PlannedTensor& tensor) {
    const auto found = stored_.find(tensor.name);
    if (found == stored_.end() || found->second.type != tensor.type || found->second.shape != tensor.shape) {
      throw Error(ErrorCode::kBadInput, place(record),
                  fmt::format("expected '{}' as {} [{}], found {}", printable(tensor.name), layout_of(tensor.type).name,
                              fmt::join(tensor.shape, ", "),
                              found == stored_.end() ? "none"
                                                     : fmt::format("{} [{}]", layout_of(found->second.type).name,
                                                                   fmt::join(found->second.shape, ", "))),
                  kDamaged);
    }
    ++expected;
  };
  for (const TensorRecord& record : manifest_.tensors) {
    if (record.fate == Fate::kKept) {
      expect(record, {record.name, *element_type_from_safetensors(record.type), record.shape});
    }
    if (record.fate != Fate::kTernary) continue;
    for (const PlannedTensor& tensor : matrix_tensors(record.name, record.matrix_shape(), record.depth)) expect(record, tensor);
  }
  if (expected != stored_.size()) {
    throw Error(ErrorCode::kBadInput, folder_.string(),
                fmt::format("expected {} tensors in the weight files, found {}", expected, stored_.size()), kDamaged);
  }
}

TernaryMatrix PackedCheckpoint::matrix(const TensorRecord& record) const {
  TernaryMatrix matrix{record.matrix_shape(),
                       record.depth,
                       as_uint8(stored(trits_name(record.name)).bytes),
                       as_uint8(stored(scales_name(record.name)).bytes),
                       {}};
  std::memcpy(matrix.codebook.data(), stored(codebook_name(record.name)).bytes.data(), sizeof(matrix.codebook));
  return matrix;
}

std::span<const std::byte> PackedCheckpoint::kept(const TensorRecord& record) const { return stored(record.name).bytes; }

std::string PackedCheckpoint::place(const TensorRecord& record) const {
  return fmt::format("{}: tensor '{}'", (folder_ / record.file).string(), printable(record.name));
}

std::string PackedCheckpoint::checksum(const TensorRecord& record) const {
  Checksum sum;
  for (const std::string& name : stored_names(record)) sum.add(stored(name).bytes);
  return sum.hex();
}

bool is_packed_checkpoint(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / kManifestName, error);
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestName;
  return parse_manifest(read_text_file(path, kLargestManifest), path.string());
}

std::vector<PackedProblem> examine_packed(const fs::path& folder, const codec::ParallelLoop& loop) {
  std::vector<PackedProblem> problems;
  // Runs one check; what it refuses becomes a finding, so that the next check still runs.
  const auto attempt = [&](const std::string& file, const std::function<void()>& check) {
    try {
      check();
      return true;
    } catch (const Error& error) {
      problems.push_back({file, error.where(), error.problem()});
      return false;
    }
  };
  Manifest manifest;
  if (!attempt(std::string(kManifestName), [&] { manifest = read_manifest(folder); })) return problems;
  bool weights_match = true;
  for (const FileRecord& file : manifest.files) {
    const bool matches = attempt(file.name, [&] { check_file(folder, file); });
    weights_match = weights_match && (matches || file.role == FileRole::kSide);
  }
  attempt(folder.string(), [&] { refuse_unlisted_weights(folder, manifest); });
  if (!weights_match) return problems;
  attempt(folder.string(), [&] {
    const PackedCheckpoint checkpoint = PackedCheckpoint::open(folder, loop);
    for (const TensorRecord& record : checkpoint.manifest().tensors) {
      if (record.fate == Fate::kTied) continue;
      attempt(record.file, [&] {
        if (record.fate == Fate::kTernary) validate_matrix(checkpoint.matrix(record), checkpoint.place(record), loop);
        if (const std::string found = checkpoint.checksum(record); found != record.checksum) {
          throw Error(ErrorCode::kBadInput, checkpoint.place(record),
                      fmt::format("expected the checksum {}, found {}", record.checksum, found));
        }
      });
    }
  });
  return problems;
}

}  // namespace tritllm
