// Sampling: the published generator, the specified order of operations (against a plain transcription of it), and the
// distribution.
#include "runtime/sampling/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "core/error.hpp"

namespace mambasdk::runtime {
namespace {

std::vector<float> random_logits(std::size_t n, unsigned seed, float scale = 3.0f) {
  std::mt19937 gen(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> logits(n);
  for (float& x : logits) x = normal(gen);
  return logits;
}

// The header's steps 3 to 7, written for clarity: full sorts, no laziness.
std::int32_t specified(const std::vector<float>& logits, const SamplingOptions& options, double u) {
  const std::size_t n = logits.size();
  std::vector<double> value(logits.begin(), logits.end());
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto sort_falling = [&] {
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return value[a] != value[b] ? value[a] > value[b] : a < b; });
  };
  sort_falling();
  if (options.top_k > 0) order.resize(std::min(n, static_cast<std::size_t>(options.top_k)));
  const double max = value[order[0]];
  std::sort(order.begin(), order.end());
  double sum = 0;
  for (const std::size_t i : order) sum += value[i] = std::exp((value[i] - max) / options.temperature);
  for (const std::size_t i : order) value[i] /= sum;
  sort_falling();
  std::vector<std::size_t> kept;
  double before = 0;
  for (const std::size_t i : order) {
    const bool in_top_p = options.top_p == 1 || before < options.top_p;
    if (in_top_p && value[i] >= options.min_p * value[order[0]]) kept.push_back(i);
    before += value[i];
  }
  std::vector<std::size_t> by_token = kept;
  std::sort(by_token.begin(), by_token.end());
  double mass = 0;
  for (const std::size_t i : by_token) mass += value[i];
  double running = 0;
  for (const std::size_t i : kept) {
    running += value[i];
    if (running > u * mass) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(kept.back());
}

TEST(Xoshiro256, PublishedSequence) {
  // splitmix64(0) begins 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec (reference
  // code).
  Xoshiro256 random(0);
  EXPECT_EQ(random.next(), 0x99ec5f36cb75f2b4u);
  EXPECT_EQ(random.next(), 0xbf6e1f784956452au);
  for (int i = 0; i < 1000; ++i) {
    const double u = random.next_double();
    EXPECT_TRUE(u >= 0 && u < 1);
  }
}

TEST(Sampler, MatchesTheSpecification) {
  unsigned seed = 1;
  for (const std::size_t n : {1u, 2u, 17u, 300u, 5000u}) {
    for (const std::int32_t top_k : {0, 2, 40, 400}) {
      for (const double top_p : {1.0, 0.9, 0.1}) {
        for (const double min_p : {0.0, 0.05, 1.0}) {
          for (const double temperature : {0.1, 1.0, 5.0}) {
            const SamplingOptions options{temperature, top_k, top_p, min_p, 1.0, ++seed};
            std::vector<float> logits = random_logits(n, seed);
            for (float& x : logits) x = std::round(x * 8) / 8;  // many ties
            Sampler sampler(options);
            Xoshiro256 random(options.seed);
            for (int draw = 0; draw < 5; ++draw) {
              ASSERT_EQ(sampler.sample(logits), specified(logits, options, random.next_double()))
                  << "n=" << n << " k=" << top_k << " p=" << top_p << " min_p=" << min_p << " t=" << temperature;
            }
          }
        }
      }
    }
  }
}

TEST(Sampler, GreedyTakesTheLowestOfTheHighest) {
  const std::vector<float> logits = {1, 5, 3, 5, -2};
  for (const SamplingOptions& options : {SamplingOptions{.temperature = 0}, SamplingOptions{.top_k = 1}}) {
    Sampler sampler(options);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(sampler.sample(logits), 1);
  }
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits = {0, 1, 2, -1};
  Sampler sampler({.seed = 42});
  std::vector<double> counts(4);
  constexpr int draws = 200'000;
  for (int i = 0; i < draws; ++i) counts[static_cast<std::size_t>(sampler.sample(logits))] += 1;
  const double sum = std::exp(0.0) + std::exp(1.0) + std::exp(2.0) + std::exp(-1.0);
  for (std::size_t i = 0; i < 4; ++i) {
    const double p = std::exp(static_cast<double>(logits[i])) / sum;
    EXPECT_NEAR(counts[i] / draws, p, 5 * std::sqrt(p * (1 - p) / draws));
  }
}

TEST(Sampler, MinPIsRelativeToTheHighest) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.14f), std::log(0.06f)};
  Sampler sampler({.min_p = 0.25, .seed = 3});  // keeps p >= 0.125
  std::set<std::int32_t> seen;
  for (int i = 0; i < 5000; ++i) seen.insert(sampler.sample(logits));
  EXPECT_EQ(seen, (std::set<std::int32_t>{0, 1, 2}));
}

TEST(Sampler, RepetitionPenaltyLowersSeenTokens) {
  const std::vector<float> logits = {2.0f, 1.5f, -1.0f, -1.2f};
  Sampler sampler({.temperature = 0, .repetition_penalty = 2.0});
  EXPECT_EQ(sampler.sample(logits), 0);
  EXPECT_EQ(sampler.sample(logits), 1) << "2.0 became 1.0";
  EXPECT_EQ(sampler.sample(logits), 0) << "1.5 became 0.75";
  const std::vector<float> negative = {-1.0f, -1.5f};
  Sampler other({.temperature = 0, .repetition_penalty = 2.0});
  const std::int32_t prompt[] = {0};
  other.observe(prompt);
  EXPECT_EQ(other.sample(negative), 1) << "-1 became -2";
}

TEST(Sampler, ACopyContinuesLikeTheOriginal) {
  const std::vector<float> logits = random_logits(1000, 9);
  Sampler sampler({.repetition_penalty = 1.2, .seed = 5});
  for (int i = 0; i < 10; ++i) (void)sampler.sample(logits);
  Sampler copy = sampler;
  for (int i = 0; i < 50; ++i) ASSERT_EQ(sampler.sample(logits), copy.sample(logits));
}

TEST(Sampler, MaskedTokensAreNeverChosen) {
  std::vector<float> logits(600, -std::numeric_limits<float>::infinity());
  logits[7] = 0.0f;
  logits[500] = -50.0f;
  for (const double top_p : {1.0, 0.999999}) {
    Sampler sampler({.temperature = 100.0, .top_p = top_p, .seed = 1});
    for (int i = 0; i < 2000; ++i) {
      const std::int32_t token = sampler.sample(logits);
      ASSERT_TRUE(token == 7 || token == 500) << token;
    }
  }
}

TEST(Sampler, RefusesBadInput) {
  const float inf = std::numeric_limits<float>::infinity();
  Sampler sampler({});
  EXPECT_THROW((void)sampler.sample(std::vector<float>{}), Error);
  EXPECT_THROW((void)sampler.sample(std::vector<float>{1, NAN}), Error);
  EXPECT_THROW((void)sampler.sample(std::vector<float>{1, inf}), Error);
  EXPECT_THROW((void)sampler.sample(std::vector<float>{-inf, -inf}), Error);
  for (const SamplingOptions& bad :
       {SamplingOptions{.temperature = -1}, SamplingOptions{.temperature = NAN},
        SamplingOptions{.temperature = INFINITY}, SamplingOptions{.top_k = -1}, SamplingOptions{.top_p = 0},
        SamplingOptions{.top_p = 1.5}, SamplingOptions{.top_p = NAN}, SamplingOptions{.min_p = -0.1},
        SamplingOptions{.min_p = 1.1}, SamplingOptions{.repetition_penalty = 0},
        SamplingOptions{.repetition_penalty = NAN}}) {
    EXPECT_THROW(Sampler{bad}, Error);
  }
}

}  // namespace
}  // namespace mambasdk::runtime
