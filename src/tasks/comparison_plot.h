// Owns the picture of a comparison. Does not own the figures (compare.h).
#pragma once

#include <string>

#include "tasks/compare.h"

namespace tritllm {

// An SVG document of two charts: the KL divergence over the megabytes of the whole file, and over the bits per weight of the
// layers' matrices. One line for each series, in the order of size; bars are standard errors. Needs at least one model.
std::string comparison_plot(const Comparison& comparison, const std::string& title);

}  // namespace tritllm
