// What several threads may do at once: run sessions and pipelines of one model, load plugins and be refused, look at
// what is there, cancel. Run under ThreadSanitizer and AddressSanitizer (make tsan, make asan).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "abi/abi_testing.hpp"

namespace mambasdk::abi::testing {
namespace {

constexpr int kThreads = 8;

void together(const std::function<void(int)>& work) {
  std::atomic<int> waiting = kThreads;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();
      work(i);
    });
  }
  for (std::thread& t : threads) t.join();
}

// A language model with state: what comes out depends on every token so far.
std::string write_stateful_package() {
  const std::string program = R"({"format": 1, "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
    "states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, 8]}], "prepare": [], "nodes": [
    {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
    {"op": "causal_conv1d", "args": {"x": "%h", "weight": "@conv", "initial_state": "$conv", "silu": true,
     "return_final_state": true}, "out": {"y": "%c", "final_state": "$conv"}},
    {"op": "linear", "args": {"x": "%c", "weight": "@head"}, "out": {"y": "%logits"}}],
    "outputs": [{"name": "logits", "value": "%logits"}]})";
  const auto pattern = [](std::size_t n, float scale) {
    std::vector<float> v(n);
    for (std::size_t i = 0; i < n; ++i) v[i] = scale * static_cast<float>((i * 37 + 11) % 23) - scale * 11.0f;
    return v;
  };
  return write_package("threads", R"({"format": [1, 1], "family": "test", "config": {},
    "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}], "files": {}})",
                       program,
                       {{"embedding", {16, 8}, pattern(128, 0.1f)},
                        {"conv", {8, 4}, pattern(32, 0.05f)},
                        {"head", {16, 8}, pattern(128, 0.1f)}});
}

// Logits after each of a sequence of steps.
std::vector<float> run_steps(mambasdk_session* session, int seed, int steps) {
  std::vector<float> all;
  for (int step = 0; step < steps; ++step) {
    Array<std::int32_t> tokens({(seed * 5 + step * 3) % 16, (seed + step) % 16}, {1, 2});
    const mambasdk_named_tensor input{text("tokens"), &tokens.tensor};
    const mambasdk_string name = text("logits");
    mambasdk_managed_tensor* logits = nullptr;
    const Outcome ran(api().session_run(session, &input, 1, &name, 1, &logits));
    EXPECT_EQ(ran.message, "");
    if (logits == nullptr) break;
    const auto* data = static_cast<const float*>(logits->tensor.data);
    all.insert(all.end(), data, data + 2 * 16);
    logits->deleter(logits);
  }
  return all;
}

TEST(Threads, TwoSessionsOfOneModelOnEachOfEight) {
  const Loaded shared(write_stateful_package());
  constexpr int kSteps = 12;
  std::vector<std::vector<float>> expected;
  for (int seed = 0; seed < 2 * kThreads; ++seed) {
    mambasdk_session* session = nullptr;
    ASSERT_EQ(Outcome(api().session_create(shared.model, nullptr, &session)).message, "");
    expected.push_back(run_steps(session, seed, kSteps));
    api().session_release(session);
  }
  EXPECT_NE(expected[0], expected[1]);
  together([&](int thread) {
    mambasdk_session* sessions[2] = {};
    for (auto& session : sessions) EXPECT_EQ(Outcome(api().session_create(shared.model, nullptr, &session)).code, 0);
    for (int repeat = 0; repeat < 3; ++repeat) {
      for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(run_steps(sessions[i], 2 * thread + i, kSteps), expected[static_cast<std::size_t>(2 * thread + i)]);
        mambasdk_session* clone = nullptr;
        EXPECT_EQ(Outcome(api().session_clone(sessions[i], &clone)).code, 0);
        EXPECT_EQ(run_steps(clone, thread, 1), run_steps(sessions[i], thread, 1));
        api().session_release(clone);
        EXPECT_EQ(Outcome(api().session_reset(sessions[i])).code, 0);
      }
    }
    for (auto& session : sessions) api().session_release(session);
  });
}

TEST(Threads, OneSessionEachOutlivesTheModel) {
  auto shared = std::make_unique<Loaded>(write_stateful_package());
  std::vector<mambasdk_session*> sessions(kThreads, nullptr);
  for (auto& session : sessions) ASSERT_EQ(Outcome(api().session_create(shared->model, nullptr, &session)).code, 0);
  const std::vector<float> expected = run_steps(sessions[0], 1, 4);
  ASSERT_EQ(Outcome(api().session_reset(sessions[0])).code, 0);
  shared.reset();
  together([&](int thread) {
    mambasdk_session* session = sessions[static_cast<std::size_t>(thread)];
    EXPECT_EQ(run_steps(session, 1, 4), expected);
    api().session_release(session);
  });
}

TEST(Threads, PipelinesOfOneModel) {
  const Loaded shared(write_counting_package("threads_counting"));
  together([&](int thread) {
    mambasdk_pipeline* pipeline = nullptr;
    EXPECT_EQ(Outcome(api().pipeline_create(shared.model, nullptr, &pipeline)).message, "");
    const std::string prompt(1, static_cast<char>('A' + thread));
    const auto bytes_of_prompt = bytes(prompt);
    const mambasdk_named_tensor input{text("text"), &bytes_of_prompt.tensor};
    mambasdk_pipeline_options options{};
    options.struct_size = sizeof(options);
    options.json = text(R"({"max_new_tokens": 4, "temperature": 0})");
    for (int repeat = 0; repeat < 4; ++repeat) {
      mambasdk_result* result = nullptr;
      EXPECT_EQ(Outcome(api().pipeline_run(pipeline, &input, 1, &options, &result)).message, "");
      std::string made;
      for (int i = 1; i <= 4; ++i) made += static_cast<char>('A' + thread + i);
      EXPECT_NE(text(api().result_json(result)).find("\"text\":\"" + made + "\""), std::string::npos);
      api().result_release(result);
    }
    api().pipeline_release(pipeline);
  });
}

TEST(Threads, CancellationStopsOneSessionAndLeavesTheOthers) {
  const Loaded shared(write_counting_package("threads_cancel"));
  struct Host {
    std::atomic<bool> stop = false;
  };
  std::vector<Host> hosts(kThreads);
  std::atomic<int> cancelled = 0, finished = 0;
  together([&](int thread) {
    Host& host = hosts[static_cast<std::size_t>(thread)];
    mambasdk_context context{};
    context.struct_size = sizeof(context);
    context.user = &host;
    context.is_cancelled = [](void* user) -> std::int32_t { return static_cast<Host*>(user)->stop ? 1 : 0; };
    mambasdk_session* session = nullptr;
    EXPECT_EQ(Outcome(api().session_create(shared.model, &context, &session)).message, "");
    mambasdk_generate_options options{};
    options.struct_size = sizeof(options);
    options.max_new_tokens = thread % 2 == 0 ? 1'000'000 : 20;
    std::thread canceller;
    if (thread % 2 == 0) {  // from outside, while it runs
      canceller = std::thread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        host.stop = true;
      });
    }
    const Outcome ran(api().session_generate(session, text("A"), &options, nullptr));
    if (canceller.joinable()) canceller.join();
    ++(ran.code == MAMBASDK_ERROR_CANCELLED ? cancelled : finished);
    host.stop = false;  // the session is as good as new
    EXPECT_EQ(Outcome(api().session_reset(session)).code, 0);
    options.max_new_tokens = 2;
    EXPECT_EQ(Outcome(api().session_generate(session, text("A"), &options, nullptr)).message, "");
    api().session_release(session);
  });
  EXPECT_EQ(cancelled, kThreads / 2);
  EXPECT_EQ(finished, kThreads / 2);
}

mambasdk_status* copy(void*, const mambasdk_op_call* call) {
  const auto* x = static_cast<const float*>(call->inputs[0].as.tensor->data);
  std::copy_n(x, call->dims[0], static_cast<float*>(call->outputs[0].data));
  return nullptr;
}

TEST(Threads, PluginsLoadAndAreRefusedWhileOthersLookAndRun) {
  const Loaded shared(write_stateful_package());
  std::atomic<int> taken = 0, refused = 0;
  // Of the threads that register this plugin one succeeds; the others are told, and nothing of theirs is left.
  const auto contested = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    const auto op = definition("test_threads_contested(x: T[N]) -> (y: T[N])", copy);
    if (mambasdk_status* status = a->register_op(r, &op)) return status;
    // Beside it a kernel for what others describe and run meanwhile.
    return a->register_kernel(r, text("linear"), 2, copy, nullptr);
  });
  together([&](int thread) {
    for (int repeat = 0; repeat < 8; ++repeat) {
      switch (thread % 4) {
        case 0: {
          const Outcome outcome = register_plugin(contested, "contested " + std::to_string(thread));
          ++(outcome.code == 0 ? taken : refused);
          EXPECT_TRUE(outcome.code == 0 || outcome.says("already registered by test-plugin")) << outcome.message;
          break;
        }
        case 1:
          EXPECT_EQ(Outcome(api().plugin_load(text("/nowhere/libplugin.so"), nullptr)).code, MAMBASDK_ERROR_IO);
          EXPECT_EQ(Outcome(api().component_declare(text("threads"), text("1.0"))).code, 0);
          break;
        case 2: {
          const std::string described = text(api().runtime_describe());
          EXPECT_NE(described.find("\"native\""), std::string::npos);
          std::vector<const mambasdk_op*> ops(static_cast<std::size_t>(api().op_list(nullptr, 0)) + 8);
          const auto count = std::min<std::size_t>(ops.size(), api().op_list(ops.data(), ops.size()));
          for (std::size_t i = 0; i < count; ++i) EXPECT_FALSE(text(api().op_describe(ops[i])).empty());
          break;
        }
        default: {
          mambasdk_session* session = nullptr;
          EXPECT_EQ(Outcome(api().session_create(shared.model, nullptr, &session)).code, 0);
          EXPECT_FALSE(run_steps(session, thread, 3).empty());
          api().session_release(session);
        }
      }
    }
  });
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(refused, kThreads / 4 * 8 - 1);
}

}  // namespace
}  // namespace mambasdk::abi::testing
