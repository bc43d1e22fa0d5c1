// A block of threads as fibers, which run one at a time in an order drawn from a seed, and a launch of a grid of them.
// Blocks run one after another, in a random order too, so they cannot wait for each other.
#pragma once

#include <ucontext.h>

#include <array>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <tuple>

#include "cuda/types.hpp"
#include "emulation/memory.hpp"

namespace mambasdk::emulation {

using cuda::Dim;

struct Counts {
  std::int64_t shared_accesses = 0;  // of a warp
  std::int64_t bank_conflicts = 0;   // passes over the banks beyond those that the accesses need
};

// The 32 lanes' values at a collective, by lane; null where a lane is not named.
using Lanes = std::array<void*, 32>;

class Block {
 public:
  Block(GlobalMemory& memory, std::mt19937& random, Dim grid, Dim size, Dim place, std::size_t shared_bytes,
        bool count_banks);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() = default;

  // Runs the threads to their ends. Throws the first Fault.
  void run(const std::function<void()>& kernel);

  // ---- for the threads ----
  [[nodiscard]] static Block& current();
  [[nodiscard]] const Thread& thread() const { return fibers_[running_].thread; }
  [[nodiscard]] unsigned lane() const { return static_cast<unsigned>(running_) % 32; }
  [[nodiscard]] Dim thread_place() const;
  [[nodiscard]] Region* find_global(const void* at) { return memory_.find(at); }
  [[nodiscard]] std::byte* shared() { return shared_.data() + shift_; }
  [[nodiscard]] Region& shared_region() { return *shared_region_; }

  void barrier(const Where& where);
  // All lanes of `mask` meet at one place; the last to come calls `complete`. `orders`: they see each other's memory
  // afterwards.
  void meet(const char* what, std::uint32_t mask, const Where& where, void* mine, bool orders,
            const std::function<void(const Lanes&)>& complete);
  void copy(Region& to_region, std::byte* to, Region& from_region, const std::byte* from, std::size_t bytes,
            const Where& where);
  void commit();
  void wait(std::size_t groups, const Where& where);
  // An access to shared memory, for the count of bank conflicts. Lanes that come to the same place for the same time
  // are one access of their warp.
  void count(std::ptrdiff_t offset, std::size_t bytes, const Where& where);
  // Rows of one matrix of load_matrix: 8 offsets.
  void count_rows(const std::array<std::ptrdiff_t, 8>& rows);

  const Dim grid, size, place;
  Counts counts;

 private:
  enum class State { ready, at_barrier, at_collective, finished };
  struct Copy {
    Region* region;
    std::byte* to;
    std::vector<std::byte> bytes;
    Where where;
  };
  struct Fiber {
    Thread thread;
    ucontext_t context{};
    State state = State::ready;
    const char* what = "";  // the collective it waits at
    std::uint32_t mask = 0;
    void* value = nullptr;
    Where where{};
    std::vector<Copy> open;                // copies since the last commit
    std::deque<std::vector<Copy>> groups;  // committed, the oldest first
  };
  struct WarpAccesses {
    std::array<std::size_t, 32> done{};
    std::vector<std::array<std::ptrdiff_t, 32>> offsets;  // -1: the lane was not there
  };

  static void enter();
  void body();
  void yield();
  void resume(std::size_t thread);  // until it yields
  void order(const std::vector<std::size_t>& threads);
  [[noreturn]] void stuck() const;
  [[nodiscard]] std::string doing(const Fiber& fiber) const;
  void sum_banks();

  GlobalMemory& memory_;
  std::mt19937& random_;
  std::vector<std::byte> shared_;
  std::size_t shift_;  // to where the shared memory is aligned
  std::unique_ptr<Region> shared_region_;
  bool count_banks_;
  std::deque<Fiber> fibers_;
  std::size_t running_ = 0;
  ucontext_t scheduler_{};
  const std::function<void()>* kernel_ = nullptr;
  std::exception_ptr fault_;
  std::map<std::tuple<std::size_t, const char*, unsigned, std::size_t>, WarpAccesses> accesses_;
};

struct Launch {
  Dim grid{}, block{};
  std::size_t shared_bytes = 0;
  unsigned seed = 0;
  bool count_banks = false;
};

// Throws the first Fault.
Counts launch(GlobalMemory& memory, const Launch& launch, const std::function<void()>& kernel);

}  // namespace mambasdk::emulation
