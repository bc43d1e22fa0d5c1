#include "ops/thread_scratch.hpp"

#include "core/op.hpp"

namespace mambasdk {

ThreadScratch thread_scratch(const Context& context) {
  return {const_cast<Context*>(&context),
          [](void* self, std::size_t bytes) -> void* {
            try {
              return static_cast<const Context*>(self)->allocate(bytes);
            } catch (...) {
              return nullptr;
            }
          },
          [](void* self, void* data, std::size_t bytes) { static_cast<const Context*>(self)->release(data, bytes); }};
}

void need_scratch(bool ok, std::string_view operation) {
  if (!ok) fail(ErrorCode::out_of_memory, operation, ": the host's allocator refused a thread's scratch");
}

}  // namespace mambasdk
