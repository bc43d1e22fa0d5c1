// Manifest and package directory: the documented format reads back, versions are kept apart, damage is named.
#include "runtime/package/package.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.hpp"
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
  EXPECT_EQ(manifest.text->eos_token_id, 0);
  EXPECT_FALSE(manifest.text->bos_token_id.has_value());
  ASSERT_EQ(manifest.requires_plugins.size(), 1u);
  EXPECT_EQ(manifest.requires_plugins[0].name, "mambasdk-language");
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

TEST_F(PackageDirectory, AWeightsFileThatIsADirectoryIsRefused) {
  fs::remove(directory_ / "model.safetensors");
  fs::create_directory(directory_ / "model.safetensors");
  EXPECT_NE(open_error().first, ErrorCode::internal);
}

TEST(MappedFile, EmptyMissingAndMoved) {
  const fs::path path = fs::path(testing::TempDir()) / "mambasdk_mapped_file";
  write_file_atomically(path, {});
  EXPECT_EQ(MappedFile::open(path).size(), 0u);
  const std::string text = "hello";
  write_file_atomically(path, std::as_bytes(std::span(text)));
  MappedFile file = MappedFile::open(path);
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.text(), "hello");
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(error_of([&] { (void)read_text_file(path, 4); }).first, ErrorCode::corrupt);
  fs::remove(path);
  EXPECT_EQ(error_of([&] { (void)MappedFile::open(path); }).first, ErrorCode::not_found);
  EXPECT_EQ(error_of([&] { (void)MappedFile::open(testing::TempDir()); }).first, ErrorCode::io);
}

}  // namespace
}  // namespace mambasdk::runtime
