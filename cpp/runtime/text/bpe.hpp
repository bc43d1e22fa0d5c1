// Byte-pair encoding (Sennrich et al. 2016) of one word at a time, as tokenizer.json describes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/text/keyed_hash.hpp"

namespace mambasdk::runtime {

// Ids above this are refused: no published vocabulary comes near, and tables are as large as the largest id.
inline constexpr std::int64_t kMaxTokenId = (1 << 22) - 1;

// The characters by which byte-level vocabularies spell bytes (GPT-2): printable Latin-1 stands for itself, the rest
// for U+0100 onwards.
struct ByteAlphabet {
  std::array<char32_t, 256> character;      // of a byte
  std::array<std::int16_t, 0x144> byte_of;  // of a character; -1 if it spells none
  // The bytes that `token` spells; nullopt where a character spells none.
  [[nodiscard]] std::optional<std::string> decode(std::string_view token) const;
};
[[nodiscard]] const ByteAlphabet& byte_alphabet();

// Words already encoded. Bounded; emptied when full.
class WordCache {
 public:
  WordCache();
  // Appends the word's ids and returns true if the word is known.
  bool find(std::string_view word, std::uint64_t hash, std::vector<std::int32_t>& ids) const;
  void insert(std::string_view word, std::uint64_t hash, const std::int32_t* ids, std::size_t count);
  [[nodiscard]] static std::uint64_t hash_of(std::string_view word);
  static constexpr std::size_t kMaxWord = 128;  // longer words seldom come twice

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t text = 0, ids = 0;
    std::uint16_t length = 0, count = 0;  // length 0: empty
  };
  std::vector<Entry> entries_;
  std::size_t used_ = 0;
  std::vector<char> texts_;
  std::vector<std::int32_t> ids_;
};

class Bpe {
 public:
  Bpe() = default;
  Bpe(Bpe&&) = default;
  Bpe& operator=(Bpe&&) = default;
  Bpe(const Bpe&) = delete;  // ids_ points into tokens_
  Bpe& operator=(const Bpe&) = delete;

  // value: the "model" of tokenizer.json. byte_level: words come as bytes that the vocabulary spells in
  // byte_alphabet(). Errors: corrupt, unsupported.
  [[nodiscard]] static Bpe from_json(const nlohmann::json& value, bool byte_level);

  // Appends the word's tokens. The word is not empty, and valid UTF-8 unless byte_level.
  void encode(std::string_view word, WordCache& cache, std::vector<std::int32_t>& ids) const;

  [[nodiscard]] std::optional<std::int32_t> token_to_id(std::string_view token) const;
  [[nodiscard]] const std::string* id_to_token(std::int32_t id) const;
  // Largest id + 1.
  [[nodiscard]] std::int32_t id_limit() const noexcept { return static_cast<std::int32_t>(tokens_.size()); }

 private:
  struct Merge {
    std::uint64_t pair = kEmpty;  // left id << 32 | right id
    std::uint32_t rank = 0;
    std::int32_t merged = 0;
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};
  static constexpr std::int32_t kNone = -1;
  static constexpr std::size_t kShortWord = 32;  // up to here a scan for the best pair beats a heap

  void read_vocabulary(const nlohmann::json& vocabulary);
  void read_merges(const nlohmann::json& merges);
  void read_symbols(const nlohmann::json& model);
  void add_merge(std::uint64_t pair, std::uint32_t rank, std::int32_t merged);
  [[nodiscard]] const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  [[nodiscard]] std::size_t merge_place(std::uint64_t pair) const {
    return static_cast<std::size_t>(folded_product(pair ^ key_.first, key_.second));
  }

  void append_symbols(std::string_view word, std::vector<std::int32_t>& symbols) const;
  [[nodiscard]] std::int32_t character_id(char32_t character) const;
  [[nodiscard]] std::size_t merge_short(std::int32_t* symbols, std::size_t count) const;
  [[nodiscard]] std::size_t merge_long(std::int32_t* symbols, std::size_t count) const;

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  bool fuse_unk_ = false;
  std::int32_t unk_id_ = kNone;
  std::vector<std::optional<std::string>> tokens_;                     // by id
  std::unordered_map<std::string_view, std::int32_t, KeyedHash> ids_;  // views of tokens_
  // By bytes; for ignore_merges with byte_level.
  std::unordered_map<std::string, std::int32_t, KeyedHash, std::equal_to<>> whole_words_;
  std::unordered_map<char32_t, std::int32_t> character_ids_;
  std::array<std::int32_t, 0x80> ascii_ids_{};
  std::array<std::int32_t, 256> byte_ids_{};      // byte_level: the token of each byte
  std::array<std::int32_t, 256> fallback_ids_{};  // the tokens <0x00> to <0xFF>
  std::vector<Merge> merges_;                     // open addressing, a power of two in size
  HashKey key_ = hash_key();
};

}  // namespace mambasdk::runtime
