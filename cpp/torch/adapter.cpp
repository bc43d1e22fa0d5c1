// The adapter to PyTorch: every operation of the registry becomes the torch operator mambasdk::<name>, with one boxed
// kernel for all of them under the dispatch key of each device that the registry has a kernel for. Shapes, dtypes and
// devices are checked by libmambasdk; memory, streams and threads are torch's.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "devices.hpp"
#include "dtypes.hpp"
#include "mambasdk/mambasdk.h"
#include "operation.hpp"
#include "pages.hpp"
#include "shim.hpp"

namespace mambasdk::torch_adapter {

namespace {

constexpr std::size_t max_operations = 512;

const mambasdk_api& api() {
  static const mambasdk_api* table = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  if (table == nullptr) throw std::runtime_error("libmambasdk_torch: libmambasdk.so.1 is older than this adapter");
  return *table;
}

thread_local std::int32_t kernel_choice = MAMBASDK_KERNEL_AUTOMATIC;

// Filled under `registration`; entries are published before torch learns the operator's name, and never change.
std::deque<Operation>& operations() {
  static std::deque<Operation> all;
  return all;
}
std::array<const Operation*, max_operations> table{};
std::mutex registration;

// ---- one call ----

std::string text(mambasdk_string s) {
  return std::string(s.data, s.size);
}

// This thread's last failure: torch tells Python the message of an exception but, since 2.15, not its type.
struct Failure {
  std::int32_t code = 0;
  std::string message;
};
thread_local Failure last_failure;

void raise(mambasdk_status* status) {
  if (status == nullptr) return;
  const std::int32_t code = api().status_code(status);
  std::string message = text(api().status_message(status));
  api().status_release(status);
  last_failure = {code, message};
  if (code == MAMBASDK_ERROR_INVALID_ARGUMENT) throw std::invalid_argument(message);
  if (code == MAMBASDK_ERROR_OUT_OF_MEMORY) throw std::bad_alloc();
  throw std::runtime_error(message);
}

[[noreturn]] void refuse(const std::string& message) {
  last_failure = {MAMBASDK_ERROR_INVALID_ARGUMENT, message};
  throw std::invalid_argument(message);
}

// The arguments of one call. Owns the handles that torch put on the stack, whatever happens.
class Arguments {
 public:
  Arguments(const Operation& operation, StableIValue* stack) : operation_(operation) {
    const std::size_t count = operation.inputs.size();
    handles_.reserve(count);
    // First take everything, so that a failure below leaks nothing.
    for (std::size_t i = 0; i < count; ++i) {
      const Parameter& parameter = operation.inputs[i];
      if (parameter.kind != MAMBASDK_VALUE_TENSOR) {
        handles_.emplace_back();
      } else {
        handles_.emplace_back(parameter.optional ? take_optional(stack[i]) : handle_of(stack[i]));
      }
    }
    values_.resize(count);
    tensors_.resize(count);
    for (std::size_t i = 0; i < count; ++i) convert(i, stack[i]);
  }

  [[nodiscard]] const mambasdk_value* values() const { return values_.data(); }
  [[nodiscard]] std::uint64_t size() const { return values_.size(); }
  // Where the first tensor is; libmambasdk checks that the others are there too.
  [[nodiscard]] mambasdk_device device() const { return device_; }

 private:
  static AtenTensorHandle handle_of(StableIValue value) { return reinterpret_cast<AtenTensorHandle>(value); }

  static AtenTensorHandle take_optional(StableIValue value) {
    auto* cell = reinterpret_cast<StableIValue*>(value);
    if (cell == nullptr) return nullptr;
    const AtenTensorHandle handle = handle_of(*cell);
    if (shim().torch_delete_stable_ivalue != nullptr) {
      shim().torch_delete_stable_ivalue(cell);
    } else {
      delete cell;
    }
    return handle;
  }

  void convert(std::size_t i, StableIValue raw) {
    const Parameter& parameter = operation_.inputs[i];
    mambasdk_value& value = values_[i];
    value = {};
    value.kind = parameter.kind;
    switch (parameter.kind) {
      case MAMBASDK_VALUE_BOOL:
        value.as.integer = (raw & 0xff) != 0 ? 1 : 0;
        break;
      case MAMBASDK_VALUE_INT:
        value.as.integer = static_cast<std::int64_t>(raw);
        break;
      case MAMBASDK_VALUE_FLOAT:
        value.as.real = real(parameter, raw);
        break;
      default:
        tensor(i);
        break;
    }
  }

  static double real(const Parameter& parameter, StableIValue raw) {
    double value = 0;
    static_assert(sizeof(value) == sizeof(raw));
    std::memcpy(&value, &raw, sizeof(value));
    constexpr double largest = std::numeric_limits<double>::max();
    if (parameter.infinite && (value == largest || value == -largest)) value *= 2;
    return value;
  }

  void tensor(std::size_t i) {
    const Shim& s = shim();
    const AtenTensorHandle handle = handles_[i].get();
    bool defined = false;
    if (handle != nullptr) check(s.aoti_torch_is_defined(handle, &defined), "inspect a tensor");
    if (!defined) {
      values_[i].kind = MAMBASDK_VALUE_NONE;
      return;
    }
    mambasdk_tensor& t = tensors_[i];
    t = {};
    std::int64_t ndim = 0;
    std::int32_t dtype = 0;
    std::int32_t device_type = 0;
    std::int32_t device_index = 0;
    const void* data = nullptr;
    check(s.aoti_torch_get_dim(handle, &ndim), "read a tensor's rank");
    check(s.aoti_torch_get_sizes(handle, &t.shape), "read a tensor's sizes");
    check(s.aoti_torch_get_strides(handle, &t.strides), "read a tensor's strides");
    check(s.aoti_torch_get_dtype(handle, &dtype), "read a tensor's dtype");
    check(s.aoti_torch_get_device_type(handle, &device_type), "read a tensor's device");
    check(s.aoti_torch_get_device_index(handle, &device_index), "read a tensor's device");
    check(s.torch_get_const_data_ptr(handle, &data), "read a tensor's memory");
    t.ndim = static_cast<std::int32_t>(ndim);
    t.data = const_cast<void*>(data);  // inputs are read only
    t.dtype = dlpack_dtype(i, dtype);
    const auto device = device_of(device_type, device_index);
    if (!device) {
      refuse(operation_.name + ": " + operation_.inputs[i].name +
             " is on a device that no plugin can have kernels for; move it with .cpu()");
    }
    t.device = *device;
    values_[i].as.tensor = &t;
    if (!placed_) device_ = t.device;
    placed_ = true;
  }

  [[nodiscard]] mambasdk_dtype dlpack_dtype(std::size_t i, std::int32_t dtype) const {
    mambasdk_dtype known{};
    if (dtype_of_torch(dtype, known)) return known;
    refuse(operation_.name + ": " + operation_.inputs[i].name +
           " has a dtype that no operation takes; expected one of " + computed_dtypes());
  }

  const Operation& operation_;
  std::vector<TensorHandle> handles_;
  std::vector<mambasdk_tensor> tensors_;
  std::vector<mambasdk_value> values_;
  mambasdk_device device_ = cpu_device;
  bool placed_ = false;
};

TensorHandle empty(const mambasdk_output_plan& plan, mambasdk_device device) {
  std::array<std::int64_t, MAMBASDK_MAX_DIMS> strides{};
  std::int64_t stride = 1;
  for (int d = plan.ndim - 1; d >= 0; --d) {
    const auto i = static_cast<std::size_t>(d);
    strides[i] = stride;
    stride *= std::max<std::int64_t>(plan.shape[i], 1);
  }
  AtenTensorHandle handle = nullptr;
  const Shim& s = shim();
  check(s.aoti_torch_empty_strided(plan.ndim, plan.shape, strides.data(), torch_dtype(plan.dtype),
                                   torch_type(device.type), device.index, &handle),
        "allocate an output");
  return TensorHandle(handle);
}

std::uint64_t bytes_of(const mambasdk_output_plan& plan) {
  std::uint64_t count = 1;
  for (int d = 0; d < plan.ndim; ++d) count *= static_cast<std::uint64_t>(plan.shape[d]);
  return count * plan.dtype.bits / 8;
}

void call(const Operation& operation, StableIValue* stack, std::uint64_t input_count, std::uint64_t output_count) {
  if (input_count != operation.inputs.size() || output_count != operation.output_count) {
    throw std::runtime_error("libmambasdk_torch: the schema of " + operation.name + " changed after registration");
  }
  const Arguments arguments(operation, stack);
  std::vector<mambasdk_output_plan> plans(output_count);
  raise(api().op_plan(operation.op, arguments.values(), arguments.size(), plans.data(), output_count));

  const mambasdk_device device = arguments.device();
  const bool on_cpu = device.type == cpu_device.type;
  std::optional<DeviceContext> device_context;
  if (!on_cpu) device_context.emplace(device);
  std::vector<TensorHandle> outputs;
  std::vector<mambasdk_tensor> views(output_count);
  outputs.reserve(output_count);
  for (std::size_t i = 0; i < output_count; ++i) {
    outputs.push_back(empty(plans[i], device));
    mambasdk_tensor& view = views[i];
    view = {};
    view.device = device;
    view.ndim = plans[i].ndim;
    view.dtype = plans[i].dtype;
    view.shape = plans[i].shape;
    if (plans[i].present != 0) {
      check(shim().torch_get_mutable_data_ptr(outputs.back().get(), &view.data), "read an output's memory");
      if (on_cpu) prefer_large_pages(view.data, bytes_of(plans[i]));
    }
  }
  raise(api().op_call(operation.op, on_cpu ? cpu_context() : device_context->get(), arguments.values(),
                      arguments.size(), views.data(), output_count, kernel_choice));
  for (std::size_t i = 0; i < output_count; ++i) stack[i] = reinterpret_cast<StableIValue>(outputs[i].release());
}

// ---- registration: a boxed kernel has no closure, so each operation gets a function of its own ----

using BoxedKernel = void (*)(StableIValue*, std::uint64_t, std::uint64_t);

template <std::size_t I>
void boxed(StableIValue* stack, std::uint64_t input_count, std::uint64_t output_count) {
  call(*table[I], stack, input_count, output_count);
}

template <std::size_t... I>
constexpr std::array<BoxedKernel, sizeof...(I)> trampolines(std::index_sequence<I...>) {
  return {boxed<I>...};
}
constexpr auto kernels = trampolines(std::make_index_sequence<max_operations>{});

// Deleting a library withdraws its operators, so the handles live as long as the process.
TorchLibraryHandle definitions() {
  static const TorchLibraryHandle opened = [] {
    TorchLibraryHandle handle = nullptr;
    check(shim().aoti_torch_library_init_fragment("mambasdk", __FILE_NAME__, __LINE__, &handle), "open the library");
    return handle;
  }();
  return opened;
}

// Under `registration`.
TorchLibraryHandle implementations(const char* key) {
  static std::map<std::string, TorchLibraryHandle> opened;
  TorchLibraryHandle& handle = opened[key];
  if (handle == nullptr) {
    check(shim().aoti_torch_library_init_impl("mambasdk", key, __FILE_NAME__, __LINE__, &handle), "open the library");
  }
  return handle;
}

std::size_t index_of(const mambasdk_op* op) {
  const auto& all = operations();
  const auto found = std::find_if(all.begin(), all.end(), [op](const Operation& o) { return o.op == op; });
  return static_cast<std::size_t>(found - all.begin());
}

void define(const mambasdk_op* op, const char* description) {
  const std::size_t index = operations().size();
  Operation operation = parse_operation(op, description);
  if (index == max_operations) {
    throw std::runtime_error("libmambasdk_torch: " + operation.name + " is operation " +
                             std::to_string(max_operations + 1) + ", expected at most " +
                             std::to_string(max_operations));
  }
  operations().push_back(std::move(operation));
  table[index] = &operations().back();
  check(shim().aoti_torch_library_def(definitions(), table[index]->schema.c_str()), "define an operator");
}

// One boxed kernel for every device: the tensors say where they are.
void implement(std::size_t index, std::int32_t device_type) {
  Operation& operation = operations()[index];
  auto& there = operation.device_types;
  const char* key = dispatch_key(device_type);
  if (key == nullptr || std::find(there.begin(), there.end(), device_type) != there.end()) return;
  check(shim().torch_library_impl(implementations(key), operation.name.c_str(), kernels[index], TORCH_FEATURE_VERSION),
        "register a kernel");
  there.push_back(device_type);
}

void register_new() {
  const std::lock_guard lock(registration);
  std::vector<const mambasdk_op*> ops(api().op_list(nullptr, 0));
  ops.resize(std::min<std::uint64_t>(api().op_list(ops.data(), ops.size()), ops.size()));
  for (const mambasdk_op* op : ops) {
    const char* description = api().op_describe(op).data;
    const std::size_t index = index_of(op);
    if (index == operations().size()) define(op, description);
    Operation& operation = operations()[index];
    if (operation.description == description && !operation.device_types.empty()) continue;
    operation.description = description;
    implement(index, cpu_device.type);  // where there is the reference alone, it runs on the CPU
    for (const std::int32_t type : kernel_device_types(description)) implement(index, type);
  }
}

}  // namespace

}  // namespace mambasdk::torch_adapter

// ---- C entries, called once by mambasdk.ops (or by a C++ host that runs exported programs) ----

namespace adapter = mambasdk::torch_adapter;

extern "C" {

// Registers every operation and every device's kernel that torch does not know yet; call it again after a plugin
// brought more. Returns how many operations there are, or -1: then *message says why and stays valid until the next
// call on this thread.
MAMBASDK_EXPORT std::int64_t mambasdk_torch_register(const char** message) {
  static thread_local std::string last;
  try {
    adapter::register_new();
    return static_cast<std::int64_t>(adapter::operations().size());
  } catch (const std::exception& error) {
    last = error.what();
    *message = last.c_str();
    return -1;
  }
}

// The registry's JSON of operation `index` as of the last registration, in order of registration; NULL past the last.
MAMBASDK_EXPORT const char* mambasdk_torch_describe(std::int64_t index) {
  const std::lock_guard lock(adapter::registration);
  const auto& all = adapter::operations();
  if (index < 0 || index >= static_cast<std::int64_t>(all.size())) return nullptr;
  return all[static_cast<std::size_t>(index)].description;
}

// Which kernel this thread's calls take from now on (MAMBASDK_KERNEL_*); returns what it was.
MAMBASDK_EXPORT std::int32_t mambasdk_torch_choose_kernel(std::int32_t kernel) {
  return std::exchange(adapter::kernel_choice, kernel);
}

// MAMBASDK_ERROR_* of the last call on this thread that failed, 0 when none did; *message stays valid until the next.
MAMBASDK_EXPORT std::int32_t mambasdk_torch_last_failure(const char** message) {
  *message = adapter::last_failure.message.c_str();
  return adapter::last_failure.code;
}

}  // extern "C"
