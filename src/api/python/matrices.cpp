// Single matrices, for python/tritllm/matrix.py and the plug-in for transformers.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <string>
#include <vector>

#include "api/matrix.h"
#include "api/python/binding.h"
#include "core/error.h"

namespace tritllm::python {
namespace {

using namespace nb::literals;

// Read where they lie: numpy arrays, and what else speaks DLPack.
using Floats2 = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatsAny = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Bytes3 = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Bytes2 = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <typename Value>
nb::ndarray<nb::numpy, Value> new_array(std::vector<Value>&& values, std::initializer_list<size_t> shape) {
  auto* const owned = new std::vector<Value>(std::move(values));
  const nb::capsule owner(owned, [](void* vector) noexcept { delete static_cast<std::vector<Value>*>(vector); });
  return nb::ndarray<nb::numpy, Value>(owned->data(), shape, owner);
}

template <typename Array>
auto span_of(const Array& array) {
  return std::span(array.data(), array.size());
}

TernaryMatrix matrix_of(const Bytes3& trits, const Bytes2& scales, const FloatsAny& codebook, uint64_t rows, uint64_t columns,
                        uint64_t experts) {
  if (rows == 0 || columns == 0 || (experts != 0 && rows % experts != 0) || rows > UINT32_MAX || columns > UINT32_MAX)
    throw Error(ErrorCode::kUsage, "shape", "expected rows and columns above 0, and whole experts");
  return api::checked_matrix({rows, columns, experts}, static_cast<int>(std::min<size_t>(trits.shape(0), 100)), span_of(trits),
                             span_of(scales), span_of(codebook));
}

nb::tuple quantize_matrix(const Floats2& weights, const std::string& config) {
  const codec::MatrixShape shape{weights.shape(0), weights.shape(1)};
  api::PackedBytes packed;
  {
    const nb::gil_scoped_release release;
    packed = api::quantize_matrix(span_of(weights), shape, codec::parse_config(config));
  }
  const auto depth = static_cast<size_t>(packed.depth);
  return nb::make_tuple(new_array(std::move(packed.trits), {depth, shape.lines(), codec::kGroupSize}),
                        new_array(std::move(packed.scales), {shape.lines(), codec::kScaleTrits}),
                        new_array(std::vector<float>(packed.codebook.begin(), packed.codebook.end()), {codec::kCodebookSize}));
}

nb::ndarray<nb::numpy, float> decode_matrix(const Bytes3& trits, const Bytes2& scales, const FloatsAny& codebook, uint64_t rows,
                                            uint64_t columns, uint64_t experts) {
  std::vector<float> out;
  {
    const nb::gil_scoped_release release;
    const TernaryMatrix matrix = matrix_of(trits, scales, codebook, rows, columns, experts);
    out.resize(matrix.shape.weights());
    api::decode_matrix(matrix, out);
  }
  return new_array(std::move(out), {rows, columns});
}

nb::ndarray<nb::numpy, float> multiply(const api::ProductMatrix& matrix, const Floats2& x) {
  const size_t tokens = x.shape(0);
  std::vector<float> out(tokens * matrix.rows());
  {
    const nb::gil_scoped_release release;
    matrix.multiply(span_of(x), tokens, out);
  }
  return new_array(std::move(out), {tokens, matrix.rows()});
}

}  // namespace

void bind_matrices(nb::module_& module) {
  module.def("quantize_matrix", quantize_matrix, "weights"_a, "config"_a, "(trits, scales, codebook) of float32 weights.");
  module.def("decode_matrix", decode_matrix, "trits"_a, "scales"_a, "codebook"_a, "rows"_a, "columns"_a, "experts"_a = 0);
  module.def("set_threads", api::set_matrix_threads, "threads"_a);
  nb::class_<api::ProductMatrix>(module, "ProductMatrix", nb::is_weak_referenceable(),
                                 "A ternary matrix in the layout of the CPU's kernels.")
      .def(
          "__init__",
          [](api::ProductMatrix* self, const Bytes3& trits, const Bytes2& scales, const FloatsAny& codebook, uint64_t rows,
             uint64_t columns, const std::string& arithmetic) {
            const nb::gil_scoped_release release;
            new (self) api::ProductMatrix(matrix_of(trits, scales, codebook, rows, columns, 0), arithmetic);
          },
          "trits"_a, "scales"_a, "codebook"_a, "rows"_a, "columns"_a, "arithmetic"_a)
      .def_prop_ro("rows", &api::ProductMatrix::rows)
      .def_prop_ro("columns", &api::ProductMatrix::columns)
      .def_prop_ro("bytes", &api::ProductMatrix::bytes, "Bytes of memory that the weights take.")
      .def("multiply", multiply, "x"_a, "float32 [tokens, columns] to float32 [tokens, rows].");
}

}  // namespace tritllm::python
