// Processors, heads and pipelines over the C ABI: plugins bring them, manifests name them, hosts run them.
#include <algorithm>
#include <atomic>

#include "abi/abi_testing.hpp"

namespace mambasdk::abi::testing {
namespace {

// ---- a processor and a head ----

// Bytes to x: f32 (1, n), one number per byte; and n itself for the head.
mambasdk_status* pixels_run(void*, void*, const mambasdk_context*, const mambasdk_named_tensor* inputs,
                            std::uint64_t count, mambasdk_emit_fn emit, void* user) {
  if (count != 1) return api().status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, text("one input"), text("test_pixels"));
  const auto* data = static_cast<const std::uint8_t*>(inputs[0].tensor->data);
  const std::int64_t n = inputs[0].tensor->shape[0];
  if (mambasdk_status* status = emit(user, text("x"), managed(std::vector<float>(data, data + n), {1, n})))
    return status;
  return emit(user, text("length"), managed({static_cast<float>(n)}, {1}));
}

struct Best {
  std::string config;
  int runs = 0;
};

std::atomic<int> live_heads = 0;

// The largest score, with everything else it was given.
mambasdk_status* best_run(void*, void* instance, const mambasdk_context*, const mambasdk_named_tensor* inputs,
                          std::uint64_t count, mambasdk_emit_fn emit, void* user) {
  auto& best = *static_cast<Best*>(instance);
  const mambasdk_tensor* scores = input_named(inputs, count, "scores");
  const auto* data = static_cast<const float*>(scores->data);
  const auto at = std::max_element(data, data + scores->shape[1]) - data;
  std::string options;
  if (const mambasdk_tensor* o = input_named(inputs, count, "options")) {
    options.assign(static_cast<const char*>(o->data), static_cast<std::size_t>(o->shape[0]));
  }
  const mambasdk_tensor* length = input_named(inputs, count, "length");
  const std::string json = "{\"best\":" + std::to_string(at) + ",\"run\":" + std::to_string(++best.runs) +
                           ",\"config\":" + best.config + ",\"options\":" + (options.empty() ? "null" : options) +
                           ",\"length\":" + std::to_string(static_cast<int>(*static_cast<const float*>(length->data))) +
                           "}";
  std::int64_t shape = static_cast<std::int64_t>(json.size());
  struct Text {
    mambasdk_managed_tensor managed{};
    std::string json;
    std::int64_t shape;
  };
  auto* block = new Text{{}, json, shape};
  block->managed.manager = block;
  block->managed.deleter = [](mambasdk_managed_tensor* self) { delete static_cast<Text*>(self->manager); };
  block->managed.tensor = {block->json.data(), {1, 0}, 1, {1, 8, 1}, &block->shape, nullptr, 0};
  return emit(user, text("json"), &block->managed);
}

mambasdk_processor_definition pixels() {
  mambasdk_processor_definition d{};
  d.struct_size = sizeof(d);
  d.kind = text("test_pixels");
  d.create = [](void*, mambasdk_string config, mambasdk_string, void** instance) -> mambasdk_status* {
    if (text(config).find("refuse") != std::string::npos)
      return api().status_create(MAMBASDK_ERROR_CORRUPT, text("config is refused"), text("test_pixels"));
    *instance = nullptr;  // an instance needs no memory
    return nullptr;
  };
  d.release = [](void*, void*) {};
  d.run = pixels_run;
  return d;
}

mambasdk_processor_definition best() {
  mambasdk_processor_definition d{};
  d.struct_size = sizeof(d);
  d.kind = text("test_best");
  d.create = [](void*, mambasdk_string config, mambasdk_string, void** instance) -> mambasdk_status* {
    ++live_heads;
    *instance = new Best{text(config)};
    return nullptr;
  };
  d.release = [](void*, void* instance) {
    --live_heads;
    delete static_cast<Best*>(instance);
  };
  d.run = best_run;
  d.reset = [](void*, void* instance) -> mambasdk_status* {
    static_cast<Best*>(instance)->runs = 0;
    return nullptr;
  };
  return d;
}

void register_pieces() {
  static const bool once = [] {
    const auto d = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
      const auto processor = pixels(), head = best();
      if (mambasdk_status* status = a->register_processor(r, MAMBASDK_PROCESSOR, &processor)) return status;
      return a->register_processor(r, MAMBASDK_HEAD, &head);
    });
    EXPECT_EQ(register_plugin(d, "pipeline test").message, "");
    return true;
  }();
  (void)once;
}

constexpr const char* kScores = R"({"format": 1, "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", 4]}],
  "states": [], "prepare": [], "nodes": [{"op": "linear", "args": {"x": "%x", "weight": "@w"}, "out": {"y": "%scores"}}],
  "outputs": [{"name": "scores", "value": "%scores"}]})";

std::string write_scores_package(std::string_view name, std::string_view pieces) {
  const std::string manifest = R"({"format": [1, 1], "family": "test", "config": {},
    "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "x", "dtype": "f32", "shape": ["B", 4]}], "outputs": [],
    "requires": {"plugins": [{"name": "mambasdk-pixels", "version": "3.1"}]}, "files": {}, )" +
                               std::string(pieces) + "}";
  return write_package(name, manifest, kScores, {{"w", {3, 4}, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1}}});
}

struct Made {
  mambasdk_result* result = nullptr;
  ~Made() { api().result_release(result); }
  [[nodiscard]] std::string json() const { return text(api().result_json(result)); }
};

struct Running {
  mambasdk_pipeline* pipeline = nullptr;
  Outcome made;
  explicit Running(const Loaded& loaded) : made(api().pipeline_create(loaded.model, nullptr, &pipeline)) {}
  ~Running() { api().pipeline_release(pipeline); }
  Outcome run(std::vector<mambasdk_named_tensor> inputs, Made& out, std::string_view json = {}) const {
    mambasdk_pipeline_options options{};
    options.struct_size = sizeof(options);
    options.json = text(json);
    return Outcome(api().pipeline_run(pipeline, inputs.data(), inputs.size(), &options, &out.result));
  }
};

TEST(Pipelines, ProcessorModelAndHeadFromTheManifest) {
  register_pieces();
  const Loaded loaded(write_scores_package("scores", R"("head": "test_best", "head_options": {"labels": ["a"]},
    "processors": {"image": {"kind": "test_pixels", "size": 4}})"));
  {
    const Running pipeline(loaded);
    ASSERT_EQ(pipeline.made.message, "");
    const auto image = bytes(std::string_view("\x01\x02\x03\x04", 4));
    Made first, second, third;
    ASSERT_EQ(pipeline.run({{text("image"), &image.tensor}}, first).message, "");
    EXPECT_EQ(first.json(), R"({"best":2,"run":1,"config":{"labels":["a"]},"options":null,"length":4})");
    EXPECT_EQ(api().result_count(first.result), 1u);
    EXPECT_EQ(text(api().result_name(first.result, 0)), "json");
    EXPECT_EQ(api().result_tensor(first.result, 1), nullptr);
    ASSERT_EQ(pipeline.run({{text("image"), &image.tensor}}, second, R"({"top_k":2})").message, "");
    EXPECT_NE(second.json().find(R"("run":2,"config":{"labels":["a"]},"options":{"top_k":2})"), std::string::npos);
    ASSERT_EQ(Outcome(api().pipeline_reset(pipeline.pipeline)).message, "");
    ASSERT_EQ(pipeline.run({{text("image"), &image.tensor}}, third).message, "");
    EXPECT_EQ(third.json(), first.json());
  }
  EXPECT_EQ(live_heads, 0);
}

TEST(Pipelines, WithoutAHeadTheModelsOutputsAreTheResult) {
  register_pieces();
  const Loaded loaded(write_scores_package("headless", R"("processors": {"image": {"kind": "test_pixels"}})"));
  const Running pipeline(loaded);
  const auto image = bytes("abcd");
  Made made;
  ASSERT_EQ(pipeline.run({{text("image"), &image.tensor}}, made).message, "");
  EXPECT_EQ(made.json(), "");
  ASSERT_EQ(api().result_count(made.result), 1u);
  EXPECT_EQ(text(api().result_name(made.result, 0)), "scores");
  const mambasdk_tensor* scores = api().result_tensor(made.result, 0);
  EXPECT_EQ(static_cast<const float*>(scores->data)[2], 'c' + 'd');
}

TEST(Pipelines, InputsThatAreMissingOrTooMuchAreNamed) {
  register_pieces();
  const Loaded loaded(write_scores_package("inputs", R"("processors": {"image": {"kind": "test_pixels"}})"));
  const Running pipeline(loaded);
  const auto image = bytes("abcd"), short_image = bytes("ab");
  const Vector x({1, 2, 3, 4}, {1, 4});
  Made none;
  EXPECT_TRUE(pipeline.run({}, none).says("input image is missing: the processor test_pixels needs it"));
  const Outcome unknown = pipeline.run({{text("photo"), &image.tensor}}, none);
  EXPECT_TRUE(unknown.says("no input photo; it takes image (test_pixels), x (f32)")) << unknown.message;
  EXPECT_TRUE(pipeline.run({{text("image"), &image.tensor}, {text("image"), &image.tensor}}, none).says("given twice"));
  EXPECT_TRUE(pipeline.run({{text("image"), &image.tensor}, {text("x"), &x.tensor}}, none).says("made by a processor"));
  EXPECT_EQ(pipeline.run({{text("image"), &short_image.tensor}}, none).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(pipeline.run({{text("image"), nullptr}}, none).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  const Outcome options = pipeline.run({{text("image"), &image.tensor}}, none, "[1]");
  EXPECT_EQ(options.code, 0);  // there is no head to read them
  api().result_release(none.result);
  none.result = nullptr;

  const Loaded direct_model(write_scores_package("direct", R"("processors": {})"));
  const Running direct(direct_model);
  Made made;
  EXPECT_TRUE(direct.run({}, none).says("the model's input x is missing"));
  EXPECT_EQ(direct.run({{text("x"), &x.tensor}}, made).message, "");
  EXPECT_EQ(api().result_count(made.result), 1u);
}

TEST(Pipelines, OneOfTwoAlternativesIsGiven) {
  register_pieces();
  const Loaded loaded(write_scores_package("alternatives", R"("processors": {"image": {"kind": "test_pixels"},
    "thumbnail": {"kind": "test_pixels", "alternative_to": "image"}})"));
  const Running pipeline(loaded);
  const auto image = bytes("abcd");
  for (const char* slot : {"image", "thumbnail"}) {
    Made made;
    EXPECT_EQ(pipeline.run({{text(slot), &image.tensor}}, made).message, "");
    EXPECT_EQ(api().result_count(made.result), 1u);
  }
  Made none;
  EXPECT_TRUE(pipeline.run({}, none).says("input image is missing"));
  EXPECT_TRUE(pipeline.run({{text("image"), &image.tensor}, {text("thumbnail"), &image.tensor}}, none)
                  .says("give one of the inputs image and thumbnail"));
}

TEST(Pipelines, AMissingKindNamesThePluginsThatThePackageRequires) {
  const Loaded loaded(write_scores_package("kinds", R"("processors": {"image": {"kind": "test_unknown"}})"));
  const Running pipeline(loaded);
  EXPECT_EQ(pipeline.made.code, MAMBASDK_ERROR_NOT_FOUND);
  EXPECT_TRUE(pipeline.made.says("test_unknown") && pipeline.made.says("mambasdk-pixels") &&
              pipeline.made.says("bytes"))
      << pipeline.made.message;
  EXPECT_EQ(pipeline.pipeline, nullptr);
}

// A package whose model is a table: each byte, or the mask, to a row of numbers; the whole text to that of its first.
std::string write_table_package(std::string_view name, std::string_view head, std::string_view text_processor,
                                std::vector<float> mask_row) {
  const auto width = static_cast<std::int64_t>(mask_row.size());
  std::vector<float> table(static_cast<std::size_t>(256 * width), 0.0f);
  for (std::int64_t b = 0; b < 256; ++b) table[static_cast<std::size_t>(b * width + b % width)] = 2.0f;
  table.insert(table.end(), mask_row.begin(), mask_row.end());
  const std::string program =
      R"({"format": 1, "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}],
    "states": [], "prepare": [], "nodes": [
    {"op": "embedding", "args": {"indices": "%tokens", "weight": "@table"}, "out": {"y": "%rows"}},
    {"view": "slice", "in": "%rows", "dim": 1, "start": 0, "length": 1, "out": "%first"},
    {"view": "reshape", "in": "%first", "shape": ["B", -1], "out": "%numbers"}], "outputs": [)" +
      std::string(head.starts_with("fill")                            ? R"({"name": "logits", "value": "%rows"})"
                  : head.find("regression") != std::string_view::npos ? R"({"name": "values", "value": "%numbers"})"
                                                                      : R"({"name": "logits", "value": "%numbers"})") +
      "]}";
  const std::string manifest = R"({"format": [1, 1], "family": "test", "config": {},
    "engine": {"name": "native", "program": "program.json"},
    "inputs": [{"name": "tokens", "dtype": "i32", "shape": ["B", "L"]}], "outputs": [], "files": {},
    "processors": {"text": )" + std::string(text_processor) +
                               R"(}, "head": ")" + std::string(head) + "}";  // `head` closes its quotes
  return write_package(name, manifest, program, {{"table", {257, width}, table}});
}

TEST(Pipelines, ATextEncoderFillsInMasks) {
  std::vector<float> mask_row(257, 0.0f);
  mask_row['o'] = 30.0f;
  mask_row['a'] = 28.0f;
  mask_row[256] = 99.0f;  // the mask itself is no answer
  constexpr std::string_view kProcessor = R"({"kind": "bytes", "mask_token": "[MASK]"})";
  const Loaded loaded(write_table_package("fill", R"(fill_mask", "head_options": {"top_k": 1})", kProcessor, mask_row));
  const Running pipeline(loaded);
  ASSERT_EQ(pipeline.made.message, "");
  const auto words = bytes("b[MASK]x, [MASK]"), whole = bytes("box");
  Made made, more, none;
  ASSERT_EQ(pipeline.run({{text("text"), &words.tensor}}, made).message, "");
  EXPECT_TRUE(made.json().starts_with(R"({"text":"box, o","fills":[{"mask":0,"index":111,"token":"o","score":0.88)"))
      << made.json();
  EXPECT_NE(made.json().find(R"({"mask":1,"index":111,)"), std::string::npos) << made.json();
  ASSERT_EQ(pipeline.run({{text("text"), &words.tensor}}, more, R"({"top_k": 300})").message, "");
  EXPECT_NE(more.json().find(R"({"mask":0,"index":97,"token":"a","score":0.119)"), std::string::npos);
  EXPECT_EQ(more.json().find(R"("index":256)"), more.json().find(R"("index":256,"token":"[MASK]","score":0.0)"));
  EXPECT_TRUE(pipeline.run({{text("text"), &whole.tensor}}, none).says("no place to fill in: write [MASK] there"));
  EXPECT_TRUE(pipeline.run({{text("text"), &words.tensor}}, none, R"({"top_k": 0})").says("options.top_k must be"));
  EXPECT_TRUE(pipeline.run({{text("text"), &words.tensor}}, none, R"({"beams": 4})").says("it has top_k"));

  const Loaded maskless(write_table_package("maskless", R"(fill_mask")", R"({"kind": "bytes"})", mask_row));
  const Running refused(maskless);
  EXPECT_TRUE(refused.made.says("has no mask_token")) << refused.made.message;
}

TEST(Pipelines, ATextEncoderNamesClassesAndNumbers) {
  constexpr std::string_view kProcessor = R"({"kind": "bytes"})";
  const auto words = bytes("d");  // 100, which is 1 modulo 3
  const mambasdk_named_tensor input{text("text"), &words.tensor};
  {
    const Loaded loaded(write_table_package(
        "classes", R"(text_classification", "head_options": {"labels": ["x", "y", "z"], "top_k": 2})", kProcessor,
        {0, 0, 0}));
    const Running pipeline(loaded);
    ASSERT_EQ(pipeline.made.message, "");
    Made made, one, none;
    ASSERT_EQ(pipeline.run({input}, made).message, "");
    EXPECT_TRUE(made.json().starts_with(R"({"labels":[{"index":1,"label":"y","score":0.78)")) << made.json();
    EXPECT_NE(made.json().find(R"({"index":0,"label":"x","score":0.106)"), std::string::npos) << made.json();
    ASSERT_EQ(pipeline.run({input}, one, R"({"top_k": 1})").message, "");
    EXPECT_EQ(one.json().find(R"("x")"), std::string::npos);
    EXPECT_TRUE(pipeline.run({input}, none, R"({"labels": []})").says("options.labels is no option of this head"));
  }
  {
    const Loaded loaded(write_table_package("numbers", R"(text_regression", "head_options": {"labels": ["a", "b"]})",
                                            kProcessor, {0, 0}));
    const Running pipeline(loaded);
    Made made;
    ASSERT_EQ(pipeline.run({input}, made).message, "");
    EXPECT_EQ(made.json(), R"({"values":[{"index":0,"label":"a","score":2.0},{"index":1,"label":"b","score":0.0}]})");
  }
  const Loaded few(
      write_table_package("few", R"(text_classification", "head_options": {"labels": ["x"]})", kProcessor, {0, 0, 0}));
  const Running pipeline(few);
  Made none;
  EXPECT_TRUE(pipeline.run({input}, none).says("1 labels for 3 outputs"));
}

TEST(Pipelines, ALanguageModelContinuesText) {
  const Loaded loaded(write_counting_package("counting", R"(, "head_options": {"max_new_tokens": 3})"));
  const Running pipeline(loaded);
  ASSERT_EQ(pipeline.made.message, "");
  const auto prompt = bytes("xab");
  const mambasdk_named_tensor input{text("text"), &prompt.tensor};
  Made made, more, stopped;
  ASSERT_EQ(pipeline.run({input}, made).message, "");
  EXPECT_EQ(made.json(), R"({"text":"cde","prompt_tokens":3,"new_tokens":3})");
  ASSERT_EQ(pipeline.run({input}, more, R"({"max_new_tokens": 9, "stop": ["fg"], "temperature": 0})").message, "");
  EXPECT_EQ(more.json(), R"({"text":"cde","prompt_tokens":3,"new_tokens":5})");

  std::string streamed;
  mambasdk_pipeline_options options{};
  options.struct_size = sizeof(options);
  options.user = &streamed;
  options.on_text = [](void* user, mambasdk_string piece) -> std::int32_t {
    auto& all = *static_cast<std::string*>(user);
    all += text(piece);
    return all.size() >= 2 ? 1 : 0;
  };
  ASSERT_EQ(Outcome(api().pipeline_run(pipeline.pipeline, &input, 1, &options, &stopped.result)).message, "");
  EXPECT_EQ(streamed, "cd");
  EXPECT_EQ(stopped.json(), R"({"text":"cd","prompt_tokens":3,"new_tokens":2})");

  Made none;
  EXPECT_TRUE(pipeline.run({input}, none, R"({"beams": 4})").says("options.beams is no option of the head causal_lm"));
  EXPECT_TRUE(pipeline.run({input}, none, R"({"top_k": -1})").says("options.top_k"));
  EXPECT_EQ(pipeline.run({input}, none, "{").code, MAMBASDK_ERROR_CORRUPT);
  EXPECT_EQ(pipeline.run({}, none).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(none.result, nullptr);
}

TEST(Pipelines, TheHostsContextCancelsThem) {
  register_pieces();
  const Loaded loaded(write_scores_package("cancelled", R"("processors": {"image": {"kind": "test_pixels"}})"));
  bool stop = false;
  mambasdk_context context{};
  context.struct_size = sizeof(context);
  context.user = &stop;
  context.is_cancelled = [](void* user) -> std::int32_t { return *static_cast<bool*>(user) ? 1 : 0; };
  mambasdk_pipeline* pipeline = nullptr;
  ASSERT_EQ(Outcome(api().pipeline_create(loaded.model, &context, &pipeline)).message, "");
  const auto image = bytes("abcd");
  const mambasdk_named_tensor input{text("image"), &image.tensor};
  mambasdk_result* result = nullptr;
  stop = true;
  EXPECT_EQ(Outcome(api().pipeline_run(pipeline, &input, 1, nullptr, &result)).code, MAMBASDK_ERROR_CANCELLED);
  EXPECT_EQ(result, nullptr);
  stop = false;
  EXPECT_EQ(Outcome(api().pipeline_run(pipeline, &input, 1, nullptr, &result)).message, "");
  api().result_release(result);
  api().pipeline_release(pipeline);
}

// ---- processors by themselves, and what plugins may not do ----

TEST(Processors, RunByThemselves) {
  register_pieces();
  mambasdk_processor* processor = nullptr;
  ASSERT_EQ(Outcome(api().processor_create(MAMBASDK_PROCESSOR, text("bytes"), {}, {}, &processor)).message, "");
  const auto prompt = bytes("AB");
  const mambasdk_named_tensor input{text("text"), &prompt.tensor};
  Made made;
  ASSERT_EQ(Outcome(api().processor_run(processor, nullptr, &input, 1, &made.result)).message, "");
  ASSERT_EQ(text(api().result_name(made.result, 0)), "tokens");
  const mambasdk_tensor* tokens = api().result_tensor(made.result, 0);
  EXPECT_EQ(tokens->ndim, 2);
  EXPECT_EQ(static_cast<const std::int32_t*>(tokens->data)[1], 'B');
  EXPECT_EQ(Outcome(api().processor_reset(processor)).message, "");
  api().processor_release(processor);

  processor = nullptr;
  EXPECT_EQ(Outcome(api().processor_create(MAMBASDK_HEAD, text("test_nothing"), {}, {}, &processor)).code,
            MAMBASDK_ERROR_NOT_FOUND);
  EXPECT_EQ(Outcome(api().processor_create(7, text("bytes"), {}, {}, &processor)).code,
            MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_TRUE(Outcome(api().processor_create(MAMBASDK_PROCESSOR, text("test_pixels"), text("refuse"), {}, &processor))
                  .says("config is refused"));
  EXPECT_TRUE(Outcome(api().processor_create(MAMBASDK_HEAD, text("causal_lm"), {}, {}, &processor)).says("pipeline"));
  EXPECT_EQ(processor, nullptr);
}

TEST(Processors, EmittedTensorsAreOwnedAlsoWhenRefused) {
  static int live = 0;
  static const auto register_twice = [] {
    mambasdk_processor_definition d = pixels();
    d.kind = text("test_emits_badly");
    d.run = [](void*, void*, const mambasdk_context*, const mambasdk_named_tensor*, std::uint64_t,
               mambasdk_emit_fn emit, void* user) -> mambasdk_status* {
      EXPECT_EQ(emit(user, text("a"), managed({1}, {1}, &live)), nullptr);
      EXPECT_TRUE(Outcome(emit(user, text("a"), managed({1}, {1}, &live))).says("emitted twice"));
      EXPECT_EQ(Outcome(emit(user, text(""), managed({1}, {1}, &live))).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
      EXPECT_EQ(Outcome(emit(user, text("b"), nullptr)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
      mambasdk_managed_tensor* broken = managed({1}, {1}, &live);
      broken->tensor.ndim = 77;
      EXPECT_EQ(Outcome(emit(user, text("c"), broken)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
      // A transposed tensor arrives as a contiguous copy: (2, 3) from (3, 2).
      mambasdk_managed_tensor* strided = managed({1, 2, 3, 4, 5, 6}, {2, 3}, &live);
      static std::int64_t strides[] = {1, 2};
      strided->tensor.strides = strides;
      EXPECT_EQ(emit(user, text("d"), strided), nullptr);
      return nullptr;
    };
    return d;
  };
  const auto d = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    const auto processor = register_twice();
    return a->register_processor(r, MAMBASDK_PROCESSOR, &processor);
  });
  ASSERT_EQ(register_plugin(d, "emits badly").message, "");
  mambasdk_processor* processor = nullptr;
  ASSERT_EQ(Outcome(api().processor_create(MAMBASDK_PROCESSOR, text("test_emits_badly"), {}, {}, &processor)).code, 0);
  {
    Made made;
    ASSERT_EQ(Outcome(api().processor_run(processor, nullptr, nullptr, 0, &made.result)).message, "");
    EXPECT_EQ(live, 1);  // "a"; "d" was copied
    ASSERT_EQ(api().result_count(made.result), 2u);
    const auto* d_data = static_cast<const float*>(api().result_tensor(made.result, 1)->data);
    EXPECT_EQ((std::vector<float>(d_data, d_data + 6)), (std::vector<float>{1, 3, 5, 2, 4, 6}));
  }
  EXPECT_EQ(live, 0);
  api().processor_release(processor);
}

TEST(Processors, RegistrationsThatClashOrLackPartsLeaveNothingBehind) {
  register_pieces();
  const auto taken = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    auto fresh = pixels();
    fresh.kind = text("test_fresh");
    const auto clash = best();
    if (mambasdk_status* status = a->register_processor(r, MAMBASDK_PROCESSOR, &fresh)) return status;
    return a->register_processor(r, MAMBASDK_HEAD, &clash);
  });
  EXPECT_TRUE(register_plugin(taken, "clash").says("head test_best is already registered by test-plugin"));
  mambasdk_processor* processor = nullptr;
  EXPECT_EQ(Outcome(api().processor_create(MAMBASDK_PROCESSOR, text("test_fresh"), {}, {}, &processor)).code,
            MAMBASDK_ERROR_NOT_FOUND);
  const auto truncated = descriptor([](const mambasdk_api* a, mambasdk_registrar* r) -> mambasdk_status* {
    auto processor_of_old = pixels();
    processor_of_old.struct_size = 24;
    return a->register_processor(r, MAMBASDK_PROCESSOR, &processor_of_old);
  });
  EXPECT_EQ(register_plugin(truncated, "truncated").code, MAMBASDK_ERROR_VERSION);
}

TEST(Runtime, DescribesWhatIsHere) {
  register_pieces();
  ASSERT_EQ(Outcome(api().component_declare(text("testkit"), text("2.5.1+cpu"))).message, "");
  const std::string described = text(api().runtime_describe());
  for (const std::string_view part : {R"("name":"native")", R"("kind":"tokenizer")", R"("kind":"test_best")",
                                      R"({"name":"testkit","version":"2.5.1+cpu","origin":"host"})",
                                      R"("processors":["test_pixels"],"heads":["test_best"])"}) {
    EXPECT_NE(described.find(part), std::string::npos) << part << " in " << described;
  }
  EXPECT_EQ(Outcome(api().component_declare(text("testkit"), text("2.5.1+cpu"))).code, 0);
  EXPECT_TRUE(Outcome(api().component_declare(text("testkit"), text("3.0"))).says("is declared as 2.5.1+cpu already"));
  EXPECT_EQ(Outcome(api().component_declare(text("other"), text("new"))).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(Outcome(api().component_declare(text(""), text("1"))).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace mambasdk::abi::testing
