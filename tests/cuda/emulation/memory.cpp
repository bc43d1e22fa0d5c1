#include "emulation/memory.hpp"

#include <algorithm>

namespace mambasdk::emulation {

std::string text(const Where& where) {
  const std::string_view file = where.file;
  return std::string(file.substr(file.rfind('/') + 1)) + ":" + std::to_string(where.line);
}

std::string Thread::name() const {
  return "thread " + std::to_string(index) + " (warp " + std::to_string(index / 32) + ", lane " +
         std::to_string(index % 32) + ") of block " + std::to_string(block);
}

Region::Region(std::byte* begin, std::size_t size, std::string name, bool written)
    : begin_(begin), name_(std::move(name)), cells_(size) {
  if (written) {
    for (Cell& cell : cells_) cell.written = true;
  }
}

void Region::check(const Thread& thread, const std::byte* at, std::size_t bytes, const Where& where) const {
  const std::ptrdiff_t from = offset(at), size = static_cast<std::ptrdiff_t>(cells_.size());
  if (from < 0 || from + static_cast<std::ptrdiff_t>(bytes) > size) {
    throw Fault(Kind::bounds, text(where) + ": " + thread.name() + " accesses " + std::to_string(bytes) +
                                  " bytes from byte " + std::to_string(from) + " of " + name_ + ", which has " +
                                  std::to_string(size));
  }
  if (reinterpret_cast<std::uintptr_t>(at) % bytes != 0) {
    throw Fault(Kind::alignment, text(where) + ": " + thread.name() + " accesses " + std::to_string(bytes) +
                                     " bytes from byte " + std::to_string(from) + " of " + name_ +
                                     ", which is not aligned to them");
  }
}

void Region::order(const Thread& thread, const Access& earlier, const char* what, std::ptrdiff_t at, Use use,
                   const Where& where) const {
  if (earlier.block < 0 || (use == Use::add && earlier.atomic)) return;
  if (earlier.block == thread.block && thread.seen[earlier.thread] >= earlier.clock) return;
  const Thread other{.block = earlier.block, .index = earlier.thread, .seen = {}};
  const char* does = use == Use::read ? " reads" : use == Use::write ? " writes" : " adds to";
  throw Fault(Kind::race, text(where) + ": " + thread.name() + does + " byte " + std::to_string(at) + " of " + name_ +
                              ", which " + other.name() + " " + what + " at " + text(earlier.where) +
                              ", and no barrier stands between them");
}

void Region::note(const Thread& thread, Cell& cell, std::ptrdiff_t at, Use use, const Where& where) {
  order(thread, cell.write, cell.write.atomic ? "added to" : "wrote", at, use, where);
  const Access access{thread.block, thread.index, thread.now(), use == Use::add, where};
  if (use == Use::read) {
    if (!cell.reads.empty() && cell.reads.front().block != thread.block) {
      cell.foreign = cell.reads.front();
      cell.reads.clear();
    }
    const auto mine = std::find_if(cell.reads.begin(), cell.reads.end(),
                                   [&](const Access& read) { return read.thread == thread.index; });
    if (mine != cell.reads.end()) {
      *mine = access;
    } else {
      cell.reads.push_back(access);
    }
    return;
  }
  if (cell.foreign.block != thread.block) order(thread, cell.foreign, "read", at, use, where);
  for (const Access& read : cell.reads) order(thread, read, "read", at, use, where);
  cell.reads.clear();
  cell.write = access;
}

void Region::touch(const Thread& thread, const std::byte* at, std::size_t bytes, Use use, const Where& where) {
  check(thread, at, bytes, where);
  for (std::size_t i = 0; i < bytes; ++i) {
    const std::ptrdiff_t byte = offset(at) + static_cast<std::ptrdiff_t>(i);
    Cell& cell = cells_[static_cast<std::size_t>(byte)];
    if (cell.in_flight) {
      throw Fault(Kind::in_flight, text(where) + ": " + thread.name() + " accesses byte " + std::to_string(byte) +
                                       " of " + name_ + ", the target of an asynchronous copy that was issued at " +
                                       text(cell.write.where) + " and not waited for");
    }
    if (use != Use::write && !cell.written) {
      throw Fault(Kind::unwritten, text(where) + ": " + thread.name() + " reads byte " + std::to_string(byte) + " of " +
                                       name_ + ", which nobody wrote");
    }
    note(thread, cell, byte, use, where);
    cell.written = true;
  }
}

void Region::start_copy(const Thread& thread, const std::byte* to, std::size_t bytes, const Where& where) {
  touch(thread, to, bytes, Use::write, where);
  for (std::size_t i = 0; i < bytes; ++i) cells_[static_cast<std::size_t>(offset(to)) + i].in_flight = true;
}

void Region::finish_copy(const Thread& thread, const std::byte* to, std::size_t bytes, const Where& where) {
  for (std::size_t i = 0; i < bytes; ++i) cells_[static_cast<std::size_t>(offset(to)) + i].in_flight = false;
  touch(thread, to, bytes, Use::write, where);
}

void GlobalMemory::add(void* begin, std::size_t size, std::string name, bool written) {
  auto* at = static_cast<std::byte*>(begin);
  regions_.insert_or_assign(at, Entry{size, Region(at, size, std::move(name), written)});
}

Region* GlobalMemory::find(const void* at) {
  const auto* byte = static_cast<const std::byte*>(at);
  auto next = regions_.upper_bound(byte);
  if (next == regions_.begin()) return nullptr;
  Entry& entry = (--next)->second;
  return static_cast<std::size_t>(byte - next->first) <= entry.size ? &entry.region : nullptr;
}

}  // namespace mambasdk::emulation
