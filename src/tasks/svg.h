// Owns what the pictures of this program share: the frame of an SVG document, its text, and logarithmic scales. Does not own what
// is drawn (evaluation_plot.h, comparison_plot.h).
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tritllm::svg {

// A text that came from outside, as the content of an element.
std::string escaped(std::string_view text);

// A document of width × height user units with a white ground and text of 12 units.
std::string document(double width, double height, std::string_view body);

// A range of whole powers of ten that holds the values above `floor`; smaller ones are shown at its lower end.
class LogScale {
 public:
  LogScale(std::span<const double> values, double floor);

  int lowest() const noexcept { return lowest_; }
  int highest() const noexcept { return highest_; }
  // Where a value lies between the lowest power (0) and the highest (1).
  double share(double value) const;

 private:
  double floor_;
  int lowest_, highest_;
};

}  // namespace tritllm::svg
