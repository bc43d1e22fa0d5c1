#include "runtime/engine/transfer.hpp"

#include <array>

#include "core/error.hpp"
#include "runtime/engine/views.hpp"

namespace mambasdk::runtime {

namespace {

// Fewer bytes than that are cheaper to bring over with what lies between them.
constexpr std::int64_t kLeastRow = 4096;

// How many of the last dims are dense together.
int dense_dims(const Tensor& t) {
  std::int64_t expected = 1;
  int dense = 0;
  for (int d = t.ndim - 1; d >= 0; --d, ++dense) {
    if (t.size(d) != 1 && t.stride(d) != expected) break;
    expected *= t.size(d);
  }
  return dense;
}

}  // namespace

Transfer::~Transfer() {
  if (!waiting_) return;
  try {
    place_.synchronize();
  } catch (...) {
    // What failed on the device is reported by the call that this ends.
  }
}

void Transfer::in(const Tensor& from, void* to) {
  if (from.numel() == 0) return;
  if (place_.is_host()) return copy_strided(from, to);
  const auto bytes = static_cast<std::size_t>(from.nbytes());
  if (from.device != Device::cpu) {
    if (!from.is_contiguous()) {
      fail(ErrorCode::unsupported, "a strided tensor ", from.shape_text(), " on ",
           device_text(from.device, from.device_index), "; make it contiguous, or give it on the CPU");
    }
    return place_.copy(CopyDirection::on_device, to, from.data, bytes);
  }
  const void* dense = from.data;
  if (!from.is_contiguous()) {
    staged_.push_back(OwnedTensor::allocate(from.dtype, from.shape.data(), from.ndim));
    copy_strided(from, staged_.back().view.data);
    dense = staged_.back().view.data;
  }
  place_.copy(CopyDirection::to_device, to, dense, bytes);
}

OwnedTensor Transfer::out(const Tensor& from) {
  OwnedTensor made = OwnedTensor::allocate(from.dtype, from.shape.data(), from.ndim);
  if (from.numel() == 0) return made;
  if (place_.is_host()) {
    copy_strided(from, made.view.data);
    return made;
  }
  const int inner = dense_dims(from);
  std::int64_t row_bytes = from.dtype.bits / 8;
  for (int d = from.ndim - inner; d < from.ndim; ++d) row_bytes *= from.size(d);
  if (inner == from.ndim || row_bytes >= kLeastRow) {
    out_in_rows(from, made.view.data, inner, row_bytes);
  } else {
    out_whole(from, made.view.data);
  }
  return made;
}

void Transfer::out_in_rows(const Tensor& from, void* to, int inner, std::int64_t row_bytes) {
  const int outer = from.ndim - inner;
  const std::int64_t rows = from.nbytes() / row_bytes, element = from.dtype.bits / 8;
  std::array<std::int64_t, kMaxDims> at{};
  auto* out = static_cast<std::byte*>(to);
  for (std::int64_t row = 0; row < rows; ++row, out += row_bytes) {
    std::int64_t offset = 0;
    for (int d = 0; d < outer; ++d) offset += at[static_cast<std::size_t>(d)] * from.stride(d);
    place_.copy(CopyDirection::from_device, out, from.ptr<std::byte>() + offset * element,
                static_cast<std::size_t>(row_bytes));
    for (int d = outer - 1; d >= 0 && ++at[static_cast<std::size_t>(d)] == from.size(d); --d) {
      at[static_cast<std::size_t>(d)] = 0;
    }
  }
}

void Transfer::out_whole(const Tensor& from, void* to) {
  // Strides of the engine's views are not negative: the first element is the lowest.
  std::int64_t elements = 1;
  for (int d = 0; d < from.ndim; ++d) elements += (from.size(d) - 1) * from.stride(d);
  OwnedTensor memory = OwnedTensor::allocate(from.dtype, &elements, 1);
  place_.copy(CopyDirection::from_device, memory.view.data, from.data, static_cast<std::size_t>(memory.view.nbytes()));
  Tensor view = from;
  view.data = memory.view.data;
  unordered_.push_back({std::move(memory), view, to});
}

void Transfer::finish() {
  place_.synchronize();
  waiting_ = false;
  for (const Unordered& item : unordered_) copy_strided(item.view, item.to);
  unordered_.clear();
  staged_.clear();
}

}  // namespace mambasdk::runtime
