// Heads that run their model themselves, over the C ABI: what they are given, and what is left when they fail.
#include <algorithm>

#include "abi/abi_testing.hpp"
#include "mambasdk/mambasdk.hpp"

namespace mambasdk::abi {
namespace {

namespace face = mambasdk::abi1;
using testing::api;
using testing::Outcome;
using testing::text;

// y = a causal convolution of x, f32 (B, L, 1), of width 2: x(t) + x(t - 1). The state is the last x.
std::string write_sums(std::string_view name, std::string_view head, std::string_view options = "{}") {
  const std::string program = R"({"format": 1, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", "L", 1]}],
    "states": [{"name": "conv", "dtype": "f32", "shape": ["B", 1, 1]}], "nodes": [
    {"op": "causal_conv1d", "args": {"x": "%x", "weight": "@w", "initial_state": "$conv", "return_final_state": true},
     "out": {"y": "%y", "final_state": "$conv"}}], "outputs": [{"name": "y", "value": "%y"}]})";
  const std::string manifest = R"({"format": [1, 1], "family": "sums", "config": {}, "head": ")" + std::string(head) +
                               R"(", "head_options": )" + std::string(options) +
                               R"(, "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", "L", 1]}],
    "outputs": [{"name": "y", "dtype": "f32", "shape": ["B", "L", 1]}], "processors": {}, "files": {}})";
  return testing::write_package(name, manifest, program, {{"w", {1, 2}, {1, 1}}});
}

struct Head {
  int runs = 0;  // of the head; the state that a failure must leave
  std::string seen;
};

// One step of the model: its one input and output.
mambasdk_status* step(const mambasdk_head_model* model, const mambasdk_tensor* x, mambasdk_managed_tensor** y) {
  const mambasdk_named_tensor input{model->inputs[0].name, x};
  return api().session_run(model->session, &input, 1, &model->outputs[0].name, 1, y);
}

std::string options_of(const mambasdk_head_run* run) {
  const mambasdk_tensor* options = testing::input_named(run->inputs, run->input_count, "options");
  if (options == nullptr) return "";
  return {static_cast<const char*>(options->data), static_cast<std::size_t>(options->shape[0])};
}

// The model three times, each on what it made before; with the option "fail" an error after the second.
mambasdk_status* drive(void*, void* instance, const mambasdk_head_run* run) {
  auto& head = *static_cast<Head*>(instance);
  const std::string options = options_of(run);
  const mambasdk_tensor* x = testing::input_named(run->inputs, run->input_count, "x");
  if (x == nullptr) return api().status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, text("no x"), text("head"));
  mambasdk_managed_tensor* y = nullptr;
  for (int i = 0; i < 3; ++i) {
    if (i == 2 && options.find("fail") != std::string::npos) {
      y->deleter(y);
      return api().status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, text("failed in the middle"), text("head"));
    }
    mambasdk_managed_tensor* next = nullptr;
    mambasdk_status* status = step(run->model, y == nullptr ? x : &y->tensor, &next);
    if (y != nullptr) y->deleter(y);
    if (status != nullptr) return status;
    y = next;
  }
  if (run->on_text != nullptr && run->on_text(run->text_user, text("done")) != 0) head.seen += "stopped";
  if (mambasdk_status* status = run->emit(run->emit_user, text("y"), y)) return status;
  ++head.runs;
  return run->emit(run->emit_user, text("runs"), testing::managed({static_cast<float>(head.runs)}, {1}));
}

mambasdk_status* attach(void*, void*, const mambasdk_head_model* model) {
  const auto& x = model->inputs[0];
  if (model->input_count != 1 || model->output_count != 1 || text(x.name) != "x" || x.ndim != 3 || x.shape[0] != -1 ||
      x.shape[2] != 1 || x.dtype.code != 2 || x.dtype.bits != 32) {
    return api().status_create(MAMBASDK_ERROR_UNSUPPORTED, text("another model"), text("head"));
  }
  return nullptr;
}

mambasdk_processor_definition thrice() {
  mambasdk_processor_definition d{};
  d.struct_size = sizeof(d);
  d.kind = text("head_test_thrice");
  d.create = [](void*, mambasdk_string, mambasdk_string, void** instance) -> mambasdk_status* {
    *instance = new Head;
    return nullptr;
  };
  d.release = [](void*, void* instance) { delete static_cast<Head*>(instance); };
  d.reset = [](void*, void* instance) -> mambasdk_status* {
    static_cast<Head*>(instance)->runs = 0;
    return nullptr;
  };
  d.drive = drive;
  d.attach = attach;
  return d;
}

// As a plugin of ABI 1.1 has it: the struct ends before drive, and the memory behind it is none of the host's business.
mambasdk_processor_definition of_1_1() {
  mambasdk_processor_definition d = thrice();
  d.struct_size = offsetof(mambasdk_processor_definition, drive);
  d.kind = text("head_test_of_1_1");
  d.run = [](void*, void*, const mambasdk_context*, const mambasdk_named_tensor* inputs, std::uint64_t count,
             mambasdk_emit_fn emit, void* user) -> mambasdk_status* {
    const auto* y = static_cast<const float*>(testing::input_named(inputs, count, "y")->data);
    return emit(user, text("first"), testing::managed({y[0], static_cast<float>(count)}, {2}));
  };
  return d;
}

class Heads : public ::testing::Test {
 protected:
  void SetUp() override {
    static const auto d = testing::descriptor(
        [](const mambasdk_api* host, mambasdk_registrar* registrar) -> mambasdk_status* {
          const auto one = thrice(), other = of_1_1();
          if (mambasdk_status* status = host->register_processor(registrar, MAMBASDK_HEAD, &one)) return status;
          return host->register_processor(registrar, MAMBASDK_HEAD, &other);
        },
        "head-test");
    static const std::string refused = testing::register_plugin(d, "head-test").message;
    ASSERT_EQ(refused, "");
  }

  static std::vector<float> y_of(const face::Result& result) {
    const auto y = result["y"].data<float>();
    return {y.begin(), y.end()};
  }
  static face::Result run(face::Pipeline& pipeline, std::vector<float> x, std::string json = {}) {
    const auto n = static_cast<std::int64_t>(x.size());
    return pipeline.run({{"x", face::TensorRef(std::span<float>(x), {1, n, 1})}}, {.json = std::move(json)});
  }
};

TEST_F(Heads, RunTheirModelAsOftenAsTheyLike) {
  const face::Model model(write_sums("thrice", "head_test_thrice"));
  face::Pipeline pipeline(model);
  // (1, 2) -> (1, 3) -> with the state 2: (3, 4) -> with the state 3: (6, 7); the last state is 4.
  EXPECT_EQ(y_of(run(pipeline, {1, 2})), (std::vector<float>{6, 7}));
  EXPECT_EQ(y_of(run(pipeline, {0, 0})), (std::vector<float>{4, 8}));  // (4, 0), (4, 4), (4, 8)
  pipeline.reset();
  const face::Result again = run(pipeline, {1, 2});
  EXPECT_EQ(y_of(again), (std::vector<float>{6, 7}));
  EXPECT_EQ(again["runs"].data<float>()[0], 1.0f);
}

TEST_F(Heads, ThatFailAfterTheirSecondRunLeaveTheModelAndThemselves) {
  const face::Model model(write_sums("fails", "head_test_thrice"));
  face::Pipeline pipeline(model), other(model);
  (void)run(pipeline, {1, 2});
  (void)run(other, {1, 2});
  EXPECT_THROW((void)run(pipeline, {5, 6}, R"({"fail": true})"), face::Error);
  EXPECT_THROW((void)run(pipeline, {5, 6}, R"({"fail": true})"), face::Error);
  const face::Result one = run(pipeline, {3, 4}), two = run(other, {3, 4});
  EXPECT_EQ(y_of(one), y_of(two));
  EXPECT_EQ(one["runs"].data<float>()[0], 2.0f);
}

TEST_F(Heads, OfAbi11GetTheOutputsOfOneRun) {
  const face::Model model(write_sums("of_1_1", "head_test_of_1_1"));
  face::Pipeline pipeline(model);
  const auto first = [&](std::vector<float> x) { return run(pipeline, std::move(x), "{}")["first"].data<float>()[0]; };
  EXPECT_EQ(first({1, 2}), 1.0f);
  EXPECT_EQ(first({1, 2}), 3.0f);  // 1 and the 2 before it
  // The output and the options; the input is the model's alone.
  EXPECT_EQ(run(pipeline, {1, 2}, "{}")["first"].data<float>()[1], 2.0f);
}

TEST_F(Heads, TextGoesOutWhileTheyRunAndWhatItsReceiverThrowsComesBack) {
  const face::Model model(write_sums("text", "head_test_thrice"));
  face::Pipeline pipeline(model), other(model);
  std::string written;
  std::vector<float> x{1, 2};
  const face::TensorRef tensor(std::span<float>(x), {1, 2, 1});
  (void)pipeline.run({{"x", tensor}}, {.on_text = [&](std::string_view piece) {
                       written += piece;
                       return true;
                     }});
  EXPECT_EQ(written, "done");
  (void)run(other, x);
  EXPECT_THROW((void)pipeline.run({{"x", tensor}}, {.on_text = [](std::string_view) -> bool {
                                    throw std::runtime_error("the reader is gone");
                                  }}),
               std::runtime_error);
  EXPECT_EQ(y_of(run(pipeline, {1, 2})), y_of(run(other, {1, 2})));
}

TEST_F(Heads, MayRefuseTheModelAndNeedOne) {
  const testing::Loaded text_model(testing::write_counting_package("refused", ""));
  mambasdk_processor* head = nullptr;
  const Outcome another(api().head_create(text_model.model, nullptr, text("head_test_thrice"), {}, &head));
  EXPECT_EQ(another.code, MAMBASDK_ERROR_UNSUPPORTED);
  EXPECT_TRUE(another.says("another model"));
  const Outcome alone(api().processor_create(MAMBASDK_HEAD, text("head_test_thrice"), {}, {}, &head));
  EXPECT_EQ(alone.code, MAMBASDK_ERROR_UNSUPPORTED);
  EXPECT_TRUE(alone.says("runs the model itself: use a pipeline")) << alone.message;
  EXPECT_EQ(head, nullptr);
}

TEST_F(Heads, WorkOnAModelWithoutAPipeline) {
  const face::Model model(write_sums("lone", "head_test_thrice"));
  auto head = face::Processor::head_of(model, "head_test_thrice");
  face::Pipeline pipeline(model);
  std::vector<float> x{1, 2};
  const face::TensorRef tensor(std::span<float>(x), {1, 2, 1});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(y_of(head.run({{"x", tensor}})), y_of(run(pipeline, x)));
  const auto fail = face::TensorRef::bytes(R"({"fail": true})");
  EXPECT_THROW((void)head.run({{"x", tensor}, {"options", fail}}), face::Error);
  EXPECT_EQ(y_of(head.run({{"x", tensor}})), y_of(run(pipeline, x)));
  head.reset();
  pipeline.reset();
  EXPECT_EQ(y_of(head.run({{"x", tensor}})), y_of(run(pipeline, x)));
}

TEST_F(Heads, OfTheHostTakeThePlaceOfThePackages) {
  const testing::Loaded loaded(write_sums("in_place", "nobody_brings_this"));
  mambasdk_pipeline* made = nullptr;
  EXPECT_EQ(Outcome(api().pipeline_create(loaded.model, nullptr, &made)).code, MAMBASDK_ERROR_NOT_FOUND);
  const auto head = thrice();
  ASSERT_EQ(Outcome(api().pipeline_create_with(loaded.model, nullptr, &head, &made)).message, "");
  face::Pipeline pipeline(made);
  EXPECT_EQ(y_of(run(pipeline, {1, 2})), (std::vector<float>{6, 7}));
}

TEST_F(Heads, AProcessorHasNoModel) {
  static const auto d = testing::descriptor(
      [](const mambasdk_api* host, mambasdk_registrar* registrar) -> mambasdk_status* {
        const auto processor = thrice();
        return host->register_processor(registrar, MAMBASDK_PROCESSOR, &processor);
      },
      "head-test-processor");
  EXPECT_TRUE(testing::register_plugin(d, "head-test-processor").says("which only a head may have"));
}

// An engine of the host: y is x times the number of runs of the session.
mambasdk_engine_definition counting() {
  static const std::int64_t shape[] = {-1};
  static const mambasdk_tensor_spec x{text("x"), {2, 32, 1}, 1, shape}, y{text("y"), {2, 32, 1}, 1, shape};
  mambasdk_engine_definition d{};
  d.struct_size = sizeof(d);
  d.name = text("counting");
  d.model_load = [](void*, const mambasdk_package*, void** model) -> mambasdk_status* {
    *model = nullptr;
    return nullptr;
  };
  d.model_release = [](void*, void*) {};
  d.session_create = [](void*, void*, const mambasdk_context*, void** session) -> mambasdk_status* {
    *session = new float(0);
    return nullptr;
  };
  d.session_release = [](void*, void* session) { delete static_cast<float*>(session); };
  d.session_run = [](void*, void* session, const mambasdk_named_tensor* inputs, std::uint64_t, const mambasdk_string*,
                     std::uint64_t, mambasdk_managed_tensor** outputs) -> mambasdk_status* {
    const auto* values = static_cast<const float*>(inputs[0].tensor->data);
    std::vector<float> made(values, values + inputs[0].tensor->shape[0]);
    const float runs = ++*static_cast<float*>(session);
    for (float& v : made) v *= runs;
    outputs[0] = testing::managed(std::move(made), {inputs[0].tensor->shape[0]});
    return nullptr;
  };
  d.model_tensors = [](void*, void*, const mambasdk_tensor_spec** inputs, std::uint64_t* input_count,
                       const mambasdk_tensor_spec** outputs, std::uint64_t* output_count) -> mambasdk_status* {
    *inputs = &x;
    *outputs = &y;
    *input_count = *output_count = 1;
    return nullptr;
  };
  return d;
}

TEST_F(Heads, AnEngineOfTheHostRunsAPackageThatNamesAnother) {
  const std::string directory = testing::write_package(
      "host_engine",
      R"({"format": [1, 2], "family": "t", "config": {}, "engine": {"name": "elsewhere"}, "files": {}})");
  mambasdk_model* made = nullptr;
  EXPECT_EQ(Outcome(api().model_load(text(std::string_view(directory)), nullptr, &made)).code,
            MAMBASDK_ERROR_UNSUPPORTED);
  const auto engine = counting();
  ASSERT_EQ(Outcome(api().model_load_with(text(std::string_view(directory)), nullptr, &engine, &made)).message, "");
  const face::Model model(made);
  EXPECT_NE(model.description().find(R"("inputs":[{"name":"x","dtype":"f32")"), std::string::npos)
      << model.description();
  face::Pipeline pipeline(model);
  std::vector<float> x{1, 2};
  const face::TensorRef tensor(std::span<float>(x), {2});
  EXPECT_EQ(y_of(pipeline.run({{"x", tensor}})), (std::vector<float>{1, 2}));
  EXPECT_EQ(y_of(pipeline.run({{"x", tensor}})), (std::vector<float>{2, 4}));
  // The process knows the engine no more than before.
  EXPECT_EQ(std::string(face::to_cpp(api().runtime_describe())).find("counting"), std::string::npos);
}

}  // namespace
}  // namespace mambasdk::abi
