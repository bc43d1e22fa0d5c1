// From the table to operations: each function and its gradient, on the scalar and the vector kernels.
#include "ops/elementwise/elementwise.hpp"

#include <vector>

#include "core/element.hpp"
#include "core/registry.hpp"
#include "ops/elementwise/functions.hpp"
#include "ops/rows.hpp"

namespace mambasdk {
namespace elementwise {
namespace {

// One element; in and out as in Args.
using Element = void (*)(const double (&in)[kMostInputs], const double (&parameters)[2], double (&out)[kMostOutputs]);

template <class F>
void value(const double (&in)[kMostInputs], const double (&parameters)[2], double (&out)[kMostOutputs]) {
  out[0] = F::value(in[0], in[1], in[2], parameters[0], parameters[1]);
}
template <class F>
void gradient(const double (&in)[kMostInputs], const double (&parameters)[2], double (&out)[kMostOutputs]) {
  F::gradient(in[0], in[1], in[2], in[3], parameters[0], parameters[1], out);
}

struct Entry {
  Function function;
  std::string_view name, arguments, doc;
  Element value, gradient;
};

#define MAMBASDK_ELEMENTWISE_ENTRY(name, arguments, doc, ...) \
  {Function::name, #name, arguments, doc, value<scalar::name##_function>, gradient<scalar::name##_function>},
constexpr Entry kTable[] = {
    MAMBASDK_ELEMENTWISE(MAMBASDK_ELEMENTWISE_ENTRY, MAMBASDK_ELEMENTWISE_ENTRY, MAMBASDK_ELEMENTWISE_ENTRY)};
#undef MAMBASDK_ELEMENTWISE_ENTRY

// The arguments of a call, whatever their names: its tensors in order, and its numbers.
struct Arguments {
  const Tensor* tensors[kMostInputs] = {};
  std::size_t count = 0;
  double parameters[2] = {};

  explicit Arguments(const OpCall& c) {
    std::size_t numbers = 0;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (c.signature.inputs[i].kind == Argument::Kind::tensor) {
        tensors[count++] = c.inputs[i].tensor;
      } else {
        parameters[numbers++] = c.inputs[i].real;
      }
    }
  }
};

std::int64_t columns_of(const Tensor& t) {
  return t.ndim > 0 ? t.size(-1) : 1;
}

void reference(const OpCall& c, Element element) {
  const Arguments arguments(c);
  const std::int64_t columns = columns_of(*arguments.tensors[0]), rows = row_count(*arguments.tensors[0]);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; ++i) {
      double in[kMostInputs] = {}, out[kMostOutputs] = {};
      for (std::size_t k = 0; k < arguments.count; ++k) {
        const Tensor& t = *arguments.tensors[k];
        in[k] = load_element(t.data, t.dtype, row_offset(t, r) + (t.ndim > 0 ? i * t.stride(-1) : 0));
      }
      element(in, arguments.parameters, out);
      for (std::size_t k = 0; k < c.outputs.size(); ++k)
        store_element(c.outputs[k].data, c.outputs[k].dtype, r * columns + i, out[k]);
    }
  }
}

void vector(const OpCall& c, Function function, bool gradient) {
  const Arguments arguments(c);
  Args a;
  a.function = function;
  a.gradient = gradient;
  for (std::size_t k = 0; k < 2; ++k) a.parameters[k] = static_cast<float>(arguments.parameters[k]);
  const Tensor* tensors[1 + kMostInputs] = {c.outputs.data()};
  for (std::size_t k = 0; k < arguments.count; ++k) {
    tensors[1 + k] = arguments.tensors[k];
    a.in[k] = {arguments.tensors[k]->data, arguments.tensors[k]->dtype};
  }
  for (std::size_t k = 0; k < c.outputs.size(); ++k) a.out[k] = {c.outputs[k].data, c.outputs[k].dtype};
  bool half = false;
  for (std::size_t k = 0; k <= arguments.count; ++k) half = half || tensors[k]->dtype.bits == 16;
  a.tiles = tiling_of({tensors, 1 + arguments.count},
                      {half ? kHalfElements : kFloatElements, kTransposedElements, kTransposedColumns});
  MAMBASDK_PICK(elementwise_tiles)(a, c.context.parallel());
}

// The formula, what is the same for all, and whose memory the output may be: that of any argument of its dtype.
std::string doc_of(const Entry& entry, const Declaration& declaration) {
  std::vector<std::string_view> tensors;
  for (std::size_t i = 0; i < declaration.input_count(); ++i) {
    if (declaration.input_kind(i) == Declaration::Kind::tensor) tensors.push_back(declaration.input_name(i));
  }
  std::string doc(entry.doc);
  if (tensors.size() > 1) doc += ", of the same shape; a broadcast argument is an expanded view.";
  if (declaration.input_type(0) != declaration.output_type(0)) return doc;
  doc += concat(" `", declaration.output_name(0), "` may be the memory of ", tensors[0]);
  for (std::size_t i = 1; i < tensors.size(); ++i) doc += concat(i + 1 < tensors.size() ? ", " : " or ", tensors[i]);
  return doc + ".";
}

}  // namespace
}  // namespace elementwise

void register_elementwise(Registry& registry) {
  using namespace elementwise;
  for (const Entry& entry : kTable) {
    const Declaration declaration(entry.name, entry.arguments), derivative = declaration.derivative();
    registry.define({.signature = declaration.text(),
                     .doc = doc_of(entry, declaration),
                     .reference = [&entry](const OpCall& c) { reference(c, entry.value); },
                     .cpu = [&entry](const OpCall& c) { vector(c, entry.function, false); }});
    registry.define({.signature = derivative.text(),
                     .doc = concat("Derivative of ", entry.name, "."),
                     .reference = [&entry](const OpCall& c) { reference(c, entry.gradient); },
                     .cpu = [&entry](const OpCall& c) { vector(c, entry.function, true); }});
  }
}

}  // namespace mambasdk
