// Tokenizers without Python: merges, added tokens, byte fallback, streaming, hostile files. Parity with the
// `tokenizers` package is tests/runtime/test_tokenizer_parity.py.
#include "runtime/text/tokenizer.hpp"

#include <gtest/gtest.h>

#include <chrono>
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

TEST(Tokenizer, AddedTokensOfAnyScriptDecodeAsThemselves) {
  json root = byte_level({});
  const std::vector<std::string> contents = {"\u00e9",     "\u00f5",  "na\u00efve",  "\uff5cb\u2581e\uff5c",
                                             "\U0001f600", "\u0120x", "\u00c3\u00a9"};
  std::int32_t id = 300;
  for (const std::string& content : contents) {
    root["added_tokens"].push_back({{"id", id++}, {"content", content}, {"special", false}});
  }
  const auto tokenizer = load(root);
  Ids all;
  std::string text;
  for (id = 300; id < 300 + static_cast<std::int32_t>(contents.size()); ++id) {
    const std::string& content = contents[static_cast<std::size_t>(id - 300)];
    EXPECT_EQ(tokenizer->encode(content, false), (Ids{id})) << content;
    EXPECT_EQ(decode(*tokenizer, {id}), content);
    EXPECT_EQ(stream(*tokenizer, {'x', id, 'y'}), "x" + content + "y");
    all.insert(all.end(), {'-', id});
    text += "-" + content;
  }
  EXPECT_EQ(decode(*tokenizer, all), text);
  EXPECT_EQ(stream(*tokenizer, all), text);
}

// A token that is added under the id of the byte it spells, as the `tokenizers` package adds it: text where the byte
// makes no character, else the byte.
TEST(Tokenizer, AnAddedTokenThatIsAlsoAByteIsWhatFits) {
  json root = byte_level({});
  root["added_tokens"] = {{{"id", 0xE9}, {"content", "\u00e9"}, {"special", false}}};
  const auto tokenizer = load(root);
  for (const std::string text : {"\u00e9", "a\u00e9\u00e9b", "\u9f3f\u00e9\u9f3f", "\u00e9\u9f3f"}) {
    const Ids ids = tokenizer->encode(text, false);
    EXPECT_EQ(decode(*tokenizer, ids), text);
    EXPECT_EQ(stream(*tokenizer, ids), text);
  }
}

json sequence(const char* key, const std::vector<json>& parts) {
  return {{"type", "Sequence"}, {key, parts}};
}

std::string refusal(const json& root, const std::string& text) {
  try {
    const auto tokenizer = load(root);
    const Ids ids = tokenizer->encode(text, true);
    (void)tokenizer->decode(ids, false);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

TEST(TokenizerBombs, ReplacementsThatFeedOnOneAnother) {
  const json twice = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  json root = byte_level({});
  root["normalizer"] = sequence("normalizers", std::vector<json>(30, twice));
  EXPECT_NE(refusal(root, "aaa").find("normalizer: its steps make more than 256 times"), std::string::npos);
  root = byte_level({});
  root["decoder"] = sequence("decoders", std::vector<json>(30, twice));
  EXPECT_NE(refusal(root, "aaa").find("decoder: its steps make more"), std::string::npos);
  root = byte_level({});
  root["normalizer"] = {{"type", "Prepend"}, {"prepend", std::string(1 << 20, 'a')}};
  EXPECT_NE(refusal(root, "aaa").find("normalizer"), std::string::npos);
  for (const char* part : {"normalizer", "decoder"}) {
    root = byte_level({});
    root[part] = sequence(part == std::string("decoder") ? "decoders" : "normalizers", std::vector<json>(1000, twice));
    EXPECT_NE(refusal(root, "a").find("more than 32 steps"), std::string::npos) << part;
  }
}

TEST(TokenizerBombs, AreReadAndRunInTimeLinearInTheirSize) {
  const auto start = std::chrono::steady_clock::now();
  // Added tokens of white space that take more white space on both sides.
  json root = byte_level({});
  root["added_tokens"] = {
      {{"id", 300}, {"content", " "}, {"lstrip", true}, {"rstrip", true}, {"special", false}, {"normalized", false}}};
  EXPECT_EQ(load(root)->encode(std::string(200'000, ' '), false).size(), 200'000u);
  // A pattern that looks to the end of the text from each place.
  root = byte_level({});
  root["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "a+b"}}}, {"behavior", "Isolated"}, {"invert", false}};
  EXPECT_EQ(load(root)->encode(std::string(200'000, 'a'), false).size(), 200'000u);
  // A long added token that nearly fits at each place.
  root = byte_level({});
  root["added_tokens"] = {{{"id", 300}, {"content", std::string(1000, 'a') + "b"}, {"special", false}}};
  EXPECT_EQ(load(root)->encode(std::string(100'000, 'a'), false).size(), 100'000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

// Merges whose pairs share the bits by which a fixed hash would place them: the low half, the low bits of both halves,
// the high bits after a product with the golden ratio. Reading them takes no longer than reading as many others.
TEST(TokenizerBombs, MergesThatWouldCollideUnderAFixedHash) {
  constexpr std::uint64_t kCount = 30'000, kRights = 1u << 16, kMerged = 1u << 18;
  const auto loading = [&](auto&& right_of) {
    json root = byte_level({});
    json& vocabulary = root["model"]["vocab"];
    json merges = json::array();
    for (std::uint64_t left = 1000; left < 1000 + kCount; ++left) {
      const std::uint64_t right = right_of(left);
      const std::string first = concat("l", left), second = concat("r", right);
      vocabulary[first] = left;
      vocabulary[second] = right;
      vocabulary[first + second] = kMerged + left;
      merges.push_back({first, second});
    }
    root["model"]["merges"] = std::move(merges);
    const std::string text = root.dump();
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Tokenizer::from_json(text)->token_to_id("l1000"), 1000);
    return std::chrono::steady_clock::now() - start;
  };
  std::mt19937_64 random(7);
  const auto usual = loading([&](std::uint64_t) { return kRights + random() % 16384; });
  EXPECT_LT(loading([&](std::uint64_t) { return kRights; }), 8 * usual);
  EXPECT_LT(loading([&](std::uint64_t left) { return kRights + left % 8 * 4096; }), 8 * usual);
  EXPECT_LT(loading([&](std::uint64_t left) {
              std::uint64_t right = kRights;
              while (((left << 32 | right) * 0x9E3779B97F4A7C15u) >> 52 != 0 && right < kRights + 65536) ++right;
              return right;
            }),
            8 * usual);
}

TEST(TokenizerBombs, PostProcessorsAndLongTokensHaveLimits) {
  json root = byte_level({});
  root["added_tokens"] = {{{"id", 300}, {"content", "<s>"}, {"special", true}}};
  const json special = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  json once = {{"type", "TemplateProcessing"},
               {"single", {special, text}},
               {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {300}}, {"tokens", {"<s>"}}}}}}};
  root["post_processor"] = sequence("processors", std::vector<json>(10'000, once));
  EXPECT_NE(refusal(root, "a").find("more than 256 processors"), std::string::npos);
  once["special_tokens"]["<s>"]["ids"] = std::vector<int>(100'000, 300);
  root["post_processor"] = once;
  EXPECT_NE(refusal(root, "a").find("more than 1024 tokens around a text"), std::string::npos);
  root = byte_level({});
  root["added_tokens"] = {{{"id", 300}, {"content", std::string(10'000, 'x')}}};
  EXPECT_NE(refusal(root, "a").find("more than 4096 bytes"), std::string::npos);
  root = byte_level({});
  root["model"]["vocab"][std::string(10'000, 'x')] = 300;
  EXPECT_NE(refusal(root, "a").find("10000 bytes"), std::string::npos);
}

TEST(Tokenizer, BytesWithAMask) {
  const auto tokenizer = Tokenizer::bytes("[MASK]");
  const std::vector<std::int32_t> ids = {256, 'a', 256, 256, '[', 'M'};
  EXPECT_EQ(tokenizer->encode("[MASK]a[MASK][MASK][M", false), ids);
  EXPECT_EQ(tokenizer->decode(ids, false), "[MASK]a[MASK][MASK][M");
  EXPECT_EQ(tokenizer->decode(ids, true), "a[M");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->token_to_id("[MASK]"), 256);
  EXPECT_EQ(tokenizer->token_bytes(256), "[MASK]");
  EXPECT_TRUE(tokenizer->is_special(256));
  EXPECT_TRUE(tokenizer->encode("", false).empty());
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
