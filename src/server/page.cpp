// The routes of the chat page. Its files are part of the program (cmake/embed_files.cmake), so that it asks no other server for
// anything; the policy in its head forbids it to.
#include "server/page_files.h"

#include <algorithm>

#include "server/api_error.h"
#include "server/api_server.h"

namespace tritllm::server {
namespace {

// Styles may stand in attributes: the library for formulas writes sizes there.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; font-src "
    "'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void send_file(const Call& call) {
  const auto files = page_files();
  const auto found = std::ranges::find(files, std::string_view(call.request.path), &PageFile::path);
  if (found == files.end()) throw ApiError(404, "there is no such file", "", "not_found");
  const char* const charset = found->content_type.starts_with("text/") ? "; charset=utf-8" : "";
  call.exchange->respond({.content_type = std::string(found->content_type) + charset,
                          .body = std::string(found->contents),
                          .fields = {{"Content-Security-Policy", std::string(kPolicy)}, {"Cache-Control", "no-cache"}}});
}

}  // namespace

void add_page_routes(Routes& routes) {
  routes.push_back(
      {.method = "GET", .path = "/", .summary = "The chat page", .open = true, .answers = {"text/html"}, .run = send_file});
  routes.push_back({.method = "GET",
                    .path = "/page/*",
                    .summary = "A file of the page",
                    .open = true,
                    .answers = {"text/css", "text/javascript", "font/woff2"},
                    .run = send_file});
}

}  // namespace tritllm::server
