#include "abi/convert.hpp"

#include "runtime/engine/memory_limit.hpp"
#include "runtime/engine/views.hpp"
#include "runtime/package/json.hpp"

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
  // Released also where there is no memory for the Error.
  const std::unique_ptr<mambasdk_status, decltype(&release_status)> owned(const_cast<mambasdk_status*>(status),
                                                                          &release_status);
  const bool known = status->code >= MAMBASDK_ERROR_INVALID_ARGUMENT && status->code <= MAMBASDK_ERROR_INTERNAL;
  throw Error(known ? static_cast<ErrorCode>(status->code) : ErrorCode::internal, status->message);
}

std::string_view checked_text(mambasdk_string s, std::string_view what) {
  if (s.data == nullptr && s.size > 0) {
    fail(ErrorCode::invalid_argument, what, " has ", s.size, " bytes at NULL");
  }
  if (s.size > kMostBytes) {
    fail(ErrorCode::invalid_argument, what, " has ", s.size, " bytes, more than any memory holds; was the size set?");
  }
  return view(s);
}

std::string_view checked_path(mambasdk_string s, std::string_view what) {
  const std::string_view text = checked_text(s, what);
  if (text.find('\0') != text.npos) fail(ErrorCode::invalid_argument, what, " has a NUL inside");
  return text;
}

bool shown(std::int32_t answer) {
  if (answer == MAMBASDK_TEXT_FAILED) fail(ErrorCode::cancelled, "on_text failed; the session is as it was");
  return answer == 0;
}

Tensor from_abi(const mambasdk_tensor& t, std::string_view name) {
  if (t.ndim < 0 || t.ndim > kMaxDims) {
    fail(ErrorCode::invalid_argument, name, " has ", t.ndim, " dims; at most ", kMaxDims, " are supported");
  }
  if (t.dtype.lanes != 1) fail(ErrorCode::invalid_argument, name, ": dtype has ", t.dtype.lanes, " lanes, expected 1");
  if (t.ndim > 0 && t.shape == nullptr) fail(ErrorCode::invalid_argument, name, " has no shape");
  for (int d = 0; d < t.ndim; ++d) {
    if (t.shape[d] < 0) fail(ErrorCode::invalid_argument, name, " has the negative extent ", t.shape[d], " at ", d);
  }
  if (t.byte_offset > kMostBytes) {
    fail(ErrorCode::invalid_argument, name, " has a byte_offset of ", t.byte_offset, ", more than any memory holds");
  }
  Tensor out;
  out.dtype = {t.dtype.code, t.dtype.bits};
  if (find_dtype(out.dtype) == nullptr) {
    fail(ErrorCode::invalid_argument, name, " has elements of ", dtype_name(out.dtype),
         ", a type that this mambasdk lacks");
  }
  out.ndim = t.ndim;
  std::copy_n(t.shape, t.ndim, out.shape.begin());
  if (t.strides != nullptr) std::copy_n(t.strides, t.ndim, out.strides.begin());
  if (!out.is_addressable()) {
    fail(ErrorCode::invalid_argument, name, " is ", out.shape_text(), " ", dtype_name(out.dtype),
         ", expected extents and strides that span less than 2^63 bytes");
  }
  if (t.strides == nullptr) out.strides = Tensor::contiguous(nullptr, out.dtype, t.shape, t.ndim).strides;
  if (t.data != nullptr) out.data = static_cast<std::byte*>(t.data) + t.byte_offset;
  out.device = static_cast<Device>(t.device.type);
  // The CPU is one, however a library numbers it.
  out.device_index = out.device == Device::cpu ? 0 : t.device.index;
  if (runtime::dense_bytes(out) > Extent(kMostBytes)) {
    fail(ErrorCode::invalid_argument, name, " is ", out.shape_text(), ", larger than any memory");
  }
  if (out.data == nullptr && out.numel() > 0) fail(ErrorCode::invalid_argument, name, " has no data");
  return out;
}

mambasdk_tensor to_abi(const Tensor& t) {
  return {t.data,
          {static_cast<std::int32_t>(t.device), t.device_index},
          t.ndim,
          {t.dtype.code, t.dtype.bits, 1},
          const_cast<std::int64_t*>(t.shape.data()),
          const_cast<std::int64_t*>(t.strides.data()),
          0};
}

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

// Owns what a returned tensor points to.
struct Outputs::Managed {
  mambasdk_managed_tensor tensor{};
  runtime::OwnedTensor owned;
};

Outputs::Outputs(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) managed_.push_back(std::make_unique<Managed>());
}

Outputs::~Outputs() = default;

void Outputs::hand_out(std::vector<runtime::OwnedTensor> made, mambasdk_managed_tensor** outputs) noexcept {
  for (std::size_t i = 0; i < made.size(); ++i) {
    Managed* out = managed_[i].release();
    out->owned = std::move(made[i]);
    out->tensor.dlpack_major = 1;
    out->tensor.dlpack_minor = 0;
    out->tensor.manager = out;
    out->tensor.deleter = [](mambasdk_managed_tensor* self) { delete static_cast<Managed*>(self->manager); };
    out->tensor.tensor = to_abi(out->owned.view);
    outputs[i] = &out->tensor;
  }
}

std::vector<runtime::NamedTensor> named_from_abi(const mambasdk_named_tensor* inputs, std::uint64_t count) {
  require_array(inputs, count, "inputs");
  std::vector<runtime::NamedTensor> named;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view name = checked_text(inputs[i].name, "an input's name");
    if (inputs[i].tensor == nullptr) fail(ErrorCode::invalid_argument, "input ", runtime::printable(name), " is NULL");
    named.push_back({name, from_abi(*inputs[i].tensor, concat("input ", runtime::printable(name)))});
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
  host_ = read_options(host, sizeof(std::uint64_t), "context");
}

HostContext::HostContext(const mambasdk_context* host, Device device, int index) : HostContext(host) {
  if (host_.device.type == 0) {
    host_.device = {static_cast<std::int32_t>(device), index};
  } else if (this->device() != device || (device != Device::cpu && device_index() != index)) {
    fail(ErrorCode::invalid_argument, "the tensors are on ", device_text(device, index), ", the context is of ",
         device_text(this->device(), device_index()), "; give a context of the tensors' device, or move them");
  }
}

HostContext::~HostContext() {
  if (owns_stream_) find_device(device())->release_stream(device_index(), host_.stream);
}

void HostContext::make_stream() {
  if (device() == Device::cpu || host_.stream != nullptr) return;
  const Place at = Place::at(device(), device_index(), nullptr);
  host_.stream = at.device->make_stream(at.index);
  owns_stream_ = host_.stream != nullptr;
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
  if (host_.allocate == nullptr && device() != Device::cpu) {
    const DeviceBackend* found = find_device(device());
    if (found == nullptr) found = Place::at(device(), device_index(), nullptr).device;  // says what there is
    return found->allocate(device_index(), stream(), bytes);
  }
  if (host_.allocate == nullptr) return default_context().allocate(bytes);
  void* data = host_.allocate(host_.user, bytes, 64);
  if (data == nullptr) fail(ErrorCode::out_of_memory, "the host's allocator refused ", bytes, " bytes");
  return data;
}

void HostContext::release(void* data, std::size_t bytes) const noexcept {
  if (host_.allocate == nullptr && device() != Device::cpu) {
    return find_device(device())->release(device_index(), stream(), data, bytes);
  }
  if (host_.allocate == nullptr) return default_context().release(data, bytes);
  if (host_.release != nullptr) host_.release(host_.user, data, bytes);
}

bool HostContext::is_cancelled() const noexcept {
  return host_.is_cancelled != nullptr && host_.is_cancelled(host_.user) != 0;
}

mambasdk_context to_abi(const Context& context) {
  mambasdk_context c{};
  c.struct_size = sizeof(c);
  c.device = {static_cast<std::int32_t>(context.device()), context.device_index()};
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
