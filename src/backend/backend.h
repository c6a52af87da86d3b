// Owns the interface between a model and the device that it runs on: where weights, activations and the key/value cache live, and
// the operations that a forward pass is made of. Operations are batch-shaped and happen in the order of the calls; only read()
// waits for them. Does not own which operations a model needs (src/model).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "io/packed_checkpoint.h"
#include "io/source_tensor.h"
#include "kernels/tensor_kernels.h"

namespace tritllm {

using kernels::Activation;
using kernels::CacheType;

// A matrix of weights, [rows, columns], in whatever form the device wants.
class DeviceMatrix {
 public:
  virtual ~DeviceMatrix() = default;
  virtual uint64_t rows() const noexcept = 0;
  virtual uint64_t columns() const noexcept = 0;
  // What one multiplication with it reads.
  virtual uint64_t bytes() const noexcept = 0;
};

// Floats on the device.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual float* data() noexcept = 0;
};

// Vectors of `width` floats on the device, `stride` floats from one to the next. What lies between width and stride is zero.
struct Rows {
  float* data;
  size_t count, width, stride;
};

// The device memory of up to `capacity` rows.
struct RowStorage {
  std::unique_ptr<DeviceBuffer> buffer;
  size_t capacity = 0, width = 0, stride = 0;

  Rows first(size_t count) const noexcept { return {buffer->data(), count, width, stride}; }
};

// A vector of constants on the device: norm gains, biases.
struct DeviceVector {
  std::unique_ptr<DeviceBuffer> buffer;
  size_t width = 0;
};

struct CacheShape {
  uint32_t layers, key_value_heads, head_width;
  uint32_t slots;      // sequences that are alive at the same time
  uint32_t positions;  // tokens of each
  CacheType type;
};

// Keys and values of every layer, for each slot and position.
class KeyValueCache {
 public:
  virtual ~KeyValueCache() = default;
  virtual uint64_t bytes() const noexcept = 0;
};

// Rotary tables: cos and sin of position·frequency for every position, times `amplitude`.
struct RotaryFrequencies {
  std::vector<float> inverse_wavelengths;  // [rotated width / 2], radians per position
  float amplitude = 1.0f;

  bool operator==(const RotaryFrequencies&) const = default;
};

class RotaryTable {
 public:
  virtual ~RotaryTable() = default;
};

// Which sequence a row of activations belongs to, and where in it.
struct TokenPlace {
  uint32_t slot, position;
};

// One of several matrices that are multiplied with the same input.
struct Projection {
  const DeviceMatrix* weights;
  const DeviceVector* bias;  // null: none
  Rows out;
};

struct AttentionSettings {
  uint32_t layer;
  uint32_t heads;
  uint32_t window;  // how many positions a token sees, its own included; 0: all before it
  float scale;
  float softcap;  // 0: none
};

// A matrix as it lies in a file.
using WeightSource = std::variant<SourceTensor, TernaryMatrix>;

class Backend {
 public:
  virtual ~Backend() = default;
  // "cpu (avx2, 2 threads)"
  virtual std::string description() const = 0;

  // `source` and the files under it outlive the matrix, which may read them in place.
  virtual std::unique_ptr<DeviceMatrix> upload_matrix(const WeightSource& source) = 0;
  virtual DeviceVector upload_vector(std::span<const float> values) = 0;
  virtual RowStorage allocate_rows(size_t capacity, size_t width) = 0;  // zeros
  virtual std::unique_ptr<KeyValueCache> make_cache(const CacheShape& shape) = 0;
  virtual std::unique_ptr<RotaryTable> make_rotary_table(const RotaryFrequencies& frequencies, uint32_t positions) = 0;

  // out[i] = scale · row tokens[i] of the table.
  virtual void embed(const DeviceMatrix& table, std::span<const uint32_t> tokens, float scale, Rows out) = 0;
  // Each consecutive part of gain.width elements of each row, on its own. out may be x.
  virtual void rms_norm(Rows x, const DeviceVector& gain, float epsilon, Rows out) = 0;
  virtual void multiply(Rows x, std::span<const Projection> projections) = 0;
  // Rotates every head of each row by its place; element i of a head is paired with element i + half.
  virtual void rotate(Rows x, uint32_t heads, const RotaryTable& table, std::span<const TokenPlace> places) = 0;
  virtual void store(KeyValueCache& cache, uint32_t layer, Rows keys, Rows values, std::span<const TokenPlace> places) = 0;
  // Every row attends to what the cache holds of its sequence, up to its own position.
  virtual void attend(Rows queries, const KeyValueCache& cache, const AttentionSettings& settings,
                      std::span<const TokenPlace> places, Rows out) = 0;
  virtual void gate(Activation activation, Rows gate, Rows up, Rows out) = 0;
  virtual void add(Rows x, Rows to) = 0;
  // out[i] = row indices[i] of x.
  virtual void gather(Rows x, std::span<const uint32_t> indices, Rows out) = 0;
  // Waits for everything before it, then copies the rows, without padding.
  virtual void read(Rows x, std::span<float> out) = 0;
};

}  // namespace tritllm
