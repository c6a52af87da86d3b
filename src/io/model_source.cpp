#include "io/model_source.h"

#include "core/error.h"
#include "io/gguf_model.h"
#include "io/hf_folder.h"

namespace tritllm {

ModelSource open_model(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return open_hf_folder(path);
  if (std::filesystem::exists(path, error)) return open_gguf_model(path);
  throw Error(ErrorCode::kNotFound, path.string(), "no such file or folder",
              "name a Hugging Face model folder with safetensors weights, or a GGUF file");
}

}  // namespace tritllm
