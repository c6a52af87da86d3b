// Owns a comparison as JSON: what `tritllm compare --json` prints, and what a later comparison takes its rows from.
#pragma once

#include <string_view>

#include "core/json.h"
#include "tasks/compare.h"

namespace tritllm {

Json to_json(const Comparison& comparison);

// What to_json() wrote, without the divergences of single tokens.
Comparison comparison_from_json(const JsonView& view);

}  // namespace tritllm
