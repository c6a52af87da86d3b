// The routes that tell about the server and its models: /health, /v1/models, /metrics, /props.
#include <fmt/format.h>

#include <algorithm>

#include "server/api_error.h"
#include "server/api_server.h"

namespace tritllm::server {
namespace {

void health(const Call& call) {
  const bool draining = call.server.draining(), ready = call.server.models().ready();
  const auto loaded = call.server.models().loaded();
  const bool failed = std::ranges::any_of(loaded, [](const auto& model) { return model->engine.failed(); });
  const char* const status = failed ? "failed" : draining ? "shutting_down" : ready ? "ok" : "loading";
  call.exchange->respond({.status = ready && !draining && !failed ? 200u : 503u, .body = json_line({{"status", status}})});
}

Json model_json(const ModelState& state) {
  return {{"id", state.name},
          {"object", "model"},
          {"created", static_cast<int64_t>(state.since)},
          {"owned_by", "tritllm"},
          {"context_length", state.context},
          {"loaded", state.model != nullptr}};
}

void models(const Call& call) {
  Json data = Json::array();
  for (const ModelState& state : call.server.models().states()) data.push_back(model_json(state));
  call.respond({{"object", "list"}, {"data", std::move(data)}});
}

void one_model(const Call& call) {
  const std::string name = call.request.path.substr(std::string_view("/v1/models/").size());
  call.respond(model_json(call.server.models().state(name)));
}

void add_running_facts(const ServedModel& model, Json& facts) {
  const EngineMetrics metrics = model.engine.metrics();
  facts["device"] = model.language.model().backend().description();
  facts["slots"] = model.options.slots;
  facts["queue"] = model.options.queued;
  facts["live"] = metrics.live;
  facts["queued"] = metrics.queued;
  facts["sampling_defaults"] = to_json(model.language.defaults().sampler);
  facts["sampling_defaults_are_the_models"] = model.language.defaults().sampler_is_the_models;
}

void props(const Call& call) {
  Json all = Json::array();
  for (const ModelState& state : call.server.models().states()) {
    all.push_back(
        {{"model", state.name}, {"facts", state.facts}, {"context_length", state.context}, {"loaded", state.model != nullptr}});
    if (state.model) add_running_facts(*state.model, all.back());
  }
  call.respond({{"version", TRITLLM_VERSION}, {"models", std::move(all)}});
}

void write_engine_metrics(std::string& text, const std::vector<ModelUse>& models) {
  struct Row {
    const char *name, *type, *help;
    double (*value)(const EngineMetrics&);
  };
  static constexpr Row kRows[] = {
      {"tritllm_queue_requests", "gauge", "Requests that wait.", [](const EngineMetrics& m) { return double(m.queued); }},
      {"tritllm_live_sequences", "gauge", "Sequences that are computed.", [](const EngineMetrics& m) { return double(m.live); }},
      {"tritllm_cache_pages", "gauge", "Pages of the key/value cache.", [](const EngineMetrics& m) { return double(m.pages); }},
      {"tritllm_cache_pages_used", "gauge", "Pages that live sequences hold.",
       [](const EngineMetrics& m) { return double(m.pages_used); }},
      {"tritllm_cache_pages_shared", "gauge", "Pages that several sequences hold.",
       [](const EngineMetrics& m) { return double(m.pages_shared); }},
      {"tritllm_prompt_tokens_computed_total", "counter", "Tokens of prompts that were computed.",
       [](const EngineMetrics& m) { return double(m.prompt_tokens); }},
      {"tritllm_prefill_tokens_per_second", "gauge", "Speed of prefill, lately.",
       [](const EngineMetrics& m) { return m.prompt_tokens_per_second; }},
  };
  for (const Row& row : kRows) {
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", row.name, row.help, row.type);
    for (const auto& model : models) {
      text += fmt::format("{}{{model={}}} {}\n", row.name, json_line(model->name), row.value(model->engine.metrics()));
    }
  }
}

void metrics(const Call& call) {
  std::string text = call.server.metrics().text();
  write_engine_metrics(text, call.server.models().loaded());
  call.exchange->respond({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = std::move(text)});
}

}  // namespace

void add_model_routes(Routes& routes) {
  routes.push_back({.method = "GET",
                    .path = "/health",
                    .summary = "200 when ready; 503 while loading or shutting down",
                    .open = true,
                    .run = health});
  routes.push_back({.method = "GET", .path = "/v1/models", .summary = "The models that are served", .run = models});
  routes.push_back({.method = "GET", .path = "/v1/models/*", .summary = "One model", .run = one_model});
  routes.push_back({.method = "GET", .path = "/props", .summary = "Models and settings in full", .run = props});
  routes.push_back(
      {.method = "GET", .path = "/metrics", .summary = "Counters for Prometheus", .answers = {"text/plain"}, .run = metrics});
}

}  // namespace tritllm::server
