// Sampling as specified in sampler.hpp. Sorting is lazy: most draws end among the first few hundred candidates.
#include "runtime/sampling/sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/error.hpp"

namespace mambasdk::runtime {

Xoshiro256::Xoshiro256(std::uint64_t seed) : state_{} {
  for (std::uint64_t& word : state_) {  // splitmix64
    seed += 0x9e3779b97f4a7c15u;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

std::uint64_t Xoshiro256::next() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Xoshiro256::next_double() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  const auto check = [](bool good, const char* name, auto value, const char* range) {
    if (!good) fail(ErrorCode::invalid_argument, "sampling: ", name, " is ", value, ", expected ", range);
  };
  check(options.temperature >= 0 && std::isfinite(options.temperature), "temperature", options.temperature,
        "a finite number >= 0 (0 is greedy)");
  check(options.top_k >= 0, "top_k", options.top_k, ">= 0 (0 keeps every token)");
  check(options.top_p > 0 && options.top_p <= 1, "top_p", options.top_p, "in (0, 1]");
  check(options.min_p >= 0 && options.min_p <= 1, "min_p", options.min_p, "in [0, 1]");
  check(options.repetition_penalty >= 1e-6 && options.repetition_penalty <= 1e6, "repetition_penalty",
        options.repetition_penalty, "in [1e-6, 1e6] (1 is none)");
}

void Sampler::observe(std::span<const std::int32_t> tokens) {
  if (options_.repetition_penalty == 1.0) return;
  for (const std::int32_t token : tokens) {
    if (token < 0) fail(ErrorCode::invalid_argument, "sampling: token ", token, " is negative");
    const auto index = static_cast<std::size_t>(token);
    if (index >= seen_.size()) seen_.resize(index + 1, false);
    seen_[index] = true;
  }
}

std::int32_t Sampler::sample(std::span<const float> logits) {
  load(logits);
  std::int32_t token = 0;
  if (options_.temperature == 0 || options_.top_k == 1) {
    token = argmax();
  } else {
    keep_top_k();
    to_probabilities();
    token = draw();
  }
  observe({&token, 1});
  return token;
}

void Sampler::load(std::span<const float> logits) {
  if (logits.empty()) fail(ErrorCode::invalid_argument, "sampling: there are no logits");
  if (logits.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    fail(ErrorCode::invalid_argument, "sampling: ", logits.size(), " logits are more than a token id can name");
  }
  candidates_.resize(logits.size());
  sorted_ = 0;
  bool finite = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double logit = static_cast<double>(logits[i]);
    if (!(logit < std::numeric_limits<double>::infinity())) {
      fail(ErrorCode::invalid_argument, "sampling: the logit of token ", i, " is ", logit);
    }
    finite = finite || std::isfinite(logit);
    candidates_[i] = {logit, static_cast<std::int32_t>(i)};
  }
  if (!finite) fail(ErrorCode::invalid_argument, "sampling: every logit is -inf, no token can be chosen");
  const double penalty = options_.repetition_penalty;
  if (penalty == 1.0) return;
  for (std::size_t i = 0; i < std::min(seen_.size(), candidates_.size()); ++i) {
    double& logit = candidates_[i].value;
    if (seen_[i]) logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

std::int32_t Sampler::argmax() const {
  const auto best = std::max_element(candidates_.begin(), candidates_.end(),
                                     [](const Candidate& a, const Candidate& b) { return a.value < b.value; });
  return best->token;
}

namespace {

constexpr auto kFalling = [](const auto& a, const auto& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
};
constexpr auto kByToken = [](const auto& a, const auto& b) { return a.token < b.token; };

}  // namespace

void Sampler::keep_top_k() {
  const auto k = static_cast<std::size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
  std::nth_element(candidates_.begin(), end, candidates_.end(), kFalling);
  candidates_.erase(end, candidates_.end());
  std::sort(candidates_.begin(), candidates_.end(), kByToken);
}

void Sampler::to_probabilities() {
  double max = -std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : candidates_) max = std::max(max, candidate.value);
  double sum = 0;
  for (Candidate& candidate : candidates_) {
    candidate.value = std::exp((candidate.value - max) / options_.temperature);
    sum += candidate.value;
  }
  for (Candidate& candidate : candidates_) candidate.value /= sum;
}

void Sampler::sort_front(std::size_t count) {
  count = std::min(count, candidates_.size());
  if (count <= sorted_) return;
  const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted_);
  const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
  if (count < candidates_.size()) std::nth_element(begin, end, candidates_.end(), kFalling);
  std::sort(begin, end, kFalling);
  sorted_ = count;
}

std::int32_t Sampler::draw() {
  constexpr std::size_t first_block = 256;
  const auto sort_past = [&](std::size_t i) {
    if (i >= sorted_) sort_front(std::max(first_block, 4 * sorted_));
  };
  double mass = 0;
  for (const Candidate& candidate : candidates_) mass += candidate.value;  // in token order

  if (options_.top_p < 1 || options_.min_p > 0) {
    std::size_t kept = 0;
    double before = 0;
    double threshold = 0;
    for (; kept < candidates_.size(); ++kept) {
      sort_past(kept);
      const double p = candidates_[kept].value;
      if (kept == 0) threshold = options_.min_p * p;
      if (before >= options_.top_p || p < threshold) break;
      before += p;
    }
    if (kept < candidates_.size()) {
      candidates_.resize(kept);
      sorted_ = kept;
      std::vector<Candidate> by_token = candidates_;
      std::sort(by_token.begin(), by_token.end(), kByToken);
      mass = 0;
      for (const Candidate& candidate : by_token) mass += candidate.value;
    }
  }

  const double target = random_.next_double() * mass;
  double running = 0;
  std::int32_t last = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    sort_past(i);
    if (i != 0 && !(candidates_[i].value > 0)) break;  // a token of probability 0 is never the answer
    running += candidates_[i].value;
    last = candidates_[i].token;
    if (running > target) break;
  }
  return last;
}

}  // namespace mambasdk::runtime
