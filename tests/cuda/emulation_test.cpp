// Small kernels that are right, and the same with one fault planted in each: the emulation must find it and say where.
#include <gtest/gtest.h>

#include <numeric>

#include "cuda/device.hpp"

namespace mambasdk {
namespace {

using namespace cuda;  // kernels are written so
using emulation::Fault;
using emulation::GlobalMemory;
using emulation::Kind;
using emulation::Launch;

constexpr unsigned kSeeds = 8;  // orders of the threads that each case is tried in

struct Found {
  Kind kind;
  std::string text;
};
template <class K>
Found fault(GlobalMemory& memory, Launch launch, K&& kernel) {
  for (launch.seed = 0; launch.seed < kSeeds; ++launch.seed) {
    Found found{};
    try {
      emulation::launch(memory, launch, kernel);
      ADD_FAILURE() << "seed " << launch.seed << ": nothing was found";
      return found;
    } catch (const Fault& f) {
      found = {f.kind, f.what()};
    }
    if (launch.seed + 1 == kSeeds) return found;
  }
  return {};
}
#define EXPECT_FOUND(found, expected, part)                                                 \
  do {                                                                                      \
    EXPECT_EQ((found).kind, expected) << (found).text;                                      \
    EXPECT_NE((found).text.find(part), std::string::npos) << (found).text;                  \
    EXPECT_NE((found).text.find("emulation_test.cpp:"), std::string::npos) << (found).text; \
  } while (false)

template <class T>
struct Array {  // of the device
  Array(GlobalMemory& memory, std::size_t n, const char* name, bool written = true) : values(n) {
    std::iota(values.begin(), values.end(), T{1});
    memory.add(values.data(), n * sizeof(T), name, written);
  }
  operator Global<T>() { return Global<T>(values.data()); }  // NOLINT
  Global<T> operator+(std::int64_t n) { return Global<T>(values.data()) + n; }
  std::vector<T> values;
};

// ---- barriers ----

enum class Plant { nothing, fault };

// Each thread writes a number and reads its neighbour's.
template <Plant plant>
MAMBASDK_KERNEL(64, 1)
pass_on(Global<int> out) {
  const unsigned i = thread_index().x, n = block_size().x;
  const Shared<int> numbers = shared_memory<int>(0);
  store(numbers + i, static_cast<int>(i));
  if constexpr (plant == Plant::nothing) barrier();
  store(out + i, load(numbers + (i + 1) % n));
}

TEST(Emulation, BarrierOrders) {
  GlobalMemory memory;
  Array<int> out(memory, 64, "out", false);
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    emulation::launch(memory, {.block = {64}, .shared_bytes = 256, .seed = seed},
                      [&] { pass_on<Plant::nothing>(out); });
    for (int i = 0; i < 64; ++i) ASSERT_EQ(out.values[static_cast<std::size_t>(i)], (i + 1) % 64);
  }
}

TEST(Emulation, FindsAMissingBarrier) {
  GlobalMemory memory;
  Array<int> out(memory, 64, "out", false);
  for (unsigned seed = 0; seed < kSeeds;
       ++seed) {  // who reads too early depends on the order, and so does what is said
    try {
      emulation::launch(memory, {.block = {64}, .shared_bytes = 256, .seed = seed},
                        [&] { pass_on<Plant::fault>(out); });
      FAIL() << "nothing was found";
    } catch (const Fault& f) {
      EXPECT_TRUE(f.kind == Kind::race || f.kind == Kind::unwritten) << f.what();
    }
  }
}

TEST(Emulation, FindsAWriteBeforeOthersHaveRead) {
  GlobalMemory memory;
  Array<int> out(memory, 64, "out", false);
  const Found found = fault(memory, {.block = {64}, .shared_bytes = 4}, [&] {
    const Shared<int> one = shared_memory<int>(0);
    for (int round = 0; round < 2; ++round) {
      if (thread_index().x == 0) store(one, round);
      barrier();
      store(out + thread_index().x, load(one));  // and no barrier before the next round
    }
  });
  EXPECT_FOUND(found, Kind::race, "of shared memory");
}

TEST(Emulation, WarpBarrierOrdersTheWarpAlone) {
  GlobalMemory memory;
  Array<int> out(memory, 64, "out", false);
  const auto kernel = [&](unsigned distance) {
    const unsigned i = thread_index().x;
    const Shared<int> numbers = shared_memory<int>(0);
    store(numbers + i, static_cast<int>(i));
    warp_barrier(kWholeWarp);
    store(out + i, load(numbers + (i ^ distance)));
  };
  const Launch launch{.block = {64}, .shared_bytes = 256, .seed = 3};
  emulation::launch(memory, launch, [&] { kernel(31); });
  EXPECT_THROW(emulation::launch(memory, launch, [&] { kernel(32); }), Fault);
}

TEST(Emulation, FindsABarrierThatNotAllReach) {
  GlobalMemory memory;
  const Found found = fault(memory, {.block = {64}}, [] {
    if (thread_index().x != 37) barrier();
  });
  EXPECT_FOUND(found, Kind::divergence, "thread 37 (warp 1, lane 5) of block 0 has ended");
}

// ---- collectives ----

TEST(Emulation, CollectivesAnswer) {
  GlobalMemory memory;
  Array<float> out(memory, 3 * 32, "out", false);
  emulation::launch(memory, {.block = {32}, .seed = 1}, [&] {
    const unsigned i = thread_index().x;
    store(out + i, shuffle(kWholeWarp, static_cast<float>(i), (i + 5) % kWarp));
    store(out + 32 + i, warp_sum(kWholeWarp, static_cast<float>(i)));
    store(out + 64 + i, static_cast<float>(ballot(kWholeWarp, i % 8 == 0)));
  });
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(out.values[i], static_cast<float>((i + 5) % 32));
    EXPECT_EQ(out.values[32 + i], 496.0f);
    EXPECT_EQ(out.values[64 + i], static_cast<float>(0x01010101));
  }
}

TEST(Emulation, FindsACollectiveInADivergentBranch) {
  GlobalMemory memory;
  const Found ended = fault(memory, {.block = {32}}, [] {
    if (thread_index().x < 16) shuffle_xor(kWholeWarp, 1.0f, 1);
  });
  EXPECT_FOUND(ended, Kind::divergence, "has ended");
  const Found elsewhere = fault(memory, {.block = {32}}, [] {
    if (thread_index().x < 16) {
      shuffle_xor(kWholeWarp, 1.0f, 1);
    } else {
      shuffle_xor(kWholeWarp, 1.0f, 2);
    }
  });
  EXPECT_FOUND(elsewhere, Kind::divergence, "waits at the shuffle at");
}

TEST(Emulation, FindsALaneThatTheMaskDoesNotName) {
  GlobalMemory memory;
  const Found taker = fault(memory, {.block = {32}}, [] { shuffle(0x0000ffffu, 1.0f, 0); });
  EXPECT_FOUND(taker, Kind::divergence, "does not name it");
  const Found giver = fault(memory, {.block = {32}}, [] {
    if (thread_index().x < 16) shuffle(0x0000ffffu, 1.0f, 20);
  });
  EXPECT_FOUND(giver, Kind::divergence, "takes from lane 20");
}

// ---- asynchronous copies ----

template <bool waits, bool orders>
MAMBASDK_KERNEL(32, 1)
copy_in(Global<const int> in, Global<int> out) {
  const unsigned i = thread_index().x;
  const Shared<int> numbers = shared_memory<int>(0);
  copy_async<16>(numbers + 4 * i, in + 4 * i);
  copy_commit();
  copy_async<16>(numbers + 128 + 4 * i, in + 128 + 4 * i);
  copy_commit();
  if constexpr (waits) copy_wait<1>();
  if constexpr (orders) barrier();
  for (unsigned j = 0; j < 4; ++j) store(out + 4 * i + j, load(numbers + (4 * i + j + 4) % 128));
  copy_wait<0>();
}

TEST(Emulation, CopiesArriveWhenWaitedFor) {
  GlobalMemory memory;
  Array<int> in(memory, 256, "in"), out(memory, 128, "out", false);
  emulation::launch(memory, {.block = {32}, .shared_bytes = 1024}, [&] { copy_in<true, true>(Global<int>(in), out); });
  for (std::size_t i = 0; i < 128; ++i) EXPECT_EQ(out.values[i], in.values[(i + 4) % 128]);
}

TEST(Emulation, FindsAMissingWait) {
  GlobalMemory memory;
  Array<int> in(memory, 256, "in"), out(memory, 128, "out", false);
  const Found found =
      fault(memory, {.block = {32}, .shared_bytes = 1024}, [&] { copy_in<false, true>(Global<int>(in), out); });
  EXPECT_FOUND(found, Kind::in_flight, "not waited for");
}

TEST(Emulation, FindsAWaitWithoutABarrier) {
  GlobalMemory memory;
  Array<int> in(memory, 256, "in"), out(memory, 128, "out", false);
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    try {
      emulation::launch(memory, {.block = {32}, .shared_bytes = 1024, .seed = seed},
                        [&] { copy_in<true, false>(Global<int>(in), out); });
      FAIL() << "nothing was found";
    } catch (const Fault& f) {
      EXPECT_NE(f.kind, Kind::bounds) << f.what();
    }
  }
}

TEST(Emulation, FindsACopyThatNobodyWaitedFor) {
  GlobalMemory memory;
  Array<int> in(memory, 4, "in");
  const Found found = fault(memory, {.block = {1}, .shared_bytes = 16}, [&] {
    copy_async<16>(shared_memory<int>(0), Global<int>(in));
    copy_commit();
  });
  EXPECT_FOUND(found, Kind::unfinished, "ends without waiting");
}

TEST(Emulation, FindsACopyIntoWhatOthersStillRead) {  // a double buffer without its second barrier
  GlobalMemory memory;
  Array<int> in(memory, 32, "in"), out(memory, 32, "out", false);
  const Found found = fault(memory, {.block = {32}, .shared_bytes = 128}, [&] {
    const unsigned i = thread_index().x;
    const Shared<int> numbers = shared_memory<int>(0);
    for (int round = 0; round < 2; ++round) {
      copy_async<4>(numbers + i, in + i);
      copy_commit();
      copy_wait<0>();
      barrier();
      store(out + i, load(numbers + (31 - i)));
    }
  });
  EXPECT_FOUND(found, Kind::race, "of shared memory");
}

// ---- bounds, alignment, values ----

TEST(Emulation, FindsALaneOutOfBounds) {
  GlobalMemory memory;
  Array<float> in(memory, 31, "in"), beside(memory, 31, "beside");
  const Found global = fault(memory, {.block = {32}}, [&] { load(in + thread_index().x); });
  EXPECT_FOUND(global, Kind::bounds, "lane 31) of block 0 accesses 4 bytes from byte 124 of in, which has 124");
  const Found shared = fault(memory, {.block = {32}, .shared_bytes = 124},
                             [&] { store(shared_memory<float>(0) + thread_index().x, 0.0f); });
  EXPECT_FOUND(shared, Kind::bounds, "of shared memory");
  const Found neighbour = fault(memory, {.block = {1}}, [&] {  // in another allocation, so no less wrong
    load(in + (beside.values.data() - in.values.data()));
  });
  EXPECT_FOUND(neighbour, Kind::bounds, "of in");
}

TEST(Emulation, FindsMisalignment) {
  GlobalMemory memory;
  Array<float> in(memory, 32, "in");
  const Found found = fault(memory, {.block = {1}}, [&] { load_vector<4>(in + 1); });
  EXPECT_FOUND(found, Kind::alignment, "16 bytes from byte 4 of in");
  const Found copy = fault(memory, {.block = {1}, .shared_bytes = 64},
                           [&] { copy_async<16>(shared_memory<float>(8), Global<float>(in)); });
  EXPECT_FOUND(copy, Kind::alignment, "from byte 8 of shared memory");
}

TEST(Emulation, FindsWhatNobodyWrote) {
  GlobalMemory memory;
  const Found shared = fault(memory, {.block = {1}, .shared_bytes = 8}, [] {
    store(shared_memory<float>(0), 1.0f);
    load(shared_memory<float>(4));
  });
  EXPECT_FOUND(shared, Kind::unwritten, "byte 4 of shared memory");
  Array<float> work(memory, 4, "workspace", false);
  const Found global = fault(memory, {.block = {1}}, [&] { add(work, 1.0f); });
  EXPECT_FOUND(global, Kind::unwritten, "of workspace");
}

// ---- blocks ----

TEST(Emulation, FindsARaceBetweenBlocks) {
  GlobalMemory memory;
  Array<float> sum(memory, 1, "sum");
  const Launch launch{.grid = {3}, .block = {1}};
  const Found writes = fault(memory, launch, [&] { store(Global<float>(sum), 1.0f); });
  EXPECT_FOUND(writes, Kind::race, "of sum");
  GlobalMemory again;
  Array<float> other(again, 1, "other");
  const Found reads = fault(again, launch, [&] {
    if (block_index().x == 1) {
      store(Global<float>(other), 1.0f);
    } else {
      load(Global<float>(other));
    }
  });
  EXPECT_FOUND(reads, Kind::race, "of other");
}

TEST(Emulation, AdditionsAreNoRace) {
  GlobalMemory memory;
  Array<float> sum(memory, 1, "sum");
  emulation::launch(memory, {.grid = {3}, .block = {64}}, [&] { add(sum, 1.0f); });
  EXPECT_EQ(sum.values[0], 1.0f + 3 * 64);
}

// ---- matrices ----

// (16,16) bf16 in shared memory, rows of 32 bytes in 16-byte halves; which half lies where keeps ldmatrix off one bank.
MAMBASDK_DEVICE int swizzled(int row, int half) {
  return row * 16 + (half ^ (row / 4 % 2)) * 8;
}
MAMBASDK_DEVICE int plain(int row, int half) {
  return row * 16 + half * 8;
}

template <int (*place)(int, int), class T>
MAMBASDK_KERNEL(32, 1)
product(Global<const T> a, Global<const T> b, Global<float> out) {  // b is (16,8)
  const int lane = static_cast<int>(thread_index().x);
  const Shared<T> left = shared_memory<T>(0), right = shared_memory<T>(512);
  copy_async<16>(left + place(lane / 2, lane % 2), a + lane * 8);
  if (lane < 16) copy_async<16>(right + lane * 8, b + lane * 8);
  copy_commit();
  copy_wait<0>();
  barrier();
  const Matrices<4> rows = load_matrix<4>(left + place(lane % 16, lane / 16));
  const Matrices<2> columns = load_matrix_transposed<2>(right + lane % 16 * 8);
  const FragmentA<T> fa{{rows.bits[0], rows.bits[1], rows.bits[2], rows.bits[3]}};
  const FragmentB<T> fb{{columns.bits[0], columns.bits[1]}};
  const FragmentC c = multiply_add(fa, fb, FragmentC{});
  for (int e = 0; e < 4; ++e) store(out + (lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2, c.value[e]);
}

template <class T>
class Products : public ::testing::Test {};
using Halves = ::testing::Types<bf16, f16>;
TYPED_TEST_SUITE(Products, Halves);

template <class T>
struct Operands {
  Operands() {
    for (std::size_t i = 0; i < 256; ++i) {
      a.push_back(narrow<T>(static_cast<float>(i * 7 % 17) - 8.0f));
      if (i < 128) b.push_back(narrow<T>(static_cast<float>(i * 5 % 13) - 6.0f));
    }
    out.resize(128);
    memory.add(a.data(), a.size() * sizeof(T), "a", true);
    memory.add(b.data(), b.size() * sizeof(T), "b", true);
    memory.add(out.data(), out.size() * sizeof(float), "out", false);
  }
  template <int (*place)(int, int)>
  emulation::Counts run() {
    return emulation::launch(memory, {.block = {32}, .shared_bytes = 768, .count_banks = true}, [&] {
      product<place, T>(Global<const T>(a.data()), Global<const T>(b.data()), Global<float>(out.data()));
    });
  }
  GlobalMemory memory;
  std::vector<T> a, b;
  std::vector<float> out;
};

TYPED_TEST(Products, AreThoseOfTheMatrices) {
  Operands<TypeParam> operands;
  operands.template run<swizzled>();
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t c = 0; c < 8; ++c) {
      float sum = 0.0f;
      for (std::size_t k = 0; k < 16; ++k) sum += widen(operands.a[r * 16 + k]) * widen(operands.b[k * 8 + c]);
      EXPECT_EQ(operands.out[r * 8 + c], sum) << r << ", " << c;
    }
  }
}

TYPED_TEST(Products, CountsTheConflictsOfAMissingSwizzle) {
  Operands<TypeParam> operands;
  EXPECT_EQ(operands.template run<swizzled>().bank_conflicts, 0);
  EXPECT_EQ(operands.template run<plain>().bank_conflicts, 4);  // one in each 8 x 8 matrix of a
}

MAMBASDK_DEVICE int beyond(int row, int half) {  // as if rows had 48 bytes
  return row * 24 + (half ^ (row / 4 % 2)) * 8;
}
MAMBASDK_DEVICE int askew(int row, int half) {
  return row * 16 + half * 4;
}

TYPED_TEST(Products, FindsAWrongSwizzle) {
  Operands<TypeParam> operands;
  const Launch launch{.block = {32}, .shared_bytes = 512};
  const auto addresses = [](int (*place)(int, int)) {
    const int lane = static_cast<int>(thread_index().x);
    const Shared<TypeParam> left = shared_memory<TypeParam>(0);
    for (int i = 0; i < 8; ++i) store(left + 8 * lane + i, TypeParam{});
    barrier();
    load_matrix<4>(left + place(lane % 16, lane / 16));
  };
  emulation::launch(operands.memory, launch, [&] { addresses(swizzled); });
  EXPECT_FOUND(fault(operands.memory, launch, [&] { addresses(beyond); }), Kind::bounds, "accesses 16 bytes");
  EXPECT_FOUND(fault(operands.memory, launch, [&] { addresses(askew); }), Kind::alignment, "accesses 16 bytes");
}

TEST(Emulation, CountsBankConflicts) {
  GlobalMemory memory;
  const auto conflicts = [&](unsigned stride) {
    return emulation::launch(memory, {.block = {32}, .shared_bytes = 32 * 32 * 4 + 128, .count_banks = true},
                             [&] { store(shared_memory<float>(0) + thread_index().x * stride, 0.0f); })
        .bank_conflicts;
  };
  EXPECT_EQ(conflicts(1), 0);
  EXPECT_EQ(conflicts(2), 1);
  EXPECT_EQ(conflicts(32), 31);
  EXPECT_EQ(conflicts(33), 0);
}

}  // namespace
}  // namespace mambasdk
