// Owns a request while the engine answers it: several choices at once, the stream to its client, pauses for a slow reader, and the
// end where the client leaves. Does not own how a protocol writes an answer (AnswerWriter).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/generation.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/model_pool.h"

namespace tritllm::server {

// What one protocol makes of the engine's events. Called by one thread at a time.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  // The head of a stream, and its text before the first event.
  virtual HttpResponse stream_head() const {
    return {.content_type = "text/event-stream", .fields = {{"Cache-Control", "no-store"}}};
  }
  virtual std::string begin() { return {}; }
  // Keeps what whole() needs, or returns what a stream sends.
  virtual std::string take(size_t choice, const GenerationEvent& event) = 0;
  // The stream's last text, after the last event.
  virtual std::string end() = 0;
  // The stream's last text where the engine failed.
  virtual std::string failed(const std::string& error_body) = 0;
  // The whole answer, for a request that is not streamed.
  virtual HttpResponse whole() = 0;
};

struct AnswerRequest {
  ModelUse model;  // until the answer is complete
  std::vector<GenerationRequest> choices;
  std::unique_ptr<AnswerWriter> writer;
  bool stream = false;
  std::string_view prompt_field = "prompt";  // of the request, for errors
  std::shared_ptr<void> lease = nullptr;     // is dropped when the answer is complete
};

// Hands the choices to the engine; the answer goes to the exchange. Throws an ApiError where the engine refuses the request or its
// queue is full.
void answer(AnswerRequest request, std::shared_ptr<Exchange> exchange, Metrics& metrics);

}  // namespace tritllm::server
