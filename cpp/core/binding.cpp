// Checks a call against its signature and plans its outputs. The kernel is picked in dispatch.cpp.
#include <algorithm>

#include "core/device.hpp"
#include "core/registry.hpp"

namespace mambasdk {

namespace {

bool is_double(DType t) {
  return t == dtype::f64 || t == dtype::c128;
}

DType accumulator_of(DType t) {
  return is_double(t) ? dtype::f64 : dtype::f32;
}

// What a forward leaves for its derivative: float16 ends at 65504, where a state need not.
DType saved_of(DType t) {
  return t == dtype::f16 ? dtype::f32 : t;
}

bool admits(const std::string& variable, DType t) {
  if (t == dtype::f32 || t == dtype::bf16 || t == dtype::f16 || t == dtype::f64) return true;
  return variable.front() == 'Z' && (t == dtype::c64 || t == dtype::c128);
}

// What is known of dims and dtypes while the arguments are read.
struct Binding {
  const Signature& signature;
  std::span<const Value> inputs;
  std::vector<std::int64_t> dims;
  std::vector<int> dim_source;  // argument that bound the dim, -1: a rule
  std::vector<std::int64_t> lead;
  int lead_source = -1;
  std::vector<DType> types;
  std::vector<int> type_source;

  explicit Binding(const Signature& s, std::span<const Value> values)
      : signature(s),
        inputs(values),
        dims(s.dims.size(), -1),
        dim_source(s.dims.size(), -1),
        types(s.type_variables.size()),
        type_source(s.type_variables.size(), -1) {}

  [[nodiscard]] const Tensor* tensor(std::size_t i) const {
    return signature.inputs[i].kind == Argument::Kind::tensor ? inputs[i].tensor : nullptr;
  }

  void bind_types() {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Argument& a = signature.inputs[i];
      const Tensor* t = tensor(i);
      if (t == nullptr || a.dtype.kind != DTypeSpec::Kind::variable) continue;
      const auto v = static_cast<std::size_t>(a.dtype.variable);
      if (!admits(signature.type_variables[v], t->dtype)) {
        fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is ", dtype_name(t->dtype),
             ", expected one of f32, bf16, f16, f64", signature.type_variables[v].front() == 'Z' ? ", c64" : "");
      }
      if (type_source[v] < 0) {
        types[v] = t->dtype;
        type_source[v] = static_cast<int>(i);
      }
    }
  }

  [[nodiscard]] DType resolve(const DTypeSpec& spec) const {
    if (spec.kind == DTypeSpec::Kind::fixed) return spec.fixed;
    const auto v = static_cast<std::size_t>(spec.variable);
    const DType bound = type_source[v] < 0 ? dtype::f32 : types[v];
    if (spec.kind == DTypeSpec::Kind::saved) return saved_of(bound);
    return spec.kind == DTypeSpec::Kind::variable ? bound : accumulator_of(bound);
  }

  void check_types() const {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor* t = tensor(i);
      if (t == nullptr) continue;
      const Argument& a = signature.inputs[i];
      const DType expected = resolve(a.dtype);
      if (t->dtype == expected) continue;
      std::string why;
      if (a.dtype.kind != DTypeSpec::Kind::fixed && type_source[static_cast<std::size_t>(a.dtype.variable)] >= 0) {
        const Argument& source =
            signature.inputs[static_cast<std::size_t>(type_source[static_cast<std::size_t>(a.dtype.variable)])];
        why = concat(": ", source.name, " is ", dtype_name(types[static_cast<std::size_t>(a.dtype.variable)]));
      }
      fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is ", dtype_name(t->dtype), ", expected ",
           dtype_name(expected), why);
    }
  }

  // An `int` argument whose name stands in a shape is a dim; a negative one leaves it unbound.
  void bind_integers() {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Argument& a = signature.inputs[i];
      if (a.kind != Argument::Kind::integer) continue;
      const auto found = std::find(signature.dims.begin(), signature.dims.end(), a.name);
      if (found != signature.dims.end())
        dims[static_cast<std::size_t>(found - signature.dims.begin())] = inputs[i].integer;
    }
  }

  void bind_dims() {
    bind_integers();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor* t = tensor(i);
      if (t == nullptr) continue;
      const Argument& a = signature.inputs[i];
      const int trailing = static_cast<int>(a.shape.size());
      if (a.variadic ? t->ndim < trailing : t->ndim != trailing) wrong_shape(i);
      const int first = t->ndim - trailing;
      if (a.variadic) {
        const std::vector<std::int64_t> here(t->shape.begin(), t->shape.begin() + first);
        if (lead_source < 0) {
          lead = here;
          lead_source = static_cast<int>(i);
        } else if (lead != here) {
          wrong_shape(i);
        }
      }
      for (int d = 0; d < trailing; ++d) {
        const DimExpr& e = a.shape[static_cast<std::size_t>(d)];
        if (e.is_dim()) bind(static_cast<std::size_t>(e.terms[0].value), t->size(first + d), i);
      }
    }
    // An extent like S+1 binds S where nothing else did.
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor* t = tensor(i);
      if (t == nullptr) continue;
      const Argument& a = signature.inputs[i];
      const int first = t->ndim - static_cast<int>(a.shape.size());
      for (std::size_t d = 0; d < a.shape.size(); ++d) {
        const auto& terms = a.shape[d].terms;
        using Kind = DimExpr::Kind;
        if (terms.size() != 3 || terms[0].kind != Kind::dim || terms[1].kind != Kind::constant) continue;
        const std::int64_t offset = terms[2].kind == Kind::add        ? terms[1].value
                                    : terms[2].kind == Kind::subtract ? -terms[1].value
                                                                      : 0;
        if (offset == 0) continue;
        const std::int64_t value = t->size(first + static_cast<int>(d)) - offset;
        if (value < 0) wrong_shape(i);
        const auto dim = static_cast<std::size_t>(terms[0].value);
        if (dims[dim] < 0) bind(dim, value, i);
      }
    }
    for (const DimRule& rule : signature.rules) {
      if (inputs[static_cast<std::size_t>(rule.unless)].tensor != nullptr) continue;
      const auto value = rule.value.evaluate(dims);
      auto& dim = dims[static_cast<std::size_t>(rule.dim)];
      if (value && dim < 0) dim = *value;
    }
  }

  void bind(std::size_t dim, std::int64_t value, std::size_t source) {
    if (dims[dim] >= 0) return;  // check_shapes compares
    dims[dim] = value;
    dim_source[dim] = static_cast<int>(source);
  }

  void check_shapes() const {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor* t = tensor(i);
      if (t == nullptr) continue;
      const Argument& a = signature.inputs[i];
      const int first = t->ndim - static_cast<int>(a.shape.size());
      for (std::size_t d = 0; d < a.shape.size(); ++d) {
        const auto expected = a.shape[d].evaluate(dims);
        if (expected && *expected != t->size(first + static_cast<int>(d))) wrong_shape(i);
      }
    }
    // A rule's dim may also be bound by a tensor: they must agree.
    for (const DimRule& rule : signature.rules) {
      if (inputs[static_cast<std::size_t>(rule.unless)].tensor != nullptr) continue;
      const auto value = rule.value.evaluate(dims);
      const auto dim = static_cast<std::size_t>(rule.dim);
      if (value && dims[dim] != *value) {
        const int source = dim_source[dim];
        if (source >= 0) wrong_shape(static_cast<std::size_t>(source), rule);
      }
    }
  }

  [[nodiscard]] std::string expected_text(const Argument& a, std::string& why, std::size_t index) const {
    std::string text = "(";
    if (a.variadic) {
      if (lead_source >= 0 && lead_source != static_cast<int>(index)) {
        for (const std::int64_t n : lead) text += std::to_string(n) + ", ";
      } else {
        text += "..., ";
      }
    }
    for (std::size_t d = 0; d < a.shape.size(); ++d) {
      if (d > 0) text += ", ";
      const auto value = a.shape[d].evaluate(dims);
      text += value ? std::to_string(*value) : a.shape[d].text;
      for (const DimExpr::Term& term : a.shape[d].terms) {
        if (term.kind != DimExpr::Kind::dim) continue;
        const auto dim = static_cast<std::size_t>(term.value);
        const int source = dim_source[dim];
        if (source < 0 || source == static_cast<int>(index)) continue;
        why += concat(why.empty() ? ": " : ", ", signature.dims[dim], " is ", dims[dim], " in ",
                      signature.inputs[static_cast<std::size_t>(source)].name);
      }
    }
    return text + (a.shape.size() == 1 && !a.variadic ? ",)" : ")");
  }

  [[noreturn]] void wrong_shape(std::size_t index) const {
    const Argument& a = signature.inputs[index];
    std::string why;
    const std::string expected = expected_text(a, why, index);
    std::string names = "(";
    if (a.variadic) names += "..., ";
    for (std::size_t d = 0; d < a.shape.size(); ++d) names += (d > 0 ? ", " : "") + a.shape[d].text;
    fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is ", tensor(index)->shape_text(), ", expected ",
         expected, why, "; its dims are ", names, ")");
  }

  [[noreturn]] void wrong_shape(std::size_t index, const DimRule& rule) const {
    fail(ErrorCode::invalid_argument, signature.name, ": ", signature.inputs[index].name, " is ",
         tensor(index)->shape_text(), ", but without ", signature.inputs[static_cast<std::size_t>(rule.unless)].name,
         " its ", signature.dims[static_cast<std::size_t>(rule.dim)], " must be ", rule.value.text, " = ",
         *rule.value.evaluate(dims));
  }
};

bool same_device(const Tensor& a, const Tensor& b) {
  return a.device == b.device && a.device_index == b.device_index;
}

bool present(const Signature& signature, const Argument& output, std::span<const Value> inputs) {
  if (output.condition < 0) return true;
  const auto i = static_cast<std::size_t>(output.condition);
  return signature.inputs[i].kind == Argument::Kind::boolean ? inputs[i].flag : inputs[i].tensor != nullptr;
}

Binding bind(const Signature& signature, std::span<const Value> inputs) {
  if (inputs.size() != signature.inputs.size()) {
    fail(ErrorCode::invalid_argument, signature.name, ": got ", inputs.size(), " arguments, expected ",
         signature.inputs.size());
  }
  const Tensor* first = nullptr;
  std::string_view first_name;
  Binding b(signature, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Argument& a = signature.inputs[i];
    if (a.kind != Argument::Kind::tensor) continue;
    const Tensor* t = inputs[i].tensor;
    if (t == nullptr) {
      if (!a.optional) fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is missing");
      continue;
    }
    if (first == nullptr) {
      first = t;
      first_name = a.name;
    } else if (!same_device(*t, *first)) {
      fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is on ",
           device_text(t->device, t->device_index), ", expected ", device_text(first->device, first->device_index),
           ", where ", first_name, " is; move them to one device");
    }
    for (int d = 0; d < t->ndim; ++d) {
      if (t->size(d) < 0) {
        fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is ", t->shape_text(),
             ", expected no negative extent");
      }
    }
    if (!t->is_addressable()) {
      fail(ErrorCode::invalid_argument, signature.name, ": ", a.name, " is ", t->shape_text(), " ",
           dtype_name(t->dtype), ", expected extents and strides that span less than 2^63 bytes");
    }
  }
  b.bind_types();
  b.check_types();
  b.bind_dims();
  b.check_shapes();
  return b;
}

// An extent that the arguments do not give: says which of them is to blame.
[[noreturn]] void no_extent(const Binding& b, const Argument& output, const DimExpr& e) {
  const Signature& s = b.signature;
  bool bound = true;
  for (std::size_t i = 0; i < e.terms.size(); ++i) {
    if (e.terms[i].kind != DimExpr::Kind::dim) continue;
    const auto dim = static_cast<std::size_t>(e.terms[i].value);
    bound = bound && b.dims[dim] >= 0;
    const bool divides = i + 1 < e.terms.size() && e.terms[i + 1].kind == DimExpr::Kind::floor_divide;
    const int argument = s.input_index(s.dims[dim]);
    if (argument < 0 || s.inputs[static_cast<std::size_t>(argument)].kind != Argument::Kind::integer) continue;
    const std::int64_t value = b.inputs[static_cast<std::size_t>(argument)].integer, least = divides ? 1 : 0;
    if (value < least) {
      fail(ErrorCode::invalid_argument, s.name, ": ", s.dims[dim], " is ", value, ", expected at least ", least);
    }
  }
  fail(ErrorCode::invalid_argument, s.name, ": the extent ", e.text, " of output ", output.name,
       bound ? " does not fit 63 bits" : " is not determined by the arguments");
}

// The shape alone: whether a tensor of it can exist is checked before it is made.
Tensor planned(const Signature& signature, const Argument& output, DType type, std::span<const std::int64_t> shape) {
  if (shape.size() > static_cast<std::size_t>(kMaxDims)) {
    fail(ErrorCode::invalid_argument, signature.name, ": output ", output.name, " would have ", shape.size(),
         " dims; at most ", kMaxDims, " are supported");
  }
  Tensor t;
  t.dtype = type;
  t.ndim = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), t.shape.begin());
  if (!t.is_addressable()) {
    fail(ErrorCode::invalid_argument, signature.name, ": output ", output.name, " would be ", t.shape_text(), " ",
         dtype_name(type), ", expected less than 2^63 bytes");
  }
  return Tensor::contiguous(nullptr, type, shape.data(), t.ndim);
}

std::vector<Tensor> plan_outputs(const Signature& signature, const Binding& b) {
  std::vector<Tensor> outputs;
  outputs.reserve(signature.outputs.size());
  for (const Argument& a : signature.outputs) {
    const DType type = b.resolve(a.dtype);
    std::vector<std::int64_t> shape;
    if (!present(signature, a, b.inputs)) {
      shape = {0};
    } else {
      if (a.variadic) shape = b.lead;
      for (const DimExpr& e : a.shape) {
        const auto extent = e.evaluate(b.dims);
        if (!extent) no_extent(b, a, e);
        if (*extent < 0) {
          fail(ErrorCode::invalid_argument, signature.name, ": the extent ", e.text, " of output ", a.name, " is ",
               *extent, ", expected at least 0");
        }
        shape.push_back(*extent);
      }
    }
    outputs.push_back(planned(signature, a, type, shape));
    for (const Value& value : b.inputs) {
      const auto i = static_cast<std::size_t>(&value - b.inputs.data());
      if (signature.inputs[i].kind == Argument::Kind::tensor && value.tensor != nullptr) {
        outputs.back().device = value.tensor->device;
        outputs.back().device_index = value.tensor->device_index;
        break;
      }
    }
  }
  return outputs;
}

}  // namespace

Op::Plan Op::plan(std::span<const Value> inputs) const {
  const Binding b = bind(signature, inputs);
  return {b.dims, plan_outputs(signature, b)};
}

void Op::call(const Context& context, std::span<const Value> inputs, std::span<const Tensor> outputs,
              KernelChoice choice) const {
  const Binding b = bind(signature, inputs);
  std::vector<Tensor> checked = plan_outputs(signature, b);
  if (outputs.size() != checked.size()) {
    fail(ErrorCode::invalid_argument, signature.name, ": got ", outputs.size(), " outputs, expected ", checked.size());
  }
  for (std::size_t i = 0; i < checked.size(); ++i) {
    const Argument& a = signature.outputs[i];
    if (!present(signature, a, inputs)) continue;  // stays null
    const Tensor& given = outputs[i];
    const bool same = given.dtype == checked[i].dtype && given.ndim == checked[i].ndim &&
                      std::equal(given.shape.begin(), given.shape.begin() + given.ndim, checked[i].shape.begin());
    if (!same || !given.is_contiguous()) {
      fail(ErrorCode::invalid_argument, signature.name, ": output ", a.name, " is ", dtype_name(given.dtype), " ",
           given.shape_text(), ", expected contiguous ", dtype_name(checked[i].dtype), " ", checked[i].shape_text());
    }
    if (!same_device(given, checked[i])) {
      fail(ErrorCode::invalid_argument, signature.name, ": output ", a.name, " is on ",
           device_text(given.device, given.device_index), ", expected ",
           device_text(checked[i].device, checked[i].device_index), ", where the inputs are");
    }
    if (given.data == nullptr && checked[i].numel() > 0) {
      fail(ErrorCode::invalid_argument, signature.name, ": output ", a.name, " has no memory");
    }
    checked[i].data = given.data;
  }
  execute({signature, context, inputs, checked, b.dims}, choice);
}

}  // namespace mambasdk
