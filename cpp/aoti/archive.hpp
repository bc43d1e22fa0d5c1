// A `.pt2` file: a zip archive whose members are stored uncompressed, as torch writes it. Trusts nothing.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::aoti {

struct ArchiveMember {
  std::string name;
  std::span<const std::byte> bytes;  // into the archive
};

// The members in the order of the archive's directory. `source` names the archive in errors. Errors: corrupt
// (damaged or hostile), unsupported (a compressed member).
[[nodiscard]] std::vector<ArchiveMember> read_archive(std::span<const std::byte> archive, std::string_view source);

}  // namespace mambasdk::aoti
