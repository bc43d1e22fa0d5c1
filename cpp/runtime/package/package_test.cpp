// Manifest and package directory: the documented format reads back, versions are kept apart, damage is named.
#include "runtime/package/package.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "core/error.hpp"
#include "runtime/package/atomic_write.hpp"
#include "runtime/package/hash_cache.hpp"
#include "runtime/package/mapped_file.hpp"
#include "runtime/package/sha256.hpp"

namespace mambasdk::runtime {
namespace {

namespace fs = std::filesystem;

std::string manifest_text(const std::string& files = "{}", const std::string& format = "[1, 0]") {
  return R"({"format": )" + format + R"(, "family": "mamba", "variant": "mamba-130m", "config": {"d_model": 768},
    "head": "causal_lm", "engine": {"name": "native", "program": "program.json"}, "future": {"x": [1]},
    "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
    "outputs": [{"name": "logits", "dtype": "f32", "shape": ["B", "L", 256]}],
    "processors": {"text": {"kind": "bytes", "eos_token_id": 0}},
    "requires": {"mambasdk_abi": [1, 0], "plugins": [{"name": "mambasdk-language", "version": "0.1.0"}]},
    "files": )" +
         files + "}";
}

std::pair<ErrorCode, std::string> error_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "no error";
  return {ErrorCode::internal, ""};
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = manifest_text();
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Manifest, ReadsTheDocumentedFormat) {
  const Manifest manifest = parse_manifest(manifest_text());
  EXPECT_EQ(manifest.family, "mamba");
  EXPECT_EQ(manifest.variant, "mamba-130m");
  EXPECT_EQ(manifest.config_json, R"({"d_model":768})");
  EXPECT_EQ(manifest.engine, "native");
  EXPECT_EQ(manifest.program, "program.json");
  ASSERT_EQ(manifest.outputs.size(), 1u);
  EXPECT_EQ(manifest.outputs[0].shape[1].symbol, "L");
  EXPECT_EQ(manifest.outputs[0].shape[2].size, 256);
  ASSERT_TRUE(manifest.text.has_value());
  EXPECT_EQ(manifest.text->kind, "bytes");
  EXPECT_EQ(manifest.text->eos_token_ids, std::vector<std::int32_t>{0});
  EXPECT_FALSE(manifest.text->bos_token_id.has_value());
  ASSERT_EQ(manifest.requires_plugins.size(), 1u);
  EXPECT_EQ(manifest.requires_plugins[0].name, "mambasdk-language");
}

TEST(Manifest, EveryEndTokenOfAListIsRead) {
  using Ids = std::vector<std::int32_t>;
  const auto ids = [](const std::string& value) {
    return parse_manifest(with(R"("eos_token_id": 0)", R"("eos_token_id": )" + value)).text->eos_token_ids;
  };
  EXPECT_EQ(ids("[266, 0]"), (Ids{0, 266}));
  EXPECT_EQ(ids("[]"), Ids{});
  EXPECT_EQ(ids("null"), Ids{});
  EXPECT_EQ(ids("2147483647"), Ids{2147483647});
}

TEST(Manifest, NewerMinorIsReadNewerMajorRefused) {
  EXPECT_EQ(parse_manifest(manifest_text("{}", "[1, 7]")).format.minor, 7);
  const auto [code, text] = error_of([] { (void)parse_manifest(manifest_text("{}", "[2, 3]")); });
  EXPECT_EQ(code, ErrorCode::version);
  EXPECT_NE(text.find("format 2.3"), std::string::npos) << text;
  EXPECT_NE(text.find("reads format 1.x"), std::string::npos) << text;
  EXPECT_NE(text.find("upgrade mambasdk"), std::string::npos) << text;
  EXPECT_EQ(error_of([] { (void)parse_manifest(manifest_text("{}", "[0, 9]")); }).first, ErrorCode::version);
}

TEST(Manifest, RefusesDamage) {
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"[1, 0]", "1"},
           {"[1, 0]", "[1]"},
           {"[1, 0]", "[1, -1]"},
           {"[1, 0]", "[99999999999, 0]"},
           {R"("family": "mamba")", R"("family": 3)"},
           {R"("family": "mamba", )", ""},
           {R"({"d_model": 768})", "[]"},
           {R"("program": "program.json")", R"("program": "../program.json")"},
           {R"(, "program": "program.json")", ""},
           {R"(["B", "L"])", "[-1]"},
           {R"(["B", "L"])", "[\"\"]"},
           {R"(["B", "L"])", "[1.5]"},
           {R"("eos_token_id": 0)", R"("eos_token_id": -1)"},
           {R"("eos_token_id": 0)", R"("eos_token_id": 4294967296)"},
           {R"("eos_token_id": 0)", R"("eos_token_id": [0, -1])"},
           {R"("eos_token_id": 0)", R"("eos_token_id": ["0"])"},
           {R"("eos_token_id": 0)", R"("eos_token_id": true)"},
           {R"("kind": "bytes")", R"("kind": "tokenizer")"},
           {R"("kind": "bytes")", R"("kind": "tokenizer", "file": "/etc/passwd")"},
           {R"("files": {})", R"("files": {"a": {"sha256": "xyz", "size": 1}})"},
           {R"("files": {})", R"("files": {"a": {"size": 1}})"},
           {R"("files": {})", R"("files": [])"},
       }) {
    const std::string text = with(from, to);
    EXPECT_EQ(error_of([&] { (void)parse_manifest(text); }).first, ErrorCode::corrupt) << from << " -> " << to;
  }
  const std::string text = with(R"("kind": "bytes")", R"("kind": "morse")");
  EXPECT_EQ(parse_manifest(text).text->kind, "morse");  // a plugin's own kind: the model still loads
}

TEST(Manifest, FileNames) {
  for (const char* good : {"model.safetensors", "a/b.json", "..a", "a..b", ".hidden"}) {
    EXPECT_NO_THROW(check_package_file_name(good, "x")) << good;
  }
  for (const std::string bad :
       {"", "/etc/passwd", "..", "../a", "a/../b", "a/..", "./a", "a//b", "a/", "a\\b", "C:a", "a\nb"}) {
    EXPECT_THROW(check_package_file_name(bad, "x"), Error) << bad;
  }
  EXPECT_THROW(check_package_file_name(std::string("a\0b", 3), "x"), Error);
}

class PackageDirectory : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = fs::path(testing::TempDir()) / (std::string("mambasdk_package_") + info->name());
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    const std::vector<float> data = {1, 2, 3};
    const StoredTensor tensor{"w", "F32", {3}, std::as_bytes(std::span(data)).data(), 12};
    write_safetensors(directory_ / "model.safetensors", {&tensor, 1});
    write("program.json", R"({"format": 1})");
    write("mambasdk.json", manifest_text(files()));
  }
  void TearDown() override { fs::remove_all(directory_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }
  std::string files() {
    std::string list;
    for (const char* name : {"model.safetensors", "program.json"}) {
      list += std::string(list.empty() ? "" : ", ") + "\"" + name + R"(": {"sha256": ")" +
              sha256_file(directory_ / name) + R"(", "size": )" + std::to_string(fs::file_size(directory_ / name)) +
              "}";
    }
    return "{" + list + "}";
  }
  auto open_error() {
    return error_of([&] { (void)Package::open(directory_); });
  }

  fs::path directory_;
};

TEST_F(PackageDirectory, OpensAndVerifies) {
  const Package package = Package::open(directory_);
  EXPECT_EQ(package.weights().at("w").shape, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(package.program_text(), R"({"format": 1})");
  EXPECT_FALSE(package.tokenizer_path().has_value());
  EXPECT_NO_THROW(package.verify_files());
}

TEST_F(PackageDirectory, MissingPartsAreNamed) {
  EXPECT_EQ(error_of([] { (void)Package::open("/nonexistent/package"); }).first, ErrorCode::not_found);
  fs::remove(directory_ / "program.json");
  const auto [code, text] = open_error();
  EXPECT_EQ(code, ErrorCode::not_found);
  EXPECT_NE(text.find("program.json"), std::string::npos) << text;
  fs::remove(directory_ / "mambasdk.json");
  EXPECT_EQ(open_error().first, ErrorCode::not_found);
}

TEST(Manifest, WhatExecutesCodeSaysSo) {
  EXPECT_FALSE(parse_manifest(manifest_text()).executes_code);
  const std::string native = R"("engine": {"name": "native", "program": "program.json")";
  EXPECT_TRUE(parse_manifest(with(native, native + R"(, "executes_code": true)")).executes_code);
  EXPECT_TRUE(parse_manifest(with(native, R"("engine": {"name": "aoti")")).executes_code) << "also where it is unsaid";
  const std::string lie = R"("engine": {"name": "aoti", "executes_code": false)";
  EXPECT_TRUE(parse_manifest(with(native, lie)).executes_code);
}

TEST_F(PackageDirectory, SizesAreCheckedOnOpenHashesByVerify) {
  const Package package = Package::open(directory_);
  write("program.json", R"({"format": 2})");
  EXPECT_NO_THROW((void)Package::open(directory_));
  const auto [code, text] = error_of([&] { package.verify_files(); });
  EXPECT_EQ(code, ErrorCode::corrupt);
  EXPECT_NE(text.find("program.json"), std::string::npos) << text;
  write("program.json", "{}");
  EXPECT_EQ(open_error().first, ErrorCode::corrupt);
}

TEST_F(PackageDirectory, LinksMayNotLeaveThePackage) {
  const fs::path outside = directory_.string() + "_outside";
  std::ofstream(outside) << R"({"format": 1})";
  fs::remove(directory_ / "program.json");
  fs::create_symlink(outside, directory_ / "program.json");
  EXPECT_EQ(open_error().first, ErrorCode::corrupt);
  fs::remove(directory_ / "program.json");
  write("real.json", R"({"format": 1})");
  fs::create_symlink("real.json", directory_ / "program.json");
  EXPECT_NO_THROW((void)Package::open(directory_)) << "a link inside the package is fine";
  fs::remove(outside);
}

TEST_F(PackageDirectory, OnlyRegularFilesInEverySlot) {
  const auto with_slot = [&](const std::string& file) {
    std::string text = manifest_text(files());
    const std::string slot = R"("processors": {"second": {"kind": "tokenizer", "file": ")" + file + R"("}, )";
    text.replace(text.find(R"("processors": {)"), std::string(R"("processors": {)").size(), slot);
    write("mambasdk.json", text);
  };
  const fs::path outside = directory_.string() + "_outside.json";
  std::ofstream(outside) << "{}";
  fs::create_symlink(outside, directory_ / "link.json");
  ASSERT_EQ(::mkfifo((directory_ / "pipe.json").c_str(), 0600), 0);
  fs::create_symlink("/dev/zero", directory_ / "zero.json");
  fs::create_directory(directory_ / "folder.json");
  for (const char* name : {"link.json", "pipe.json", "zero.json", "folder.json"}) {
    with_slot(name);
    const auto [code, text] = open_error();
    EXPECT_EQ(code, ErrorCode::corrupt) << name;
    EXPECT_NE(text.find(name), std::string::npos) << text;
  }
  with_slot("absent.json");
  EXPECT_EQ(open_error().first, ErrorCode::not_found);
  with_slot("../x");
  EXPECT_EQ(open_error().first, ErrorCode::corrupt);
  fs::remove(outside);
  for (const char* name : {"pipe.json", "zero.json"}) {  // as the manifest itself
    fs::remove(directory_ / "mambasdk.json");
    fs::rename(directory_ / name, directory_ / "mambasdk.json");
    EXPECT_EQ(open_error().first, ErrorCode::corrupt) << name;
  }
}

TEST_F(PackageDirectory, WhatIsUsedMustBeListed) {
  for (const char* name : {"model.safetensors", "program.json"}) {
    std::string text = manifest_text(files());
    const std::size_t at = text.find(std::string("\"") + name + R"(": {"sha256")");
    text.replace(at, std::string(name).size() + 2, R"("other.json")");
    write("mambasdk.json", text);
    write("other.json", name == std::string("program.json") ? R"({"format": 1})" : "");
    if (name == std::string("model.safetensors")) {
      fs::copy_file(directory_ / name, directory_ / "other.json", fs::copy_options::overwrite_existing);
    }
    const Package package = Package::open(directory_);
    for (const bool all : {true, false}) {
      const auto [code, message] = error_of([&] { all ? package.verify_files() : package.verify_changed_files(); });
      EXPECT_EQ(code, ErrorCode::corrupt);
      EXPECT_NE(message.find(name), std::string::npos) << message;
      EXPECT_NE(message.find("does not list"), std::string::npos) << message;
    }
  }
}

TEST_F(PackageDirectory, EveryFlippedByteIsSeenAndAnUnchangedFileIsHashedOnce) {
  const fs::path cache = directory_.string() + "_cache";
  ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  std::string weights = [&] {
    const std::vector<float> data(1 << 19, 1.5F);  // large enough to be remembered
    const StoredTensor tensor{"w", "F32", {1 << 19}, std::as_bytes(std::span(data)).data(), data.size() * 4};
    const auto bytes = serialize_safetensors({&tensor, 1});
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }();
  write("model.safetensors", weights);
  write("mambasdk.json", manifest_text(files()));
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(1);
  fs::last_write_time(directory_ / "model.safetensors", long_ago);
  FileState state = file_state(directory_ / "model.safetensors");
  EXPECT_NO_THROW(Package::open(directory_).verify_changed_files());
  EXPECT_FALSE(recall_hash(directory_ / "model.safetensors", state)) << "its inode changed just now";
  const std::string hash = sha256_file(directory_ / "model.safetensors");
  FileState settled = state;
  settled.ctime = settled.mtime;
  remember_hash(directory_ / "model.safetensors", settled, hash);
  EXPECT_EQ(recall_hash(directory_ / "model.safetensors", settled), hash);
  EXPECT_FALSE(recall_hash(directory_ / "model.safetensors", state)) << "another state of the file";

  weights[weights.size() / 2] ^= 1;  // the same size and time of change
  write("model.safetensors", weights);
  fs::last_write_time(directory_ / "model.safetensors", long_ago);
  const auto [code, text] = error_of([&] { Package::open(directory_).verify_changed_files(); });
  EXPECT_EQ(code, ErrorCode::corrupt);
  EXPECT_NE(text.find("model.safetensors"), std::string::npos) << text;
  EXPECT_NE(text.find("damaged"), std::string::npos) << text;

  ::setenv("XDG_CACHE_HOME", "/proc/no/such", 1);  // cannot be written
  EXPECT_NO_THROW(remember_hash(directory_ / "model.safetensors", settled, hash));
  EXPECT_FALSE(recall_hash(directory_ / "model.safetensors", settled));
  ::unsetenv("XDG_CACHE_HOME");
  fs::remove_all(cache);
}

TEST_F(PackageDirectory, WeightsInUseSurviveTruncation) {
  const std::vector<float> data(1 << 16, 2.0F);
  const StoredTensor tensor{"w", "F32", {1 << 16}, std::as_bytes(std::span(data)).data(), data.size() * 4};
  write_safetensors(directory_ / "model.safetensors", {&tensor, 1});
  write("mambasdk.json", manifest_text(files()));
  const Package package = Package::open(directory_);
  const StoredTensor& loaded = package.weights().at("w");
  fs::resize_file(directory_ / "model.safetensors", 100);
  float last = 0;
  std::memcpy(&last, loaded.data + loaded.size - 4, 4);
  EXPECT_EQ(last, 2.0F);
}

TEST_F(PackageDirectory, AWeightsFileThatIsADirectoryIsRefused) {
  fs::remove(directory_ / "model.safetensors");
  fs::create_directory(directory_ / "model.safetensors");
  EXPECT_NE(open_error().first, ErrorCode::internal);
}

TEST(MappedFile, EmptyMissingAndMoved) {
  const fs::path path = fs::path(testing::TempDir()) / "mambasdk_mapped_file";
  write_file_atomically(path, {});
  EXPECT_EQ(MappedFile::read(path).size(), 0u);
  const std::string text = "hello";
  write_file_atomically(path, std::as_bytes(std::span(text)));
  MappedFile file = MappedFile::read(path);
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.text(), "hello");
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(error_of([&] { (void)read_text_file(path, 4); }).first, ErrorCode::corrupt);
  fs::remove(path);
  EXPECT_EQ(error_of([&] { (void)MappedFile::read(path); }).first, ErrorCode::not_found);
  EXPECT_EQ(error_of([&] { (void)MappedFile::read(testing::TempDir()); }).first, ErrorCode::io);
  write_file_atomically(path, std::as_bytes(std::span(text)));
  EXPECT_EQ(MappedFile::map(path).text(), "hello");
  ::setenv("MAMBASDK_WEIGHTS", "map", 1);
  EXPECT_EQ(MappedFile::weights(path).text(), "hello");
  ::unsetenv("MAMBASDK_WEIGHTS");
  fs::remove(path);
}

TEST(MappedFile, LargeFilesAreReadInParts) {
  const fs::path path = fs::path(testing::TempDir()) / "mambasdk_large_file";
  std::vector<std::uint32_t> numbers((std::size_t{9} << 20) + 5);  // 36 MiB and 20 bytes
  std::iota(numbers.begin(), numbers.end(), 7u);
  write_file_atomically(path, std::as_bytes(std::span(numbers)));
  const MappedFile file = MappedFile::read(path);
  ASSERT_EQ(file.size(), numbers.size() * sizeof(std::uint32_t));
  EXPECT_EQ(std::memcmp(file.bytes().data(), numbers.data(), file.size()), 0);
  fs::remove(path);
}

// A file that is mapped is read anew, memory of its own is gone; neighbours in the same page stay.
TEST(MappedFile, GivesBackWholePages) {
  const fs::path path = fs::path(testing::TempDir()) / "mambasdk_given_back";
  const std::string text(std::size_t{1} << 20, 'x');
  write_file_atomically(path, std::as_bytes(std::span(text)));
  MappedFile mapped = MappedFile::map(path), read = MappedFile::read(path);
  for (MappedFile* file : {&mapped, &read}) {
    EXPECT_TRUE(file->is_whole());
    file->give_back(file->bytes().subspan(10, 20));   // less than a page
    file->give_back(std::as_bytes(std::span(text)));  // not the file's
    EXPECT_TRUE(file->is_whole());
    file->give_back(file->bytes().subspan(1, file->size() - 2));
    EXPECT_FALSE(file->is_whole());
    EXPECT_EQ(file->text().front(), 'x');
    EXPECT_EQ(file->text().back(), 'x');
  }
  EXPECT_EQ(mapped.text(), text);
  EXPECT_EQ(read.text()[text.size() / 2], '\0');
  fs::remove(path);
}

}  // namespace
}  // namespace mambasdk::runtime
