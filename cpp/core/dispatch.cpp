// Which kernel runs a call: by the device of its tensors and, on the CPU, by their dtypes.
#include <algorithm>

#include "core/device.hpp"
#include "core/registry.hpp"

namespace mambasdk {

namespace {

bool is_double(DType t) {
  return t == dtype::f64 || t == dtype::c128;
}

// What the tensors of a call say of it.
struct Call {
  const Tensor* placed = nullptr;  // the first tensor: the others are where it is
  bool has_double = false;         // in a variable dtype

  explicit Call(const OpCall& request) {
    for (std::size_t i = request.inputs.size(); i-- > 0;) {
      const Argument& a = request.signature.inputs[i];
      const Tensor* t = a.kind == Argument::Kind::tensor ? request.inputs[i].tensor : nullptr;
      if (t == nullptr) continue;
      placed = t;
      has_double = has_double || (a.dtype.kind == DTypeSpec::Kind::variable && is_double(t->dtype));
    }
  }
};

[[noreturn]] void refuse(const Op& op, const Call& call, bool reference_only) {
  const std::string where =
      call.placed == nullptr ? std::string("the CPU") : device_text(call.placed->device, call.placed->device_index);
  std::string there;
  for (const Device device : op.kernels.devices()) there += (there.empty() ? "" : ", ") + device_name(device);
  if (op.reference) there += there.empty() ? "the reference on the CPU" : " and the reference on the CPU";
  fail(ErrorCode::unsupported, op.signature.name, ": there is no ", reference_only ? "reference " : "", "kernel for ",
       where, "; there is: ", there,
       where == "the CPU" ? "" : "; move the tensors to the CPU, or load a plugin with a kernel for that device");
}

}  // namespace

void Op::execute(const OpCall& request, KernelChoice choice) const {
  if (check) check(request);
  // Without an element to write there is nothing to do, however large the other extents are.
  if (std::all_of(request.outputs.begin(), request.outputs.end(), [](const Tensor& t) { return t.numel() == 0; }))
    return;
  const Call call(request);
  const Device device = call.placed == nullptr ? Device::cpu : call.placed->device;
  // A device's kernel is asked for every dtype and says itself which it does not take.
  const bool reference_only = choice == KernelChoice::reference || (device == Device::cpu && call.has_double);
  if (!reference_only) {
    if (const Kernel* kernel = kernels.find(device)) return (*kernel)(request);
  }
  if (device == Device::cpu && reference) return reference(request);
  refuse(*this, call, reference_only);
}

}  // namespace mambasdk
