// Owns the marks by which a quantised model is known: fields of config.json, files, element types and names of tensors.
#include "io/quantised_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "io/hf_folder.h"

namespace tritllm {
namespace {

constexpr std::array<std::string_view, 3> kConfigFields{"quantization_config", "quantization", "compression_config"};
constexpr std::array<std::string_view, 3> kFiles{"hf_quant_config.json", "quantize_config.json", "quant_config.json"};

// Last parts of the names of tensors that hold weights in a packed form, and who writes them.
struct PackedForm {
  std::string_view ending, method;
};
constexpr std::array<PackedForm, 12> kPackedForms{{{".qweight", "GPTQ or AWQ"},
                                                   {".qzeros", "GPTQ or AWQ"},
                                                   {".absmax", "bitsandbytes, 4 bits"},
                                                   {".quant_map", "bitsandbytes, 4 bits"},
                                                   {".weight_packed", "compressed-tensors"},
                                                   {".compressed", "compressed-tensors, sparse"},
                                                   {".bitmask", "compressed-tensors, sparse"},
                                                   {"_blocks", "MXFP4"},
                                                   {".W_q", "HQQ"},
                                                   {".B_scale", "Marlin"},
                                                   {".codebooks", "AQLM"},
                                                   {".trellis", "EXL3"}}};

// Companions of a matrix that serve other parts of a computation: quantised activations, caches, checks.
constexpr std::array<std::string_view, 9> kIdleCompanions{
    ".input_scale", ".output_scale", ".activation_scale", ".input_global_scale", ".k_scale",
    ".v_scale",     ".q_scale",      ".kv_scale",         ".weight_format"};

constexpr std::string_view kBitLinear = "bitlinear";  // the usual linear_class of BitNetQuantConfig
constexpr uint64_t kUsualBlock = 128;
constexpr std::string_view kRemedy = "start from the model as it was before it was quantised";

// A field of the config, or a file, that says how the weights are quantised.
struct Mark {
  std::string place, method;
};

std::string method_of(const Json& settings) {
  if (!settings.is_object()) return "unknown";
  for (const char* const key : {"quant_method", "quant_algo", "format", "mode"}) {
    if (const auto found = settings.find(key); found != settings.end() && found->is_string()) return found->get<std::string>();
  }
  if (const auto nested = settings.find("quantization"); nested != settings.end() && nested->is_object()) return method_of(*nested);
  if (const auto bits = settings.find("bits"); bits != settings.end() && bits->is_number_integer()) {
    return fmt::format("{} bits", bits->get<int64_t>());
  }
  return "unknown";
}

bool is_mark(const std::string& key, const Json& value) {
  const bool says_nothing = value.is_null() || (value.is_object() && value.empty());
  return !says_nothing && std::ranges::find(kConfigFields, key) != kConfigFields.end();
}

// Removes the marks from an object and all objects inside it, and returns them.
void take_marks(Json& object, const std::string& place, std::vector<Mark>& marks, std::vector<Json>& settings) {
  std::vector<std::string> found;
  for (auto& [key, value] : object.items()) {
    if (is_mark(key, value)) {
      marks.push_back({fmt::format("{}/{}", place, key), method_of(value)});
      if (value.is_object()) settings.push_back(value);
      found.push_back(key);
    } else if (value.is_object()) {
      take_marks(value, fmt::format("{}/{}", place, key), marks, settings);
    }
  }
  for (const std::string& key : found) object.erase(key);
}

class Settling {
 public:
  explicit Settling(ModelSource& model) : model_(model) {}

  void run() {
    collect_marks();
    for (size_t i = 0; i < model_.tensors.size(); ++i) index_.emplace(model_.tensors[i].name, i);
    if (const Json* const settings = settings_of("bitnet")) return settle_bitnet(*settings);
    for (const SourceTensor& tensor : model_.tensors) refuse_packed(tensor);
    size_t scaled = 0;
    for (SourceTensor& tensor : model_.tensors) scaled += static_cast<size_t>(attach_scales(tensor));
    if (scaled == 0 && marks_.empty()) return;
    if (scaled == 0) {
      throw Error(ErrorCode::kUnsupported, marks_.front().place,
                  fmt::format("says that the model is already quantised ('{}'), but every weight is stored plainly",
                              printable(marks_.front().method)),
                  "remove this from a copy whose weights are to be used as they are stored");
    }
    drop_companions();
    model_.quantising_warnings.push_back(
        fmt::format("The weights were already quantised ({} matrices of 8 bits with scales): quantising them again adds error to "
                    "error, so start from the original model where you can.",
                    scaled));
  }

 private:
  void collect_marks() {
    take_marks(*model_.config, (model_.path / "config.json").string() + ": ", marks_, settings_);
    const auto is_file = [&](const SideFile& file) { return std::ranges::find(kFiles, file.name) != kFiles.end(); };
    for (const SideFile& file : model_.side_files) {
      if (!is_file(file)) continue;
      const std::string place = (model_.path / file.name).string();
      if (file.contents.size() > kLargestConfig)
        throw Error(ErrorCode::kBadInput, place,
                    fmt::format("expected at most {} bytes, found {}", kLargestConfig, file.contents.size()));
      const Json settings = parse_python_json(file.contents, place);
      if (!settings.is_object()) continue;
      marks_.push_back({place, method_of(settings)});
      settings_.push_back(settings);
    }
    std::erase_if(model_.side_files, is_file);
  }

  [[noreturn]] void refuse(const std::string& place, std::string_view problem) const {
    std::string named;
    if (!marks_.empty()) named = fmt::format(" ({}: '{}')", marks_.front().place, printable(marks_.front().method));
    throw Error(ErrorCode::kUnsupported, place, fmt::format("{}{}", problem, named), kRemedy);
  }

  void refuse_packed(const SourceTensor& tensor) const {
    for (const PackedForm& form : kPackedForms) {
      if (tensor.name.ends_with(form.ending)) {
        refuse(tensor.place, fmt::format("the weights are quantised already, in the way of {}", form.method));
      }
    }
    const bool is_integer = tensor.type == ElementType::kU8 || tensor.type == ElementType::kU32 ||
                            tensor.type == ElementType::kI32 || tensor.type == ElementType::kU16 ||
                            tensor.type == ElementType::kI16;
    if (is_integer && tensor.shape.size() >= 2 && tensor.name.ends_with(".weight")) {
      refuse(tensor.place,
             fmt::format("the weights are quantised already and packed into elements of type {}", layout_of(tensor.type).name));
    }
  }

  // What the first mark of the method says, or null.
  const Json* settings_of(std::string_view method) const {
    const auto found = std::ranges::find_if(settings_, [&](const Json& settings) { return method_of(settings) == method; });
    return found == settings_.end() ? nullptr : &*found;
  }

  // Models that are ternary by birth, as transformers' class BitNetQuantConfig describes them. Every matrix of a layer is packed,
  // with one scale that divides the trits (linear_class bitlinear) or multiplies them (autobitlinear), and multiplies activations
  // of eight bits a token.
  void settle_bitnet(const Json& settings) {
    refuse_other_bitnets(settings);
    const bool divides = text_of(settings, "linear_class", kBitLinear) == kBitLinear;
    size_t packed = 0;
    for (SourceTensor& tensor : model_.tensors) {
      const bool is_matrix = tensor.shape.size() == 2 && tensor.name.ends_with(".weight");
      const bool is_packed = is_matrix && tensor.type == ElementType::kU8;
      const bool is_of_layer = tensor.name.find(".layers.") != tensor.name.npos;
      if (is_packed) {
        // The activations of other matrices, such as the head, are not rounded here.
        if (!is_of_layer) refuse(tensor.place, "a packed matrix outside the layers");
        attach_trits(tensor, divides);
        ++packed;
      } else {
        refuse_packed(tensor);
        if (is_matrix && is_of_layer) refuse(tensor.place, "a matrix of a layer that is not packed as the others are");
      }
    }
    if (packed == 0) refuse(marks_.front().place, "no matrix is packed");
    drop_companions();
    (*model_.config)[kActivationBitsField] = 8;
    model_.quantising_warnings.push_back(fmt::format(
        "The model is ternary by birth ({} matrices): the recipe 'exact' keeps its weights as they are. Its matrices multiply "
        "activations of eight bits; transformers does not round them in FP16 folders.",
        packed));
  }

  static std::string text_of(const Json& settings, const char* key, std::string_view fallback) {
    const auto found = settings.find(key);
    if (found == settings.end()) return std::string(fallback);
    return found->is_string() ? found->get<std::string>() : found->dump();
  }

  void refuse_other_bitnets(const Json& settings) const {
    const std::string& place = marks_.front().place;
    const std::string mode = text_of(settings, "quantization_mode", "offline");
    if (mode != "offline") {
      throw Error(
          ErrorCode::kUnsupported, place,
          fmt::format("the model's weights are quantised while it runs ('bitnet', quantization_mode '{}')", printable(mode)),
          "use the model's packed checkpoint (quantization_mode 'offline')");
    }
    const std::string linear = text_of(settings, "linear_class", kBitLinear);
    if (linear != kBitLinear && linear != "autobitlinear") {
      throw Error(ErrorCode::kUnsupported, place, fmt::format("linear_class '{}'", printable(linear)),
                  "tritllm reads bitlinear and autobitlinear");
    }
    if (const auto norm = settings.find("use_rms_norm"); norm != settings.end() && *norm != Json(false)) {
      throw Error(ErrorCode::kUnsupported, place, "use_rms_norm: each matrix has a norm of its own",
                  "tritllm reads models without such norms");
    }
  }

  // Of a packed matrix, and of its bias.
  void attach_trits(SourceTensor& tensor, bool divides) {
    const SourceTensor* const scale = find(tensor.name + "_scale");
    if (scale == nullptr) refuse(tensor.place, fmt::format("packed trits without their scale ('{}_scale')", tensor.name));
    if (scale->elements() != 1) refuse(scale->place, "expected one scale");
    float value = 0.0f;
    if (is_weight_type(scale->type)) read_float32(*scale, 0, {&value, 1});
    if (!std::isfinite(value) || value <= 0.0f) refuse(scale->place, fmt::format("expected a scale above 0, found {}", value));
    constexpr uint64_t kTritsInByte = 4;
    tensor.shape[0] *= kTritsInByte;
    tensor.type = ElementType::kScaledTritRows;
    tensor.scales = scales_of(tensor, *scale);
    tensor.scales.divide = divides;
    companions_.insert(tensor.name + "_scale");
    // autobitlinear adds the bias before it multiplies by the scale.
    const auto bias = index_.find(base_of(tensor.name) + ".bias");
    if (bias == index_.end() || divides) return;
    SourceTensor& added = model_.tensors[bias->second];
    added.scales = {.type = scale->type, .bytes = scale->bytes, .block_rows = 1, .block_columns = added.columns()};
  }

  const SourceTensor* find(const std::string& name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &model_.tensors[found->second];
  }

  static std::string base_of(const std::string& name) {
    constexpr std::string_view kWeight = ".weight";
    return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
  }

  bool attach_scales(SourceTensor& tensor) {
    const auto type = scaled_type(tensor.type);
    if (!type || tensor.shape.size() < 2) return false;
    const std::string base = base_of(tensor.name);
    struct Candidate {
      std::string name;
      float unit;
    };
    const Candidate candidates[] = {{tensor.name + "_scale_inv", 1.0f},
                                    {tensor.name + "_scale", 1.0f},
                                    {base + ".scale", 1.0f},
                                    {base + ".SCB", 1.0f / 127.0f}};
    for (const Candidate& candidate : candidates) {
      const SourceTensor* const scale = find(candidate.name);
      if (scale == nullptr) continue;
      refuse_zero_points(tensor.name + "_zero_point");
      tensor.scales = scales_of(tensor, *scale);
      tensor.scales.unit = candidate.unit;
      tensor.type = *type;
      companions_.insert(candidate.name);
      return true;
    }
    if (tensor.type == ElementType::kF8E4M3 || tensor.name.ends_with(".weight")) {
      refuse(tensor.place, fmt::format("elements of type {} without scales ('{}_scale' or '{}_scale_inv')",
                                       layout_of(tensor.type).name, tensor.name, tensor.name));
    }
    return false;
  }

  void refuse_zero_points(const std::string& name) {
    const SourceTensor* const zeros = find(name);
    if (zeros == nullptr) return;
    if (std::ranges::any_of(zeros->bytes, [](std::byte byte) { return byte != std::byte{0}; })) {
      refuse(zeros->place, "the weights are quantised around zero points other than 0");
    }
    companions_.insert(name);
  }

  // [block rows, block columns], where one of the marks states them.
  std::optional<std::array<uint64_t, 2>> stated_block() const {
    for (const Json& settings : settings_) {
      const auto found = settings.find("weight_block_size");
      if (found == settings.end() || !found->is_array() || found->size() != 2) continue;
      if (!(*found)[0].is_number_unsigned() || !(*found)[1].is_number_unsigned()) continue;
      const std::array<uint64_t, 2> block{(*found)[0].get<uint64_t>(), (*found)[1].get<uint64_t>()};
      if (block[0] != 0 && block[1] != 0) return block;
    }
    return std::nullopt;
  }

  static bool covers(uint64_t extent, uint64_t block, uint64_t count) {
    return block != 0 && (extent / block + (extent % block != 0 ? 1 : 0)) == count;
  }

  // The block's extent along one dimension of `extent` elements with `count` scales; nothing where none fits.
  static std::optional<uint64_t> block_of(uint64_t extent, uint64_t count, uint64_t stated) {
    if (count == 1 && extent <= stated) return extent;
    if (covers(extent, stated, count)) return stated;
    return count != 0 && extent % count == 0 ? std::optional(extent / count) : std::nullopt;
  }

  WeightScales scales_of(const SourceTensor& tensor, const SourceTensor& scale) const {
    const auto plain = [](ElementType type) { return is_weight_type(type) && !is_quantised_type(type); };
    if (!plain(scale.type)) refuse(scale.place, fmt::format("scales of type {}", layout_of(scale.type).name));
    const auto block = stated_block().value_or(std::array{kUsualBlock, kUsualBlock});
    std::vector<uint64_t> counts = scale.shape;
    if (counts.empty()) counts = {1};
    // One scale, or one for each row.
    if (counts.size() == 1) counts.push_back(1);
    if (scale.elements() == 1) counts.assign(tensor.shape.size(), 1);
    const bool is_stack = tensor.shape.size() == 3;
    if (counts.size() != tensor.shape.size() || (is_stack && scale.elements() != 1 && counts[0] != tensor.shape[0])) {
      refuse(scale.place, "scales of another shape than the matrix");
    }
    const uint64_t rows = tensor.shape[tensor.shape.size() - 2], columns = tensor.columns();
    const uint64_t row_count = counts[counts.size() - 2], column_count = counts.back();
    auto block_rows = block_of(rows, row_count, block[0]);
    const auto block_columns = block_of(columns, column_count, block[1]);
    if (!block_rows || !block_columns || scale.elements() == 0) refuse(scale.place, "scales of another shape than the matrix");
    if (scale.elements() == 1) block_rows = tensor.rows();
    // The rows of a stack are counted through: a block must not reach over the end of a matrix.
    else if (is_stack && rows % *block_rows != 0) refuse(scale.place, "blocks of scales that do not divide the rows of a stack");
    return {.type = scale.type, .bytes = scale.bytes, .block_rows = *block_rows, .block_columns = *block_columns};
  }

  void drop_companions() {
    const auto is_companion = [&](const SourceTensor& tensor) {
      const auto ends = [&](std::string_view ending) { return tensor.name.ends_with(ending); };
      return companions_.contains(tensor.name) || std::ranges::any_of(kIdleCompanions, ends);
    };
    std::erase_if(model_.tensors, is_companion);
  }

  ModelSource& model_;
  std::vector<Mark> marks_;
  std::vector<Json> settings_;  // what each mark says
  std::unordered_map<std::string, size_t> index_;
  std::unordered_set<std::string> companions_;
};

}  // namespace

void settle_quantisation(ModelSource& model) { Settling(model).run(); }

}  // namespace tritllm
