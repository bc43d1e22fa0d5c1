// Byte-pair encoding: symbols first, then the merge of lowest rank, leftmost first, until none applies.
#include "runtime/text/bpe.hpp"

#include <algorithm>
#include <cstring>
#include <queue>

#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet = [] {
    ByteAlphabet result{};
    result.byte_of.fill(-1);
    char32_t next = 0x100;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
      result.character[byte] = character;
      result.byte_of[character] = static_cast<std::int16_t>(byte);
    }
    return result;
  }();
  return alphabet;
}

std::optional<std::string> ByteAlphabet::decode(std::string_view token) const {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const char32_t character_at = next_code_point(token, at);
    if (character_at >= byte_of.size() || byte_of[character_at] < 0) return std::nullopt;
    bytes += static_cast<char>(byte_of[character_at]);
  }
  return bytes;
}

namespace {

constexpr std::size_t kCacheEntries = std::size_t{1} << 15;
constexpr std::size_t kCacheProbes = 8;
constexpr std::size_t kCacheTextBytes = std::size_t{1} << 20;

constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio

}  // namespace

WordCache::WordCache() : entries_(kCacheEntries) {}

std::uint64_t WordCache::hash_of(std::string_view word) {
  std::uint64_t hash = word.size() * kMultiplier;
  const auto mix = [&](std::uint64_t value) {
    hash = (hash ^ value) * kMultiplier;
    hash ^= hash >> 29;
  };
  while (word.size() >= 8) {
    std::uint64_t value = 0;
    std::memcpy(&value, word.data(), 8);
    mix(value);
    word.remove_prefix(8);
  }
  std::uint64_t rest = 0;
  for (const char c : word) rest = rest << 8 | static_cast<unsigned char>(c);
  mix(rest);
  return hash;
}

bool WordCache::find(std::string_view word, std::uint64_t hash, std::vector<std::int32_t>& ids) const {
  for (std::size_t probe = 0; probe < kCacheProbes; ++probe) {
    const Entry& entry = entries_[(hash + probe) % kCacheEntries];
    if (entry.length == 0) return false;
    if (entry.hash != hash || entry.length != word.size()) continue;
    if (std::memcmp(texts_.data() + entry.text, word.data(), word.size()) != 0) continue;
    ids.insert(ids.end(), ids_.begin() + entry.ids, ids_.begin() + entry.ids + entry.count);
    return true;
  }
  return false;
}

void WordCache::insert(std::string_view word, std::uint64_t hash, const std::int32_t* ids, std::size_t count) {
  if (used_ > kCacheEntries / 2 || texts_.size() > kCacheTextBytes) {
    std::fill(entries_.begin(), entries_.end(), Entry{});
    used_ = 0;
    texts_.clear();
    ids_.clear();
  }
  for (std::size_t probe = 0; probe < kCacheProbes; ++probe) {
    Entry& entry = entries_[(hash + probe) % kCacheEntries];
    if (entry.length != 0) continue;
    entry = {hash, static_cast<std::uint32_t>(texts_.size()), static_cast<std::uint32_t>(ids_.size()),
             static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(count)};
    texts_.insert(texts_.end(), word.begin(), word.end());
    ids_.insert(ids_.end(), ids, ids + count);
    ++used_;
    return;
  }
}

std::optional<std::int32_t> Bpe::token_to_id(std::string_view token) const {
  const auto place = ids_.find(token);
  return place == ids_.end() ? std::nullopt : std::optional(place->second);
}

const std::string* Bpe::id_to_token(std::int32_t id) const {
  if (id < 0 || id >= id_limit()) return nullptr;
  const std::optional<std::string>& token = tokens_[static_cast<std::size_t>(id)];
  return token ? &*token : nullptr;
}

const Bpe::Merge* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  const std::size_t mask = merges_.size() - 1;
  for (std::size_t at = merge_place(pair);; ++at) {
    const Merge& merge = merges_[at & mask];
    if (merge.pair == pair) return &merge;
    if (merge.pair == kEmpty) return nullptr;
  }
}

void Bpe::add_merge(std::uint64_t pair, std::uint32_t rank, std::int32_t merged) {
  const std::size_t mask = merges_.size() - 1;
  for (std::size_t at = merge_place(pair);; ++at) {
    Merge& merge = merges_[at & mask];
    if (merge.pair != kEmpty && merge.pair != pair) continue;
    merge = {pair, rank, merged};  // a pair that is listed twice has its later rank
    return;
  }
}

std::int32_t Bpe::character_id(char32_t character) const {
  if (character < ascii_ids_.size()) return ascii_ids_[character];
  const auto place = character_ids_.find(character);
  return place == character_ids_.end() ? kNone : place->second;
}

void Bpe::append_symbols(std::string_view word, std::vector<std::int32_t>& symbols) const {
  std::int32_t pending_unk = kNone;
  const auto unknown = [&](std::string_view spelling) {
    if (byte_fallback_) {
      const bool complete = std::all_of(spelling.begin(), spelling.end(),
                                        [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)] != kNone; });
      if (complete) {
        for (const char c : spelling) symbols.push_back(fallback_ids_[static_cast<unsigned char>(c)]);
        return;
      }
    }
    if (unk_id_ == kNone) return;  // without an unknown token the character vanishes
    if (pending_unk != kNone && !fuse_unk_) symbols.push_back(pending_unk);
    pending_unk = unk_id_;
  };
  const auto known = [&](std::int32_t id) {
    if (pending_unk != kNone) symbols.push_back(std::exchange(pending_unk, kNone));
    symbols.push_back(id);
  };
  if (byte_level_) {
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte_ids_[byte] != kNone) {
        known(byte_ids_[byte]);
      } else {
        std::string spelling;
        append_utf8(spelling, byte_alphabet().character[byte]);
        unknown(spelling);
      }
    }
  } else {
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t begin = at;
      const std::int32_t id = character_id(next_code_point(word, at));
      if (id != kNone) {
        known(id);
      } else {
        unknown(word.substr(begin, at - begin));
      }
    }
  }
  if (pending_unk != kNone) symbols.push_back(pending_unk);
}

std::size_t Bpe::merge_short(std::int32_t* symbols, std::size_t count) const {
  std::array<std::uint32_t, kShortWord> ranks{};  // of (symbol i, symbol i + 1)
  std::array<std::int32_t, kShortWord> merged{};
  const auto rank_pair = [&](std::size_t i) {
    const Merge* merge = find_merge(symbols[i], symbols[i + 1]);
    ranks[i] = merge == nullptr ? kNoRank : merge->rank;
    merged[i] = merge == nullptr ? kNone : merge->merged;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) rank_pair(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    symbols[best] = merged[best];
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    if (best + 1 < count) rank_pair(best);
    if (best > 0) rank_pair(best - 1);
  }
  return count;
}

std::size_t Bpe::merge_long(std::int32_t* symbols, std::size_t count) const {
  struct Link {
    std::uint32_t previous, next;
  };
  struct Candidate {
    std::uint32_t rank, at;
    std::int32_t left, right;  // the pair, to tell entries that later merges made stale
    std::int32_t merged;
    bool operator<(const Candidate& other) const {  // std::priority_queue takes the greatest
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  constexpr std::uint32_t end = ~std::uint32_t{0};
  std::vector<Link> links(count);
  for (std::size_t i = 0; i < count; ++i) {
    links[i] = {i == 0 ? end : static_cast<std::uint32_t>(i - 1),
                i + 1 == count ? end : static_cast<std::uint32_t>(i + 1)};
  }
  std::vector<Candidate> initial;
  const auto candidate = [&](std::uint32_t at, auto&& put) {
    const std::int32_t left = symbols[at], right = symbols[links[at].next];
    const Merge* merge = find_merge(left, right);
    if (merge != nullptr) put(Candidate{merge->rank, at, left, right, merge->merged});
  };
  for (std::uint32_t i = 0; i + 1 < count; ++i) {
    candidate(i, [&](const Candidate& c) { initial.push_back(c); });
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>{}, std::move(initial));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const std::uint32_t right = symbols[best.at] == best.left ? links[best.at].next : end;
    if (right == end || symbols[right] != best.right) continue;
    symbols[best.at] = best.merged;
    symbols[right] = kNone;
    const std::uint32_t after = links[right].next;
    links[best.at].next = after;
    const auto push = [&](const Candidate& c) { queue.push(c); };
    if (after != end) {
      links[after].previous = best.at;
      candidate(best.at, push);
    }
    if (links[best.at].previous != end) candidate(links[best.at].previous, push);
  }
  return static_cast<std::size_t>(std::remove(symbols, symbols + count, kNone) - symbols);
}

void Bpe::encode(std::string_view word, WordCache& cache, std::vector<std::int32_t>& ids) const {
  const bool cached = word.size() <= WordCache::kMaxWord;
  std::uint64_t hash = 0;
  if (cached) {
    hash = WordCache::hash_of(word);
    if (cache.find(word, hash, ids)) return;
  }
  const std::size_t begin = ids.size();
  std::optional<std::int32_t> whole;
  if (ignore_merges_) {
    if (byte_level_) {
      const auto place = whole_words_.find(word);
      if (place != whole_words_.end()) whole = place->second;
    } else {
      whole = token_to_id(word);
    }
  }
  if (whole) {
    ids.push_back(*whole);
  } else {
    append_symbols(word, ids);
    const std::size_t count = ids.size() - begin;
    const std::size_t left =
        count <= kShortWord ? merge_short(ids.data() + begin, count) : merge_long(ids.data() + begin, count);
    ids.resize(begin + left);
  }
  if (cached) cache.insert(word, hash, ids.data() + begin, ids.size() - begin);
}

}  // namespace mambasdk::runtime
