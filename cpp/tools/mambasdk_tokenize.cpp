// mambasdk-tokenize: the native tokenizer on the command line, for tests and for comparing with other tokenizers.
//
//   mambasdk-tokenize TOKENIZER [--special] [--decode [--skip-special] [--stream]] [--time N]
//
// TOKENIZER is a tokenizer.json or the word "bytes". Reads JSON lines from standard input and writes one JSON line
// each: a string becomes its token ids (--special: with bos/eos); with --decode a list of ids becomes its text,
// --stream through the streaming decoder. An error becomes {"error": "..."}. --time N encodes each line N times and
// reports the best time on standard error.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "runtime/text/tokenizer.hpp"

namespace {

using mambasdk::runtime::Tokenizer;
using nlohmann::json;

struct Options {
  std::string tokenizer;
  bool special = false, decode = false, skip_special = false, stream = false;
  int repeat = 0;
};

int usage() {
  std::cerr
      << "usage: mambasdk-tokenize TOKENIZER|bytes [--special] [--decode [--skip-special] [--stream]] [--time N]\n";
  return 2;
}

std::string stream_decode(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, bool skip_special) {
  mambasdk::runtime::TextStream stream(tokenizer, skip_special);
  std::string text;
  for (const std::int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

void time_encode(const Tokenizer& tokenizer, const std::string& text, const Options& options) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    (void)tokenizer.encode(text, options.special);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  if (options.repeat > 0) std::cerr << best << '\n';
}

json answer(const Tokenizer& tokenizer, const std::string& line, const Options& options) {
  const json request = json::parse(line);
  if (!options.decode) {
    const std::string text = request.get<std::string>();
    time_encode(tokenizer, text, options);
    return tokenizer.encode(text, options.special);
  }
  const auto ids = request.get<std::vector<std::int32_t>>();
  return options.stream ? stream_decode(tokenizer, ids, options.skip_special)
                        : tokenizer.decode(ids, options.skip_special);
}

int run(const Options& options) {
  const auto tokenizer = options.tokenizer == "bytes" ? Tokenizer::bytes() : Tokenizer::from_file(options.tokenizer);
  for (std::string line; std::getline(std::cin, line);) {
    json result;
    try {
      result = answer(*tokenizer, line, options);
    } catch (const std::exception& error) {
      result = {{"error", error.what()}};
    }
    std::cout << result.dump(-1, ' ', true) << '\n';
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--special") {
      options.special = true;
    } else if (arg == "--decode") {
      options.decode = true;
    } else if (arg == "--skip-special") {
      options.skip_special = true;
    } else if (arg == "--stream") {
      options.stream = true;
    } else if (arg == "--time" && i + 1 < argc) {
      options.repeat = std::atoi(argv[++i]);
    } else if (options.tokenizer.empty() && !arg.starts_with("--")) {
      options.tokenizer = arg;
    } else {
      return usage();
    }
  }
  if (options.tokenizer.empty()) return usage();
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::cerr << "mambasdk-tokenize: " << error.what() << '\n';
    return 1;
  }
}
