#include "backend/cuda/cublas.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "core/error.h"

namespace tritllm::cuda {
namespace {

// Of cublas_api.h.
constexpr int kPlain = 0, kAcross = 1, kLeft = 0, kRight = 1, kLower = 0, kWholeDiagonal = 0;

std::vector<std::string> library_names() {
  std::vector<std::string> names;
  if (const char* const named = std::getenv("TRITLLM_CUBLAS")) return {named};
  for (const char* const folder : {"", "/usr/local/cuda/lib64/"}) {
    for (const char* const version : {"13", "12"}) names.push_back(fmt::format("{}libcublas.so.{}", folder, version));
  }
  return names;
}

}  // namespace

struct Cublas::Functions {
  Functions() {
    void* library = nullptr;
    for (const std::string& name : library_names()) {
      if (library == nullptr) library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) {
      const char* const why = ::dlerror();
      problem = why != nullptr ? why : "not found";
      return;
    }
    find(library, create, "cublasCreate_v2");
    find(library, destroy, "cublasDestroy_v2");
    find(library, set_stream, "cublasSetStream_v2");
    find(library, sgemm, "cublasSgemm_v2");
    find(library, dsyrk, "cublasDsyrk_v2");
    find(library, dtrsm, "cublasDtrsm_v2");
  }

  template <typename Function>
  void find(void* library, Function& function, const char* name) {
    function = reinterpret_cast<Function>(::dlsym(library, name));
    if (function == nullptr) problem = fmt::format("it has no {}", name);
  }

  std::string problem;
  int (*create)(void**) = nullptr;
  int (*destroy)(void*) = nullptr;
  int (*set_stream)(void*, Stream) = nullptr;
  int (*sgemm)(void*, int, int, int, int, int, const float*, const float*, int, const float*, int, const float*, float*,
               int) = nullptr;
  int (*dsyrk)(void*, int, int, int, int, const double*, const double*, int, const double*, double*, int) = nullptr;
  int (*dtrsm)(void*, int, int, int, int, int, int, const double*, const double*, int, double*, int) = nullptr;

  static const Functions& only() {
    static const Functions functions;
    return functions;
  }
};

std::string Cublas::problem() { return Functions::only().problem; }

Cublas::Cublas(Stream stream) : functions_(&Functions::only()) {
  if (!functions_->problem.empty()) {
    throw Error(ErrorCode::kUnsupported, "cuBLAS", functions_->problem,
                "install it (libcublas of CUDA 12 or 13), name its file in TRITLLM_CUBLAS, or use device cpu");
  }
  check(functions_->create(&handle_));
  check(functions_->set_stream(handle_, stream));
}

Cublas::~Cublas() {
  if (handle_ != nullptr) functions_->destroy(handle_);
}

void Cublas::check(int status) const {
  if (status != 0) throw Error(ErrorCode::kUnsupported, "cuBLAS", fmt::format("ended with status {}", status));
}

// Column by column, as cuBLAS reads them, all matrices lie across: outᵀ = rightᵀ·leftᵀ.
void Cublas::multiply(int64_t rows, int64_t columns, int64_t inner, const float* left, int64_t left_stride, bool left_across,
                      const float* right, int64_t right_stride, bool right_across, float* out, int64_t out_stride,
                      bool adds) const {
  const float one = 1.0f, before = adds ? 1.0f : 0.0f;
  check(functions_->sgemm(handle_, right_across ? kAcross : kPlain, left_across ? kAcross : kPlain, static_cast<int>(columns),
                          static_cast<int>(rows), static_cast<int>(inner), &one, right, static_cast<int>(right_stride), left,
                          static_cast<int>(left_stride), &before, out, static_cast<int>(out_stride)));
}

void Cublas::cholesky_step(double* matrix, int64_t size, int64_t first, int64_t width) const {
  const double one = 1.0, minus_one = -1.0;
  const auto rest = static_cast<int>(size - first - width), stride = static_cast<int>(size), block = static_cast<int>(width);
  if (rest <= 0) return;
  double* const diagonal = matrix + first * size + first;
  double* const panel = diagonal + width;
  double* const trailing = panel + width * size;
  check(functions_->dtrsm(handle_, kRight, kLower, kAcross, kWholeDiagonal, rest, block, &one, diagonal, stride, panel, stride));
  check(functions_->dsyrk(handle_, kLower, kPlain, rest, block, &minus_one, panel, stride, &one, trailing, stride));
}

void Cublas::invert_lower(const double* matrix, int64_t size, double* identity) const {
  const double one = 1.0;
  const auto count = static_cast<int>(size);
  check(functions_->dtrsm(handle_, kLeft, kLower, kPlain, kWholeDiagonal, count, count, &one, matrix, count, identity, count));
}

}  // namespace tritllm::cuda
