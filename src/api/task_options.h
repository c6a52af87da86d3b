// Owns the options of tasks as one JSON object, with the names of the command line's flags. Does not own what the tasks do.
#pragma once

#include "core/json_fwd.h"
#include "tasks/quantize_model.h"

namespace tritllm::api {

// {"model", "out", "configs", "emit", "depth", "embed_depth", "head_depth", "name", "base_model", "license", "max_memory",
// "threads", "fresh", "calibration", "calibration_sequences", "calibration_tokens", "seed", "bits", "size"}; model and out are
// needed. Equal options give the bytes that `tritllm quantize` gives. Throws an Error that names the field.
QuantizeOptions read_quantize_options(const Json& options);

// [{"config", "was_complete", "report"}].
Json to_json(const std::vector<ConfigResult>& results);

// {"tensor", "tensors_done", "tensors_total", "weights_done", "weights_total", "seconds", "seconds_left"}; the last one may be
// null.
Json to_json(const QuantizeProgress& progress);

}  // namespace tritllm::api
