#include "abi/convert.hpp"

#include "runtime/engine/views.hpp"

namespace mambasdk::abi {

namespace {
// Handed out when there is no memory for a real one; status_release knows it by its address.
mambasdk_status* exhausted() noexcept {
  static mambasdk_status status{MAMBASDK_ERROR_OUT_OF_MEMORY, "out of memory", "mambasdk"};
  return &status;
}
}  // namespace

mambasdk_status* make_status(std::int32_t code, std::string_view message, std::string_view origin) noexcept {
  try {
    return new mambasdk_status{code, std::string(message), std::string(origin)};
  } catch (...) {
    return exhausted();
  }
}

void release_status(mambasdk_status* status) noexcept {
  if (status != exhausted()) delete status;
}

void throw_status(const mambasdk_status* status) {
  const bool known = status->code >= MAMBASDK_ERROR_INVALID_ARGUMENT && status->code <= MAMBASDK_ERROR_INTERNAL;
  const Error error(known ? static_cast<ErrorCode>(status->code) : ErrorCode::internal, status->message);
  release_status(const_cast<mambasdk_status*>(status));
  throw error;
}

std::string_view checked_text(mambasdk_string s, std::string_view what) {
  if (s.data == nullptr && s.size > 0) {
    fail(ErrorCode::invalid_argument, what, " has ", s.size, " bytes at NULL");
  }
  return view(s);
}

Tensor from_abi(const mambasdk_tensor& t, std::string_view name) {
  if (t.ndim < 0 || t.ndim > kMaxDims) {
    fail(ErrorCode::invalid_argument, name, " has ", t.ndim, " dims; at most ", kMaxDims, " are supported");
  }
  if (t.dtype.lanes != 1) fail(ErrorCode::invalid_argument, name, ": dtype has ", t.dtype.lanes, " lanes, expected 1");
  if (t.ndim > 0 && t.shape == nullptr) fail(ErrorCode::invalid_argument, name, " has no shape");
  for (int d = 0; d < t.ndim; ++d) {
    if (t.shape[d] < 0) fail(ErrorCode::invalid_argument, name, " has a negative extent");
  }
  Tensor out = Tensor::contiguous(t.data, {t.dtype.code, t.dtype.bits}, t.shape, t.ndim);
  if (t.data != nullptr) out.data = static_cast<std::byte*>(t.data) + t.byte_offset;
  out.device = static_cast<Device>(t.device.type);
  if (t.strides != nullptr) std::copy_n(t.strides, t.ndim, out.strides.begin());
  if (out.data == nullptr && out.numel() > 0) fail(ErrorCode::invalid_argument, name, " has no data");
  return out;
}

mambasdk_tensor to_abi(const Tensor& t) {
  return {t.data,
          {static_cast<std::int32_t>(t.device), 0},
          t.ndim,
          {t.dtype.code, t.dtype.bits, 1},
          const_cast<std::int64_t*>(t.shape.data()),
          const_cast<std::int64_t*>(t.strides.data()),
          0};
}

namespace {

// Owns what a returned tensor points to.
struct ManagedOutput {
  mambasdk_managed_tensor managed{};
  runtime::OwnedTensor owned;
};

}  // namespace

runtime::OwnedTensor take_tensor(mambasdk_managed_tensor* tensor, std::string_view name) {
  if (tensor == nullptr) fail(ErrorCode::invalid_argument, name, " is NULL, expected a tensor");
  // Owned from here on, whatever fails.
  const std::shared_ptr<mambasdk_managed_tensor> owner(tensor, [](mambasdk_managed_tensor* t) {
    if (t->deleter != nullptr) t->deleter(t);
  });
  runtime::OwnedTensor out;
  out.view = from_abi(tensor->tensor, name);
  if (out.view.is_contiguous()) {
    out.memory = std::shared_ptr<std::byte[]>(owner, static_cast<std::byte*>(out.view.data));
    return out;
  }
  if (out.view.device != Device::cpu) {
    fail(ErrorCode::unsupported, name, " is strided and not in the CPU's memory; make it contiguous");
  }
  auto copy = runtime::OwnedTensor::allocate(out.view.dtype, out.view.shape.data(), out.view.ndim);
  runtime::copy_strided(out.view, copy.view.data);
  return copy;
}

mambasdk_managed_tensor* hand_out(runtime::OwnedTensor owned) {
  auto* out = new ManagedOutput;
  out->owned = std::move(owned);
  out->managed.dlpack_major = 1;
  out->managed.dlpack_minor = 0;
  out->managed.manager = out;
  out->managed.deleter = [](mambasdk_managed_tensor* self) { delete static_cast<ManagedOutput*>(self->manager); };
  out->managed.tensor = to_abi(out->owned.view);
  return &out->managed;
}

std::vector<runtime::NamedTensor> named_from_abi(const mambasdk_named_tensor* inputs, std::uint64_t count) {
  if (count > 0 && inputs == nullptr) fail(ErrorCode::invalid_argument, "inputs is NULL");
  std::vector<runtime::NamedTensor> named;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view name = checked_text(inputs[i].name, "an input's name");
    if (inputs[i].tensor == nullptr) fail(ErrorCode::invalid_argument, "input ", name, " is NULL");
    named.push_back({name, from_abi(*inputs[i].tensor, name)});
  }
  return named;
}

NamedToAbi::NamedToAbi(std::span<const runtime::NamedTensor> named) {
  tensors_.reserve(named.size());
  named_.reserve(named.size());
  for (const runtime::NamedTensor& n : named) {
    tensors_.push_back(to_abi(n.tensor));
    named_.push_back({view(n.name), &tensors_.back()});
  }
}

HostContext::HostContext(const mambasdk_context* host) {
  if (host == nullptr) return;
  if (host->struct_size < sizeof(std::uint64_t)) fail(ErrorCode::invalid_argument, "context.struct_size is not set");
  std::memcpy(&host_, host, std::min<std::size_t>(sizeof(host_), static_cast<std::size_t>(host->struct_size)));
}

Parallel HostContext::parallel() const {
  if (host_.parallel_for == nullptr) return default_context().parallel();
  return {const_cast<HostContext*>(this),
          [](void* self, std::int64_t n, std::int64_t grain, Parallel::Body body, void* arg) {
            const mambasdk_context& host = static_cast<HostContext*>(self)->host_;
            host.parallel_for(host.user, n, grain, body, arg);
          }};
}

Device HostContext::device() const noexcept {
  return host_.device.type == 0 ? Device::cpu : static_cast<Device>(host_.device.type);
}

void* HostContext::allocate(std::size_t bytes) const {
  if (host_.allocate == nullptr) return default_context().allocate(bytes);
  void* data = host_.allocate(host_.user, bytes, 64);
  if (data == nullptr) fail(ErrorCode::out_of_memory, "the host's allocator refused ", bytes, " bytes");
  return data;
}

void HostContext::release(void* data, std::size_t bytes) const noexcept {
  if (host_.allocate == nullptr) return default_context().release(data, bytes);
  if (host_.release != nullptr) host_.release(host_.user, data, bytes);
}

bool HostContext::is_cancelled() const noexcept {
  return host_.is_cancelled != nullptr && host_.is_cancelled(host_.user) != 0;
}

mambasdk_context to_abi(const Context& context, Device device) {
  mambasdk_context c{};
  c.struct_size = sizeof(c);
  c.device = {static_cast<std::int32_t>(device), device == context.device() ? context.device_index() : 0};
  c.stream = context.stream();
  c.user = const_cast<Context*>(&context);
  c.parallel_for = [](void* user, std::int64_t n, std::int64_t grain, mambasdk_range_fn fn, void* arg) {
    const Parallel parallel = static_cast<const Context*>(user)->parallel();
    parallel.run(parallel.self, n, grain, fn, arg);
  };
  c.allocate = [](void* user, std::uint64_t bytes, std::uint64_t) -> void* {
    try {
      return static_cast<const Context*>(user)->allocate(static_cast<std::size_t>(bytes));
    } catch (...) {
      return nullptr;
    }
  };
  c.release = [](void* user, void* data, std::uint64_t bytes) {
    static_cast<const Context*>(user)->release(data, static_cast<std::size_t>(bytes));
  };
  c.is_cancelled = [](void* user) -> std::int32_t { return static_cast<const Context*>(user)->is_cancelled() ? 1 : 0; };
  return c;
}

}  // namespace mambasdk::abi
