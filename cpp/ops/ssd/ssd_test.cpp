// ssd and ssd_state_update: vector kernels against the recurrence, the derivative against differences of the
// recurrence, and what the scan guarantees about splitting, resetting and reversing sequences.
#include "ops/ssd/ssd_args.hpp"

#include <cstring>

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::arg;
using testing::Layout;

const Registry& ops() {
  return testing::operations<register_ssd>();
}

struct Case {
  std::int64_t B, L, H, P, G, N;
  DType type = dtype::f32;
  Layout layout = Layout::contiguous;
  int skip = 1;  // D: 0 absent, 1 per head, 2 per channel
  bool z = false, bias = true, initial_state = true, final_state = true;
  bool softplus = true, limits = false, dt_on_x = true, reverse = false;
  std::vector<std::int32_t> cu_seqlens{};
  int seq_idx = 0;     // a new index every so many steps; 0: none
  double rates = 1.0;  // A is multiplied by it

  [[nodiscard]] std::int64_t sequences() const {
    return cu_seqlens.empty() ? B : static_cast<std::int64_t>(cu_seqlens.size()) - 1;
  }
  [[nodiscard]] std::string name() const {
    return concat("ssd B", B, " L", L, " H", H, " P", P, " G", G, " N", N, " ", dtype_name(type), " layout ",
                  static_cast<int>(layout), " D ", skip, " z ", z, " bias ", bias, " initial ", initial_state,
                  " final ", final_state, " softplus ", softplus, " limits ", limits, " dt_on_x ", dt_on_x, " reverse ",
                  reverse, " cu_seqlens ", cu_seqlens.size(), " seq_idx ", seq_idx, " rates ", rates);
  }
};

std::vector<Case> cases() {
  constexpr DType f32 = dtype::f32, bf16 = dtype::bf16, f16 = dtype::f16;
  std::vector<Case> all;
  for (const DType type : {f32, bf16, f16}) {
    for (const Layout layout : {Layout::contiguous, Layout::padded, Layout::transposed}) {
      all.push_back({2, 70, 4, 5, 2, 6, type, layout, 2, true});
      all.push_back({1, 150, 2, 16, 1, 16, type, layout, 1, false, true, false, false, true, true, true, true});
    }
    all.push_back(
        {2, 150, 4, 5, 2, 6, type, Layout::contiguous, 1, false, true, true, true, true, true, true, true, {}, 37});
    all.push_back({1,
                   150,
                   6,
                   8,
                   1,
                   9,
                   type,
                   Layout::padded,
                   0,
                   true,
                   false,
                   true,
                   true,
                   true,
                   false,
                   false,
                   true,
                   {0, 3, 3, 70, 71, 150}});
    all.push_back({1, 90, 2, 17, 2, 33, type, Layout::contiguous, 1, true, true, false, true, false, false, false});
  }
  for (const std::int64_t L : {0, 1, 2, 15, 63, 64, 65, 128, 200}) all.push_back({2, L, 2, 3, 1, 4});
  for (const DType type : {f32, bf16}) {
    all.push_back({1, 130, 3, 64, 1, 32, type});  // no padding anywhere
    for (const double rates : {0.0, 5.0, 1000.0}) {
      all.push_back({1, 130, 3, 16, 1, 16, type});
      all.back().rates = rates;
    }
  }
  for (const std::int64_t P : {1, 15, 16, 33, 64, 80}) all.push_back({1, 20, 1, P, 1, 7});
  for (const std::int64_t N : {1, 16, 40, 128}) all.push_back({1, 70, 9, 8, 1, N});
  all.push_back({1, 100, 2, 64, 1, 128, bf16});
  all.push_back({0, 5, 2, 3, 1, 4});
  all.push_back(
      {1, 2200, 5, 4, 1, 4, f32, Layout::contiguous, 1, false, true, true, true, true, false, true, false, {}, 500});
  all.push_back({70, 10, 3, 8, 1, 8});
  return all;
}

// x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx, scalars
std::vector<Value> inputs(Arena& arena, const Case& c) {
  const DType acc = c.type == dtype::f64 ? dtype::f64 : dtype::f32;
  const Tensor* A = arena.normal(acc, {c.H});
  for (std::int64_t h = 0; h < c.H; ++h)
    store_element(A->data, acc, h, c.rates * (-0.05 - 0.4 * std::abs(load_element(A->data, acc, h))));
  std::vector<std::int32_t> index;
  if (c.seq_idx > 0) {
    for (std::int64_t b = 0; b < c.B; ++b)
      for (std::int64_t l = 0; l < c.L; ++l) index.push_back(static_cast<std::int32_t>((l + b) / c.seq_idx));
  }
  const Tensor* seq_idx = nullptr;
  if (c.seq_idx > 0) {
    Tensor shaped = *arena.integers(index);
    const std::int64_t shape[2] = {c.B, c.L};
    seq_idx = arena.keep(Tensor::contiguous(shaped.data, dtype::i32, shape, 2));
  }
  return {arg(arena.normal(c.type, {c.B, c.L, c.H, c.P}, c.layout)),
          arg(arena.normal(c.type, {c.B, c.L, c.H}, c.layout)),
          arg(A),
          arg(arena.normal(c.type, {c.B, c.L, c.G, c.N}, c.layout)),
          arg(arena.normal(c.type, {c.B, c.L, c.G, c.N}, c.layout)),
          arg(c.skip == 0 ? nullptr : arena.normal(acc, {c.H, c.skip == 1 ? 1 : c.P}, c.layout)),
          arg(c.z ? arena.normal(c.type, {c.B, c.L, c.H, c.P}, c.layout) : nullptr),
          arg(c.bias ? arena.normal(acc, {c.H}) : nullptr),
          arg(c.initial_state ? arena.normal(acc, {c.sequences(), c.H, c.P, c.N}, c.layout) : nullptr),
          arg(c.cu_seqlens.empty() ? nullptr : arena.integers(c.cu_seqlens)),
          arg(seq_idx),
          arg(c.softplus),
          arg(c.limits ? 0.3 : 0.0),
          arg(c.limits ? 1.1 : std::numeric_limits<double>::infinity()),
          arg(c.dt_on_x),
          arg(c.reverse)};
}

std::vector<Value> forward_args(Arena& arena, const Case& c) {
  std::vector<Value> f = inputs(arena, c);
  f.push_back(arg(c.final_state));
  f.push_back(arg(c.final_state));  // chunk_states
  return f;
}

std::vector<Value> backward_args(Arena& arena, const Case& c) {
  const DType acc = c.type == dtype::f64 ? dtype::f64 : dtype::f32;
  std::vector<Value> b = {arg(arena.normal(c.type, {c.B, c.L, c.H, c.P}, c.layout)),
                          arg(c.final_state ? arena.normal(acc, {c.sequences(), c.H, c.P, c.N}, c.layout) : nullptr)};
  std::vector<Value> f = inputs(arena, c);
  f.insert(f.begin() + 11, arg(nullptr));
  b.insert(b.end(), f.begin(), f.end());
  return b;
}

// Products of a bf16 call may run on bf16 pairs, and saved states have the precision of the call: its float32 outputs
// (states, sums over time) are then as good as that precision.
void expect_matches(Arena& arena, const std::string& op, const std::vector<Value>& f, const Case& c,
                    bool saved_states = false) {
  const bool rounded = c.type == dtype::bf16 || (saved_states && c.type == dtype::f16);
  const double limit = c.type == dtype::bf16 ? 0x1p-5 : 0x1p-8;  // eight roundings
  if (!rounded) return testing::expect_matches_reference(arena, ops().get(op), f, op + c.name(), 4.0);
  const testing::Settings restore;
  const std::vector<Tensor> expected = testing::call(arena, ops().get(op), f, KernelChoice::reference);
  for (const Isa isa : testing::instruction_sets()) {
    set_max_isa(isa);
    set_num_threads(1);
    const std::vector<Tensor> got = testing::call(arena, ops().get(op), f);
    set_num_threads(3);
    const std::vector<Tensor> again = testing::call(arena, ops().get(op), f);
    for (std::size_t i = 0; i < got.size(); ++i) {
      double scale = 1e-3;
      for (std::int64_t e = 0; e < got[i].numel(); ++e)
        scale = std::max(scale, std::abs(testing::element(expected[i], e)));
      if (expected[i].data == nullptr || (expected[i].ndim == 1 && expected[i].numel() == 0)) continue;
      const std::string what = op + c.name() + " " + isa_name(isa) + " output " + std::to_string(i);
      for (std::int64_t e = 0; e < got[i].numel(); ++e) {
        ASSERT_NEAR(testing::element(got[i], e), testing::element(expected[i], e), limit * scale)
            << what << ", element " << e << ", scale " << scale;
        ASSERT_EQ(testing::element(again[i], e), testing::element(got[i], e)) << what << " with 3 threads";
      }
    }
  }
}

TEST(Ssd, ForwardMatchesRecurrence) {
  for (const Case& c : cases()) {
    Arena arena(1);
    expect_matches(arena, "ssd", forward_args(arena, c), c);
    if (HasFatalFailure()) return;
  }
}

TEST(Ssd, BackwardMatchesRecurrence) {
  for (const Case& c : cases()) {
    Arena arena(2);
    expect_matches(arena, "ssd_backward", backward_args(arena, c), c);
    if (HasFatalFailure()) return;
  }
}

// The derivative is the same whether the states are saved by the forward or computed again.
TEST(Ssd, SavedStatesGiveTheSameDerivative) {
  for (Case c : cases()) {
    if (c.L == 0 || c.B == 0) continue;
    c.final_state = true;
    Arena arena(8);
    std::vector<Value> b = backward_args(arena, c);
    std::vector<Value> f(b.begin() + 2, b.end());
    f.erase(f.begin() + 11);
    f.push_back(arg(true));
    f.push_back(arg(true));
    b[13] = arg(arena.keep(testing::call(arena, ops().get("ssd"), f, KernelChoice::reference)[2]));
    expect_matches(arena, "ssd_backward", b, c, true);
    if (HasFatalFailure()) return;
  }
}

// Saved states are read as pairs of bfloat16 where they lie; memory that begins between two pairs gives the same.
TEST(Ssd, SavedStatesMayBeginAtAnyElement) {
  const Case c{1, 130, 3, 64, 1, 32, dtype::bf16};
  Arena arena(9);
  std::vector<Value> b = backward_args(arena, c);
  const Tensor saved = *arena.normal(c.type, {130 / ssd::kSsdChunk + 1, c.H, c.N, c.P});
  std::vector<std::byte> memory(static_cast<std::size_t>(saved.nbytes()) + 64);
  Tensor shifted = saved;
  shifted.data = memory.data() + 2 + 4 - reinterpret_cast<std::uintptr_t>(memory.data()) % 4;
  std::memcpy(shifted.data, saved.data, static_cast<std::size_t>(saved.nbytes()));
  const testing::Settings restore;
  for (const Isa isa : testing::instruction_sets()) {
    set_max_isa(isa);
    b[13] = arg(&saved);
    const std::vector<Tensor> expected = testing::call(arena, ops().get("ssd_backward"), b);
    b[13] = arg(&shifted);
    const std::vector<Tensor> got = testing::call(arena, ops().get("ssd_backward"), b);
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (expected[i].data == nullptr) continue;
      EXPECT_EQ(std::memcmp(got[i].data, expected[i].data, static_cast<std::size_t>(got[i].nbytes())), 0)
          << isa_name(isa) << " output " << i;
    }
  }
}

// x, dt, ... of one step out of a sequence case of length 1.
std::vector<Value> step_args(Arena& arena, const Case& c) {
  const DType acc = c.type == dtype::f64 ? dtype::f64 : dtype::f32;
  const std::vector<Value> f = inputs(arena, {c.B, 1, c.H, c.P, c.G, c.N});
  return {arg(arena.normal(acc, {c.B, c.H, c.P, c.N}, c.layout)),
          arg(arena.normal(c.type, {c.B, c.H, c.P}, c.layout)),
          arg(arena.normal(c.type, {c.B, c.H}, c.layout)),
          c.type == dtype::f64 ? arg(arena.normal(acc, {c.H})) : f[2],
          arg(arena.normal(c.type, {c.B, c.G, c.N}, c.layout)),
          arg(arena.normal(c.type, {c.B, c.G, c.N}, c.layout)),
          arg(c.skip == 0 ? nullptr : arena.normal(acc, {c.H, c.skip == 1 ? 1 : c.P}, c.layout)),
          arg(c.z ? arena.normal(c.type, {c.B, c.H, c.P}, c.layout) : nullptr),
          arg(c.bias ? arena.normal(acc, {c.H}) : nullptr),
          arg(c.softplus),
          arg(c.limits ? 0.3 : 0.0),
          arg(c.limits ? 1.1 : std::numeric_limits<double>::infinity()),
          arg(c.dt_on_x),
          arg(nullptr),  // state_indices
          arg(-1)};
}

TEST(Ssd, UpdateAndItsDerivativeMatchRecurrence) {
  for (Case c : cases()) {
    c.L = 1;
    Arena arena(3);
    std::vector<Value> f = step_args(arena, c);
    expect_matches(arena, "ssd_state_update", f, c);
    if (HasFatalFailure()) return;
    f.insert(f.begin(), {arg(arena.normal(c.type, {c.B, c.H, c.P}, c.layout)),
                         arg(arena.normal(dtype::f32, {c.B, c.H, c.P, c.N}, c.layout))});
    expect_matches(arena, "ssd_state_update_backward", f, c);
    if (HasFatalFailure()) return;
  }
}

// The recurrence's derivative against central differences of sum(grad_y y) + sum(grad_final_state final_state).
TEST(Ssd, ReferenceBackwardIsTheDerivative) {
  std::vector<Case> all;
  all.push_back({2, 5, 2, 2, 1, 3, dtype::f64, Layout::padded, 2, true});
  all.push_back(
      {1, 6, 2, 2, 2, 2, dtype::f64, Layout::contiguous, 1, false, true, true, true, true, true, false, true, {}, 4});
  all.push_back({1,
                 6,
                 2,
                 2,
                 1,
                 2,
                 dtype::f64,
                 Layout::contiguous,
                 1,
                 true,
                 false,
                 true,
                 true,
                 true,
                 false,
                 true,
                 true,
                 {0, 2, 2, 6}});
  for (const Case& c : all) {
    Arena arena(4);
    const std::vector<Value> b = backward_args(arena, c);
    std::vector<Value> f(b.begin() + 2, b.end());
    f.erase(f.begin() + 11);
    f.push_back(arg(true));
    f.push_back(arg(false));
    const auto loss = [&] {
      Arena temporary(0);
      const std::vector<Tensor> out = testing::call(temporary, ops().get("ssd"), f);
      return testing::dot(out[0], *b[0].tensor) + (c.final_state ? testing::dot(out[1], *b[1].tensor) : 0.0);
    };
    const std::vector<Tensor> grads = testing::call(arena, ops().get("ssd_backward"), b);
    for (std::size_t i = 0; i < 9; ++i) {
      if (f[i].tensor == nullptr) continue;
      testing::expect_derivative(*f[i].tensor, grads[i], loss, concat(c.name(), ": input ", i), 1e-6);
      if (HasFatalFailure()) return;
    }
  }
}

std::vector<Tensor> run(Arena& arena, std::vector<Value> f) {
  return testing::call(arena, ops().get("ssd"), f);
}

Tensor narrow(const Tensor& t, std::int64_t begin, std::int64_t length) {  // of dim 1
  Tensor part = t;
  part.data = t.ptr<float>() + begin * t.stride(1);
  part.shape[1] = length;
  return part;
}

// Continuing from final_state gives what one long call gives, at every kind of boundary.
TEST(Ssd, SplitSequenceEqualsWholeSequence) {
  const Case c{2, 200, 2, 8, 1, 16};
  for (const std::int64_t at : {1, 63, 64, 65, 130}) {
    Arena arena(5);
    const std::vector<Value> whole = forward_args(arena, c);
    const std::vector<Tensor> expected = run(arena, whole);
    std::vector<Value> first = whole, second = whole;
    for (const std::size_t i : {0, 1, 3, 4}) {
      first[i] = arg(arena.keep(narrow(*whole[i].tensor, 0, at)));
      second[i] = arg(arena.keep(narrow(*whole[i].tensor, at, c.L - at)));
    }
    const std::vector<Tensor> head = run(arena, first);
    second[8] = arg(arena.keep(head[1]));
    const std::vector<Tensor> tail = run(arena, second);
    testing::expect_close(tail[1], expected[1], "final state", 4.0);
    testing::expect_close(head[0], narrow(expected[0], 0, at), "first part", 4.0);
    testing::expect_close(tail[0], narrow(expected[0], at, c.L - at), "second part", 4.0);
  }
}

// A sequence packed by cu_seqlens has the bits it has alone.
TEST(Ssd, PackedSequencesAreIndependent) {
  Case c{1, 150, 2, 8, 1, 16};
  c.cu_seqlens = {0, 40, 150};
  Arena arena(6);
  const std::vector<Value> packed = forward_args(arena, c);
  const std::vector<Tensor> got = run(arena, packed);
  for (std::int64_t s = 0; s < 2; ++s) {
    const std::int64_t begin = s == 0 ? 0 : 40, length = s == 0 ? 40 : 110;
    std::vector<Value> alone = packed;
    for (const std::size_t i : {0, 1, 3, 4}) alone[i] = arg(arena.keep(narrow(*packed[i].tensor, begin, length)));
    Tensor state = *packed[8].tensor;
    state.data = state.ptr<float>() + s * state.stride(0);
    state.shape[0] = 1;
    alone[8] = arg(arena.keep(state));
    alone[9] = arg(nullptr);
    const std::vector<Tensor> expected = run(arena, alone);
    testing::expect_close(narrow(got[0], begin, length), expected[0], "y of a packed sequence", 1.0);
  }
}

#if defined(MAMBASDK_X86)
TEST(Ssd, LeavesNoTileState) {
  if (detected_isa() < Isa::avx512_amx) GTEST_SKIP() << "this machine has no tiles";
  const testing::Settings restore;
  set_max_isa(Isa::avx512_amx);
  set_num_threads(1);
  Arena arena(1);
  const Case c{1, 70, 2, 16, 1, 16, dtype::bf16};
  testing::call(arena, ops().get("ssd"), forward_args(arena, c));
  testing::call(arena, ops().get("ssd_backward"), backward_args(arena, c));
  // Which state components of this thread are not in their initial state: the tiles' configuration, which only the
  // instruction that clears the tiles too gives up.
  unsigned in_use = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(in_use), "=d"(high) : "c"(1));
  EXPECT_EQ(in_use >> 17 & 1, 0U);
}
#endif

TEST(Ssd, RejectsWhatItCannotRun) {
  const auto message = [](const Case& c, const std::vector<std::int32_t>& cu_seqlens) -> std::string {
    Arena arena(7);
    std::vector<Value> f = forward_args(arena, c);
    if (!cu_seqlens.empty()) f[9] = arg(arena.integers(cu_seqlens));
    try {
      run(arena, f);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message({1, 4, 3, 2, 2, 2}, {}).find("multiple of the groups"), std::string::npos);
  Case packed{1, 4, 2, 2, 1, 2};
  packed.initial_state = false;
  EXPECT_NE(message(packed, {0, 5}).find("ends with 5"), std::string::npos);
  EXPECT_NE(message(packed, {0, 3, 2, 4}).find("cu_seqlens[2]"), std::string::npos);
  packed.B = 2;
  EXPECT_NE(message(packed, {0, 4}).find("batch 2"), std::string::npos);
}

}  // namespace
}  // namespace mambasdk
