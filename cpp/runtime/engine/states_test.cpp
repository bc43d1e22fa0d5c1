// Saved states hold every element type that operations take and files can hold, and refuse the others by name.
#include "runtime/engine/states.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {
namespace {

TEST(States, every_computed_type_is_read_from_a_file_and_the_others_are_refused_by_name) {
  for (const DTypeInfo& info : dtype_table()) {
    if (info.stored.empty()) continue;
    const StoredTensor stored{"weight", std::string(info.stored), {info.block}, nullptr, 0};
    if (info.use == DTypeUse::computed) {
      EXPECT_EQ(stored_dtype(stored), info.dtype) << info.name;
      continue;
    }
    try {
      (void)stored_dtype(stored);
      ADD_FAILURE() << info.name << " is accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::unsupported);
      EXPECT_EQ(std::string(e.what()),
                concat("weight is ", info.stored, "; expected one of F64, F32, BF16, F16, C64, I64, I32, U8, BOOL"));
    }
  }
}

}  // namespace
}  // namespace mambasdk::runtime
