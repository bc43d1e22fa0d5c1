// States that grow, on a small attention model: any split of a sequence, snapshots, failures, saved states, limits.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "abi/cancel_testing.hpp"
#include "abi/convert.hpp"
#include "runtime/engine/engines.hpp"
#include "runtime/engine/native.hpp"

namespace mambasdk::runtime {
namespace {

constexpr std::int64_t kVocab = 13, kDim = 8, kLimit = 400;

// embedding + position -> keys and values, held -> causal attention -> linear head. A state of the ordinary kind, the
// convolution's, stands beside.
constexpr const char* kProgram = R"json({"format": 3,
 "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
 "states": [{"name": "k", "dtype": "f32", "shape": ["B", "past", 2, 4], "grows": 1, "limit": 400},
            {"name": "conv", "dtype": "f32", "shape": ["B", 2, 8]},
            {"name": "v", "dtype": "f32", "shape": ["B", "past", 2, 4], "grows": 1}],
 "nodes": [
  {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%e"}},
  {"view": "slice", "in": "@positions", "dim": 0, "start": "past", "length": "L", "out": "%at"},
  {"view": "expand", "in": "%at", "shape": ["B", -1, -1], "out": "%spread"},
  {"op": "copy", "args": {"x": "%spread"}, "out": {"y": "%added"}},
  {"op": "add", "args": {"x": "%e", "y": "%added"}, "out": {"out": "%p"}},
  {"op": "causal_conv1d", "args": {"x": "%p", "weight": "@conv", "initial_state": "$conv", "return_final_state": true},
   "out": {"y": "%h", "final_state": "$conv"}},
  {"op": "linear", "args": {"x": "%h", "weight": "@qkv"}, "out": {"y": "%qkv"}},
  {"view": "reshape", "in": "%qkv", "shape": ["B", "L", 3, 2, 4], "out": "%parts"},
  {"view": "slice", "in": "%parts", "dim": 2, "start": 0, "length": 1, "out": "%q5"},
  {"view": "slice", "in": "%parts", "dim": 2, "start": 1, "length": 1, "out": "%k5"},
  {"view": "slice", "in": "%parts", "dim": 2, "start": 2, "length": 1, "out": "%v5"},
  {"view": "reshape", "in": "%q5", "shape": ["B", "L", 2, 4], "out": "%q"},
  {"view": "reshape", "in": "%k5", "shape": ["B", "L", 2, 4], "out": "%k"},
  {"view": "reshape", "in": "%v5", "shape": ["B", "L", 2, 4], "out": "%v"},
  {"append": "$k", "in": "%k", "out": "%keys"},
  {"append": "$v", "in": "%v", "out": "%values"},
  {"op": "attention", "args": {"q": "%q", "k": "%keys", "v": "%values", "scale": 0.5, "causal": true}, "out": {"y": "%a"}},
  {"view": "reshape", "in": "%a", "shape": ["B", "L", 8], "out": "%flat"},
  {"op": "linear", "args": {"x": "%flat", "weight": "@head"}, "out": {"y": "%logits"}},
  {"op": "copy", "args": {"x": "%keys"}, "out": {"y": "%held"}}],
 "outputs": [{"name": "logits", "value": "%logits"}, {"name": "held", "value": "%held"}]})json";

class GrowingTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(testing::TempDir()) /
                 concat("growing-", getpid(), "-", testing::UnitTest::GetInstance()->current_test_info()->name());
    write(kProgram);
    std::mt19937 random(7);
    for (std::int64_t i = 0; i < kLimit; ++i) tokens_.push_back(static_cast<std::int32_t>(random() % kVocab));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& program) {
    std::filesystem::create_directories(directory_);
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0.0f, 0.5f);
    const std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes = {{"embedding", {kVocab, kDim}},
                                                                                   {"positions", {kLimit, kDim}},
                                                                                   {"conv", {kDim, 3}},
                                                                                   {"qkv", {3 * kDim, kDim}},
                                                                                   {"head", {kVocab, kDim}}};
    std::vector<std::vector<float>> data;
    std::vector<StoredTensor> tensors;
    for (const auto& [name, shape] : shapes) {
      data.emplace_back(static_cast<std::size_t>(shape[0] * shape[1]));
      for (float& x : data.back()) x = normal(random);
      tensors.push_back(
          {name, "F32", shape, reinterpret_cast<const std::byte*>(data.back().data()), data.back().size() * 4});
    }
    write_safetensors(directory_ / "model.safetensors", tensors);
    std::ofstream(directory_ / "program.json") << program;
    std::ofstream(directory_ / "mambasdk.json") << R"({"format": [1, 0], "family": "test", "variant": "growing",
      "config": {}, "head": "", "engine": {"name": "native", "program": "program.json"},
      "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}], "outputs": [], "processors": {},
      "requires": {"mambasdk_abi": [1, 0], "plugins": []}, "files": {}})";
  }

  std::unique_ptr<Session> session(std::uint64_t max_memory = 0, const mambasdk_context* host = nullptr) {
    LoadOptions options;
    options.max_memory = max_memory;
    return load_model(directory_, options)->new_session(std::make_unique<abi::HostContext>(host));
  }
  // Tokens [from, to) in each row of the batch.
  std::vector<float> run(Session& s, std::int64_t from, std::int64_t to, std::string_view output = "logits",
                         std::int64_t batch = 1) {
    std::vector<std::int32_t> given;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t i = from; i < to; ++i) given.push_back((tokens_[static_cast<std::size_t>(i)] + 3 * b) % kVocab);
    }
    const std::int64_t shape[] = {batch, to - from};
    const NamedTensor input{"tokens", Tensor::contiguous(given.data(), dtype::i32, shape, 2)};
    const auto made = s.run({&input, 1}, {&output, 1});
    const auto* data = made[0].view.ptr<const float>();
    return {data, data + made[0].view.numel()};
  }
  static std::string error_of(const std::function<void()>& f, ErrorCode code) {
    try {
      f();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      return e.what();
    }
    return "no error";
  }
  static void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-5f) << i;
  }

  std::filesystem::path directory_;
  std::vector<std::int32_t> tokens_;
};

TEST_F(GrowingTest, AnySplitOfASequenceGivesTheSameLogits) {
  constexpr std::int64_t kLength = 300;  // the states' memory grows, and moves, several times
  for (const std::int64_t batch : {1, 3}) {
    const std::vector<float> whole = run(*session(), 0, kLength, "logits", batch);
    for (const std::int64_t piece : {1, 7, 64, 128, 299}) {
      const auto s = session();
      std::vector<std::vector<float>> rows(static_cast<std::size_t>(batch));
      for (std::int64_t at = 0; at < kLength; at += piece) {
        const std::int64_t n = std::min(piece, kLength - at);
        const std::vector<float> part = run(*s, at, at + n, "logits", batch);
        for (std::size_t b = 0; b < rows.size(); ++b) {
          const auto begin = part.begin() + static_cast<std::ptrdiff_t>(b) * n * kVocab;
          rows[b].insert(rows[b].end(), begin, begin + n * kVocab);
        }
      }
      std::vector<float> got;
      for (const auto& row : rows) got.insert(got.end(), row.begin(), row.end());
      expect_near(got, whole);
    }
  }
}

TEST_F(GrowingTest, AnEmptyRunAppendsNothing) {
  const auto s = session();
  const std::vector<float> expected = run(*session(), 0, 5);
  EXPECT_TRUE(run(*s, 0, 0).empty());
  EXPECT_EQ(run(*s, 0, 5), expected);
  EXPECT_TRUE(run(*s, 5, 5).empty());
  EXPECT_EQ(run(*s, 5, 9, "held").size(), 9 * kDim);
}

TEST_F(GrowingTest, SavedRestoredAndClonedSessionsGoOnAlike) {
  for (const std::int64_t batch : {1, 2}) {
    const auto s = session();
    (void)run(*s, 0, 70, "logits", batch);
    const auto copy = s->clone();
    const auto restored = session();
    restored->restore(s->save());
    EXPECT_EQ(restored->save(), s->save());
    const std::vector<float> expected = run(*s, 70, 140, "logits", batch);
    EXPECT_EQ(run(*copy, 70, 140, "logits", batch), expected);
    EXPECT_EQ(run(*restored, 70, 140, "logits", batch), expected);
    EXPECT_EQ(run(*restored, 140, 141, "held", batch), run(*s, 140, 141, "held", batch));
    restored->reset();
    EXPECT_EQ(run(*restored, 0, 70, "logits", batch), run(*session(), 0, 70, "logits", batch));
  }
}

TEST_F(GrowingTest, ASnapshotIsFoundAgainWhateverCameBetween) {
  const auto s = session();
  (void)run(*s, 0, 20);
  const std::vector<std::byte> image = s->save();
  const std::vector<float> expected = run(*s->clone(), 20, 30);
  const std::function<void()> between[] = {[&] { (void)run(*s, 20, 200); }, [&] { s->reset(), (void)run(*s, 50, 90); },
                                           [&] { s->restore(image), (void)run(*s, 1, 5); }};
  for (const auto& step : between) {
    auto held = s->snapshot();
    step();
    s->roll_back(std::move(held));
    EXPECT_EQ(s->save(), image);
    EXPECT_EQ(run(*s->clone(), 20, 30), expected);
  }
  // One that holds more, after the session went back to one that holds less and wrote there.
  auto shorter = s->snapshot();
  (void)run(*s, 20, 25);
  const std::vector<std::byte> longer_image = s->save();
  auto longer = s->snapshot();
  s->roll_back(std::move(shorter));
  (void)run(*s, 100, 110);
  s->roll_back(std::move(longer));
  EXPECT_EQ(s->save(), longer_image);
}

TEST_F(GrowingTest, AFailedRunLeavesTheStateAsItWas) {
  abi::testing::CancellingHost host;
  const auto s = session(0, &host.context);
  (void)run(*s, 0, 10);
  const std::vector<std::byte> before = s->save();
  for (int nodes = 0; nodes < 7; ++nodes) {
    host.left = nodes;
    EXPECT_THROW((void)run(*s, 200, 260), Error) << nodes;
    EXPECT_EQ(s->save(), before);
  }
  host.left = abi::testing::CancellingHost::kNever;
  EXPECT_EQ(run(*s, 10, 20), run(
                                 *[&] {
                                   auto fresh = session();
                                   (void)run(*fresh, 0, 10);
                                   return fresh;
                                 }(),
                                 10, 20));
}

TEST_F(GrowingTest, LimitsAreKeptAndNamed) {
  const auto s = session();
  (void)run(*s, 0, kLimit - 1);
  const std::vector<std::byte> before = s->save();
  EXPECT_NE(error_of([&] { (void)run(*s, 0, 2); }, ErrorCode::invalid_argument).find("outside extent 400"),
            std::string::npos);
  EXPECT_EQ(s->save(), before);
  (void)run(*s, 0, 1);  // the last row that there is room for

  // Without the table of positions the state's own limit says it.
  std::string program = kProgram;
  const std::string sliced = R"("start": "past")";
  program.replace(program.find(sliced), sliced.size(), R"("start": 0)");
  write(program);
  const auto t = session();
  (void)run(*t, 0, 200);
  (void)run(*t, 0, 200);
  EXPECT_NE(error_of([&] { (void)run(*t, 0, 1); }, ErrorCode::invalid_argument)
                .find("state k holds 400 rows and the run appends 1; it takes at most 400"),
            std::string::npos);

  // The memory that a session may have: two states of 32 bytes a row, two plans.
  const auto small = session(32 << 10);
  const std::string refused = error_of(
      [&] {
        for (std::int64_t i = 0; i < kLimit; ++i) (void)run(*small, i, i + 1);
      },
      ErrorCode::out_of_memory);
  EXPECT_NE(refused.find("the run"), std::string::npos) << refused;
  EXPECT_GT(small->save().size(), 64u * 64u);  // and what was held is held
}

TEST_F(GrowingTest, ASavedStateBeyondTheLimitsIsRefused) {
  const auto s = session();
  (void)run(*s, 0, 60);
  const std::vector<std::byte> image = s->save();
  EXPECT_NE(error_of([&] { session(3 << 10)->restore(image); }, ErrorCode::out_of_memory).find("the session's state"),
            std::string::npos);
  std::vector<StateSpec> specs = load_model(directory_)->states();
  specs[0].limit = 59;
  SessionStates limited(specs);
  EXPECT_NE(error_of([&] { limited.restore(image); }, ErrorCode::invalid_argument).find("saved state k has 60 rows"),
            std::string::npos);
  EXPECT_TRUE(limited.empty());
}

TEST_F(GrowingTest, MemoryIsCounted) {
  const auto s = session();
  const SessionMemory first = s->memory();
  EXPECT_EQ(first.mapped_weights, 4u * (2 * kVocab * kDim + kLimit * kDim + 3 * kDim + 3 * kDim * kDim));
  EXPECT_EQ(first.prepared_weights, 0u);
  EXPECT_EQ(first.states + first.arena, 0u);
  (void)run(*s, 0, 100);
  const std::uint64_t fixed = 2 * 4 * 2 * kDim;  // both sides of the convolution's state
  EXPECT_EQ(s->memory().states, fixed + 2 * 4096);
  EXPECT_GE(s->memory().arena, 4u * 100 * 3 * kDim);
  (void)run(*s, 100, 200);
  EXPECT_GE(s->memory().states, fixed + 2 * 200 * 4 * kDim);
  EXPECT_LE(s->memory().states, fixed + 2 * 2 * 200 * 4 * kDim);
  s->reset();
  EXPECT_EQ(s->memory().states, 0u);
}

TEST_F(GrowingTest, BadProgramsAreRefusedWithTheirPlace) {
  const auto refused = [&](const std::string& from, const std::string& to, const std::string& what) {
    std::string program = kProgram;
    ASSERT_NE(program.find(from), std::string::npos) << from;
    write(program.replace(program.find(from), from.size(), to));
    std::string message = "accepted";
    try {
      (void)run(*session(), 0, 4);
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_NE(message.find(what), std::string::npos) << message;
  };
  refused(R"("grows": 1, "limit")", R"("grows": 4, "limit")", "states[0]: grows is 4, expected a dim of the 4");
  refused(R"("grows": 1, "limit")", R"("grows": -1, "limit")", "states[0]: grows is -1");
  refused(R"("grows": 1, "limit")", R"("grows": 0, "limit")", "cannot be the extent of an input");
  refused(R"("grows": 1, "limit")", R"("grows": 2, "limit")", "its extent must be a name");
  refused(R"("limit": 400)", R"("limit": 0)", "limit is 0");
  refused(R"("limit": 400)", R"("limit": 9223372036854775807)", "limit is 9223372036854775807");
  refused(R"(["B", 2, 8])", R"(["B", "past", 8])", "states[1]: dim \"past\" is the length of a state that grows");
  refused(R"("final_state": "$conv")", R"("final_state": "$v")", "grows, so it is appended to and not written");
  refused(R"("append": "$k")", R"("append": "$conv")", "does not grow");
  refused(R"("append": "$k")", R"("append": "$nothing")", "unknown state");
  refused(R"("append": "$v", "in": "%v")", R"("append": "$k", "in": "%v")", "written twice");
  refused(R"("append": "$v", "in": "%v")", R"("append": "$v", "in": "%q5")", "the rows for state v are");
  refused(R"({"append": "$v", "in": "%v", "out": "%values"})",
          R"({"view": "reshape", "in": "%v", "shape": [-1, "L", 2, 4], "out": "%values"})",
          "a run appends 4 rows to state k and 0 to v; both hold past rows");
  refused(R"("start": "past")", R"("start": "passed")", "dim \"passed\" is in no input");
  refused(R"("start": "past")", R"("start": "past*9223372036854775807 - 1")", "");
}

}  // namespace
}  // namespace mambasdk::runtime
