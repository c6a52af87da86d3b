#include "tasks/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/printable.h"

namespace tritllm::svg {

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : printable(text)) {
    if (c == '<') safe += "&lt;";
    else if (c == '>') safe += "&gt;";
    else if (c == '&') safe += "&amp;";
    else safe += c;
  }
  return safe;
}

std::string document(double width, double height, std::string_view body) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n{2}</svg>\n",
      width, height, body);
}

LogScale::LogScale(std::span<const double> values, double floor) : floor_(floor) {
  double smallest = 1.0, largest = floor;
  for (const double value : values) {
    if (value > floor) smallest = std::min(smallest, value);
    largest = std::max(largest, value);
  }
  lowest_ = static_cast<int>(std::floor(std::log10(std::min(smallest, largest))));
  highest_ = std::max(lowest_ + 1, static_cast<int>(std::ceil(std::log10(largest))));
}

double LogScale::share(double value) const {
  const double shown = value > floor_ ? value : floor_;  // NaN is none
  return std::clamp((std::log10(shown) - lowest_) / (highest_ - lowest_), 0.0, 1.0);
}

}  // namespace tritllm::svg
