// The selective scan's CUDA kernel, run by the emulation, against the operation's reference.
#include "ops/selective_scan/selective_scan.cu"  // the kernels

#include <gtest/gtest.h>

#include <numeric>

#include "ops/op_testing.hpp"
#include "ops/selective_scan/scan_device_plan.hpp"
#include "ops/selective_scan/selective_scan.hpp"
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
  std::int64_t batch = 2, length = 21, channels = 20, states = 16;
  DType type = dtype::f32;
  DType delta_type = type, z_type = type;
  std::int64_t routes = 1, groups = 1;
  Order order = Order::none;
  std::int64_t steps = -1;  // with Order::repeated
  bool step_params = false, extras = true;
  Layout layout = Layout::contiguous;
  std::vector<std::int32_t> cu_seqlens = {};
  double delta_scale = 0.3;
  bool reverse = false;
  bool gated = true;

  [[nodiscard]] std::int64_t M() const { return order == Order::repeated && steps >= 0 ? steps : length; }
  [[nodiscard]] std::int64_t P() const { return step_params ? M() : length; }
  [[nodiscard]] std::int64_t sequences() const {
    return cu_seqlens.empty() ? batch : static_cast<std::int64_t>(cu_seqlens.size()) - 1;
  }
  [[nodiscard]] std::string name() const {
    return concat("B", batch, " L", length, " D", channels, " N", states, " ", dtype_name(type), " delta ",
                  dtype_name(delta_type), " z ", dtype_name(z_type), " K", routes, " G", groups, " order ",
                  static_cast<int>(order), " M", M(), " P", P(), " layout ", static_cast<int>(layout), " S",
                  sequences(), extras ? " extras" : "", reverse ? " reverse" : "");
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int64_t states : {0, 1, 3, 16, 17, 29, 32, 48, 64, 70, 128}) {
    all.push_back({.length = 11, .channels = 5, .states = states});
    all.push_back({.length = 11, .channels = 5, .states = states, .type = dtype::bf16});
  }
  all.push_back({.batch = 1, .length = 9, .channels = 3, .states = 256});
  for (const std::int64_t channels : {0, 1, 31, 33, 130, 160}) {
    all.push_back({.batch = 1, .length = 9, .channels = channels, .states = 4});
  }
  for (const std::int64_t length : {0, 1, 7, 8, 9, 127, 128, 129, 260}) {
    all.push_back({.length = length, .channels = 3, .states = 2});
  }
  all.push_back({.batch = 0});
  all.push_back({.channels = 48, .states = 5, .groups = 3});
  // A sequence that ends a few steps before a saved state, which is the next one's.
  all.push_back({.batch = 1, .length = 140, .channels = 3, .states = 2, .cu_seqlens = {0, 125, 140}});
  for (const DType type : {dtype::f32, dtype::bf16, dtype::f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      all.push_back({.length = 30, .channels = 24, .type = type, .layout = layout});
      all.push_back({.channels = 24,
                     .states = 6,
                     .type = type,
                     .routes = 2,
                     .groups = 3,
                     .order = Order::permuted,
                     .layout = layout});
    }
    all.push_back({.type = type, .extras = false});
    all.push_back({.type = type, .gated = false});
    all.push_back({.type = type, .routes = 3, .extras = false});
    all.push_back({.channels = 8, .type = type, .routes = 2, .order = Order::permuted});
    all.push_back({.length = 10, .channels = 8, .type = type, .routes = 2, .order = Order::repeated, .steps = 140});
    all.push_back({.length = 10,
                   .channels = 8,
                   .type = type,
                   .routes = 2,
                   .order = Order::repeated,
                   .steps = 33,
                   .step_params = true});
    all.push_back({.length = 10, .channels = 8, .type = type, .order = Order::repeated, .steps = 0});
    all.push_back({.batch = 1,
                   .length = 270,
                   .channels = 4,
                   .states = 3,
                   .type = type,
                   .cu_seqlens = {0, 0, 1, 3, 3, 128, 131, 256, 270, 270}});
    all.push_back({.batch = 1,
                   .length = 140,
                   .channels = 4,
                   .states = 3,
                   .type = type,
                   .routes = 2,
                   .cu_seqlens = {0, 5, 128, 140}});
    all.push_back({.batch = 1,
                   .length = 40,
                   .channels = 4,
                   .states = 3,
                   .type = type,
                   .routes = 2,
                   .order = Order::permuted,
                   .cu_seqlens = {0, 5, 5, 32, 40}});
    all.push_back({.batch = 1, .length = 0, .type = type, .cu_seqlens = {0}});
    all.push_back({.type = type, .extras = false, .delta_scale = 100.0});  // decays that underflow
    if (type == dtype::f32) continue;
    all.push_back({.type = type, .delta_type = dtype::f32});
    all.push_back({.type = type, .z_type = dtype::f32});
    all.push_back({.type = type, .delta_type = dtype::f32, .z_type = dtype::f32, .routes = 2});
  }
  for (std::size_t i = 0, n = all.size(); i < n; ++i) {
    all.push_back(all[i]);
    all.back().reverse = true;
  }
  return all;
}

// In the order of the operation's arguments.
std::vector<Value> inputs(Arena& arena, const Case& c) {
  std::mt19937 random(7);
  const auto no = arg(nullptr);
  const auto made = [&](DType type, const std::vector<std::int64_t>& shape, double scale = 1.0) {
    return arena.normal(type, shape, c.layout, scale);
  };
  const auto each = [](const Tensor& t, auto&& change) {
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      const std::int64_t at = testing::offset_of(t, i);
      store_element(t.data, t.dtype, at, change(load_element(t.data, t.dtype, at)));
    }
  };
  const Tensor* delta = made(c.delta_type, {c.batch, c.routes, c.P(), c.channels}, c.delta_scale);
  const Tensor* A = made(dtype::f32, {c.routes, c.channels, c.states});
  each(*A, [](double x) { return -0.1 - std::abs(x); });
  if (!c.extras) each(*delta, [](double x) { return std::abs(x); });
  std::vector<Value> all = {arg(made(c.type, {c.batch, c.length, c.channels})), arg(delta), arg(A)};
  for (int i = 0; i < 2; ++i) all.push_back(arg(made(c.type, {c.batch, c.routes, c.P(), c.groups, c.states})));
  all.push_back(c.extras ? arg(made(dtype::f32, {c.routes, c.channels})) : no);
  all.push_back(c.extras && c.gated ? arg(made(c.z_type, {c.batch, c.length, c.channels})) : no);
  all.push_back(c.extras ? arg(made(dtype::f32, {c.routes, c.channels})) : no);
  all.push_back(c.extras ? arg(made(dtype::f32, {c.sequences(), c.routes, c.channels, c.states})) : no);
  if (c.order == Order::none) {
    all.push_back(no);
  } else {
    std::vector<std::int32_t> values(static_cast<std::size_t>(c.routes * c.M()));
    for (std::int64_t k = 0; k < c.routes; ++k) {
      const auto row = values.begin() + k * c.M();
      std::iota(row, row + c.M(), 0);
      if (c.order == Order::permuted) std::shuffle(row, row + c.M(), random);
      for (auto p = row; p != row + c.M() && c.order == Order::repeated; ++p) {
        *p = static_cast<std::int32_t>(random() % static_cast<unsigned>(c.length));
      }
    }
    const std::int64_t shape[] = {c.routes, c.M()};
    all.push_back(arg(arena.keep(Tensor::contiguous(arena.integers(values)->data, dtype::i32, shape, 2))));
  }
  all.push_back(c.cu_seqlens.empty() ? no : arg(arena.integers(c.cu_seqlens)));
  for (const bool flag : {c.extras, c.step_params, true, true, c.reverse}) all.push_back(arg(flag));
  return all;
}

selective_scan::SelectiveScanArgs scan_args(const Case& c, const std::vector<Value>& in,
                                            const std::vector<Tensor>& out) {
  const auto view = [&](std::size_t i) { return strided_view(in[i].tensor); };
  return {.batch = c.batch,
          .length = c.length,
          .channels = c.channels,
          .routes = c.routes,
          .steps = c.M(),
          .params = c.P(),
          .groups = c.groups,
          .states = c.states,
          .sequences = c.sequences(),
          .type = c.type,
          .delta_type = c.delta_type,
          .z_type = c.z_type,
          .delta_softplus = c.extras,
          .step_params = c.step_params,
          .u = view(0),
          .delta = view(1),
          .A = view(2),
          .B = view(3),
          .C = view(4),
          .D = view(5),
          .z = view(6),
          .delta_bias = view(7),
          .initial_state = view(8),
          .order = view(9),
          .cu_seqlens = view(10),
          .y = strided_view(out[0]),
          .final_state = strided_view(out[1]),
          .chunk_states = strided_view(out[2])};
}

void expose(emulation::GlobalMemory& memory, const Tensor& t, const std::string& name, bool written) {
  if (t.numel() == 0) return;
  std::int64_t extent = 1;
  for (int d = 0; d < t.ndim; ++d) extent += (t.size(d) - 1) * t.stride(d);
  memory.add(t.data, static_cast<std::size_t>(extent * t.dtype.bits / 8), name, written);
}

template <class T>
void kernel(int states, const selective_scan::ScanParams& p) {
  if (states == 16) return selective_scan::scan_forward<T, 16>(p);
  if (states == 32) return selective_scan::scan_forward<T, 32>(p);
  selective_scan::scan_forward<T, 64>(p);
}

struct Emulated {
  std::vector<Tensor> outputs;
  emulation::Counts counts;
};
struct Options {
  bool count_banks = false, in_place = false;  // in place: final_state is the memory of initial_state
};
Emulated emulated(Arena& arena, const Case& c, const std::vector<Value>& in, unsigned seed, Options options = {}) {
  const Op& op = ops().get("selective_scan");
  emulation::GlobalMemory memory;
  Emulated run{};
  for (std::size_t i = 0; i < 11; ++i) {
    if (in[i].tensor != nullptr) expose(memory, *in[i].tensor, op.signature.inputs[i].name, true);
  }
  for (const Tensor& planned : op.plan(in).outputs) {
    run.outputs.push_back(arena.empty(planned.dtype, {planned.shape.begin(), planned.shape.begin() + planned.ndim}));
    if (options.in_place && run.outputs.size() == 2) {
      run.outputs.back() = *in[8].tensor;
      continue;
    }
    expose(memory, run.outputs.back(), op.signature.outputs[run.outputs.size() - 1].name, false);
  }
  selective_scan::DevicePlan plan = selective_scan::device_plan(scan_args(c, in, run.outputs), c.reverse);
  const Tensor sums = arena.empty(dtype::f32, {static_cast<std::int64_t>(plan.sums_bytes / sizeof(float))});
  if (plan.sums_bytes > 0) {
    plan.params.sums = sums.ptr<float>();
    memory.add(sums.data, plan.sums_bytes, "sums", false);
  }
  if (plan.blocks == 0) return run;
  const emulation::Launch launch{.grid = {static_cast<unsigned>(plan.blocks)},
                                 .block = {static_cast<unsigned>(plan.threads)},
                                 .shared_bytes = static_cast<std::size_t>(plan.shared_bytes),
                                 .seed = seed,
                                 .count_banks = options.count_banks};
  run.counts = emulation::launch(memory, launch, [&] {
    if (c.type == dtype::f32) {
      kernel<float>(plan.states, plan.params);
    } else if (c.type == dtype::bf16) {
      kernel<bf16>(plan.states, plan.params);
    } else {
      kernel<f16>(plan.states, plan.params);
    }
  });
  return run;
}

TEST(CudaSelectiveScan, MatchesTheReference) {
  unsigned seed = 0;
  for (const Case& c : cases()) {
    Arena arena(++seed);
    const std::vector<Value> in = inputs(arena, c);
    const Op& op = ops().get("selective_scan");
    const std::vector<Tensor> expected = testing::call(arena, op, in, KernelChoice::reference);
    Emulated run;
    try {
      run = emulated(arena, c, in, seed);
    } catch (const emulation::Fault& f) {
      FAIL() << c.name() << ": " << f.what();
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      testing::expect_close(run.outputs[i], expected[i], c.name() + " " + op.signature.outputs[i].name,
                            c.type == dtype::f32 ? 4.0 : 32.0);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(CudaSelectiveScan, MayWriteTheStateWhereItReadIt) {
  const Case c{.length = 9, .channels = 5, .states = 3, .routes = 2};
  Arena arena(6);
  const std::vector<Value> in = inputs(arena, c);
  const std::vector<Tensor> expected = testing::call(arena, ops().get("selective_scan"), in, KernelChoice::reference);
  const Emulated run = emulated(arena, c, in, 2, {.in_place = true});
  testing::expect_close(*in[8].tensor, expected[1], "final_state", 4.0);
  testing::expect_close(run.outputs[0], expected[0], "y", 4.0);
}

// A decay of 0 leaves nothing of a state that is not finite.
TEST(CudaSelectiveScan, ForgetsWhatIsNotFinite) {
  const Case c{.batch = 1, .length = 9, .channels = 2, .states = 2, .delta_scale = 1.0};
  Arena arena(5);
  const std::vector<Value> in = inputs(arena, c);
  for (std::int64_t i = 0; i < 4; ++i) {
    store_element(in[8].tensor->data, dtype::f32, i, i % 2 == 0 ? std::numeric_limits<double>::infinity() : NAN);
  }
  for (std::int64_t d = 0; d < 2; ++d) store_element(in[1].tensor->data, dtype::f32, d, 5000.0);  // the first step
  const Emulated run = emulated(arena, c, in, 1);
  const std::vector<Tensor> expected = testing::call(arena, ops().get("selective_scan"), in, KernelChoice::reference);
  testing::expect_close(run.outputs[0], expected[0], "y", 4.0);
  for (std::int64_t i = 0; i < 18; ++i) EXPECT_TRUE(std::isfinite(testing::element(run.outputs[0], i)));
}

TEST(CudaSelectiveScan, HasTheSameBitsInEveryOrderOfThreadsAndBlocks) {
  const Case c{.length = 20, .channels = 70, .states = 4, .routes = 2, .order = Order::repeated, .steps = 24};
  Arena arena(3);
  const std::vector<Value> in = inputs(arena, c);
  const Emulated first = emulated(arena, c, in, 0);
  for (unsigned seed = 1; seed < 6; ++seed) {
    const Emulated again = emulated(arena, c, in, seed);
    for (std::size_t i = 0; i < first.outputs.size(); ++i) {
      ASSERT_EQ(std::memcmp(again.outputs[i].data, first.outputs[i].data,
                            static_cast<std::size_t>(first.outputs[i].nbytes())),
                0);
    }
  }
}

TEST(CudaSelectiveScan, HasNoBankConflicts) {
  for (const DType type : {dtype::f32, dtype::bf16}) {
    const Case c{.batch = 1, .length = 16, .channels = 128, .type = type};
    Arena arena(4);
    const Emulated run = emulated(arena, c, inputs(arena, c), 0, {.count_banks = true});
    EXPECT_GT(run.counts.shared_accesses, 0);
    EXPECT_EQ(run.counts.bank_conflicts, 0) << c.name();
  }
}

}  // namespace
}  // namespace mambasdk
