// Owns the files of the chat page, which are part of the program. Does not own their contents: those are in web/ and in packages.
#pragma once

#include <span>
#include <string_view>

namespace tritllm::server {

struct PageFile {
  std::string_view path, content_type, contents;
};

// "/" and the files below "/page/". The definition is written by cmake/embed_files.cmake.
std::span<const PageFile> page_files() noexcept;

}  // namespace tritllm::server
