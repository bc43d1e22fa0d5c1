// Scratch memory that each running range of a kernel takes and gives back. Safe to include from *.isa.cpp.
#pragma once

#include <cstddef>
#include <string_view>

namespace mambasdk {

class Context;

// Kernels must not throw: `get` returns nullptr when there is no memory, the kernel says that it ran out, and its
// caller says so by need_scratch.
struct ThreadScratch {
  void* self;
  void* (*get)(void* self, std::size_t bytes);
  void (*put)(void* self, void* data, std::size_t bytes);
};

// From the context's allocator.
[[nodiscard]] ThreadScratch thread_scratch(const Context& context);
// Throws Error(out_of_memory) unless `ok`.
void need_scratch(bool ok, std::string_view operation);

}  // namespace mambasdk
