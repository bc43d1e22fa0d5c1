// mlstm: heads in the slots of scratch memory, the size of that memory, and steps in the memory of their state. Values,
// derivatives and threads are for the tests that go over every operation (tests/ops).
#include <utility>

#include "ops/mlstm/mlstm_args.hpp"
#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

using testing::Arena;
using testing::arg;

const Registry& ops() {
  return testing::operations<register_mlstm>();
}

constexpr std::int64_t kSlots = 32;

// q, k, v, igate, fgate of (batch, length, heads, width), no state and no offsets, chunk, return_final_state
std::vector<Value> inputs(Arena& arena, std::int64_t batch, std::int64_t length, std::int64_t heads, std::int64_t width,
                          int chunk, bool final_state) {
  std::vector<Value> values;
  for (int i = 0; i < 3; ++i) values.push_back(arg(arena.normal(dtype::f32, {batch, length, heads, width})));
  for (int i = 0; i < 2; ++i) values.push_back(arg(arena.normal(dtype::f32, {batch, length, heads})));
  for (int i = 0; i < 4; ++i) values.push_back(arg(nullptr));
  values.push_back(arg(chunk));
  values.push_back(arg(final_state));
  return values;
}

// The same behind the gradient of h; of a final state there is none.
std::vector<Value> backward_inputs(Arena& arena, std::vector<Value> forward) {
  const Tensor& q = *forward[0].tensor;
  std::vector<Value> values = {arg(arena.normal(dtype::f32, {q.size(0), q.size(1), q.size(2), q.size(3)})),
                               arg(nullptr), arg(nullptr), arg(nullptr)};
  values.insert(values.end(), forward.begin(), forward.end() - 1);
  return values;
}

// Whether the elements of one head of one batch row, or of the others, have the same bits in two (B,L,H…).
bool same_bits(const Tensor& a, const Tensor& b, std::int64_t batch, std::int64_t head, bool others) {
  const std::int64_t inner = a.ndim == 4 ? a.size(3) : 1, heads = a.size(2), row = a.size(1) * heads * inner;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const bool own = i / row == batch && i / inner % heads == head;
    if (own != others && std::memcmp(a.ptr<float>() + i, b.ptr<float>() + i, sizeof(float)) != 0) return false;
  }
  return true;
}

// More heads than slots: those of a slot come one after the other in its memory, which a NaN fills.
TEST(Mlstm, HeadsOfOneSlotAreApart) {
  const testing::Settings restore;
  constexpr std::int64_t kBatch = 9, kHeads = 8, kBadBatch = 2, kBadHead = 3;
  static_assert(kBatch * kHeads > 2 * kSlots);
  for (const Isa isa : testing::instruction_sets()) {
    for (const int threads : {1, 3}) {
      set_max_isa(isa);
      set_num_threads(threads);
      Arena arena(1);
      const std::vector<Value> forward = inputs(arena, kBatch, 21, kHeads, 5, 8, false);
      const std::vector<Value> backward = backward_inputs(arena, forward);
      const std::string what = concat(isa_name(isa), ", ", threads, " threads");
      for (const auto& [op, values] : {std::pair("mlstm", forward), std::pair("mlstm_backward", backward)}) {
        const std::vector<Tensor> expected = testing::call(arena, ops().get(op), values);
        const Tensor& q = *forward[0].tensor;
        float* bad = q.ptr<float>() + kBadBatch * q.stride(0) + 10 * q.stride(1) + kBadHead * q.stride(2);
        const float kept = std::exchange(*bad, std::numeric_limits<float>::quiet_NaN());
        const std::vector<Tensor> got = testing::call(arena, ops().get(op), values);
        *bad = kept;
        for (std::size_t i = 0; i < got.size(); ++i) {
          if (got[i].ndim < 3 || got[i].numel() == 0 || got[i].size(1) != 21) continue;
          EXPECT_TRUE(same_bits(got[i], expected[i], kBadBatch, kBadHead, true)) << op << " output " << i << what;
        }
        EXPECT_FALSE(same_bits(got[0], expected[0], kBadBatch, kBadHead, false)) << op << what;
      }
    }
  }
}

// The workspace of a call by its sizes, in floats.
template <class Call>
std::int64_t floats(std::int64_t (*bytes)(const Call&), std::int64_t batch, std::int64_t length) {
  const std::vector<mlstm::Sequence> sequences(static_cast<std::size_t>(batch), {0, 0, length});
  Call call;
  call.problem.type = call.problem.gate_type = call.problem.state_type = dtype::f32;
  call.problem.length = call.problem.max_length = length;
  call.problem.heads = 8;
  call.problem.head_dim = 16;
  call.problem.chunk = 64;
  call.problem.sequences = sequences.data();
  call.problem.sequence_count = batch;
  return bytes(call) / static_cast<std::int64_t>(sizeof(float));
}

TEST(Mlstm, WorkspaceIsBounded) {
  const testing::Settings restore;
  for (const Isa isa : testing::instruction_sets()) {
    set_max_isa(isa);
    const auto forward = [](std::int64_t batch, std::int64_t length) {
      return floats(MAMBASDK_PICK(mlstm_workspace_bytes), batch, length);
    };
    const auto backward = [](std::int64_t batch, std::int64_t length) {
      return floats(MAMBASDK_PICK(mlstm_backward_workspace_bytes), batch, length);
    };
    EXPECT_EQ(forward(2, 640), 2 * forward(1, 640));
    EXPECT_EQ(forward(100, 640), forward(4, 640)) << "of the heads that are in slots at once";
    EXPECT_EQ(forward(1, 64000), forward(1, 64)) << "of one chunk";
    EXPECT_EQ(backward(100, 640), backward(4, 640));
    // A state for every chunk beyond the first ones: C and n, and m.
    const std::int64_t states = (backward(1, 128000) - backward(1, 64000)) / 8;
    EXPECT_GE(states, 1000 * (16 * 16 + 16 + 1));
    EXPECT_LE(states, 1000 * (16 * 16 + 16 + 2) + 64);
  }
}

// One step, with the state's memory for outputs.
TEST(Mlstm, StepsInTheMemoryOfTheirState) {
  const testing::Settings restore;
  for (const Isa isa : testing::instruction_sets()) {
    set_max_isa(isa);
    Arena arena(2);
    const Op& op = ops().get("mlstm_state_update");
    std::vector<Value> values = {arg(arena.normal(dtype::f32, {3, 2, 21, 21})),
                                 arg(arena.normal(dtype::f32, {3, 2, 21})), arg(arena.normal(dtype::f32, {3, 2}))};
    for (int i = 0; i < 3; ++i) values.push_back(arg(arena.normal(dtype::f32, {3, 2, 21})));
    for (int i = 0; i < 2; ++i) values.push_back(arg(arena.normal(dtype::f32, {3, 2})));
    const std::vector<Tensor> expected = testing::call(arena, op, values);
    const std::vector<Tensor> outputs = {arena.empty(dtype::f32, {3, 2, 21}), *values[0].tensor, *values[1].tensor,
                                         *values[2].tensor};
    op.call(default_context(), values, outputs, KernelChoice::automatic);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      EXPECT_EQ(std::memcmp(outputs[i].data, expected[i].data, static_cast<std::size_t>(outputs[i].nbytes())), 0)
          << "output " << i << " on " << isa_name(isa);
  }
}

}  // namespace
}  // namespace mambasdk
