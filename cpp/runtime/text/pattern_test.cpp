// Patterns: agreement with a backtracking engine on what both know, bounded time, unknown constructs named.
#include "runtime/text/pattern.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <iterator>
#include <optional>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Pattern compiled = Pattern::compile(pattern);
  std::vector<std::string> found;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = compiled.match(text, at);
    if (end == Pattern::npos) {
      ++at;
    } else {
      found.push_back(text.substr(at, end - at));
      at = end;
    }
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(Pattern, PrefersLikeABacktrackingEngine) {
  EXPECT_EQ(matches("a|ab", "ab"), (Strings{"a"}));
  EXPECT_EQ(matches("ab|a", "ab"), (Strings{"ab"}));
  EXPECT_EQ(matches("a+?b?", "aab"), (Strings{"a", "ab"}));
  EXPECT_EQ(matches("(a|ab)(c|bcd)(d*)", "abcd"), (Strings{"abcd"}));
  EXPECT_EQ(matches("a{2,3}", "aaaaaaa"), (Strings{"aaa", "aaa"}));
  EXPECT_EQ(matches("a{,2}b", "aaab"), (Strings{"aab"}));
  EXPECT_EQ(matches("a++a", "aaaa"), Strings{});
  EXPECT_EQ(matches("[ab]?+b", "ab b bb"), (Strings{"ab", "bb"}));
  EXPECT_EQ(matches("\\s+(?!\\S)|\\s+", "a   b  "), (Strings{"  ", " ", "  "}));
  EXPECT_EQ(matches("(?i:'s|'T)", "'S't'x"), (Strings{"'S", "'t"}));
  EXPECT_EQ(matches("\\p{Lu}\\p{^L}|\\P{L}", "A1b"), (Strings{"A1"}));
  EXPECT_EQ(matches("[^a-c\\s]+", "xa yz"), (Strings{"x", "yz"}));
  EXPECT_EQ(matches("x{y", "x{y"), (Strings{"x{y"}));
  EXPECT_EQ(matches(".+", "ab\nc"), (Strings{"ab", "c"}));
  EXPECT_EQ(matches("[]a-]+", "]-a"), (Strings{"]-a"}));
}

// Random patterns over a small alphabet against std::regex, which backtracks.
TEST(Pattern, RandomPatternsAgreeWithStdRegex) {
  std::mt19937 random(7);
  const auto pick = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const auto make = [&](auto&& self, int depth) -> std::string {
    static const char* const atoms[] = {"a", "b", "c", "[ab]", "[^a]", ".", "(?:ab)", "(?:a|bc)"};
    static const char* const quantifiers[] = {"", "", "", "?", "*", "+", "{1,2}", "{2}", "+?", "*?", "??"};
    std::string pattern;
    const std::size_t length = 1 + pick(4);
    for (std::size_t i = 0; i < length; ++i) {
      if (depth > 0 && pick(4) == 0) {
        pattern += "(?:" + self(self, depth - 1) + ")";
      } else {
        pattern += atoms[pick(8)];
        pattern += quantifiers[pick(11)];
      }
      if (pick(8) == 0) pattern += pick(2) == 0 ? "(?=[ab])" : "(?!a)";
      if (pick(6) == 0) pattern += "|";
    }
    return pattern;
  };
  int compared = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string pattern = make(make, 2);
    std::optional<Pattern> compiled;
    try {
      compiled = Pattern::compile(pattern);
    } catch (const Error&) {
      continue;  // matches the empty text
    }
    const std::regex reference(pattern);
    for (int j = 0; j < 5; ++j) {
      std::string text;
      for (std::size_t k = 0; k < 8; ++k) text += static_cast<char>('a' + pick(3));
      std::smatch match;
      const bool found = std::regex_search(text, match, reference, std::regex_constants::match_continuous);
      const std::size_t end = compiled->match(text, 0);
      ASSERT_EQ(end, found ? static_cast<std::size_t>(match.length(0)) : Pattern::npos) << pattern << " on " << text;
      ++compared;
    }
  }
  EXPECT_GT(compared, 1500);
}

TEST(Pattern, TimeIsLinearWhereBacktrackingIsExponential) {
  const Pattern pattern = Pattern::compile("(?:a|aa|a?a)*b");
  const std::string text(1'000'000, 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(pattern.match(text, 0), Pattern::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

// All matches of a text, by one scan.
std::vector<std::size_t> ends_by_scan(const Pattern& pattern, std::string_view text) {
  PatternScan scan(pattern, text);
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = scan.match(at);
    ends.push_back(end);
    at = end == Pattern::npos ? at + 1 : end;
  }
  return ends;
}

// Ten times the text takes ten times as long, not a hundred.
TEST(Pattern, FindingAllMatchesTakesLinearTime) {
  struct Case {
    std::string pattern;
    std::string text;
  };
  std::string stairs;
  for (int i = 0; i < 100'000; ++i) stairs += i % 3 == 0 ? "b" : "a";
  const std::vector<Case> cases = {{"a+b", std::string(1'000'000, 'a')},
                                   {"a+b|a", std::string(1'000'000, 'a')},
                                   {"(?:aaa)+b|(?:aaaaa)+b|(?:aaaaaaa)+b", std::string(1'000'000, 'a')},
                                   {"\\s+x", std::string(1'000'000, ' ')},
                                   {"(?:a|b)+c", stairs},
                                   {".+\n", std::string(500'000, '.')}};
  for (const Case& c : cases) {
    const Pattern pattern = Pattern::compile(c.pattern);
    const auto seconds = [&](std::string_view text) {  // of this thread's work
      timespec before{}, after{};
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
      (void)ends_by_scan(pattern, text);
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
      return static_cast<double>(after.tv_sec - before.tv_sec) +
             1e-9 * static_cast<double>(after.tv_nsec - before.tv_nsec);
    };
    const std::string_view text = c.text;
    const double small = std::min(seconds(text.substr(0, text.size() / 10)), seconds(text.substr(0, text.size() / 10)));
    EXPECT_LT(seconds(text), 40 * small + 0.05) << c.pattern;
  }
}

// What a scan remembers changes no match: long runs, broken at places, scanned as a whole and from each place alone.
TEST(Pattern, AScanMatchesAsEachPlaceAlone) {
  std::mt19937 random(11);
  const std::vector<std::string> patterns = {"a+b",        "a+b|a",  "(?:aaa)+b|aa", "a+?b|[ab]c", "\\s+(?!\\S)|\\s+",
                                             "(?:ab)+c|a", "[^c]+c", "\\w+é|\\w",    "a{3,9}b|a",  "(?:a|ab)+é|b"};
  for (const std::string& source : patterns) {
    const Pattern pattern = Pattern::compile(source);
    for (int round = 0; round < 40; ++round) {
      static const char* const pieces[] = {"a", "b", "c", " ", "é", "\n"};
      std::string text;
      while (text.size() < 900) {
        const std::size_t run = random() % 4 == 0 ? random() % 200 : 1 + random() % 3;
        const char* const piece = pieces[random() % std::size(pieces)];
        for (std::size_t k = 0; k < run; ++k) text += piece;
      }
      PatternScan scan(pattern, text);
      for (std::size_t at = 0; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
        ASSERT_EQ(scan.match(at), pattern.match(text, at)) << source << " at " << at;
      }
    }
  }
}

TEST(Pattern, UnknownConstructsAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"(?<=a)b", "look-behind"},
      {"(?<!a)b", "look-behind"},
      {"(?>a)", "atomic"},
      {"^a", "anchor"},
      {"a$", "anchor"},
      {"\\bword", "\"\\b\""},
      {"(a)\\1", "\"\\1\""},
      {"\\p{Han}", "\\p{..}"},
      {"[a[b]]", "set inside a set"},
      {"[a&&b]", "&&"},
      {"(?=ab)a", "look-ahead"},
      {"(?:ab)++", "possessive"},
      {"a*", "empty text"},
      {"a|", "empty text"},
      {"(?i:\u00e9)", "(?i:)"},
      {"(?<name>a)", "the group"},
      {"(?i)a", "the group"},
      {"a{300}", "repetition"},
      {"(?i:ss)", "ligature"},
      {"(a{200}){200}", "too large"},
      {"a{2}{2}{2}{2}{2}{2}", "quantifiers"},
      {"(((((((){255}){255}){255}){255}){255}){255})a", "too large"},
      {"\\h", "\"\\h\""},
      {"[\\xe9]", "byte escape"},
      {std::string(100, '(') + "a", "nesting"},
  };
  for (const auto& [pattern, name] : cases) {
    try {
      (void)Pattern::compile(pattern);
      ADD_FAILURE() << "accepted " << pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported) << pattern << ": " << error.what();
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << pattern << ": " << error.what();
    }
  }
}

TEST(Pattern, BrokenPatternsAreRefused) {
  for (const std::string pattern : {"(", "(a", "a)", "[", "[a", "[b-a]", "*a", "+", "?", "\\", "\\p{L", "\\x{110000}a",
                                    "\\u12", "\xff", "(?", "(?:", "[^", "[\\"}) {
    EXPECT_THROW((void)Pattern::compile(pattern), Error) << pattern;
  }
  EXPECT_THROW((void)Pattern::literal(""), Error);
}

}  // namespace
}  // namespace mambasdk::runtime
