// The fake device as torch sees it: dispatch key PrivateUse1 with an allocator, streams and copies on fake_device.cpp.
// What torch itself computes there (sums of gradients, random numbers) goes to the CPU and back by torch's fallback.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <array>

#include "fake_device.h"
#include "mambasdk/mambasdk.h"

namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;

thread_local c10::DeviceIndex current_device = 0;
thread_local std::array<c10::StreamId, FAKE_DEVICE_COUNT> current_streams{};

void* current_stream(c10::DeviceIndex index) {
  return reinterpret_cast<void*>(current_streams[static_cast<std::size_t>(index)]);
}

void synchronize(c10::DeviceIndex index, void* stream) {
  const char* message = nullptr;
  TORCH_CHECK(fake_device_synchronize(index, stream, &message) == 0, message);
}

// ---- memory: in the order of the stream that was the current one ----

struct Block {
  c10::DeviceIndex index;
  void* stream;
  void* data;
};

void delete_block(void* context) {
  const auto* block = static_cast<Block*>(context);
  fake_device_release(block->index, block->stream, block->data);
  delete block;
}

struct FakeAllocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device device(kType, current_device);
    if (bytes == 0) return {nullptr, device};
    void* stream = current_stream(current_device);
    void* data = fake_device_allocate(current_device, stream, bytes);
    TORCH_CHECK(data != nullptr, "fake: no memory for ", bytes, " bytes");
    return {data, new Block{current_device, stream, data}, delete_block, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    fake_device_copy(current_device, current_stream(current_device), MAMBASDK_COPY_ON_DEVICE, to, from, bytes);
  }
};

FakeAllocator& allocator() {
  static FakeAllocator made;
  return made;
}
REGISTER_ALLOCATOR(kType, &allocator())

// ---- devices and streams ----

struct FakeGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kType, current_device}; }
  void setDevice(c10::Device device) const override { current_device = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current_device = device.index(); }
  c10::DeviceIndex deviceCount() const noexcept override { return FAKE_DEVICE_COUNT; }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, current_streams[static_cast<std::size_t>(device.index())]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getNewStream(c10::Device device, int) const override {
    void* made = fake_device_create_stream(device.index());
    return c10::Stream(c10::Stream::UNSAFE, device, reinterpret_cast<c10::StreamId>(made));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = getStream(stream.device());
    current_streams[static_cast<std::size_t>(stream.device_index())] = stream.id();
    return before;
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& stream) const override {
    synchronize(stream.device_index(), reinterpret_cast<void*>(stream.id()));
  }
  // Work is done in the order in which it is waited for, so an event has nothing to remember.
  void record(void**, const c10::Stream& stream, const c10::DeviceIndex, const c10::EventFlag) const override {
    synchronizeStream(stream);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, FakeGuard)

struct FakeHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

// ---- the operations that torch must have of a device ----

c10::Device device_or_current(std::optional<c10::Device> device) {
  return device && device->has_index() ? *device : c10::Device(kType, current_device);
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<c10::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device_or_current(device));
  return at::detail::empty_generic(size, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<c10::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(device_or_current(device));
  return at::detail::empty_strided_generic(
      size, stride, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}

at::Tensor as_strided(const at::Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride,
                      std::optional<std::int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

std::uint64_t span_of(const at::Tensor& t) {
  return t.numel() == 0 ? 0 : at::detail::computeStorageNbytes(t.sizes(), t.strides(), t.itemsize());
}

// On the host, with the same strides.
at::Tensor host_copy(const at::Tensor& t) {
  at::Tensor host = at::empty_strided(t.sizes(), t.strides(), t.options().device(c10::kCPU));
  if (const std::uint64_t bytes = span_of(t)) {
    void* stream = current_stream(t.device().index());
    fake_device_copy(t.device().index(), stream, MAMBASDK_COPY_FROM_DEVICE, host.mutable_data_ptr(), t.const_data_ptr(),
                     bytes);
    synchronize(t.device().index(), stream);
  }
  return host;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  if (!to.device().is_privateuseone()) {
    to.copy_(host_copy(self));
    return to;
  }
  // What lies between the elements of a strided tensor stays as it is.
  const at::Tensor host =
      to.is_contiguous() ? at::empty_strided(to.sizes(), to.strides(), to.options().device(c10::kCPU)) : host_copy(to);
  host.copy_(self.device().is_privateuseone() ? host_copy(self) : self);
  if (const std::uint64_t bytes = span_of(to)) {
    void* stream = current_stream(to.device().index());
    fake_device_copy(to.device().index(), stream, MAMBASDK_COPY_TO_DEVICE, to.mutable_data_ptr(), host.const_data_ptr(),
                     bytes);
    synchronize(to.device().index(), stream);  // `host` goes
  }
  return to;
}

const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat>) {
  at::TensorImpl* impl = self.unsafeGetTensorImpl();
  std::size_t bytes = self.itemsize();
  for (const std::int64_t extent : size) bytes *= static_cast<std::size_t>(extent);
  if (bytes + self.storage_offset() * self.itemsize() > self.storage().nbytes()) {
    const c10::DeviceGuard guard(self.device());
    self.storage().set_data_ptr(allocator().allocate(bytes));
    self.storage().set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(size);
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  if (self.sizes() != to.sizes()) to.resize_(self.sizes());
  return copy_from(self, to, false);
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", as_strided);
  m.impl("resize_", resize);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

[[maybe_unused]] const bool registered = [] {
  static FakeHooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace
