// Owns the choice of a reader.
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
