// A device for tests, as a plugin: its memory cannot be touched from the host, its work is done only when somebody
// waits for it, and its kernels are those of the CPU. Whoever follows a pointer to it dies of SIGSEGV; whoever reads a
// result, frees an input or reuses memory too early gets poison.
#include "fake_device.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "mambasdk/mambasdk.h"

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

const mambasdk_api* api = nullptr;

mambasdk_string text(const char* s) {
  return {s, std::strlen(s)};
}

mambasdk_status* failure(std::int32_t code, const std::string& message) {
  return api->status_create(code, {message.data(), message.size()}, text("fake"));
}

// ---- memory ----

// One range of addresses that nobody may touch but while an Access lives.
class Memory {
 public:
  Memory() {
    void* base = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(base);
    free_.emplace(0, kBytes);
  }

  void open() {
    if (accesses_++ == 0 && mprotect(base_, kBytes, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  void close() {
    if (--accesses_ == 0 && mprotect(base_, kBytes, PROT_NONE) != 0) std::abort();
  }

  [[nodiscard]] void* take(std::uint64_t bytes) {
    const std::uint64_t rounded = (bytes + 63) / 64 * 64;
    for (auto range = free_.begin(); rounded >= bytes && range != free_.end(); ++range) {
      if (range->second < rounded) continue;
      const auto [offset, size] = *range;
      free_.erase(range);
      if (size > rounded) free_.emplace(offset + rounded, size - rounded);
      blocks_.emplace(offset, rounded);
      poison(offset, rounded, 0xff);  // NaN in every float format
      return base_ + offset;
    }
    return nullptr;
  }
  // False: there is no such block.
  bool give(void* data) {
    const auto block = blocks_.find(static_cast<std::uint64_t>(static_cast<std::byte*>(data) - base_));
    if (block == blocks_.end()) return false;
    poison(block->first, block->second, 0xfe);
    auto range = free_.insert(*block).first;
    blocks_.erase(block);
    if (range != free_.begin()) {
      const auto before = std::prev(range);
      if (before->first + before->second == range->first) {
        before->second += range->second;
        free_.erase(range);
        range = before;
      }
    }
    const auto after = std::next(range);
    if (after != free_.end() && range->first + range->second == after->first) {
      range->second += after->second;
      free_.erase(after);
    }
    return true;
  }
  // Whether a block holds these bytes.
  [[nodiscard]] bool holds(const void* data, std::uint64_t bytes) const {
    const auto* at = static_cast<const std::byte*>(data);
    if (at < base_ || at >= base_ + kBytes) return false;
    const auto offset = static_cast<std::uint64_t>(at - base_);
    auto block = blocks_.upper_bound(offset);
    return block != blocks_.begin() && offset + bytes <= (--block)->first + block->second;
  }
  [[nodiscard]] bool contains(const void* data) const { return data >= base_ && data < base_ + kBytes; }

 private:
  static constexpr std::uint64_t kBytes = std::uint64_t{4} << 30;

  void poison(std::uint64_t offset, std::uint64_t bytes, int byte) {
    open();
    std::memset(base_ + offset, byte, bytes);
    close();
  }

  std::byte* base_ = nullptr;
  int accesses_ = 0;
  std::map<std::uint64_t, std::uint64_t> free_, blocks_;  // offset, bytes
};

// ---- streams ----

using Work = std::function<mambasdk_status*()>;

struct Stream {
  int index;
  std::deque<Work> queue;
};

struct Device {
  std::recursive_mutex mutex;  // of all that follows
  Memory memory;
  Stream defaults[FAKE_DEVICE_COUNT]{{0, {}}, {1, {}}};
  std::map<void*, std::unique_ptr<Stream>> streams;
  std::int64_t fail_allocation = -1;
  fake_device_counts counts{};
};

Device& device() {
  static auto* made = new Device;
  return *made;
}

using Lock = std::lock_guard<std::recursive_mutex>;

// Null: no such stream of that device.
Stream* stream_of(std::int32_t index, void* handle) {
  if (index < 0 || index >= FAKE_DEVICE_COUNT) return nullptr;
  if (handle == nullptr) return &device().defaults[index];
  const auto found = device().streams.find(handle);
  return found == device().streams.end() || found->second->index != index ? nullptr : found->second.get();
}

mambasdk_status* no_stream(std::int32_t index) {
  return failure(MAMBASDK_ERROR_INTERNAL, "that is no stream of fake:" + std::to_string(index));
}

// The first failure of what was on the stream; later work is left out after it, as on a device that has failed.
mambasdk_status* run_all(Stream& stream) {
  mambasdk_status* failed = nullptr;
  while (!stream.queue.empty()) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    mambasdk_status* status = work();
    if (failed == nullptr) {
      failed = status;
    } else {
      api->status_release(status);
    }
  }
  return failed;
}

// ---- the device definition ----

std::int32_t count(void*) {
  return FAKE_DEVICE_COUNT;
}

void* allocate(void*, std::int32_t index, void* stream, std::uint64_t bytes) {
  const Lock lock(device().mutex);
  if (stream_of(index, stream) == nullptr) return nullptr;
  if (device().fail_allocation >= 0 && device().fail_allocation-- == 0) return nullptr;
  void* data = device().memory.take(bytes);
  if (data == nullptr) return nullptr;
  ++device().counts.allocations;
  ++device().counts.live_blocks;
  return data;
}

// In the order of the stream: what is queued may still use the memory.
void release(void*, std::int32_t index, void* stream, void* data, std::uint64_t) {
  const Lock lock(device().mutex);
  Stream* on = stream_of(index, stream);
  if (on == nullptr || !device().memory.contains(data)) {
    std::fprintf(stderr, "fake: a block was released that is not of fake:%d, or on no stream of it\n", index);
    std::abort();
  }
  --device().counts.live_blocks;
  on->queue.push_back([data]() -> mambasdk_status* {
    return device().memory.give(data) ? nullptr : failure(MAMBASDK_ERROR_INTERNAL, "a block was released twice");
  });
  if (on->queue.size() == 1) {
    if (mambasdk_status* status = run_all(*on)) api->status_release(status);
  }
}

mambasdk_status* copy(void*, std::int32_t index, void* stream, std::int32_t direction, void* to, const void* from,
                      std::uint64_t bytes) {
  const Lock lock(device().mutex);
  Stream* on = stream_of(index, stream);
  if (on == nullptr) return no_stream(index);
  Device& d = device();
  const bool to_here = direction != MAMBASDK_COPY_FROM_DEVICE, from_here = direction != MAMBASDK_COPY_TO_DEVICE;
  if (to_here ? !d.memory.holds(to, bytes) : d.memory.contains(to)) {
    return failure(MAMBASDK_ERROR_INTERNAL, "a copy writes where its direction does not say");
  }
  if (from_here ? !d.memory.holds(from, bytes) : d.memory.contains(from)) {
    return failure(MAMBASDK_ERROR_INTERNAL, "a copy reads where its direction does not say");
  }
  if (direction == MAMBASDK_COPY_TO_DEVICE) ++d.counts.copies_to_device, d.counts.bytes_to_device += bytes;
  if (direction == MAMBASDK_COPY_FROM_DEVICE) ++d.counts.copies_from_device, d.counts.bytes_from_device += bytes;
  if (direction == MAMBASDK_COPY_ON_DEVICE) ++d.counts.copies_on_device;
  on->queue.push_back([=]() -> mambasdk_status* {
    device().memory.open();
    std::memcpy(to, from, bytes);
    device().memory.close();
    return nullptr;
  });
  return nullptr;
}

mambasdk_status* fill(void*, std::int32_t index, void* stream, void* data, std::uint8_t byte, std::uint64_t bytes) {
  const Lock lock(device().mutex);
  Stream* on = stream_of(index, stream);
  if (on == nullptr) return no_stream(index);
  if (!device().memory.holds(data, bytes)) return failure(MAMBASDK_ERROR_INTERNAL, "a fill outside of the memory");
  ++device().counts.fills;
  on->queue.push_back([=]() -> mambasdk_status* {
    device().memory.open();
    std::memset(data, byte, bytes);
    device().memory.close();
    return nullptr;
  });
  return nullptr;
}

mambasdk_status* synchronize(void*, std::int32_t index, void* stream) {
  const Lock lock(device().mutex);
  Stream* on = stream_of(index, stream);
  if (on == nullptr) return no_stream(index);
  ++device().counts.synchronizations;
  return run_all(*on);
}

mambasdk_status* stream_create(void*, std::int32_t index, void** stream) {
  const Lock lock(device().mutex);
  auto made = std::make_unique<Stream>(Stream{index, {}});
  *stream = made.get();
  device().streams.emplace(made.get(), std::move(made));
  ++device().counts.live_streams;
  return nullptr;
}

void stream_release(void*, std::int32_t index, void* stream) {
  const Lock lock(device().mutex);
  Stream* on = stream_of(index, stream);
  if (on == nullptr || stream == nullptr) std::abort();
  if (mambasdk_status* status = run_all(*on)) api->status_release(status);
  device().streams.erase(stream);
  --device().counts.live_streams;
}

// ---- kernels: those of the CPU, called when the stream's work is done ----

// A call whose arguments live as long as it.
struct Recorded {
  const mambasdk_op* op;
  std::deque<std::vector<std::int64_t>> extents;
  std::deque<mambasdk_tensor> tensors;
  std::vector<mambasdk_value> inputs;
  std::vector<mambasdk_tensor> outputs;

  // On the CPU, as which the kernel will see it.
  mambasdk_tensor keep(mambasdk_tensor t) {
    const auto ndim = static_cast<std::size_t>(t.ndim);
    extents.emplace_back(t.shape, t.shape + ndim);
    t.shape = extents.back().data();
    if (t.strides != nullptr) {
      extents.emplace_back(t.strides, t.strides + ndim);
      t.strides = extents.back().data();
    }
    t.device = {1, 0};
    return t;
  }
};

// Why a tensor is not where it should be; empty where it is.
std::string misplaced(const mambasdk_tensor& t, const mambasdk_context& context) {
  if (t.device.type != FAKE_DEVICE_TYPE || t.device.index != context.device.index) return "a tensor of another device";
  bool empty = t.data == nullptr;
  for (int d = 0; d < t.ndim; ++d) empty = empty || t.shape[d] == 0;
  if (!empty && !device().memory.holds(static_cast<std::byte*>(t.data) + t.byte_offset, t.dtype.bits / 8)) {
    return "a tensor outside of the device's memory";
  }
  return {};
}

std::string wrong_context(const mambasdk_context& context) {
  if (context.device.type != FAKE_DEVICE_TYPE) return "a context of another device";
  if (stream_of(context.device.index, context.stream) == nullptr) return "a stream that is not the device's";
  void* scratch = context.allocate(context.user, 100, 64);
  if (scratch == nullptr) return "no scratch memory";
  const bool here = device().memory.holds(scratch, 100) && reinterpret_cast<std::uintptr_t>(scratch) % 64 == 0;
  context.release(context.user, scratch, 100);
  return here ? "" : "scratch memory outside of the device's memory";
}

mambasdk_status* kernel(void* self, const mambasdk_op_call* call) {
  const Lock lock(device().mutex);
  auto recorded = std::make_shared<Recorded>();
  recorded->op = static_cast<const mambasdk_op*>(self);
  std::string wrong = wrong_context(*call->context);
  if (wrong == "no scratch memory") return failure(MAMBASDK_ERROR_OUT_OF_MEMORY, "fake: " + wrong);
  for (std::uint64_t i = 0; i < call->input_count; ++i) {
    mambasdk_value value = call->inputs[i];
    if (value.kind == MAMBASDK_VALUE_TENSOR) {
      if (wrong.empty()) wrong = misplaced(*value.as.tensor, *call->context);
      recorded->tensors.push_back(recorded->keep(*value.as.tensor));
      value.as.tensor = &recorded->tensors.back();
    }
    recorded->inputs.push_back(value);
  }
  for (std::uint64_t i = 0; i < call->output_count; ++i) {
    if (wrong.empty() && call->outputs[i].data != nullptr) wrong = misplaced(call->outputs[i], *call->context);
    recorded->outputs.push_back(recorded->keep(call->outputs[i]));
  }
  if (!wrong.empty()) return failure(MAMBASDK_ERROR_INTERNAL, "fake: the kernel was given " + wrong);
  ++device().counts.kernels;
  if (call->context->stream == nullptr) ++device().counts.kernels_on_default_stream;
  stream_of(call->context->device.index, call->context->stream)->queue.push_back([recorded] {
    device().memory.open();
    mambasdk_status* status =
        api->op_call(recorded->op, nullptr, recorded->inputs.data(), recorded->inputs.size(), recorded->outputs.data(),
                     recorded->outputs.size(), MAMBASDK_KERNEL_AUTOMATIC);
    device().memory.close();
    return status;
  });
  return nullptr;
}

mambasdk_status* initialize(const mambasdk_api* table, mambasdk_registrar* registrar) {
  api = table;
  mambasdk_device_definition d{};
  d.struct_size = sizeof(d);
  d.type = FAKE_DEVICE_TYPE;
  d.name = text("fake");
  d.doc = text("Two devices that do what the CPU does, later and out of the host's reach.");
  d.count = count;
  d.allocate = allocate;
  d.release = release;
  d.copy = copy;
  d.fill = fill;
  d.synchronize = synchronize;
  d.stream_create = stream_create;
  d.stream_release = stream_release;
  if (mambasdk_status* status = api->register_device(registrar, &d)) return status;
  std::vector<const mambasdk_op*> ops(api->op_list(nullptr, 0));
  api->op_list(ops.data(), ops.size());
  for (const mambasdk_op* op : ops) {
    const mambasdk_string description = api->op_describe(op);
    const std::string json(description.data, description.size);
    const std::string name = json.substr(9, json.find('"', 9) - 9);  // {"name":"add",…
    if (name == FAKE_DEVICE_LACKS) continue;                         // one is left out, for what is said of it
    if (mambasdk_status* status = api->register_kernel(registrar, {name.data(), name.size()}, FAKE_DEVICE_TYPE, kernel,
                                                       const_cast<mambasdk_op*>(op))) {
      return status;
    }
  }
  return nullptr;
}

}  // namespace

FAKE_EXPORT void fake_device_get_counts(fake_device_counts* counts) {
  const Lock lock(device().mutex);
  *counts = device().counts;
}

FAKE_EXPORT void fake_device_fail_allocation(std::int64_t n) {
  const Lock lock(device().mutex);
  device().fail_allocation = n;
}

FAKE_EXPORT void* fake_device_allocate(std::int32_t index, void* stream, std::uint64_t bytes) {
  return allocate(nullptr, index, stream, bytes);
}

FAKE_EXPORT void fake_device_release(std::int32_t index, void* stream, void* data) {
  release(nullptr, index, stream, data, 0);
}

FAKE_EXPORT void fake_device_copy(std::int32_t index, void* stream, std::int32_t direction, void* to, const void* from,
                                  std::uint64_t bytes) {
  if (mambasdk_status* status = copy(nullptr, index, stream, direction, to, from, bytes)) {
    const mambasdk_string message = api->status_message(status);
    std::fprintf(stderr, "fake: %.*s\n", static_cast<int>(message.size), message.data);
    std::abort();
  }
}

FAKE_EXPORT void* fake_device_create_stream(std::int32_t index) {
  void* stream = nullptr;
  return stream_create(nullptr, index, &stream) == nullptr ? stream : nullptr;
}

FAKE_EXPORT std::int32_t fake_device_synchronize(std::int32_t index, void* stream, const char** message) {
  static thread_local std::string last;
  mambasdk_status* status = synchronize(nullptr, index, stream);
  if (status == nullptr) return 0;
  const mambasdk_string said = api->status_message(status);
  last.assign(said.data, said.size);
  api->status_release(status);
  *message = last.c_str();
  return -1;
}

FAKE_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin() {
  static const mambasdk_plugin_descriptor descriptor = {sizeof descriptor,
                                                        MAMBASDK_ABI_MAJOR,
                                                        MAMBASDK_ABI_MINOR,
                                                        {"fake-device", 11},
                                                        {"1.0", 3},
                                                        {"", 0},
                                                        initialize,
                                                        {"", 0},
                                                        {"", 0}};
  return &descriptor;
}
