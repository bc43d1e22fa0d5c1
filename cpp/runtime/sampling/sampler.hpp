// From logits to a token. The whole procedure is specified here so that another language can repeat it bit for bit.
//
// Order of operations, over the logits of one position (float32, converted to double):
//  1. Repetition penalty r: the logit of every token observed so far is divided by r if positive, else multiplied by r.
//  2. Greedy if temperature == 0 or top_k == 1: the highest logit, ties to the lower id; no random number is drawn.
//  3. top_k > 0: only the k highest logits stay (ties to the lower id).
//  4. Temperature: p[i] = exp((logit[i] - max) / temperature) / sum, with `sum` added up in token order.
//  5. top_p < 1: in order of falling p (ties to the lower id), a token stays if the p before it add up to less than
//  top_p.
//  6. min_p > 0: a token stays if p >= min_p * (highest p).
//  7. One random number u in [0, 1). With `mass` = the p that stayed, added up in token order, the token is the first
//  in
//     order of falling p at which the running sum exceeds u * mass; rounding may leave none, then it is the last that
//     stayed.
//
// Random numbers: xoshiro256** (Blackman and Vigna, 2018), its four words the first four outputs of splitmix64 started
// at `seed`; u is the top 53 bits of an output times 2^-53.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace mambasdk::runtime {

class Xoshiro256 {
 public:
  explicit Xoshiro256(std::uint64_t seed);
  [[nodiscard]] std::uint64_t next();
  [[nodiscard]] double next_double();  // in [0, 1)

 private:
  std::array<std::uint64_t, 4> state_;
};

struct SamplingOptions {
  double temperature = 1.0;         // >= 0; 0 is greedy
  std::int32_t top_k = 0;           // 0: all
  double top_p = 1.0;               // in (0, 1]
  double min_p = 0.0;               // in [0, 1]
  double repetition_penalty = 1.0;  // in [1e-6, 1e6]
  std::uint64_t seed = 0;
};

// One generation's sampler; copying it copies the random state and the observed tokens.
class Sampler {
 public:
  // Error: invalid_argument for an option out of range.
  explicit Sampler(const SamplingOptions& options);

  // Marks tokens (the prompt's) as seen by the repetition penalty.
  void observe(std::span<const std::int32_t> tokens);

  // Chooses a token and observes it. logits: (vocabulary). -inf is allowed and never chosen; error: invalid_argument
  // for NaN, +inf, no finite logit, or no logits at all.
  [[nodiscard]] std::int32_t sample(std::span<const float> logits);

 private:
  struct Candidate {
    double value;  // logit, then probability
    std::int32_t token;
  };

  void load(std::span<const float> logits);
  [[nodiscard]] std::int32_t argmax() const;
  void keep_top_k();
  void to_probabilities();
  [[nodiscard]] std::int32_t draw();
  void sort_front(std::size_t count);

  SamplingOptions options_;
  Xoshiro256 random_;
  std::vector<bool> seen_;  // by token
  std::vector<Candidate> candidates_;
  std::size_t sorted_ = 0;  // candidates_[0, sorted_) are the highest, in order
};

}  // namespace mambasdk::runtime
