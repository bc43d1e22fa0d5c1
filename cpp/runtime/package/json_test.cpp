// Hostile JSON gives an error that names the file and the byte; good JSON gives the document.
#include "runtime/package/json.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

std::string refused(const std::string& text, const JsonLimits& limits = {}) {
  try {
    (void)parse_json(text, "file.json", limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::corrupt);
    EXPECT_NE(std::string(error.what()).find("file.json"), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text.substr(0, 80);
  return "";
}

TEST(Json, ParsesLikeTheLibrary) {
  const std::string text =
      R"( {"a": [1, -2, 3.5, true, null, "x\u00e9"], "b": {"c": {}, "d": []}, "big": 18446744073709551615} )";
  EXPECT_EQ(*parse_json(text, "file.json"), nlohmann::json::parse(text));
  EXPECT_EQ(*parse_json("3", "file.json"), 3);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text :
       {"",      " ",   "{",     "[1,",        "{\"a\"}", "{\"a\":}", "[1 2]",    "nul", "NaN",  "[Infinity]",
        "1e999", "'a'", "{} {}", "{\"a\":1,}", "// c",    "\"\xff\"", "\"\x01\"", "[-]", "0x10", "\"\\ud800\""}) {
    refused(text);
  }
}

TEST(Json, ErrorsHaveTheByteOffset) {
  EXPECT_NE(refused("{\"a\": 1, \"b\": ?}").find("byte 15"), std::string::npos);
  const std::string duplicate = refused("{\"a\": 1, \"b\": 2, \"a\": 3}");
  EXPECT_NE(duplicate.find("duplicate key a"), std::string::npos);
  EXPECT_NE(duplicate.find("byte 20"), std::string::npos) << duplicate;
}

TEST(Json, LimitsDepthAndSize) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW((void)parse_json(nested(64), "file.json"));
  EXPECT_NE(refused(nested(65)).find("64 levels"), std::string::npos);
  refused(std::string(1'000'000, '['));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  refused(objects);
  refused("[1, 2, 3, 4]", {.max_bytes = 11, .max_depth = 64});
}

TEST(Json, LimitsTheNumberOfValues) {
  std::string list = "[0";
  for (int i = 1; i < 100; ++i) list += ",0";
  list += "]";
  EXPECT_NO_THROW((void)parse_json(list, "file.json", {.max_values = 101}));
  EXPECT_NE(refused(list, {.max_values = 100}).find("more than 100 values"), std::string::npos);
}

TEST(Json, ErrorsQuoteAtMost80CharactersAndNoContainer) {
  const std::string key(100'000, 'k');
  EXPECT_LT(refused("{\"" + key + "\":1,\"" + key + "\":2}").size(), 200u);
  EXPECT_LT(refused("[" + std::string(100'000, 'x') + "]").size(), 300u);
  const JsonDocument document = parse_json(R"({"deep": [[[[1, "secret"]]]], "n": 5, "few": [1, 2.5]})", "f");
  EXPECT_EQ(plugin::quoted((*document)["deep"]), "a list of 1");
  EXPECT_EQ(plugin::quoted(*document), "an object of 3");
  EXPECT_EQ(plugin::quoted((*document)["n"]), "5");
  EXPECT_EQ(plugin::quoted((*document)["few"]), "[1,2.5]");
  EXPECT_EQ(plugin::quoted(nlohmann::json(std::string(500, 'y'))).size(), 85u);
}

#if !defined(MAMBASDK_SANITIZES_ADDRESS) && !defined(MAMBASDK_SANITIZES_THREAD)
// Wherever memory ends, while the document grows or while it goes, there is an exception and no std::terminate.
TEST(JsonDeathTest, RunningOutOfMemoryIsAnException) {
  std::string text = "[";
  for (int i = 0; i < 400'000; ++i) text += R"({"a":[1,"a string that is too long to stay inside"]},)";
  text += "0]";
  const auto read_with = [&](std::size_t spare) {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t limit = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + spare;
    const rlimit wanted{limit, limit};
    if (setrlimit(RLIMIT_AS, &wanted) != 0) std::_Exit(3);
    try {
      (void)parse_json(text, "file.json");
      std::_Exit(0);
    } catch (const std::bad_alloc&) {
      std::_Exit(1);
    }
  };
  testing::FLAGS_gtest_death_test_style = "fast";
  int refusals = 0;
  for (const std::size_t mebibytes : {1, 5, 17, 40, 66, 90, 120}) {
    EXPECT_EXIT(
        read_with(mebibytes << 20),
        [&](int status) {
          if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) return false;
          refusals += WEXITSTATUS(status);
          return true;
        },
        "")
        << mebibytes;
  }
  EXPECT_GT(refusals, 3);
}
#endif

TEST(Json, TypedAccessNamesThePlace) {
  const JsonDocument document = parse_json(R"({"n": 1.5, "big": 18446744073709551615, "s": "x", "z": null})", "f");
  const nlohmann::json& value = *document;
  EXPECT_EQ(json_string_at(value, "s", "f"), "x");
  EXPECT_EQ(json_find(value, "z"), nullptr);
  EXPECT_FALSE(json_find_int(value, "z", "f").has_value());
  for (const char* key : {"n", "big", "s"}) EXPECT_THROW((void)json_find_int(value, key, "f"), Error) << key;
  EXPECT_THROW((void)json_string_at(value, "n", "f"), Error);
  EXPECT_THROW((void)json_at(value, "missing", "f"), Error);
}

TEST(Json, PrintableIsShortPrintableAscii) {
  EXPECT_EQ(printable("a\n\xc3\xa9z"), "a???z");
  EXPECT_EQ(printable(std::string(500, 'x')).size(), 83u);
}

}  // namespace
}  // namespace mambasdk::runtime
