// Callers' mistakes over every slot of the table: NULL, sizes that were not set or are absurd, counts without arrays,
// text that is none. Each is a status (or an empty answer where there is no status), never a signal.
#include <array>
#include <atomic>
#include <cstring>
#include <limits>
#include <thread>
#include <tuple>

#include "abi/abi_testing.hpp"
#include "abi/every_slot.hpp"

namespace mambasdk::abi {
namespace {

using testing::api;
using testing::Outcome;

mambasdk_string text(std::string_view s) {
  return testing::text(s);
}

// What a careful caller has: one live object of each kind.
struct Live {
  mambasdk_registrar* registrar;
  mambasdk_model* model = nullptr;
  mambasdk_session* session = nullptr;
  mambasdk_tokenizer* tokenizer = nullptr;
  mambasdk_sampler* sampler = nullptr;
  mambasdk_text_stream* stream = nullptr;
  mambasdk_processor* processor = nullptr;
  mambasdk_pipeline* pipeline = nullptr;
  mambasdk_result* result = nullptr;
  mambasdk_status* status = nullptr;
  const mambasdk_op* op = nullptr;
  testing::Array<std::uint8_t> prompt = testing::bytes("abc");

  explicit Live(mambasdk_registrar* given) : registrar(given) {
    const std::string package = testing::write_counting_package("misuse");
    const mambasdk_api& a = api();
    EXPECT_EQ(a.model_load(text(package), nullptr, &model), nullptr);
    EXPECT_EQ(a.session_create(model, nullptr, &session), nullptr);
    EXPECT_EQ(a.tokenizer_of_model(model, &tokenizer), nullptr);
    EXPECT_EQ(a.sampler_create(nullptr, &sampler), nullptr);
    EXPECT_EQ(a.text_stream_create(tokenizer, 0, 0, &stream), nullptr);
    EXPECT_EQ(a.processor_create(MAMBASDK_PROCESSOR, text("bytes"), text("{}"), text(""), &processor), nullptr);
    EXPECT_EQ(a.pipeline_create(model, nullptr, &pipeline), nullptr);
    const mambasdk_named_tensor input{text("text"), &prompt.tensor};
    EXPECT_EQ(a.processor_run(processor, nullptr, &input, 1, &result), nullptr);
    status = a.status_create(MAMBASDK_ERROR_IO, text("message"), text("origin"));
    op = a.op_find(text("add"));
  }
  ~Live() {
    const mambasdk_api& a = api();
    a.status_release(status);
    a.result_release(result);
    a.pipeline_release(pipeline);
    a.processor_release(processor);
    a.text_stream_release(stream);
    a.sampler_release(sampler);
    a.tokenizer_release(tokenizer);
    a.session_release(session);
    a.model_release(model);
  }
};

constexpr std::size_t kBuffer = 1 << 16;
// Zeros; 0xff everywhere, so that sizes are absurd; a size that fits every struct of the table, and zeros.
alignas(64) std::array<unsigned char, kBuffer> zeros;
alignas(64) std::array<unsigned char, kBuffer> ones;
alignas(64) std::array<unsigned char, kBuffer> sized;
alignas(64) std::array<unsigned char, kBuffer> written;

void fill_buffers() {
  zeros.fill(0);
  ones.fill(0xff);
  sized.fill(0);
  const std::uint64_t size = 128;
  std::memcpy(sized.data(), &size, sizeof(size));
}

// Mistakes by type, the worst first: it alone is what EverySlotRefusesNothing gives.
template <class T>
struct Mistakes;

template <>
struct Mistakes<std::int32_t> {
  static std::vector<std::int32_t> of(const Live&) { return {0, -1, 7, INT32_MIN, INT32_MAX}; }
};
template <>
struct Mistakes<std::uint64_t> {
  static std::vector<std::uint64_t> of(const Live&) { return {1, 0, std::uint64_t{1} << 48, UINT64_MAX}; }
};
template <>
struct Mistakes<mambasdk_string> {
  static std::vector<mambasdk_string> of(const Live&) {
    return {{nullptr, 5},     {nullptr, 0}, {"x", UINT64_MAX}, {"x", std::uint64_t{1} << 63},
            text("\xff\xfe"), text("a\0b"), text("{}")};
  }
};
template <>
struct Mistakes<mambasdk_kernel_fn> {
  static std::vector<mambasdk_kernel_fn> of(const Live&) {
    return {nullptr, [](void*, const mambasdk_op_call*) -> mambasdk_status* { return nullptr; }};
  }
};

template <class T>
T* live_of(const Live& live) {
  if constexpr (std::is_same_v<T, mambasdk_registrar>) return live.registrar;
  if constexpr (std::is_same_v<T, mambasdk_model>) return live.model;
  if constexpr (std::is_same_v<T, mambasdk_session>) return live.session;
  if constexpr (std::is_same_v<T, mambasdk_tokenizer>) return live.tokenizer;
  if constexpr (std::is_same_v<T, mambasdk_sampler>) return live.sampler;
  if constexpr (std::is_same_v<T, mambasdk_text_stream>) return live.stream;
  if constexpr (std::is_same_v<T, mambasdk_processor>) return live.processor;
  if constexpr (std::is_same_v<T, mambasdk_pipeline>) return live.pipeline;
  if constexpr (std::is_same_v<T, mambasdk_result>) return live.result;
  if constexpr (std::is_same_v<T, mambasdk_status>) return live.status;
  return nullptr;
}

template <class T>
concept Handle =
    std::is_same_v<T, mambasdk_registrar> || std::is_same_v<T, mambasdk_model> || std::is_same_v<T, mambasdk_session> ||
    std::is_same_v<T, mambasdk_tokenizer> || std::is_same_v<T, mambasdk_sampler> ||
    std::is_same_v<T, mambasdk_text_stream> || std::is_same_v<T, mambasdk_processor> ||
    std::is_same_v<T, mambasdk_pipeline> || std::is_same_v<T, mambasdk_result> || std::is_same_v<T, mambasdk_status>;

template <class T>
struct Mistakes<T*> {
  static std::vector<T*> of(const Live& live) {
    using Plain = std::remove_const_t<T>;
    if constexpr (Handle<Plain>) {
      return {nullptr, live_of<Plain>(live)};
    } else if constexpr (std::is_same_v<Plain, mambasdk_op>) {
      return {nullptr, live.op};
    } else if constexpr (std::is_const_v<T>) {
      return {nullptr, reinterpret_cast<T*>(zeros.data()), reinterpret_cast<T*>(ones.data()),
              reinterpret_cast<T*>(sized.data())};
    } else {
      return {nullptr, reinterpret_cast<T*>(written.data())};
    }
  }
};

template <class R>
void discard(R answer) {
  if constexpr (std::is_same_v<R, mambasdk_status*>) api().status_release(answer);
}

// The object that a call made through `T**`.
template <class T>
void release_made(T argument) {
  [[maybe_unused]] const auto release = [](auto made, auto slot) {
    if (made != nullptr && *made != nullptr) (api().*slot)(*made);
  };
  if constexpr (std::is_same_v<T, mambasdk_model**>) release(argument, &mambasdk_api::model_release);
  if constexpr (std::is_same_v<T, mambasdk_session**>) release(argument, &mambasdk_api::session_release);
  if constexpr (std::is_same_v<T, mambasdk_tokenizer**>) release(argument, &mambasdk_api::tokenizer_release);
  if constexpr (std::is_same_v<T, mambasdk_sampler**>) release(argument, &mambasdk_api::sampler_release);
  if constexpr (std::is_same_v<T, mambasdk_text_stream**>) release(argument, &mambasdk_api::text_stream_release);
  if constexpr (std::is_same_v<T, mambasdk_processor**>) release(argument, &mambasdk_api::processor_release);
  if constexpr (std::is_same_v<T, mambasdk_pipeline**>) release(argument, &mambasdk_api::pipeline_release);
  if constexpr (std::is_same_v<T, mambasdk_result**>) release(argument, &mambasdk_api::result_release);
}

template <class R, class... Args, std::size_t... I>
std::size_t call_all(R (*slot)(Args...), const Live& live, std::index_sequence<I...>) {
  const std::tuple<std::vector<Args>...> choices{Mistakes<Args>::of(live)...};
  std::array<std::size_t, sizeof...(Args) + 1> at{};
  std::size_t calls = 0;
  for (;;) {
    written.fill(0);
    std::tuple<Args...> arguments{std::get<I>(choices)[at[I]]...};
    if constexpr (std::is_void_v<R>) {
      slot(std::get<I>(arguments)...);
    } else {
      discard(slot(std::get<I>(arguments)...));
    }
    (release_made(std::get<I>(arguments)), ...);
    ++calls;
    std::size_t d = 0;
    const std::array<std::size_t, sizeof...(Args) + 1> counts{std::get<I>(choices).size()..., 0};
    while (d < sizeof...(Args) && ++at[d] == counts[d]) at[d++] = 0;
    if (d == sizeof...(Args)) return calls;
  }
}

// Whether the answer is a status; true where the slot has none.
template <class R, class... Args>
bool refuses_nothing(R (*slot)(Args...), const Live& live) {
  if constexpr (std::is_same_v<R, mambasdk_status*>) {
    return Outcome(slot(Mistakes<Args>::of(live)[0]...)).code != 0;
  } else if constexpr (std::is_void_v<R>) {
    slot(Mistakes<Args>::of(live)[0]...);
  } else {
    (void)slot(Mistakes<Args>::of(live)[0]...);
  }
  return true;
}

template <class R, class... Args>
std::size_t call_all(R (*slot)(Args...), const Live& live, std::string_view name) {
  if constexpr (sizeof...(Args) == 1 && std::is_void_v<R>) {
    if (name.ends_with("_release")) return slot(nullptr), 1;  // a live object would go
  }
  return call_all(slot, live, std::index_sequence_for<Args...>());
}

std::size_t calls_made = 0;

// Inside a plugin's initialize, where there is a registrar; what was staged goes when it is refused at the end.
mambasdk_status* misuse(const mambasdk_api*, mambasdk_registrar* registrar) {
  fill_buffers();
  const Live live(registrar);
  const std::int32_t threads = api().num_threads();
#define MAMBASDK_MISUSE(slot)                                                                       \
  {                                                                                                 \
    SCOPED_TRACE(#slot);                                                                            \
    EXPECT_TRUE(refuses_nothing(api().slot, live) || std::string_view(#slot) == "set_num_threads"); \
    calls_made += call_all(api().slot, live, std::string_view(#slot));                              \
  }
  MAMBASDK_EVERY_SLOT(MAMBASDK_MISUSE)
#undef MAMBASDK_MISUSE
  Outcome(api().set_num_threads(threads));
  return api().status_create(MAMBASDK_ERROR_CANCELLED, text("the end of the test"), text("misuse"));
}

TEST(Misuse, EverySlotAnswersWithAStatusAndNeverASignal) {
  const auto d = testing::descriptor(misuse, "misuse");
  const Outcome outcome = testing::register_plugin(d, "misuse");
  EXPECT_EQ(outcome.message, "the end of the test");
  EXPECT_GT(calls_made, 1000u);
  RecordProperty("calls", std::to_string(calls_made));
}

TEST(Misuse, OptionsThatAreNoNumbersAreRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const mambasdk_sampler_options good{sizeof(good), 1.0, 1.0, 0.0, 1.0, 0, 0};
  for (double mambasdk_sampler_options::* member :
       {&mambasdk_sampler_options::temperature, &mambasdk_sampler_options::top_p, &mambasdk_sampler_options::min_p,
        &mambasdk_sampler_options::repetition_penalty}) {
    for (const double value : {nan, std::numeric_limits<double>::infinity(), -1.0}) {
      mambasdk_sampler_options options = good;
      options.*member = value;
      mambasdk_sampler* sampler = nullptr;
      EXPECT_EQ(Outcome(api().sampler_create(&options, &sampler)).code, MAMBASDK_ERROR_INVALID_ARGUMENT) << value;
      EXPECT_EQ(sampler, nullptr);
    }
  }
}

TEST(Misuse, StructSizesAreCheckedEverywhere) {
  const testing::Loaded loaded(testing::write_counting_package("struct_sizes"));
  mambasdk_session* session = nullptr;
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{7}, std::uint64_t{1} << 20, UINT64_MAX}) {
    mambasdk_context context{};
    context.struct_size = size;
    const Outcome refused(api().session_create(loaded.model, &context, &session));
    EXPECT_EQ(refused.code, MAMBASDK_ERROR_INVALID_ARGUMENT) << size;
    EXPECT_TRUE(refused.says("context has struct_size ")) << refused.message;
    mambasdk_load_options options{};
    options.struct_size = size;
    mambasdk_model* model = nullptr;
    EXPECT_EQ(Outcome(api().model_load(text("/nowhere"), &options, &model)).code, MAMBASDK_ERROR_INVALID_ARGUMENT);
  }
}

class SessionMisuse : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(Outcome(api().session_create(loaded_.model, nullptr, &session_)).message, ""); }
  void TearDown() override { api().session_release(session_); }

  testing::Loaded loaded_{testing::write_counting_package("session_misuse")};
  mambasdk_session* session_ = nullptr;
};

TEST_F(SessionMisuse, ACallbackMayNotUseTheSessionThatCallsIt) {
  std::int32_t code = 0;
  std::pair<mambasdk_session*, std::int32_t*> user{session_, &code};
  mambasdk_generate_options options{};
  options.struct_size = sizeof(options);
  options.max_new_tokens = 2;
  options.user = &user;
  options.on_text = [](void* given, mambasdk_string) -> std::int32_t {
    const auto& [session, answer] = *static_cast<std::pair<mambasdk_session*, std::int32_t*>*>(given);
    *answer = Outcome(api().session_reset(session)).code;
    return 0;
  };
  EXPECT_EQ(Outcome(api().session_generate(session_, text("a"), &options, nullptr)).message, "");
  EXPECT_EQ(code, MAMBASDK_ERROR_INVALID_ARGUMENT);
}

TEST_F(SessionMisuse, ThreadsThatShareASessionAreRefusedOrTakeTurns) {
  std::atomic<int> done{0}, refused{0}, other{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        mambasdk_generate_options options{};
        options.struct_size = sizeof(options);
        options.max_new_tokens = 3;
        const Outcome outcome(api().session_generate(session_, text("abc"), &options, nullptr));
        if (outcome.code == 0) {
          ++done;
        } else if (outcome.says("in use")) {
          ++refused;
        } else {
          ++other;
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_GT(done, 0);
  EXPECT_EQ(other, 0);
  EXPECT_EQ(done + refused, 200);
}

}  // namespace
}  // namespace mambasdk::abi
