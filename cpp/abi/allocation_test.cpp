// No memory, at every place in turn: load, run, generate, save, restore, clone and a pipeline end in a status
// OUT_OF_MEMORY, never in the end of the process, and leave the session as it was. Not under ThreadSanitizer, whose
// library brings these operators itself and will not be linked beside others.
#ifndef MAMBASDK_SANITIZES_THREAD

#include <atomic>
#include <cstdlib>
#include <new>

#include "abi/abi_testing.hpp"

namespace {

// Allocations until one fails; none fails while it is negative. Of every thread, the pool's too.
std::atomic<long> left{-1};
std::atomic<bool> failed{false};

void* take(std::size_t bytes, std::size_t alignment) {
  if (left.load(std::memory_order_relaxed) >= 0 && left.fetch_sub(1) == 0) {
    failed = true;
    left = -1;
    throw std::bad_alloc();
  }
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

}  // namespace

void* operator new(std::size_t bytes) {
  return take(bytes, alignof(std::max_align_t));
}
void* operator new[](std::size_t bytes) {
  return take(bytes, alignof(std::max_align_t));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept try {
  return take(bytes, alignof(std::max_align_t));
} catch (const std::bad_alloc&) {
  return nullptr;
}
void operator delete(void* data) noexcept {
  std::free(data);
}
void operator delete[](void* data) noexcept {
  std::free(data);
}
void operator delete(void* data, std::size_t) noexcept {
  std::free(data);
}
void operator delete[](void* data, std::size_t) noexcept {
  std::free(data);
}
void operator delete(void* data, std::align_val_t) noexcept {
  std::free(data);
}
void operator delete[](void* data, std::align_val_t) noexcept {
  std::free(data);
}
void operator delete(void* data, std::size_t, std::align_val_t) noexcept {
  std::free(data);
}
void operator delete[](void* data, std::size_t, std::align_val_t) noexcept {
  std::free(data);
}

namespace mambasdk::abi {
namespace {

using testing::api;
using testing::Outcome;

mambasdk_string text(std::string_view s) {
  return testing::text(s);
}

// Runs `call` with the n-th allocation failing, for n = 0, 1, … until none fails any more. `after` looks at what is
// left.
template <class Call, class After>
int fail_each(Call&& call, After&& after) {
  for (int n = 0;; ++n) {
    failed = false;
    left = n;
    mambasdk_status* status = call();
    left = -1;
    const Outcome outcome(status);
    // Some failures are survived: a thread that does not start, a description that is empty.
    EXPECT_TRUE(outcome.code == 0 || outcome.code == MAMBASDK_ERROR_OUT_OF_MEMORY) << n << ": " << outcome.message;
    after(outcome.code);
    if (!failed) {
      EXPECT_EQ(outcome.code, 0) << outcome.message;
      return n;
    }
    if (::testing::Test::HasFailure() || n == 100'000) return n;
  }
}

class Allocation : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::write_counting_package("allocation");
    ASSERT_EQ(Outcome(api().model_load(text(directory_), nullptr, &model_)).message, "");
    ASSERT_EQ(Outcome(api().session_create(model_, nullptr, &session_)).message, "");
  }
  void TearDown() override {
    api().session_release(session_);
    api().model_release(model_);
  }

  std::string directory_;
  mambasdk_model* model_ = nullptr;
  mambasdk_session* session_ = nullptr;
};

TEST_F(Allocation, ModelLoadSurvivesEachFailure) {
  mambasdk_model* made = nullptr;
  const int places = fail_each([&] { return api().model_load(text(directory_), nullptr, &made); },
                               [&](std::int32_t code) {
                                 EXPECT_EQ(made != nullptr, code == 0);
                                 api().model_release(made);
                                 made = nullptr;
                               });
  EXPECT_GT(places, 50);
}

TEST_F(Allocation, SessionRunAndGenerateSurviveEachFailure) {
  testing::Array<std::int32_t> tokens({97, 98, 99}, {1, 3});
  const mambasdk_named_tensor input{text("tokens"), &tokens.tensor};
  const mambasdk_string name = text("last_logits");
  mambasdk_managed_tensor* output = nullptr;
  const int places = fail_each([&] { return api().session_run(session_, &input, 1, &name, 1, &output); },
                               [&](std::int32_t code) {
                                 EXPECT_EQ(output != nullptr, code == 0);
                                 if (output != nullptr) output->deleter(output);
                                 output = nullptr;
                               });
  EXPECT_GT(places, 3);
  mambasdk_generate_options options{};
  options.struct_size = sizeof(options);
  options.max_new_tokens = 3;
  (void)fail_each([&] { return api().session_generate(session_, text("abc"), &options, nullptr); },
                  [](std::int32_t) {});
}

TEST_F(Allocation, StatesAndClonesSurviveEachFailure) {
  std::vector<std::byte> image(1 << 16);
  std::uint64_t size = 0;
  (void)fail_each([&] { return api().session_save(session_, image.data(), image.size(), &size); }, [](std::int32_t) {});
  (void)fail_each([&] { return api().session_restore(session_, image.data(), size); }, [](std::int32_t) {});
  mambasdk_session* clone = nullptr;
  (void)fail_each([&] { return api().session_clone(session_, &clone); },
                  [&](std::int32_t) {
                    api().session_release(clone);
                    clone = nullptr;
                  });
}

TEST_F(Allocation, PipelinesSurviveEachFailure) {
  mambasdk_pipeline* pipeline = nullptr;
  (void)fail_each([&] { return api().pipeline_create(model_, nullptr, &pipeline); },
                  [&](std::int32_t code) {
                    EXPECT_EQ(pipeline != nullptr, code == 0);
                    if (!failed) return;  // the last one stays
                    api().pipeline_release(pipeline);
                    pipeline = nullptr;
                  });
  ASSERT_NE(pipeline, nullptr);
  const auto prompt = testing::bytes("abc");
  const mambasdk_named_tensor input{text("text"), &prompt.tensor};
  mambasdk_pipeline_options options{};
  options.struct_size = sizeof(options);
  options.json = text(R"({"max_new_tokens": 2, "stop": ["x", "y"]})");
  mambasdk_result* result = nullptr;
  (void)fail_each([&] { return api().pipeline_run(pipeline, &input, 1, &options, &result); },
                  [&](std::int32_t code) {
                    EXPECT_EQ(result != nullptr, code == 0);
                    api().result_release(result);
                    result = nullptr;
                  });
  api().pipeline_release(pipeline);
}

TEST_F(Allocation, OperationsAndDescriptionsSurviveEachFailure) {
  const mambasdk_op* add = api().op_find(text("add"));
  testing::Vector x({1, 2, 3}), y({0, 0, 0});
  const mambasdk_value inputs[] = {testing::value(x.tensor), testing::value(x.tensor)};
  (void)fail_each([&] { return api().op_call(add, nullptr, inputs, 2, &y.tensor, 1, 0); }, [](std::int32_t) {});
  mambasdk_output_plan plan{};
  (void)fail_each([&] { return api().op_plan(add, inputs, 2, &plan, 1); }, [](std::int32_t) {});
  const auto no_status = [&](auto&& f) {
    (void)fail_each(
        [&]() -> mambasdk_status* {
          f();
          return nullptr;
        },
        [](std::int32_t) {});
  };
  no_status([&] { (void)api().op_describe(add); });
  no_status([&] { (void)api().runtime_describe(); });
  no_status([&] { (void)api().op_list(nullptr, 0); });
  no_status([&] {
    api().status_release(
        api().status_create(6, text("a message of some length, beyond what fits inside"), text("origin")));
  });
}

}  // namespace
}  // namespace mambasdk::abi

#endif
