#include "engine/page_table.h"

#include <algorithm>
#include <cassert>

namespace tritllm {

namespace {

// A copy moves a whole page: fewer tokens are computed sooner.
constexpr uint32_t kFewestCopied = 8;

uint64_t hash_of(uint64_t previous, TokenId first) noexcept {
  uint64_t hash = (previous << 32 ^ first) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 29;
}

}  // namespace

PageTable::PageTable(uint32_t pages, uint32_t page_positions)
    : page_positions_(page_positions), pages_(pages), idle_(pages), reserved_(0) {}

std::optional<PageTable::Match> PageTable::find(uint64_t previous, std::span<const TokenId> text) const {
  std::optional<Match> best;
  if (text.empty()) return best;
  const auto [begin, end] = by_beginning_.equal_range(hash_of(previous, text.front()));
  for (auto entry = begin; entry != end; ++entry) {
    const Page& page = pages_[entry->second];
    if (page.previous != previous) continue;
    const auto count = static_cast<std::ptrdiff_t>(std::min(page.tokens.size(), text.size()));
    const auto equal =
        static_cast<uint32_t>(std::mismatch(text.begin(), text.begin() + count, page.tokens.begin()).first - text.begin());
    if (equal > 0 && (!best || equal > best->tokens)) best = Match{entry->second, equal};
  }
  return best;
}

std::optional<PageLease> PageTable::claim(std::span<const TokenId> prompt, uint32_t positions) {
  const uint32_t wanted = pages_for(positions);
  PageLease lease;
  share_full_pages(lease, prompt);
  lease.reserved = wanted - static_cast<uint32_t>(lease.pages.size());
  // The shared pages are held by now, so none of the idle ones is among them.
  const bool enough = reserved_ + lease.reserved <= idle_;
  if (!enough) lease.reserved = 0;
  reserved_ += lease.reserved;
  if (enough) return lease;
  release(lease);
  return std::nullopt;
}

std::optional<PageCopy> PageTable::extend(PageLease& lease, std::span<const TokenId> prompt) {
  if (lease.length % page_positions_ != 0) return std::nullopt;
  const size_t before = lease.pages.size();
  share_full_pages(lease, prompt);
  const auto found = static_cast<uint32_t>(lease.pages.size() - before);
  lease.reserved -= found;
  reserved_ -= found;
  return use_partial_page(lease, prompt);
}

void PageTable::share_full_pages(PageLease& lease, std::span<const TokenId> prompt) {
  const std::span<const TokenId> reusable = prompt.first(prompt.size() - 1);
  while (lease.length < reusable.size()) {
    const auto match = find(lease.previous, reusable.subspan(lease.length));
    if (!match || match->tokens < page_positions_) return;
    hold(match->page);
    lease.pages.push_back(match->page);
    lease.length += page_positions_;
    lease.previous = pages_[match->page].name;
  }
}

std::optional<PageCopy> PageTable::use_partial_page(PageLease& lease, std::span<const TokenId> prompt) {
  const std::span<const TokenId> reusable = prompt.first(prompt.size() - 1);
  if (lease.length >= reusable.size()) return std::nullopt;
  const auto match = find(lease.previous, reusable.subspan(lease.length));
  if (!match) return std::nullopt;
  const PageId from = match->page;
  const bool idle = pages_[from].references == 0, whole = match->tokens == pages_[from].tokens.size();
  if (!(idle && whole) && match->tokens < kFewestCopied) return std::nullopt;
  lease.length += match->tokens;
  // An idle page may also be the only one that is left.
  if (idle && (whole || idle_ == 1)) {
    --lease.reserved;
    --reserved_;
    hold(from);
    lease.pages.push_back(from);
    if (match->tokens < pages_[from].tokens.size()) pages_[from].name = 0;
    pages_[from].tokens.resize(match->tokens);
    return std::nullopt;
  }
  pages_[from].last_use = ++uses_;
  const PageId to = take_page(lease);
  pages_[to].tokens.assign(pages_[from].tokens.begin(), pages_[from].tokens.begin() + match->tokens);
  enter(to, lease.previous);
  return PageCopy{from, to};
}

void PageTable::make_room(PageLease& lease, uint32_t positions) {
  while (lease.pages.size() < pages_for(positions)) take_page(lease);
}

PageId PageTable::take_page(PageLease& lease) {
  assert(lease.reserved > 0 && idle_ > 0);
  PageId oldest = 0;
  bool found = false;
  for (PageId page = 0; page < pages_.size(); ++page) {
    if (pages_[page].references != 0) continue;
    if (!found || pages_[page].last_use < pages_[oldest].last_use) oldest = page, found = true;
  }
  forget(oldest);
  hold(oldest);
  lease.pages.push_back(oldest);
  --lease.reserved;
  --reserved_;
  return oldest;
}

void PageTable::append(PageLease& lease, std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) {
    const PageId id = lease.pages[lease.length / page_positions_];
    Page& page = pages_[id];
    page.tokens.push_back(token);
    if (page.tokens.size() == 1) enter(id, lease.previous);
    ++lease.length;
    if (page.tokens.size() == page_positions_) finish_page(lease);
  }
}

// Names the lease's page that has become full. Where another page holds the same, the lease takes that one.
void PageTable::finish_page(PageLease& lease) {
  PageId& id = lease.pages[lease.length / page_positions_ - 1];
  const auto [begin, end] = by_beginning_.equal_range(hash_of(lease.previous, pages_[id].tokens.front()));
  for (auto entry = begin; entry != end; ++entry) {
    const Page& other = pages_[entry->second];
    if (entry->second == id || other.name == 0 || other.previous != lease.previous || other.tokens != pages_[id].tokens) continue;
    const PageId same = entry->second;
    drop(id);
    forget(id);
    hold(same);
    id = same;
    lease.previous = other.name;
    return;
  }
  pages_[id].name = next_name_++;
  lease.previous = pages_[id].name;
}

void PageTable::release(PageLease& lease) noexcept {
  // A page is of use only together with those before it, so the last one is overwritten first.
  for (auto page = lease.pages.rbegin(); page != lease.pages.rend(); ++page) drop(*page);
  reserved_ -= lease.reserved;
  lease = {};
}

void PageTable::drop(PageId page) noexcept {
  pages_[page].last_use = ++uses_;
  if (--pages_[page].references == 0) ++idle_;
}

// The page has its first token, after the full page `previous`.
void PageTable::enter(PageId page, uint64_t previous) {
  pages_[page].previous = previous;
  by_beginning_.emplace(hash_of(previous, pages_[page].tokens.front()), page);
}

// The page may be overwritten.
void PageTable::forget(PageId id) {
  Page& page = pages_[id];
  if (!page.tokens.empty()) {
    const auto [begin, end] = by_beginning_.equal_range(hash_of(page.previous, page.tokens.front()));
    by_beginning_.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second == id; }));
  }
  page.tokens.clear();
  page.name = 0;
}

uint32_t PageTable::used() const noexcept { return static_cast<uint32_t>(pages_.size()) - idle_; }

uint32_t PageTable::shared() const noexcept {
  return static_cast<uint32_t>(std::ranges::count_if(pages_, [](const Page& page) { return page.references > 1; }));
}

}  // namespace tritllm
