// Sessions of the native engine on a small Mamba-like package written by the test: state, failure, threads.
#include "runtime/engine/native.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "abi/cancel_testing.hpp"
#include "abi/convert.hpp"
#include "runtime/engine/engines.hpp"

namespace mambasdk::runtime {
namespace {

constexpr std::int64_t kVocab = 11, kDim = 6, kState = 4;

// embedding -> causal_conv1d -> selective_scan (delta, B and C are slices of a projection) -> linear head
constexpr const char* kProgram = R"({"format": 1,
 "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
 "states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, 6]}, {"name": "ssm", "dtype": "f32", "shape": ["B", 1, 6, 4]}],
 "prepare": [{"op": "neg_exp", "args": {"x": "@A_log"}, "out": {"y": "@A"}}],
 "nodes": [
  {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
  {"op": "causal_conv1d", "args": {"x": "%h", "weight": "@conv", "initial_state": "$conv", "silu": true,
   "return_final_state": true}, "out": {"y": "%c", "final_state": "$conv"}},
  {"op": "linear", "args": {"x": "%c", "weight": "@proj"}, "out": {"y": "%p"}},
  {"view": "slice", "in": "%p", "dim": -1, "start": 0, "length": 6, "out": "%d"},
  {"view": "reshape", "in": "%d", "shape": ["B", 1, "L", 6], "out": "%delta"},
  {"view": "slice", "in": "%p", "dim": -1, "start": 6, "length": 4, "out": "%b"},
  {"view": "reshape", "in": "%b", "shape": ["B", 1, "L", 1, 4], "out": "%B"},
  {"view": "slice", "in": "%p", "dim": -1, "start": 10, "length": 4, "out": "%cc"},
  {"view": "reshape", "in": "%cc", "shape": ["B", 1, "L", 1, 4], "out": "%C"},
  {"op": "selective_scan", "args": {"u": "%c", "delta": "%delta", "A": "@A", "B": "%B", "C": "%C", "initial_state": "$ssm",
   "delta_softplus": true, "return_final_state": true}, "out": {"y": "%y", "final_state": "$ssm"}},
  {"op": "linear", "args": {"x": "%y", "weight": "@head"}, "out": {"y": "%logits"}},
  {"view": "slice", "in": "%y", "dim": 1, "start": -1, "length": 1, "out": "%last"},
  {"op": "linear", "args": {"x": "%last", "weight": "@head"}, "out": {"y": "%last_logits"}}],
 "outputs": [{"name": "logits", "value": "%logits"}, {"name": "last_logits", "value": "%last_logits"}]})";

void write_package(const std::filesystem::path& directory, const std::string& program = kProgram) {
  std::filesystem::create_directories(directory);
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes = {
      {"embedding", {kVocab, kDim}}, {"conv", {kDim, 4}},      {"proj", {kDim + 2 * kState, kDim}},
      {"A_log", {1, kDim, kState}},  {"head", {kVocab, kDim}},
  };
  std::vector<std::vector<float>> data;
  std::vector<StoredTensor> tensors;
  for (const auto& [name, shape] : shapes) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    data.emplace_back(static_cast<std::size_t>(count));
    for (float& x : data.back()) x = normal(random);
    tensors.push_back(
        {name, "F32", shape, reinterpret_cast<const std::byte*>(data.back().data()), data.back().size() * 4});
  }
  write_safetensors(directory / "model.safetensors", tensors);
  std::ofstream(directory / "program.json") << program;
  std::ofstream(directory / "mambasdk.json") << R"({"format": [1, 0], "family": "test", "variant": "test", "config": {},
    "head": "causal_lm", "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}], "outputs": [], "processors": {},
    "requires": {"mambasdk_abi": [1, 0], "plugins": []}, "files": {}})";
}

std::vector<float> run(Session& session, std::vector<std::int32_t> tokens, std::string_view output = "logits",
                       std::int64_t batch = 1) {
  const std::int64_t shape[] = {batch, static_cast<std::int64_t>(tokens.size()) / batch};
  const NamedTensor input{"tokens", Tensor::contiguous(tokens.data(), dtype::i32, shape, 2)};
  const auto outputs = session.run({&input, 1}, {&output, 1});
  const auto* data = outputs[0].view.ptr<const float>();
  return {data, data + outputs[0].view.numel()};
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5f) << i;
}

class NativeTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(testing::TempDir()) /
                 concat("native-", testing::UnitTest::GetInstance()->current_test_info()->name());
    write_package(directory_);
    model_ = load_model(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::unique_ptr<Session> session(const mambasdk_context* host = nullptr) {
    return model_->new_session(std::make_unique<abi::HostContext>(host));
  }
  std::filesystem::path directory_;
  std::shared_ptr<const Model> model_;
  const std::vector<std::int32_t> tokens_ = {1, 5, 3, 10, 0, 7, 7, 2, 9, 4, 6, 8};
};

TEST_F(NativeTest, AnySplitOfASequenceGivesTheSameLogits) {
  const std::vector<float> whole = run(*session(), tokens_);
  for (const std::vector<std::size_t>& pieces :
       {std::vector<std::size_t>{12}, {5, 7}, {1, 1, 1, 9}, {11, 1}, {0, 4, 0, 8}}) {
    const auto s = session();
    std::vector<float> got;
    std::size_t at = 0;
    for (const std::size_t n : pieces) {
      const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(at);
      const std::vector<float> part = run(*s, {begin, begin + static_cast<std::ptrdiff_t>(n)});
      got.insert(got.end(), part.begin(), part.end());
      at += n;
    }
    expect_near(got, whole);
  }
}

TEST_F(NativeTest, LastLogitsAreTheLastRow) {
  const std::vector<float> whole = run(*session(), tokens_);
  expect_near(run(*session(), tokens_, "last_logits"), {whole.end() - kVocab, whole.end()});
}

TEST_F(NativeTest, RowsOfABatchDoNotMix) {
  const std::vector<float> both = run(*session(), tokens_, "logits", 2);
  const std::vector<float> first = run(*session(), {tokens_.begin(), tokens_.begin() + 6});
  const std::vector<float> second = run(*session(), {tokens_.begin() + 6, tokens_.end()});
  expect_near({both.begin(), both.begin() + 6 * kVocab}, first);
  expect_near({both.begin() + 6 * kVocab, both.end()}, second);
}

TEST_F(NativeTest, StateCanBeClonedSavedAndRestored) {
  const auto original = session();
  (void)run(*original, {tokens_.begin(), tokens_.begin() + 5});
  const auto copy = original->clone();
  const std::vector<std::byte> image = original->save();
  const std::vector<std::int32_t> rest(tokens_.begin() + 5, tokens_.end());
  const std::vector<float> expected = run(*original, rest);
  EXPECT_EQ(run(*copy, rest), expected);
  const auto restored = session();
  restored->restore(image);
  EXPECT_EQ(run(*restored, rest), expected);
  restored->reset();
  EXPECT_EQ(run(*restored, tokens_), run(*session(), tokens_));

  std::vector<std::byte> damaged(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(image.size() / 2));
  EXPECT_THROW(restored->restore(damaged), Error);
}

TEST_F(NativeTest, AFailedOrCancelledRunLeavesTheStateAsItWas) {
  abi::testing::CancellingHost host;
  const auto s = session(&host.context);
  (void)run(*s, {1, 2, 3});
  const std::vector<std::byte> before = s->save();
  for (int nodes = 0; nodes < 5; ++nodes) {
    host.left = nodes;
    EXPECT_THROW((void)run(*s, {4, 5}), Error);
    EXPECT_EQ(s->save(), before);
  }
  host.left = abi::testing::CancellingHost::kNever;
  EXPECT_THROW((void)run(*s, {4, static_cast<std::int32_t>(kVocab)}), Error);  // no such token
  EXPECT_THROW((void)run(*s, {4, 5}, "nothing"), Error);
  EXPECT_THROW((void)run(*s, {4, 5, 6, 7}, "logits", 2), Error);  // another batch in mid-sequence
  EXPECT_EQ(s->save(), before);
}

TEST_F(NativeTest, SessionsOfManyThreadsShareOneModel) {
  const std::vector<float> expected = run(*session(), tokens_);
  std::vector<std::vector<float>> got(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < got.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) got[i] = run(*session(), tokens_);
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& values : got) EXPECT_EQ(values, expected);
}

TEST_F(NativeTest, BrokenProgramsAreRefusedWithTheirPlace) {
  const auto broken = [&](const std::string& from, const std::string& to) {
    std::string program = kProgram;
    const std::size_t at = program.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    program.replace(at, from.size(), to);
    write_package(directory_, program);
    try {
      const auto model = load_model(directory_);
      (void)run(*model->new_session(std::make_unique<abi::HostContext>(nullptr)), tokens_);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_NE(broken("\"format\": 1", "\"format\": 4").find("upgrade mambasdk"), std::string::npos);
  EXPECT_NE(broken("\"embedding\", \"args\"", "\"embodding\", \"args\"").find("no operation"), std::string::npos);
  EXPECT_NE(broken("\"indices\"", "\"indexes\"").find("nodes[0]"), std::string::npos);
  EXPECT_NE(broken("%h\", \"weight\": \"@conv", "%nope\", \"weight\": \"@conv").find("used before it is defined"),
            std::string::npos);
  EXPECT_NE(broken("@head\"}, \"out\": {\"y\": \"%logits", "@tail\"}, \"out\": {\"y\": \"%logits").find("tail"),
            std::string::npos);
  const std::string reshape = "\"reshape\", \"in\": \"%d\", \"shape\": [\"B\", 1, \"L\", 6]";
  for (const char* extents :
       {"\"B\", 1, \"L\", 7", "6", "\"B\", 1, -2, 6", "\"B\", 1099511627776, 1099511627776, \"L\", 6",
        "1, 1, 1, 1, 1, 1, \"B\", \"L\", 6", "\"X\", 1, \"L\", 6"}) {
    const std::string message = broken(reshape, concat("\"expand\", \"in\": \"%d\", \"shape\": [", extents, "]"));
    EXPECT_TRUE(message.find("expand: ") != std::string::npos ||
                message.find("negative extent -2") != std::string::npos ||
                message.find("dim \"X\" is in no input") != std::string::npos ||
                message.find("more than 8 dims") != std::string::npos)
        << message;
  }
  EXPECT_NE(broken("\"start\": 10", "\"start\": 12").find("slice"), std::string::npos);
  EXPECT_NE(broken("[\"B\", 3, 6]", "[\"B\", 2, 6]").find("conv"), std::string::npos);
  EXPECT_NE(broken("\"%c\", \"final_state\": \"$conv\"", "\"%h\", \"final_state\": \"$conv\"").find("defined twice"),
            std::string::npos);
}

// x (B, L) as two halves of every other entry, and as rows whose number depends on the inputs.
constexpr const char* kExpressions = R"json({"format": 2,
  "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", "L"]}],
  "nodes": [
    {"view": "slice", "in": "%x", "dim": 1, "start": 1, "length": "L//2", "step": 2, "out": "%odd"},
    {"op": "copy", "args": {"x": "%odd"}, "out": {"y": "%y"}},
    {"view": "reshape", "in": "%x", "shape": ["B*L", 1], "out": "%rows"},
    {"op": "topk", "args": {"x": "%x", "k": "min(L - 1, 2)"}, "out": {"values": "%top"}}],
  "outputs": [{"name": "y", "value": "%y"}, {"name": "top", "value": "%top"}]})json";

class ExpressionTest : public NativeTest {
 protected:
  // The outputs for x (1, length) = 0, 1, …; or the message of an error.
  std::string run(const std::string& program, std::int64_t length) {
    write_package(directory_, program);
    std::vector<float> x(static_cast<std::size_t>(length));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    const std::int64_t shape[] = {1, length};
    try {
      const auto session = load_model(directory_)->new_session(std::make_unique<abi::HostContext>(nullptr));
      const NamedTensor inputs[] = {{"x", Tensor::contiguous(x.data(), dtype::f32, shape, 2)}};
      const std::string_view names[] = {"y", "top"};
      std::string text;
      for (const OwnedTensor& t : session->run(inputs, names)) {
        for (std::int64_t i = 0; i < t.view.numel(); ++i) {
          text += concat(static_cast<int>(t.view.ptr<const float>()[i]), " ");
        }
        text += "| ";
      }
      return text;
    } catch (const Error& e) {
      return e.what();
    }
  }

  static std::string with(const std::string& from, const std::string& to) {
    std::string program = kExpressions;
    return program.replace(program.find(from), from.size(), to);
  }
};

TEST_F(ExpressionTest, FollowTheInputs) {
  EXPECT_EQ(run(kExpressions, 6), "1 3 5 | 5 4 | ");
  EXPECT_EQ(run(kExpressions, 2), "1 | 1 | ");
}

TEST_F(ExpressionTest, BadOnesAreRefusedWithTheirPlace) {
  const auto says = [&](const std::string& program, const std::string& what) {
    const std::string message = run(program, 6);
    EXPECT_NE(message.find(what), std::string::npos) << message;
  };
  says(with("L//2", "Q//2"), "nodes[0]: dim \"Q\" is in no input");
  says(with("L//2", "L//"), "nodes[0]: length: expected a dim at position 3");
  says(with("L//2", "L L"), "is no expression");
  says(with("L//2", std::string(200, '(')), "fewer parentheses");
  says(with("L//2", "L"), "is outside extent 6");
  says(with("L//2", "0 - L"), "is outside extent 6");
  says(with("L//2", "L//(L - 6)"), "has no value");
  says(with("min(L - 1, 2)", "L*L*999999999999*999999999999"), "has no value");
  says(with("min(L - 1, 2)", "7"), "topk");
  says(with("\"step\": 2", "\"step\": 0"), "step is 0");
  says(with("\"step\": 2", "\"step\": 9223372036854775807"), "is outside extent 6");
}

}  // namespace
}  // namespace mambasdk::runtime
