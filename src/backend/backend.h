// Owns the interface between a model and the device that it runs on: where weights, activations and the key/value cache are kept,
// and the operations of a forward pass. Does not own which operations a model needs (src/model) nor how files hold weights
// (src/io).
//
// Operations work on whole batches and take effect in the order of the calls. A device may run them later: only read(), and
// tokens() of a choice, wait. What varies from one forward pass to the next is in a Step, which the device copies once and which
// operations read there; so a device may record the operations of a pass once (run()) and replay them for later steps of the same
// shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sampling/draw.h"

namespace tritllm {

class WeightSource;

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf, kReluSquared };

// Element type of cached keys and values. Those of eight bits share a scale within a head's key or value of a position
// (kernels/attention.h).
enum class CacheType : uint8_t { kFloat32, kFloat16, kFloat8, kInt8 };
inline constexpr std::string_view kCacheTypeNames[] = {"f32", "f16", "fp8", "int8"};
inline std::string_view name_of(CacheType type) noexcept { return kCacheTypeNames[static_cast<size_t>(type)]; }
std::optional<CacheType> cache_type_named(std::string_view name) noexcept;

// A matrix of weights, [rows, columns], in the layout that the device's kernels read.
class DeviceMatrix {
 public:
  virtual ~DeviceMatrix() = default;
  virtual uint64_t rows() const noexcept = 0;
  virtual uint64_t columns() const noexcept = 0;
  // What one multiplication with it reads.
  virtual uint64_t bytes() const noexcept = 0;
};

// The part of a matrix that a device holds. Columns begin and end at groups of 16, or at the matrix's last column.
struct MatrixSlice {
  uint64_t first_row = 0, rows = UINT64_MAX;  // UINT64_MAX: up to the end
  uint64_t first_column = 0, columns = UINT64_MAX;
};

// Constants on the device: norm gains, biases.
class DeviceVector {
 public:
  virtual ~DeviceVector() = default;
  virtual size_t width() const noexcept = 0;
};

// Room for up to `capacity` rows of `width` elements on the device. The backend chooses their type and layout.
class RowBuffer {
 public:
  RowBuffer(size_t capacity, size_t width) noexcept : capacity_(capacity), width_(width) {}
  virtual ~RowBuffer() = default;
  size_t capacity() const noexcept { return capacity_; }
  size_t width() const noexcept { return width_; }

 private:
  size_t capacity_, width_;
};

// A view of some rows of a buffer.
struct Rows {
  RowBuffer* buffer;
  size_t first, count;

  size_t width() const noexcept { return buffer->width(); }
  Rows slice(size_t begin, size_t rows) const noexcept { return {buffer, first + begin, rows}; }
};

inline Rows first_rows(const std::unique_ptr<RowBuffer>& buffer, size_t count) noexcept { return {buffer.get(), 0, count}; }

// The key/value cache is cut into pages of page_positions() positions. A sequence has a list of pages; a page may be in several
// lists.
using PageId = uint32_t;

struct CacheShape {
  uint32_t layers, key_value_heads, head_width;
  uint32_t pages;
  CacheType type;
};

// Keys and values of every layer and head, by page.
class KeyValueCache {
 public:
  virtual ~KeyValueCache() = default;
  virtual uint64_t bytes() const noexcept = 0;
};

// Where a token is: the sequence is a row of the step's page table, the position counts from the sequence's beginning.
struct TokenPlace {
  uint32_t sequence, position;
};

// Tokens that choose() has chosen, one a row. The host need not have seen them when the next step begins with them.
class ChosenTokens {
 public:
  virtual ~ChosenTokens() = default;
};

// In StepInputs::tokens: not a token, but the i-th one of StepInputs::chosen.
inline constexpr uint32_t kChosenToken = uint32_t{1} << 31;

struct StepInputs {
  std::span<const uint32_t> tokens;
  std::span<const TokenPlace> places;  // one a token; tokens of one sequence are in ascending order of position
  std::span<const PageId> pages;       // [sequences][pages_per_sequence]; those beyond a sequence's last position are not read
  uint32_t pages_per_sequence;
  std::span<const uint32_t> scored;      // rows of tokens after which logits are wanted
  const ChosenTokens* chosen = nullptr;  // where tokens hold kChosenToken
};

struct StepLimits {
  uint32_t tokens, sequences, pages_per_sequence;
};

// The inputs of one forward pass on the device. Two steps allow one to be prepared while the other runs.
class Step {
 public:
  virtual ~Step() = default;
  virtual uint32_t tokens() const noexcept = 0;
  virtual uint32_t scored() const noexcept = 0;
};

// Names a sequence of operations: those of equal keys are the same, with the same arguments, but for what their steps hold.
struct StepKey {
  const void* owner;  // the model
  const Step* step;
  const KeyValueCache* cache;
  uint32_t tokens;         // of a forward pass; 0: of logits
  uint32_t first, scored;  // of logits: rows [first, first + scored) of the step's scored ones

  bool operator==(const StepKey&) const = default;
};

struct RotaryFrequencies {
  std::vector<float> inverse_wavelengths;  // [rotated width / 2], radians per position
  float amplitude = 1.0f;                  // of cosines and sines

  bool operator==(const RotaryFrequencies&) const = default;
};

// Cosine and sine of position·frequency for every position, times the amplitude.
class RotaryTable {
 public:
  virtual ~RotaryTable() = default;
};

// out[i] = x[i]·gain[i] / sqrt(mean of x² + epsilon)
struct Norm {
  const DeviceVector* gain;
  float epsilon;
};

// One of several matrices that are multiplied with the same input.
struct Projection {
  const DeviceMatrix* weights;
  const DeviceVector* bias;  // null: none
  Rows out;
  bool adds = false;  // out += weights·x + bias
  // x is first rounded to eight bits a row, as the model was trained: to whole multiples of a / 127, where a is the row's largest
  // magnitude or 1e-5, whichever is larger (transformers' ActQuant). The same for all matrices of one call.
  bool rounds_input = false;
};

// How each head of queries and keys is changed before use. A rotation pairs element i of a head with element i + pairs,
// where pairs is the number of the table's frequencies; elements from 2·pairs on stay.
struct HeadRules {
  const Norm* query_norm;  // null: none
  const Norm* key_norm;    // null: none
  const RotaryTable* rotary;
};

struct AttentionSettings {
  uint32_t layer;
  uint32_t heads;
  uint32_t window;  // how many positions a token sees, its own included; 0: all before it
  float scale;
  float softcap;  // scores become softcap·tanh(score / softcap); 0: none
};

// The sums over rows that calibration reads.
enum class MomentKind : uint8_t {
  kSquares,       // Σ x[i]², [columns]
  kOuterProduct,  // Σ x[i]·x[j], [columns][columns]
};

// Sums over rows in float64, for statistics of a model's activations.
class Moments {
 public:
  virtual ~Moments() = default;
  virtual MomentKind kind() const noexcept = 0;
  virtual size_t columns() const noexcept = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // "cpu (avx2, 2 threads)"
  virtual std::string description() const = 0;
  // Whether operations return before they have been computed, so that it pays to launch a step before the last one is collected.
  virtual bool asynchronous() const noexcept { return false; }

  // The mapped files under `source` outlive the matrix, which may read them in place.
  virtual std::unique_ptr<DeviceMatrix> upload_matrix(const WeightSource& source, const MatrixSlice& slice = {}) = 0;
  virtual std::unique_ptr<DeviceVector> upload_vector(std::span<const float> values) = 0;
  virtual std::unique_ptr<RowBuffer> allocate_rows(size_t capacity, size_t width) = 0;  // zeros
  virtual std::unique_ptr<RotaryTable> make_rotary_table(const RotaryFrequencies& frequencies, uint32_t positions) = 0;

  virtual uint32_t page_positions() const noexcept = 0;
  // Tokens of a forward pass from which on more bring little.
  virtual uint32_t usual_batch_tokens() const noexcept = 0;
  virtual std::unique_ptr<KeyValueCache> make_cache(const CacheShape& shape) = 0;
  // What make_cache() takes; as much as a number can say where the product does not fit one.
  virtual uint64_t cache_bytes(const CacheShape& shape) const = 0;
  // Bytes that can still be allocated; as much as a number can say where an allocation alone can tell.
  virtual uint64_t free_memory() const { return UINT64_MAX; }
  // Every layer's keys and values.
  virtual void copy_page(KeyValueCache& cache, PageId from, PageId to) = 0;

  virtual std::unique_ptr<Step> make_step(const StepLimits& limits) = 0;
  // Copies the inputs: the spans may go when it returns.
  virtual void begin(Step& step, const StepInputs& inputs) = 0;
  // Calls `operations`, or replays what an earlier call of the same key did.
  virtual void run(const StepKey&, const std::function<void()>& operations) { operations(); }

  // out[i] = scale · row tokens[i] of the table.
  virtual void embed(const DeviceMatrix& table, const Step& step, float scale, Rows out) = 0;
  // Multiplies norm(x), or x where there is no norm; rounded, where the projections say so. x is none of the outputs, unless the
  // only projection adds to it.
  virtual void multiply(Rows x, const Norm* norm, std::span<const Projection> projections) = 0;
  // gate.out = activation(gate)·up of norm(x), as multiply() and gate() do it. What up.out holds afterwards is not defined.
  virtual void multiply_gated(Rows x, const Norm* norm, const Projection& gate, const Projection& up, Activation activation) {
    const Projection both[] = {gate, up};
    multiply(x, norm, both);
    this->gate(activation, gate.out, up.out, gate.out);
  }
  // Norms and rotates the heads of queries in place, norms and rotates those of keys, and stores keys and values in the cache.
  virtual void store_heads(Rows queries, Rows keys, Rows values, const HeadRules& rules, const Step& step, uint32_t layer,
                           KeyValueCache& cache) = 0;
  // Every row attends to the positions of its sequence, up to its own.
  virtual void attend(Rows queries, const KeyValueCache& cache, const AttentionSettings& settings, const Step& step, Rows out) = 0;
  // Both, one after the other. What queries holds afterwards is not defined.
  virtual void store_and_attend(Rows queries, Rows keys, Rows values, const HeadRules& rules, const Step& step,
                                KeyValueCache& cache, const AttentionSettings& settings, Rows out) {
    store_heads(queries, keys, values, rules, step, settings.layer, cache);
    attend(queries, cache, settings, step, out);
  }
  // out[i] = activation(gate[i])·up[i]. out may be either.
  virtual void gate(Activation activation, Rows gate, Rows up, Rows out) = 0;
  // to += norm(x)
  virtual void add_normed(Rows x, const Norm& norm, Rows to) = 0;
  // out[i] = row scored[first + i] of x, for i < out.count.
  virtual void gather(Rows x, const Step& step, size_t first, Rows out) = 0;
  // x = cap·tanh(x / cap)
  virtual void soft_cap(Rows x, float cap) = 0;

  // Chooses a token by each row of logits, as sampling/draw.h does: draws[i] for row i. A row that has no choice (NaN, or every
  // token at minus infinity) gives kNoToken. `chosen` is one of make_chosen_tokens(), which holds the latest choice only.
  virtual std::unique_ptr<ChosenTokens> make_chosen_tokens(uint32_t capacity) = 0;
  virtual void choose(Rows logits, std::span<const DrawSettings> draws, ChosenTokens& chosen) = 0;
  // Waits for the choose() that filled it; out has one token for each of its rows.
  virtual void tokens(const ChosenTokens& chosen, std::span<uint32_t> out) = 0;

  virtual std::unique_ptr<Moments> make_moments(size_t columns, MomentKind kind) = 0;  // zeros
  virtual void add_moments(Rows x, const Norm* norm, Moments& sums) = 0;
  // Waits for everything before it.
  virtual void read(const Moments& sums, std::span<double> out) = 0;

  // Waits for everything before it, then copies the rows: out is [x.count][x.width()].
  virtual void read(Rows x, std::span<float> out) = 0;
  virtual void write(std::span<const float> values, Rows out) = 0;
};

}  // namespace tritllm
