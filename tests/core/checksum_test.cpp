// Owns the cases of core/checksum.h. The known values come from the xxh128sum tool (0.8.1), one for several of the algorithm's ways
// with a length: none, up to 3 bytes, 4 to 8, 129 to 240, longer.
#include "core/checksum.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tritllm {
namespace {

std::string counting_bytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i * 7 + i / 256) & 0xff);
  return bytes;
}

TEST(Checksum, KnownVectors) {
  EXPECT_EQ(checksum_of(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(checksum_of("a"), "a96faf705af16834e6c632b61e964e1f");
  EXPECT_EQ(checksum_of("tritllm"), "b69c499e3c7bd1b279e63af3ca9d1611");
  EXPECT_EQ(checksum_of(counting_bytes(200)), "dbfff5e13c798ab90497bdb3d145ccd6");
  EXPECT_EQ(checksum_of(counting_bytes(1000000)), "d542d63e61b2e867c44da33b7368a321");
}

TEST(Checksum, PiecesMakeTheSumOfTheWhole) {
  const std::string whole = counting_bytes(5000);
  for (const size_t piece : {1u, 7u, 64u, 256u, 1023u, 4999u}) {
    Checksum checksum;
    for (size_t at = 0; at < whole.size(); at += piece) checksum.add(std::string_view(whole).substr(at, piece));
    EXPECT_EQ(checksum.hex(), checksum_of(whole)) << "pieces of " << piece;
  }
}

TEST(Checksum, MoreMayBeAddedAfterReading) {
  Checksum checksum;
  EXPECT_EQ(checksum.hex(), checksum_of(""));
  checksum.add("tri");
  EXPECT_EQ(checksum.hex(), checksum_of("tri"));
  checksum.add("");
  checksum.add("tllm");
  EXPECT_EQ(checksum.hex(), checksum_of("tritllm"));
}

TEST(Checksum, EveryFlippedBitShows) {
  const std::string whole = counting_bytes(300);
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(static_cast<unsigned char>(flipped[bit / 8]) ^ (1u << (bit % 8)));
    ASSERT_NE(checksum_of(flipped), checksum_of(whole));
  }
}

}  // namespace
}  // namespace tritllm
