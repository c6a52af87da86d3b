// Owns the checks of a safetensors header, and the making of one.
#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/checked.h"
#include "core/error.h"
#include "core/json.h"
#include "io/model_location.h"
#include "io/tensor_list.h"

namespace tritllm {
namespace {

constexpr uint64_t kLengthBytes = sizeof(uint64_t);
constexpr uint64_t kDataAlignment = 64;
constexpr size_t kMostDimensions = 64;

constexpr size_t kMostTensors = 1'000'000;  // ten times what the largest models have in all their files
constexpr std::string_view kDamaged = "the file is damaged or incomplete; fetch it again";

[[noreturn]] void refuse(const std::string& where, const std::string& problem, std::string_view remedy = {}) {
  throw Error(ErrorCode::kBadInput, where, problem, remedy);
}

// Files of other kinds under a name that ends in .safetensors.
void refuse_other_formats(std::span<const std::byte> file, const std::string& where) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 64));
  refuse_git_lfs_pointer(text, where);
  if (text.starts_with("GGUF")) refuse(where, "is a GGUF file", "rename it to end in .gguf, and name it as the model");
  if (text.starts_with("PK\x03\x04")) {
    refuse(where, "is an archive written by PyTorch, not safetensors", "convert the model to safetensors first");
  }
}

uint64_t header_length(std::span<const std::byte> file, const std::string& where) {
  refuse_other_formats(file, where);
  if (file.size() < kLengthBytes) {
    refuse(where, fmt::format("expected at least {} bytes of a safetensors file, found {}", kLengthBytes, file.size()), kDamaged);
  }
  uint64_t length;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kLargestSafetensorsHeader) {
    refuse(where, fmt::format("header length at byte 0: expected at most {}, found {}", kLargestSafetensorsHeader, length),
           kDamaged);
  }
  if (length > file.size() - kLengthBytes) {
    refuse(where,
           fmt::format("header length at byte 0: expected at most the {} bytes that follow, found {}", file.size() - kLengthBytes,
                       length),
           kDamaged);
  }
  return length;
}

std::vector<uint64_t> parse_shape(const JsonView& field) {
  if (!field.json().is_array() || field.json().size() > kMostDimensions) {
    field.refuse(fmt::format("a shape of at most {} dimensions", kMostDimensions));
  }
  std::vector<uint64_t> shape;
  shape.reserve(field.json().size());
  for (const JsonView& dimension : field.items()) shape.push_back(dimension.integer(0, UINT64_MAX));
  return shape;
}

StoredTensor parse_tensor(std::string name, const Json& json, uint64_t data_start, uint64_t data_bytes, const std::string& where) {
  const JsonView entry(json, fmt::format("{}: tensor '{}'", where, printable(name)));
  if (name.empty() || name.size() > kLongestTensorName || name.find('\0') != std::string::npos) {
    refuse(entry.where(), fmt::format("expected a name of 1 to {} bytes without NUL", kLongestTensorName));
  }
  if (!json.is_object() || json.size() != 3) refuse(entry.where(), "expected exactly the fields dtype, shape and data_offsets");
  const std::string dtype = entry.text("dtype");
  const auto type = element_type_from_safetensors(dtype);
  if (!type) throw Error(ErrorCode::kUnsupported, entry.where(), fmt::format("unknown dtype '{}'", printable(dtype)));
  std::vector<uint64_t> shape = parse_shape(entry.child("shape"));

  const std::vector<JsonView> range = entry.child("data_offsets").items();
  if (range.size() != 2) entry.child("data_offsets").refuse("two whole numbers");
  const uint64_t begin = range[0].integer(0, UINT64_MAX), end = range[1].integer(0, UINT64_MAX);
  if (begin > end || end > data_bytes) {
    refuse(entry.where(),
           fmt::format("data_offsets: expected a range inside the {} bytes of data, found [{}, {}]", data_bytes, begin, end),
           kDamaged);
  }
  const auto elements = checked_product(shape);
  const auto bytes = elements ? checked_multiply(*elements, layout_of(*type).block_bytes) : std::nullopt;
  if (!bytes || *bytes != end - begin) {
    refuse(entry.where(), fmt::format("data_offsets: expected the {} bytes of its shape and dtype, found {}",
                                      bytes ? fmt::to_string(*bytes) : "more than 2^64", end - begin));
  }
  return {std::move(name), *type, std::move(shape), data_start + begin, end - begin};
}

void check_names_differ(const std::vector<StoredTensor>& tensors, const std::string& where) {
  std::vector<std::string_view> names(tensors.size());
  std::ranges::transform(tensors, names.begin(), &StoredTensor::name);
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end()) {
    refuse(where, fmt::format("the key \"{}\" stands twice in one JSON object", printable(*twice)));
  }
}

void parse_metadata(const Json& json, const std::string& where, SafetensorsHeader& header) {
  if (!json.is_object()) refuse(where, "expected an object as __metadata__");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) refuse(where, fmt::format("__metadata__: expected a string at '{}'", printable(key)));
    header.metadata.emplace(key, value.get<std::string>());
  }
}

void check_tiling(const std::vector<StoredTensor>& tensors, uint64_t data_start, uint64_t file_bytes, const std::string& where) {
  uint64_t expected = data_start;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.offset != expected) {
      refuse(fmt::format("{}: tensor '{}'", where, printable(tensor.name)),
             fmt::format("expected its data at byte {}, where the tensor before ends, found {}", expected, tensor.offset),
             kDamaged);
    }
    expected += tensor.bytes;
  }
  if (expected != file_bytes) {
    refuse(where, fmt::format("expected the file to end with its last tensor at byte {}, found {} bytes", expected, file_bytes),
           kDamaged);
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& where) {
  const uint64_t length = header_length(file, where);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (const size_t start = text.find_first_not_of(" \t\r\n"); start == text.npos || text[start] != '{') {
    refuse(where, fmt::format("expected the JSON header to start with '{{' at byte {}", kLengthBytes), kDamaged);
  }
  SafetensorsHeader parsed;
  const uint64_t data_start = kLengthBytes + length;
  bool has_metadata = false;
  // One entry at a time: a tree of a large header would take some forty times its bytes.
  const auto take = [&](size_t, std::string& name, const Json& entry) {
    if (name == "__metadata__" && !std::exchange(has_metadata, true)) return parse_metadata(entry, where, parsed);
    if (parsed.tensors.size() == kMostTensors) refuse(where, fmt::format("more than {} tensors", kMostTensors));
    parsed.tensors.push_back(parse_tensor(std::move(name), entry, data_start, file.size() - data_start, where));
  };
  static constexpr std::string_view kEntries[] = {""};
  parse_json_in_parts(text, where, kEntries, take);
  check_names_differ(parsed.tensors, where);
  // An empty tensor shares its offset with the one that follows; it has to come first.
  std::stable_sort(parsed.tensors.begin(), parsed.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  check_tiling(parsed.tensors, data_start, file.size(), where);
  return parsed;
}

std::vector<ListedTensor> list_safetensors(std::span<const std::byte> file, const std::string& where) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, header_length(file, where));
  std::vector<ListedTensor> listed;
  const auto take = [&](size_t, const std::string& name, const Json& json) {
    if (name == "__metadata__") return;
    if (listed.size() == kMostTensors) refuse(where, fmt::format("more than {} tensors", kMostTensors));
    const JsonView entry(json, fmt::format("{}: tensor '{}'", where, printable(name)));
    std::string type = entry.text("dtype");
    const bool is_read = element_type_from_safetensors(type).has_value();
    listed.push_back({name, parse_shape(entry.child("shape")), std::move(type), is_read});
  };
  static constexpr std::string_view kEntries[] = {""};
  parse_json_in_parts(text, where, kEntries, take);
  return listed;
}

uint64_t PlannedTensor::bytes() const noexcept { return checked_product(shape).value_or(0) * layout_of(type).block_bytes; }

SafetensorsLayout plan_safetensors(std::span<const PlannedTensor> tensors, const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  auto& members = header.get_ref<Json::object_t&>();
  SafetensorsLayout layout;
  uint64_t end = 0;
  for (const PlannedTensor& tensor : tensors) {
    const uint64_t begin = end;
    end += tensor.bytes();
    layout.offsets.push_back(begin);
    // Appended without ordered_json's search for an equal key, which would be quadratic; the caller's names differ.
    members.emplace_back(tensor.name,
                         Json{{"dtype", layout_of(tensor.type).name}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}});
  }
  std::string text = header.dump();
  text.resize((kLengthBytes + text.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment - kLengthBytes, ' ');
  const uint64_t length = text.size();
  layout.header.assign(reinterpret_cast<const char*>(&length), kLengthBytes);
  layout.header += text;
  for (uint64_t& offset : layout.offsets) offset += layout.header.size();
  layout.file_bytes = layout.header.size() + end;
  return layout;
}

}  // namespace tritllm
