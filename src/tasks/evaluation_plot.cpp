#include "tasks/evaluation_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tasks/svg.h"

namespace tritllm {

namespace {

// All lengths in SVG user units.
constexpr double kChartWidth = 380, kChartHeight = 260, kLeft = 70, kTop = 60, kBetween = 90;
constexpr double kSmallestShown = 1e-9;  // logarithms need a floor
constexpr size_t kMostPoints = 400;

// Values over equally spaced places from 0 to 1, drawn in a box whose left edge is at x.
class Chart {
 public:
  Chart(double x, std::string title, std::string first_label, std::string last_label, const std::vector<double>& values)
      : x_(x),
        title_(std::move(title)),
        first_label_(std::move(first_label)),
        last_label_(std::move(last_label)),
        values_(values),
        scale_(values, kSmallestShown) {}

  std::string svg() const {
    std::string out = fmt::format("<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text>\n", x_, kTop - 14, title_);
    for (int power = scale_.lowest(); power <= scale_.highest(); ++power) {
      const double y = height_of(std::pow(10.0, power));
      out += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", x_, y, x_ + kChartWidth, y);
      out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">1e{}</text>\n", x_ - 6, y + 4, power);
    }
    const double below = kTop + kChartHeight + 18;
    out += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", x_, below, first_label_);
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", x_ + kChartWidth, below, last_label_);
    return out + curve();
  }

 private:
  double height_of(double value) const { return kTop + kChartHeight * (1.0 - scale_.share(value)); }

  std::string curve() const {
    std::string points;
    const size_t count = std::min(values_.size(), kMostPoints);
    for (size_t i = 0; i < count; ++i) {
      const double place = count == 1 ? 0.5 : static_cast<double>(i) / static_cast<double>(count - 1);
      const auto index = static_cast<size_t>(std::lround(place * static_cast<double>(values_.size() - 1)));
      points += fmt::format("{:.1f},{:.1f} ", x_ + place * kChartWidth, height_of(values_[index]));
    }
    return fmt::format("<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2\" points=\"{}\"/>\n", points);
  }

  double x_;
  std::string title_, first_label_, last_label_;
  const std::vector<double>& values_;
  svg::LogScale scale_;
};

}  // namespace

std::string evaluation_plot(const Evaluation& evaluation, const std::string& title) {
  const double width = kLeft + 2 * kChartWidth + kBetween + 30, height = kTop + kChartHeight + 60;
  std::string out = fmt::format("<text x=\"{}\" y=\"24\" font-size=\"15\">{}</text>\n", kLeft, svg::escaped(title));
  out += Chart(kLeft, "Relative error of the hidden states", "first layer", "last layer", evaluation.layer_errors).svg();
  out +=
      Chart(kLeft + kChartWidth + kBetween, "KL divergence of the tokens, nats", "least", "largest", evaluation.sorted_divergences)
          .svg();
  const Divergence& divergence = *evaluation.divergence;
  out += fmt::format("<text x=\"{}\" y=\"{}\">mean {:.3g}, median {:.3g}, 99 % {:.3g}; same top token {:.1f} %</text>\n",
                     kLeft + kChartWidth + kBetween, kTop + kChartHeight + 40, divergence.mean.value, divergence.median.value,
                     divergence.percentile_99.value, 100.0 * divergence.same_top_token.value);
  return svg::document(width, height, out);
}

}  // namespace tritllm
