#include "tasks/comparison_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "tasks/svg.h"

namespace tritllm {

namespace {

// All lengths in SVG user units.
constexpr double kChartWidth = 400, kChartHeight = 320, kLeft = 70, kTop = 64, kBetween = 90, kLegendLine = 18;
constexpr double kSmallestShown = 1e-9;  // logarithms need a floor
constexpr size_t kMostTicks = 7;
// Okabe and Ito's colours, which people with any colour vision tell apart.
constexpr std::string_view kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"};

struct Point {
  double x, divergence, error;
  std::string label;
};

struct Series {
  std::string name;
  std::vector<Point> points;  // by x
};

// What the name adds to the series: "d3" of "optimal-d3".
std::string label_of(const NamedModel& model) {
  const bool repeats = model.name.starts_with(model.series) && model.name.size() > model.series.size() + 1;
  return repeats ? model.name.substr(model.series.size() + 1) : model.name;
}

template <typename Place>
std::vector<Series> series_of(const Comparison& comparison, Place place) {
  std::vector<Series> all;
  for (const ComparedModel& compared : comparison.models) {
    auto series = std::ranges::find(all, compared.model.series, &Series::name);
    if (series == all.end()) series = all.insert(series, {compared.model.series, {}});
    const Estimate& mean = compared.evaluation.divergence->mean;
    series->points.push_back({place(compared.size), mean.value, mean.standard_error, label_of(compared.model)});
  }
  for (Series& series : all) std::ranges::sort(series.points, {}, &Point::x);
  return all;
}

// The range of an axis, from and to a multiple of its step of 1, 2 or 5 times a power of ten.
struct Axis {
  double first, last, step;

  Axis(double smallest, double largest) {
    const double range = std::max(largest - smallest, 1e-6 * std::max(1.0, largest));
    step = std::pow(10.0, std::floor(std::log10(range / kMostTicks)));
    for (const double factor : {2.0, 2.5, 2.0}) {
      if (range / step > kMostTicks) step *= factor;
    }
    first = std::floor(smallest / step) * step;
    last = std::ceil(largest / step) * step;
    if (last <= first) last = first + step;
  }
};

class Chart {
 public:
  Chart(double left, std::string axis_title, std::vector<Series> series)
      : left_(left),
        axis_title_(std::move(axis_title)),
        series_(std::move(series)),
        scale_(divergences(), kSmallestShown),
        axis_(horizontal_axis()) {}

  std::string drawn() const {
    std::string out = grid();
    for (size_t i = 0; i < series_.size(); ++i) out += line(series_[i], kColours[i % std::size(kColours)]);
    return out;
  }

 private:
  std::vector<double> divergences() const {
    std::vector<double> values;
    for (const Series& series : series_) {
      for (const Point& point : series.points) values.push_back(point.divergence);
    }
    return values;
  }

  Axis horizontal_axis() const {
    double smallest = INFINITY, largest = 0.0;
    for (const Series& series : series_) {
      smallest = std::min(smallest, series.points.front().x);
      largest = std::max(largest, series.points.back().x);
    }
    return {smallest, largest};
  }

  double x_of(double value) const { return left_ + kChartWidth * (value - axis_.first) / (axis_.last - axis_.first); }
  double y_of(double divergence) const { return kTop + kChartHeight * (1.0 - scale_.share(divergence)); }

  std::string grid() const {
    std::string out;
    const auto rule = [&](double x1, double y1, double x2, double y2) {
      out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", x1, y1, x2, y2);
    };
    for (int power = scale_.lowest(); power <= scale_.highest(); ++power) {
      const double y = y_of(std::pow(10.0, power));
      rule(left_, y, left_ + kChartWidth, y);
      out +=
          fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n", left_ - 6, y + 4, std::pow(10.0, power));
    }
    const auto ticks = static_cast<int>(std::lround((axis_.last - axis_.first) / axis_.step));
    for (int tick = 0; tick <= ticks; ++tick) {
      const double value = axis_.first + tick * axis_.step, x = x_of(value);
      rule(x, kTop, x, kTop + kChartHeight);
      out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.4g}</text>\n", x, kTop + kChartHeight + 18, value);
    }
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", left_ + kChartWidth / 2,
                       kTop + kChartHeight + 38, axis_title_);
    return out;
  }

  std::string line(const Series& series, std::string_view colour) const {
    std::string points, marks;
    for (const Point& point : series.points) {
      const double x = x_of(point.x), y = y_of(point.divergence);
      points += fmt::format("{:.1f},{:.1f} ", x, y);
      marks += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>\n", x,
                           y_of(point.divergence - point.error), y_of(point.divergence + point.error), colour);
      marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"/>\n", x, y, colour);
      marks += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"11\" fill=\"{}\">{}</text>\n", x + 6, y - 5, colour,
                           svg::escaped(point.label));
    }
    return fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>\n", colour, points) + marks;
  }

  double left_;
  std::string axis_title_;
  std::vector<Series> series_;
  svg::LogScale scale_;
  Axis axis_;
};

std::string legend(const std::vector<Series>& series, double top) {
  std::string out;
  for (size_t i = 0; i < series.size(); ++i) {
    const double y = top + kLegendLine * static_cast<double>(i);
    const std::string_view colour = kColours[i % std::size(kColours)];
    out += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"3\"/>\n", kLeft, y - 4,
                       kLeft + 24, y - 4, colour);
    out += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", kLeft + 32, y, svg::escaped(series[i].name));
  }
  return out;
}

}  // namespace

std::string comparison_plot(const Comparison& comparison, const std::string& title) {
  const std::vector<Series> by_size =
      series_of(comparison, [](const ModelSize& size) { return static_cast<double>(size.bytes) / 1e6; });
  const std::vector<Series> by_bits = series_of(comparison, [](const ModelSize& size) { return size.matrix_bits_per_weight; });
  const double legend_top = kTop + kChartHeight + 66;
  const double width = kLeft + 2 * kChartWidth + kBetween + 50,
               height = legend_top + kLegendLine * static_cast<double>(by_size.size());
  std::string out = fmt::format("<text x=\"{}\" y=\"24\" font-size=\"15\">{}</text>\n", kLeft, svg::escaped(title));
  out += fmt::format("<text x=\"{}\" y=\"{}\">KL divergence from the source, nats a token</text>\n", kLeft, kTop - 14);
  out += Chart(kLeft, "MB of the whole file", by_size).drawn();
  out += Chart(kLeft + kChartWidth + kBetween, "bits per weight of the layers' matrices", by_bits).drawn();
  out += legend(by_size, legend_top);
  return svg::document(width, height, out);
}

}  // namespace tritllm
