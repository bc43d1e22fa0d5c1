// Property lookups and the normalisation algorithm over the generated tables.
#include "runtime/text/unicode.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <memory>
#include <span>
#include <vector>

#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

#include "runtime/text/unicode_tables.inc"

// Hangul syllables are composed by arithmetic (Unicode 3.12).
constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161, kTrailBase = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28;
constexpr char32_t kHangulCount = kLeadCount * kVowelCount * kTrailCount;

Category search_category(char32_t code_point) {
  const std::uint32_t key = static_cast<std::uint32_t>(code_point) << 5 | 31;
  const auto* after = std::upper_bound(std::begin(kCategoryRanges), std::end(kCategoryRanges), key);
  return static_cast<Category>(after[-1] & 31);
}

constexpr std::size_t kDirectCategories = 0x10000;  // the Basic Multilingual Plane, looked up without a search

const Category* direct_categories() {
  static const std::unique_ptr<const Category[]> table = [] {
    auto categories = std::make_unique<Category[]>(kDirectCategories);
    for (std::size_t i = 0; i < std::size(kCategoryRanges); ++i) {
      const std::size_t begin = kCategoryRanges[i] >> 5;
      const std::size_t end = i + 1 < std::size(kCategoryRanges) ? kCategoryRanges[i + 1] >> 5 : kDirectCategories;
      for (std::size_t c = begin; c < std::min(end, kDirectCategories); ++c) {
        categories[c] = static_cast<Category>(kCategoryRanges[i] & 31);
      }
    }
    return categories;
  }();
  return table.get();
}

unsigned combining_class(char32_t code_point) {
  if (code_point < 0x300) return 0;
  const std::uint32_t key = static_cast<std::uint32_t>(code_point) << 8;
  const auto* place = std::lower_bound(std::begin(kCombiningClasses), std::end(kCombiningClasses), key);
  return place != std::end(kCombiningClasses) && (*place >> 8) == code_point ? *place & 0xFF : 0;
}

// The entry of `code_point` in a sorted table of rows of `Width` numbers, or nullptr.
template <std::size_t Width, class Number>
const Number* find_row(std::span<const Number> table, char32_t code_point) {
  std::size_t low = 0, high = table.size() / Width;
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (table[middle * Width] < static_cast<Number>(code_point)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const std::size_t at = low * Width;
  return at < table.size() && table[at] == static_cast<Number>(code_point) ? &table[at] : nullptr;
}

void decompose(char32_t c, bool compatible, std::u32string& out) {
  if (c >= kHangulBase && c < kHangulBase + kHangulCount) {
    const char32_t index = c - kHangulBase;
    out += kLeadBase + index / (kVowelCount * kTrailCount);
    out += kVowelBase + index / kTrailCount % kVowelCount;
    if (index % kTrailCount != 0) out += kTrailBase + index % kTrailCount;
    return;
  }
  const auto append = [&](std::span<const std::uint32_t> index, const char32_t* sequences) {
    const std::uint32_t* row = find_row<2>(index, c);
    if (row != nullptr) out.append(sequences + (row[1] >> 5), row[1] & 31);
    return row != nullptr;
  };
  if (compatible && append(kCompatibleIndex, kCompatibleSequences)) return;
  if (append(kCanonicalIndex, kCanonicalSequences)) return;
  out += c;
}

// Canonical ordering: runs of marks are sorted by class, stably.
void reorder(std::u32string& text) {
  std::vector<std::pair<unsigned, char32_t>> run;
  for (std::size_t begin = 0; begin < text.size();) {
    run.clear();
    std::size_t end = begin;
    for (; end < text.size(); ++end) {
      const unsigned ccc = combining_class(text[end]);
      if (ccc == 0) break;
      run.emplace_back(ccc, text[end]);
    }
    if (run.size() > 1) {
      std::stable_sort(run.begin(), run.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
      for (std::size_t i = 0; i < run.size(); ++i) text[begin + i] = run[i].second;
    }
    begin = end + 1;
  }
}

char32_t compose_pair(char32_t first, char32_t second) {
  if (first >= kLeadBase && first < kLeadBase + kLeadCount && second >= kVowelBase &&
      second < kVowelBase + kVowelCount) {
    return kHangulBase + ((first - kLeadBase) * kVowelCount + (second - kVowelBase)) * kTrailCount;
  }
  if (first >= kHangulBase && first < kHangulBase + kHangulCount && (first - kHangulBase) % kTrailCount == 0 &&
      second > kTrailBase && second < kTrailBase + kTrailCount) {
    return first + (second - kTrailBase);
  }
  const std::span<const char32_t> table(kCompositions);
  const char32_t* row = find_row<3>(table, first);
  for (; row != nullptr && row != table.data() + table.size() && row[0] == first; row += 3) {
    if (row[1] == second) return row[2];
  }
  return 0;
}

// Canonical composition: a mark joins the last starter unless a mark of the same or a higher class stands between.
void compose(std::u32string& text) {
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  std::size_t starter = none, size = 0;
  unsigned last_class = 0;
  for (const char32_t c : text) {
    const unsigned ccc = combining_class(c);
    if (starter != none && (last_class < ccc || (last_class == 0 && starter + 1 == size))) {
      if (const char32_t composite = compose_pair(text[starter], c); composite != 0) {
        text[starter] = composite;
        continue;
      }
    }
    if (ccc == 0) starter = size;
    last_class = ccc;
    text[size++] = c;
  }
  text.resize(size);
}

// No character below this takes part in the form's changes, as the first of a composition aside.
char32_t first_changed(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::nfc:
      return 0x300;
    case NormalizationForm::nfd:
      return 0xC0;
    default:
      return 0xA0;
  }
}

}  // namespace

Category category_of(char32_t code_point) {
  static const Category* const direct = direct_categories();
  return code_point < kDirectCategories ? direct[code_point] : search_category(code_point);
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  constexpr CategorySet word =
      kLetters | kMarks | category_bit(Category::Nd) | category_bit(Category::Nl) | category_bit(Category::Pc);
  bool exception = false;
  for (std::size_t i = 0; i < std::size(kWordExceptions); i += 2) {
    exception = exception || (c >= kWordExceptions[i] && c <= kWordExceptions[i + 1]);
  }
  return is_in(c, word) != exception;
}

namespace {

std::vector<char32_t> find_boundaries() {
  std::vector<char32_t> places = {0x110000};
  for (const std::uint32_t range : kCategoryRanges) places.push_back(range >> 5);
  for (std::size_t i = 0; i < std::size(kWordExceptions); i += 2) {
    places.push_back(kWordExceptions[i]);
    places.push_back(kWordExceptions[i + 1] + 1);
  }
  for (char32_t c = 1; c < 0x3002; ++c) {  // white space lies below
    if (is_white_space(c) != is_white_space(c - 1)) places.push_back(c);
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

}  // namespace

const std::vector<char32_t>& property_boundaries() {
  static const std::vector<char32_t> places = find_boundaries();
  return places;
}

std::string normalize(std::string_view text, NormalizationForm form) {
  const char32_t changed = first_changed(form);
  std::size_t plain = 0;  // text[0, plain) does not change
  std::size_t last = 0;   // start of its last character, which what follows may join
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (next_code_point(text, at) >= changed) break;
    last = begin;
    plain = at;
  }
  if (plain == text.size()) return std::string(text);

  const bool compatible = form == NormalizationForm::nfkc || form == NormalizationForm::nfkd;
  std::u32string work;
  work.reserve(text.size() - last);
  for (std::size_t at = last; at < text.size();) decompose(next_code_point(text, at), compatible, work);
  reorder(work);
  if (form == NormalizationForm::nfc || form == NormalizationForm::nfkc) compose(work);
  std::string result(text.substr(0, last));
  result.reserve(text.size() + text.size() / 8);
  for (const char32_t c : work) append_utf8(result, c);
  return result;
}

std::string to_lowercase(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c < 0x80) {
      result += static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    } else if (c == 0x130) {  // the one character whose lower case is two
      result += "i\xCC\x87";
    } else if (const char32_t* row = find_row<2, char32_t>(kLowercase, c); row != nullptr) {
      append_utf8(result, row[1]);
    } else {
      append_utf8(result, c);
    }
  }
  return result;
}

}  // namespace mambasdk::runtime
