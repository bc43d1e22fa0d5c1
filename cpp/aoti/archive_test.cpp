#include "aoti/archive.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "core/error.hpp"

namespace mambasdk::aoti {
namespace {

std::string number(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

// A zip of two stored members; `method` other than 0 pretends that the second is compressed.
std::string archive(const std::string& comment = "", int method = 0, bool zip64 = false) {
  const std::pair<std::string, std::string> members[] = {{"m/version", "1"}, {"m/data/model.so", "machine code"}};
  std::string text, directory;
  for (const auto& [name, content] : members) {
    const std::size_t offset = text.size();
    const bool large = zip64 && name != "m/version";
    const int kind = name == "m/version" ? 0 : method;
    text += "PK\x03\x04" + number(20, 2) + number(0, 2) + number(0, 2) + number(0, 8) + number(content.size(), 4) +
            number(content.size(), 4) + number(name.size(), 2) + number(3, 2) + name + "pad" + content;
    const std::string extra =
        large ? number(1, 2) + number(24, 2) + number(content.size(), 8) + number(content.size(), 8) + number(offset, 8)
              : "";
    const std::uint64_t size = large ? 0xffffffffu : content.size();
    directory += "PK\x01\x02" + number(20, 2) + number(20, 2) + number(0, 2) + number(static_cast<unsigned>(kind), 2) +
                 number(0, 8) + number(size, 4) + number(size, 4) + number(name.size(), 2) + number(extra.size(), 2) +
                 number(0, 2) + number(0, 8) + number(large ? 0xffffffffu : offset, 4) + name + extra;
  }
  const std::size_t start = text.size();
  text += directory;
  if (zip64) {
    const std::size_t end64 = text.size();
    text += "PK\x06\x06" + number(44, 8) + number(45, 2) + number(45, 2) + number(0, 8) + number(2, 8) + number(2, 8) +
            number(directory.size(), 8) + number(start, 8);
    text += "PK\x06\x07" + number(0, 4) + number(end64, 8) + number(1, 4);
  }
  return text + "PK\x05\x06" + number(0, 4) + number(2, 2) + number(2, 2) + number(directory.size(), 4) +
         number(zip64 ? 0xffffffffu : start, 4) + number(comment.size(), 2) + comment;
}

std::vector<ArchiveMember> read(const std::string& text) {
  return read_archive(std::as_bytes(std::span(text)), "test.pt2");
}

std::string text_of(const ArchiveMember& member) {
  return {reinterpret_cast<const char*>(member.bytes.data()), member.bytes.size()};
}

TEST(Archive, GivesStoredMembersWithAndWithoutCommentAndZip64) {
  for (const std::string& text : {archive(), archive("a comment"), archive("", 0, true)}) {
    const auto members = read(text);
    ASSERT_EQ(members.size(), 2U);
    EXPECT_EQ(members[0].name, "m/version");
    EXPECT_EQ(text_of(members[0]), "1");
    EXPECT_EQ(members[1].name, "m/data/model.so");
    EXPECT_EQ(text_of(members[1]), "machine code");
  }
}

TEST(Archive, RefusesCompressedMembers) {
  try {
    (void)read(archive("", 8));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unsupported);
  }
}

TEST(Archive, EveryTruncationIsRefused) {
  for (const bool zip64 : {false, true}) {
    const std::string whole = archive("", 0, zip64);
    for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_THROW((void)read(whole.substr(0, size)), Error);
  }
}

TEST(Archive, ChangedBytesNeverReachOutsideTheArchive) {
  for (const bool zip64 : {false, true}) {
    const std::string whole = archive("", 0, zip64);
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (const char value : {'\0', '\x7f', '\xff'}) {
        std::string changed = whole;
        changed[at] = value;
        try {
          for (const ArchiveMember& member : read(changed)) {
            const auto* begin = reinterpret_cast<const std::byte*>(changed.data());
            EXPECT_GE(member.bytes.data(), begin);
            EXPECT_LE(member.bytes.data() + member.bytes.size(), begin + changed.size());
          }
        } catch (const Error&) {
          continue;  // refused, as most are
        }
      }
    }
  }
}

}  // namespace
}  // namespace mambasdk::aoti
