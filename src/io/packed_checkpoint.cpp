#include "io/packed_checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <unordered_set>

#include "codec/trits.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/file.h"
#include "core/half.h"
#include "io/folder_mark.h"
#include "io/model_folder.h"

namespace tritllm {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLargestManifest = uint64_t{1} << 30;
constexpr std::string_view kDamaged = "the file is damaged or incomplete; restore it, or quantise again";

std::span<const uint8_t> as_uint8(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

void check_codebooks(const TernaryMatrix& matrix, const std::string& where) {
  for (size_t expert = 0; expert < matrix.codebooks.size(); ++expert) {
    float former = 0.0f;
    for (size_t i = 0; i < codec::kCodebookSize; ++i) {
      const float scale = matrix.codebooks[expert][i];
      if (!(scale >= former && scale <= codec::kLargestWeight) || std::signbit(scale)) {
        const std::string of_expert = matrix.shape.experts > 0 ? fmt::format(" of expert {}", expert) : "";
        throw Error(ErrorCode::kBadInput, where,
                    fmt::format("scale {} of the codebook{}: expected {} to {}, found {}", i, of_expert, former,
                                codec::kLargestWeight, scale),
                    kDamaged);
      }
      former = scale;
    }
  }
}

void check_trit_bytes(std::span<const uint8_t> bytes, const char* kind, const std::string& where, const codec::ParallelLoop& loop) {
  constexpr size_t kTaskBytes = size_t{1} << 20;
  loop((bytes.size() + kTaskBytes - 1) / kTaskBytes, [&](size_t task) {
    const size_t begin = task * kTaskBytes;
    if (const auto bad = codec::find_invalid_trit_byte(bytes.subspan(begin, std::min(kTaskBytes, bytes.size() - begin)))) {
      throw Error(ErrorCode::kBadInput, where,
                  fmt::format("{} byte {}: {} is not a byte of five trits", kind, begin + *bad, bytes[begin + *bad]), kDamaged);
    }
  });
}

// Weight files that are not in the manifest: leftovers of another run, or planted for loaders that go by file name.
void refuse_unlisted_weights(const fs::path& folder, const Manifest& manifest) {
  for (const std::string& name : folder_entries(folder)) {
    const auto is_listed = [&](const FileRecord& file) { return file.name == name; };
    if (!name.ends_with(".safetensors") || std::ranges::any_of(manifest.files, is_listed)) continue;
    throw Error(ErrorCode::kBadInput, (folder / name).string(), "is not among the files of this checkpoint", "remove it");
  }
}

// Differences of a file that belongs to the user as much as to the checkpoint; empty where there is none.
std::string difference_of_side_file(const fs::path& folder, const FileRecord& file) {
  const std::string path = (folder / file.name).string();
  if (!has_model_file(folder, file.name)) return fmt::format("{} is missing", path);
  const MappedFile mapped = map_model_file(folder, file.name);
  const bool same = mapped.bytes().size() == file.bytes && checksum_and_release(mapped.bytes()) == file.checksum;
  return same ? "" : fmt::format("{} was changed since the model was quantised", path);
}

[[noreturn]] void refuse_padding(const std::string& where, uint64_t group) {
  throw Error(ErrorCode::kBadInput, where, fmt::format("group {}: expected zeros as padding", group), kDamaged);
}

void decode_lines(const TernaryMatrix& matrix, uint64_t first_line, size_t lines, int8_t* codes, uint8_t* scale_codes) {
  std::array<const uint8_t*, codec::kMaxDepth> planes{};
  for (int plane = 0; plane < matrix.depth; ++plane) {
    planes[static_cast<size_t>(plane)] = matrix.plane(plane).data() + first_line * codec::kGroupSize;
  }
  codec::unpack_lines(lines, matrix.depth, planes, matrix.scales.data() + first_line * codec::kScaleTrits, codes, scale_codes);
}

// One line of groups, decoded.
struct DecodedLine {
  std::array<int8_t, codec::kLineGroups * codec::kGroupSize> codes;
  std::array<uint8_t, codec::kLineGroups> scale_codes;

  DecodedLine(const TernaryMatrix& matrix, uint64_t line) { decode_lines(matrix, line, 1, codes.data(), scale_codes.data()); }
};

// Consecutive groups. Whole lines are decoded in place, those at the ends through a line of their own.
void decode_groups(const TernaryMatrix& matrix, uint64_t group, uint64_t groups, int8_t* codes, uint8_t* scale_codes) {
  while (groups > 0) {
    const uint64_t line = group / codec::kLineGroups;
    const auto skipped = static_cast<size_t>(group % codec::kLineGroups);
    auto count = static_cast<size_t>(groups / codec::kLineGroups * codec::kLineGroups);
    if (skipped == 0 && count > 0) {
      decode_lines(matrix, line, count / codec::kLineGroups, codes, scale_codes);
    } else {
      const DecodedLine decoded(matrix, line);
      count = static_cast<size_t>(std::min<uint64_t>(groups, codec::kLineGroups - skipped));
      std::memcpy(codes, decoded.codes.data() + skipped * codec::kGroupSize, count * codec::kGroupSize);
      std::memcpy(scale_codes, decoded.scale_codes.data() + skipped, count);
    }
    group += count, groups -= count;
    codes += count * codec::kGroupSize, scale_codes += count;
  }
}

// The last group of a row has the row's padding; the last line is filled up with groups of zeros.
void check_padding(const TernaryMatrix& matrix, const std::string& where) {
  const auto is_zero = [](const int8_t* codes, size_t count) {
    return std::all_of(codes, codes + count, [](int8_t code) { return code == 0; });
  };
  const uint64_t per_row = matrix.shape.groups_per_row();
  if (const size_t used = matrix.shape.columns % codec::kGroupSize; used != 0) {
    std::array<int8_t, codec::kGroupSize> codes;
    uint8_t scale_code;
    for (uint64_t row = 0; row < matrix.shape.rows; ++row) {
      decode_rows(matrix, row, 1, per_row - 1, 1, codes.data(), &scale_code);
      if (!is_zero(codes.data() + used, codec::kGroupSize - used)) refuse_padding(where, row * per_row + per_row - 1);
    }
  }
  const uint64_t groups = matrix.shape.groups();
  const DecodedLine last(matrix, matrix.shape.lines() - 1);
  for (size_t i = groups % codec::kLineGroups; i != 0 && i < codec::kLineGroups; ++i) {
    if (last.scale_codes[i] == 0 && is_zero(last.codes.data() + i * codec::kGroupSize, codec::kGroupSize)) continue;
    refuse_padding(where, groups / codec::kLineGroups * codec::kLineGroups + i);
  }
}

// Stacks that were written before experts had codebooks of their own have one for all of them.
bool is_shared_codebook(const TensorRecord& record, const PlannedTensor& expected, const std::vector<uint64_t>& found) {
  return record.matrix_shape().experts > 0 && expected.name == codebook_name(record.name) &&
         found == std::vector<uint64_t>{codec::kCodebookSize};
}

}  // namespace

std::string trits_name(const std::string& matrix) { return matrix + ".trits"; }
std::string scales_name(const std::string& matrix) { return matrix + ".scales"; }
std::string codebook_name(const std::string& matrix) { return matrix + ".codebook"; }

std::vector<PlannedTensor> matrix_tensors(const std::string& matrix, const codec::MatrixShape& shape, int depth) {
  std::vector<uint64_t> codebook{codec::kCodebookSize};
  if (shape.experts > 0) codebook.insert(codebook.begin(), shape.experts);
  return {{trits_name(matrix), ElementType::kU8, {static_cast<uint64_t>(depth), shape.lines(), codec::kGroupSize}},
          {scales_name(matrix), ElementType::kU8, {shape.lines(), codec::kScaleTrits}},
          {codebook_name(matrix), ElementType::kF32, std::move(codebook)}};
}

std::vector<std::string> stored_names(const TensorRecord& record) {
  if (record.fate == Fate::kTied) return {};
  if (record.fate == Fate::kKept) return {record.name};
  return {trits_name(record.name), scales_name(record.name), codebook_name(record.name)};
}

void decode_rows(const TernaryMatrix& matrix, uint64_t first_row, size_t rows, uint64_t first_group, size_t groups, int8_t* codes,
                 uint8_t* scale_codes) {
  const uint64_t per_row = matrix.shape.groups_per_row();
  if (groups == per_row) return decode_groups(matrix, first_row * per_row, rows * per_row, codes, scale_codes);
  for (size_t row = 0; row < rows; ++row) {
    decode_groups(matrix, (first_row + row) * per_row + first_group, groups, codes + row * groups * codec::kGroupSize,
                  scale_codes + row * groups);
  }
}

const codec::Codebook& codebook_of_rows(const TernaryMatrix& matrix, uint64_t first_row, uint64_t rows) {
  const uint64_t rows_of_one = matrix.shape.rows / matrix.shape.codebooks(), codebook = first_row / rows_of_one;
  if (rows > 0 && (first_row + rows - 1) / rows_of_one != codebook) {
    throw Error(ErrorCode::kUnsupported, "slice",
                fmt::format("rows {} to {} belong to experts with codebooks of their own", first_row, first_row + rows - 1),
                fmt::format("take the rows of one expert at a time: {} each", rows_of_one));
  }
  return matrix.codebooks[codebook];
}

void validate_matrix(const TernaryMatrix& matrix, const std::string& where, const codec::ParallelLoop& loop) {
  check_codebooks(matrix, where);
  check_trit_bytes(matrix.trits, "trits", where, loop);
  check_trit_bytes(matrix.scales, "scales", where, loop);
  check_padding(matrix, where);
}

PackedCheckpoint PackedCheckpoint::open(const fs::path& folder, const codec::ParallelLoop& loop) {
  PackedCheckpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.manifest_ = read_manifest(folder);
  try {
    checkpoint.read_weights();
  } catch (const Error&) {
    // Where a file is not what was written, that is what there is to say.
    checkpoint.check_all(loop, /*with_matrices=*/false);
    throw;
  }
  checkpoint.check_all(loop, /*with_matrices=*/true);
  return checkpoint;
}

void PackedCheckpoint::read_weights() {
  for (const FileRecord& file : manifest_.files) {
    if (file.role == FileRole::kWeights) read_weight_file(file);
  }
  size_t stored = 0;
  for (const TensorRecord& record : manifest_.tensors) stored += check_stored(record);
  check_stored_count(stored);
}

void PackedCheckpoint::check_all(const codec::ParallelLoop& loop, bool with_matrices) {
  std::vector<const TensorRecord*> matrices;
  for (const TensorRecord& record : manifest_.tensors) {
    if (with_matrices && record.fate == Fate::kTernary) matrices.push_back(&record);
  }
  const codec::ParallelLoop here = [](size_t count, const std::function<void(size_t)>& body) {
    for (size_t i = 0; i < count; ++i) body(i);
  };
  // One loop over both: a single large file keeps one thread busy, and the matrices the others.
  const size_t files = manifest_.files.size();
  std::vector<std::string> warnings(files);
  std::vector<std::exception_ptr> failures(files + matrices.size());
  loop(failures.size(), [&](size_t i) {
    try {
      if (i >= files) validate_matrix(matrix(*matrices[i - files]), place(*matrices[i - files]), here);
      else if (const FileRecord& file = manifest_.files[i]; file.role != FileRole::kSide) check_file(folder_, file);
      else warnings[i] = difference_of_side_file(folder_, file);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  });
  // The first one, in the order of files and then of matrices, whichever thread was faster.
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  std::erase(warnings, std::string());
  warnings_ = std::move(warnings);
}

void PackedCheckpoint::read_weight_file(const FileRecord& file) {
  MappedFile mapped = map_model_file(folder_, file.name);
  const std::string where = mapped.path().string();
  for (StoredTensor& tensor : parse_safetensors(mapped.bytes(), where).tensors) {
    Stored stored{mapped.bytes().subspan(tensor.offset, tensor.bytes), tensor.type, std::move(tensor.shape)};
    if (!stored_.emplace(tensor.name, std::move(stored)).second) {
      throw Error(ErrorCode::kBadInput, where, fmt::format("the tensor '{}' is in two files", printable(tensor.name)), kDamaged);
    }
  }
  files_.push_back(std::move(mapped));
}

size_t PackedCheckpoint::check_stored(const TensorRecord& record) const {
  size_t checked = 0;
  const auto expect = [&](const PlannedTensor& tensor) {
    const auto found = stored_.find(tensor.name);
    const bool fits = found != stored_.end() && found->second.type == tensor.type &&
                      (found->second.shape == tensor.shape || is_shared_codebook(record, tensor, found->second.shape));
    if (!fits) {
      throw Error(ErrorCode::kBadInput, place(record),
                  fmt::format("expected '{}' as {} [{}], found {}", printable(tensor.name), layout_of(tensor.type).name,
                              fmt::join(tensor.shape, ", "),
                              found == stored_.end() ? "none"
                                                     : fmt::format("{} [{}]", layout_of(found->second.type).name,
                                                                   fmt::join(found->second.shape, ", "))),
                  kDamaged);
    }
    ++checked;
  };
  if (record.fate == Fate::kKept) expect({record.name, *element_type_from_safetensors(record.type), record.shape});
  if (record.fate != Fate::kTernary) return checked;
  for (const PlannedTensor& tensor : matrix_tensors(record.name, record.matrix_shape(), record.depth)) expect(tensor);
  return checked;
}

void PackedCheckpoint::check_stored_count(size_t expected) const {
  if (expected == stored_.size()) return;
  throw Error(ErrorCode::kBadInput, folder_.string(),
              fmt::format("expected {} tensors in the weight files, found {}", expected, stored_.size()), kDamaged);
}

TernaryMatrix PackedCheckpoint::matrix(const TensorRecord& record) const {
  const Stored& codebooks = stored(codebook_name(record.name));
  TernaryMatrix matrix{record.matrix_shape(),
                       record.depth,
                       as_uint8(stored(trits_name(record.name)).bytes),
                       as_uint8(stored(scales_name(record.name)).bytes),
                       {}};
  if (codebooks.shape.size() == 1) matrix.shape.experts = 0;  // one codebook for all experts of a stack
  matrix.codebooks.resize(matrix.shape.codebooks());
  std::memcpy(matrix.codebooks.data(), codebooks.bytes.data(), codebooks.bytes.size());
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

void PackedCheckpoint::check_contents(const TensorRecord& record, const codec::ParallelLoop& loop) const {
  if (record.fate == Fate::kTernary) validate_matrix(matrix(record), place(record), loop);
  const std::string found = checksum(record);
  if (found == record.checksum) return;
  throw Error(ErrorCode::kBadInput, place(record), fmt::format("expected the checksum {}, found {}", record.checksum, found));
}

std::vector<ModelProblem> PackedCheckpoint::examine(const fs::path& folder, const codec::ParallelLoop& loop) {
  PackedCheckpoint checkpoint;
  checkpoint.folder_ = folder;
  ModelProblems problems;
  Manifest& manifest = checkpoint.manifest_;
  if (!problems.attempt(std::string(kManifestName), [&] { manifest = read_manifest(folder); })) return problems.take();
  // A file that is not what was written says all that there is to say of its tensors.
  std::unordered_set<std::string_view> damaged;
  for (const FileRecord& file : manifest.files) {
    const bool sound = problems.attempt(file.name, [&] {
      check_file(folder, file);
      if (file.role == FileRole::kWeights) checkpoint.read_weight_file(file);
    });
    if (!sound) damaged.insert(file.name);
  }
  problems.attempt(folder.string(), [&] { refuse_unlisted_weights(folder, manifest); });
  size_t stored = 0;
  for (const TensorRecord& record : manifest.tensors) {
    if (record.fate == Fate::kTied || damaged.contains(record.file)) continue;
    problems.attempt(record.file, [&] {
      stored += checkpoint.check_stored(record);
      checkpoint.check_contents(record, loop);
    });
  }
  if (problems.empty()) problems.attempt(folder.string(), [&] { checkpoint.check_stored_count(stored); });
  return problems.take();
}

bool is_packed_checkpoint(const fs::path& folder) { return has_model_file(folder, kManifestName); }

Manifest read_manifest(const fs::path& folder) {
  return parse_manifest(read_model_file(folder, kManifestName, kLargestManifest), (folder / kManifestName).string());
}

}  // namespace tritllm
