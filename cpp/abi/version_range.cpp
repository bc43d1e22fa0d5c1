#include "abi/version_range.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace mambasdk::abi {

namespace {

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

std::vector<std::uint32_t> numbers_of(std::string_view version, std::string_view what) {
  const auto refuse = [&] {
    fail(ErrorCode::invalid_argument, what, ": \"", version, "\" is no version; expected numbers and dots, as 2.13.0");
  };
  std::vector<std::uint32_t> numbers;
  const char* at = version.data();
  const char* const end = at + version.size();
  for (;;) {
    std::uint32_t number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc{} || numbers.size() == 8) refuse();
    numbers.push_back(number);
    at = next;
    if (at == end || *at != '.') break;
    ++at;
    if (at == end) refuse();
    if (*at < '0' || *at > '9') break;  // 2.14.dev20
  }
  if (at != end && std::string_view("+-abcdrp").find(*at) == std::string_view::npos) refuse();
  while (!numbers.empty() && numbers.back() == 0) numbers.pop_back();  // 2.0 is 2
  return numbers;
}

bool holds(const std::vector<std::uint32_t>& version, std::string_view clause, std::string_view range,
           std::string_view what) {
  const std::size_t length = std::min(clause.find_first_not_of("<>=!"), clause.size());
  const std::string_view operation = clause.substr(0, length);
  const auto bound = numbers_of(trimmed(clause.substr(length)), what);
  if (operation == ">=") return version >= bound;
  if (operation == ">") return version > bound;
  if (operation == "<=") return version <= bound;
  if (operation == "<") return version < bound;
  if (operation == "==") return version == bound;
  if (operation == "!=") return version != bound;
  fail(ErrorCode::invalid_argument, what, ": \"", range,
       "\" is no range of versions; expected clauses of >=, >, <=, <, ==, != separated by commas, as >=2.10,<3");
}

}  // namespace

void check_version(std::string_view version, std::string_view what) {
  (void)numbers_of(version, what);
}

bool version_in_range(std::string_view version, std::string_view range, std::string_view what) {
  const auto numbers = numbers_of(version, what);
  bool inside = true;
  for (std::size_t begin = 0; begin <= range.size();) {
    const std::size_t end = std::min(range.find(',', begin), range.size());
    inside = holds(numbers, trimmed(range.substr(begin, end - begin)), range, what) && inside;  // each must be readable
    begin = end + 1;
  }
  return inside;
}

}  // namespace mambasdk::abi
