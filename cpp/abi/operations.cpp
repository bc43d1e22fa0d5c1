// The operations part of the table: list, describe, plan, call.
#include "abi/operations.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <tuple>

#include "abi/convert.hpp"
#include "core/registry.hpp"
#include "ops/builtin.hpp"

namespace mambasdk::abi {

namespace {

using Json = nlohmann::ordered_json;

const Op& op_of(const mambasdk_op* op) {
  if (op == nullptr) fail(ErrorCode::invalid_argument, "the operation is NULL; op_find found none?");
  return *reinterpret_cast<const Op*>(op);
}

Json expression_json(const Signature& s, const DimExpr& e) {
  Json terms = Json::array();  // postfix: integers, dim names, operators
  for (const DimExpr::Term& term : e.terms) {
    switch (term.kind) {
      case DimExpr::Kind::constant:
        terms.push_back(term.value);
        break;
      case DimExpr::Kind::dim:
        terms.push_back(s.dims[static_cast<std::size_t>(term.value)]);
        break;
      case DimExpr::Kind::add:
        terms.push_back("+");
        break;
      case DimExpr::Kind::subtract:
        terms.push_back("-");
        break;
      case DimExpr::Kind::multiply:
        terms.push_back("*");
        break;
      case DimExpr::Kind::floor_divide:
        terms.push_back("//");
        break;
    }
  }
  return {{"text", e.text}, {"postfix", terms}};
}

Json argument_json(const Signature& s, const Argument& a) {
  Json j = {{"name", a.name}};
  switch (a.kind) {
    case Argument::Kind::tensor: {
      j["kind"] = "tensor";
      j["dtype"] = a.dtype.kind == DTypeSpec::Kind::fixed ? std::string(dtype_name(a.dtype.fixed))
                   : a.dtype.kind == DTypeSpec::Kind::variable
                       ? s.type_variables[static_cast<std::size_t>(a.dtype.variable)]
                       : std::string("acc");
      j["dtype_kind"] = a.dtype.kind == DTypeSpec::Kind::fixed      ? "fixed"
                        : a.dtype.kind == DTypeSpec::Kind::variable ? "variable"
                                                                    : "accumulator";
      if (a.dtype.kind == DTypeSpec::Kind::accumulator) {
        j["follows"] = s.type_variables[static_cast<std::size_t>(a.dtype.variable)];
      }
      j["variadic"] = a.variadic;
      Json shape = Json::array();
      for (const DimExpr& e : a.shape) shape.push_back(expression_json(s, e));
      j["shape"] = shape;
      j["optional"] = a.optional;
      if (a.condition >= 0) j["condition"] = s.inputs[static_cast<std::size_t>(a.condition)].name;
      break;
    }
    case Argument::Kind::boolean:
      j["kind"] = "bool";
      if (a.has_default) j["default"] = a.default_flag;
      break;
    case Argument::Kind::integer:
      j["kind"] = "int";
      if (a.has_default) j["default"] = a.default_integer;
      break;
    case Argument::Kind::real:
      j["kind"] = "float";
      if (a.has_default && std::isfinite(a.default_real)) j["default"] = a.default_real;
      if (a.has_default && !std::isfinite(a.default_real)) j["default"] = a.default_real > 0 ? "inf" : "-inf";
      break;
  }
  return j;
}

std::string describe(const Op& op, const Op* backward, const std::vector<Device>& devices) {
  const Signature& s = op.signature;
  Json j = {{"name", s.name}, {"signature", s.text}, {"doc", op.doc}, {"origin", op.origin}};
  j["dims"] = s.dims;
  j["type_variables"] = s.type_variables;
  j["inputs"] = Json::array();
  for (const Argument& a : s.inputs) j["inputs"].push_back(argument_json(s, a));
  j["outputs"] = Json::array();
  for (const Argument& a : s.outputs) j["outputs"].push_back(argument_json(s, a));
  j["rules"] = Json::array();
  for (const DimRule& rule : s.rules) {
    j["rules"].push_back({{"dim", s.dims[static_cast<std::size_t>(rule.dim)]},
                          {"value", expression_json(s, rule.value)},
                          {"if_not", s.inputs[static_cast<std::size_t>(rule.unless)].name}});
  }
  j["backward"] = backward != nullptr ? Json(backward->signature.name) : Json(nullptr);
  j["kernels"] = Json::array();
  for (const Device device : devices) j["kernels"].push_back(device == Device::cpu ? "cpu" : "cuda");
  j["reference"] = static_cast<bool>(op.reference);
  return j.dump();
}

// Arguments of one call, converted; owns the tensor views that the values point to.
struct Arguments {
  std::unique_ptr<Tensor[]> tensors;
  std::unique_ptr<Value[]> values;
  std::size_t count;

  Arguments(const Signature& s, const mambasdk_value* inputs, std::uint64_t n) : count(s.inputs.size()) {
    const auto may_be_left_out = [](const Argument& a) { return a.optional || a.has_default; };
    // A caller that was built before an argument was added at the end does not know it.
    if (n > count || !std::all_of(s.inputs.begin() + static_cast<std::ptrdiff_t>(n), s.inputs.end(), may_be_left_out)) {
      fail(ErrorCode::invalid_argument, s.name, ": got ", n, " arguments, expected ", count, ": ", s.text);
    }
    static constexpr mambasdk_value kLeftOut{MAMBASDK_VALUE_NONE, 0, {}};
    tensors = std::make_unique<Tensor[]>(count);
    values = std::make_unique<Value[]>(count);
    for (std::size_t i = 0; i < count; ++i) {
      const Argument& a = s.inputs[i];
      const mambasdk_value& v = i < n ? inputs[i] : kLeftOut;
      if (a.kind == Argument::Kind::tensor) {
        if (v.kind == MAMBASDK_VALUE_TENSOR && v.as.tensor != nullptr) {
          tensors[i] = from_abi(*v.as.tensor, s.name + ": " + a.name);
          values[i].tensor = &tensors[i];
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
  const auto ops = registry().list();
  for (std::size_t i = 0; i < ops.size() && i < capacity; ++i) out[i] = reinterpret_cast<const mambasdk_op*>(ops[i]);
  return ops.size();
}

const mambasdk_op* op_find(mambasdk_string name) {
  return reinterpret_cast<const mambasdk_op*>(registry().find(view(name)));
}

mambasdk_string op_describe(const mambasdk_op* op) {
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
}

mambasdk_status* op_plan(const mambasdk_op* op, const mambasdk_value* inputs, std::uint64_t input_count,
                         mambasdk_output_plan* outputs, std::uint64_t output_count) {
  return guard(op != nullptr ? op_of(op).signature.name : "op_plan", [&] {
    const Op& o = op_of(op);
    const Arguments arguments(o.signature, inputs, input_count);
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
  return guard(op != nullptr ? op_of(op).signature.name : "op_call", [&] {
    const Op& o = op_of(op);
    const HostContext host(context);
    if (host.is_cancelled()) fail(ErrorCode::cancelled, o.signature.name, ": cancelled");
    const Arguments arguments(o.signature, inputs, input_count);
    std::vector<Tensor> made(output_count);
    for (std::size_t i = 0; i < output_count && i < o.signature.outputs.size(); ++i) {
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
    Device device = Device::cpu;
    std::vector<mambasdk_tensor> tensors(call.inputs.size());
    std::vector<mambasdk_value> values(call.inputs.size());
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      mambasdk_value& v = values[i];
      v = {};
      switch (call.signature.inputs[i].kind) {
        case Argument::Kind::tensor:
          if (call.inputs[i].tensor == nullptr) break;
          tensors[i] = to_abi(*call.inputs[i].tensor);
          device = call.inputs[i].tensor->device;
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
    const mambasdk_context context = to_abi(call.context, device);
    const mambasdk_op_call request{sizeof(request), &context,       values.data(),    values.size(),
                                   outputs.data(),  outputs.size(), call.dims.data(), call.dims.size()};
    if (const mambasdk_status* status = function(self, &request)) throw_status(status);
  };
}

}  // namespace mambasdk::abi
