// Added tokens of tokenizer.json: texts that are found in the input before anything else and become one token each.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/text/keyed_hash.hpp"
#include "runtime/text/normalizer.hpp"

namespace mambasdk::runtime {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // looked for in the normalised text
  bool special = false;      // left out by decode(skip_special)
};

// Finds the longest of a set of texts at a place.
class Trie {
 public:
  static constexpr std::int32_t kNone = -1;
  void insert(std::string_view text, std::int32_t value);
  // (value, length) of the longest text that starts at text[at]; (kNone, 0) if there is none.
  [[nodiscard]] std::pair<std::int32_t, std::size_t> longest(std::string_view text, std::size_t at) const;
  [[nodiscard]] bool empty() const noexcept { return nodes_.size() == 1; }

 private:
  struct Node {
    std::int32_t value = kNone;
    std::vector<std::pair<unsigned char, std::uint32_t>> edges;  // by byte
  };
  using Edges = decltype(Node::edges);
  [[nodiscard]] static Edges::const_iterator edge_of(const Edges& edges, unsigned char byte);
  std::vector<Node> nodes_ = {Node{}};
  std::array<std::uint32_t, 256> roots_{};  // first edges; 0: none
};

class AddedTokens {
 public:
  // A stretch of text: an added token (id >= 0), or what lies between.
  struct Stretch {
    std::int32_t id;
    std::size_t begin, end;
  };

  // value: the "added_tokens" array; may be null.
  [[nodiscard]] static AddedTokens from_json(const nlohmann::json& value, const Normalizer& normalizer);

  // normalized: which of the two kinds of tokens to look for.
  [[nodiscard]] std::vector<Stretch> find(std::string_view text, bool normalized) const;
  [[nodiscard]] bool any(bool normalized) const { return !tries_[normalized ? 1 : 0].empty(); }

  [[nodiscard]] const AddedToken* by_id(std::int32_t id) const;
  [[nodiscard]] const AddedToken* by_content(std::string_view content) const;
  [[nodiscard]] bool is_special(std::string_view content) const;
  [[nodiscard]] std::int32_t id_limit() const noexcept { return id_limit_; }

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, std::size_t> by_id_;
  std::unordered_map<std::string, std::size_t, KeyedHash, std::equal_to<>> by_content_;
  std::array<Trie, 2> tries_;  // not normalized, normalized; the values are indices into tokens_
  std::int32_t id_limit_ = 0;
};

}  // namespace mambasdk::runtime
