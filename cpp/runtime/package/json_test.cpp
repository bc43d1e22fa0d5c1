// Hostile JSON gives an error that names the file and the byte; good JSON gives the document.
#include "runtime/package/json.hpp"

#include <gtest/gtest.h>

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
  EXPECT_EQ(parse_json(text, "file.json"), nlohmann::json::parse(text));
  EXPECT_EQ(parse_json("3", "file.json"), 3);
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

TEST(Json, TypedAccessNamesThePlace) {
  const nlohmann::json value = parse_json(R"({"n": 1.5, "big": 18446744073709551615, "s": "x", "z": null})", "f");
  EXPECT_EQ(json_string_at(value, "s", "f"), "x");
  EXPECT_EQ(json_find(value, "z"), nullptr);
  EXPECT_FALSE(json_find_int(value, "z", "f").has_value());
  for (const char* key : {"n", "big", "s"}) EXPECT_THROW((void)json_find_int(value, key, "f"), Error) << key;
  EXPECT_THROW((void)json_string_at(value, "n", "f"), Error);
  EXPECT_THROW((void)json_at(value, "missing", "f"), Error);
}

TEST(Json, PrintableIsShortPrintableAscii) {
  EXPECT_EQ(printable("a\n\xc3\xa9z"), "a???z");
  EXPECT_EQ(printable(std::string(500, 'x')).size(), 123u);
}

}  // namespace
}  // namespace mambasdk::runtime
