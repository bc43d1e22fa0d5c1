#include "core/dtype_info.hpp"

#include "core/error.hpp"

namespace mambasdk {

namespace {

constexpr DTypeInfo kTable[] = {
#define MAMBASDK_DTYPE_INFO(id, name, code, bits, block, bytes, stored, array, use, T) \
  {dtype::id, name, block, bytes, stored, DTypeUse::use},
    MAMBASDK_DTYPES(MAMBASDK_DTYPE_INFO)
#undef MAMBASDK_DTYPE_INFO
};

template <class Holds>
const DTypeInfo* find_if(const Holds& holds) noexcept {
  for (const DTypeInfo& info : kTable) {
    if (holds(info)) return &info;
  }
  return nullptr;
}

}  // namespace

void refuse_dtype(DType type, const char* what) {
  fail(ErrorCode::unsupported, what, ": elements of ", dtype_name(type), " are not supported");
}

std::span<const DTypeInfo> dtype_table() noexcept {
  return kTable;
}

const DTypeInfo& dtype_info(DType type) {
  const DTypeInfo* info = find_dtype(type);
  if (info == nullptr) fail(ErrorCode::unsupported, "elements of ", dtype_name(type), " are unknown to this mambasdk");
  return *info;
}

const DTypeInfo* find_dtype(DType type) noexcept {
  return find_if([&](const DTypeInfo& info) { return info.dtype == type; });
}

const DTypeInfo* find_dtype_named(std::string_view name) noexcept {
  return find_if([&](const DTypeInfo& info) { return info.name == name; });
}

const DTypeInfo* find_dtype_stored_as(std::string_view stored) noexcept {
  return stored.empty() ? nullptr : find_if([&](const DTypeInfo& info) { return info.stored == stored; });
}

std::string dtype_name(DType type) {
  if (const DTypeInfo* info = find_dtype(type)) return std::string(info->name);
  return concat("DLPack code ", int{type.code}, " with ", int{type.bits}, " bits");
}

bool dtype_from_name(std::string_view name, DType& out) noexcept {
  const DTypeInfo* info = find_dtype_named(name);
  if (info == nullptr || info->use != DTypeUse::computed) return false;
  out = info->dtype;
  return true;
}

std::int64_t element_bytes(DType type) {
  const DTypeInfo& info = dtype_info(type);
  if (info.block != 1) {
    fail(ErrorCode::unsupported, "elements of ", info.name, " lie in blocks of ", info.block,
         " and have no addresses of their own");
  }
  return info.bytes;
}

Extent storage_bytes(DType type, Extent elements) {
  const DTypeInfo& info = dtype_info(type);
  if (elements.value() % info.block != 0) {
    fail(ErrorCode::invalid_argument, elements.value(), " elements of ", info.name, ", expected a multiple of the ",
         info.block, " that lie together");
  }
  return Extent(elements.value() / info.block) * info.bytes;
}

}  // namespace mambasdk
