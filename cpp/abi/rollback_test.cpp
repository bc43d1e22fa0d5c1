// A call that fails leaves the session as it was, whatever it had done by then; and results that are not what a package
// states of them are refused where they are used.
#include <cstring>

#include "abi/abi_testing.hpp"
#include "abi/cancel_testing.hpp"
#include "mambasdk/mambasdk.hpp"

namespace mambasdk::abi {
namespace {

namespace face = mambasdk::abi1;
using testing::api;
using testing::Outcome;

mambasdk_string text(std::string_view s) {
  return testing::text(s);
}

constexpr std::int64_t kRows = 128;  // of the embedding: bytes from 128 on fail, in whichever piece they stand
constexpr std::int64_t kDim = 8;

// A language model over bytes that keeps a state.
struct Variation {
  std::string family = "rollback";
  std::string last = R"({"view": "reshape", "in": "%last", "shape": ["B", 128], "out": "%last_logits"})";
  std::string head = "causal_lm";
  float weight = 0.25f;
};

std::string write_stateful(std::string_view name, const Variation& v = {}) {
  std::vector<float> embedding(kRows * kDim), conv(kDim * 4, v.weight);
  for (std::size_t i = 0; i < embedding.size(); ++i) embedding[i] = static_cast<float>(i % 13) / 13.0f - 0.5f;
  const std::string program = R"({"format": 1, "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
    "states": [{"name": "conv", "dtype": "f32", "shape": ["B", 3, 8]}], "nodes": [
    {"op": "embedding", "args": {"indices": "%tokens", "weight": "@embedding"}, "out": {"y": "%h"}},
    {"op": "causal_conv1d", "args": {"x": "%h", "weight": "@conv", "initial_state": "$conv", "return_final_state": true},
     "out": {"y": "%c", "final_state": "$conv"}},
    {"op": "linear", "args": {"x": "%c", "weight": "@embedding"}, "out": {"y": "%logits"}},
    {"view": "slice", "in": "%logits", "dim": 1, "start": -1, "length": 1, "out": "%last"}, )" +
                              v.last + R"(], "outputs": [{"name": "last_logits", "value": "%last_logits"}]})";
  const std::string manifest = R"({"format": [1, 1], "family": ")" + v.family +
                               R"(", "variant": "tiny", "config": {}, "head": ")" + v.head +
                               R"(", "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}], "outputs": [],
    "processors": {"text": {"kind": "bytes"}}, "files": {}})";
  return testing::write_package(name, manifest, program,
                                {{"embedding", {kRows, kDim}, embedding}, {"conv", {kDim, 4}, conv}});
}

struct Held {
  testing::Loaded loaded;
  mambasdk_session* session = nullptr;
  explicit Held(const std::string& directory, const mambasdk_context* context = nullptr) : loaded(directory) {
    EXPECT_EQ(Outcome(api().session_create(loaded.model, context, &session)).message, "");
  }
  ~Held() { api().session_release(session); }

  [[nodiscard]] std::vector<std::byte> save() const {
    std::uint64_t size = 0;
    EXPECT_EQ(Outcome(api().session_save(session, nullptr, 0, &size)).message, "");
    std::vector<std::byte> image(static_cast<std::size_t>(size));
    EXPECT_EQ(Outcome(api().session_save(session, image.data(), size, &size)).message, "");
    return image;
  }
  Outcome restore(const std::vector<std::byte>& image) {
    return Outcome(api().session_restore(session, image.data(), image.size()));
  }
  Outcome generate(std::string_view prompt, mambasdk_generate_options options = {}) {
    options.struct_size = sizeof(options);
    if (options.max_new_tokens == 0) options.max_new_tokens = 4;
    return Outcome(api().session_generate(session, text(prompt), &options, nullptr));
  }
};

const std::string kLong(600, 'a');  // two pieces of a prompt

TEST(Rollback, GenerateThatFailsInItsSecondPieceLeavesTheSession) {
  Held fresh(write_stateful("second_piece")), held(write_stateful("second_piece_held"));
  const std::vector<std::byte> none = fresh.save();
  EXPECT_EQ(fresh.generate(kLong + "\xff").code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(fresh.save(), none);
  EXPECT_EQ(held.generate("abc").message, "");
  const std::vector<std::byte> before = held.save();
  EXPECT_NE(held.generate(kLong + "\xff").code, 0);
  EXPECT_EQ(held.save(), before);
  EXPECT_EQ(held.generate(kLong).message, "");
  EXPECT_NE(held.save(), before);
}

TEST(Rollback, GenerateThatIsCancelledOrStoppedByAnErrorLeavesTheSession) {
  testing::CancellingHost host;
  Held held(write_stateful("cancelled"), &host.context);
  EXPECT_EQ(held.generate("abc").message, "");
  const std::vector<std::byte> before = held.save();
  for (const int calls : {0, 1, 4, 7}) {
    host.left = calls;
    EXPECT_EQ(held.generate(kLong).code, MAMBASDK_ERROR_CANCELLED) << calls;
    host.left = testing::CancellingHost::kNever;
    EXPECT_EQ(held.save(), before) << calls;
  }
  mambasdk_generate_options options{};
  options.on_text = [](void*, mambasdk_string) -> std::int32_t { return MAMBASDK_TEXT_FAILED; };
  EXPECT_EQ(held.generate("abc", options).code, MAMBASDK_ERROR_CANCELLED);
  EXPECT_EQ(held.save(), before);
  options.on_text = [](void*, mambasdk_string) -> std::int32_t { return 1; };  // a wish to stop is no failure
  EXPECT_EQ(held.generate("abc", options).message, "");
  EXPECT_NE(held.save(), before);
}

TEST(Rollback, OptionsAreLookedAtBeforeTheSessionMoves) {
  Held held(write_stateful("options_first"));
  EXPECT_EQ(held.generate("abc").message, "");
  const std::vector<std::byte> before = held.save();
  mambasdk_generate_options options{};
  options.max_new_tokens = -1;
  EXPECT_EQ(held.generate("abc", options).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  options.max_new_tokens = 1;
  options.stop_count = 2;
  EXPECT_EQ(held.generate("abc", options).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  mambasdk_generate_options plain{};
  plain.struct_size = sizeof(plain);
  plain.max_new_tokens = 1;
  mambasdk_generate_result result{};  // struct_size is not set
  EXPECT_EQ(Outcome(api().session_generate(held.session, text("abc"), &plain, &result)).code,
            MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(held.save(), before);
}

TEST(Rollback, TheCppFaceRethrowsWhatACallbackThrewAndTheSessionIsAsItWas) {
  const face::Model model(write_stateful("cpp_face"));
  face::Session session(model);
  (void)session.generate("abc", {.max_new_tokens = 2});
  const std::vector<std::byte> before = session.save();
  face::GenerateOptions options;
  options.on_text = [](std::string_view) -> bool { throw std::runtime_error("the reader is gone"); };
  EXPECT_THROW((void)session.generate("abc", options), std::runtime_error);
  EXPECT_EQ(session.save(), before);
}

// A head that takes what the model made while `refuse` is false.
bool refuse = false;

mambasdk_status* register_head(const mambasdk_api* host, mambasdk_registrar* registrar) {
  mambasdk_processor_definition d{};
  d.struct_size = sizeof(d);
  d.kind = text("rollback_head");
  d.create = [](void*, mambasdk_string, mambasdk_string, void** instance) -> mambasdk_status* {
    *instance = nullptr;
    return nullptr;
  };
  d.release = [](void*, void*) {};
  d.run = [](void*, void*, const mambasdk_context*, const mambasdk_named_tensor* inputs, std::uint64_t count,
             mambasdk_emit_fn emit, void* user) -> mambasdk_status* {
    if (refuse) return api().status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, text("refused"), text("head"));
    const mambasdk_tensor* logits = testing::input_named(inputs, count, "last_logits");
    return emit(user, text("first"), testing::managed({static_cast<const float*>(logits->data)[0]}, {1}));
  };
  return host->register_processor(registrar, MAMBASDK_HEAD, &d);
}

TEST(Rollback, APipelineWhoseHeadRefusesLeavesTheModelsState) {
  static const auto d = testing::descriptor(register_head, "rollback-head");
  ASSERT_EQ(testing::register_plugin(d, "rollback-head").message, "");
  const face::Model model(write_stateful("refusing_head", {.head = "rollback_head"}));
  face::Pipeline pipeline(model), other(model);
  const auto run = [](face::Pipeline& p, std::string_view prompt) {
    return p.run({{"text", face::TensorRef::bytes(prompt)}})["first"].data<float>()[0];
  };
  refuse = false;
  (void)run(pipeline, "abc");
  (void)run(other, "abc");
  refuse = true;
  EXPECT_THROW((void)run(pipeline, "xyz"), face::Error);
  refuse = false;
  EXPECT_EQ(run(pipeline, "def"), run(other, "def"));
}

TEST(TypeConfusion, LogitsAreFloat32WhateverThePackageSays) {
  // The name last_logits on something else: f64 of the same size, token ids, rows that are too short, two rows.
  const std::pair<std::string, std::string> forged[] = {
      {R"({"view": "reshape", "in": "%tokens", "shape": ["B", "L"], "out": "%last_logits"})", "i32"},
      {R"({"view": "slice", "in": "%last", "dim": -1, "start": 0, "length": 5, "out": "%last_logits"})",
       "f32 (1, 1, 5)"},
      {R"({"view": "expand", "in": "%last", "shape": [2, "B", 1, 128], "out": "%last_logits"})", "f32 (2, 1, 1, 128)"},
      {R"({"view": "slice", "in": "%last", "dim": -1, "start": 0, "length": 0, "out": "%last_logits"})",
       "f32 (1, 1, 0)"},
  };
  int i = 0;
  for (const auto& [last, says] : forged) {
    Held held(write_stateful("forged" + std::to_string(i++), {.last = last}));
    const std::vector<std::byte> before = held.save();
    const Outcome outcome = held.generate("abc");
    EXPECT_EQ(outcome.code, MAMBASDK_ERROR_CORRUPT) << outcome.message;
    EXPECT_TRUE(outcome.says("last_logits are " + says)) << outcome.message;
    EXPECT_EQ(held.save(), before);
  }
}

TEST(TypeConfusion, AModelWithoutTokensOrLogitsGeneratesNothing) {
  const std::string manifest = R"({"format": [1, 1], "family": "t", "config": {}, "head": "causal_lm",
    "engine": {"name": "native", "program": "program.json"}, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", 4]}],
    "outputs": [], "processors": {"text": {"kind": "bytes"}}, "files": {}})";
  const std::string program =
      R"({"format": 1, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", 4]}], "nodes": [],
    "outputs": [{"name": "last_logits", "value": "%x"}]})";
  Held held(testing::write_package("no_tokens", manifest, program));
  const Outcome outcome = held.generate("abc");
  EXPECT_EQ(outcome.code, MAMBASDK_ERROR_UNSUPPORTED);
  EXPECT_TRUE(outcome.says("this one takes x, f32 (B, 4)")) << outcome.message;
  mambasdk_pipeline* pipeline = nullptr;
  EXPECT_EQ(Outcome(api().pipeline_create(held.loaded.model, nullptr, &pipeline)).code, MAMBASDK_ERROR_UNSUPPORTED);
}

TEST(StateIdentity, AStateOfAnotherPackageIsRefused) {
  Held held(write_stateful("identity")), same(write_stateful("identity_same"));
  Held family(write_stateful("identity_family", {.family = "other"}));
  // The same shapes of states, and another program.
  const std::string last = R"({"view": "reshape", "in": "%last", "shape": ["B", 1, 128], "out": "%last_logits"})";
  Held program(write_stateful("identity_program", {.last = last}));
  EXPECT_EQ(held.generate("abc").message, "");
  const std::vector<std::byte> image = held.save();
  EXPECT_EQ(same.restore(image).message, "");
  EXPECT_EQ(same.save(), image);
  EXPECT_TRUE(family.restore(image).says("the state was saved by rollback (tiny), this model is other (tiny)"));
  EXPECT_TRUE(program.restore(image).says("another package of rollback (tiny)"));
}

TEST(StateIdentity, AStateOfAnotherFileOfWeightsIsRefusedWhereTheManifestListsIt) {
  const auto with_hash = [](const char* name, char digit) {
    const std::string directory = write_stateful(name);
    std::ifstream in(directory + "/mambasdk.json");
    std::string manifest{std::istreambuf_iterator<char>(in), {}};
    const std::string none = R"("files": {})";
    manifest.replace(manifest.find(none), none.size(),
                     R"("files": {"model.safetensors": {"sha256": ")" + std::string(64, digit) + R"(", "size": )" +
                         std::to_string(std::filesystem::file_size(directory + "/model.safetensors")) + "}}");
    std::ofstream(directory + "/mambasdk.json") << manifest;
    return directory;
  };
  const face::LoadOptions unverified{.verify = face::Verify::off};
  const face::Model one(with_hash("weights_one", '1'), unverified), two(with_hash("weights_two", '2'), unverified);
  face::Session a(one), b(two), c(one);
  (void)a.next_logits(std::vector<std::int32_t>{1, 2, 3});
  const std::vector<std::byte> image = a.save();
  EXPECT_THROW(b.restore(image), face::Error);
  c.restore(image);
  EXPECT_EQ(c.save(), image);
}

TEST(StateIdentity, AStateSavedBeforeStatesHadAnIdentityIsKnownByFamilyAndShapes) {
  Held held(write_stateful("old_state")), family(write_stateful("old_state_family", {.family = "other"}));
  EXPECT_EQ(held.generate("abc").message, "");
  const std::vector<std::byte> image = held.save();
  const auto read = runtime::Safetensors::from_bytes(image, "state");
  const std::vector<std::byte> old = runtime::serialize_safetensors(
      read.tensors(), {{"mambasdk_state", "1"}, {"family", "rollback"}, {"variant", "tiny"}});
  EXPECT_EQ(held.restore(old).message, "");
  EXPECT_EQ(held.save(), image);
  EXPECT_NE(family.restore(old).code, 0);
}

TEST(StateIdentity, DamagedAndForgedImagesAreRefusedAndTheStateStays) {
  Held held(write_stateful("forged_state"));
  EXPECT_EQ(held.generate("abc").message, "");
  const std::vector<std::byte> image = held.save();
  for (std::size_t size = 0; size < image.size(); size += 7) {
    std::vector<std::byte> cut(image);
    cut.resize(size);
    EXPECT_NE(held.restore(cut).code, 0) << size;
  }
  const auto read = runtime::Safetensors::from_bytes(image, "state");
  const auto metadata = read.metadata();
  const std::vector<float> values(3 * 8 * 64, 1.0f);
  const auto forge = [&](std::string name, std::string dtype, std::vector<std::int64_t> shape, std::size_t bytes) {
    const runtime::StoredTensor t{std::move(name), std::move(dtype), std::move(shape),
                                  reinterpret_cast<const std::byte*>(values.data()), bytes};
    return runtime::serialize_safetensors({&t, 1}, metadata);
  };
  EXPECT_NE(held.restore(forge("conv", "F32", {1, 3, 7}, 84)).code, 0);
  EXPECT_NE(held.restore(forge("conv", "F32", {1, 8, 3}, 96)).code, 0);
  EXPECT_NE(held.restore(forge("conv", "I32", {1, 3, 8}, 96)).code, 0);
  EXPECT_NE(held.restore(forge("conv", "F32", {24}, 96)).code, 0);
  EXPECT_NE(held.restore(forge("ssm", "F32", {1, 3, 8}, 96)).code, 0);
  EXPECT_EQ(held.save(), image);
}

// Keeps one number per session; saves it as four bytes that are no safetensors image.
struct Number {
  float value = 0;
};

mambasdk_status* register_number(const mambasdk_api* host, mambasdk_registrar* registrar) {
  mambasdk_engine_definition d{};
  d.struct_size = sizeof(d);
  d.name = text("rollback_number");
  d.model_load = [](void*, const mambasdk_package* package, void** model) -> mambasdk_status* {
    *model = new std::uint64_t(package->max_memory);
    return nullptr;
  };
  d.model_release = [](void*, void* model) { delete static_cast<std::uint64_t*>(model); };
  d.session_create = [](void*, void*, const mambasdk_context*, void** session) -> mambasdk_status* {
    *session = new Number;
    return nullptr;
  };
  d.session_release = [](void*, void* session) { delete static_cast<Number*>(session); };
  d.session_run = [](void*, void* session, const mambasdk_named_tensor*, std::uint64_t, const mambasdk_string*,
                     std::uint64_t count, mambasdk_managed_tensor** outputs) -> mambasdk_status* {
    const float now = static_cast<Number*>(session)->value += 1;
    for (std::uint64_t i = 0; i < count; ++i) outputs[i] = testing::managed({now}, {1});
    return nullptr;
  };
  d.session_reset = [](void*, void* session) -> mambasdk_status* {
    static_cast<Number*>(session)->value = 0;
    return nullptr;
  };
  d.session_clone = [](void*, void* session, void** clone) -> mambasdk_status* {
    *clone = new Number(*static_cast<Number*>(session));
    return nullptr;
  };
  d.session_save = [](void*, void* session, void* data, std::uint64_t, std::uint64_t* size) -> mambasdk_status* {
    *size = sizeof(float);
    if (data != nullptr) std::memcpy(data, &static_cast<Number*>(session)->value, sizeof(float));
    return nullptr;
  };
  d.session_restore = [](void*, void* session, const void* data, std::uint64_t size) -> mambasdk_status* {
    if (size != sizeof(float)) return api().status_create(MAMBASDK_ERROR_CORRUPT, text("no number"), text("number"));
    std::memcpy(&static_cast<Number*>(session)->value, data, sizeof(float));
    return nullptr;
  };
  if (const auto* status = host->register_engine(registrar, &d)) return const_cast<mambasdk_status*>(status);
  d.name = text("rollback_code");
  d.executes_code = 1;
  return host->register_engine(registrar, &d);
}

std::string write_number(std::string_view name, std::string_view engine, std::string_view family,
                         std::string_view head = "") {
  return testing::write_package(
      name, R"({"format": [1, 1], "family": ")" + std::string(family) + R"(", "config": {}, "head": ")" +
                std::string(head) + R"(", "engine": {"name": ")" + std::string(engine) +
                R"("}, "inputs": [], "outputs": [{"name": "y", "dtype": "f32", "shape": [1]}], "files": {}})");
}

class PluginEngine : public ::testing::Test {
 protected:
  void SetUp() override {
    static const auto d = testing::descriptor(register_number, "rollback-number");
    static const std::string refused = testing::register_plugin(d, "rollback-number").message;
    ASSERT_EQ(refused, "");
  }
};

TEST_F(PluginEngine, StatesCarryTheIdentityOfTheirPackage) {
  const face::Model one(write_number("number_one", "rollback_number", "one"));
  const face::Model two(write_number("number_two", "rollback_number", "two"));
  face::Session a(one), b(one), c(two);
  (void)a.run({}, {"y"});
  const std::vector<std::byte> image = a.save();
  b.restore(image);
  EXPECT_EQ(b.run({}, {"y"})[0].data<float>()[0], 2.0f);
  EXPECT_THROW(c.restore(image), face::Error);
  const float raw = 7;  // as an engine saved it before
  b.restore(std::as_bytes(std::span(&raw, 1)));
  EXPECT_EQ(b.run({}, {"y"})[0].data<float>()[0], 8.0f);
}

TEST_F(PluginEngine, APipelineRollsItBackByAClone) {
  static const auto d = testing::descriptor(register_head, "rollback-head-2");
  (void)testing::register_plugin(d, "rollback-head-2");  // there already where the other test ran in this process
  const face::Model model(write_number("number_pipeline", "rollback_number", "one", "rollback_head"));
  face::Pipeline pipeline(model);
  refuse = true;
  EXPECT_THROW((void)pipeline.run(std::span<const face::Named>{}), face::Error);
  EXPECT_THROW((void)pipeline.run(std::span<const face::Named>{}), face::Error);
  refuse = false;
}

TEST_F(PluginEngine, CodeOfAPackageIsExecutedOnRequestOnly) {
  const std::string directory = write_number("number_code", "rollback_code", "one");
  try {
    const face::Model model(directory);
    FAIL() << "it was loaded";
  } catch (const face::Error& e) {
    EXPECT_EQ(e.code(), MAMBASDK_ERROR_UNSUPPORTED);
    EXPECT_NE(std::string(e.what()).find("executes machine code that comes with the package"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("allow_code"), std::string::npos);
  }
  const face::Model model(directory, face::LoadOptions{.allow_code = true});
  face::Session session(model);
  EXPECT_EQ(session.run({}, {"y"})[0].data<float>()[0], 1.0f);
  // A program that was built with ABI 1.1 has no way to allow it.
  mambasdk_load_options old{};
  old.struct_size = offsetof(mambasdk_load_options, verify);
  mambasdk_model* made = nullptr;
  EXPECT_EQ(Outcome(api().model_load(text(directory), &old, &made)).code, MAMBASDK_ERROR_UNSUPPORTED);
}

}  // namespace
}  // namespace mambasdk::abi
