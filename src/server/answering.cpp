#include "server/answering.h"

#include <fmt/format.h>

#include <chrono>
#include <mutex>
#include <optional>
#include <utility>

#include "core/json.h"
#include "server/api_error.h"

namespace tritllm::server {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin, Clock::time_point end) { return std::chrono::duration<double>(end - begin).count(); }

class Answering : public std::enable_shared_from_this<Answering> {
 public:
  Answering(AnswerRequest request, std::shared_ptr<Exchange> exchange, Metrics& metrics)
      : request_(std::move(request)),
        engine_(request_.model->engine),
        exchange_(std::move(exchange)),
        metrics_(metrics),
        latest_(request_.choices.size()) {}

  void begin() {
    {
      const std::lock_guard lock(mutex_);
      submit_all();
      metrics_.count_accepted();
      if (request_.stream) {
        exchange_->begin_stream(request_.writer->stream_head());
        exchange_->send(request_.writer->begin());
      }
    }
    exchange_->watch([self = shared_from_this()] { self->leave(); }, [self = shared_from_this()] { self->resume(); });
  }

 private:
  // Its events are those of one choice.
  class Sink final : public EventSink {
   public:
    Sink(std::shared_ptr<Answering> owner, size_t choice) : owner_(std::move(owner)), choice_(choice) {}
    bool accept(GenerationEvent event) noexcept override { return owner_->take(choice_, event); }

   private:
    const std::shared_ptr<Answering> owner_;
    const size_t choice_;
  };

  void submit_all() {
    if (const size_t most = request_.model->options.queued; request_.choices.size() > most) {
      throw ApiError(400, fmt::format("the request asks for {} answers; the queue holds {}", request_.choices.size(), most), "n");
    }
    try {
      for (size_t i = 0; i < request_.choices.size(); ++i) {
        const auto id = engine_.try_submit(std::move(request_.choices[i]), std::make_shared<Sink>(shared_from_this(), i));
        if (!id) {
          metrics_.count_busy();
          throw ApiError(503, "the server is busy: its queue is full", "", "server_busy");
        }
        ids_.push_back(*id);
      }
    } catch (...) {
      ended_ = true;
      cancel_all();
      throw;
    }
    open_ = ids_.size();
  }

  bool take(size_t choice, const GenerationEvent& event) noexcept {
    const std::lock_guard lock(mutex_);
    if (ended_) return true;
    try {
      return take_event(choice, event);
    } catch (const std::exception& error) {
      end_with(ApiError(500, error.what()), Metrics::Outcome::kFailed);
      return true;
    }
  }

  bool take_event(size_t choice, const GenerationEvent& event) {
    note_time(choice, event);
    if (event.finish == FinishReason::kFailed) {
      end_with(ApiError(500, event.error), Metrics::Outcome::kFailed);
      return true;
    }
    if (event.finish == FinishReason::kCancelled) {
      end_with(ApiError(503, "the server is shutting down"), Metrics::Outcome::kCancelled);
      return true;
    }
    std::string text = request_.writer->take(choice, event);
    if (event.finish) {
      metrics_.note_tokens(event.prompt_tokens, event.reused_tokens, event.generated_tokens);
      --open_;
    }
    if (open_ == 0) {
      end_well(std::move(text));
      return true;
    }
    return !request_.stream || text.empty() || exchange_->send(text);
  }

  void note_time(size_t choice, const GenerationEvent& event) {
    if (!event.token) return;
    const auto now = Clock::now();
    if (latest_[choice] == Clock::time_point()) metrics_.note_first_token(seconds_since(begin_, now));
    else metrics_.note_next_token(seconds_since(latest_[choice], now));
    latest_[choice] = now;
  }

  void end_well(std::string text) {
    ended_ = true;
    if (request_.stream) {
      exchange_->send(text + request_.writer->end());
      exchange_->end_stream();
    } else {
      exchange_->respond(request_.writer->whole());
    }
    close(Metrics::Outcome::kDone);
  }

  void end_with(const ApiError& error, Metrics::Outcome outcome) noexcept {
    ended_ = true;
    if (request_.stream) {
      exchange_->send(request_.writer->failed(json_line(error_json(error))));
      exchange_->end_stream();
    } else {
      exchange_->respond(error_response(error));
    }
    cancel_all();
    close(outcome);
  }

  void leave() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true)) return;
    cancel_all();
    close(Metrics::Outcome::kCancelled);
  }

  void resume() {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    for (const RequestId id : ids_) engine_.resume(id);
  }

  void cancel_all() {
    for (const RequestId id : ids_) engine_.cancel(id);
  }

  void close(Metrics::Outcome outcome) {
    metrics_.count_end(outcome);
    request_.lease.reset();
    request_.model.reset();
  }

  AnswerRequest request_;
  EngineService& engine_;  // used until close(), which gives the model back
  const std::shared_ptr<Exchange> exchange_;
  Metrics& metrics_;
  const Clock::time_point begin_ = Clock::now();
  std::mutex mutex_;  // of what follows, and of the writer
  std::vector<RequestId> ids_;
  std::vector<Clock::time_point> latest_;  // token of each choice
  size_t open_ = SIZE_MAX;                 // choices that are not complete
  bool ended_ = false;
};

}  // namespace

void answer(AnswerRequest request, std::shared_ptr<Exchange> exchange, Metrics& metrics) {
  const std::string_view prompt_field = request.prompt_field;
  try {
    std::make_shared<Answering>(std::move(request), std::move(exchange), metrics)->begin();
  } catch (const Error& error) {
    throw api_error(error, prompt_field);
  }
}

}  // namespace tritllm::server
