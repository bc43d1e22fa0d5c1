// The contract of the C ABI: forged and foreign peers, ownership, failure without effect. Layouts: layout_test.cpp.
#include <cstddef>
#include <stdexcept>

#include "abi/abi_testing.hpp"

namespace mambasdk::abi::testing {
namespace {

TEST(Abi, ServesItsMajorAndNoNewerMinor) {
  ASSERT_NE(mambasdk_get_api(1, 0), nullptr);
  EXPECT_EQ(mambasdk_get_api(0, 0), nullptr);
  EXPECT_EQ(mambasdk_get_api(2, 0), nullptr);
  EXPECT_EQ(mambasdk_get_api(1, MAMBASDK_ABI_MINOR + 1), nullptr);
}

TEST(Abi, StatusesCarryCodeMessageAndOrigin) {
  mambasdk_status* status = api().status_create(MAMBASDK_ERROR_IO, text("no disk"), text("somewhere"));
  EXPECT_EQ(api().status_code(status), MAMBASDK_ERROR_IO);
  EXPECT_STREQ(api().status_message(status).data, "no disk");
  EXPECT_STREQ(api().status_origin(status).data, "somewhere");
  api().status_release(status);
  api().status_release(nullptr);
  EXPECT_EQ(api().status_code(nullptr), 0);
}

TEST(Abi, PlansAndCallsAnOperation) {
  const mambasdk_op* add = api().op_find(text("add"));
  ASSERT_NE(add, nullptr);
  Vector x({1, 2, 3}), y({10, 20, 30}), out({0, 0, 0});
  const mambasdk_value inputs[] = {value(x.tensor), value(y.tensor)};
  mambasdk_output_plan plan{};
  ASSERT_EQ(api().op_plan(add, inputs, 2, &plan, 1), nullptr);
  EXPECT_EQ(plan.ndim, 1);
  EXPECT_EQ(plan.shape[0], 3);
  ASSERT_EQ(api().op_call(add, nullptr, inputs, 2, &out.tensor, 1, MAMBASDK_KERNEL_AUTOMATIC), nullptr);
  EXPECT_EQ(out.data, (std::vector<float>{11, 22, 33}));
}

// Arguments are added at the end: a caller that was built before goes on working.
TEST(Abi, TrailingArgumentsWithADefaultMayBeLeftOut) {
  const mambasdk_op* leaky = api().op_find(text("leaky_relu"));
  ASSERT_NE(leaky, nullptr);
  Vector x({-100, 2}), out({0, 0});
  const mambasdk_value inputs[] = {value(x.tensor)};
  ASSERT_EQ(api().op_call(leaky, nullptr, inputs, 1, &out.tensor, 1, MAMBASDK_KERNEL_AUTOMATIC), nullptr);
  EXPECT_EQ(out.data, (std::vector<float>{-1, 2}));
  const Outcome none(api().op_call(leaky, nullptr, inputs, 0, &out.tensor, 1, 0));
  EXPECT_NE(none.message.find("leaky_relu: got 0 arguments, expected 2"), std::string::npos) << none.message;
}

TEST(Abi, RefusesBadCallsAndLeavesOutputsUntouched) {
  const mambasdk_op* add = api().op_find(text("add"));
  Vector x({1, 2, 3}), y({1, 2}), out({7, 7, 7});
  const mambasdk_value mixed[] = {value(x.tensor), value(y.tensor)};
  const Outcome shape(api().op_call(add, nullptr, mixed, 2, &out.tensor, 1, 0));
  EXPECT_EQ(shape.code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(shape.message.find("add: y is (2,), expected (3"), std::string::npos) << shape.message;
  EXPECT_EQ(out.data, (std::vector<float>{7, 7, 7}));

  EXPECT_EQ(Outcome(api().op_call(add, nullptr, mixed, 1, &out.tensor, 1, 0)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(Outcome(api().op_call(nullptr, nullptr, mixed, 2, &out.tensor, 1, 0)).code,
            MAMBASDK_ERROR_INVALID_ARGUMENT);
  mambasdk_tensor broken = x.tensor;
  broken.ndim = 99;
  const mambasdk_value forged[] = {value(broken), value(x.tensor)};
  EXPECT_EQ(Outcome(api().op_call(add, nullptr, forged, 2, &out.tensor, 1, 0)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  broken = x.tensor;
  broken.data = nullptr;
  EXPECT_EQ(Outcome(api().op_call(add, nullptr, forged, 2, &out.tensor, 1, 0)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  mambasdk_context unset{};
  const mambasdk_value good[] = {value(x.tensor), value(x.tensor)};
  EXPECT_EQ(Outcome(api().op_call(add, &unset, good, 2, &out.tensor, 1, 0)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
}

TEST(Abi, TheHostsContextIsUsed) {
  struct Counts {
    int ranges = 0;
    bool cancelled = false;
  } counts;
  mambasdk_context context{};
  context.struct_size = sizeof(context);
  context.user = &counts;
  context.parallel_for = [](void* user, std::int64_t n, std::int64_t, mambasdk_range_fn fn, void* arg) {
    ++static_cast<Counts*>(user)->ranges;
    for (std::int64_t i = 0; i < n; ++i) fn(arg, i, i + 1);  // the finest split a host may choose
  };
  context.is_cancelled = [](void* user) -> std::int32_t { return static_cast<Counts*>(user)->cancelled ? 1 : 0; };
  const mambasdk_op* add = api().op_find(text("add"));
  Vector x(std::vector<float>(100000, 1.0f)), out(std::vector<float>(100000, 0.0f));
  const mambasdk_value inputs[] = {value(x.tensor), value(x.tensor)};
  ASSERT_EQ(Outcome(api().op_call(add, &context, inputs, 2, &out.tensor, 1, 0)).code, 0);
  EXPECT_GT(counts.ranges, 0);
  EXPECT_EQ(out.data, std::vector<float>(100000, 2.0f));
  counts.cancelled = true;
  EXPECT_EQ(Outcome(api().op_call(add, &context, inputs, 2, &out.tensor, 1, 0)).code, MAMBASDK_ERROR_CANCELLED);
}

// ---- plugins ----

mambasdk_status* twice(void*, const mambasdk_op_call* call) {
  const auto* x = static_cast<const float*>(call->inputs[0].as.tensor->data);
  auto* y = static_cast<float*>(call->outputs[0].data);
  for (std::int64_t i = 0; i < call->dims[0]; ++i) y[i] = 2.0f * x[i];
  return nullptr;
}

mambasdk_status* refuse(void*, const mambasdk_op_call*) {
  return api().status_create(MAMBASDK_ERROR_UNSUPPORTED, text("not today"), text("test plugin"));
}

TEST(Plugins, RegisteredOperationsRunAndTheirErrorsArrive) {
  const auto d = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    const auto first = definition("test_twice(x: T[N]) -> (y: T[N])", twice);
    const auto second = definition("test_refuse(x: T[N]) -> (y: T[N])", refuse);
    if (mambasdk_status* status = a->register_op(r, &first)) return status;
    return a->register_op(r, &second);
  });
  mambasdk_string description{};
  ASSERT_EQ(Outcome(plugin_register(&d, text("in test"), &description)).message, "");
  EXPECT_NE(std::string(description.data, description.size).find("test_twice"), std::string::npos);
  Vector x({1, 2, 3}), out({0, 0, 0});
  const mambasdk_value inputs[] = {value(x.tensor)};
  ASSERT_EQ(api().op_call(api().op_find(text("test_twice")), nullptr, inputs, 1, &out.tensor, 1, 0), nullptr);
  EXPECT_EQ(out.data, (std::vector<float>{2, 4, 6}));
  const Outcome refused(api().op_call(api().op_find(text("test_refuse")), nullptr, inputs, 1, &out.tensor, 1, 0));
  EXPECT_EQ(refused.code, MAMBASDK_ERROR_UNSUPPORTED);
  EXPECT_EQ(refused.message, "not today");
}

TEST(Plugins, NothingIsVisibleWhenOneRegistrationIsRefused) {
  const auto d = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    const auto good = definition("test_staged(x: T[N]) -> (y: T[N])", twice);
    const auto taken = definition("add(x: T[N]) -> (y: T[N])", twice);
    if (mambasdk_status* status = a->register_op(r, &good)) return status;
    return a->register_op(r, &taken);
  });
  const Outcome refused(plugin_register(&d, text("in test 2"), nullptr));
  EXPECT_NE(refused.message.find("operation add is already registered by mambasdk"), std::string::npos);
  EXPECT_EQ(api().op_find(text("test_staged")), nullptr);
}

TEST(Plugins, ForgedDescriptorsAreRefusedWithAReason) {
  const auto initialize = [](const mambasdk_api*, mambasdk_registrar*) -> mambasdk_status* { return nullptr; };
  const auto outcome = [](const mambasdk_plugin_descriptor* d) {
    return Outcome(plugin_register(d, text("forged"), nullptr));
  };
  EXPECT_EQ(outcome(nullptr).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  auto d = descriptor(initialize);
  d.struct_size = 16;
  EXPECT_EQ(outcome(&d).code, MAMBASDK_ERROR_VERSION);
  d = descriptor(initialize);
  d.abi_major = 2;
  EXPECT_NE(outcome(&d).message.find("upgrade mambasdk"), std::string::npos);
  d = descriptor(initialize);
  d.abi_minor = MAMBASDK_ABI_MINOR + 1;
  EXPECT_NE(outcome(&d).message.find("needs at least ABI 1."), std::string::npos);
  d = descriptor(initialize);
  d.requires_isa = text("avx9000");
  EXPECT_NE(outcome(&d).message.find("avx9000"), std::string::npos);
  d = descriptor(nullptr);
  EXPECT_EQ(outcome(&d).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  d = descriptor(initialize);
  d.name = {};
  EXPECT_EQ(outcome(&d).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  for (const auto member : {&mambasdk_plugin_descriptor::name, &mambasdk_plugin_descriptor::version,
                            &mambasdk_plugin_descriptor::requires_isa, &mambasdk_plugin_descriptor::requires_torch,
                            &mambasdk_plugin_descriptor::requires_cuda}) {
    d = descriptor(initialize);
    d.*member = {nullptr, 5};
    EXPECT_TRUE(outcome(&d).says("5 bytes at NULL")) << outcome(&d).message;
  }
}

TEST(Plugins, TheSizeOfADescriptorSaysHowMuchOfItIsRead) {
  const auto initialize = [](const mambasdk_api*, mambasdk_registrar*) -> mambasdk_status* { return nullptr; };
  const auto outcome = [](const mambasdk_plugin_descriptor* d, std::string_view origin) {
    return Outcome(plugin_register(d, text(origin), nullptr));
  };
  // Of ABI 1.0: what comes after its end is not looked at, here a range that nobody could read.
  auto old = descriptor(initialize);
  old.struct_size = offsetof(mambasdk_plugin_descriptor, requires_torch);
  old.requires_torch = {reinterpret_cast<const char*>(0x1), ~std::uint64_t{0}};
  old.requires_cuda = old.requires_torch;
  EXPECT_EQ(outcome(&old, "of 1.0").message, "");
  // Truncated in the middle of what 1.0 had.
  for (std::uint64_t size = 0; size < 72; size += 8) {
    old.struct_size = size;
    EXPECT_EQ(outcome(&old, "truncated").code, MAMBASDK_ERROR_VERSION) << size;
  }
  // A peer with more members than ours is served: it only grew at the end.
  struct Newer {
    mambasdk_plugin_descriptor base;
    void* later[4];
  } newer{descriptor(initialize), {}};
  newer.base.struct_size = sizeof(newer);
  EXPECT_EQ(outcome(&newer.base, "newer").message, "");
  // A size that was never set.
  auto lying = descriptor(initialize);
  lying.struct_size = ~std::uint64_t{0};
  EXPECT_TRUE(outcome(&lying, "lying").says("set it to sizeof"));
}

TEST(Plugins, NeedsThatTheHostDoesNotHaveRefuseThem) {
  static int initialized = 0;
  initialized = 0;
  const auto initialize = [](const mambasdk_api*, mambasdk_registrar*) -> mambasdk_status* {
    ++initialized;
    return nullptr;
  };
  auto d = descriptor(initialize, "needy");
  d.requires_cuda = text(">=12.8,<14");
  const Outcome absent = register_plugin(d, "needs cuda");
  EXPECT_EQ(absent.code, MAMBASDK_ERROR_UNSUPPORTED);
  EXPECT_TRUE(absent.says("plugin needy needs cuda >=12.8,<14") && absent.says("component_declare")) << absent.message;
  ASSERT_EQ(Outcome(api().component_declare(text("torch"), text("2.13.0+cpu"))).message, "");
  d = descriptor(initialize, "needy");
  d.requires_torch = text(">=2.14");
  const Outcome outside = register_plugin(d, "needs torch");
  EXPECT_EQ(outside.code, MAMBASDK_ERROR_VERSION);
  EXPECT_TRUE(outside.says("needs torch >=2.14, this host has 2.13.0+cpu")) << outside.message;
  d.requires_torch = text("newest");
  EXPECT_EQ(register_plugin(d, "needs torch").code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(initialized, 0);
  d.requires_torch = text(">=2.10,<3");
  EXPECT_EQ(register_plugin(d, "needs torch").message, "");
  EXPECT_EQ(initialized, 1);
}

TEST(Plugins, AThrowingOrNestingInitializeIsAnError) {
  const auto throwing = descriptor([](const mambasdk_api*, mambasdk_registrar*) -> mambasdk_status* {
    throw std::runtime_error("thrown through C");
  });
  EXPECT_TRUE(register_plugin(throwing, "throws").says("thrown through C"));
  const auto nesting = descriptor([](const mambasdk_api* a, mambasdk_registrar*) -> mambasdk_status* {
    return a->plugin_load(text("/somewhere.so"), nullptr);
  });
  EXPECT_TRUE(register_plugin(nesting, "nests").says("load it from the host"));
  // And the next one is not kept from loading.
  const auto fine = descriptor([](const mambasdk_api*, mambasdk_registrar*) -> mambasdk_status* { return nullptr; });
  EXPECT_EQ(register_plugin(fine, "fine").message, "");
}

TEST(Plugins, LoadWantsAnAbsolutePathOfAPlugin) {
  EXPECT_NE(Outcome(api().plugin_load(text("libplugin.so"), nullptr)).message.find("not absolute"), std::string::npos);
  EXPECT_EQ(Outcome(api().plugin_load(text("/nowhere/libplugin.so"), nullptr)).code, MAMBASDK_ERROR_IO);
}

TEST(Abi, MissingPackagesAndNullHandlesAreErrors) {
  mambasdk_model* model = nullptr;
  EXPECT_EQ(Outcome(api().model_load(text("/nowhere/at/all"), nullptr, &model)).code, MAMBASDK_ERROR_NOT_FOUND);
  EXPECT_EQ(model, nullptr);
  EXPECT_EQ(Outcome(api().session_create(nullptr, nullptr, nullptr)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(Outcome(api().session_reset(nullptr)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  api().model_release(nullptr);
  api().session_release(nullptr);
}

}  // namespace
}  // namespace mambasdk::abi::testing
