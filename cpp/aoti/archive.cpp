// Parsing of the zip directory (PKWARE APPNOTE 6.3: sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16, 4.5.3).
#include "aoti/archive.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/error.hpp"

namespace mambasdk::aoti {

namespace {

constexpr std::uint32_t end_signature = 0x06054b50;
constexpr std::uint32_t end64_signature = 0x06064b50;
constexpr std::uint32_t locator64_signature = 0x07064b50;
constexpr std::uint32_t entry_signature = 0x02014b50;
constexpr std::uint32_t header_signature = 0x04034b50;
constexpr std::size_t end_size = 22;
constexpr std::size_t locator64_size = 20;
constexpr std::size_t end64_size = 56;
constexpr std::size_t entry_size = 46;
constexpr std::size_t header_size = 30;
constexpr std::uint64_t max_members = 65536;

// Little-endian fields with every access checked.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view source) : bytes_(bytes), source_(source) {}

  [[nodiscard]] std::span<const std::byte> slice(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) damaged("it ends early");
    return bytes_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
  }
  template <class T>
  [[nodiscard]] T at(std::uint64_t offset) const {
    T value{};
    const auto raw = slice(offset, sizeof(T));
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(std::to_integer<unsigned>(raw[i])) << (8 * i)));
    }
    return value;
  }
  [[nodiscard]] std::uint16_t u16(std::uint64_t offset) const { return at<std::uint16_t>(offset); }
  [[nodiscard]] std::uint32_t u32(std::uint64_t offset) const { return at<std::uint32_t>(offset); }
  [[nodiscard]] std::uint64_t u64(std::uint64_t offset) const { return at<std::uint64_t>(offset); }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[noreturn]] void damaged(std::string_view why) const {
    fail(ErrorCode::corrupt, source_, " is no whole .pt2 archive: ", why, "; copy or export the package again");
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view source_;
};

struct Directory {
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

Directory find_directory(const Reader& in) {
  if (in.size() < end_size) in.damaged("it is too short");
  // A comment of up to 65535 bytes may follow the end record.
  const std::uint64_t last = in.size() - end_size;
  const std::uint64_t first = last > 65535 ? last - 65535 : 0;
  for (std::uint64_t at = last + 1; at-- > first;) {
    if (in.u32(at) != end_signature || in.u16(at + 20) != in.size() - at - end_size) continue;
    Directory found{in.u32(at + 16), in.u16(at + 10)};
    if (at >= locator64_size && in.u32(at - locator64_size) == locator64_signature) {
      const std::uint64_t end64 = in.u64(at - locator64_size + 8);
      (void)in.slice(end64, end64_size);
      if (in.u32(end64) != end64_signature) in.damaged("its zip64 end record is missing");
      found = {in.u64(end64 + 48), in.u64(end64 + 32)};
    }
    if (found.count > max_members) in.damaged("it has too many members");
    return found;
  }
  in.damaged("it has no zip directory");
}

// Sizes and offset that do not fit 32 bits are in the zip64 field, in this order, each only where it is needed.
void read_zip64(const Reader& in, std::uint64_t extra, std::uint64_t extra_size, std::uint64_t& size,
                std::uint64_t& stored_size, std::uint64_t& offset) {
  const std::uint64_t end = extra + extra_size;
  for (std::uint64_t at = extra; at + 4 <= end;) {
    const std::uint64_t length = in.u16(at + 2);
    if (in.u16(at) == 1) {
      std::uint64_t field = at + 4;
      for (std::uint64_t* value : {&size, &stored_size, &offset}) {
        if (*value != 0xffffffffu) continue;
        if (field + 8 > at + 4 + length) in.damaged("a zip64 field is too short");
        *value = in.u64(field);
        field += 8;
      }
      return;
    }
    at += 4 + length;
  }
}

}  // namespace

std::vector<ArchiveMember> read_archive(std::span<const std::byte> archive, std::string_view source) {
  const Reader in(archive, source);
  const Directory directory = find_directory(in);
  std::vector<ArchiveMember> members;
  std::uint64_t at = directory.offset;
  for (std::uint64_t i = 0; i < directory.count; ++i) {
    (void)in.slice(at, entry_size);
    if (in.u32(at) != entry_signature) in.damaged("its directory is damaged");
    std::uint64_t stored_size = in.u32(at + 20);
    std::uint64_t size = in.u32(at + 24);
    const std::uint64_t name_size = in.u16(at + 28);
    const std::uint64_t extra_size = in.u16(at + 30);
    const std::uint64_t comment_size = in.u16(at + 32);
    std::uint64_t offset = in.u32(at + 42);
    const auto name = in.slice(at + entry_size, name_size);
    (void)in.slice(at + entry_size + name_size, extra_size);
    read_zip64(in, at + entry_size + name_size, extra_size, size, stored_size, offset);
    ArchiveMember member{std::string(reinterpret_cast<const char*>(name.data()), name.size()), {}};
    if ((in.u16(at + 8) & 1u) != 0 || in.u16(at + 10) != 0 || size != stored_size) {
      fail(ErrorCode::unsupported, source, ": a member is compressed or encrypted; torch stores them as they are");
    }
    (void)in.slice(offset, header_size);
    if (in.u32(offset) != header_signature) in.damaged("a member has no header");
    // The header has an extra field of its own, which pads the member.
    member.bytes = in.slice(offset + header_size + in.u16(offset + 26) + in.u16(offset + 28), size);
    members.push_back(std::move(member));
    at += entry_size + name_size + extra_size + comment_size;
  }
  return members;
}

}  // namespace mambasdk::aoti
