#include "runtime/generation/generate.hpp"

#include <algorithm>
#include <chrono>
#include <span>

namespace mambasdk::runtime {

namespace {

constexpr std::size_t kPromptChunk = 512;  // tokens; bounds the activations of a long prompt

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs tokens (batch 1); returns the logits after the last one when wanted.
OwnedTensor feed(Session& session, std::span<const std::int32_t> tokens, bool want_logits) {
  const std::int64_t shape[2] = {1, static_cast<std::int64_t>(tokens.size())};
  const NamedTensor input{"tokens", Tensor::contiguous(const_cast<std::int32_t*>(tokens.data()), dtype::i32, shape, 2)};
  const std::string_view wanted = "last_logits";
  auto outputs = session.run({&input, 1}, {&wanted, want_logits ? std::size_t{1} : std::size_t{0}});
  return want_logits ? std::move(outputs[0]) : OwnedTensor{};
}

std::span<const float> logits_of(const OwnedTensor& t) {
  return {t.view.ptr<const float>(), static_cast<std::size_t>(t.view.numel())};
}

}  // namespace

std::string StopFilter::push(std::string_view text) {
  held_ += text;
  std::size_t first = std::string::npos;
  for (const std::string& s : stop_) {
    if (!s.empty()) first = std::min(first, held_.find(s));
  }
  if (first != std::string::npos) {
    stopped_ = true;
    held_.resize(first);
    return finish();
  }
  // The longest end of the text that begins a stop string must wait.
  std::size_t keep = 0;
  for (const std::string& s : stop_) {
    for (std::size_t n = std::min(s.size(), held_.size() + 1); n-- > keep;) {
      if (std::string_view(held_).ends_with(std::string_view(s).substr(0, n))) {
        keep = std::max(keep, n);
        break;
      }
    }
  }
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

GenerateResult generate(Session& session, const Tokenizer& tokenizer, std::string_view prompt,
                        const GenerateOptions& options) {
  GenerateResult result;
  const std::vector<std::int32_t> tokens = tokenizer.encode(prompt, true);
  if (tokens.empty()) fail(ErrorCode::invalid_argument, "the prompt has no tokens; give at least one character");
  result.prompt_tokens = static_cast<std::int64_t>(tokens.size());
  Sampler sampler(options.sampling);
  sampler.observe(tokens);

  auto start = std::chrono::steady_clock::now();
  std::span<const std::int32_t> rest(tokens);
  while (rest.size() > kPromptChunk) {
    (void)feed(session, rest.first(kPromptChunk), false);
    rest = rest.subspan(kPromptChunk);
  }
  OwnedTensor logits = feed(session, rest, true);
  result.prefill_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  TextStream stream(tokenizer, /*skip_special=*/true, /*at_start=*/false);  // it follows the prompt
  StopFilter filter(options.stop);
  const auto show = [&](const std::string& text) { return text.empty() || !options.on_text || options.on_text(text); };
  bool wanted = true;
  while (wanted && result.new_tokens < options.max_new_tokens) {
    const std::int32_t token = sampler.sample(logits_of(logits));
    if (options.end_token && token == *options.end_token) break;
    ++result.new_tokens;
    wanted = show(filter.push(stream.push(token))) && !filter.stopped();
    if (!wanted || result.new_tokens == options.max_new_tokens) break;
    logits = feed(session, {&token, 1}, true);
  }
  if (wanted && !filter.stopped()) {
    wanted = show(filter.push(stream.finish()));
    if (wanted && !filter.stopped()) (void)show(filter.finish());
  }
  result.decode_seconds = seconds_since(start);
  return result;
}

}  // namespace mambasdk::runtime
