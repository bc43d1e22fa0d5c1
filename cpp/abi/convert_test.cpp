// Tensors that come through the C ABI have an element type of the table, or are refused by its DLPack code.
#include "abi/convert.hpp"

#include <gtest/gtest.h>

namespace mambasdk::abi {
namespace {

TEST(Convert, every_type_of_the_table_passes_both_ways) {
  alignas(64) std::byte memory[1024] = {};
  for (const DTypeInfo& info : dtype_table()) {
    std::int64_t shape[] = {2, info.block};
    const mambasdk_tensor given{memory, {1, 0}, 2, {info.dtype.code, info.dtype.bits, 1}, shape, nullptr, 0};
    const Tensor t = from_abi(given, "x");
    EXPECT_EQ(t.dtype, info.dtype) << info.name;
    EXPECT_EQ(t.nbytes(), 2 * info.bytes) << info.name;
    const mambasdk_tensor back = to_abi(t);
    const DType type{back.dtype.code, back.dtype.bits};
    EXPECT_EQ(type, info.dtype) << info.name;
  }
}

TEST(Convert, other_types_are_refused_by_their_code) {
  alignas(64) std::byte memory[64] = {};
  std::int64_t shape[] = {2};
  for (const mambasdk_dtype type : {mambasdk_dtype{3, 64, 1}, mambasdk_dtype{2, 24, 1}, mambasdk_dtype{0, 0, 1}}) {
    try {
      (void)from_abi({memory, {1, 0}, 1, type, shape, nullptr, 0}, "x");
      ADD_FAILURE() << "accepted: code " << int{type.code};
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(std::string(e.what()), concat("x has elements of DLPack code ", int{type.code}, " with ",
                                              int{type.bits}, " bits, a type that this mambasdk lacks"));
    }
  }
}

}  // namespace
}  // namespace mambasdk::abi
