// Pages that are shared, copied and overwritten always hold what their sequences computed. The test keeps the contents of every
// page by itself, as a device would.
#include "engine/page_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace tritllm {
namespace {

using Tokens = std::vector<TokenId>;
constexpr uint32_t kPage = 16;

// The device's side: each position of each page holds the whole text up to there.
class Memory {
 public:
  explicit Memory(uint32_t pages) : pages_(pages, std::vector<Tokens>(kPage)) {}

  void copy(const PageCopy& copy) { pages_[copy.to] = pages_[copy.from]; }
  // Computes tokens [begin, end) of a text.
  void compute(const PageLease& lease, const Tokens& text, size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      pages_[lease.pages[i / kPage]][i % kPage] = Tokens(text.begin(), text.begin() + static_cast<long>(i) + 1);
  }
  void expect_holds(const PageLease& lease, const Tokens& text) const {
    ASSERT_GE(lease.pages.size() * kPage, lease.length);
    for (size_t i = 0; i < lease.length; ++i) {
      ASSERT_EQ(pages_[lease.pages[i / kPage]][i % kPage], Tokens(text.begin(), text.begin() + static_cast<long>(i) + 1)) << i;
    }
  }

 private:
  std::vector<std::vector<Tokens>> pages_;
};

Tokens counted(size_t count, TokenId first = 0) {
  Tokens tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<TokenId>(i);
  return tokens;
}

// Claims, computes the whole text and releases it.
uint32_t reused_by(PageTable& table, Memory& memory, const Tokens& text) {
  auto lease = table.claim(text, static_cast<uint32_t>(text.size()));
  EXPECT_TRUE(lease);
  if (const auto copy = table.extend(*lease, text)) memory.copy(*copy);
  const uint32_t reused = lease->length;
  memory.expect_holds(*lease, text);
  table.make_room(*lease, static_cast<uint32_t>(text.size()));
  memory.compute(*lease, text, reused, text.size());
  table.append(*lease, std::span(text).subspan(reused));
  memory.expect_holds(*lease, text);
  table.release(*lease);
  return reused;
}

TEST(PageTable, OneTokenIsAlwaysLeft) {
  PageTable table(8, kPage);
  Memory memory(8);
  EXPECT_EQ(reused_by(table, memory, counted(32)), 0u);
  EXPECT_EQ(reused_by(table, memory, counted(32)), 31u) << "15 positions of the second page are copied";
  EXPECT_EQ(reused_by(table, memory, counted(20)), 16u) << "three positions are not worth a copy";
  EXPECT_EQ(reused_by(table, memory, counted(1)), 0u);
  EXPECT_EQ(reused_by(table, memory, counted(33)), 32u);
  EXPECT_EQ(reused_by(table, memory, counted(34)), 33u) << "the end of an idle page is taken over";
}

TEST(PageTable, EqualTokensAfterAnotherBeginningAreNotShared) {
  PageTable table(8, kPage);
  Memory memory(8);
  Tokens first = counted(16), second = counted(16, 100);
  const Tokens end = counted(17, 50);
  for (Tokens* const text : {&first, &second}) text->insert(text->end(), end.begin(), end.end());
  EXPECT_EQ(reused_by(table, memory, first), 0u);
  EXPECT_EQ(reused_by(table, memory, second), 0u);
  EXPECT_EQ(reused_by(table, memory, first), 32u);
}

TEST(PageTable, NothingIsGivenWhereTooFewAreFree) {
  PageTable table(4, kPage);
  auto first = table.claim(counted(3), 48);
  ASSERT_TRUE(first);
  EXPECT_FALSE(table.claim(counted(3, 50), 32));
  auto second = table.claim(counted(3, 50), 16);
  ASSERT_TRUE(second);
  EXPECT_FALSE(table.claim(counted(1, 90), 1));
  table.release(*first);
  EXPECT_TRUE(table.claim(counted(1, 90), 48));
}

TEST(PageTable, EqualPagesOfLiveSequencesBecomeOne) {
  PageTable table(8, kPage);
  Memory memory(8);
  const Tokens text = counted(20);
  auto first = table.claim(text, 20), second = table.claim(text, 20);
  for (PageLease* const lease : {&*first, &*second}) {
    table.make_room(*lease, 20);
    memory.compute(*lease, text, 0, 20);
    table.append(*lease, text);
  }
  EXPECT_EQ(first->pages[0], second->pages[0]);
  EXPECT_EQ(table.shared(), 1u);
  EXPECT_EQ(table.used(), 3u);
  memory.expect_holds(*second, text);
}

// Texts that begin alike in many ways, live together, grow, end at any point and are evicted.
TEST(PageTable, RandomLives) {
  struct Life {
    Tokens text;
    PageLease lease;
    bool extended = false;
  };
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t limit) { return random() % limit; };
    const auto pages = static_cast<uint32_t>(6 + below(20));
    PageTable table(pages, kPage);
    Memory memory(pages);
    std::vector<Life> lives;
    for (int event = 0; event < 2000; ++event) {
      if (below(3) == 0) {
        Life life;
        const size_t length = 1 + below(88);
        for (size_t i = 0; i < length; ++i) life.text.push_back(static_cast<TokenId>(below(40) == 0 ? below(3) : i));
        if (auto lease = table.claim(life.text, static_cast<uint32_t>(length))) {
          life.lease = std::move(*lease);
          memory.expect_holds(life.lease, life.text);
          lives.push_back(std::move(life));
        }
      } else if (!lives.empty()) {
        Life& life = lives[below(lives.size())];
        if (below(8) == 0 || life.lease.length == life.text.size()) {
          table.release(life.lease);
          std::swap(life, lives.back());
          lives.pop_back();
        } else {
          if (const auto copy = table.extend(life.lease, life.text)) memory.copy(*copy);
          memory.expect_holds(life.lease, life.text);
          const size_t count = 1 + below(life.text.size() - life.lease.length), begin = life.lease.length;
          table.make_room(life.lease, static_cast<uint32_t>(begin + count));
          memory.compute(life.lease, life.text, begin, begin + count);
          table.append(life.lease, std::span(life.text).subspan(begin, count));
        }
      }
      for (const Life& life : lives) memory.expect_holds(life.lease, life.text);
      ASSERT_LE(table.used(), pages);
      if (testing::Test::HasFailure()) FAIL() << "seed " << seed << ", event " << event;
    }
    for (Life& life : lives) table.release(life.lease);
    EXPECT_EQ(table.used(), 0u);
  }
}

}  // namespace
}  // namespace tritllm
