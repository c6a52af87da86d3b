// Owns the fuzz target of io/manifest.h. The input is taken as it is, and once more as the text before a checksum that fits it,
// since no mutation would ever find one. A manifest that is accepted can be written, and read again as the same.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>

#include "core/checksum.h"
#include "core/error.h"
#include "core/json.h"
#include "io/manifest.h"
#include "tasks/model_card.h"
#include "tasks/report.h"

namespace {

using namespace tritllm;

void examine(std::string_view text) {
  Manifest manifest;
  try {
    manifest = parse_manifest(text, "fuzz");
  } catch (const Error&) {
    return;
  }
  const std::string written = manifest_text(manifest);
  if (manifest_text(parse_manifest(written, "fuzz again")) != written) std::abort();
  source_digest(manifest.tensors);
  json_text(report_json(manifest, {}, {}));
  const Json config = Json::object();
  for (const CardKind kind : {CardKind::kPacked, CardKind::kPlain})
    model_card(manifest, {.kind = kind, .config = config, .weight_bytes = 1000});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  examine(input);
  std::string fitted(input.substr(0, input.rfind("  \"checksum\": \"")));
  fitted += fmt::format("  \"checksum\": \"{}\"\n}}\n", checksum_of(fitted));
  examine(fitted);
  return 0;
}
