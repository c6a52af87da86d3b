// Owns the choice of a reader, and what a hub id looks like.
#include "io/model_source.h"

#include <algorithm>
#include <iterator>

#include "core/file.h"
#include "io/gguf_model.h"
#include "io/hf_folder.h"
#include "io/model_folder.h"
#include "io/model_location.h"
#include "io/tensor_list.h"

namespace tritllm {

std::optional<std::string> hub_id(std::string_view text) {
  constexpr std::string_view kHub = "https://huggingface.co/";
  if (text.starts_with(kHub)) text.remove_prefix(kHub.size());
  if (text.ends_with('/')) text.remove_suffix(1);
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
  const size_t slash = text.find('/');
  const bool is_id = slash != text.npos && slash > 0 && slash + 1 < text.size() && text.find('/', slash + 1) == text.npos &&
                     text.find_first_not_of(kAllowed) == text.npos && text.front() != '.';
  return is_id ? std::optional(std::string(text)) : std::nullopt;
}

ModelSource open_model(const std::filesystem::path& path) {
  const std::filesystem::path found = locate_model(path);
  return kind_of_target(found) == FileKind::kFolder ? open_hf_folder(found) : open_gguf_model(found);
}

std::vector<ListedTensor> list_tensors(const std::filesystem::path& path) {
  const std::filesystem::path found = locate_model(path);
  std::vector<ListedTensor> listed;
  const auto add = [&](std::vector<ListedTensor> more) { std::ranges::move(more, std::back_inserter(listed)); };
  if (kind_of_target(found) != FileKind::kFolder) {
    for (const std::filesystem::path& part : gguf_parts(found)) add(list_gguf(MappedFile::open(part).bytes(), part.string()));
    return listed;
  }
  for (const std::string& name : folder_entries(found)) {
    if (name.ends_with(".safetensors")) add(list_safetensors(map_model_file(found, name).bytes(), (found / name).string()));
  }
  return listed;
}

}  // namespace tritllm
