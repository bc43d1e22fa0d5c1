// Any bytes as the options of a processor: an Error of bounded length, or values within their bounds.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "mambasdk/plugin/config.hpp"
#include "seeds.hpp"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {R"({"kind": "k", "size": [224, 192], "mean": [0.5, 0.25], "flag": true, "name": "x"})",
       R"({"labels": ["a", "b"], "size": 7, "mean": -1e300, "choice": "b"})", R"({"pairs": [[0, 1], [16, 2]]})",
       std::string(2000, '['), R"({"size": 1, "size": 2})", "", "{}"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using mambasdk::plugin::Config;
  try {
    const Config config({reinterpret_cast<const char*>(data), size}, "options",
                        {"size", "mean", "flag", "name", "labels", "choice", "pairs"});
    const Config copy = config;  // NOLINT: a copy must be whole
    for (const std::int64_t n : copy.integers("size", {1, 1}, -5, 300)) {
      if (n < -5 || n > 300) std::abort();
    }
    for (const double v : copy.numbers("mean", {0, 0}, -10, 10)) {
      if (!(v >= -10 && v <= 10)) std::abort();
    }
    for (const auto& [a, b] : copy.pairs("pairs", 0, 16)) {
      if (a < 0 || a > 16 || b < 0 || b > 16) std::abort();
    }
    (void)copy.flag("flag", false);
    (void)copy.text("name", "none");
    (void)copy.strings("labels");
    if (copy.choice("choice", {"a", "b"}).size() != 1) std::abort();
  } catch (const mambasdk::Error& error) {
    if (std::string(error.what()).size() > 400) std::abort();
  }
  return 0;
}
