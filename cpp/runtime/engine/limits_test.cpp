// Programs that ask for more than there is: sizes beyond 63 bits, arenas, states and results beyond the cap, prepare
// that works for hours, very many outputs. Refused with the bytes that were wanted, before anything is allocated.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "abi/convert.hpp"
#include "ops/builtin.hpp"
#include "runtime/engine/arena.hpp"
#include "runtime/engine/engines.hpp"
#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/native.hpp"
#include "runtime/engine/work.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {
namespace {

class Limits : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(testing::TempDir()) /
                 concat("limits-", getpid(), "-", testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // A package whose one input is x: f32 (1, 4), and whose one weight is w: f32 (4).
  void write(const std::string& program, const std::string& outputs = "[]", int format = 1) {
    const float w[4] = {1, 2, 3, 4};
    const StoredTensor stored{"w", "F32", {4}, reinterpret_cast<const std::byte*>(w), sizeof(w)};
    write_safetensors(directory_ / "model.safetensors", {&stored, 1});
    std::ofstream(directory_ / "program.json")
        << R"({"format": )" << format << R"(, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", 4]}], )"
        << program << "}";
    std::ofstream(directory_ / "mambasdk.json")
        << R"({"format": [1, 0], "family": "test", "variant": "limits", "config": {}, "head": "", "engine":
               {"name": "native", "program": "program.json"}, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", 4]}],
               "outputs": )"
        << outputs << R"(, "processors": {}, "files": {}})";
  }
  std::unique_ptr<Session> session(std::uint64_t max_memory = 0, std::uint64_t max_work = 0) {
    LoadOptions options;
    options.max_memory = max_memory;
    options.max_work = max_work;
    return load_model(directory_, options)->new_session(std::make_unique<abi::HostContext>(nullptr));
  }
  static std::vector<OwnedTensor> run(Session& s, std::string_view output = "y", std::int64_t rows = 1) {
    std::vector<float> x(static_cast<std::size_t>(rows * 4), 1.0f);
    const std::int64_t shape[] = {rows, 4};
    const NamedTensor input{"x", Tensor::contiguous(x.data(), dtype::f32, shape, 2)};
    return s.run({&input, 1}, {&output, 1});
  }
  template <class F>
  static std::pair<ErrorCode, std::string> error_of(F&& f) {
    try {
      f();
    } catch (const Error& e) {
      return {e.code(), e.what()};
    }
    return {ErrorCode::internal, "no error"};
  }

  std::filesystem::path directory_;
};

constexpr const char* kIdentity = R"("nodes": [{"op": "relu", "args": {"x": "%x"}, "out": {"y": "%y"}}],
  "outputs": [{"name": "y", "value": "%y"}])";

TEST_F(Limits, SizesThatWrapAreRefused) {
  // Every sum and product stands beyond 2^63 in one of these; each once wrote or read outside its memory.
  for (const char* states : {R"([{"name": "s", "dtype": "f32", "shape": [576460752303423488]}])",
                             R"([{"name": "s", "dtype": "f32", "shape": [4611686018427387904, 2]}])",
                             R"([{"name": "s", "dtype": "f64", "shape": [1152921504606846976]},
                                 {"name": "t", "dtype": "f64", "shape": [1152921504606846976]}])",
                             R"([{"name": "s", "dtype": "u8", "shape": [9223372036854775807]}])"}) {
    write(std::string("\"states\": ") + states + ", " + kIdentity);
    const auto s = session();
    const auto [code, text] = error_of([&] { (void)run(*s); });
    EXPECT_TRUE(code == ErrorCode::out_of_memory || code == ErrorCode::invalid_argument) << text;
  }
  std::string many = R"("nodes": [)";  // 2^45 elements each, whose bytes add up to more than 2^64
  many += R"({"view": "expand", "in": "%x", "shape": [8796093022208, 4], "out": "%e0"})";
  std::string outputs = R"("outputs": [)";
  for (int i = 0; i < 1 << 17; ++i) {
    many += concat(R"(,{"op":"relu","args":{"x":"%e0"},"out":{"y":"%v)", i, "\"}}");
    outputs += concat(i == 0 ? "" : ",", R"({"name":"v)", i, R"(","value":"%v)", i, "\"}");
  }
  write(many + "], " + outputs + "]");
  const auto s = session();
  std::vector<std::string> names;
  for (int i = 0; i < 1 << 17; ++i) names.push_back(concat("v", i));
  const std::vector<std::string_view> wanted(names.begin(), names.end());
  const float x[4] = {};
  const std::int64_t shape[] = {1, 4};
  const NamedTensor input{"x", Tensor::contiguous(const_cast<float*>(x), dtype::f32, shape, 2)};
  const auto [code, text] = error_of([&] { (void)s->run({&input, 1}, wanted); });
  EXPECT_TRUE(code == ErrorCode::out_of_memory || code == ErrorCode::invalid_argument) << text;
}

// Each is one operation on %map, which is x as (B, 1, 2, 2, 1), %row, x as (B, 4, 1), or %far, 9 everywhere as indices.
TEST_F(Limits, HostileArgumentsOfOperationsAreRefusedWithAReason) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("gather", "args": {"x": "%row", "index": "%far"})",
       "gather: element 0 of index is 9, expected a row of x, 0 to 3"},
      {R"("scatter_add", "args": {"initial": "%row", "index": "%far", "x": "%row"})",
       "scatter_add: element 0 of index is 9, expected a row of initial, 0 to 3"},
      {R"("embedding", "args": {"indices": "%far", "weight": "@table"})", "is 9, expected 0 to 3"},
      {R"("resize", "args": {"x": "%map", "depth": 4294967296, "height": "4294967296*B", "width": 1})", "resize"},
      {R"("resize", "args": {"x": "%map", "depth": 1, "height": "B - 2", "width": 1})", "resize"},
      {R"("pad", "args": {"x": "%row", "before": 9223372036854775807, "after": 1})", "pad"},
      {R"("pad", "args": {"x": "%row", "before": -9, "after": 1})", "pad"},
      {R"("max_pool", "args": {"x": "%map", "kernel_d": 1, "kernel_h": 2, "kernel_w": 2, "stride_d": 1, "stride_h": 1,
          "stride_w": 0})",
       "max_pool"},
      {R"("max_pool", "args": {"x": "%map", "kernel_d": 1, "kernel_h": 2, "kernel_w": 2, "stride_d": 1, "stride_h": 1,
          "stride_w": 1, "dilation_w": 9223372036854775807})",
       "max_pool"},
      {R"("convolution_packed", "args": {"x": "%map", "weight": "@packed", "features": 1, "padding_w": 4611686018427387904,
          "padding_after_w": 4611686018427387904})",
       "convolution_packed"},
      {R"("linear_packed", "args": {"x": "%row", "weight": "@packed", "features": 9223372036854775807})",
       "linear_packed"},
      {R"("topk", "args": {"x": "%row", "k": 2})", "topk"},
      {R"("grid_sample", "args": {"x": "%map", "grid": "%map"})", "grid_sample"},
      {R"("attention", "args": {"q": "%map", "k": "%row", "v": "%row", "scale": 1.0})", "attention"},
      {R"("matmul", "args": {"x": "%row", "y": "%row"})", "matmul"},
  };
  for (const auto& [node, expected] : cases) {
    const std::string_view op(node);
    const std::string y = op.starts_with("\"topk") ? "values" : op.starts_with("\"matmul") ? "out" : "y";
    write(concat(R"("prepare": [{"view": "reshape", "in": "@w", "shape": [4, 1], "out": "@table"},
  {"op": "pack_weights", "args": {"weight": "@table"}, "out": {"y": "@packed"}}],
  "nodes": [{"view": "reshape", "in": "%x", "shape": ["B", 1, 2, 2, 1], "out": "%map"},
  {"view": "reshape", "in": "%x", "shape": ["B", 4, 1], "out": "%row"},
  {"op": "scale", "args": {"x": "%row", "factor": 9.0}, "out": {"y": "%nine"}},
  {"op": "to_indices", "args": {"x": "%nine"}, "out": {"y": "%far"}},
  {"op": )",
                 node, R"(, "out": {")", y, R"(": "%y"}}], "outputs": [{"name": "y", "value": "%y"}])"),
          "[]", 2);
    const auto [code, message] = error_of([&] { run(*session()); });
    EXPECT_NE(message.find(expected), std::string::npos) << node << ": " << message;
    EXPECT_NE(code, ErrorCode::internal) << node << ": " << message;
  }
}

TEST_F(Limits, NegativeExtentsOfStatesAndInputsAreRefused) {
  write(std::string(R"("states": [{"name": "s", "dtype": "f32", "shape": [-1]}], )") + kIdentity);
  EXPECT_EQ(error_of([&] { (void)session(); }).first, ErrorCode::corrupt);
}

TEST_F(Limits, ActivationsBeyondTheCapSayWhatTheyWantedAndHowToAllowIt) {
  write(kIdentity);
  const auto s = session(1 << 20);
  EXPECT_EQ(run(*s).size(), 1u);
  const auto [code, text] = error_of([&] { (void)run(*s, "y", 1 << 20); });
  EXPECT_EQ(code, ErrorCode::out_of_memory) << text;
  EXPECT_NE(text.find("needs 48 MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("the limit is 1 MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("max_memory"), std::string::npos) << text;
  EXPECT_EQ(run(*s).size(), 1u);  // it goes on
  EXPECT_EQ(run(*session(64 << 20), "y", 1 << 20).size(), 1u);
}

TEST_F(Limits, PlansThatAreKeptMakeRoom) {
  write(kIdentity);
  const auto s = session(100 << 10);  // one plan of 64 KiB, or the other
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(run(*s, "y", 1400).size(), 1u);
    EXPECT_EQ(run(*s, "y", 1500).size(), 1u);
  }
}

TEST_F(Limits, StatesBeyondTheCapAreRefusedAndTheSessionGoesOn) {
  write(std::string(R"("states": [{"name": "s", "dtype": "f32", "shape": ["B", 1024]}], )") + kIdentity);
  const auto s = session(1 << 20);
  const auto [code, text] = error_of([&] { (void)run(*s, "y", 1 << 10); });
  EXPECT_EQ(code, ErrorCode::out_of_memory);
  EXPECT_NE(text.find("the session's state needs 8 MiB"), std::string::npos) << text;
  EXPECT_EQ(run(*s).size(), 1u);
  // A saved state is held to the same cap.
  const auto large = session(64 << 20);
  (void)run(*large, "y", 1 << 10);
  const std::vector<std::byte> image = large->save();
  EXPECT_EQ(error_of([&] { s->restore(image); }).first, ErrorCode::out_of_memory);
  EXPECT_EQ(run(*s).size(), 1u);
}

TEST_F(Limits, ResultsThatAreExpandedViewsCount) {
  write(R"("nodes": [{"view": "expand", "in": "%x", "shape": [1099511627776, "B", 4], "out": "%y"}],
           "outputs": [{"name": "y", "value": "%y"}])");
  EXPECT_EQ(error_of([&] { (void)run(*session()); }).first, ErrorCode::out_of_memory);
}

TEST_F(Limits, PrepareHasABudgetOfMemoryAndWork) {
  const auto prepared = [&](const char* extent) {
    write(concat(R"("prepare": [{"view": "expand", "in": "@w", "shape": [)", extent, R"(, 4], "out": "@e"},
      {"op": "scale", "args": {"x": "@e", "factor": 2.0}, "out": {"y": "@p"}}], )",
                 kIdentity));
    const auto start = std::chrono::steady_clock::now();
    const auto found = error_of([&] { (void)session(std::uint64_t{1} << 60); });
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    return found;
  };
  EXPECT_EQ(prepared("1000").second, "no error");
  const auto [code, text] = prepared("1000000000");
  EXPECT_EQ(code, ErrorCode::unsupported);
  EXPECT_NE(text.find("prepare[1] (scale): prepare takes about"), std::string::npos) << text;
  EXPECT_EQ(error_of([&] { (void)session(1 << 20); }).first, ErrorCode::out_of_memory);
}

TEST_F(Limits, WorkOfARunCanBeCapped) {
  write(kIdentity);
  EXPECT_EQ(error_of([&] { (void)run(*session(0, 100), "y", 1000); }).first, ErrorCode::unsupported);
  EXPECT_EQ(run(*session(0, 10000), "y", 1000).size(), 1u);
}

TEST_F(Limits, ManyOutputsTakeTimeLinearInTheFileOrAreRefused) {
  const auto write_outputs = [&](int count) {
    std::string outputs = "[", listed = "[";
    for (int i = 0; i < count; ++i) {
      outputs += concat(i == 0 ? "" : ",", R"({"name":"o)", i, R"(","value":"%x"})");
      listed += concat(i == 0 ? "" : ",", R"({"name":"o)", i, R"(","dtype":"f32","shape":["B",4]})");
    }
    write("\"outputs\": " + outputs + "]", listed + "]");
  };
  const auto start = std::chrono::steady_clock::now();
  write_outputs(30'000);
  EXPECT_EQ(run(*session(), "o29999").size(), 1u);
  write_outputs(200'000);
  const auto [code, text] = error_of([&] { (void)session(); });
  EXPECT_EQ(code, ErrorCode::corrupt);
  EXPECT_NE(text.find("more than 400000 values"), std::string::npos) << text;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));  // quadratic: minutes
}

TEST_F(Limits, EmptyAndWrongInputsAreNamed) {
  write(R"("nodes": [{"view": "slice", "in": "%x", "dim": 0, "start": -1, "length": 1, "out": "%y"}],
           "outputs": [{"name": "y", "value": "%y"}])");
  const auto [code, text] = error_of([&] { (void)run(*session(), "y", 0); });
  EXPECT_EQ(code, ErrorCode::invalid_argument);
  EXPECT_NE(text.find("x is f32 (0, 4), which is empty"), std::string::npos) << text;
  const double wide[8] = {};
  const std::int64_t shape[] = {2, 4};
  const NamedTensor input{"x", Tensor::contiguous(const_cast<double*>(wide), dtype::f64, shape, 2)};
  const std::string_view output = "y";
  const auto wrong = error_of([&] { (void)session()->run({&input, 1}, {&output, 1}); });
  EXPECT_EQ(wrong.second, "input x is f64 (2, 4), expected f32 (B, 4)");
}

TEST_F(Limits, ErrorsQuoteShortPieces) {
  const std::string longname(100'000, 'n');
  write(R"("nodes": [{"op": ")" + longname + R"(", "args": {}, "out": {}}], "outputs": [])");
  EXPECT_LT(error_of([&] { (void)session(); }).second.size(), 400u);
  write(R"("nodes": [], "outputs": [{"name": ")" + longname + R"(", "value": "%x"}])");
  EXPECT_LT(error_of([&] { (void)run(*session(), std::string(50'000, 'q')); }).second.size(), 500u);
}

TEST_F(Limits, AnOutputIsWhatThePackageStates) {
  write(kIdentity, R"([{"name": "y", "dtype": "i32", "shape": ["B", 4]}])");
  const auto [code, text] = error_of([&] { (void)run(*session()); });
  EXPECT_EQ(code, ErrorCode::corrupt);
  EXPECT_EQ(text, "output y is f32 (1, 4), the package states i32 (B, 4); export the model again");
  write(kIdentity, R"([{"name": "y", "dtype": "f32", "shape": ["B", 5]}])");
  EXPECT_EQ(error_of([&] { (void)run(*session()); }).first, ErrorCode::corrupt);
  write(kIdentity, R"([{"name": "y", "dtype": "f32", "shape": ["B", "(B + 3)//1"]}])");
  EXPECT_EQ(run(*session()).size(), 1u);
}

TEST(OffsetAllocator, RangesNeverOverlapAndComeTogetherAgain) {
  OffsetAllocator arena;
  const Extent a = arena.take(64), b = arena.take(128), c = arena.take(64);
  EXPECT_EQ(arena.end(), Extent(256));
  arena.give(a, 64);
  arena.give(c, 64);
  EXPECT_EQ(arena.take(64), a);  // the lowest of those that fit
  arena.give(a, 64);
  arena.give(b, 128);
  EXPECT_EQ(arena.take(256), Extent(0));
  EXPECT_THROW((void)arena.take(INT64_MAX), Error);
}

TEST(Work, WhatJoinsTensorsCountsTheirElements) {
  const std::int64_t shape[] = {1000, 8};
  const Tensor part = Tensor::contiguous(nullptr, dtype::f32, shape, 2);
  std::vector<Value> inputs(8);
  for (Value& input : inputs) input.tensor = &part;
  const Op& op = registry().get("concat");
  const Op::Plan plan = op.plan(inputs);
  EXPECT_LE(operation_work(op, inputs, plan.outputs, plan.dims), 2 * 8 * 1000 * 8);
}

}  // namespace
}  // namespace mambasdk::runtime
