// Owns how progress looks: a bar that redraws itself on a terminal, a line now and then in a log.
#pragma once

#include <string>

#include "tasks/quantize_model.h"

namespace tritllm::app {

class ProgressBar {
 public:
  ProgressBar();
  void show(const QuantizeProgress& progress);
  // Leaves the cursor on a line of its own.
  void finish();

 private:
  bool terminal_;
  double last_shown_ = -1e9;
  bool drawn_ = false;
};

}  // namespace tritllm::app
