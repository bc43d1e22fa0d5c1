// embed_cpp PACKAGE PROMPT COUNT: continues a text greedily, token by token, over the C++ face.
// Prints the package's description (JSON: inputs, outputs, states), then the token ids, one a line. Half-way it saves
// the state; at the end it goes back there and checks that the second half comes out the same.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mambasdk/mambasdk.hpp>
#include <string>
#include <vector>

namespace {

std::vector<std::int32_t> continue_from(mambasdk::Session& session, std::int32_t token, std::size_t count) {
  mambasdk::Sampler sampler;  // greedy
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count) {
    token = sampler.sample(session.next_logits({&token, 1}).data<float>());
    tokens.push_back(token);
  }
  return tokens;
}

int run(const char* package, const char* prompt, std::size_t count) {
  const mambasdk::Model model(package, {.verify = mambasdk::Verify::all});
  std::printf("%s\n", std::string(model.description()).c_str());
  const mambasdk::Tokenizer tokenizer(model);
  mambasdk::Session session(model);
  mambasdk::Sampler sampler;

  std::vector<std::int32_t> tokens{sampler.sample(session.next_logits(tokenizer.encode(prompt)).data<float>())};
  const auto append = [&tokens](const std::vector<std::int32_t>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  append(continue_from(session, tokens.back(), (count - 1) / 2));
  const std::vector<std::byte> saved = session.save();
  const std::int32_t last = tokens.back();
  const std::vector<std::int32_t> second_half = continue_from(session, last, count - tokens.size());
  append(second_half);
  for (const std::int32_t token : tokens) std::printf("%d\n", token);

  session.restore(saved);
  if (continue_from(session, last, second_half.size()) == second_half) return 0;
  std::fprintf(stderr, "embed_cpp: the restored state gave other tokens\n");
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const long count = argc == 4 ? std::strtol(argv[3], nullptr, 10) : 0;
  if (count < 1) {
    std::fprintf(stderr, "usage: embed_cpp PACKAGE PROMPT COUNT\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2], static_cast<std::size_t>(count));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed_cpp: %s\n", error.what());
    return 1;
  }
}
