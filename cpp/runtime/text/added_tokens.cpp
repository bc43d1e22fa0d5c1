// Loading and finding added tokens.
#include "runtime/text/added_tokens.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/text/bpe.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxAddedBytes = std::size_t{8} << 20;  // of all tokens; a node of the trie for each at worst

// The word characters of the matcher of added tokens: unlike a pattern's \w, with the joiners and without superscripts
// and fractions.
bool joins_words(char32_t c) {
  if (c == 0x200C || c == 0x200D) return true;
  if (c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE)) return false;
  return is_word(c);
}

}  // namespace

// Where `byte` is, or would be.
Trie::Edges::const_iterator Trie::edge_of(const Edges& edges, unsigned char byte) {
  return std::lower_bound(edges.begin(), edges.end(), byte,
                          [](const auto& edge, unsigned char b) { return edge.first < b; });
}

void Trie::insert(std::string_view text, std::int32_t value) {
  std::uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const auto edge = edge_of(nodes_[node].edges, byte);
    if (edge != nodes_[node].edges.end() && edge->first == byte) {
      node = edge->second;
      continue;
    }
    const auto added = static_cast<std::uint32_t>(nodes_.size());
    nodes_[node].edges.insert(edge, {byte, added});
    if (node == 0) roots_[byte] = added;
    nodes_.emplace_back();
    node = added;
  }
  if (nodes_[node].value == kNone) nodes_[node].value = value;
}

std::pair<std::int32_t, std::size_t> Trie::longest(std::string_view text, std::size_t at) const {
  std::pair<std::int32_t, std::size_t> best = {kNone, 0};
  std::uint32_t node = roots_[static_cast<unsigned char>(text[at])];
  for (std::size_t i = at + 1; node != 0; ++i) {
    if (nodes_[node].value != kNone) best = {nodes_[node].value, i - at};
    if (i == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[i]);
    const Edges& edges = nodes_[node].edges;
    const auto edge = edge_of(edges, byte);
    node = edge == edges.end() || edge->first != byte ? 0 : edge->second;
  }
  return best;
}

AddedTokens AddedTokens::from_json(const json& value, const Normalizer& normalizer) {
  AddedTokens result;
  if (value.is_null()) return result;
  const std::string where = "tokenizer.json: added_tokens";
  std::size_t bytes = 0;
  for (const json& item : json_array(value, where)) bytes += json_string_at(item, "content", where).size();
  if (bytes > kMaxAddedBytes) {
    fail(ErrorCode::unsupported, where, ": ", bytes, " bytes of text; the native tokenizer takes ", kMaxAddedBytes);
  }
  TextBudget budget(bytes);
  for (const json& item : value) {
    AddedToken token;
    token.content = json_string_at(item, "content", where);
    const std::int64_t id = json_int(json_at(item, "id", where), where);
    if (id < 0 || id > kMaxTokenId) {
      fail(ErrorCode::corrupt, where, ": \"", printable(token.content), "\" has id ", id, ", expected 0 to ",
           kMaxTokenId);
    }
    token.id = static_cast<std::int32_t>(id);
    token.single_word = json_bool_or(item, "single_word", false, where);
    token.lstrip = json_bool_or(item, "lstrip", false, where);
    token.rstrip = json_bool_or(item, "rstrip", false, where);
    token.special = json_bool_or(item, "special", false, where);
    token.normalized = json_bool_or(item, "normalized", !token.special, where);
    if (token.content.empty()) continue;
    const std::size_t index = result.tokens_.size();
    if (!result.by_content_.emplace(token.content, index).second) {
      fail(ErrorCode::corrupt, where, ": \"", printable(token.content), "\" is listed twice");
    }
    if (!result.by_id_.emplace(token.id, index).second) {
      fail(ErrorCode::corrupt, where, ": id ", token.id, " is listed twice");
    }
    result.id_limit_ = std::max(result.id_limit_, token.id + 1);
    const std::string text = token.normalized ? normalizer.apply(token.content, budget) : token.content;
    if (std::max(text.size(), token.content.size()) > kMaxTokenBytes) {
      fail(ErrorCode::unsupported, where, ": \"", printable(token.content), "\" has more than ", kMaxTokenBytes,
           " bytes");
    }
    if (!text.empty()) result.tries_[token.normalized ? 1 : 0].insert(text, static_cast<std::int32_t>(index));
    result.tokens_.push_back(std::move(token));
  }
  return result;
}

std::vector<AddedTokens::Stretch> AddedTokens::find(std::string_view text, bool normalized) const {
  const Trie& trie = tries_[normalized ? 1 : 0];
  std::vector<Stretch> stretches;
  std::size_t done = 0;
  // The run of white space that was last looked at: a token that is white space itself may begin at each place of it.
  std::size_t space_begin = 0, space_end = 0;
  const auto end_of_space = [&](std::size_t from) {
    if (from < space_begin || from >= space_end) {
      space_begin = space_end = from;
      for (std::size_t place = from; place < text.size() && is_white_space(next_code_point(text, place));) {
        space_end = place;
      }
    }
    return space_end;
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto [index, length] = trie.longest(text, at);
    if (index == Trie::kNone) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
    std::size_t begin = at, end = at + length;
    at = end;
    if (token.single_word) {
      const auto word_at = [&](std::size_t place) { return joins_words(next_code_point(text, place)); };
      if ((begin > 0 && word_at(previous_code_point(text, begin))) || (end < text.size() && word_at(end))) continue;
    }
    if (token.lstrip) {
      while (begin > done) {
        const std::size_t before = previous_code_point(text, begin);
        std::size_t place = before;
        if (!is_white_space(next_code_point(text, place))) break;
        begin = before;
      }
      begin = std::max(begin, done);
    }
    if (token.rstrip) end = end_of_space(end);
    if (done < begin) stretches.push_back({-1, done, begin});
    stretches.push_back({token.id, begin, end});
    done = end;
  }
  if (done < text.size()) stretches.push_back({-1, done, text.size()});
  return stretches;
}

const AddedToken* AddedTokens::by_id(std::int32_t id) const {
  const auto place = by_id_.find(id);
  return place == by_id_.end() ? nullptr : &tokens_[place->second];
}

const AddedToken* AddedTokens::by_content(std::string_view content) const {
  const auto place = by_content_.find(content);
  return place == by_content_.end() ? nullptr : &tokens_[place->second];
}

bool AddedTokens::is_special(std::string_view content) const {
  const AddedToken* token = by_content(content);
  return token != nullptr && token->special;
}

}  // namespace mambasdk::runtime
