// Tokenizers without Python: merges, added tokens, byte fallback, streaming, hostile files. Parity with the
// `tokenizers` package is tests/runtime/test_tokenizer_parity.py.
#include "runtime/text/tokenizer.hpp"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "core/error.hpp"
#include "runtime/text/bpe.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

// Byte-level BPE over the whole byte alphabet with these merges, each of two spellings.
json byte_level(const std::vector<std::pair<std::string, std::string>>& merges, bool pair_format = true) {
  json vocabulary = json::object();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string spelling;
    append_utf8(spelling, byte_alphabet().character[byte]);
    vocabulary[spelling] = byte;
  }
  json list = json::array();
  for (const auto& [left, right] : merges) {
    const std::size_t id = vocabulary.size();
    vocabulary.emplace(left + right, id);
    if (pair_format) {
      list.push_back({left, right});
    } else {
      list.push_back(left + " " + right);
    }
  }
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", list}}}};
}

std::unique_ptr<Tokenizer> load(const json& root) {
  return Tokenizer::from_json(root.dump());
}

std::string decode(const Tokenizer& tokenizer, const Ids& ids) {
  return tokenizer.decode(ids, false);
}

std::string stream(const Tokenizer& tokenizer, const Ids& ids) {
  TextStream stream(tokenizer, false);
  std::string text;
  for (const std::int32_t id : ids) {
    const std::string piece = stream.push(id);
    EXPECT_EQ(find_invalid_utf8(piece), std::string::npos) << "pieces are valid UTF-8";
    text += piece;
  }
  return text + stream.finish();
}

// Textbook BPE: again and again the pair of lowest rank, leftmost first.
Ids plain_bpe(Ids symbols,
              const std::map<std::pair<std::int32_t, std::int32_t>, std::pair<int, std::int32_t>>& merges) {
  while (true) {
    std::size_t best = 0;
    int rank = std::numeric_limits<int>::max();
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto place = merges.find({symbols[i], symbols[i + 1]});
      if (place != merges.end() && place->second.first < rank) best = i, rank = place->second.first;
    }
    if (rank == std::numeric_limits<int>::max()) return symbols;
    symbols[best] = merges.at({symbols[best], symbols[best + 1]}).second;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Tokenizer, MergesAsTheTextbookDoes) {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"a", "b"},     {"b", "c"},  {"ab", "c"}, {"a", "a"},   {"aa", "aa"}, {"c", "c"},
      {"abc", "abc"}, {"aa", "b"}, {"c", "a"},  {"bc", "ca"}, {"b", "b"},   {"bb", "b"}};
  for (const bool pair_format : {true, false}) {
    const auto tokenizer = load(byte_level(merges, pair_format));
    std::map<std::pair<std::int32_t, std::int32_t>, std::pair<int, std::int32_t>> table;
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const auto id = [&](const std::string& token) { return *tokenizer->token_to_id(token); };
      table[{id(merges[i].first), id(merges[i].second)}] = {static_cast<int>(i),
                                                            id(merges[i].first + merges[i].second)};
    }
    std::mt19937 random(3);
    for (int i = 0; i < 500; ++i) {
      std::string text;
      const std::size_t length = 1 + random() % (i % 5 == 0 ? 300 : 40);  // both sides of the short-word limit
      for (std::size_t k = 0; k < length; ++k) text += static_cast<char>('a' + random() % 3);
      const Ids symbols(text.begin(), text.end());
      const Ids expected = plain_bpe(symbols, table);
      ASSERT_EQ(tokenizer->encode(text, false), expected) << text;
      ASSERT_EQ(tokenizer->encode(text, false), expected) << text << " (from the cache)";
      ASSERT_EQ(decode(*tokenizer, expected), text);
      ASSERT_EQ(stream(*tokenizer, expected), text);
    }
  }
}

TEST(Tokenizer, OneLongWordTakesNoQuadraticTime) {
  const auto tokenizer = load(byte_level({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}}));
  const Ids ids = tokenizer->encode(std::string(400'000, 'a'), false);
  EXPECT_EQ(ids.size(), 50'000u);
}

TEST(Tokenizer, AnyTextRoundTripsThroughByteLevel) {
  const auto tokenizer = load(byte_level({{"a", "b"}}));
  std::string text;
  for (char32_t c = 0; c < 0x110000; c += 37) {
    if (c < 0xD800 || c >= 0xE000) append_utf8(text, c);
  }
  const Ids ids = tokenizer->encode(text, false);
  EXPECT_EQ(decode(*tokenizer, ids), text);
  EXPECT_EQ(stream(*tokenizer, ids), text);
  try {
    (void)tokenizer->encode("ab\xff", false);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("byte 2"), std::string::npos);
  }
}

TEST(Tokenizer, AddedTokensAndTemplate) {
  json root = byte_level({{"a", "b"}});
  root["added_tokens"] = {{{"id", 300}, {"content", "<s>"}, {"special", true}},
                          {{"id", 301}, {"content", "<s>x"}, {"special", false}, {"normalized", false}},
                          {{"id", 302}, {"content", "word"}, {"single_word", true}, {"special", false}},
                          {{"id", 303}, {"content", "<l>"}, {"lstrip", true}, {"rstrip", true}, {"special", true}}};
  root["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {300}}, {"tokens", {"<s>"}}}}}}};
  const auto tokenizer = load(root);
  EXPECT_EQ(tokenizer->encode("<s>x<s>", false), (Ids{301, 300})) << "the longest wins";
  EXPECT_EQ(tokenizer->encode("a", true), (Ids{300, 'a'}));
  EXPECT_EQ(tokenizer->encode("", true), (Ids{300}));
  EXPECT_EQ(tokenizer->encode("word", false), (Ids{302}));
  EXPECT_EQ(tokenizer->encode("xword", false).size(), 5u);
  EXPECT_EQ(tokenizer->encode("a \t<l>\n b", false), (Ids{'a', 303, 'b'}));
  EXPECT_EQ(tokenizer->decode(Ids{300, 'a'}, true), "a");
  EXPECT_EQ(tokenizer->decode(Ids{300, 'a'}, false), "<s>a");
  EXPECT_EQ(tokenizer->vocab_size(), 304);
  EXPECT_TRUE(tokenizer->is_special(300));
  EXPECT_FALSE(tokenizer->is_special(302));
  EXPECT_EQ(tokenizer->token_to_id("<l>"), 303);
  EXPECT_EQ(tokenizer->token_bytes(299), std::nullopt);
  EXPECT_EQ(decode(*tokenizer, {-5, 299, 1 << 30, 'a'}), "a");
}

TEST(TextStream, HoldsBackHalfCharacters) {
  const auto tokenizer = Tokenizer::bytes();
  TextStream stream(*tokenizer);
  std::vector<std::string> pieces;
  for (const char c : std::string("a\xF0\x9F\x98\x80z\xE2\x82")) {
    pieces.push_back(stream.push(static_cast<unsigned char>(c)));
  }
  EXPECT_EQ(pieces, (std::vector<std::string>{"a", "", "", "", "\xF0\x9F\x98\x80", "z", "", ""}));
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

TEST(TextStream, AContinuationKeepsItsLeadingSpace) {
  json root = byte_level({});
  root["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}};
  const json cut = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", "_"}}}, {"content", " "}};
  const json metaspace = {{"type", "Metaspace"}, {"replacement", "_"}};
  const json sequence = {{"type", "Sequence"}, {"decoders", {replace, {{"type", "Fuse"}}, cut}}};
  for (const json& decoder : {metaspace, sequence}) {
    root["decoder"] = decoder;
    const auto tokenizer = load(root);
    const Ids ids = tokenizer->encode("a b", false);
    EXPECT_EQ(ids, (Ids{'_', 'a', '_', 'b'}));
    EXPECT_EQ(stream(*tokenizer, ids), "a b");
    TextStream continuation(*tokenizer, false, false);
    std::string text;
    for (const std::int32_t id : ids) text += continuation.push(id);
    EXPECT_EQ(text, " a b");
  }
}

TEST(TextStream, RepairsLikeDecodeWhateverTheBytes) {
  const auto tokenizer = Tokenizer::bytes();
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    Ids ids;
    for (int k = 0; k < 12; ++k) {
      static constexpr int bytes[] = {0x41, 0x80, 0xBF, 0xC2, 0xE0, 0xA0, 0xED, 0x9F, 0xF0, 0x90, 0xF4, 0x8F, 0xFF};
      ids.push_back(bytes[random() % std::size(bytes)]);
    }
    ASSERT_EQ(stream(*tokenizer, ids), decode(*tokenizer, ids));
  }
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const auto tokenizer = load(byte_level({{"a", "b"}, {"ab", "ab"}}));
  std::vector<std::thread> threads;
  const Ids expected = tokenizer->encode("abab ab", false);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) EXPECT_EQ(tokenizer->encode("abab ab", false), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Tokenizer, RefusesBrokenFiles) {
  const json good = byte_level({{"a", "b"}});
  EXPECT_NO_THROW((void)load(good));
  const auto broken = [&](auto&& change) {
    json root = good;
    change(root);
    EXPECT_THROW((void)load(root), Error) << root.dump().substr(0, 300);
  };
  broken([](json& root) { root = 3; });
  broken([](json& root) { root.erase("model"); });
  broken([](json& root) { root["model"]["vocab"]["a"] = -1; });
  broken([](json& root) { root["model"]["vocab"]["a"] = 1.5; });
  broken([](json& root) { root["model"]["vocab"]["a"] = 4'000'000'000u; });
  broken([](json& root) { root["model"]["vocab"]["a"] = 98; });  // the id of "b"
  broken([](json& root) { root["model"]["vocab"] = json::array(); });
  broken([](json& root) { root["model"]["merges"] = {"a b c"}; });
  broken([](json& root) { root["model"]["merges"] = {"ab"}; });
  broken([](json& root) { root["model"]["merges"] = {{"a", "b", "c"}}; });
  broken([](json& root) { root["model"]["merges"] = {{"a", "zzz"}}; });
  broken([](json& root) { root["model"]["merges"] = {3}; });
  broken([](json& root) { root["model"]["unk_token"] = "nowhere"; });
  broken([](json& root) { root["model"]["dropout"] = 0.1; });
  broken([](json& root) { root["model"]["type"] = "WordPiece"; });
  broken([](json& root) { root["model"]["end_of_word_suffix"] = "</w>"; });
  broken([](json& root) { root["added_tokens"] = {{{"id", -1}, {"content", "x"}}}; });
  broken([](json& root) { root["added_tokens"] = {{{"id", 1 << 30}, {"content", "x"}}}; });
  broken([](json& root) { root["added_tokens"] = {{{"content", "x"}}}; });
  broken([](json& root) { root["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", 3}}; });
  broken([](json& root) { root["pre_tokenizer"] = "ByteLevel"; });
  broken([](json& root) { root["decoder"] = {{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}}; });
  json deep = {{"type", "NFC"}};
  for (int i = 0; i < 25; ++i) deep = {{"type", "Sequence"}, {"normalizers", {deep}}};
  broken([&](json& root) { root["normalizer"] = deep; });
}

}  // namespace
}  // namespace mambasdk::runtime
