// Writes the inputs from which fuzzing of GGUF files starts: tiny complete models of both kinds of vocabulary.
#include <cstdio>
#include <filesystem>

#include "core/file.h"
#include "io/gguf_models.h"

int main(int count, char** arguments) {
  using namespace tritllm;
  if (count != 2) {
    std::fputs("usage: gguf_seeds FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  create_folders(folder);
  Fields scaled = fields();
  scaled["llama.rope.scaling.type"] = text("linear");
  scaled["llama.rope.scaling.factor"] = f32(2.0f);
  scaled["tokenizer.chat_template"] = text("{{ x }}");
  GgufBuilder factors = builder_of(fields());
  factors.add_f32_tensor("rope_freqs.weight", {1}, 1.0f);
  write_file_atomically(folder / "byte_level.gguf", builder_of(fields()).build());
  write_file_atomically(folder / "sentencepiece.gguf", builder_of(sentencepiece_fields()).build());
  write_file_atomically(folder / "scaled.gguf", builder_of(scaled).build());
  write_file_atomically(folder / "factors.gguf", factors.build());
  return 0;
}
