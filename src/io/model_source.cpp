// Owns the choice of a reader.
#include "io/model_source.h"

#include "core/file.h"
#include "io/gguf_model.h"
#include "io/hf_folder.h"
#include "io/model_location.h"

namespace tritllm {

ModelSource open_model(const std::filesystem::path& path) {
  const std::filesystem::path found = locate_model(path);
  return kind_of_target(found) == FileKind::kFolder ? open_hf_folder(found) : open_gguf_model(found);
}

}  // namespace tritllm
