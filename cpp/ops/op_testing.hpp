// For *_test.cpp: random strided tensors, calls with NaN-filled outputs, and comparison of the vector kernel with the
// reference on every instruction set and for several thread counts.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/element.hpp"
#include "core/executor.hpp"
#include "core/registry.hpp"

namespace mambasdk::testing {

enum class Layout { contiguous, padded, transposed };  // last dim stride 1, rows apart, last dim stride > 1

inline std::int64_t offset_of(const Tensor& t, std::int64_t flat) {
  std::int64_t offset = 0;
  for (int d = t.ndim - 1; d >= 0; --d) {
    offset += flat % t.size(d) * t.stride(d);
    flat /= t.size(d);
  }
  return offset;
}
inline double element(const Tensor& t, std::int64_t flat) {
  return load_element(t.data, t.dtype, offset_of(t, flat));
}

// Owns the memory of the tensors of one test case.
class Arena {
 public:
  explicit Arena(unsigned seed) : random_(seed) {}

  Tensor empty(DType type, const std::vector<std::int64_t>& shape, Layout layout = Layout::contiguous) {
    Tensor t = Tensor::contiguous(nullptr, type, shape.data(), static_cast<int>(shape.size()));
    if (layout == Layout::transposed && t.ndim >= 2) {  // the last two dims swapped in memory, with a gap
      t.strides[static_cast<std::size_t>(t.ndim - 2)] = 1;
      std::int64_t stride = t.size(-2) + 1;
      t.strides[static_cast<std::size_t>(t.ndim - 1)] = stride;
      stride *= t.size(-1);
      for (int d = t.ndim - 3; d >= 0; --d) {
        t.strides[static_cast<std::size_t>(d)] = stride;
        stride *= t.size(d);
      }
    } else if (layout != Layout::contiguous) {
      std::int64_t stride = layout == Layout::transposed ? 3 : 1;
      for (int d = t.ndim - 1; d >= 0; --d) {
        t.strides[static_cast<std::size_t>(d)] = stride;
        stride = stride * t.size(d) + 5;
      }
    }
    std::int64_t extent = 1;
    for (int d = 0; d < t.ndim; ++d) extent += std::max<std::int64_t>(t.size(d) - 1, 0) * t.stride(d);
    memory_.emplace_back(static_cast<std::size_t>(extent * type.bits / 8), std::byte{0xff});  // NaN in every float type
    t.data = memory_.back().data();
    return t;
  }

  const Tensor* normal(DType type, const std::vector<std::int64_t>& shape, Layout layout = Layout::contiguous,
                       double scale = 1.0) {
    const Tensor t = empty(type, shape, layout);
    std::normal_distribution<double> normal(0.0, scale);
    for (std::int64_t i = 0; i < t.numel(); ++i) store_element(t.data, type, offset_of(t, i), normal(random_));
    return keep(t);
  }

  const Tensor* integers(const std::vector<std::int32_t>& values) {
    const Tensor t = empty(dtype::i32, {static_cast<std::int64_t>(values.size())});
    if (!values.empty()) std::memcpy(t.data, values.data(), values.size() * sizeof(std::int32_t));
    return keep(t);
  }

  const Tensor* keep(const Tensor& t) { return &tensors_.emplace_back(t); }

 private:
  std::mt19937 random_;
  std::deque<std::vector<std::byte>> memory_;
  std::deque<Tensor> tensors_;
};

inline Value arg(const Tensor* t) {
  return Value{.tensor = t};
}
inline Value arg(std::nullptr_t) {
  return Value{.tensor = nullptr};
}
inline Value arg(bool flag) {
  return Value{.flag = flag};
}
inline Value arg(int integer) {
  return Value{.integer = integer};
}
inline Value arg(double real) {
  return Value{.real = real};
}
template <class... A>
std::vector<Value> args(A... a) {
  return {arg(a)...};
}

inline std::vector<Tensor> call(Arena& arena, const Op& op, const std::vector<Value>& inputs,
                                KernelChoice choice = KernelChoice::automatic) {
  std::vector<Tensor> outputs;
  for (const Tensor& planned : op.plan(inputs).outputs) {
    outputs.push_back(arena.empty(planned.dtype, {planned.shape.begin(), planned.shape.begin() + planned.ndim}));
  }
  op.call(default_context(), inputs, outputs, choice);
  return outputs;
}

// Rounding to `type`, plus what float32 accumulation loses; `scale` is the size of the largest expected value.
inline double tolerance(DType type, double scale) {
  const double ulp = type == dtype::bf16 ? 0x1p-8 : type == dtype::f16 ? 0x1p-11 : type == dtype::f32 ? 1e-6 : 1e-12;
  return 2e-6 * scale + ulp * scale;
}

inline void expect_close(const Tensor& got, const Tensor& expected, const std::string& what, double factor = 1.0) {
  ASSERT_EQ(got.numel(), expected.numel()) << what;
  double scale = 0.0;
  for (std::int64_t i = 0; i < expected.numel(); ++i) scale = std::max(scale, std::abs(element(expected, i)));
  const double limit = factor * tolerance(got.dtype, std::max(scale, 1e-3));
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    ASSERT_LE(std::abs(element(got, i) - element(expected, i)), limit)
        << what << ": element " << i << " of " << got.shape_text() << " is " << element(got, i) << ", expected "
        << element(expected, i);
  }
}

// MAMBASDK_TEST_ISA names one that a run is about (tests/amx/run.py): then that alone, and Isa.IsTheOneToTest fails
// where it is absent.
inline std::vector<Isa> instruction_sets() {
  if (std::getenv("MAMBASDK_TEST_ISA") != nullptr) return {detected_isa()};
  std::vector<Isa> sets;
  for (int i = 0; i <= static_cast<int>(detected_isa()); ++i) sets.push_back(static_cast<Isa>(i));
  return sets;
}

// Restores the instruction set and the thread count.
class Settings {
 public:
  ~Settings() {
    set_max_isa(isa_);
    set_num_threads(threads_);
  }

 private:
  Isa isa_ = active_isa();
  int threads_ = num_threads();
};

// The operations that those functions define, made once.
template <void (*... kRegister)(Registry&)>
const Registry& operations() {
  static const Registry* const table = [] {
    auto* made = new Registry;
    (kRegister(*made), ...);
    return made;
  }();
  return *table;
}

// `gradient` of the float64 `input` against central differences of loss().
template <class Loss>
void expect_derivative(const Tensor& input, const Tensor& gradient, Loss&& loss, const std::string& what,
                       double limit = 1e-7) {
  for (std::int64_t e = 0; e < input.numel(); ++e) {
    double* value = input.ptr<double>() + offset_of(input, e);
    const double kept = *value, step = 1e-5;
    *value = kept + step;
    const double above = loss();
    *value = kept - step;
    const double below = loss();
    *value = kept;
    ASSERT_NEAR(element(gradient, e), (above - below) / (2 * step), limit) << what << ", element " << e;
  }
}

// The sum of the products of two tensors' elements.
inline double dot(const Tensor& a, const Tensor& b) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) sum += element(a, i) * element(b, i);
  return sum;
}

// The same values in float64, for a reference that rounds nothing: half-precision tensors among the inputs.
inline std::vector<Value> widened(Arena& arena, const Op& op, std::vector<Value> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (op.signature.inputs[i].kind != Argument::Kind::tensor || inputs[i].tensor == nullptr) continue;
    const Tensor& given = *inputs[i].tensor;
    if (given.dtype != dtype::bf16 && given.dtype != dtype::f16) continue;
    Tensor wide = arena.empty(dtype::f64, {given.shape.begin(), given.shape.begin() + given.ndim});
    for (std::int64_t e = 0; e < given.numel(); ++e) wide.ptr<double>()[e] = element(given, e);
    inputs[i].tensor = arena.keep(wide);
  }
  return inputs;
}

// The vector kernel agrees with what the reference makes of `exact` (the inputs themselves, or widened ones) on every
// instruction set, gives the same bits for 1 to 3 threads, and writes every element of its outputs (they start as NaN).
inline void expect_matches_reference(Arena& arena, const Op& op, const std::vector<Value>& inputs,
                                     const std::vector<Value>& exact, const std::string& what, double factor = 1.0) {
  const Settings restore;
  const std::vector<Tensor> expected = call(arena, op, exact, KernelChoice::reference);
  for (const Isa isa : instruction_sets()) {
    set_max_isa(isa);
    set_num_threads(1);
    const std::vector<Tensor> got = call(arena, op, inputs);
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (!op.signature.outputs[i].name.empty() && expected[i].ndim == 1 && expected[i].numel() == 0) continue;
      expect_close(got[i], expected[i], what + " " + op.signature.outputs[i].name + " on " + isa_name(isa), factor);
    }
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      const std::vector<Tensor> again = call(arena, op, inputs);
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (got[i].numel() == 0) continue;
        ASSERT_EQ(std::memcmp(again[i].data, got[i].data, static_cast<std::size_t>(got[i].nbytes())), 0)
            << what << ": " << op.signature.outputs[i].name << " differs between 1 and " << threads << " threads";
      }
    }
  }
}

inline void expect_matches_reference(Arena& arena, const Op& op, const std::vector<Value>& inputs,
                                     const std::string& what, double factor = 1.0) {
  expect_matches_reference(arena, op, inputs, inputs, what, factor);
}

}  // namespace mambasdk::testing
