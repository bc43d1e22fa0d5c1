// Large pages for large outputs.
#pragma once

#include <cstdint>

namespace mambasdk::torch_adapter {

// Asks the system to back fresh memory with large pages where it is worth it. At 4 KiB a page, the first touch of a
// gigabyte costs a quarter of a second in page faults. Only advice: where the system does not take it, nothing changes.
void prefer_large_pages(void* data, std::uint64_t bytes) noexcept;

}  // namespace mambasdk::torch_adapter
