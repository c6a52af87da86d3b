// The model, task and codec functions of include/tritllm.h: exceptions turned into messages, spans made of pointers. The products
// on CUDA devices are in backend/cuda/c_api.cpp.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "api/generator.h"
#include "api/matrix.h"
#include "api/task_options.h"
#include "core/error.h"
#include "core/json.h"
#include "tritllm.h"

struct trit_model {
  tritllm::api::Generator generator;
};

struct trit_generation {
  std::unique_ptr<tritllm::api::Generation> generation;
};

namespace tritllm::api {
namespace {

// Null where memory ends.
char* copy_of(const std::string& text) noexcept {
  auto* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

void hand_out(const std::string& text, char** out) {
  if (out == nullptr) return;
  *out = copy_of(text);
  if (*out == nullptr) throw std::bad_alloc();
}

void hand_out(const Json& json, char** out) { hand_out(json.dump(-1, ' ', false, Json::error_handler_t::replace), out); }

template <typename Action>
int guarded(char** error, Action&& action) noexcept {
  try {
    if (error != nullptr) *error = nullptr;
    action();
    return 0;
  } catch (const std::exception& failure) {
    if (error != nullptr) *error = copy_of(failure.what());
  }
  return 1;
}

template <typename Value>
Value* required(Value* pointer, const char* name) {
  if (pointer == nullptr) throw Error(ErrorCode::kUsage, name, "expected a pointer, found null");
  return pointer;
}

Json parsed(const char* text, const char* name) { return parse_json(required(text, name), name); }

bool is_matrix(int64_t rows, int64_t columns) noexcept {
  return rows > 0 && columns > 0 && rows <= UINT32_MAX && columns <= UINT32_MAX && rows <= INT64_MAX / 8 / columns;
}

codec::MatrixShape shape_of(int64_t rows, int64_t columns) {
  if (!is_matrix(rows, columns)) throw Error(ErrorCode::kUsage, "rows, columns", "there is no matrix of this size");
  return {static_cast<uint64_t>(rows), static_cast<uint64_t>(columns)};
}

// The answer of a generation that has ended. Throws where it failed.
const Answer& ended_answer(const Generation& generation) {
  const Answer& answer = generation.answer();
  if (answer.finish == FinishReason::kFailed) throw Error(ErrorCode::kBadInput, "generation", answer.error);
  return answer;
}

}  // namespace
}  // namespace tritllm::api

using namespace tritllm;       // NOLINT(google-build-using-namespace): the functions of C have no namespace
using namespace tritllm::api;  // NOLINT(google-build-using-namespace)

const char* trit_version(void) { return TRITLLM_VERSION; }

#ifndef TRITLLM_CUDA_C_API
void trit_free(void* memory) { std::free(memory); }
#endif

int trit_model_open(const char* options, trit_model** model, char** error) {
  return guarded(error, [&] {
    *required(model, "model") = nullptr;
    *model = new trit_model{Generator(read_generator_options(parsed(options, "options")))};
  });
}

void trit_model_close(trit_model* model) { delete model; }

int trit_model_facts(const trit_model* model, char** facts, char** error) {
  return guarded(error, [&] { hand_out(required(model, "model")->generator.facts(), facts); });
}

int trit_generate(trit_model* model, const char* request, char** answer, char** error) {
  return guarded(error, [&] {
    const auto generation = required(model, "model")->generator.start(parsed(request, "request"));
    while (!generation->ended()) generation->next(std::chrono::hours(1));
    hand_out(to_json(ended_answer(*generation)), answer);
  });
}

int trit_generation_start(trit_model* model, const char* request, trit_generation** generation, char** error) {
  return guarded(error, [&] {
    *required(generation, "generation") = nullptr;
    *generation = new trit_generation{required(model, "model")->generator.start(parsed(request, "request"))};
  });
}

int trit_generation_next(trit_generation* generation, int milliseconds, char** text, int* ended, char** error) {
  return guarded(error, [&] {
    Generation& running = *required(generation, "generation")->generation;
    if (text != nullptr) *text = nullptr;
    const auto event = running.next(std::chrono::milliseconds(std::max(0, milliseconds)));
    if (event) hand_out(event->text, text);
    if (ended != nullptr) *ended = running.ended() ? 1 : 0;
    if (running.ended()) ended_answer(running);
  });
}

int trit_generation_answer(const trit_generation* generation, char** answer, char** error) {
  return guarded(error, [&] { hand_out(to_json(required(generation, "generation")->generation->answer()), answer); });
}

void trit_generation_cancel(trit_generation* generation) {
  if (generation != nullptr) generation->generation->cancel();
}

void trit_generation_close(trit_generation* generation) { delete generation; }

int trit_quantize(const char* options, int (*progress)(const char* news, void* data), void* data, char** results, char** error) {
  return guarded(error, [&] {
    QuantizeOptions read = read_quantize_options(parsed(options, "options"));
    std::atomic<bool> stop{false};
    read.should_stop = [&] { return stop.load(); };
    if (progress != nullptr) {
      read.on_progress = [&](const QuantizeProgress& news) {
        if (progress(to_json(news).dump(-1, ' ', false, Json::error_handler_t::replace).c_str(), data) != 0) stop = true;
      };
    }
    hand_out(to_json(quantize_model(read)), results);
  });
}

int64_t trit_trit_bytes(int64_t rows, int64_t columns, int depth) {
  if (!is_matrix(rows, columns) || depth < 1 || depth > codec::kMaxDepth) return -1;
  return static_cast<int64_t>(codec::MatrixShape{static_cast<uint64_t>(rows), static_cast<uint64_t>(columns)}.trit_bytes(depth));
}

int64_t trit_scale_bytes(int64_t rows, int64_t columns) {
  if (!is_matrix(rows, columns)) return -1;
  return static_cast<int64_t>(codec::MatrixShape{static_cast<uint64_t>(rows), static_cast<uint64_t>(columns)}.scale_bytes());
}

int trit_quantize_matrix(const float* weights, int64_t rows, int64_t columns, const char* config, uint8_t* trits, uint8_t* scales,
                         float* codebook, char** error) {
  return guarded(error, [&] {
    const codec::MatrixShape shape = shape_of(rows, columns);
    const PackedBytes packed =
        quantize_matrix({required(weights, "weights"), shape.weights()}, shape, codec::parse_config(required(config, "config")));
    std::ranges::copy(packed.trits, required(trits, "trits"));
    std::ranges::copy(packed.scales, required(scales, "scales"));
    std::ranges::copy(packed.codebook, required(codebook, "codebook"));
  });
}

int trit_decode_matrix(const uint8_t* trits, const uint8_t* scales, const float* codebook, int64_t rows, int64_t columns, int depth,
                       float* weights, char** error) {
  return guarded(error, [&] {
    const codec::MatrixShape shape = shape_of(rows, columns);
    const uint64_t bytes = depth >= 1 && depth <= codec::kMaxDepth ? shape.trit_bytes(depth) : 0;
    const TernaryMatrix matrix =
        checked_matrix(shape, depth, {required(trits, "trits"), bytes}, {required(scales, "scales"), shape.scale_bytes()},
                       {required(codebook, "codebook"), codec::kCodebookSize});
    decode_matrix(matrix, {required(weights, "weights"), shape.weights()});
  });
}
