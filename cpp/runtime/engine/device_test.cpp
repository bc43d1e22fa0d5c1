// Programs on a device whose memory the host cannot touch and whose work is done only when somebody waits for it
// (tests/devices/fake_device.cpp): the same bits as on the CPU, one stream, few waits, nothing left behind.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <thread>

#include "../tests/devices/fake_device.h"
#include "abi/abi_testing.hpp"

namespace mambasdk::abi {
namespace {

using testing::api;
using testing::Outcome;

// embedding -> causal_conv1d -> linear, with a state, a prepared weight that is a view of a stored one, and an output
// whose rows lie apart.
constexpr const char* kProgram = R"({"format": 1,
 "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
 "states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, 6]}],
 "prepare": [{"op": "neg_exp", "args": {"x": "@head"}, "out": {"y": "@negative"}},
  {"view": "slice", "in": "@negative", "dim": 0, "start": 2, "length": 8, "out": "@used"}],
 "nodes": [
  {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
  {"op": "causal_conv1d", "args": {"x": "%h", "weight": "@conv", "initial_state": "$conv", "silu": true,
   "return_final_state": true}, "out": {"y": "%c", "final_state": "$conv"}},
  {"op": "linear", "args": {"x": "%c", "weight": "@used"}, "out": {"y": "%y"}},
  {"view": "slice", "in": "%y", "dim": 1, "start": -1, "length": 1, "out": "%last"},
  {"view": "permute", "in": "%y", "dims": [2, 1, 0], "out": "%turned"}],
 "outputs": [{"name": "y", "value": "%y"}, {"name": "last", "value": "%last"}, {"name": "turned", "value": "%turned"}]})";

std::string manifest(std::string_view dtype) {
  return R"({"format": [1, 0], "family": "test", "variant": "test", "config": {},
    "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "tokens", "dtype": ")" +
         std::string(dtype) + R"(", "shape": ["B", "L"]}], "outputs": [], "files": {}})";
}

std::vector<float> numbers(std::size_t count) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>((i * 7 + 3) % 11) / 8.0f - 0.6f;
  return out;
}

class FakeDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(Outcome(api().plugin_load(text(MAMBASDK_FAKE_DEVICE), nullptr)).message, "");
    void* library = dlopen(MAMBASDK_FAKE_DEVICE, RTLD_NOW | RTLD_NOLOAD);
    ASSERT_NE(library, nullptr);
    get_counts_ = reinterpret_cast<decltype(&fake_device_get_counts)>(dlsym(library, "fake_device_get_counts"));
    fail_allocation_ =
        reinterpret_cast<decltype(&fake_device_fail_allocation)>(dlsym(library, "fake_device_fail_allocation"));
    const std::string directory = testing::write_package(
        "fake_device", manifest("i32"), kProgram,
        {{"embedding", {11, 6}, numbers(66)}, {"conv", {6, 4}, numbers(24)}, {"head", {10, 6}, numbers(60)}});
    ASSERT_EQ(Outcome(api().model_load(text(std::string_view(directory)), nullptr, &model_)).message, "");
  }
  void TearDown() override { api().model_release(model_); }

  static mambasdk_string text(std::string_view s) { return testing::text(s); }
  fake_device_counts counts() const {
    fake_device_counts c{};
    get_counts_(&c);
    return c;
  }

  static mambasdk_context context(int index = 0) {
    mambasdk_context c{};
    c.struct_size = sizeof(c);
    c.device = {FAKE_DEVICE_TYPE, index};
    return c;
  }
  mambasdk_session* session(const mambasdk_context* host) {
    mambasdk_session* made = nullptr;
    EXPECT_EQ(Outcome(api().session_create(model_, host, &made)).message, "");
    return made;
  }
  // The outputs' elements one after the other; empty where the run fails.
  static std::vector<float> run(mambasdk_session* session, std::vector<std::int32_t> tokens, std::int64_t batch,
                                std::vector<std::string_view> names, std::string* message = nullptr) {
    testing::Array<std::int32_t> array(tokens, {batch, static_cast<std::int64_t>(tokens.size()) / batch});
    return run(session, array.tensor, std::move(names), message);
  }
  static std::vector<float> run(mambasdk_session* session, const mambasdk_tensor& tokens,
                                std::vector<std::string_view> names, std::string* message = nullptr) {
    const mambasdk_named_tensor input{text("tokens"), &tokens};
    std::vector<mambasdk_string> wanted;
    for (const std::string_view name : names) wanted.push_back(text(name));
    std::vector<mambasdk_managed_tensor*> made(names.size(), nullptr);
    const Outcome outcome(api().session_run(session, &input, 1, wanted.data(), wanted.size(), made.data()));
    if (message != nullptr) *message = outcome.message;
    if (message == nullptr) {
      EXPECT_EQ(outcome.message, "");
    }
    std::vector<float> out;
    for (mambasdk_managed_tensor* t : made) {
      if (t == nullptr) continue;
      std::int64_t count = 1;
      for (int d = 0; d < t->tensor.ndim; ++d) count *= t->tensor.shape[d];
      EXPECT_EQ(t->tensor.device.type, 1);
      const auto* data = static_cast<const float*>(t->tensor.data);
      out.insert(out.end(), data, data + count);
      t->deleter(t);
    }
    return out;
  }

  mambasdk_model* model_ = nullptr;
  decltype(&fake_device_get_counts) get_counts_ = nullptr;
  decltype(&fake_device_fail_allocation) fail_allocation_ = nullptr;
  const std::vector<std::int32_t> tokens_ = {1, 5, 3, 10, 0, 7, 7, 2, 9, 4, 6, 8};
};

TEST_F(FakeDevice, RunsGiveTheBitsOfTheCpu) {
  const mambasdk_context fake = context();
  mambasdk_session *on_cpu = session(nullptr), *on_device = session(&fake);
  for (const std::int64_t batch : {2, 2}) {  // the second time with a state
    EXPECT_EQ(run(on_device, tokens_, batch, {"y", "last", "turned"}),
              run(on_cpu, tokens_, batch, {"y", "last", "turned"}));
  }
  EXPECT_EQ(run(on_device, {3, 4}, 2, {"last"}), run(on_cpu, {3, 4}, 2, {"last"}));
  testing::Array<std::int32_t> strided({1, 0, 2, 0, 3, 0, 4, 0}, {2, 2});
  std::int64_t strides[] = {4, 2};
  strided.tensor.strides = strides;
  EXPECT_EQ(run(on_device, strided.tensor, {"y"}), run(on_cpu, strided.tensor, {"y"}));
  api().session_release(on_cpu);
  api().session_release(on_device);
}

TEST_F(FakeDevice, ARunWaitsOnceOnAStreamOfTheSessionAndWeightsGoOverOnce) {
  const mambasdk_context fake = context();
  const fake_device_counts before = counts();
  mambasdk_session *first = session(&fake), *second = session(&fake);
  const fake_device_counts loaded = counts();
  EXPECT_EQ(loaded.copies_to_device - before.copies_to_device, 3);  // embedding, conv, what prepare made; not head
  EXPECT_EQ(loaded.live_streams - before.live_streams, 2);
  (void)run(first, tokens_, 1, {"last"});
  const fake_device_counts ran = counts();
  EXPECT_EQ(ran.synchronizations - loaded.synchronizations, 1);
  EXPECT_EQ(ran.kernels - loaded.kernels, 3);
  EXPECT_EQ(ran.kernels_on_default_stream, before.kernels_on_default_stream);
  EXPECT_EQ(ran.copies_to_device - loaded.copies_to_device, 1);  // the tokens
  EXPECT_EQ(ran.bytes_from_device - loaded.bytes_from_device, 8 * 4);
  EXPECT_EQ(ran.fills - loaded.fills, 1);  // the state
  (void)run(first, tokens_, 1, {"last"});
  const fake_device_counts again = counts();
  // The plan is kept; each kernel asks for scratch once.
  EXPECT_EQ(again.allocations - ran.allocations, 3);
  EXPECT_EQ(again.fills, ran.fills);
  api().session_release(first);
  api().session_release(second);
  EXPECT_EQ(counts().live_streams, before.live_streams);
}

TEST_F(FakeDevice, AGivenStreamIsUsedAndStaysTheCallers) {
  mambasdk_context fake = context(1);
  void* library = dlopen(MAMBASDK_FAKE_DEVICE, RTLD_NOW | RTLD_NOLOAD);
  fake.stream = reinterpret_cast<decltype(&fake_device_create_stream)>(dlsym(library, "fake_device_create_stream"))(1);
  const fake_device_counts before = counts();
  mambasdk_session *on_cpu = session(nullptr), *on_device = session(&fake);
  EXPECT_EQ(run(on_device, tokens_, 3, {"y"}), run(on_cpu, tokens_, 3, {"y"}));
  api().session_release(on_cpu);
  api().session_release(on_device);
  EXPECT_EQ(counts().live_streams, before.live_streams);
}

TEST_F(FakeDevice, StatesAreSavedRestoredAndCloned) {
  const mambasdk_context fake = context();
  mambasdk_session *on_cpu = session(nullptr), *on_device = session(&fake);
  (void)run(on_cpu, tokens_, 1, {"y"});
  (void)run(on_device, tokens_, 1, {"y"});
  std::vector<std::byte> images[2];
  mambasdk_session* from[] = {on_cpu, on_device};
  for (int i = 0; i < 2; ++i) {
    std::uint64_t size = 0;
    ASSERT_EQ(Outcome(api().session_save(from[i], nullptr, 0, &size)).message, "");
    images[i].resize(size);
    ASSERT_EQ(Outcome(api().session_save(from[i], images[i].data(), size, &size)).message, "");
  }
  EXPECT_EQ(images[0], images[1]);
  mambasdk_session* clone = nullptr;
  ASSERT_EQ(Outcome(api().session_clone(on_device, &clone)).message, "");
  const std::vector<float> next = run(on_cpu, {2, 3}, 1, {"y"});
  EXPECT_EQ(run(on_device, {2, 3}, 1, {"y"}), next);
  api().session_release(on_device);  // the clone keeps the stream
  EXPECT_EQ(run(clone, {2, 3}, 1, {"y"}), next);
  ASSERT_EQ(Outcome(api().session_restore(clone, images[0].data(), images[0].size())).message, "");
  EXPECT_EQ(run(clone, {2, 3}, 1, {"y"}), next);
  ASSERT_EQ(Outcome(api().session_reset(clone)).message, "");
  ASSERT_EQ(Outcome(api().session_reset(on_cpu)).message, "");
  EXPECT_EQ(run(clone, {2, 3}, 1, {"y"}), run(on_cpu, {2, 3}, 1, {"y"}));
  api().session_release(on_cpu);
  api().session_release(clone);
}

// generate() takes a session back by a snapshot, which stays on the device.
TEST_F(FakeDevice, GenerationSamplesOnTheHostAndRollsBack) {
  const testing::Loaded model(testing::write_counting_package("fake_device_text"));
  const mambasdk_context fake = context();
  mambasdk_session* made = nullptr;
  ASSERT_EQ(Outcome(api().session_create(model.model, &fake, &made)).message, "");
  mambasdk_generate_options options{};
  options.struct_size = sizeof(options);
  options.max_new_tokens = 4;
  std::string written;
  options.user = &written;
  options.on_text = [](void* user, mambasdk_string piece) -> std::int32_t {
    static_cast<std::string*>(user)->append(piece.data, piece.size);
    return 0;
  };
  ASSERT_EQ(Outcome(api().session_generate(made, text("abc"), &options, nullptr)).message, "");
  EXPECT_EQ(written, "defg");
  api().session_release(made);
}

TEST_F(FakeDevice, NoMemoryAtAnyPlaceIsAStatusAndTheSessionIsAsItWas) {
  const mambasdk_context fake = context();
  mambasdk_session* kept = session(&fake);
  mambasdk_session* on_cpu = session(nullptr);
  (void)run(kept, tokens_, 1, {"y"});
  (void)run(on_cpu, tokens_, 1, {"y"});
  int places = 0;
  for (;; ++places) {
    fail_allocation_(places);
    std::string message;
    // Other tokens than those of the kept plan: an arena, and each kernel's scratch.
    const std::vector<float> got = run(kept, {4, 5, 6, 7, 8}, 1, {"y"}, &message);
    fail_allocation_(-1);
    if (message.empty()) {
      EXPECT_EQ(got, run(on_cpu, {4, 5, 6, 7, 8}, 1, {"y"}));
      break;
    }
    EXPECT_NE(message.find("memory"), std::string::npos) << message;
    ASSERT_LT(places, 100);
  }
  EXPECT_GE(places, 3);
  api().session_release(on_cpu);
  api().session_release(kept);
}

TEST_F(FakeDevice, NothingStaysAllocated) {
  const fake_device_counts before = counts();
  const testing::Loaded model(testing::write_counting_package("fake_device_leak"));
  const mambasdk_context fake = context();
  mambasdk_session* made = nullptr;
  ASSERT_EQ(Outcome(api().session_create(model.model, &fake, &made)).message, "");
  (void)run(made, {97, 98}, 1, {"logits"});
  EXPECT_GT(counts().live_blocks, before.live_blocks);
  api().session_release(made);
  EXPECT_EQ(counts().live_blocks - before.live_blocks, 2);  // the weights are the model's
}

TEST_F(FakeDevice, WorkThatFailsOnTheDeviceIsReportedByTheRunThatWaits) {
  const mambasdk_context fake = context();
  mambasdk_session* made = session(&fake);
  std::string message;
  (void)run(made, {1, 99}, 1, {"y"}, &message);  // the kernel alone can see that there is no row 99
  EXPECT_NE(message.find("embedding: "), std::string::npos) << message;
  mambasdk_session* on_cpu = session(nullptr);
  EXPECT_EQ(run(made, {1, 9}, 1, {"y"}), run(on_cpu, {1, 9}, 1, {"y"}));  // the state is as it was
  api().session_release(on_cpu);
  api().session_release(made);
}

TEST_F(FakeDevice, SessionsOfSeveralThreadsDoNotMeet) {
  mambasdk_session* on_cpu = session(nullptr);
  const std::vector<float> expected = run(on_cpu, tokens_, 2, {"y"});
  api().session_release(on_cpu);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const mambasdk_context fake = context(i % FAKE_DEVICE_COUNT);
      for (int n = 0; n < 5; ++n) {
        mambasdk_session* made = session(&fake);
        EXPECT_EQ(run(made, tokens_, 2, {"y"}), expected);
        api().session_release(made);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(FakeDevice, ErrorsNameTheDeviceAndWhatThereIs) {
  mambasdk_session* made = nullptr;
  const auto refused = [&](mambasdk_model* model, std::int32_t type, std::int32_t index) {
    mambasdk_context c = context(index);
    c.device.type = type;
    return Outcome(api().session_create(model, &c, &made)).message;
  };
  EXPECT_EQ(refused(model_, 9, 0),
            "there is no device type 9 here (there is: cpu, fake); load the plugin that brings it, or run on the CPU");
  EXPECT_EQ(refused(model_, FAKE_DEVICE_TYPE, 2), "there is no fake:2: this machine has 2 of fake");
  const testing::Loaded lacks(testing::write_package("fake_device_lacks", manifest("f32"), R"({"format": 1,
      "inputs": [{"name": "tokens", "dtype": "f32", "shape": ["B", "L"]}], "states": [], "prepare": [],
      "nodes": [{"op": ")" FAKE_DEVICE_LACKS R"(", "args": {"x": "%tokens"}, "out": {"y": "%y"}}],
      "outputs": [{"name": "y", "value": "%y"}]})",
                                                     {{"unused", {1}, {0.0f}}}));
  EXPECT_EQ(refused(lacks.model, FAKE_DEVICE_TYPE, 0),
            "program.json, nodes[0] (gelu_tanh): there is no kernel for fake; there is: cpu; run the session on the "
            "CPU, or load a plugin with that kernel");
  mambasdk_device found{};
  ASSERT_EQ(Outcome(api().device_find(text("fake:1"), &found)).message, "");
  EXPECT_EQ(found.type, FAKE_DEVICE_TYPE);
  EXPECT_EQ(found.index, 1);
  ASSERT_EQ(Outcome(api().device_find(text("cpu"), &found)).message, "");
  EXPECT_EQ(found.type, 1);
  EXPECT_TRUE(
      Outcome(api().device_find(text("cuda"), &found)).says("there is no device \"cuda\" here (there is: cpu, fake)"));
  EXPECT_TRUE(Outcome(api().device_find(text("fake:x"), &found)).says("expected a name and an index, as cuda:1"));
  EXPECT_TRUE(Outcome(api().device_find(text("fake:7"), &found)).says("this machine has 2 of fake"));
}

// Calls by themselves: where the tensors are decides.
TEST_F(FakeDevice, ACallNamesOperationDeviceAndKernels) {
  testing::Vector x({1, 2, 3}), y({0, 0, 0});
  testing::Vector far({1, 2, 3}), far_output({0, 0, 0});
  far.tensor.device = far_output.tensor.device = {FAKE_DEVICE_TYPE, 0};
  const mambasdk_op *lacking = api().op_find(text(FAKE_DEVICE_LACKS)), *add = api().op_find(text("add"));
  const mambasdk_value one[] = {testing::value(far.tensor)};
  EXPECT_EQ(Outcome(api().op_call(lacking, nullptr, one, 1, &far_output.tensor, 1, 0)).message,
            "gelu_tanh: there is no kernel for fake:0; there is: cpu and the reference on the CPU; move the tensors to "
            "the CPU, or load a plugin with a kernel for that device");
  const mambasdk_value both[] = {testing::value(far.tensor), testing::value(far.tensor)};
  EXPECT_TRUE(Outcome(api().op_call(add, nullptr, both, 2, &far_output.tensor, 1, MAMBASDK_KERNEL_REFERENCE))
                  .says("add: there is no reference kernel for fake:0"));
  EXPECT_EQ(Outcome(api().op_call(add, nullptr, both, 2, &y.tensor, 1, 0)).message,
            "add: output out is on the CPU, expected fake:0, where the inputs are");
  const mambasdk_value mixed[] = {testing::value(x.tensor), testing::value(far.tensor)};
  EXPECT_TRUE(
      Outcome(api().op_call(add, nullptr, mixed, 2, &y.tensor, 1, 0)).says("is on fake:0, expected the CPU, where"));
  const mambasdk_context elsewhere = context(1);
  EXPECT_EQ(Outcome(api().op_call(add, &elsewhere, both, 2, &far_output.tensor, 1, 0)).message,
            "the tensors are on fake:0, the context is of fake:1; give a context of the tensors' device, or move them");
  // The kernel itself looks at what it is given: this memory is the host's.
  EXPECT_EQ(Outcome(api().op_call(add, nullptr, both, 2, &far_output.tensor, 1, 0)).message,
            "fake: the kernel was given a tensor outside of the device's memory");
}

TEST_F(FakeDevice, TheHostCannotTouchItsMemory) {
  void* library = dlopen(MAMBASDK_FAKE_DEVICE, RTLD_NOW | RTLD_NOLOAD);
  const auto allocate = reinterpret_cast<decltype(&fake_device_allocate)>(dlsym(library, "fake_device_allocate"));
  auto* data = static_cast<volatile char*>(allocate(0, nullptr, 64));
  ASSERT_NE(data, nullptr);
  EXPECT_DEATH(*data = 1, "");
  const auto release = reinterpret_cast<decltype(&fake_device_release)>(dlsym(library, "fake_device_release"));
  release(0, nullptr, const_cast<char*>(data));
}

TEST_F(FakeDevice, ADeviceIsListedAndItsNameAndTypeAreTaken) {
  const std::string described = testing::text(api().runtime_describe());
  EXPECT_NE(described.find(R"({"name":"fake","type":12,"count":2,)"), std::string::npos) << described;
  const mambasdk_op* add = api().op_find(text("add"));
  EXPECT_NE(testing::text(api().op_describe(add)).find(R"("kernels":["cpu","fake"],"device_types":[1,12])"),
            std::string::npos);
  const auto refused = [](decltype(mambasdk_plugin_descriptor::initialize) initialize, std::string_view name) {
    return testing::register_plugin(testing::descriptor(initialize), name).message;
  };
  EXPECT_NE(refused(
                [](const mambasdk_api* a, mambasdk_registrar* r) {
                  mambasdk_device_definition d{};
                  d.struct_size = sizeof(d);
                  d.type = FAKE_DEVICE_TYPE;
                  d.name = testing::text("other");
                  return a->register_device(r, &d);
                },
                "taken")
                .find("device other (type 12) is already registered by fake-device as fake (type 12)"),
            std::string::npos);
  EXPECT_NE(refused(
                [](const mambasdk_api* a, mambasdk_registrar* r) {
                  mambasdk_device_definition d{};
                  d.struct_size = sizeof(d);
                  d.type = 7;
                  d.name = testing::text("half");
                  return a->register_device(r, &d);
                },
                "half")
                .find("device half lacks one of count, allocate, release, copy, fill, synchronize"),
            std::string::npos);
}

}  // namespace
}  // namespace mambasdk::abi
