// The model and its answers, for python/tritllm/llm.py.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>

#include "api/generator.h"
#include "api/python/binding.h"

namespace tritllm::python {
namespace {

using namespace nb::literals;
using api::Generation;
using api::Generator;

using FloatArray = nb::ndarray<nb::numpy, float, nb::ndim<1>>;

// A new array that owns the numbers.
FloatArray array_of(const std::vector<TokenScore>& scores) {
  auto numbers = std::make_unique<std::vector<float>>();
  for (const TokenScore& score : scores) numbers->push_back(score.log_probability);
  float* const data = numbers->data();
  const size_t size = numbers->size();
  const nb::capsule owner(numbers.release(), [](void* vector) noexcept { delete static_cast<std::vector<float>*>(vector); });
  return FloatArray(data, {size}, owner);
}

// {token: log probability} of the most probable ones, by token of the text.
nb::list tops_of(const std::vector<TokenScore>& scores) {
  nb::list all;
  for (const TokenScore& score : scores) {
    nb::dict tops;
    for (const TokenLogProbability& other : score.top) tops[nb::int_(other.token)] = other.log_probability;
    all.append(tops);
  }
  return all;
}

// (text, token or None, ended), or None where nothing came in this time.
std::optional<nb::tuple> next_event(Generation& generation, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  for (;;) {
    std::optional<GenerationEvent> event;
    {
      const nb::gil_scoped_release release;
      event = generation.next(kSignalInterval);
    }
    check_signals();
    if (event) {
      const nb::object token = event->token ? nb::object(nb::int_(*event->token)) : nb::none();
      return nb::make_tuple(event->text, token, event->finish.has_value());
    }
    if (generation.ended() || std::chrono::steady_clock::now() >= end) return std::nullopt;
  }
}

}  // namespace

void bind_generation(nb::module_& module) {
  nb::class_<Generation>(module, "Generation", "A request on its way. For one thread at a time, but for cancel().")
      .def("next_event", next_event, "seconds"_a,
           "Waits for the next event and returns (text, token or None, ended), or None where none came within `seconds`.")
      .def("cancel", &Generation::cancel, "Ends the answer with the engine's next step.")
      .def_prop_ro("ended", &Generation::ended)
      .def(
          "answer", [](const Generation& generation) { return json_argument(api::to_json(generation.answer())); },
          "What has come so far, as JSON.")
      .def(
          "logprobs", [](const Generation& generation) { return array_of(generation.answer().scores); },
          "float32 [tokens]: natural logarithms of the answer's probabilities.")
      .def(
          "prompt_logprobs", [](const Generation& generation) { return array_of(generation.answer().prompt_scores); },
          "float32 [tokens of the prompt - 1].")
      .def("top_logprobs", [](const Generation& generation) { return tops_of(generation.answer().scores); })
      .def("prompt_top_logprobs", [](const Generation& generation) { return tops_of(generation.answer().prompt_scores); });

  nb::class_<Generator>(module, "Generator", "A model that is ready, and its engine.")
      .def(
          "__init__",
          [](Generator* self, const std::string& options) {
            const api::GeneratorOptions read = api::read_generator_options(parse_argument(options));
            const nb::gil_scoped_release release;
            new (self) Generator(read);
          },
          "options"_a)
      .def(
          "start", [](Generator& self, const std::string& request) { return self.start(parse_argument(request)); }, "request"_a,
          nb::call_guard<nb::gil_scoped_release>(), "Begins to answer a request, a JSON object.")
      .def("facts", [](const Generator& self) { return json_argument(self.facts()); })
      .def(
          "encode",
          [](const Generator& self, const std::string& text, bool parse_special) {
            return self.language().encode(text, parse_special);
          },
          "text"_a, "parse_special"_a, nb::call_guard<nb::gil_scoped_release>())
      .def(
          "encode_chat",
          [](const Generator& self, const std::string& request) { return self.encode_chat(parse_argument(request)); }, "request"_a,
          nb::call_guard<nb::gil_scoped_release>())
      .def(
          "decode",
          [](const Generator& self, const std::vector<TokenId>& tokens, bool skip_special) {
            return self.language().tokenizer().decode(tokens, skip_special);
          },
          "tokens"_a, "skip_special"_a, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace tritllm::python
