// Engines over the C ABI: plugins bring them, manifests name them, sessions run them.
#include <atomic>
#include <cstring>

#include "abi/abi_testing.hpp"

namespace mambasdk::abi::testing {
namespace {

// y = 2 x + (runs so far)
struct EngineState {
  std::int64_t runs = 0;
};

std::atomic<int> live_models = 0, live_sessions = 0;

mambasdk_status* engine_run(void*, void* session, const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                            const mambasdk_string* names, std::uint64_t output_count,
                            mambasdk_managed_tensor** outputs) {
  auto& state = *static_cast<EngineState*>(session);
  const mambasdk_tensor* x = input_named(inputs, input_count, "x");
  if (x == nullptr)
    return api().status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, text("input x is missing"), text("doubling"));
  const auto* data = static_cast<const float*>(x->data);
  for (std::uint64_t i = 0; i < output_count; ++i) {
    if (text(names[i]) != "y")
      return api().status_create(MAMBASDK_ERROR_NOT_FOUND, text("no such output"), text("doubling"));
    std::vector<float> y;
    for (std::int64_t k = 0; k < x->shape[0]; ++k) y.push_back(2.0f * data[k] + static_cast<float>(state.runs));
    outputs[i] = managed(y, {x->shape[0]});
  }
  ++state.runs;
  return nullptr;
}

mambasdk_engine_definition doubling_engine() {
  mambasdk_engine_definition d{};
  d.struct_size = sizeof(d);
  d.name = text("test_doubling");
  d.doc = text("y = 2 x + (runs so far)");
  d.model_load = [](void*, const mambasdk_package* package, void** model) -> mambasdk_status* {
    EXPECT_EQ(package->struct_size, sizeof(mambasdk_package));
    EXPECT_EQ(text(package->directory).front(), '/');
    EXPECT_NE(text(package->manifest).find("test_doubling"), std::string::npos);
    ++live_models;
    *model = new int(0);
    return nullptr;
  };
  d.model_release = [](void*, void* model) {
    --live_models;
    delete static_cast<int*>(model);
  };
  d.session_create = [](void*, void*, const mambasdk_context* context, void** session) -> mambasdk_status* {
    EXPECT_NE(context, nullptr);
    EXPECT_NE(context->parallel_for, nullptr);
    ++live_sessions;
    *session = new EngineState;
    return nullptr;
  };
  d.session_release = [](void*, void* session) {
    --live_sessions;
    delete static_cast<EngineState*>(session);
  };
  d.session_run = engine_run;
  d.session_reset = [](void*, void* session) -> mambasdk_status* {
    static_cast<EngineState*>(session)->runs = 0;
    return nullptr;
  };
  d.session_clone = [](void*, void* session, void** clone) -> mambasdk_status* {
    ++live_sessions;
    *clone = new EngineState(*static_cast<EngineState*>(session));
    return nullptr;
  };
  d.session_save = [](void*, void* session, void* data, std::uint64_t capacity,
                      std::uint64_t* size) -> mambasdk_status* {
    *size = sizeof(EngineState);
    if (data != nullptr && capacity >= sizeof(EngineState))
      *static_cast<EngineState*>(data) = *static_cast<EngineState*>(session);
    return nullptr;
  };
  d.session_restore = [](void*, void* session, const void* data, std::uint64_t size) -> mambasdk_status* {
    if (size != sizeof(EngineState)) return api().status_create(MAMBASDK_ERROR_CORRUPT, text("size"), text("doubling"));
    std::memcpy(session, data, size);
    return nullptr;
  };
  return d;
}

void register_engine_once() {
  static const bool once = [] {
    const auto d = descriptor(
        [](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
          const auto engine = doubling_engine();
          return a->register_engine(r, &engine);
        },
        "engine-plugin");
    EXPECT_EQ(register_plugin(d, "engine test").message, "");
    return true;
  }();
  (void)once;
}

TEST(Engines, APluginsEngineRunsThePackagesThatNameIt) {
  register_engine_once();
  const std::string directory = write_package("doubling", R"({"format": [1, 1], "family": "test", "config": {},
    "engine": {"name": "test_doubling"}, "inputs": [{"name": "x", "dtype": "f32", "shape": ["L"]}],
    "outputs": [{"name": "y", "dtype": "f32", "shape": ["L"]}], "files": {}})");
  {
    const Loaded loaded(directory);
    EXPECT_NE(text(api().model_describe(loaded.model)).find(R"("engine":"test_doubling")"), std::string::npos);
    mambasdk_session *session = nullptr, *clone = nullptr;
    ASSERT_EQ(Outcome(api().session_create(loaded.model, nullptr, &session)).message, "");
    const Vector x({1, 2});
    const mambasdk_named_tensor input{text("x"), &x.tensor};
    const mambasdk_string name = text("y");
    const auto run = [&](mambasdk_session* s) {
      mambasdk_managed_tensor* y = nullptr;
      EXPECT_EQ(Outcome(api().session_run(s, &input, 1, &name, 1, &y)).message, "");
      const auto* data = static_cast<const float*>(y->tensor.data);
      std::vector<float> out(data, data + y->tensor.shape[0]);
      y->deleter(y);
      return out;
    };
    EXPECT_EQ(run(session), (std::vector<float>{2, 4}));
    EXPECT_EQ(run(session), (std::vector<float>{3, 5}));
    ASSERT_EQ(Outcome(api().session_clone(session, &clone)).message, "");
    std::uint64_t size = 0;
    ASSERT_EQ(Outcome(api().session_save(session, nullptr, 0, &size)).message, "");
    std::vector<std::byte> image(size);
    ASSERT_EQ(Outcome(api().session_save(session, image.data(), image.size(), &size)).message, "");
    EXPECT_EQ(run(session), run(clone));
    ASSERT_EQ(Outcome(api().session_reset(session)).message, "");
    EXPECT_EQ(run(session), (std::vector<float>{2, 4}));
    ASSERT_EQ(Outcome(api().session_restore(session, image.data(), image.size())).message, "");
    EXPECT_EQ(run(session), (std::vector<float>{4, 6}));

    const mambasdk_string unknown = text("z");
    mambasdk_managed_tensor* none = nullptr;
    EXPECT_EQ(Outcome(api().session_run(session, &input, 1, &unknown, 1, &none)).code, MAMBASDK_ERROR_NOT_FOUND);
    EXPECT_EQ(none, nullptr);
    api().session_release(session);
    api().session_release(clone);
  }
  EXPECT_EQ(live_models, 0);
  EXPECT_EQ(live_sessions, 0);
}

TEST(Engines, AMissingEngineNamesThePluginsThatThePackageRequires) {
  const std::string directory = write_package("absent", R"({"format": [1, 1], "family": "test", "config": {},
    "engine": {"name": "test_absent"}, "requires": {"plugins": [{"name": "mambasdk-absent", "version": "2.0"}]},
    "files": {}})");
  mambasdk_model* model = nullptr;
  const Outcome refused(api().model_load(text(std::string_view(directory)), nullptr, &model));
  EXPECT_EQ(refused.code, MAMBASDK_ERROR_UNSUPPORTED);
  EXPECT_TRUE(refused.says("test_absent") && refused.says("mambasdk-absent 2.0") && refused.says("native"))
      << refused.message;
  EXPECT_EQ(model, nullptr);
}

TEST(Engines, AreDescribedWithWhoBroughtThem) {
  register_engine_once();
  const std::string described = text(api().runtime_describe());
  EXPECT_NE(described.find(R"x("name":"native")x"), std::string::npos);
  EXPECT_NE(described.find(R"x("name":"test_doubling","doc":"y = 2 x + (runs so far)","origin":"engine-plugin")x"),
            std::string::npos)
      << described;
}

TEST(Engines, TakenNamesAndMissingPartsAreRefused) {
  const auto builtin = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    auto native = doubling_engine();
    native.name = text("native");
    return a->register_engine(r, &native);
  });
  EXPECT_TRUE(register_plugin(builtin, "takes native").says("engine native is already registered by mambasdk"));
  const auto incomplete = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    auto engine = doubling_engine();
    engine.name = text("test_incomplete");
    engine.session_run = nullptr;
    return a->register_engine(r, &engine);
  });
  EXPECT_TRUE(register_plugin(incomplete, "incomplete").says("engine test_incomplete lacks one of"));
}

}  // namespace
}  // namespace mambasdk::abi::testing
