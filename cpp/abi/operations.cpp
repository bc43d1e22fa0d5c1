// The operations part of the table: list, describe, plan, call.
#include "abi/operations.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "abi/convert.hpp"
#include "core/device.hpp"
#include "core/registry.hpp"
#include "mambasdk/plugin/json.hpp"
#include "ops/builtin.hpp"

namespace mambasdk::abi {

namespace {

const Op& op_of(const mambasdk_op* op) {
  if (op == nullptr) fail(ErrorCode::invalid_argument, "the operation is NULL; op_find found none?");
  return *reinterpret_cast<const Op*>(op);
}

std::string_view name_of(const mambasdk_op* op, std::string_view otherwise) noexcept {
  return op != nullptr ? std::string_view(reinterpret_cast<const Op*>(op)->signature.name) : otherwise;
}

void add_expression(plugin::JsonWriter& w, const Signature& s, const DimExpr& e) {
  w.open('{');
  w.key("text").string(e.text);
  w.key("postfix");  // integers, dim names, operators
  w.open('[');
  for (const DimExpr::Term& term : e.terms) {
    switch (term.kind) {
      case DimExpr::Kind::constant:
        w.number(term.value);
        break;
      case DimExpr::Kind::dim:
        w.string(s.dims[static_cast<std::size_t>(term.value)]);
        break;
      default:
        w.string(operator_text(term.kind));
    }
  }
  w.close(']');
  w.close('}');
}

void add_dtype(plugin::JsonWriter& w, const Signature& s, const DTypeSpec& spec) {
  const auto variable = [&] { return s.type_variables[static_cast<std::size_t>(spec.variable)]; };
  switch (spec.kind) {
    case DTypeSpec::Kind::fixed:
      w.key("dtype").string(dtype_name(spec.fixed));
      w.key("dtype_kind").string("fixed");
      break;
    case DTypeSpec::Kind::variable:
      w.key("dtype").string(variable());
      w.key("dtype_kind").string("variable");
      break;
    case DTypeSpec::Kind::saved:
      w.key("dtype").string("saved");
      w.key("dtype_kind").string("saved");
      w.key("follows").string(variable());
      break;
    case DTypeSpec::Kind::accumulator:
      w.key("dtype").string("acc");
      w.key("dtype_kind").string("accumulator");
      w.key("follows").string(variable());
      break;
  }
}

void add_argument(plugin::JsonWriter& w, const Signature& s, const Argument& a) {
  w.open('{');
  w.key("name").string(a.name);
  switch (a.kind) {
    case Argument::Kind::tensor:
      w.key("kind").string("tensor");
      add_dtype(w, s, a.dtype);
      w.key("variadic").boolean(a.variadic);
      w.key("shape");
      w.open('[');
      for (const DimExpr& e : a.shape) add_expression(w, s, e);
      w.close(']');
      w.key("optional").boolean(a.optional);
      if (a.condition >= 0) w.key("condition").string(s.inputs[static_cast<std::size_t>(a.condition)].name);
      break;
    case Argument::Kind::boolean:
      w.key("kind").string("bool");
      if (a.has_default) w.key("default").boolean(a.default_flag);
      break;
    case Argument::Kind::integer:
      w.key("kind").string("int");
      if (a.has_default) w.key("default").number(a.default_integer);
      break;
    case Argument::Kind::real:
      w.key("kind").string("float");
      if (a.has_default && std::isfinite(a.default_real)) w.key("default").number(a.default_real);
      if (a.has_default && !std::isfinite(a.default_real)) w.key("default").string(a.default_real > 0 ? "inf" : "-inf");
      break;
  }
  w.close('}');
}

void add_arguments(plugin::JsonWriter& w, const Signature& s, std::string_view key,
                   const std::vector<Argument>& arguments) {
  w.key(key);
  w.open('[');
  for (const Argument& a : arguments) add_argument(w, s, a);
  w.close(']');
}

void add_names(plugin::JsonWriter& w, std::string_view key, const std::vector<std::string>& names) {
  w.key(key);
  w.open('[');
  for (const std::string& name : names) w.string(name);
  w.close(']');
}

std::string describe(const Op& op, const Op* backward, const std::vector<Device>& devices) {
  const Signature& s = op.signature;
  plugin::JsonWriter w;
  w.open('{');
  w.key("name").string(s.name);
  w.key("signature").string(s.text);
  w.key("doc").string(op.doc);
  w.key("origin").string(op.origin);
  add_names(w, "dims", s.dims);
  add_names(w, "type_variables", s.type_variables);
  add_arguments(w, s, "inputs", s.inputs);
  add_arguments(w, s, "outputs", s.outputs);
  w.key("rules");
  w.open('[');
  for (const DimRule& rule : s.rules) {
    w.open('{');
    w.key("dim").string(s.dims[static_cast<std::size_t>(rule.dim)]);
    w.key("value");
    add_expression(w, s, rule.value);
    w.key("if_not").string(s.inputs[static_cast<std::size_t>(rule.unless)].name);
    w.close('}');
  }
  w.close(']');
  w.key("backward");
  if (backward != nullptr) {
    w.string(backward->signature.name);
  } else {
    w.json("null");
  }
  w.key("kernels");
  w.open('[');
  for (const Device device : devices) w.string(device_name(device));
  w.close(']');
  w.key("device_types");  // of the kernels, in the same order
  w.open('[');
  for (const Device device : devices) w.number(static_cast<std::int64_t>(device));
  w.close(']');
  w.key("reference").boolean(static_cast<bool>(op.reference));
  w.close('}');
  return w.take();
}

// Arguments of one call, converted; owns the tensor views that the values point to.
struct Arguments {
  std::unique_ptr<Tensor[]> tensors;
  std::unique_ptr<Value[]> values;
  std::size_t count;
  Device device = Device::cpu;  // of the first tensor; whether the others are there too is the signature's to check
  int device_index = 0;

  Arguments(const Signature& s, const mambasdk_value* inputs, std::uint64_t n) : count(s.inputs.size()) {
    const auto may_be_left_out = [](const Argument& a) { return a.optional || a.has_default; };
    // A caller that was built before an argument was added at the end does not know it.
    require_array(inputs, n, "inputs");
    if (n > count || !std::all_of(s.inputs.begin() + static_cast<std::ptrdiff_t>(n), s.inputs.end(), may_be_left_out)) {
      fail(ErrorCode::invalid_argument, s.name, ": got ", n, " arguments, expected ", count, ": ", s.text);
    }
    static constexpr mambasdk_value kLeftOut{MAMBASDK_VALUE_NONE, 0, {}};
    tensors = std::make_unique<Tensor[]>(count);
    values = std::make_unique<Value[]>(count);
    bool placed = false;
    for (std::size_t i = 0; i < count; ++i) {
      const Argument& a = s.inputs[i];
      const mambasdk_value& v = i < n ? inputs[i] : kLeftOut;
      if (a.kind == Argument::Kind::tensor) {
        if (v.kind == MAMBASDK_VALUE_TENSOR && v.as.tensor != nullptr) {
          tensors[i] = from_abi(*v.as.tensor, s.name + ": " + a.name);
          values[i].tensor = &tensors[i];
          if (!placed) {
            device = tensors[i].device;
            device_index = tensors[i].device_index;
            placed = true;
          }
        } else if (v.kind == MAMBASDK_VALUE_NONE) {
          values[i].tensor = nullptr;
        } else {
          fail(ErrorCode::invalid_argument, s.name, ": ", a.name, " must be a tensor", a.optional ? " or none" : "");
        }
        continue;
      }
      if (v.kind == MAMBASDK_VALUE_NONE && !a.has_default) {
        fail(ErrorCode::invalid_argument, s.name, ": ", a.name, " is missing and has no default");
      }
      const bool given = v.kind != MAMBASDK_VALUE_NONE;
      if (a.kind == Argument::Kind::boolean) {
        if (given && v.kind != MAMBASDK_VALUE_BOOL)
          fail(ErrorCode::invalid_argument, s.name, ": ", a.name, " must be a bool");
        values[i].flag = given ? v.as.integer != 0 : a.default_flag;
      } else if (a.kind == Argument::Kind::integer) {
        if (given && v.kind != MAMBASDK_VALUE_INT)
          fail(ErrorCode::invalid_argument, s.name, ": ", a.name, " must be an integer");
        values[i].integer = given ? v.as.integer : a.default_integer;
      } else {
        const bool number = v.kind == MAMBASDK_VALUE_FLOAT || v.kind == MAMBASDK_VALUE_INT;
        if (given && !number) fail(ErrorCode::invalid_argument, s.name, ": ", a.name, " must be a number");
        values[i].real = !given                         ? a.default_real
                         : v.kind == MAMBASDK_VALUE_INT ? static_cast<double>(v.as.integer)
                                                        : v.as.real;
      }
    }
  }
  [[nodiscard]] std::span<const Value> span() const { return {values.get(), count}; }
};

}  // namespace

std::uint64_t op_list(const mambasdk_op** out, std::uint64_t capacity) {
  return guard_value(std::uint64_t{0}, [&] {
    const auto ops = registry().list();
    for (std::size_t i = 0; out != nullptr && i < ops.size() && i < capacity; ++i) {
      out[i] = reinterpret_cast<const mambasdk_op*>(ops[i]);
    }
    return static_cast<std::uint64_t>(ops.size());
  });
}

const mambasdk_op* op_find(mambasdk_string name) {
  return guard_value<const mambasdk_op*>(
      nullptr, [&] { return reinterpret_cast<const mambasdk_op*>(registry().find(name_or_empty(name))); });
}

mambasdk_string op_describe(const mambasdk_op* op) {
  return guard_value(mambasdk_string{"", 0}, [&] {
    static std::mutex mutex;
    // The derivative and kernels may come later; what was handed out before stays.
    static auto* texts = new std::map<std::tuple<const Op*, const Op*, std::size_t>, std::string>;
    const Op& o = op_of(op);
    const Op* backward = o.backward;
    const std::vector<Device> devices = o.kernels.devices();
    const std::lock_guard lock(mutex);
    auto& entry = (*texts)[{&o, backward, devices.size()}];
    if (entry.empty()) entry = describe(o, backward, devices);
    return view(std::string_view(entry));
  });
}

mambasdk_status* op_plan(const mambasdk_op* op, const mambasdk_value* inputs, std::uint64_t input_count,
                         mambasdk_output_plan* outputs, std::uint64_t output_count) {
  return guard(name_of(op, "op_plan"), [&] {
    const Op& o = op_of(op);
    const Arguments arguments(o.signature, inputs, input_count);
    require_array(outputs, output_count, "outputs");
    const Op::Plan plan = o.plan(arguments.span());
    if (output_count != plan.outputs.size()) {
      fail(ErrorCode::invalid_argument, o.signature.name, ": asked for ", output_count, " outputs, it has ",
           plan.outputs.size());
    }
    for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
      const Tensor& t = plan.outputs[i];
      const Argument& a = o.signature.outputs[i];
      mambasdk_output_plan& p = outputs[i];
      p = {};
      p.dtype = {t.dtype.code, t.dtype.bits, 1};
      p.ndim = t.ndim;
      p.present = 1;
      if (a.condition >= 0) {
        const auto c = static_cast<std::size_t>(a.condition);
        const bool on = o.signature.inputs[c].kind == Argument::Kind::boolean ? arguments.values[c].flag
                                                                              : arguments.values[c].tensor != nullptr;
        p.present = on ? 1 : 0;
      }
      std::copy_n(t.shape.begin(), t.ndim, p.shape);
    }
  });
}

mambasdk_status* op_call(const mambasdk_op* op, const mambasdk_context* context, const mambasdk_value* inputs,
                         std::uint64_t input_count, const mambasdk_tensor* outputs, std::uint64_t output_count,
                         std::int32_t kernel) {
  return guard(name_of(op, "op_call"), [&] {
    const Op& o = op_of(op);
    if (kernel != MAMBASDK_KERNEL_AUTOMATIC && kernel != MAMBASDK_KERNEL_REFERENCE) {
      fail(ErrorCode::invalid_argument, o.signature.name, ": kernel is ", kernel,
           ", expected 0 (automatic) or 1 (reference)");
    }
    const Arguments arguments(o.signature, inputs, input_count);
    const HostContext host(context, arguments.device, arguments.device_index);
    if (host.is_cancelled()) fail(ErrorCode::cancelled, o.signature.name, ": cancelled");
    require_array(outputs, output_count, "outputs");
    if (output_count != o.signature.outputs.size()) {
      fail(ErrorCode::invalid_argument, o.signature.name, ": got ", output_count, " outputs, expected ",
           o.signature.outputs.size());
    }
    std::vector<Tensor> made(o.signature.outputs.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      const Argument& a = o.signature.outputs[i];
      const bool absent = outputs[i].data == nullptr;
      if (!absent || outputs[i].ndim > 0) made[i] = from_abi(outputs[i], o.signature.name + ": output " + a.name);
    }
    const auto choice = kernel == MAMBASDK_KERNEL_REFERENCE ? KernelChoice::reference : KernelChoice::automatic;
    o.call(host, arguments.span(), made, choice);
  });
}

Kernel wrap_kernel(mambasdk_kernel_fn function, void* self) {
  return [function, self](const OpCall& call) {
    std::vector<mambasdk_tensor> tensors(call.inputs.size());
    std::vector<mambasdk_value> values(call.inputs.size());
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      mambasdk_value& v = values[i];
      v = {};
      switch (call.signature.inputs[i].kind) {
        case Argument::Kind::tensor:
          if (call.inputs[i].tensor == nullptr) break;
          tensors[i] = to_abi(*call.inputs[i].tensor);
          v.kind = MAMBASDK_VALUE_TENSOR;
          v.as.tensor = &tensors[i];
          break;
        case Argument::Kind::boolean:
          v.kind = MAMBASDK_VALUE_BOOL;
          v.as.integer = call.inputs[i].flag ? 1 : 0;
          break;
        case Argument::Kind::integer:
          v.kind = MAMBASDK_VALUE_INT;
          v.as.integer = call.inputs[i].integer;
          break;
        case Argument::Kind::real:
          v.kind = MAMBASDK_VALUE_FLOAT;
          v.as.real = call.inputs[i].real;
          break;
      }
    }
    std::vector<mambasdk_tensor> outputs(call.outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = to_abi(call.outputs[i]);
    const mambasdk_context context = to_abi(call.context);
    const mambasdk_op_call request{sizeof(request), &context,       values.data(),    values.size(),
                                   outputs.data(),  outputs.size(), call.dims.data(), call.dims.size()};
    if (const mambasdk_status* status = function(self, &request)) throw_status(status);
  };
}

}  // namespace mambasdk::abi
