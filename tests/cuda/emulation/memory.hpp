// Memory whose every byte knows who touched it: bounds, alignment, values that nobody wrote, copies under way, races.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::emulation {

// A line of the source. (clang 14 has no std::source_location.)
struct Where {
  const char* file = "";
  unsigned line = 0;
  static Where current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) { return {file, line}; }
  friend bool operator==(const Where& a, const Where& b) {
    return a.line == b.line && std::string_view(a.file) == b.file;
  }
};

enum class Kind { bounds, alignment, race, unwritten, in_flight, divergence, unfinished };

struct Fault : std::runtime_error {
  Fault(Kind kind_, const std::string& text) : std::runtime_error(text), kind(kind_) {}
  Kind kind;
};

// "file.cu:12", without folders.
[[nodiscard]] std::string text(const Where& where);

// A thread of a launch. Its vector clock says up to which point of each thread of its block it has waited.
struct Thread {
  std::int64_t block = 0;
  unsigned index = 0;  // in its block
  std::vector<std::uint32_t> seen;

  [[nodiscard]] std::uint32_t now() const { return seen[index]; }
  [[nodiscard]] std::string name() const;  // "thread 35 (warp 1, lane 3) of block 0"
};

enum class Use { read, write, add };  // add: atomic, so not a race with another

// Memory of one allocation, or the shared memory of a block.
class Region {
 public:
  Region(std::byte* begin, std::size_t size, std::string name, bool written);

  // Checks the access and takes note of it. Throws Fault.
  void touch(const Thread& thread, const std::byte* at, std::size_t bytes, Use use, const Where& where);
  // The same for what a copy reads (source) or will write (target) some time before it is waited for.
  void start_copy(const Thread& thread, const std::byte* to, std::size_t bytes, const Where& where);
  void finish_copy(const Thread& thread, const std::byte* to, std::size_t bytes, const Where& where);
  void check(const Thread& thread, const std::byte* at, std::size_t bytes, const Where& where) const;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::ptrdiff_t offset(const std::byte* at) const { return at - begin_; }

 private:
  struct Access {
    std::int64_t block = -1;  // -1: none
    unsigned thread = 0;
    std::uint32_t clock = 0;
    bool atomic = false;
    Where where{};
  };
  struct Cell {
    Access write;
    Access foreign;             // a read by another block than those in `reads`
    std::vector<Access> reads;  // since the last write, by one block
    bool written = false, in_flight = false;
  };

  void order(const Thread& thread, const Access& earlier, const char* what, std::ptrdiff_t at, Use use,
             const Where& where) const;
  void note(const Thread& thread, Cell& cell, std::ptrdiff_t at, Use use, const Where& where);

  std::byte* begin_;
  std::string name_;
  std::vector<Cell> cells_;
};

// The device's memory: what tests told it of.
class GlobalMemory {
 public:
  // `written`: it holds values; else they must be written before they are read.
  void add(void* begin, std::size_t size, std::string name, bool written);
  // The region that holds the address, or ends there; null where there is none.
  [[nodiscard]] Region* find(const void* at);

 private:
  struct Entry {
    std::size_t size;
    Region region;
  };
  std::map<const std::byte*, Entry> regions_;
};

}  // namespace mambasdk::emulation
