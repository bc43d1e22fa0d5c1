#include "emulation/block.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace mambasdk::emulation {
namespace {

constexpr std::size_t kStack = 128 * 1024, kAlignment = 1024;
constexpr std::ptrdiff_t kBanks = 32, kBankBytes = 4;
Block* running_block = nullptr;

// Stacks are dear to make and all alike.
std::byte* stack(std::size_t thread) {
  static std::deque<std::vector<std::byte>> stacks;
  while (stacks.size() <= thread) stacks.emplace_back(kStack);
  return stacks[thread].data();
}

void prepare(ucontext_t& context, std::byte* memory, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = memory;
  context.uc_stack.ss_size = kStack;
  makecontext(&context, entry, 0);
}

// Passes over the banks for these words: as many as distinct words of one bank.
std::int64_t passes(const std::vector<std::ptrdiff_t>& words) {
  std::array<std::vector<std::ptrdiff_t>, kBanks> banks;
  std::size_t most = 0;
  for (const std::ptrdiff_t word : words) {
    auto& bank = banks[static_cast<std::size_t>(word % kBanks)];
    if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
    most = std::max(most, bank.size());
  }
  return static_cast<std::int64_t>(most);
}

}  // namespace

Block::Block(GlobalMemory& memory, std::mt19937& random, Dim grid_, Dim size_, Dim place_, std::size_t shared_bytes,
             bool count_banks)
    : grid(grid_),
      size(size_),
      place(place_),
      memory_(memory),
      random_(random),
      shared_(shared_bytes + kAlignment, std::byte{0xff}),  // NaN, were it read
      shift_(kAlignment - reinterpret_cast<std::uintptr_t>(shared_.data()) % kAlignment),
      count_banks_(count_banks) {
  shared_region_ = std::make_unique<Region>(shared(), shared_bytes, "shared memory", false);
}

Block& Block::current() {
  return *running_block;
}

Dim Block::thread_place() const {
  const auto i = static_cast<unsigned>(running_);
  return {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
}

void Block::enter() {
  running_block->body();
}

void Block::body() {
  try {
    (*kernel_)();
    Fiber& fiber = fibers_[running_];
    for (const auto& group : fiber.groups) fiber.open.insert(fiber.open.end(), group.begin(), group.end());
    if (!fiber.open.empty()) {
      throw Fault(Kind::unfinished, text(fiber.open.front().where) + ": " + fiber.thread.name() +
                                        " ends without waiting for this asynchronous copy");
    }
  } catch (...) {
    fault_ = std::current_exception();
  }
  fibers_[running_].state = State::finished;
  yield();
}

void Block::yield() {
  swapcontext(&fibers_[running_].context, &scheduler_);
}

void Block::resume(std::size_t thread) {
  running_ = thread;
  swapcontext(&scheduler_, &fibers_[thread].context);
}

void Block::run(const std::function<void()>& kernel) {
  kernel_ = &kernel;
  running_block = this;
  const std::size_t threads = std::size_t{size.x} * size.y * size.z;
  const std::int64_t number = (std::int64_t{place.z} * grid.y + place.y) * grid.x + place.x;
  for (std::size_t i = 0; i < threads; ++i) {
    Fiber& fiber = fibers_.emplace_back();
    fiber.thread = {number, static_cast<unsigned>(i), std::vector<std::uint32_t>(threads)};
    fiber.thread.seen[i] = 1;
    prepare(fiber.context, stack(i), &Block::enter);
  }
  std::vector<std::size_t> ready;
  for (;;) {
    ready.clear();
    bool all_finished = true;
    for (std::size_t i = 0; i < threads; ++i) {
      if (fibers_[i].state == State::ready) ready.push_back(i);
      all_finished = all_finished && fibers_[i].state == State::finished;
    }
    if (all_finished) break;
    if (ready.empty()) stuck();
    std::shuffle(ready.begin(), ready.end(), random_);
    for (const std::size_t i : ready) {  // a thread that becomes ready meanwhile has its turn in the next round
      resume(i);
      if (fault_) std::rethrow_exception(fault_);
    }
  }
  sum_banks();
}

std::string Block::doing(const Fiber& fiber) const {
  switch (fiber.state) {
    case State::finished:
      return fiber.thread.name() + " has ended";
    case State::at_barrier:
      return fiber.thread.name() + " waits at the barrier at " + text(fiber.where);
    case State::at_collective:
      return fiber.thread.name() + " waits at the " + fiber.what + " at " + text(fiber.where);
    case State::ready:
      break;
  }
  return fiber.thread.name() + " runs";
}

void Block::stuck() const {
  const auto waits = std::find_if(fibers_.begin(), fibers_.end(), [](const Fiber& f) {
    return f.state == State::at_collective || f.state == State::at_barrier;
  });
  for (const Fiber& other : fibers_) {
    const bool named = waits->state == State::at_barrier || (other.thread.index / 32 == waits->thread.index / 32 &&
                                                             (waits->mask >> (other.thread.index % 32) & 1u) != 0);
    const bool there = other.state == waits->state && other.where == waits->where;
    if (named && !there) throw Fault(Kind::divergence, doing(*waits) + ", but " + doing(other));
  }
  throw Fault(Kind::divergence, doing(*waits) + " for lanes that the block does not have");
}

void Block::order(const std::vector<std::size_t>& threads) {
  std::vector<std::uint32_t> all(fibers_.size());
  for (const std::size_t i : threads) {
    const auto& seen = fibers_[i].thread.seen;
    for (std::size_t j = 0; j < all.size(); ++j) all[j] = std::max(all[j], seen[j]);
  }
  for (const std::size_t i : threads) {
    fibers_[i].thread.seen = all;
    ++fibers_[i].thread.seen[i];
  }
}

void Block::barrier(const Where& where) {
  Fiber& mine = fibers_[running_];
  mine.state = State::at_barrier;
  mine.where = where;
  for (const Fiber& other : fibers_) {
    if (other.state != State::at_barrier) return yield();
    if (!(other.where == where)) throw Fault(Kind::divergence, doing(mine) + ", but " + doing(other));
  }
  std::vector<std::size_t> all(fibers_.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  order(all);
  for (Fiber& fiber : fibers_) fiber.state = State::ready;
  yield();
}

void Block::meet(const char* what, std::uint32_t mask, const Where& where, void* value, bool orders,
                 const std::function<void(const Lanes&)>& complete) {
  Fiber& mine = fibers_[running_];
  mine.state = State::at_collective;
  mine.what = what;
  mine.mask = mask;
  mine.value = value;
  mine.where = where;
  if ((mask >> lane() & 1u) == 0) throw Fault(Kind::divergence, doing(mine) + ", whose mask does not name it");
  Lanes lanes{};
  std::vector<std::size_t> named;
  for (std::size_t i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) == 0) continue;
    const std::size_t index = running_ / 32 * 32 + i;
    if (index >= fibers_.size()) return yield();  // stuck() says so
    const Fiber& other = fibers_[index];
    const bool here = other.state == State::at_collective && std::strcmp(other.what, what) == 0 && other.mask == mask &&
                      other.where == where;
    if (!here && other.state != State::ready && other.state != State::at_collective) {
      throw Fault(Kind::divergence, doing(mine) + ", but " + doing(other));
    }
    if (!here && other.state == State::at_collective && (other.mask >> lane() & 1u) != 0) {
      throw Fault(Kind::divergence, doing(mine) + ", but " + doing(other));
    }
    if (!here) return yield();
    lanes[i] = other.value;
    named.push_back(index);
  }
  complete(lanes);
  if (orders) order(named);
  for (const std::size_t i : named) fibers_[i].state = State::ready;
  yield();
}

void Block::copy(Region& to_region, std::byte* to, Region& from_region, const std::byte* from, std::size_t bytes,
                 const Where& where) {
  Fiber& mine = fibers_[running_];
  from_region.touch(mine.thread, from, bytes, Use::read, where);
  to_region.start_copy(mine.thread, to, bytes, where);
  mine.open.push_back({&to_region, to, std::vector<std::byte>(from, from + bytes), where});
}

void Block::commit() {
  Fiber& mine = fibers_[running_];
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

void Block::wait(std::size_t groups, const Where& where) {
  Fiber& mine = fibers_[running_];
  for (; mine.groups.size() > groups; mine.groups.pop_front()) {
    for (const Copy& copy : mine.groups.front()) {
      copy.region->finish_copy(mine.thread, copy.to, copy.bytes.size(), where);
      std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
    }
  }
}

void Block::count(std::ptrdiff_t offset, std::size_t bytes, const Where& where) {
  if (!count_banks_) return;
  WarpAccesses& place_ = accesses_[{running_ / 32, where.file, where.line, bytes}];
  const std::size_t time = place_.done[lane()]++;
  if (place_.offsets.size() <= time) {
    place_.offsets.emplace_back();
    place_.offsets.back().fill(-1);
  }
  place_.offsets[time][lane()] = offset;
}

void Block::count_rows(const std::array<std::ptrdiff_t, 8>& rows) {
  std::vector<std::ptrdiff_t> words;
  for (const std::ptrdiff_t row : rows) {
    for (std::ptrdiff_t word = 0; word < 4; ++word) words.push_back(row / kBankBytes + word);
  }
  ++counts.shared_accesses;
  counts.bank_conflicts += passes(words) - 1;
}

void Block::sum_banks() {
  for (const auto& [key, warp] : accesses_) {
    const auto bytes = static_cast<std::ptrdiff_t>(std::get<3>(key));
    const std::size_t together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;  // lanes that the hardware serves at once
    for (const auto& offsets : warp.offsets) {
      ++counts.shared_accesses;
      for (std::size_t first = 0; first < 32; first += together) {
        std::vector<std::ptrdiff_t> words;
        for (std::size_t i = first; i < first + together; ++i) {
          if (offsets[i] < 0) continue;
          for (std::ptrdiff_t b = 0; b < bytes; b += kBankBytes) words.push_back((offsets[i] + b) / kBankBytes);
        }
        if (!words.empty()) counts.bank_conflicts += passes(words) - 1;
      }
    }
  }
}

Counts launch(GlobalMemory& memory, const Launch& launch, const std::function<void()>& kernel) {
  std::mt19937 random(launch.seed);
  std::vector<Dim> places;
  for (unsigned z = 0; z < launch.grid.z; ++z)
    for (unsigned y = 0; y < launch.grid.y; ++y)
      for (unsigned x = 0; x < launch.grid.x; ++x) places.push_back({x, y, z});
  std::shuffle(places.begin(), places.end(), random);
  Counts counts;
  for (const Dim& place : places) {
    Block block(memory, random, launch.grid, launch.block, place, launch.shared_bytes, launch.count_banks);
    block.run(kernel);
    counts.shared_accesses += block.counts.shared_accesses;
    counts.bank_conflicts += block.counts.bank_conflicts;
  }
  return counts;
}

}  // namespace mambasdk::emulation
