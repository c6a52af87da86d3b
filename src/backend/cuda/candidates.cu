// Owns the search for the tokens among which a draw chooses (sampling/draw.h): the few that its settings can keep, of a vocabulary
// of a hundred thousand. The draw itself stays with the specification, which gets them and decides.
//
// Logits are counted in steps of a sixteenth of a nat below the largest one, and their weights added up within a step, as whole
// numbers, so that the order does not matter. A cut between two steps then keeps no token too few, and a few too many.
//
// A draw that may choose any token is made here: of the parts of the row, and then of the tokens of a part, the one is found in
// which the sum of the weights, in the order of the tokens, passes the number drawn. It is the specification's choice but for the
// rounding of sums.
#include <cfloat>

#include "backend/cuda/kernel_launch.cuh"
#include "backend/cuda/layout.h"
#include "backend/cuda/ptx.cuh"

namespace tritllm::cuda {
namespace {

constexpr int kSteps = kCandidateSteps, kParts = kCandidateParts;
constexpr float kStepsPerNat = kCandidateStepsPerNat;
constexpr int kThreads = 512, kWarps = kThreads / kLanes;
// A weight relative to that of the step's beginning, at most 1, in these units: sums over 2^18 tokens fit into 32 bits.
constexpr float kWeightUnits = 8192.0f;
// What sums of such weights may be off by.
constexpr double kMargin = 5e-4;

struct StepPlace {
  int step;
  float beyond;  // its beginning, in steps
};

TRIT_DEVICE StepPlace place_of(float logit, float largest) {
  const float steps = (largest - logit) * kStepsPerNat;
  const int step = static_cast<int>(fminf(steps, static_cast<float>(kSteps - 1)));
  return {step, steps - static_cast<float>(step)};
}

// Blocks [rule][part]: counts and weights of a part of the row's tokens, and its part of the sum of all weights.
__global__ void __launch_bounds__(kThreads)
    measure_kernel(RowsView logits, const CandidateRule* rules, const uint32_t* chosen, CandidateState* states) {
  __shared__ uint32_t counts[kSteps], weights[kSteps];
  __shared__ double sums[kWarps];
  const int thread = static_cast<int>(threadIdx.x), part = static_cast<int>(blockIdx.x);
  for (int i = thread; i < kSteps; i += kThreads) counts[i] = weights[i] = 0;
  __syncthreads();
  wait_for_previous_kernel();
  const CandidateRule& rule = rules[blockIdx.y];
  CandidateState& state = states[blockIdx.y];
  const float* row = logits.data + static_cast<int64_t>(rule.row) * logits.stride;
  if (chosen[rule.row] == kNoChoice) return;
  const float largest = row[chosen[rule.row]];
  double sum = 0.0;
  for (int token = part * kThreads + thread; token < logits.width; token += kParts * kThreads) {
    const float logit = row[token];
    if (logit < -FLT_MAX) continue;
    const auto [step, beyond] = place_of(logit, largest);
    atomicAdd(counts + step, 1u);
    if (!rule.by_mass) continue;
    atomicAdd(weights + step, static_cast<uint32_t>(kWeightUnits * expf(-beyond / kStepsPerNat)));
    sum += exp(static_cast<double>(logit) - static_cast<double>(largest));
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (thread % kLanes == 0) sums[thread / kLanes] = sum;
  __syncthreads();
  for (int i = thread; i < kSteps; i += kThreads) {
    if (counts[i] != 0) atomicAdd(state.counts + i, counts[i]), atomicAdd(state.weights + i, weights[i]);
  }
  if (thread == 0) {
    double total = 0.0;
    for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
    state.totals[part] = total;
  }
}

// The last step that the rule keeps.
TRIT_DEVICE int last_step(const CandidateRule& rule, const uint32_t* counts, const uint32_t* weights, double total) {
  double mass = 0.0;
  uint32_t count = 0;
  for (int step = 0; step < kSteps; ++step) {
    count += counts[step];
    mass += static_cast<double>(weights[step]) / kWeightUnits * exp(-static_cast<double>(step) / kStepsPerNat);
    if (rule.by_mass ? mass >= (rule.mass + kMargin) * total : count >= rule.count || step >= rule.steps) return step;
  }
  return kSteps - 1;
}

// A block for each rule, which leaves the state as it was before measure_kernel().
__global__ void __launch_bounds__(kThreads)
    collect_kernel(RowsView logits, const CandidateRule* rules, const uint32_t* chosen, CandidateState* states, CandidateRow* out) {
  __shared__ uint32_t counts[kSteps], weights[kSteps], kept;
  __shared__ double total;
  __shared__ int last;
  const int thread = static_cast<int>(threadIdx.x);
  wait_for_previous_kernel();
  const CandidateRule& rule = rules[blockIdx.x];
  CandidateState& state = states[blockIdx.x];
  CandidateRow& result = out[blockIdx.x];
  if (chosen[rule.row] == kNoChoice) {
    if (thread == 0) result.count = 0;
    return;
  }
  for (int i = thread; i < kSteps; i += kThreads) {
    counts[i] = state.counts[i], weights[i] = state.weights[i];
    state.counts[i] = state.weights[i] = 0;
  }
  if (thread == 0) {
    kept = 0, total = 0.0;
    for (int part = 0; part < kParts; ++part) total += state.totals[part];
  }
  __syncthreads();
  if (thread == 0) last = last_step(rule, counts, weights, total);
  __syncthreads();
  const float* row = logits.data + static_cast<int64_t>(rule.row) * logits.stride;
  const float largest = row[chosen[rule.row]];
  for (int token = thread; token < logits.width; token += kThreads) {
    const float logit = row[token];
    if (logit < -FLT_MAX || place_of(logit, largest).step > last) continue;
    if (const uint32_t place = atomicAdd(&kept, 1u); place < kMostCandidates) {
      result.tokens[place] = static_cast<uint32_t>(token);
      result.logits[place] = logit;
    }
  }
  __syncthreads();
  if (thread == 0) result.count = kept, result.total = total;
}

// Tokens [begin, end) of a part of a row.
struct PartOfVocabulary {
  int begin, end;

  TRIT_DEVICE PartOfVocabulary(int width, int part) {
    const int each = (width + kParts - 1) / kParts;
    begin = min(width, part * each), end = min(width, begin + each);
  }
};

TRIT_DEVICE double weight_of(float logit, float largest, double temperature) {
  return exp((static_cast<double>(logit) - static_cast<double>(largest)) / temperature);
}

// Blocks [draw][part]: the sum of the weights of each part of a row.
__global__ void __launch_bounds__(kThreads)
    add_weights_kernel(RowsView logits, const WholeDraw* draws, const uint32_t* chosen, double* sums) {
  __shared__ double warp_sums[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  wait_for_previous_kernel();
  const WholeDraw& draw = draws[blockIdx.y];
  if (chosen[draw.row] == kNoChoice) return;
  const float* row = logits.data + static_cast<int64_t>(draw.row) * logits.stride;
  const float largest = row[chosen[draw.row]];
  const PartOfVocabulary part(logits.width, static_cast<int>(blockIdx.x));
  double sum = 0.0;
  for (int token = part.begin + thread; token < part.end; token += kThreads)
    sum += weight_of(row[token], largest, draw.temperature);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (thread % kLanes == 0) warp_sums[thread / kLanes] = sum;
  __syncthreads();
  if (thread != 0) return;
  for (int warp = 1; warp < kWarps; ++warp) sum += warp_sums[warp];
  sums[static_cast<int>(blockIdx.y) * kParts + static_cast<int>(blockIdx.x)] = sum;
}

// A block for each draw.
__global__ void __launch_bounds__(kThreads)
    pick_kernel(RowsView logits, const WholeDraw* draws, const double* all_sums, uint32_t* chosen) {
  __shared__ double thread_sums[kThreads];
  __shared__ int last_possible, winner;
  __shared__ double before_winner;
  const int thread = static_cast<int>(threadIdx.x);
  wait_for_previous_kernel();
  const WholeDraw& draw = draws[blockIdx.x];
  if (chosen[draw.row] == kNoChoice) return;
  const float* row = logits.data + static_cast<int64_t>(draw.row) * logits.stride;
  const float largest = row[chosen[draw.row]];
  const double* sums = all_sums + static_cast<int>(blockIdx.x) * kParts;
  double remaining = 0.0;
  for (int part = 0; part < kParts; ++part) remaining += sums[part];
  remaining *= draw.uniform;
  // Where rounding leaves a remainder at the end, the last token that has any weight is taken.
  int own_part = 0;
  double before = 0.0;
  bool found = false;
  for (int part = 0; part < kParts && !found; ++part) {
    if (sums[part] == 0.0) continue;
    own_part = part;
    found = before + sums[part] > remaining;
    if (!found) before += sums[part];
  }
  remaining = found ? remaining - before : static_cast<double>(INFINITY);

  const PartOfVocabulary part(logits.width, own_part);
  const int each = (part.end - part.begin + kThreads - 1) / kThreads;
  const int begin = min(part.end, part.begin + thread * each), end = min(part.end, begin + each);
  double sum = 0.0;
  int last = -1;
  for (int token = begin; token < end; ++token) {
    const double weight = weight_of(row[token], largest, draw.temperature);
    sum += weight;
    if (weight > 0.0) last = token;
  }
  thread_sums[thread] = sum;
  if (thread == 0) last_possible = -1;
  __syncthreads();
  atomicMax(&last_possible, last);
  if (thread == 0) {
    winner = -1;
    double passed = 0.0;
    for (int i = 0; i < kThreads && winner < 0; ++i) {
      if (thread_sums[i] > 0.0 && passed + thread_sums[i] > remaining) winner = i, before_winner = passed;
      passed += thread_sums[i];
    }
  }
  __syncthreads();
  if (thread != (winner < 0 ? 0 : winner)) return;
  int choice = last_possible;
  if (winner >= 0) {
    remaining -= before_winner;
    choice = last;
    for (int token = begin; token < end; ++token) {
      const double weight = weight_of(row[token], largest, draw.temperature);
      if (weight > 0.0 && (remaining -= weight) < 0.0) {
        choice = token;
        break;
      }
    }
  }
  chosen[draw.row] = static_cast<uint32_t>(choice);
}

}  // namespace

Status draw_from_all(const DeviceTraits& traits, const RowsView& logits, const WholeDraw* draws, int count, double* sums,
                     uint32_t* chosen, Stream stream) {
  const auto rows = static_cast<unsigned>(count);
  if (const Status status =
          launch_kernel(add_weights_kernel, traits, dim3(kParts, rows), kThreads, 0, stream, logits, draws, chosen, sums);
      status != cudaSuccess) {
    return status;
  }
  return launch_kernel(pick_kernel, traits, dim3(rows), kThreads, 0, stream, logits, draws, sums, chosen);
}

Status collect_candidates(const DeviceTraits& traits, const RowsView& logits, const CandidateRule* rules, int count,
                          const uint32_t* chosen, CandidateState* states, CandidateRow* out, Stream stream) {
  const auto rows = static_cast<unsigned>(count);
  if (const Status status =
          launch_kernel(measure_kernel, traits, dim3(kParts, rows), kThreads, 0, stream, logits, rules, chosen, states);
      status != cudaSuccess) {
    return status;
  }
  return launch_kernel(collect_kernel, traits, dim3(rows), kThreads, 0, stream, logits, rules, chosen, states, out);
}

}  // namespace tritllm::cuda
