// Reading the BPE model of tokenizer.json.
#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/text/bpe.hpp"
#include "runtime/text/text_budget.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr std::string_view kModel = "tokenizer.json: model";

[[noreturn]] void unsupported(std::string_view what) {
  fail(ErrorCode::unsupported, kModel, ": ", what, " is not supported by the native tokenizer");
}

}  // namespace

Bpe Bpe::from_json(const json& value, bool byte_level) {
  const std::string type = json_string_or(value, "type", "BPE", kModel);
  if (type != "BPE") unsupported(concat("model type \"", printable(type), "\""));
  if (const json* dropout = json_find(value, "dropout"); dropout != nullptr && *dropout != 0.0) unsupported("dropout");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json_string_or(value, affix, "", kModel).empty()) unsupported(affix);
  }
  Bpe bpe;
  bpe.byte_level_ = byte_level;
  bpe.byte_fallback_ = json_bool_or(value, "byte_fallback", false, kModel);
  bpe.ignore_merges_ = json_bool_or(value, "ignore_merges", false, kModel);
  bpe.fuse_unk_ = json_bool_or(value, "fuse_unk", false, kModel);
  bpe.read_vocabulary(json_at(value, "vocab", kModel));
  bpe.read_merges(json_at(value, "merges", kModel));
  bpe.read_symbols(value);
  return bpe;
}

void Bpe::read_vocabulary(const json& vocabulary) {
  const std::string where = concat(kModel, ".vocab");
  std::int64_t largest = -1;
  for (const auto& [token, id] : json_object(vocabulary, where).items()) {
    const std::int64_t number = json_int(id, where);
    if (number < 0 || number > kMaxTokenId) {
      fail(ErrorCode::corrupt, where, ": token \"", printable(token), "\" has id ", number, ", expected 0 to ",
           kMaxTokenId);
    }
    if (token.size() > kMaxTokenBytes) {
      fail(ErrorCode::unsupported, where, ": token \"", printable(token), "\" has ", token.size(), " bytes, at most ",
           kMaxTokenBytes, " are taken");
    }
    largest = std::max(largest, number);
  }
  tokens_.resize(static_cast<std::size_t>(largest + 1));
  ids_.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    const auto number = id.get<std::int32_t>();
    std::optional<std::string>& place = tokens_[static_cast<std::size_t>(number)];
    if (place) {
      fail(ErrorCode::corrupt, where, ": tokens \"", printable(*place), "\" and \"", printable(token), "\" share id ",
           number);
    }
    place = token;
    ids_.emplace(*place, number);
  }
}

void Bpe::read_merges(const json& merges) {
  const std::string where = concat(kModel, ".merges");
  json_array(merges, where);
  merges_.resize(std::bit_ceil(std::max<std::size_t>(16, merges.size() * 2)));
  std::uint32_t rank = 0;
  std::string joined;
  for (const json& merge : merges) {
    std::string_view left, right;
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        fail(ErrorCode::corrupt, where, ": merge ", rank, " is \"", printable(text), "\", expected two tokens");
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else {
      if (json_array(merge, where).size() != 2) {
        fail(ErrorCode::corrupt, where, ": merge ", rank, " has ", merge.size(), " parts, expected 2");
      }
      left = json_string(merge[0], where);
      right = json_string(merge[1], where);
    }
    joined.assign(left).append(right);
    const auto left_id = token_to_id(left), right_id = token_to_id(right), merged = token_to_id(joined);
    if (!left_id || !right_id || !merged) {
      fail(ErrorCode::corrupt, where, ": merge ", rank, " (\"", printable(left), "\", \"", printable(right),
           "\") has a token that is not in the vocabulary");
    }
    add_merge(static_cast<std::uint64_t>(*left_id) << 32 | static_cast<std::uint32_t>(*right_id), rank, *merged);
    ++rank;
  }
}

void Bpe::read_symbols(const json& model) {
  const std::string unk = json_string_or(model, "unk_token", "", kModel);
  if (!unk.empty()) {
    const auto id = token_to_id(unk);
    if (!id) fail(ErrorCode::corrupt, kModel, ": unk_token \"", printable(unk), "\" is not in the vocabulary");
    unk_id_ = *id;
  }
  const auto id_or_none = [&](const std::string& token) { return token_to_id(token).value_or(kNone); };
  const ByteAlphabet& alphabet = byte_alphabet();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string spelling;
    append_utf8(spelling, alphabet.character[byte]);
    byte_ids_[byte] = id_or_none(spelling);
    constexpr char digits[] = "0123456789ABCDEF";
    fallback_ids_[byte] = id_or_none(std::string("<0x") + digits[byte >> 4] + digits[byte & 15] + ">");
  }
  ascii_ids_.fill(kNone);
  for (const auto& [token, id] : ids_) {
    if (token.empty()) continue;
    std::size_t at = 0;
    const char32_t first = next_code_point(token, at);
    if (at == token.size()) {
      if (first < ascii_ids_.size()) {
        ascii_ids_[first] = id;
      } else {
        character_ids_.emplace(first, id);
      }
    }
    if (!byte_level_ || !ignore_merges_) continue;
    if (auto bytes = alphabet.decode(token)) whole_words_.emplace(std::move(*bytes), id);
  }
}

}  // namespace mambasdk::runtime
