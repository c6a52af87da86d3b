#include "server/gate.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "server/api_error.h"
#include "support/temporary_folder.h"

namespace tritllm::server {
namespace {

HttpRequest request_of(HttpFields fields) { return {"GET", "/", "", std::move(fields), ""}; }

unsigned status_of(const Gate& gate, HttpFields fields) {
  try {
    const HttpRequest request = request_of(std::move(fields));
    gate.check_source(request);
    static_cast<void>(Gate::admit(gate.check_key(request)));
  } catch (const ApiError& error) {
    return error.status();
  }
  return 200;
}

TEST(Gate, TakesOwnNamesAlone) {
  const Gate gate({.hosts = {"models.example"}, .origins = {}, .key_file = {}});
  for (const char* host :
       {"localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080", "192.168.1.5", "models.example", "Models.Example:443"}) {
    EXPECT_EQ(status_of(gate, {{"host", host}}), 200u) << host;
  }
  for (const char* host :
       {"", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "xmodels.example", "127.0.0.1@evil"}) {
    EXPECT_EQ(status_of(gate, {{"host", host}}), 403u) << host;
  }
  EXPECT_EQ(status_of(gate, {}), 403u);
}

TEST(Gate, TakesPagesOfItsOwnAndOfAllowedSites) {
  const Gate gate({.hosts = {}, .origins = {"https://chat.example"}, .key_file = {}});
  EXPECT_EQ(status_of(gate, {{"host", "localhost:80"}, {"origin", "http://localhost:80"}}), 200u);
  EXPECT_EQ(status_of(gate, {{"host", "localhost:80"}, {"origin", "https://chat.example"}}), 200u);
  for (const char* origin :
       {"http://localhost:81", "null", "https://chat.example.evil", "http://chat.example", "localhost:80", ""}) {
    EXPECT_EQ(status_of(gate, {{"host", "localhost:80"}, {"origin", origin}}), 403u) << origin;
  }
  EXPECT_TRUE(gate.cross_origin_fields(request_of({{"host", "localhost"}, {"origin", "http://localhost"}})).empty());
}

class GateKeys : public testing::Test {
 protected:
  Gate gate(const std::string& lines) {
    std::ofstream(folder_.path() / "keys") << lines;
    return Gate({.hosts = {}, .origins = {}, .key_file = folder_.path() / "keys"});
  }
  TemporaryFolder folder_;
};

TEST_F(GateKeys, AreComparedWhole) {
  const Gate keys = gate("# a comment\n\n0123456789abcdef name=a\nfedcba9876543210\n");
  for (const char* given : {"Bearer 0123456789abcdef", "bearer fedcba9876543210"}) {
    EXPECT_EQ(status_of(keys, {{"host", "localhost"}, {"authorization", given}}), 200u) << given;
  }
  for (const char* given :
       {"", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdeff", "0123456789abcdef", "Bearer # a comment"}) {
    EXPECT_EQ(status_of(keys, {{"host", "localhost"}, {"authorization", given}}), 401u) << given;
  }
}

TEST_F(GateKeys, LimitRequestsAtATime) {
  const Gate keys = gate("0123456789abcdef concurrent=2\n");
  const auto key = keys.check_key(request_of({{"authorization", "Bearer 0123456789abcdef"}}));
  auto first = Gate::admit(key), second = Gate::admit(key);
  EXPECT_THROW(static_cast<void>(Gate::admit(key)), ApiError);
  first.reset();
  EXPECT_NO_THROW(static_cast<void>(Gate::admit(key)));
}

TEST_F(GateKeys, RefuseLinesThatCannotBeRead) {
  for (const char* lines : {"", "# nothing\n", "short\n", "0123456789abcdef concurrent=0\n", "0123456789abcdef limit=3\n",
                            "0123456789abcdef concurrent=x\n", "0123456789abcdef requests_per_minute=-1\n"}) {
    EXPECT_THROW(static_cast<void>(gate(lines)), Error) << lines;
  }
}

}  // namespace
}  // namespace tritllm::server
