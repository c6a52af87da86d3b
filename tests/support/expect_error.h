// Owns the expectation that an action is refused, with a code and with words that tell the user where and why.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace tritllm {

inline void expect_error(ErrorCode code, std::string_view words, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string_view(error.what()).find(words), std::string_view::npos)
        << "'" << words << "' is not in: " << error.what();
    return;
  }
  ADD_FAILURE() << "nothing thrown where an error with '" << words << "' was expected";
}

}  // namespace tritllm
