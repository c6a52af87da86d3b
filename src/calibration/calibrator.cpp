#include "calibration/calibrator.h"

#include <algorithm>
#include <array>
#include <memory>

namespace tritllm {

namespace {

constexpr size_t kHeldBackOf = 16, kMostHeldBack = 4;  // one sequence of so many; as many as are looked at

double mean_square(std::span<const float> values) {
  double squares = 0;
  for (const float x : values) squares += double{x} * double{x};
  return squares / static_cast<double>(values.size());
}

class Calibrator {
 public:
  Calibrator(const ModelFiles& files, const CalibrationJob& job, const CalibrationDevice& device)
      : files_(files),
        job_(job),
        device_(device),
        config_(read_model_config(files.config, files.config_place)),
        source_(files, config_, *job.sequences, device.backend) {
    for (CalibratedOutput* const output : job.outputs)
      quantised_.push_back({output, std::make_unique<Stream>(files, config_, *job.sequences, device.backend)});
  }

  std::vector<std::string> run() {
    source_.embed();
    for (Quantised& model : quantised_) model.stream->embed();
    for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
      layer_ = layer;
      source_.load_layer(layer);
      for (Quantised& model : quantised_) model.stream->load_layer(layer);
      for (const LayerStage stage : kLayerStages) run_stage(stage);
    }
    return std::move(replaced_);
  }

 private:
  struct Quantised {
    CalibratedOutput* output;
    std::unique_ptr<Stream> stream;
    bool lacks_any = false;  // of the present stage's matrices
    InputMoments moments{};
  };

  void run_stage(LayerStage stage) {
    for (Quantised& model : quantised_) {
      take_finished(model, stage);
      model.moments = {};
    }
    collect_moments(stage);
    for (Quantised& model : quantised_) {
      if (model.lacks_any) round_matrices(model, stage);
    }
    source_.advance(stage);
    for (Quantised& model : quantised_) {
      job_.between_parts();
      model.stream->advance(stage);
    }
  }

  void take_finished(Quantised& model, LayerStage stage) {
    model.lacks_any = false;
    for (Linear* const linear : model.stream->linears(stage)) {
      const std::string name = tensor_name(*linear);
      if (model.output->depth(name) == 0) continue;
      if (auto weights = model.output->finished(name)) model.stream->replace(*linear, std::move(*weights));
      else model.lacks_any = true;
    }
  }

  void collect_moments(LayerStage stage) {
    const size_t width = source_.input_width(stage);
    const bool adds = (stage == LayerStage::kOutput || stage == LayerStage::kDown) && !source_.is_normed_after(stage);
    bool any = false;
    for (Quantised& model : quantised_) {
      if (!model.lacks_any) continue;
      any = true;
      model.moments.inputs = device_.algebra.make_sums(width, width);
      model.moments.cross = device_.algebra.make_sums(width, width);
      if (adds) model.moments.residual = device_.algebra.make_sums(config_.hidden, width);
    }
    if (!any) return;
    const double usual = adds ? usual_energy() : 0.0;
    std::vector<float> inputs, own_inputs, lost;
    for (size_t i = 0; i < job_.sequences->size(); ++i) {
      if (is_held_back(i)) continue;
      job_.between_parts();
      source_.read_inputs(stage, i, inputs);
      const std::span<const float> weights = weights_of(stage, i);
      for (Quantised& model : quantised_) {
        if (!model.lacks_any) continue;
        model.stream->read_inputs(stage, i, own_inputs);
        model.moments.inputs->add_symmetric(own_inputs, weights);
        model.moments.cross->add(inputs, own_inputs, weights);
        if (!adds) continue;
        lose(source_.hidden(i), model.stream->hidden(i), usual, lost);
        model.moments.residual->add(lost, own_inputs, weights);
      }
    }
  }

  std::span<const float> weights_of(LayerStage stage, size_t sequence) const {
    size_t first = 0;
    for (size_t i = 0; i < sequence; ++i) first += (*job_.sequences)[i].size();
    return job_.weights->at(layer_, stage).subspan(first, (*job_.sequences)[sequence].size());
  }

  // The median over all tokens of the mean square of the source's hidden states.
  double usual_energy() const {
    std::vector<double> energies;
    for (size_t i = 0; i < job_.sequences->size(); ++i) {
      const std::span<const float> hidden = source_.hidden(i);
      for (size_t at = 0; at < hidden.size(); at += config_.hidden)
        energies.push_back(mean_square(hidden.subspan(at, config_.hidden)));
    }
    const auto middle = energies.begin() + static_cast<std::ptrdiff_t>(energies.size() / 2);
    std::nth_element(energies.begin(), middle, energies.end());
    return *middle;
  }

  // r − r̂ of each token. The few tokens whose hidden states are thousands of times as large as the others' have errors to match,
  // which no later matrix could or should make good: they count less as their energy is above the usual one.
  void lose(std::span<const float> source, std::span<const float> own, double usual, std::vector<float>& out) const {
    out.resize(source.size());
    device_.pool.parallel_for(out.size() / config_.hidden, [&](size_t row, unsigned) {
      const size_t at = row * config_.hidden;
      const double energy = mean_square(source.subspan(at, config_.hidden));
      const auto share = static_cast<float>(energy > usual ? usual / energy : 1.0);
      for (size_t k = at; k < at + config_.hidden; ++k) out[k] = share * (source[k] - own[k]);
    });
  }

  // With so few sequences that none can be spared, none is; then losses() looks at the first.
  bool is_held_back(size_t sequence) const noexcept {
    return job_.sequences->size() >= kHeldBackOf && sequence % kHeldBackOf == kHeldBackOf - 1;
  }

  // What a matrix of this model loses on what is held back: Σ w·|W·x − Q·x̂|² for each of the roundings Q.
  std::vector<double> losses(Quantised& model, LayerStage stage, const std::vector<float>& weights,
                             std::span<const std::vector<float>> roundings) {
    const size_t width = source_.input_width(stage), rows = weights.size() / width;
    const auto source = device_.algebra.keep_across(weights, width, rows);
    std::vector<std::unique_ptr<AlgebraMatrix>> rounded;
    for (const std::vector<float>& rounding : roundings) rounded.push_back(device_.algebra.keep_across(rounding, width, rows));
    std::vector<double> sums(roundings.size()), token_sums;
    std::vector<float> inputs, own_inputs, expected, found;
    size_t used = 0;
    for (size_t i = job_.sequences->size() < kHeldBackOf ? 0 : kHeldBackOf - 1; i < job_.sequences->size() && used < kMostHeldBack;
         i += kHeldBackOf, ++used) {
      source_.read_inputs(stage, i, inputs);
      model.stream->read_inputs(stage, i, own_inputs);
      const std::span<const float> token_weights = weights_of(stage, i);
      device_.algebra.multiply(inputs, *source, expected);
      for (size_t k = 0; k < rounded.size(); ++k) {
        device_.algebra.multiply(own_inputs, *rounded[k], found);
        token_sums.resize(token_weights.size());
        device_.pool.parallel_for(token_sums.size(), [&](size_t token, unsigned) {
          double sum = 0;
          for (size_t at = token * rows; at < (token + 1) * rows; ++at) {
            const double lost = double{expected[at]} - double{found[at]};
            sum += lost * lost;
          }
          token_sums[token] = double{token_weights[token]} * sum;
        });
        for (const double sum : token_sums) sums[k] += sum;
      }
    }
    return sums;
  }

  void round_matrices(Quantised& model, LayerStage stage) {
    const MomentFactors factors(model.moments, job_.conditioning, device_.algebra, device_.pool);
    const bool takes_residual = model.moments.residual != nullptr;
    model.moments = {};
    for (Linear* const linear : model.stream->linears(stage)) {
      const std::string name = tensor_name(*linear);
      const int depth = model.output->depth(name);
      if (depth == 0 || model.output->finished(name)) continue;
      job_.between_parts();
      const SourceTensor& tensor = *files_.weights.at(name).dense();
      const std::vector<float> weights = float32_of(tensor);
      const codec::MatrixShape shape{.rows = tensor.rows(), .columns = tensor.columns()};
      CalibratedMatrix matrix =
          calibrate_matrix(weights, shape, depth, factors, takes_residual, *device_.kernels.groups, device_.pool);
      CalibratedMatrix optimal = optimal_matrix(weights, shape, depth, *device_.kernels.groups, device_.pool);
      const std::vector<double> lost =
          losses(model, stage, weights, std::array{matrix.decoded(device_.pool), optimal.decoded(device_.pool)});
      if (!(lost[0] <= lost[1])) {
        matrix = std::move(optimal);
        replaced_.push_back(name);
      }
      model.stream->replace(*linear, model.output->store(name, matrix));
    }
  }

  std::vector<float> float32_of(const SourceTensor& tensor) const {
    std::vector<float> weights(tensor.elements());
    const size_t columns = tensor.columns();
    device_.pool.parallel_for(tensor.rows(), [&](size_t row, unsigned) {
      read_float32(tensor, row * columns, std::span(weights).subspan(row * columns, columns));
    });
    return weights;
  }

  static std::string tensor_name(const Linear& linear) { return linear.name + ".weight"; }

  const ModelFiles& files_;
  const CalibrationJob& job_;
  const CalibrationDevice device_;
  const ModelConfig config_;
  Stream source_;
  uint32_t layer_ = 0;
  std::vector<Quantised> quantised_;
  std::vector<std::string> replaced_;
};

}  // namespace

std::vector<std::string> calibrate(const ModelFiles& files, const CalibrationJob& job, const CalibrationDevice& device) {
  return Calibrator(files, job, device).run();
}

uint64_t calibration_memory(const ModelConfig& config, uint64_t tokens, size_t outputs) noexcept {
  const uint64_t hidden = config.hidden, between = std::max(config.query_width(), config.feed_forward);
  const uint64_t widest = std::max(hidden, between), models = outputs + 1;
  const uint64_t streams = tokens * (hidden + between) * sizeof(float);
  const uint64_t layer =
      (2 * hidden * (config.query_width() + config.key_value_width()) + 3 * hidden * config.feed_forward) * sizeof(float);
  const uint64_t moments = (2 * widest + hidden) * widest * sizeof(double);
  // Conditioned moments and Eigen's copies of them in float64, and what is made of them in float32.
  const uint64_t factors = widest * widest * (5 * sizeof(double) + 5 * sizeof(float)), matrix = 8 * hidden * widest * sizeof(float);
  return models * (streams + layer) + outputs * moments + factors + matrix;
}

uint64_t calibration_device_memory(const ModelConfig& config, size_t outputs) noexcept {
  const uint64_t hidden = config.hidden, widest = std::max({hidden, uint64_t{config.query_width()}, uint64_t{config.feed_forward}});
  const uint64_t layer = (2 * hidden * (config.query_width() + config.key_value_width()) + 3 * hidden * config.feed_forward) * 2;
  const uint64_t sums = (2 * widest + hidden) * widest * (sizeof(double) + sizeof(float));
  const uint64_t factors = widest * widest * (2 * sizeof(double) + 5 * sizeof(float)), matrix = 6 * hidden * widest * sizeof(float);
  const uint64_t head = uint64_t{config.vocabulary} * hidden * (sizeof(float) + 2);
  return (outputs + 1) * layer + outputs * sums + std::max(factors + matrix, head) + (uint64_t{1} << 30);
}

}  // namespace tritllm
