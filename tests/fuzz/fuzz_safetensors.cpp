// Any bytes as a safetensors file: an Error or tensors whose every byte can be read, and which round-trip.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/dtype_info.hpp"
#include "core/error.hpp"
#include "runtime/package/safetensors.hpp"
#include "seeds.hpp"

namespace rt = mambasdk::runtime;

static std::vector<std::string> seeds() {
  const std::vector<float> f32 = {1, 2, 3, 4, 5, 6};
  const std::vector<std::uint8_t> u8 = {1, 2, 3};
  const auto f32_bytes = std::as_bytes(std::span(f32));
  const auto u8_bytes = std::as_bytes(std::span(u8));
  const std::vector<rt::StoredTensor> tensors = {{"weight", "F32", {2, 3}, f32_bytes.data(), f32_bytes.size()},
                                                 {"bytes", "U8", {3}, u8_bytes.data(), u8_bytes.size()},
                                                 {"half", "BF16", {3, 4}, f32_bytes.data(), f32_bytes.size()},
                                                 {"none", "F64", {0, 7}, nullptr, 0}};
  std::vector<std::string> result;
  for (const bool metadata : {false, true}) {
    const auto bytes = metadata ? rt::serialize_safetensors(tensors, {{"format", "pt"}})
                                : rt::serialize_safetensors(std::span(tensors).first(1));
    result.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return result;
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(*argc, *argv, seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = rt::Safetensors::from_bytes(std::as_bytes(std::span(data, size)), "input");
    unsigned sum = 0;
    for (const rt::StoredTensor& tensor : file.tensors()) {
      for (std::size_t i = 0; i < tensor.size; ++i) sum += std::to_integer<unsigned>(tensor.data[i]);
      if (&file.at(tensor.name) != &tensor) std::abort();
      const mambasdk::DTypeInfo* type = mambasdk::find_dtype_stored_as(tensor.dtype);
      if (type == nullptr) std::abort();
      const auto alignment = static_cast<std::uintptr_t>(type->alignment());
      if (tensor.size != 0 && reinterpret_cast<std::uintptr_t>(tensor.data) % alignment != 0) std::abort();
    }
    const auto bytes = rt::serialize_safetensors(file.tensors(), file.metadata());
    if (rt::Safetensors::from_bytes(bytes, "copy").tensors().size() != file.tensors().size()) std::abort();
    static volatile unsigned sink;
    sink = sum;
  } catch (const mambasdk::Error&) {
  }
  return 0;
}
