// Owns the parser of GGUF files.
#include "io/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "core/checked.h"
#include "core/error.h"
#include "core/utf8.h"
#include "io/gguf_reader.h"
#include "io/model_location.h"
#include "io/tensor_list.h"

namespace tritllm {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kLargestAlignment = 65536;  // a memory page on any machine; more only wastes space
constexpr uint64_t kSmallestEntry = 13;        // key length (8), value type (4), a value of one byte
constexpr uint64_t kSmallestTensor = 32;       // name length (8), dimension count (4), one dimension (8), type (4), offset (8)
constexpr uint32_t kMostDimensions = 4;

struct TypeRow {
  uint32_t number;
  std::string_view name;
  std::optional<ElementType> type;  // nothing where tritllm does not read it
};

constexpr TypeRow kTypes[] = {
    {0, "F32", ElementType::kF32},
    {1, "F16", ElementType::kF16},
    {2, "Q4_0", ElementType::kQ4_0},
    {3, "Q4_1", ElementType::kQ4_1},
    {4, "Q4_2", {}},
    {5, "Q4_3", {}},
    {6, "Q5_0", ElementType::kQ5_0},
    {7, "Q5_1", ElementType::kQ5_1},
    {8, "Q8_0", ElementType::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", ElementType::kQ2_K},
    {11, "Q3_K", ElementType::kQ3_K},
    {12, "Q4_K", ElementType::kQ4_K},
    {13, "Q5_K", ElementType::kQ5_K},
    {14, "Q6_K", ElementType::kQ6_K},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", ElementType::kIQ4_NL},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", ElementType::kIQ4_XS},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", ElementType::kF64},
    {29, "IQ1_M", {}},
    {30, "BF16", ElementType::kBF16},
    {31, "Q4_0_4_4", {}},
    {32, "Q4_0_4_8", {}},
    {33, "Q4_0_8_8", {}},
    {34, "TQ1_0", ElementType::kTQ1_0},
    {35, "TQ2_0", ElementType::kTQ2_0},
    {36, "IQ4_NL_4_4", {}},
    {37, "IQ4_NL_4_8", {}},
    {38, "IQ4_NL_8_8", {}},
    {39, "MXFP4", ElementType::kMXFP4},
    {40, "NVFP4", {}},
    {41, "Q1_0", {}},
};

// Bytes of one value of a type of fixed size; nothing for strings, arrays and unknown numbers.
std::optional<uint64_t> fixed_size(uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool: return 1;
    case GgufType::kU16:
    case GgufType::kI16: return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32: return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64: return 8;
    case GgufType::kString:
    case GgufType::kArray: break;
  }
  return std::nullopt;
}

}  // namespace

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), reader_(bytes) {
    file_.where_ = std::move(where);
  }

  GgufFile parse() {
    const auto [tensor_count, entry_count] = parse_header();
    for (uint64_t i = 0; i < entry_count; ++i) parse_entry();
    const uint64_t alignment = chosen_alignment();
    for (uint64_t i = 0; i < tensor_count; ++i) parse_tensor();
    place_tensors(alignment);
    return std::move(file_);
  }

  std::vector<ListedTensor> list() {
    const auto [tensor_count, entry_count] = parse_header();
    for (uint64_t i = 0; i < entry_count; ++i) parse_entry();
    std::vector<ListedTensor> listed;
    for (uint64_t i = 0; i < tensor_count; ++i) {
      const TableEntry entry = parse_table_entry();
      const auto* const row = std::ranges::find(kTypes, entry.type, &TypeRow::number);
      const bool is_known = row != std::end(kTypes);
      const auto dimensions = std::span(entry.tensor.dimensions).first(entry.tensor.dimension_count);
      listed.push_back({std::string(entry.tensor.name),
                        {dimensions.rbegin(), dimensions.rend()},
                        is_known ? std::string(row->name) : fmt::format("type {}", entry.type),
                        is_known && row->type.has_value()});
    }
    return listed;
  }

 private:
  // A tensor without the type and bytes that follow from it.
  struct TableEntry {
    GgufTensor tensor;
    uint32_t type;
    uint64_t offset;
  };

  struct Counts {
    uint64_t tensors, entries;
  };

  [[noreturn]] void fail(std::string_view place, std::string_view problem, std::string_view remedy = {}) const {
    throw Error(ErrorCode::kBadInput, fmt::format("{}: {}", file_.where_, place), problem, remedy);
  }

  template <typename Value>
  Value need(std::optional<Value> value, std::string_view place) const {
    if (!value) {
      fail(place, fmt::format("the file ends inside this field, which starts before byte {}", bytes_.size()),
           "fetch the file again: it is cut short or damaged");
    }
    return *value;
  }

  Counts parse_header() {
    if (need(reader_.number<uint32_t>(), "magic") != kMagic) fail("magic", "expected a GGUF file, found other contents");
    const auto version = need(reader_.number<uint32_t>(), "version");
    if (version != 2 && version != 3) {
      const bool big_endian = (version & 0xffffu) == 0 && version != 0;
      throw Error(ErrorCode::kUnsupported, file_.where_ + ": version",
                  big_endian ? std::string("the file is big endian; expected little endian")
                             : fmt::format("expected GGUF version 2 or 3, found {}", version),
                  "convert the model again with a current llama.cpp");
    }
    const auto tensors = need(reader_.number<uint64_t>(), "tensor count");
    const auto entries = need(reader_.number<uint64_t>(), "metadata count");
    if (entries > reader_.left() / kSmallestEntry) {
      fail("metadata count", fmt::format("{} entries do not fit in the {} bytes left", entries, reader_.left()));
    }
    if (tensors > reader_.left() / kSmallestTensor) {
      fail("tensor count", fmt::format("{} tensors do not fit in the {} bytes left", tensors, reader_.left()));
    }
    return {tensors, entries};
  }

  void parse_entry() {
    const auto key = need(reader_.text(), "metadata key");
    if (key.empty() || !is_valid_utf8(key)) {
      fail("metadata", fmt::format("the key \"{}\" is empty or not valid UTF-8", printable(key)));
    }
    const std::string place = fmt::format("key '{}'", printable(key));
    const auto type = need(reader_.number<uint32_t>(), place);
    const GgufValue value = type == static_cast<uint32_t>(GgufType::kArray) ? parse_array(place) : parse_elements(type, 1, place);
    if (!file_.metadata_.emplace(key, value).second) fail(place, "the key stands twice");
  }

  GgufValue parse_array(const std::string& place) {
    const auto type = need(reader_.number<uint32_t>(), place);
    if (type == static_cast<uint32_t>(GgufType::kArray)) {
      throw Error(ErrorCode::kUnsupported, fmt::format("{}: {}", file_.where_, place), "arrays of arrays are not read");
    }
    const auto count = need(reader_.number<uint64_t>(), place);
    GgufValue value = parse_elements(type, count, place);
    value.is_array = true;
    return value;
  }

  GgufValue parse_elements(uint32_t type, uint64_t count, const std::string& place) {
    GgufValue value{static_cast<GgufType>(type), false, count, {}};
    if (const auto size = fixed_size(type)) {
      const auto total = checked_multiply(count, *size);
      if (!total) fail(place, fmt::format("{} elements are more than any file holds", count));
      value.bytes = need(reader_.take(*total), place);
      if (value.type == GgufType::kBool) check_booleans(value, place);
      return value;
    }
    if (value.type != GgufType::kString) fail(place, fmt::format("unknown value type {}", type));
    const uint64_t start = reader_.position();
    if (count > reader_.left() / sizeof(uint64_t)) {
      fail(place, fmt::format("{} strings do not fit in the {} bytes left", count, reader_.left()));
    }
    for (uint64_t i = 0; i < count; ++i) need(reader_.text(), place);
    value.bytes = bytes_.subspan(start, reader_.position() - start);
    return value;
  }

  void check_booleans(const GgufValue& value, const std::string& place) const {
    const bool clean = std::ranges::all_of(value.bytes, [](std::byte byte) { return byte <= std::byte{1}; });
    if (!clean) fail(place, "a truth value is neither 0 nor 1");
  }

  uint64_t chosen_alignment() const {
    const auto alignment = file_.integer("general.alignment");
    if (!alignment) return kDefaultAlignment;
    if (!std::has_single_bit(*alignment) || *alignment > kLargestAlignment) {
      fail("key 'general.alignment'", fmt::format("expected a power of two from 1 to {}, found {}", kLargestAlignment, *alignment));
    }
    return *alignment;
  }

  TableEntry parse_table_entry() {
    TableEntry entry{};
    GgufTensor& tensor = entry.tensor;
    tensor.name = need(reader_.text(), "tensor name");
    if (tensor.name.empty() || !is_valid_utf8(tensor.name)) {
      fail("tensors", fmt::format("the name \"{}\" is empty or not valid UTF-8", printable(tensor.name)));
    }
    const std::string place = place_of(tensor);
    tensor.dimension_count = need(reader_.number<uint32_t>(), place);
    if (tensor.dimension_count == 0 || tensor.dimension_count > kMostDimensions) {
      fail(place, fmt::format("expected 1 to {} dimensions, found {}", kMostDimensions, tensor.dimension_count));
    }
    for (uint32_t i = 0; i < tensor.dimension_count; ++i) {
      tensor.dimensions[i] = need(reader_.number<uint64_t>(), place);
    }
    entry.type = need(reader_.number<uint32_t>(), place);
    entry.offset = need(reader_.number<uint64_t>(), place);
    return entry;
  }

  void parse_tensor() {
    auto [tensor, type, offset] = parse_table_entry();
    const std::string place = place_of(tensor);
    tensor.type = known_type(type, place);
    offsets_.push_back(offset);
    if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) fail(place, "the tensor stands twice");
    file_.tensors_.push_back(tensor);
  }

  static std::string place_of(const GgufTensor& tensor) { return fmt::format("tensor '{}'", printable(tensor.name)); }

  ElementType known_type(uint32_t number, const std::string& place) const {
    const auto* const row = std::ranges::find(kTypes, number, &TypeRow::number);
    if (row != std::end(kTypes) && row->type) return *row->type;
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: {}", file_.where_, place),
                row != std::end(kTypes) ? fmt::format("elements of type {} are not read", row->name)
                                        : fmt::format("unknown element type {}", number),
                "start from an F16, BF16 or F32 file of the model, which is the better source anyway");
  }

  uint64_t stored_size(const GgufTensor& tensor) const {
    const ElementLayout layout = layout_of(tensor.type);
    const uint64_t row = tensor.dimensions[0];
    if (row % layout.block_elements != 0) {
      fail(place_of(tensor),
           fmt::format("a row of {} elements is not a whole number of {} blocks of {}", row, layout.name, layout.block_elements));
    }
    const auto elements = checked_product(std::span(tensor.dimensions).first(tensor.dimension_count));
    const auto size = elements ? checked_multiply(*elements / layout.block_elements, layout.block_bytes) : std::nullopt;
    if (!size) fail(place_of(tensor), "the dimensions multiply to more than any file holds");
    return *size;
  }

  void place_tensors(uint64_t alignment) {
    const auto start = checked_add(reader_.position(), alignment - 1);
    const uint64_t data_start = *start / alignment * alignment;
    const uint64_t data_size = data_start <= bytes_.size() ? bytes_.size() - data_start : 0;
    std::vector<size_t> order(file_.tensors_.size());
    for (size_t i = 0; i < order.size(); ++i) {
      GgufTensor& tensor = file_.tensors_[i];
      const uint64_t offset = offsets_[i];
      if (offset % alignment != 0) fail(place_of(tensor), fmt::format("the offset {} is not a multiple of {}", offset, alignment));
      const uint64_t size = stored_size(tensor);
      if (offset > data_size || size > data_size - offset) {
        fail(place_of(tensor),
             fmt::format("{} bytes at offset {} reach beyond the {} bytes of tensor data", size, offset, data_size),
             "fetch the file again: it is cut short or damaged");
      }
      tensor.bytes = bytes_.subspan(data_start + offset, size);
      order[i] = i;
    }
    // A tensor without elements shares its offset with the one that follows; it has to come first.
    std::ranges::sort(order, {}, [&](size_t i) { return std::pair(offsets_[i], file_.tensors_[i].bytes.size()); });
    for (size_t i = 1; i < order.size(); ++i) {
      const GgufTensor& former = file_.tensors_[order[i - 1]];
      const GgufTensor& tensor = file_.tensors_[order[i]];
      if (former.bytes.data() + former.bytes.size() > tensor.bytes.data()) {
        fail(place_of(tensor), fmt::format("its bytes overlap those of {}", place_of(former)));
      }
    }
  }

  std::span<const std::byte> bytes_;
  GgufReader reader_;
  std::vector<uint64_t> offsets_;  // of the tensors, from the start of the data
  GgufFile file_;
};

void GgufFile::add_part(const GgufFile& part) {
  for (const GgufTensor& tensor : part.tensors_) {
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      throw Error(ErrorCode::kBadInput, fmt::format("{}: tensor '{}'", part.where_, printable(tensor.name)),
                  "is in another part of the model too");
    }
    tensors_.push_back(tensor);
  }
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string where) {
  refuse_git_lfs_pointer({reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 64)}, where);
  return GgufParser(bytes, std::move(where)).parse();
}

std::vector<ListedTensor> list_gguf(std::span<const std::byte> file, const std::string& where) {
  return GgufParser(file, where).list();
}

}  // namespace tritllm
