// Version ranges of plugin requirements: ">=2.10,<3". Numbers separated by dots are compared, missing ones count as 0;
// what follows the numbers ("2.13.0+cpu", "2.14.0a0") is not looked at, so a pre-release counts as its release.
#pragma once

#include <string_view>

namespace mambasdk::abi {

// Errors: invalid_argument naming `what`, for a version or a range that cannot be read.
[[nodiscard]] bool version_in_range(std::string_view version, std::string_view range, std::string_view what);
void check_version(std::string_view version, std::string_view what);

}  // namespace mambasdk::abi
