// diagonal_scan: vector kernels against the reference on every instruction set, real and complex; the reference's
// derivative against its own differences.
#include "ops/diagonal_scan/diagonal_scan.hpp"

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::arg;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_diagonal_scan>();
}

struct Case {
  std::int64_t B, L, D;
  bool shared_batch, shared_length;
  DType type = dtype::f32;
  Layout layout = Layout::contiguous;
  bool initial_state = true, final_state = true, reverse = false;

  [[nodiscard]] std::string name() const {
    return concat("B", B, " L", L, " D", D, " shared ", shared_batch, shared_length, " ", dtype_name(type), " layout ",
                  static_cast<int>(layout), " initial ", initial_state, " final ", final_state, " reverse ", reverse);
  }
};

bool is_complex(DType type) {
  return type == dtype::c64 || type == dtype::c128;
}
DType part_type(DType type) {
  return type == dtype::c128 ? dtype::f64 : type == dtype::c64 ? dtype::f32 : type;
}

// A complex tensor as its parts: one more dim, of extent 2.
Tensor parts(Tensor t) {
  if (!is_complex(t.dtype)) return t;
  t.dtype = part_type(t.dtype);
  for (int d = 0; d < t.ndim; ++d) t.strides[static_cast<std::size_t>(d)] *= 2;
  t.shape[static_cast<std::size_t>(t.ndim)] = 2;
  t.strides[static_cast<std::size_t>(t.ndim)] = 1;
  ++t.ndim;
  return t;
}

const Tensor* normal(Arena& arena, DType type, std::vector<std::int64_t> shape, Layout layout, double scale = 1.0) {
  if (!is_complex(type)) return arena.normal(type, shape, layout, scale);
  shape.push_back(2);
  Tensor t = *arena.normal(part_type(type), shape, Layout::contiguous, scale);
  t.dtype = type;
  --t.ndim;
  for (int d = 0; d < t.ndim; ++d) t.strides[static_cast<std::size_t>(d)] /= 2;
  return arena.keep(t);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType type : {dtype::f32, dtype::bf16, dtype::f16, dtype::c64}) {
    for (const bool reverse : {false, true}) {
      for (int shared = 0; shared < 4; ++shared) {
        const bool batch = (shared & 1) != 0, length = (shared & 2) != 0;
        all.push_back({3, 17, 9, batch, length, type, Layout::contiguous, true, true, reverse});
        all.push_back({2, 40, 70, batch, length, type, Layout::contiguous, false, true, reverse});
        all.push_back({1, 5, 130, batch, length, type, Layout::contiguous, true, false, reverse});
        if (!is_complex(type)) {
          all.push_back({2, 9, 33, batch, length, type, Layout::padded, true, true, reverse});
          all.push_back({2, 9, 33, batch, length, type, Layout::transposed, true, true, reverse});
        }
      }
    }
    for (const std::int64_t L : {0, 1, 2}) {
      all.push_back({2, L, 3, false, false, type});
      all.push_back({2, L, 3, true, true, type});
    }
    all.push_back({0, 3, 3, true, true, type});
    all.push_back({0, 3, 3, true, false, type});
    all.push_back({2, 3, 0, false, true, type});
  }
  return all;
}

std::vector<Value> forward_args(Arena& arena, const Case& c) {
  return {arg(normal(arena, c.type, {c.B, c.L, c.D}, c.layout)),
          arg(normal(arena, c.type, {c.shared_batch ? 1 : c.B, c.shared_length ? 1 : c.L, c.D}, c.layout, 0.2)),
          arg(c.initial_state ? normal(arena, c.type, {c.B, c.D}, c.layout) : nullptr),
          arg(c.reverse),
          arg(c.final_state),
          arg(nullptr)};
}

std::vector<Value> backward_args(Arena& arena, const Case& c) {
  const std::vector<Value> f = forward_args(arena, c);
  return {arg(normal(arena, c.type, {c.B, c.L, c.D}, c.layout)),
          arg(c.final_state ? normal(arena, c.type, {c.B, c.D}, c.layout) : nullptr),
          f[1],
          arg(normal(arena, c.type, {c.B, c.L, c.D}, c.layout)),
          f[2],
          f[3],
          arg(nullptr)};
}

void expect_matches(Arena& arena, const std::string& op, const std::vector<Value>& inputs, const Case& c) {
  const testing::Settings restore;
  const std::vector<Tensor> expected = testing::call(arena, ops().get(op), inputs, KernelChoice::reference);
  for (const Isa isa : testing::instruction_sets()) {
    for (const int threads : {1, 3}) {
      set_max_isa(isa);
      set_num_threads(threads);
      const std::vector<Tensor> got = testing::call(arena, ops().get(op), inputs);
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (expected[i].ndim == 1) continue;
        testing::expect_close(parts(got[i]), parts(expected[i]), op + " " + c.name() + " on " + isa_name(isa), 2.0);
      }
    }
  }
}

TEST(DiagonalScan, ForwardMatchesReference) {
  for (const Case& c : cases()) {
    Arena arena(1);
    expect_matches(arena, "diagonal_scan", forward_args(arena, c), c);
    if (HasFatalFailure()) return;
  }
}

TEST(DiagonalScan, BackwardMatchesReference) {
  for (const Case& c : cases()) {
    Arena arena(2);
    expect_matches(arena, "diagonal_scan_backward", backward_args(arena, c), c);
    if (HasFatalFailure()) return;
  }
}

// Central differences of Re <grad, output>; the gradient of a complex number is d/d(re) + i d/d(im).
TEST(DiagonalScan, ReferenceBackwardIsTheDerivative) {
  for (const DType type : {dtype::f64, dtype::c128}) {
    for (int shared = 0; shared < 4; ++shared) {
      Arena arena(3);
      Case c{2, 4, 2, (shared & 1) != 0, (shared & 2) != 0, type};
      c.reverse = shared == 1;
      const std::vector<Value> f = forward_args(arena, c);
      const Tensor* grad[2] = {normal(arena, type, {c.B, c.L, c.D}, c.layout),
                               normal(arena, type, {c.B, c.D}, c.layout)};
      const auto loss = [&] {
        Arena temporary(0);
        const std::vector<Tensor> out = testing::call(temporary, ops().get("diagonal_scan"), f);
        return testing::dot(parts(out[0]), parts(*grad[0])) + testing::dot(parts(out[1]), parts(*grad[1]));
      };
      const Tensor* x = arena.keep(testing::call(arena, ops().get("diagonal_scan"), f)[0]);
      const std::vector<Tensor> grads =
          testing::call(arena, ops().get("diagonal_scan_backward"),
                        {arg(grad[0]), arg(grad[1]), f[1], arg(x), f[2], f[3], arg(nullptr)});
      for (std::size_t i = 0; i < 3; ++i) {
        testing::expect_derivative(parts(*f[i].tensor), parts(grads[i]), loss, concat(c.name(), ": input ", i));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(DiagonalScan, RejectsCoefficientsOfAnotherLength) {
  Arena arena(4);
  const std::vector<Value> f = {arg(arena.normal(dtype::f32, {2, 5, 3})),
                                arg(arena.normal(dtype::f32, {2, 4, 3})),
                                arg(nullptr),
                                arg(false),
                                arg(false),
                                arg(nullptr)};
  try {
    testing::call(arena, ops().get("diagonal_scan"), f);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("a is (2, 4, 3), expected (2 or 1, 5 or 1, 3)"), std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace mambasdk
