#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/checked.h"
#include "core/error.h"
#include "core/json.h"

namespace tritllm {
namespace {

constexpr uint64_t kLengthBytes = sizeof(uint64_t);
constexpr uint64_t kDataAlignment = 64;
constexpr size_t kMostDimensions = 64;

[[noreturn]] void refuse(const std::string& where, const std::string& problem) {
  throw Error(ErrorCode::kBadInput, where, problem, "the file is damaged or incomplete; fetch it again");
}

uint64_t header_length(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < kLengthBytes) {
    refuse(where, fmt::format("expected at least {} bytes of a safetensors file, found {}", kLengthBytes, file.size()));
  }
  uint64_t length;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kLargestSafetensorsHeader) {
    refuse(where, fmt::format("header length at byte 0: expected at most {}, found {}", kLargestSafetensorsHeader, length));
  }
  if (length > file.size() - kLengthBytes) {
    refuse(where, fmt::format("header length at byte 0: expected at most the {} bytes that follow, found {}",
                              file.size() - kLengthBytes, length));
  }
  return length;
}

std::vector<uint64_t> parse_shape(const Json& entry, const std::string& place) {
  const Json& field = json_field(entry, "shape", place);
  if (!field.is_array() || field.size() > kMostDimensions) {
    refuse(place, fmt::format("expected a shape of at most {} dimensions", kMostDimensions));
  }
  std::vector<uint64_t> shape;
  for (const Json& dimension : field) {
    if (!dimension.is_number_unsigned()) refuse(place, "expected whole numbers in the shape");
    shape.push_back(dimension.get<uint64_t>());
  }
  return shape;
}

StoredTensor parse_tensor(const std::string& name, const Json& entry, uint64_t data_start, uint64_t data_bytes,
                          const std::string& where) {
  const std::string place = fmt::format("{}: tensor '{}'", where, printable(name));
  if (name.empty() || name.size() > kLongestTensorName || name.find('\0') != std::string::npos) {
    refuse(place, fmt::format("expected a name of 1 to {} bytes without NUL", kLongestTensorName));
  }
  if (!entry.is_object() || entry.size() != 3) refuse(place, "expected exactly the fields dtype, shape and data_offsets");
  const std::string dtype = json_string(entry, "dtype", place);
  const auto type = element_type_from_safetensors(dtype);
  if (!type) throw Error(ErrorCode::kUnsupported, place, fmt::format("unknown dtype '{}'", dtype));
  std::vector<uint64_t> shape = parse_shape(entry, place);

  const Json& range = json_field(entry, "data_offsets", place);
  if (!range.is_array() || range.size() != 2 || !range[0].is_number_unsigned() || !range[1].is_number_unsigned()) {
    refuse(place, "expected two whole numbers as data_offsets");
  }
  const auto begin = range[0].get<uint64_t>(), end = range[1].get<uint64_t>();
  if (begin > end || end > data_bytes) {
    refuse(place,
           fmt::format("data_offsets: expected a range inside the {} bytes of data, found [{}, {}]", data_bytes, begin, end));
  }
  const auto elements = checked_product(shape);
  const auto bytes = elements ? checked_multiply(*elements, layout_of(*type).block_bytes) : std::nullopt;
  if (!bytes || *bytes != end - begin) {
    refuse(place, fmt::format("data_offsets: expected the {} bytes of its shape and dtype, found {}",
                              bytes ? fmt::to_string(*bytes) : "more than 2^64", end - begin));
  }
  return {name, *type, std::move(shape), data_start + begin, end - begin};
}

void check_tiling(const std::vector<StoredTensor>& tensors, uint64_t data_start, uint64_t file_bytes, const std::string& where) {
  uint64_t expected = data_start;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.offset != expected) {
      refuse(fmt::format("{}: tensor '{}'", where, printable(tensor.name)),
             fmt::format("expected its data at byte {}, where the tensor before ends, found {}", expected, tensor.offset));
    }
    expected += tensor.bytes;
  }
  if (expected != file_bytes) {
    refuse(where, fmt::format("expected the file to end with its last tensor at byte {}, found {} bytes", expected, file_bytes));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& where) {
  const uint64_t length = header_length(file, where);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{')
    refuse(where, fmt::format("expected the JSON header to start with '{{' at byte {}", kLengthBytes));
  const Json header = parse_json(text, where);

  SafetensorsHeader parsed;
  const uint64_t data_start = kLengthBytes + length;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      parsed.tensors.push_back(parse_tensor(name, entry, data_start, file.size() - data_start, where));
      continue;
    }
    if (!entry.is_object()) refuse(where, "expected an object as __metadata__");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) refuse(where, fmt::format("__metadata__: expected a string at '{}'", printable(key)));
      parsed.metadata.emplace(key, value.get<std::string>());
    }
  }
  // An empty tensor shares its offset with the one that follows; it has to come first.
  std::stable_sort(parsed.tensors.begin(), parsed.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  check_tiling(parsed.tensors, data_start, file.size(), where);
  return parsed;
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
