// Owns which page of the key/value cache holds which tokens of which sequence: pages are shared between sequences that begin alike,
// live or finished, and the least recently used finished ones are overwritten first. Does not own the cache's memory (src/backend).
//
// A full page gets a name of its own. A lookup finds pages by the hash of the name of the page before and of the first token, then
// compares that name and the tokens themselves: a collision of hashes cannot mix up two texts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "text/tokenizer.h"

namespace tritllm {

// The pages of one sequence, in order of position.
struct PageLease {
  std::vector<PageId> pages;
  uint32_t length = 0;    // tokens in the cache
  uint32_t reserved = 0;  // pages that the sequence may still take
  uint64_t previous = 0;  // name of the last full page; 0: none
};

// A page that is to be copied to a page of the lease (Backend::copy_page).
struct PageCopy {
  PageId from, to;
};

class PageTable {
 public:
  PageTable(uint32_t pages, uint32_t page_positions);

  // Pages for a sequence of up to `positions` tokens, 1 or more, that begins with `prompt`: full pages that hold its beginning
  // already are shared, the rest is reserved. Nothing where too few pages are free.
  std::optional<PageLease> claim(std::span<const TokenId> prompt, uint32_t positions);

  // Where the lease ends with a full page: adds further pages that hold what follows in the prompt by now, the last one perhaps in
  // part. One token of the prompt is always left to compute. Copies that are returned are to be made before the next claim.
  std::optional<PageCopy> extend(PageLease& lease, std::span<const TokenId> prompt);

  // Takes pages from the lease's reservation until it has room for `positions`.
  void make_room(PageLease& lease, uint32_t positions);

  // Notes that the cache holds these tokens at the lease's next positions, for which it has room.
  void append(PageLease& lease, std::span<const TokenId> tokens);

  // What the pages hold may be shared by later sequences.
  void release(PageLease& lease) noexcept;

  uint32_t pages() const noexcept { return static_cast<uint32_t>(pages_.size()); }
  // Pages of live sequences, and those that more than one of them has.
  uint32_t used() const noexcept;
  uint32_t shared() const noexcept;

 private:
  struct Page {
    std::vector<TokenId> tokens;  // in the cache, by position
    uint64_t previous = 0;        // name of the page before
    uint64_t name = 0;            // 0: not full
    uint32_t references = 0;      // live sequences
    uint64_t last_use = 0;
  };
  // What a page holds of a text that continues `previous`.
  struct Match {
    PageId page;
    uint32_t tokens;
  };

  uint32_t pages_for(uint32_t positions) const noexcept { return (positions + page_positions_ - 1) / page_positions_; }
  // The page that holds most of `text` right after the page `previous`.
  std::optional<Match> find(uint64_t previous, std::span<const TokenId> text) const;
  void share_full_pages(PageLease& lease, std::span<const TokenId> prompt);
  // Continues with a part of a page: takes the page over where nothing of it is lost, else names it for a copy.
  std::optional<PageCopy> use_partial_page(PageLease& lease, std::span<const TokenId> prompt);
  PageId take_page(PageLease& lease);
  void hold(PageId page) noexcept {
    if (pages_[page].references++ == 0) --idle_;
  }
  void drop(PageId page) noexcept;
  void enter(PageId page, uint64_t previous);
  void forget(PageId page);
  void finish_page(PageLease& lease);

  uint32_t page_positions_;
  std::vector<Page> pages_;
  std::unordered_multimap<uint64_t, PageId> by_beginning_;  // hash of the page before and the page's first token
  uint32_t idle_;                                           // pages without references
  uint32_t reserved_;                                       // of all leases
  uint64_t next_name_ = 1, uses_ = 0;
};

}  // namespace tritllm
