// UTF-8 and Unicode: the parts that the parity tests with the `tokenizers` package reach only through whole tokenizers.
#include "runtime/text/unicode.hpp"

#include <gtest/gtest.h>

#include <string>

#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

std::string encoded(std::u32string_view text) {
  std::string result;
  for (const char32_t c : text) append_utf8(result, c);
  return result;
}

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 17) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string text = encoded({&c, 1});
    std::size_t at = 0;
    ASSERT_EQ(next_code_point(text, at), c);
    ASSERT_EQ(at, text.size());
    ASSERT_EQ(find_invalid_utf8(text), std::string::npos);
    ASSERT_EQ(previous_code_point(text, text.size()), 0u);
  }
}

TEST(Utf8, IllFormedTextIsFoundAndRepaired) {
  const std::string fffd = "\xEF\xBF\xBD";
  // The examples of Unicode 3.9, tables 3-8 to 3-11: one U+FFFD for each maximal subpart.
  EXPECT_EQ(to_valid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            fffd + fffd + fffd + fffd + fffd + fffd + fffd + fffd + "A");
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            fffd + fffd + fffd + fffd + fffd + fffd + fffd + fffd + "A");
  EXPECT_EQ(to_valid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            fffd + fffd + fffd + fffd + fffd + "A" + fffd + fffd + "B");
  EXPECT_EQ(to_valid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), fffd + fffd + fffd + fffd + "A");
  EXPECT_EQ(find_invalid_utf8("0123456789\xE1\x80"), 10u);
  EXPECT_EQ(read_utf8("\xE1\x80").status, Utf8Status::incomplete);
}

TEST(Unicode, Properties) {
  EXPECT_EQ(category_of('a'), Category::Ll);
  EXPECT_EQ(category_of(0x4E2D), Category::Lo);
  EXPECT_EQ(category_of(0x0301), Category::Mn);
  EXPECT_EQ(category_of(0x1F600), Category::So);
  EXPECT_EQ(category_of(0x2167), Category::Nl);
  EXPECT_EQ(category_of(0xD800), Category::Cs);
  EXPECT_EQ(category_of(0x10FFFF), Category::Cn);
  int spaces = 0;
  for (char32_t c = 0; c < 0x110000; ++c) spaces += is_white_space(c) ? 1 : 0;
  EXPECT_EQ(spaces, 25);
  EXPECT_TRUE(is_word('_') && is_word(0xE9) && is_word(0x24B6) && !is_word('-') && !is_word(' '));
}

TEST(Unicode, NormalizationFormsOfTheStandardsExamples) {
  const auto forms = [](std::u32string_view text) {
    std::vector<std::string> result;
    for (const auto form :
         {NormalizationForm::nfc, NormalizationForm::nfd, NormalizationForm::nfkc, NormalizationForm::nfkd}) {
      result.push_back(normalize(encoded(text), form));
    }
    return result;
  };
  const auto expected = [](std::initializer_list<std::u32string_view> texts) {
    std::vector<std::string> result;
    for (const auto text : texts) result.push_back(encoded(text));
    return result;
  };
  // UAX #15, figures 3 to 6.
  EXPECT_EQ(forms(U"\u212B"), expected({U"\u00C5", U"A\u030A", U"\u00C5", U"A\u030A"}));
  EXPECT_EQ(forms(U"\u1E9B\u0323"), expected({U"\u1E9B\u0323", U"\u017F\u0323\u0307", U"\u1E69", U"s\u0323\u0307"}));
  EXPECT_EQ(forms(U"\u1E0B\u0323"), expected({U"\u1E0D\u0307", U"d\u0323\u0307", U"\u1E0D\u0307", U"d\u0323\u0307"}));
  EXPECT_EQ(forms(U"2\u2075\uFB01"), expected({U"2\u2075\uFB01", U"2\u2075\uFB01", U"25fi", U"25fi"}));
  EXPECT_EQ(forms(U"\uAC01"), expected({U"\uAC01", U"\u1100\u1161\u11A8", U"\uAC01", U"\u1100\u1161\u11A8"}));
}

TEST(Unicode, NormalizationIsIdempotentAndSkipsPlainText) {
  std::u32string text;
  for (char32_t c = 0; c < 0x30000; c += 3) {
    if (c < 0xD800 || c >= 0xE000) text += c;
  }
  for (const auto form :
       {NormalizationForm::nfc, NormalizationForm::nfd, NormalizationForm::nfkc, NormalizationForm::nfkd}) {
    const std::string once = normalize(encoded(text), form);
    EXPECT_EQ(normalize(once, form), once);
    EXPECT_EQ(normalize("plain text", form), "plain text");
  }
}

TEST(Unicode, Lowercase) {
  EXPECT_EQ(to_lowercase("ABC \u00C9\u0130\u03A3"), "abc \u00E9i\u0307\u03C3");
}

}  // namespace
}  // namespace mambasdk::runtime
