// Vector kernels against the reference, the reference against its own differences, and what a scan must keep: the state
// contract, packing, routes, chunk states.
#include "ops/selective_scan/selective_scan.hpp"

#include <algorithm>
#include <numeric>

#include "ops/op_testing.hpp"
#include "ops/selective_state_update/selective_state_update.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::arg;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_selective_scan, register_selective_state_update>();
}

enum class Order { none, permuted, repeated };  // `repeated` visits some positions often and some never

struct Case {
  std::int64_t batch = 2, length = 37, channels = 24, states = 16;
  DType type = dtype::f32;
  std::int64_t routes = 1, groups = 1;
  Order order = Order::none;
  std::int64_t steps = -1;                  // with Order::repeated
  bool step_params = false, extras = true;  // extras: D, z, delta_bias, initial_state, softplus
  Layout layout = Layout::contiguous;
  std::vector<std::int32_t> cu_seqlens = {};
  double delta_scale = 0.3;
  bool reverse = false;

  [[nodiscard]] std::int64_t M() const { return order == Order::repeated && steps >= 0 ? steps : length; }
  [[nodiscard]] std::int64_t P() const { return step_params ? M() : length; }
  [[nodiscard]] std::int64_t sequences() const {
    return cu_seqlens.empty() ? batch : static_cast<std::int64_t>(cu_seqlens.size()) - 1;
  }
  [[nodiscard]] DType acc() const { return type == dtype::f64 ? dtype::f64 : dtype::f32; }
  [[nodiscard]] std::string name() const {
    return concat("B", batch, " L", length, " D", channels, " N", states, " ", dtype_name(type), " K", routes, " G",
                  groups, " order ", static_cast<int>(order), " M", M(), " P", P(), " layout ",
                  static_cast<int>(layout), " S", sequences(), extras ? " extras" : "", reverse ? " reverse" : "");
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int64_t states : {1, 2, 3, 4, 7, 8, 16, 29, 64, 128}) {
    all.push_back({.length = 70, .channels = 20, .states = states});
  }
  for (const std::int64_t channels : {1, 3, 8, 15, 16, 17, 33, 130}) all.push_back({.channels = channels});
  for (const std::int64_t length : {0, 1, 2, 63, 64, 65, 127, 128, 129, 300}) all.push_back({.length = length});
  all.push_back({.batch = 0});
  all.push_back({.channels = 0});
  all.push_back({.batch = 300, .length = 3, .channels = 40});
  all.push_back({.batch = 1, .length = 2100, .channels = 400, .states = 4, .extras = false});  // several rounds
  all.push_back({.batch = 1, .length = 4500, .channels = 16, .states = 16});  // the same, with states shared out
  all.push_back({.channels = 40, .states = 5, .groups = 4});
  all.push_back({.length = 700, .channels = 512, .states = 4, .groups = 2});
  for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      all.push_back({.length = 150, .channels = 21, .type = type, .layout = layout});
      all.push_back({.length = 40,
                     .channels = 21,
                     .states = 6,
                     .type = type,
                     .routes = 2,
                     .groups = 3,
                     .order = Order::permuted,
                     .layout = layout});
    }
    all.push_back({.length = 150, .type = type, .extras = false});
    all.push_back({.length = 150, .type = type, .routes = 3, .extras = false});
    all.push_back({.length = 140, .channels = 50, .type = type, .routes = 4, .order = Order::permuted});
    all.push_back({.length = 20, .type = type, .routes = 2, .order = Order::repeated, .steps = 170});
    all.push_back(
        {.length = 20, .type = type, .routes = 2, .order = Order::repeated, .steps = 170, .step_params = true});
    all.push_back({.length = 20, .type = type, .order = Order::repeated, .steps = 0});
    all.push_back({.batch = 1, .length = 300, .type = type, .cu_seqlens = {0, 0, 1, 3, 3, 128, 131, 290, 300, 300}});
    all.push_back({.batch = 1,
                   .length = 300,
                   .channels = 300,
                   .type = type,
                   .routes = 2,
                   .order = Order::permuted,
                   .cu_seqlens = {0, 5, 256, 300}});
    all.push_back({.batch = 1, .length = 0, .type = type, .cu_seqlens = {0}});
    for (const std::int64_t channels : {4, 12, 16, 40}) {  // so few that the states are shared out
      all.push_back({.batch = 1, .length = 300, .channels = channels, .states = 16, .type = type});
      all.push_back({.batch = 1,
                     .length = 300,
                     .channels = channels,
                     .states = 16,
                     .type = type,
                     .layout = Layout::transposed,
                     .cu_seqlens = {0, 0, 1, 3, 3, 128, 131, 290, 300, 300}});
    }
    all.push_back({.length = 90, .type = type, .extras = false, .delta_scale = 100.0});  // decays that underflow
  }
  std::vector<Case> reversed;  // all but the largest, which would take long
  for (Case c : all) {
    c.reverse = true;
    if (c.length * c.channels < 100000) reversed.push_back(c);
  }
  all.insert(all.end(), reversed.begin(), reversed.end());
  return all;
}

const Tensor* make_order(Arena& arena, const Case& c) {
  if (c.order == Order::none) return nullptr;
  std::mt19937 random(7);
  std::vector<std::int32_t> values;
  for (std::int64_t k = 0; k < c.routes; ++k) {
    std::vector<std::int32_t> row(static_cast<std::size_t>(c.M()));
    if (c.order == Order::permuted) {
      std::iota(row.begin(), row.end(), 0);
      std::shuffle(row.begin(), row.end(), random);
    } else {
      for (std::int32_t& p : row) p = static_cast<std::int32_t>(random() % static_cast<unsigned>(c.length));
    }
    values.insert(values.end(), row.begin(), row.end());
  }
  Tensor t = *arena.integers(values);
  const std::int64_t shape[] = {c.routes, c.M()};
  return arena.keep(Tensor::contiguous(t.data, dtype::i32, shape, 2));
}

// u, delta, A, B, C, D, z, delta_bias, initial_state, order, cu_seqlens
std::vector<Value> inputs(Arena& arena, const Case& c) {
  const auto optional = [&](const std::vector<std::int64_t>& shape, DType type) {
    return arg(c.extras ? arena.normal(type, shape, c.layout) : static_cast<const Tensor*>(nullptr));
  };
  const Tensor* delta = arena.normal(c.type, {c.batch, c.routes, c.P(), c.channels}, c.layout, c.delta_scale);
  const Tensor* A = arena.normal(c.acc(), {c.routes, c.channels, c.states}, c.layout);
  // Decays stay below 1: delta >= 0 and A <= 0.
  for (std::int64_t i = 0; i < A->numel(); ++i) {
    const std::int64_t at = testing::offset_of(*A, i);
    store_element(A->data, A->dtype, at, -0.1 - std::abs(load_element(A->data, A->dtype, at)));
  }
  if (!c.extras) {
    for (std::int64_t i = 0; i < delta->numel(); ++i) {
      const std::int64_t at = testing::offset_of(*delta, i);
      store_element(delta->data, delta->dtype, at, std::abs(load_element(delta->data, delta->dtype, at)));
    }
  }
  std::vector<Value> all = {arg(arena.normal(c.type, {c.batch, c.length, c.channels}, c.layout)), arg(delta), arg(A)};
  all.push_back(arg(arena.normal(c.type, {c.batch, c.routes, c.P(), c.groups, c.states}, c.layout)));
  all.push_back(arg(arena.normal(c.type, {c.batch, c.routes, c.P(), c.groups, c.states}, c.layout)));
  all.push_back(optional({c.routes, c.channels}, c.acc()));
  all.push_back(optional({c.batch, c.length, c.channels}, c.type));
  all.push_back(optional({c.routes, c.channels}, c.acc()));
  all.push_back(optional({c.sequences(), c.routes, c.channels, c.states}, c.acc()));
  all.push_back(arg(make_order(arena, c)));
  all.push_back(arg(c.cu_seqlens.empty() ? nullptr : arena.integers(c.cu_seqlens)));
  return all;
}

std::vector<Value> forward_args(const Case& c, std::vector<Value> all, bool states = true) {
  for (const bool flag : {c.extras, c.step_params, states, states, c.reverse}) all.push_back(arg(flag));
  return all;
}

std::vector<Value> backward_args(Arena& arena, const Case& c, const std::vector<Value>& in,
                                 const Tensor* chunk_states) {
  std::vector<Value> all = {
      arg(arena.normal(c.type, {c.batch, c.length, c.channels}, c.layout)),
      arg(c.extras ? arena.normal(c.acc(), {c.sequences(), c.routes, c.channels, c.states}, c.layout)
                   : static_cast<const Tensor*>(nullptr))};
  all.insert(all.end(), in.begin(), in.end());
  all.push_back(arg(chunk_states));
  all.push_back(arg(c.extras));
  all.push_back(arg(c.step_params));
  all.push_back(arg(c.reverse));
  return all;
}

TEST(SelectiveScan, ForwardMatchesReference) {
  for (const Case& c : cases()) {
    Arena arena(1);
    testing::expect_matches_reference(arena, ops().get("selective_scan"), forward_args(c, inputs(arena, c)), c.name(),
                                      c.type == dtype::f32 ? 4.0 : 32.0);
    if (HasFatalFailure()) return;
  }
}

TEST(SelectiveScan, BackwardMatchesReference) {
  for (const Case& c : cases()) {
    Arena arena(2);
    testing::expect_matches_reference(arena, ops().get("selective_scan_backward"),
                                      backward_args(arena, c, inputs(arena, c), nullptr), c.name(),
                                      c.type == dtype::f32 ? 8.0 : 32.0);
    if (HasFatalFailure()) return;
  }
}

TEST(SelectiveScan, BackwardFromSavedChunkStatesIsTheSame) {
  for (const Case& c : cases()) {
    Arena arena(3);
    const std::vector<Value> in = inputs(arena, c);
    const std::vector<Tensor> saved = testing::call(arena, ops().get("selective_scan"), forward_args(c, in));
    std::vector<Value> with = backward_args(arena, c, in, &saved[2]);
    std::vector<Value> without = with;
    without[13] = arg(nullptr);
    const std::vector<Tensor> a = testing::call(arena, ops().get("selective_scan_backward"), with);
    const std::vector<Tensor> b = testing::call(arena, ops().get("selective_scan_backward"), without);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i].numel() == 0) continue;
      ASSERT_EQ(std::memcmp(a[i].data, b[i].data, static_cast<std::size_t>(a[i].nbytes())), 0) << c.name();
    }
  }
}

// The reference's derivative against central differences of the reference, in double.
TEST(SelectiveScan, ReferenceDerivativeIsTheDifference) {
  std::vector<Case> small = {
      {.length = 6, .channels = 4, .states = 3},
      {.length = 5, .channels = 4, .states = 2, .routes = 2, .groups = 2, .order = Order::permuted},
      {.length = 4, .channels = 2, .states = 2, .routes = 2, .order = Order::repeated, .steps = 7},
      {.length = 4, .channels = 2, .states = 2, .routes = 2, .order = Order::repeated, .steps = 7, .step_params = true},
      {.batch = 1, .length = 7, .channels = 3, .states = 2, .cu_seqlens = {0, 2, 2, 7}}};
  for (std::size_t i = 0, forward = small.size(); i < forward; ++i) {
    small.push_back(small[i]);
    small.back().reverse = true;
  }
  for (Case& c : small) {
    c.type = dtype::f64;
    Arena arena(4);
    const Op& forward = ops().get("selective_scan");
    const std::vector<Value> in = inputs(arena, c);
    const std::vector<Value> back = backward_args(arena, c, in, nullptr);
    const auto objective = [&] {  // <grad_y, y> + <grad_final_state, final_state>
      const std::vector<Tensor> out = testing::call(arena, forward, forward_args(c, in));
      double sum = 0.0;
      for (int i = 0; i < 2; ++i) {
        for (std::int64_t j = 0; j < out[static_cast<std::size_t>(i)].numel(); ++j) {
          sum += testing::element(out[static_cast<std::size_t>(i)], j) *
                 testing::element(*back[static_cast<std::size_t>(i)].tensor, j);
        }
      }
      return sum;
    };
    const std::vector<Tensor> grads = testing::call(arena, ops().get("selective_scan_backward"), back);
    for (std::size_t i = 0; i < grads.size(); ++i) {  // the first nine inputs, in order
      const Tensor& x = *in[i].tensor;
      for (std::int64_t j = 0; j < x.numel(); ++j) {
        const std::int64_t at = testing::offset_of(x, j);
        double* p = x.ptr<double>() + at;
        const double value = *p, step = 1e-5;
        *p = value + step;
        const double up = objective();
        *p = value - step;
        const double down = objective();
        *p = value;
        ASSERT_NEAR(testing::element(grads[i], j), (up - down) / (2 * step), 2e-7)
            << c.name() << " " << ops().get("selective_scan_backward").signature.outputs[i].name << " " << j;
      }
    }
  }
}

// A sequence in one call, in two calls with the state carried over, and step by step: the same result.
TEST(SelectiveScan, StateCarriesTheSequence) {
  const std::int64_t L = 150, cut = 77, D = 40, N = 16;
  Case c{.batch = 1, .length = L, .channels = D, .states = N};
  for (const Isa isa : testing::instruction_sets()) {
    const testing::Settings restore;
    set_max_isa(isa);
    Arena arena(5);
    const std::vector<Value> in = inputs(arena, c);
    const Op& scan = ops().get("selective_scan");
    const std::vector<Tensor> whole = testing::call(arena, scan, forward_args(c, in));
    const auto part = [&](std::int64_t from, std::int64_t to, const Tensor* state) {
      std::vector<Value> some = in;
      for (const auto& [index, dim] : {std::pair{0, 1}, {1, 2}, {3, 2}, {4, 2}, {6, 1}}) {
        Tensor t = *in[static_cast<std::size_t>(index)].tensor;
        t.data = t.ptr<float>() + from * t.stride(dim);
        t.shape[static_cast<std::size_t>(dim)] = to - from;
        some[static_cast<std::size_t>(index)] = arg(arena.keep(t));
      }
      if (state != nullptr) some[8] = arg(state);
      return testing::call(arena, scan, forward_args(c, some));
    };
    const std::vector<Tensor> first = part(0, cut, nullptr);
    const std::vector<Tensor> second = part(cut, L, &first[1]);
    testing::expect_close(second[1], whole[1], "final state of the second half");
    const Op& update = ops().get("selective_state_update");
    const std::int64_t state_shape[] = {1, D, N};
    Tensor state = Tensor::contiguous(first[1].data, dtype::f32, state_shape, 3);
    for (std::int64_t t = cut; t < L; ++t) {
      const auto row = [&](int index, int dim, const std::vector<std::int64_t>& shape) {
        const Tensor& x = *in[static_cast<std::size_t>(index)].tensor;
        return arg(arena.keep(Tensor::contiguous(x.ptr<float>() + t * x.stride(dim), dtype::f32, shape.data(),
                                                 static_cast<int>(shape.size()))));
      };
      const auto parameter = [&](int index, const std::vector<std::int64_t>& shape) {
        return arg(arena.keep(Tensor::contiguous(in[static_cast<std::size_t>(index)].tensor->data, dtype::f32,
                                                 shape.data(), static_cast<int>(shape.size()))));
      };
      const std::vector<Value> step = {arg(&state),          row(0, 1, {1, D}),
                                       row(1, 2, {1, D}),    parameter(2, {D, N}),
                                       row(3, 2, {1, 1, N}), row(4, 2, {1, 1, N}),
                                       parameter(5, {D}),    row(6, 1, {1, D}),
                                       parameter(7, {D}),    arg(true),
                                       arg(nullptr),         arg(-1)};
      const Tensor y = arena.empty(dtype::f32, {1, D});
      const Tensor outputs[] = {y, state};  // in place
      update.call(default_context(), step, outputs);
      for (std::int64_t d = 0; d < D; ++d) {
        ASSERT_NEAR(y.ptr<float>()[d], whole[0].ptr<float>()[t * D + d], 2e-5)
            << "step " << t << " on " << isa_name(isa);
        ASSERT_NEAR(second[0].ptr<float>()[(t - cut) * D + d], whole[0].ptr<float>()[t * D + d], 2e-5);
      }
    }
  }
}

TEST(SelectiveScan, PackedSequencesAreIndependent) {
  Case packed{.batch = 1, .length = 200, .channels = 20, .cu_seqlens = {0, 13, 141, 200}};
  Arena arena(6);
  const std::vector<Value> in = inputs(arena, packed);
  const std::vector<Tensor> together = testing::call(arena, ops().get("selective_scan"), forward_args(packed, in));
  for (std::size_t s = 0; s < 3; ++s) {
    const std::int64_t from = packed.cu_seqlens[s], length = packed.cu_seqlens[s + 1] - from;
    std::vector<Value> one = in;
    for (const auto& [index, dim] : {std::pair{0, 1}, {1, 2}, {3, 2}, {4, 2}, {6, 1}}) {
      Tensor t = *in[static_cast<std::size_t>(index)].tensor;
      t.data = t.ptr<float>() + from * t.stride(dim);
      t.shape[static_cast<std::size_t>(dim)] = length;
      one[static_cast<std::size_t>(index)] = arg(arena.keep(t));
    }
    Tensor state = *in[8].tensor;
    state.data = state.ptr<float>() + static_cast<std::int64_t>(s) * state.stride(0);
    state.shape[0] = 1;
    one[8] = arg(arena.keep(state));
    one[10] = arg(nullptr);
    const std::vector<Tensor> alone = testing::call(arena, ops().get("selective_scan"), forward_args(packed, one));
    for (std::int64_t i = 0; i < alone[0].numel(); ++i) {
      ASSERT_NEAR(alone[0].ptr<float>()[i], together[0].ptr<float>()[from * 20 + i], 1e-5);
    }
  }
}

// A second route that visits the positions backwards is the sum of two one-route scans.
TEST(SelectiveScan, RoutesAdd) {
  Case c{.length = 50, .channels = 20, .routes = 2, .order = Order::permuted, .extras = false};
  Arena arena(8);
  const std::vector<Value> in = inputs(arena, c);
  const std::vector<Tensor> both = testing::call(arena, ops().get("selective_scan"), forward_args(c, in, false));
  std::vector<double> sum(static_cast<std::size_t>(both[0].numel()));
  for (std::int64_t k = 0; k < 2; ++k) {
    std::vector<Value> one = in;
    for (const auto& [index, dim] : {std::pair{1, 1}, {2, 0}, {3, 1}, {4, 1}, {9, 0}}) {
      Tensor t = *in[static_cast<std::size_t>(index)].tensor;
      const std::int64_t bytes = t.dtype.bits / 8;
      t.data = t.ptr<std::byte>() + k * t.stride(dim) * bytes;
      t.shape[static_cast<std::size_t>(dim)] = 1;
      one[static_cast<std::size_t>(index)] = arg(arena.keep(t));
    }
    const std::vector<Tensor> alone = testing::call(arena, ops().get("selective_scan"), forward_args(c, one, false));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(alone[0].ptr<float>()[i]);
  }
  for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_NEAR(both[0].ptr<float>()[i], sum[i], 1e-5);
}

// A reversed call is the forward one on copies whose time runs the other way, to the bit.
TEST(SelectiveScan, ReversedIsTheScanOfTheMirroredSequence) {
  for (const Order order : {Order::none, Order::permuted}) {
    for (const std::vector<std::int32_t>& offsets : {std::vector<std::int32_t>{}, {0, 13, 13, 100}}) {
      Case c{.batch = 1, .length = 100, .channels = 20, .order = order, .cu_seqlens = offsets, .reverse = true};
      c.step_params = order != Order::none;
      Arena arena(11);
      const std::vector<Value> in = inputs(arena, c);
      const std::vector<Tensor> got = testing::call(arena, ops().get("selective_scan"), forward_args(c, in));
      std::vector<Value> mirrored = in;
      const auto flip = [&](std::size_t index, int dim) {
        mirrored[index] = arg(arena.keep(in[index].tensor->mirrored(dim)));
      };
      for (const std::size_t i : {1U, 3U, 4U}) flip(i, 2);
      if (order == Order::none) {
        flip(0, 1);
        flip(6, 1);
      } else {
        flip(9, 1);
      }
      if (!offsets.empty()) {
        flip(8, 0);
        mirrored[10] = arg(arena.integers({0, 87, 87, 100}));
      }
      c.reverse = false;
      const std::vector<Tensor> expected = testing::call(arena, ops().get("selective_scan"), forward_args(c, mirrored));
      const Tensor y = order == Order::none ? expected[0].mirrored(1) : expected[0];
      for (std::int64_t i = 0; i < y.numel(); ++i) {
        ASSERT_EQ(testing::element(got[0], i), testing::element(y, i)) << c.name();
      }
      const Tensor final_state = offsets.empty() ? expected[1] : expected[1].mirrored(0);
      for (std::int64_t i = 0; i < final_state.numel(); ++i) {
        ASSERT_EQ(testing::element(got[1], i), testing::element(final_state, i)) << c.name();
      }
    }
  }
}

// A reversed sequence cut in two: the part behind runs first and hands its state to the part before it, which may be
// written over the state it started from.
TEST(SelectiveScan, ReversedStateCarriesTheSequenceInPlace) {
  const std::int64_t L = 150, cut = 77, D = 20;
  Case c{.batch = 1, .length = L, .channels = D, .reverse = true};
  Arena arena(12);
  const std::vector<Value> in = inputs(arena, c);
  const Op& scan = ops().get("selective_scan");
  const std::vector<Tensor> whole = testing::call(arena, scan, forward_args(c, in));
  Tensor state = *in[8].tensor;
  for (const auto& [from, to] : {std::pair{cut, L}, {std::int64_t{0}, cut}}) {
    std::vector<Value> some = in;
    for (const auto& [index, dim] : {std::pair{0, 1}, {1, 2}, {3, 2}, {4, 2}, {6, 1}}) {
      Tensor t = *in[static_cast<std::size_t>(index)].tensor;
      t.data = t.ptr<float>() + from * t.stride(dim);
      t.shape[static_cast<std::size_t>(dim)] = to - from;
      some[static_cast<std::size_t>(index)] = arg(arena.keep(t));
    }
    some[8] = arg(&state);
    std::vector<Value> all = forward_args(c, some);
    all[14] = arg(false);  // no chunk states
    const Tensor y = arena.empty(dtype::f32, {1, to - from, D});
    const Tensor outputs[] = {y, state, arena.empty(dtype::f32, {0})};
    scan.call(default_context(), all, outputs);
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      ASSERT_NEAR(y.ptr<float>()[i], whole[0].ptr<float>()[from * D + i], 2e-5) << from;
    }
  }
  testing::expect_close(state, whole[1], "final state", 4.0);
}

TEST(SelectiveScan, BadInputIsRefusedClearly) {
  Arena arena(9);
  const auto message = [&](const Case& c, const std::function<void(std::vector<Value>&)>& spoil) -> std::string {
    std::vector<Value> in = inputs(arena, c);
    spoil(in);
    try {
      testing::call(arena, ops().get("selective_scan"), forward_args(c, in));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
      return e.what();
    }
    return "no error";
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  const Case routed{.length = 5, .order = Order::permuted};
  EXPECT_TRUE(has(message(routed, [](auto& in) { in[9].tensor->template ptr<std::int32_t>()[3] = 5; }),
                  "order[0, 3] is 5, expected a position in [0, 5)"));
  EXPECT_TRUE(has(message({.channels = 20, .groups = 3}, [](auto&) {}), "3 groups, expected a divisor of 20"));
  const Case more{.length = 5, .order = Order::repeated, .steps = 9, .step_params = true};
  Case wrong = more;
  wrong.step_params = false;
  std::vector<Value> in = forward_args(more, inputs(arena, more));
  in[12] = arg(false);
  EXPECT_THROW(testing::call(arena, ops().get("selective_scan"), in), Error);
  for (const std::vector<std::int32_t>& offsets :
       std::vector<std::vector<std::int32_t>>{{1, 37}, {0, 20, 10, 37}, {0, 36}, {0, 38}}) {
    EXPECT_TRUE(has(message({.batch = 1, .cu_seqlens = offsets}, [](auto&) {}), "cu_seqlens"));
  }
  EXPECT_TRUE(has(message({.batch = 2, .cu_seqlens = {0, 37}}, [](auto&) {}), "expected 1 with cu_seqlens"));
}

// ---- selective_state_update ----

std::vector<Value> update_args(Arena& arena, DType type, std::int64_t B, std::int64_t D, std::int64_t G, std::int64_t N,
                               Layout layout, bool extras) {
  const auto optional = [&](DType t, const std::vector<std::int64_t>& shape) {
    return arg(extras ? arena.normal(t, shape, layout) : static_cast<const Tensor*>(nullptr));
  };
  const DType acc = type == dtype::f64 ? dtype::f64 : dtype::f32;
  std::vector<Value> all = {arg(arena.normal(acc, {B, D, N}, layout)),  arg(arena.normal(type, {B, D}, layout)),
                            arg(arena.normal(type, {B, D}, layout)),    arg(arena.normal(acc, {D, N}, layout)),
                            arg(arena.normal(type, {B, G, N}, layout)), arg(arena.normal(type, {B, G, N}, layout))};
  all.push_back(optional(acc, {D}));
  all.push_back(optional(type, {B, D}));
  all.push_back(optional(acc, {D}));
  all.push_back(arg(extras));
  all.push_back(arg(nullptr));  // state_indices
  all.push_back(arg(-1));
  return all;
}

TEST(SelectiveStateUpdate, MatchesReferenceWithItsDerivative) {
  for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      for (const auto& [B, D, G, N] : std::vector<std::array<std::int64_t, 4>>{{1, 64, 1, 16},
                                                                               {3, 37, 1, 16},
                                                                               {2, 24, 4, 5},
                                                                               {2, 20, 1, 1},
                                                                               {1, 40, 2, 64},
                                                                               {0, 8, 1, 16},
                                                                               {2, 0, 1, 4}}) {
        for (const bool extras : {false, true}) {
          Arena arena(10);
          const std::vector<Value> in = update_args(arena, type, B, D, G, N, layout, extras);
          const std::string name = concat("update ", dtype_name(type), " B", B, " D", D, " G", G, " N", N);
          const double slack = type == dtype::f32 ? 8.0 : 32.0;
          testing::expect_matches_reference(arena, ops().get("selective_state_update"), in, name, slack);
          std::vector<Value> back = {
              arg(arena.normal(type, {B, D}, layout)),
              arg(extras ? arena.normal(dtype::f32, {B, D, N}, layout) : static_cast<const Tensor*>(nullptr))};
          back.insert(back.end(), in.begin(), in.end());
          testing::expect_matches_reference(arena, ops().get("selective_state_update_backward"), back, name, slack);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

}  // namespace
}  // namespace mambasdk
