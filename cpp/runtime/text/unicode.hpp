// Character properties and normalisation forms, as tokenizer.json files mean them (generate_unicode_tables.py).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::runtime {

// General categories (Unicode 4.5). The order is that of the generated table.
// clang-format off
enum class Category : std::uint8_t {
  Cn, Cc, Cf, Co, Cs,
  Lu, Ll, Lt, Lm, Lo,
  Mn, Mc, Me,
  Nd, Nl, No,
  Pc, Pd, Ps, Pe, Pi, Pf, Po,
  Sm, Sc, Sk, So,
  Zs, Zl, Zp,
};
// clang-format on
inline constexpr int kCategoryCount = 30;

// A set of categories: bit 1 << Category.
using CategorySet = std::uint32_t;
[[nodiscard]] constexpr CategorySet category_bit(Category category) {
  return 1u << static_cast<unsigned>(category);
}
[[nodiscard]] constexpr CategorySet categories_between(Category first, Category last) {
  return (category_bit(last) << 1) - category_bit(first);
}
inline constexpr CategorySet kLetters = categories_between(Category::Lu, Category::Lo);
inline constexpr CategorySet kMarks = categories_between(Category::Mn, Category::Me);
inline constexpr CategorySet kNumbers = categories_between(Category::Nd, Category::No);
inline constexpr CategorySet kPunctuation = categories_between(Category::Pc, Category::Po);
inline constexpr CategorySet kSymbols = categories_between(Category::Sm, Category::So);
inline constexpr CategorySet kSeparators = categories_between(Category::Zs, Category::Zp);
inline constexpr CategorySet kOthers = categories_between(Category::Cn, Category::Cs);

[[nodiscard]] Category category_of(char32_t code_point);
[[nodiscard]] inline bool is_in(char32_t code_point, CategorySet set) {
  return (category_bit(category_of(code_point)) & set) != 0;
}
[[nodiscard]] bool is_white_space(char32_t code_point);  // property White_Space; \s
[[nodiscard]] bool is_word(char32_t code_point);         // \w

// Every code point at which a category, \s or \w may begin or end, rising, 0 and 0x110000 included.
[[nodiscard]] const std::vector<char32_t>& property_boundaries();

enum class NormalizationForm { nfc, nfd, nfkc, nfkd };
// Unicode 3.11 (UAX #15). The text must be valid UTF-8.
[[nodiscard]] std::string normalize(std::string_view text, NormalizationForm form);

// Every character's own lower case, without regard to its neighbours.
[[nodiscard]] std::string to_lowercase(std::string_view text);

}  // namespace mambasdk::runtime
