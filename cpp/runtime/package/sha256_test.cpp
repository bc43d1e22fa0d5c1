// SHA-256 against the published vectors (FIPS 180-4 examples, NIST CAVP) and against its own split updates.
#include "runtime/package/sha256.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/package/mapped_file.hpp"

namespace mambasdk::runtime {
namespace {

std::string hash(const std::string& text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(
      hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstn"
           "opqrstu"),
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(hash(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, AnySplitGivesTheSameDigest) {
  std::string text(300, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + 3);
  const auto bytes = std::as_bytes(std::span(text));
  for (std::size_t length = 0; length <= text.size(); ++length) {
    Sha256 whole;
    whole.update(bytes.first(length));
    const auto expected = whole.finish();
    for (const std::size_t step : {std::size_t{1}, std::size_t{13}, std::size_t{64}, std::size_t{65}}) {
      Sha256 parts;
      for (std::size_t at = 0; at < length; at += step) parts.update(bytes.subspan(at, std::min(step, length - at)));
      ASSERT_EQ(parts.finish(), expected) << "length " << length << " step " << step;
    }
  }
}

TEST(Sha256, File) {
  const std::string path = testing::TempDir() + "mambasdk_sha256_test";
  std::ofstream(path, std::ios::binary) << "abc";
  EXPECT_EQ(sha256_file(path), hash("abc"));
}

}  // namespace
}  // namespace mambasdk::runtime
