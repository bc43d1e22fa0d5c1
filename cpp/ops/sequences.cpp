#include "ops/sequences.hpp"

namespace mambasdk {

std::int64_t sequence_offset(const Tensor& cu_seqlens, std::int64_t i) {
  return cu_seqlens.ptr<const std::int32_t>()[i * cu_seqlens.stride(0)];
}

void check_cu_seqlens(const NamedTensor& cu_seqlens, std::string_view batched, std::int64_t batch, std::int64_t steps,
                      std::string_view steps_are) {
  const Tensor* offsets = cu_seqlens.tensor;
  if (offsets == nullptr) return;
  const std::string_view operation = cu_seqlens.operation;
  if (batch != 1) {
    fail(ErrorCode::invalid_argument, operation, ": ", batched, " has batch ", batch,
         ", expected 1 with cu_seqlens; pack the sequences along the length");
  }
  if (offsets->data == nullptr || offsets->device != Device::cpu) return;
  const std::int64_t sequences = offsets->size(0) - 1;
  std::int64_t before = sequence_offset(*offsets, 0);
  if (before != 0) fail(ErrorCode::invalid_argument, operation, ": cu_seqlens[0] is ", before, ", expected 0");
  for (std::int64_t s = 1; s <= sequences; ++s) {
    const std::int64_t offset = sequence_offset(*offsets, s);
    if (offset < before) {
      fail(ErrorCode::invalid_argument, operation, ": cu_seqlens[", s, "] is ", offset, ", expected at least ", before,
           " as the one before it");
    }
    before = offset;
  }
  if (before != steps) {
    fail(ErrorCode::invalid_argument, operation, ": cu_seqlens ends with ", before, ", expected ", steps, ", ",
         steps_are);
  }
}

void check_cu_seqlens_or_seq_idx(const NamedTensor& cu_seqlens, const NamedTensor& seq_idx, std::int64_t batch,
                                 std::int64_t length) {
  if (cu_seqlens.tensor != nullptr && seq_idx.tensor != nullptr) {
    fail(ErrorCode::invalid_argument, cu_seqlens.operation, ": got both cu_seqlens and seq_idx, expected one of them");
  }
  check_cu_seqlens(cu_seqlens, "x", batch, length, "the length of x");
}

Tensor mirrored_offsets(const Tensor& cu_seqlens, std::vector<std::int32_t>& storage) {
  const std::int64_t count = cu_seqlens.size(0);
  const std::int64_t end = count > 0 ? sequence_offset(cu_seqlens, count - 1) : 0;
  storage.clear();
  for (std::int64_t i = count - 1; i >= 0; --i)
    storage.push_back(static_cast<std::int32_t>(end - sequence_offset(cu_seqlens, i)));
  return Tensor::contiguous(storage.data(), dtype::i32, &count, 1);
}

}  // namespace mambasdk
