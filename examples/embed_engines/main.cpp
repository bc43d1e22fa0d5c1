// embed_engines PACKAGE…: runs packages of any engine through the same calls, without Python. What a package takes
// decides what is done with it: "image" is classified; "tokens" are fed as a stream, the first five at once, then one
// at a time, and a saved state is gone back to. Prints each package's description (JSON), then a line per output: its
// name and values.
//
// Packages of the engine aoti need libtorch: MAMBASDK_LIBTORCH names its folder where it is not on the library path.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <mambasdk/mambasdk.hpp>
#include <string>
#include <vector>

namespace {

void print(const char* name, std::span<const float> values) {
  std::printf("%s", name);
  for (const float value : values) std::printf(" %.9g", static_cast<double>(value));
  std::printf("\n");
}

void classify(mambasdk::Session& session) {
  constexpr std::int64_t height = 20;
  constexpr std::int64_t width = 14;
  std::vector<float> image(3 * height * width);
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(static_cast<int>(i * 7 % 11) - 5) / 5.0F;
  const auto outputs =
      session.run({{"image", mambasdk::TensorRef(std::span(image), {1, 3, height, width})}}, {"scores"});
  print("scores", outputs[0].data<float>());
}

std::vector<float> feed(mambasdk::Session& session, std::span<const std::int32_t> tokens) {
  const auto shape = std::vector<std::int64_t>{1, static_cast<std::int64_t>(tokens.size())};
  const auto outputs = session.run({{"tokens", mambasdk::TensorRef(tokens, shape)}}, {"last_logits"});
  const auto values = outputs[0].data<float>();
  return {values.begin(), values.end()};
}

void stream(mambasdk::Session& session) {
  const std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9, 2, 6};
  const std::span all(tokens);
  print("last_logits", feed(session, all.first(5)));
  const std::vector<std::byte> saved = session.save();
  std::vector<float> last;
  for (std::size_t i = 5; i < all.size(); ++i) {
    last = feed(session, all.subspan(i, 1));
    print("last_logits", last);
  }
  session.restore(saved);
  const std::vector<float> again = feed(session, all.subspan(5));
  for (std::size_t i = 0; i < last.size(); ++i) {
    if (!(std::abs(again[i] - last[i]) <= 1e-4F)) throw std::runtime_error("the restored state gave other logits");
  }
}

void run(const char* package) {
  // Compiled packages bring machine code: this program runs what it is told to.
  const mambasdk::Model model(package, {.allow_code = true});
  const std::string description(model.description());
  std::printf("%s\n", description.c_str());
  mambasdk::Session session(model);
  if (description.find("\"name\":\"image\"") != std::string::npos) {
    classify(session);
  } else if (description.find("\"name\":\"tokens\"") != std::string::npos) {
    stream(session);
  } else {
    throw std::runtime_error("the package takes neither image nor tokens");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: embed_engines PACKAGE…\n");
    return 2;
  }
  for (int i = 1; i < argc; ++i) {
    try {
      run(argv[i]);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "embed_engines: %s\n", error.what());
      return 1;
    }
  }
}
