// Owns the launchers of the CUDA kernels: plain structs of device pointers and numbers, and functions that put work on a stream and
// return at once. Used by the CUDA backend and by the C API; includes no CUDA header. Does not own memory, nor any check of a
// pointer: callers have validated shapes.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace tritllm::cuda {

using Stream = CUstream_st*;
// A cudaError_t; 0 is success.
using Status = int;

// What the launchers must know of a card, read once (device_traits).
struct DeviceTraits {
  int compute_capability = 0;  // 90: Hopper
  int multiprocessors = 0;
  int shared_bytes = 0;        // that one block may have
  bool warpgroup_mma = false;  // Hopper, in a build that has code for sm_90a
  bool dependent_launch() const noexcept { return compute_capability >= 90; }
  bool clusters() const noexcept { return compute_capability >= 90; }
};
Status device_traits(int device, DeviceTraits& traits);

// A matrix in the layout of layout.h.
struct Matrix {
  int depth = 0;  // 0: dense FP16
  int64_t rows = 0, columns = 0;
  const void* tiles = nullptr;
  const float* steps = nullptr;  // [32]: scale / largest code; zeros from 27 on. Null at depth 0.
  float unit = 1.0f;             // depth 0: the weights are the halves times this
};

// Activations, FP32: `tokens` rows, `stride` floats apart, 16-byte aligned. With a gain, each row is RMS-normed first.
struct Input {
  const float* rows;
  int64_t stride;
  int32_t tokens;
  const float* gain;
  float epsilon;
};

// out[token][row] = (input · weightsᵀ) + bias, added to what stands there where `adds`.
struct Product {
  Matrix weights;
  const float* bias;  // null: none
  float* out;
  int64_t out_stride;
  bool adds;
};
inline constexpr int kMaxProducts = 3;

// Device memory that products of several tokens need; one product at a time may use it.
struct Workspace {
  void* operands;      // operand_bytes(tokens, columns)
  void* partial_sums;  // partial_sum_bytes(traits)
  uint32_t* counters;  // kCounters, zero between products
};
inline constexpr int kCounters = 1 << 16;
size_t operand_bytes(int64_t tokens, int64_t columns) noexcept;
size_t partial_sum_bytes(const DeviceTraits& traits) noexcept;

// Which kernel multiplies: chosen by the number of tokens unless a test or a benchmark asks for one.
enum class ProductKernel { kAutomatic, kSingle, kBatch, kCluster, kPrefill };

// Up to three matrices of one depth and one number of columns, multiplied with the same input.
Status multiply(const DeviceTraits& traits, const Input& input, const Product* products, int count, const Workspace& workspace,
                Stream stream, ProductKernel kernel = ProductKernel::kAutomatic);

enum class GateKind : int { kSilu, kGeluTanh, kGeluErf, kReluSquared };
// gate.out = activation(gate)·up in one launch; up.out is not touched. Only where fits_gated().
bool fits_gated(const DeviceTraits& traits, const Input& input, const Product& gate, const Product& up) noexcept;
Status multiply_gated(const DeviceTraits& traits, GateKind kind, const Input& input, const Product& gate, const Product& up,
                      const Workspace& workspace, Stream stream);

// Rows of FP32, `stride` elements apart, each 16-byte aligned.
struct RowsView {
  float* data;
  int64_t stride;
  int32_t count, width;
};

// Attention takes a batch of kFewestTiledRows rows or more in tiles of kTileQueries. Rows of a tile that follow each other and
// belong to one sequence are attended to together where they are at least kFewestTogether; other rows one by one.
inline constexpr int kTileQueries = 64, kFewestTogether = 8, kFewestTiledRows = 65;
// Rows of at most so many positions are short: one cluster of blocks attends to each. Where a batch has a longer row, its blocks
// form clusters of two, so that as many as possible run at the same time.
inline constexpr uint32_t kShortRow = 1024;

// The inputs of a step in device memory, at addresses that stay while the step lives. Pages: [sequence][pages_of_sequence].
struct StepView {
  const uint32_t* tokens;
  const uint32_t* places;  // [token][sequence, position]
  const uint32_t* pages;
  const uint32_t* scored;
  int32_t pages_of_sequence;
  bool lone_rows;  // whether some row has too few neighbours to be attended to together with them
  bool long_rows;  // whether some row has more positions than kShortRow
};

// Tokens with the highest bit set become chosen[its other bits].
Status resolve_tokens(const DeviceTraits& traits, uint32_t* tokens, int count, const uint32_t* chosen, Stream stream);

// out[i] = scale · row tokens[i] of the table; from `floats` [rows][columns] where it is not null.
Status embed(const DeviceTraits& traits, const Matrix& table, const float* floats, const StepView& step, float scale,
             const RowsView& out, Stream stream);

Status gate(const DeviceTraits& traits, GateKind kind, const RowsView& gate, const RowsView& up, const RowsView& out,
            Stream stream);
// to += norm(x)
Status add_normed(const DeviceTraits& traits, const RowsView& x, const float* gain, float epsilon, const RowsView& to,
                  Stream stream);
// out = norm(x), or x where gain is null, rounded as Projection::rounds_input says.
Status round_rows(const DeviceTraits& traits, const RowsView& x, const float* gain, float epsilon, const RowsView& out,
                  Stream stream);
Status gather(const DeviceTraits& traits, const RowsView& x, const StepView& step, int first, const RowsView& out, Stream stream);
Status soft_cap(const DeviceTraits& traits, const RowsView& x, float cap, Stream stream);
// Greedy: the lowest token of the largest logit; kNoChoice where the row has NaN, plus infinity, or nothing above minus infinity.
inline constexpr uint32_t kNoChoice = 0xffffffffu;
Status choose_greedily(const DeviceTraits& traits, const RowsView& logits, uint32_t* chosen, Stream stream);

// Which tokens of a row of logits a draw can keep. By mass: the most probable ones that have this share of the probability.
// Otherwise: the `count` largest logits, or those at most `steps` sixteenths of a nat below the largest one, whichever are fewer.
struct CandidateRule {
  uint32_t row;
  bool by_mass;
  uint32_t count;
  int32_t steps;
  double mass;
};
inline constexpr int kCandidateSteps = 512, kCandidateParts = 16;
inline constexpr float kCandidateStepsPerNat = 16.0f;
// Counts and weights are zero between launches.
struct CandidateState {
  uint32_t counts[kCandidateSteps], weights[kCandidateSteps];
  double totals[kCandidateParts];
};
// The tokens that a rule keeps and a few more, in any order; `count` may be larger than there is room for. `total`: the sum of
// exp(logit - largest) over the row, where the rule is by mass.
inline constexpr uint32_t kMostCandidates = 1024;
struct CandidateRow {
  double total;
  uint32_t count, unused;
  uint32_t tokens[kMostCandidates];
  float logits[kMostCandidates];
};
// `chosen`: what choose_greedily() made of the logits; rows without a choice have no candidates.
Status collect_candidates(const DeviceTraits& traits, const RowsView& logits, const CandidateRule* rules, int count,
                          const uint32_t* chosen, CandidateState* states, CandidateRow* out, Stream stream);

// A draw that may choose any token of a row, by temperature and a number in [0, 1) alone.
struct WholeDraw {
  uint32_t row, unused;
  double temperature, uniform;
};
// chosen[row] = the token drawn, for each draw. `chosen` as for collect_candidates(); sums: [count][kCandidateParts].
Status draw_from_all(const DeviceTraits& traits, const RowsView& logits, const WholeDraw* draws, int count, double* sums,
                     uint32_t* chosen, Stream stream);

// sums[i] += Σ x[i]², or sums[i][j] += Σ x[i]·x[j].
Status add_squares(const DeviceTraits& traits, const RowsView& x, double* sums, Stream stream);
Status add_outer_products(const DeviceTraits& traits, const RowsView& x, double* sums, Stream stream);

// Keys and values: [page][layer][head][keys, values], each part [kPagePositions][head_stride] elements and, where those have eight
// bits, [kPagePositions] scales. What lies between a head's width and its stride is zero.
inline constexpr int kPagePositions = 64;
enum class CacheElement : uint8_t { kFloat32, kFloat16, kFloat8, kInt8 };  // as tritllm::CacheType
struct CacheView {
  std::byte* data;
  CacheElement element;
  int32_t layers, heads, head_width, head_stride;

  constexpr int element_bytes() const noexcept {
    return element == CacheElement::kFloat32 ? 4 : element == CacheElement::kFloat16 ? 2 : 1;
  }
  constexpr bool has_scales() const noexcept { return element_bytes() == 1; }
  constexpr int32_t part_elements() const noexcept { return kPagePositions * head_stride; }
  // A multiple of 16.
  constexpr int32_t part_bytes() const noexcept {
    return part_elements() * element_bytes() + (has_scales() ? kPagePositions * 2 : 0);
  }
  constexpr size_t page_bytes() const noexcept {
    return static_cast<size_t>(layers) * static_cast<size_t>(heads) * 2 * static_cast<size_t>(part_bytes());
  }
};
// A lane loads eight elements at once.
constexpr int cache_head_stride(int head_width) noexcept { return (head_width + 7) / 8 * 8; }

struct HeadTask {
  RowsView queries, keys, values;
  const float* query_gain;  // null: no norm
  const float* key_gain;
  float query_epsilon, key_epsilon;
  const float* cosines;  // [position][pairs]
  const float* sines;
  int32_t pairs;
};
Status store_heads(const DeviceTraits& traits, const HeadTask& task, const CacheView& cache, int layer, const StepView& step,
                   Stream stream);

struct AttentionTask {
  RowsView queries, out;
  int32_t layer, heads;
  uint32_t window;  // 0: none
  float scale, softcap;
  float* partial;      // attention_partial_bytes()
  uint32_t* counters;  // kCounters, zero between launches
};
size_t attention_partial_bytes(const DeviceTraits& traits) noexcept;
// The largest head that attend() handles.
inline constexpr int kLargestHead = 256;
Status attend(const DeviceTraits& traits, const AttentionTask& task, const CacheView& cache, const StepView& step, Stream stream);
// store_heads() and attend() in one launch, for rows of as many sequences as rows. Queries stay as they are.
Status store_and_attend(const DeviceTraits& traits, const HeadTask& heads, const AttentionTask& task, const CacheView& cache,
                        const StepView& step, Stream stream);

}  // namespace tritllm::cuda
