// Owns the grammar of templates: tokens to a syntax tree. What Jinja has and this engine lacks is refused here, by name and line.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/ast.h"

namespace tritllm::jinja {

Body parse_template(std::string_view source, const std::string& where);

}  // namespace tritllm::jinja
