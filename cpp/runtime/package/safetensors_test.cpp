// safetensors: round trips, and every damaged or hostile file is refused with an error, never a crash.
#include "runtime/package/safetensors.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <optional>
#include <string>

#include "core/dtype_info.hpp"
#include "core/error.hpp"
#include "runtime/package/safetensors_header.hpp"

namespace mambasdk::runtime {
namespace {

std::vector<std::byte> file_of(const std::string& header, std::size_t buffer_size,
                               std::optional<std::uint64_t> claimed = std::nullopt) {
  const std::uint64_t length = claimed.value_or(header.size());
  std::vector<std::byte> bytes(8 + header.size() + buffer_size);
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(length >> (8 * i));
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}

StoredTensor tensor(std::string name, std::string dtype, std::vector<std::int64_t> shape,
                    std::span<const std::byte> data) {
  return {std::move(name), std::move(dtype), std::move(shape), data.data(), data.size()};
}

std::vector<std::byte> example() {
  static const std::vector<float> f32 = {1, 2, 3, 4, 5, 6};
  static const std::vector<std::uint8_t> u8 = {7, 8, 9};
  static const std::vector<double> f64 = {0.5};
  return serialize_safetensors(
      {{tensor("b.weight", "F32", {2, 3}, std::as_bytes(std::span(f32))),
        tensor("a", "U8", {3}, std::as_bytes(std::span(u8))),
        tensor("scalar", "F64", {}, std::as_bytes(std::span(f64))), tensor("empty", "F32", {0, 5}, {})}},
      {{"format", "pt"}});
}

void expect_refused(const std::vector<std::byte>& bytes, ErrorCode code, const std::string& what) {
  try {
    (void)Safetensors::from_bytes(bytes, "x.safetensors");
    ADD_FAILURE() << "accepted: " << what;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << what << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find("x.safetensors"), std::string::npos) << error.what();
  }
}

TEST(Safetensors, RoundTrip) {
  const std::vector<std::byte> bytes = example();
  const Safetensors file = Safetensors::from_bytes(bytes, "x");
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.at("b.weight").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(reinterpret_cast<const float*>(file.at("b.weight").data)[5], 6.0f);
  EXPECT_EQ(reinterpret_cast<const double*>(file.at("scalar").data)[0], 0.5);
  EXPECT_EQ(std::to_integer<int>(file.at("a").data[2]), 9);
  EXPECT_EQ(file.at("empty").size, 0u);
  EXPECT_EQ(file.copied_count(), 0u) << "the writer aligns every tensor";
  EXPECT_EQ(file.find("none"), nullptr);
  EXPECT_THROW((void)file.at("none"), Error);
  EXPECT_EQ(serialize_safetensors(file.tensors(), file.metadata()), bytes) << "writing is canonical";
}

TEST(Safetensors, OpensFiles) {
  const std::string path = testing::TempDir() + "mambasdk_safetensors_test.safetensors";
  const std::vector<std::byte> bytes = example();
  const Safetensors memory = Safetensors::from_bytes(bytes, "x");
  write_safetensors(path, memory.tensors(), memory.metadata());
  const Safetensors opened = Safetensors::open(path);
  const Safetensors file = [&] {
    Safetensors first = Safetensors::open(path);
    return first;
  }();
  for (const StoredTensor& expected : memory.tensors()) {
    const StoredTensor& actual = file.at(expected.name);
    EXPECT_EQ(actual.dtype, expected.dtype);
    ASSERT_EQ(actual.size, expected.size);
    if (actual.size != 0) {
      EXPECT_EQ(std::memcmp(actual.data, expected.data, actual.size), 0);
    }
  }
  try {
    (void)Safetensors::open(path + ".missing");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
  EXPECT_THROW((void)Safetensors::open(testing::TempDir()), Error);
}

TEST(Safetensors, MisalignedTensorsAreCopied) {
  const std::string header =
      R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  const std::vector<std::byte> bytes = file_of(header, 9);
  const Safetensors file = Safetensors::from_bytes(bytes, "x");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.at("f").data) % 4, 0u);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::vector<std::byte> bytes = example();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    expect_refused({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}, ErrorCode::corrupt,
                   "first " + std::to_string(size) + " bytes");
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  expect_refused(longer, ErrorCode::corrupt, "one byte too many");
}

TEST(Safetensors, BitFlipsInTheHeaderNeverCrash) {
  const std::vector<std::byte> bytes = example();
  const Safetensors original = Safetensors::from_bytes(bytes, "x");
  const auto header_end = static_cast<std::size_t>(original.tensors()[0].data - bytes.data());
  for (std::size_t bit = 0; bit < header_end * 8; ++bit) {
    std::vector<std::byte> damaged = bytes;
    damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    try {
      const Safetensors file = Safetensors::from_bytes(damaged, "x");
      unsigned sum = 0;  // every byte that is offered can be read
      for (const StoredTensor& entry : file.tensors()) {
        for (std::size_t i = 0; i < entry.size; ++i) sum += std::to_integer<unsigned>(entry.data[i]);
      }
      EXPECT_LT(sum, 1u << 20);
    } catch (const Error&) {
    }
  }
}

TEST(Safetensors, HostileHeadersAreRefused) {
  struct Case {
    const char* what;
    std::string header;
    std::size_t buffer = 8;
    ErrorCode code = ErrorCode::corrupt;
  };
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::vector<Case> cases = {
      {"not an object", "[]"},
      {"leading space", " {}", 0},
      {"offsets past the end", one("F32", "[4]", "[0,16]")},
      {"offsets huge", one("U8", "[9223372036854775807]", "[0,9223372036854775807]")},
      {"offsets past 63 bits", one("F32", "[2]", "[0,18446744073709551615]")},
      {"offsets reversed", one("U8", "[0]", "[8,0]")},
      {"offset negative", one("F32", "[2]", "[-8,0]")},
      {"one offset", one("F32", "[2]", "[8]")},
      {"three offsets", one("F32", "[2]", "[0,8,8]")},
      {"offsets not numbers", one("F32", "[2]", "[\"0\",8]")},
      {"offset a float", one("F32", "[2]", "[0,8.0]")},
      {"shape overflows to zero", one("F32", "[4294967296,4294967296]", "[0,0]")},
      {"shape overflows to the size", one("F32", "[4611686018427387906]", "[0,8]")},
      {"shape overflows beside a zero", one("F32", "[0,4294967296,4294967296]", "[0,0]"), 0},
      {"dimension negative", one("F32", "[-1,-2]", "[0,8]")},
      {"dimension past 63 bits", one("F32", "[18446744073709551615]", "[0,8]")},
      {"dimension a float", one("F32", "[2.0]", "[0,8]")},
      {"dimension NaN", one("F32", "[NaN]", "[0,8]")},
      {"shape too small", one("F32", "[1]", "[0,8]")},
      {"shape missing", R"({"t":{"dtype":"F32","data_offsets":[0,8]}})"},
      {"entry not an object", R"({"t":1})"},
      {"dtype a number", R"({"t":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})"},
      {"dtype unknown", one("Q4", "[2]", "[0,8]"), 8, ErrorCode::unsupported},
      {"metadata not text", R"({"__metadata__":{"a":1}})", 0},
      {"metadata not an object", R"({"__metadata__":"a"})", 0},
      {"hole before the first", one("F32", "[1]", "[4,8]")},
      {"hole after the last", one("F32", "[1]", "[0,4]")},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})"},
      {"same bytes twice",
       R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})"},
      {"duplicate name",
       R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})"},
      {"deep", R"({"a":)" + std::string(100'000, '[')},
      {"two shapes", R"({"t":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})"},
      {"unknown member", R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})"},
      {"many dimensions", one("F32", "[2" + std::string(400, '0') + "]", "[0,8]")},
      {"many ones", one(
                        "F32",
                        "[2" +
                            [] {
                              std::string s;
                              for (int i = 0; i < 100; ++i) s += ",1";
                              return s;
                            }() +
                            "]",
                        "[0,8]")},
  };
  for (const Case& c : cases) expect_refused(file_of(c.header, c.buffer), c.code, c.what);
  const std::string good = one("F32", "[2]", "[0,8]");
  EXPECT_NO_THROW((void)Safetensors::from_bytes(file_of(good, 8), "x"));
  for (const std::uint64_t claimed : {std::uint64_t{0}, std::uint64_t{1}, good.size() + 9, std::uint64_t{100'000'001},
                                      std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    expect_refused(file_of(good, 8, claimed), ErrorCode::corrupt, "length " + std::to_string(claimed));
  }
}

// What a header takes is bounded by its length, and its length by a limit (issue: a header of 99 MB took 3.2 GB).
TEST(Safetensors, LargeHeadersTakeMemoryInProportion) {
  std::string header = "{";
  std::size_t count = 0;
  while (header.size() < kMaxSafetensorsHeader - 200) {
    header +=
        (count == 0 ? "\"" : ",\"") + std::to_string(count) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    ++count;
  }
  header += "}";
  EXPECT_EQ(Safetensors::from_bytes(file_of(header, 0), "x").tensors().size(), count);
  expect_refused(file_of(header + std::string(kMaxSafetensorsHeader, ' '), 0), ErrorCode::corrupt, "past the limit");
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 700 << 10) << "KiB";  // 16 MiB of header; the rest are this process's other tests
}

TEST(Safetensors, EveryStoredTypeGoesThroughAFile) {
  std::vector<std::byte> memory(4096);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 7);
  std::vector<StoredTensor> tensors;
  for (const DTypeInfo& info : dtype_table()) {
    if (info.stored.empty()) continue;
    const auto bytes = static_cast<std::size_t>(3 * info.bytes);
    tensors.push_back(tensor(std::string(info.name), std::string(info.stored), {3, info.block},
                             std::span<const std::byte>(memory).first(bytes)));
  }
  const std::vector<std::byte> file = serialize_safetensors(tensors);
  const Safetensors read = Safetensors::from_bytes(file, "x");
  EXPECT_EQ(read.tensors().size(), tensors.size());
  EXPECT_EQ(read.copied_count(), 0u);  // aligned as they lie
  for (const StoredTensor& t : tensors) {
    const StoredTensor& found = read.at(t.name);
    EXPECT_EQ(found.dtype, t.dtype);
    ASSERT_EQ(found.size, t.size) << t.name;
    EXPECT_EQ(std::memcmp(found.data, t.data, t.size), 0) << t.name;
  }
}

TEST(Safetensors, WriterRefusesWhatItCannotStore) {
  const std::vector<float> data = {1, 2};
  const auto bytes = std::as_bytes(std::span(data));
  EXPECT_THROW((void)serialize_safetensors({{tensor("t", "F32", {3}, bytes)}}), Error);
  EXPECT_THROW((void)serialize_safetensors({{tensor("t", "F33", {2}, bytes)}}), Error);
  EXPECT_THROW((void)serialize_safetensors({{tensor("t", "F32", {-2}, bytes)}}), Error);
  EXPECT_THROW((void)serialize_safetensors({{tensor("__metadata__", "F32", {2}, bytes)}}), Error);
  EXPECT_THROW((void)serialize_safetensors({{tensor("\xff", "F32", {2}, bytes)}}), Error);
  EXPECT_THROW((void)serialize_safetensors({{tensor("t", "F32", {2}, bytes), tensor("t", "F32", {2}, bytes)}}), Error);
}

}  // namespace
}  // namespace mambasdk::runtime
