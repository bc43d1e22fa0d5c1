// Every user of the table of element types knows every line of it, and refuses by name what it cannot do.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "core/element.hpp"
#include "core/signature.hpp"
#include "core/tensor.hpp"

namespace mambasdk {
namespace {

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

constexpr DType kUnknown{3, 64};  // DLPack's opaque handle

TEST(DTypes, every_line_is_found_by_type_name_and_stored_name) {
  std::set<std::string_view> names, stored;
  for (const DTypeInfo& info : dtype_table()) {
    EXPECT_EQ(find_dtype(info.dtype), &info) << info.name;
    EXPECT_EQ(find_dtype_named(info.name), &info) << info.name;
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(dtype_name(info.dtype), info.name);
    if (info.stored.empty()) continue;
    EXPECT_EQ(find_dtype_stored_as(info.stored), &info) << info.name;
    EXPECT_TRUE(stored.insert(info.stored).second) << info.stored;
  }
  EXPECT_EQ(find_dtype(kUnknown), nullptr);
  EXPECT_EQ(find_dtype_named("q4"), nullptr);
  EXPECT_EQ(find_dtype_stored_as(""), nullptr);
  EXPECT_EQ(dtype_name(kUnknown), "DLPack code 3 with 64 bits");
}

TEST(DTypes, signatures_name_the_computed_ones_and_no_others) {
  for (const DTypeInfo& info : dtype_table()) {
    DType found{};
    EXPECT_EQ(dtype_from_name(info.name, found), info.use == DTypeUse::computed) << info.name;
    const Signature s = Signature::parse(concat("probe(x: ", info.name, "[N]) -> (y: f32[N])"));
    const bool fixed = s.inputs[0].dtype.kind == DTypeSpec::Kind::fixed;
    EXPECT_EQ(fixed, info.use == DTypeUse::computed) << info.name;
    EXPECT_TRUE(!fixed || s.inputs[0].dtype.fixed == info.dtype) << info.name;
  }
}

TEST(DTypes, sizes_are_whole_blocks) {
  for (const DTypeInfo& info : dtype_table()) {
    EXPECT_EQ(storage_bytes(info.dtype, 6 * info.block).value(), 6 * info.bytes) << info.name;
    if (info.block == 1) {
      EXPECT_EQ(element_bytes(info.dtype), info.bytes) << info.name;
      EXPECT_EQ(info.dtype.bits, 8 * info.bytes) << info.name;
    } else {
      EXPECT_NE(refusal([&] { (void)element_bytes(info.dtype); }).find(info.name), std::string::npos) << info.name;
      EXPECT_NE(refusal([&] { (void)storage_bytes(info.dtype, 1); }).find(info.name), std::string::npos) << info.name;
    }
    EXPECT_EQ(info.bytes % info.alignment(), 0) << info.name;
    const std::int64_t shape[] = {3, 2 * info.block};
    EXPECT_EQ(Tensor::contiguous(nullptr, info.dtype, shape, 2).nbytes(), 6 * info.bytes) << info.name;
  }
  EXPECT_EQ(refusal([] { (void)element_bytes(kUnknown); }),
            "elements of DLPack code 3 with 64 bits are unknown to this mambasdk");
  EXPECT_FALSE(Tensor{.dtype = kUnknown}.is_addressable());
}

TEST(DTypes, an_element_is_read_and_written_or_refused_by_name) {
  const std::set<std::string_view> real = {"f64", "f32", "bf16", "f16"};
  for (const DTypeInfo& info : dtype_table()) {
    alignas(16) std::byte memory[64] = {};
    const auto write = [&] { store_element(memory, info.dtype, 1, -1.5); };
    const auto read = [&] { EXPECT_EQ(load_element(memory, info.dtype, 1), -1.5) << info.name; };
    if (real.contains(info.name)) {
      write();
      read();
      EXPECT_EQ(load_element(memory, info.dtype, 0), 0.0) << info.name;
      EXPECT_EQ(load_element(memory, info.dtype, 2), 0.0) << info.name;
    } else {
      EXPECT_EQ(refusal(write), concat("writing one element: elements of ", info.name, " are not supported"));
      EXPECT_EQ(refusal(read), concat("reading one element: elements of ", info.name, " are not supported"));
    }
  }
}

}  // namespace
}  // namespace mambasdk
