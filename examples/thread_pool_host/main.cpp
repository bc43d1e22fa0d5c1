// thread_pool_host PACKAGE PROMPT: a host program that lends the runtime its own threads, memory and stop button.
// Runs the prompt on pools of 1, 2, 3, 4 and 7 threads and prints for each the threads, how often the runtime asked for
// them, the bytes that it took, and the logits' checksum, which must be the same every time. Then it stops a run
// half-way and shows that the session is as it was before.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mambasdk/mambasdk.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pool.hpp"

namespace {

// What mambasdk_context::user points to. The runtime calls from several threads at once.
struct Host {
  explicit Host(int threads) : pool(threads) {}

  Pool pool;
  std::atomic<std::int64_t> parallel_calls{0};
  std::atomic<std::int64_t> bytes_taken{0};
  std::atomic<std::int64_t> bytes_held{0};
  std::atomic<std::int64_t> calls_before_stop{-1};  // negative: never

  // The struct is copied when a session is made; what it points to must outlive the session.
  mambasdk_context context() {
    mambasdk_context c{};
    c.struct_size = sizeof(c);
    c.device = {1, 0};
    c.user = this;
    c.parallel_for = [](void* user, std::int64_t n, std::int64_t grain, mambasdk_range_fn fn, void* arg) noexcept {
      Host& host = *static_cast<Host*>(user);
      ++host.parallel_calls;
      host.pool.parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) { fn(arg, begin, end); });
    };
    c.allocate = [](void* user, std::uint64_t bytes, std::uint64_t alignment) -> void* {
      Host& host = *static_cast<Host*>(user);
      const std::uint64_t rounded = (bytes + alignment - 1) / alignment * alignment;
      void* data = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
      if (data == nullptr) return nullptr;
      host.bytes_taken += static_cast<std::int64_t>(bytes);
      host.bytes_held += static_cast<std::int64_t>(bytes);
      return data;
    };
    c.release = [](void* user, void* data, std::uint64_t bytes) {
      static_cast<Host*>(user)->bytes_held -= static_cast<std::int64_t>(bytes);
      std::free(data);
    };
    c.is_cancelled = [](void* user) -> std::int32_t {
      const Host& host = *static_cast<const Host*>(user);
      const std::int64_t limit = host.calls_before_stop;
      return limit >= 0 && host.parallel_calls >= limit ? 1 : 0;
    };
    return c;
  }
};

std::vector<float> logits_after(mambasdk::Session& session, std::span<const std::int32_t> tokens) {
  const mambasdk::Tensor logits = session.next_logits(tokens);  // (1, vocabulary)
  const std::span<const float> values = logits.data<float>();
  return {values.begin(), values.end()};
}

std::uint64_t checksum(std::span<const float> values) {  // FNV-1a over the bits
  std::uint64_t hash = 14695981039346656037u;
  for (const std::byte b : std::as_bytes(values)) {
    hash = (hash ^ static_cast<std::uint64_t>(b)) * 1099511628211u;
  }
  return hash;
}

int run(const char* package, const char* prompt) {
  const mambasdk::Model model(package);
  const std::vector<std::int32_t> tokens = mambasdk::Tokenizer(model).encode(prompt);
  mambasdk::Session plain(model);  // the runtime's own threads and memory
  const std::vector<float> expected = logits_after(plain, tokens);
  int failures = 0;

  for (const int threads : {1, 2, 3, 4, 7}) {
    Host host(threads);
    const mambasdk_context context = host.context();
    std::uint64_t sum = 0;
    {
      mambasdk::Session session(model, &context);
      sum = checksum(logits_after(session, tokens));
    }
    std::printf("threads=%d parallel_calls=%lld bytes=%lld logits=%016llx\n", threads,
                static_cast<long long>(host.parallel_calls), static_cast<long long>(host.bytes_taken),
                static_cast<unsigned long long>(sum));
    if (sum != checksum(expected) || host.bytes_held != 0) ++failures;
  }

  Host host(2);
  const mambasdk_context context = host.context();
  mambasdk::Session session(model, &context);
  (void)logits_after(session, tokens);
  const std::vector<std::byte> before = session.save();
  host.calls_before_stop = host.parallel_calls + 1;
  try {
    (void)logits_after(session, tokens);
    std::fprintf(stderr, "thread_pool_host: the run was not stopped\n");
    ++failures;
  } catch (const mambasdk::Error& error) {
    std::printf("cancelled=%d\n", error.code() == MAMBASDK_ERROR_CANCELLED ? 1 : 0);
    if (error.code() != MAMBASDK_ERROR_CANCELLED) throw;
  }
  host.calls_before_stop = -1;
  const bool kept = session.save() == before;
  const bool goes_on = logits_after(session, tokens) == logits_after(plain, tokens);
  std::printf("state_kept=%d goes_on=%d\n", kept ? 1 : 0, goes_on ? 1 : 0);
  if (!kept || !goes_on) ++failures;
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: thread_pool_host PACKAGE PROMPT\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "thread_pool_host: %s\n", error.what());
    return 1;
  }
}
