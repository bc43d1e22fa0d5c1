// Several sequences in one tensor, by their offsets (cu_seqlens) or by an index for each step (seq_idx): the checks
// that every operation makes, and reversed calls, which are forward calls on mirrored views (Tensor::mirrored).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/call.hpp"

namespace mambasdk {

// 0 = c_0 <= c_1 <= ... <= c_S = steps, of a batch of 1. Throws Error(invalid_argument) unless they are so or absent;
// values that are not in the host's memory are not looked at. `batched` is the argument whose batch it is, `steps_are`
// what is counted: "the length of x".
void check_cu_seqlens(const NamedTensor& cu_seqlens, std::string_view batched, std::int64_t batch, std::int64_t steps,
                      std::string_view steps_are);
// The same for operations that take seq_idx in place of the offsets: one of them at most.
void check_cu_seqlens_or_seq_idx(const NamedTensor& cu_seqlens, const NamedTensor& seq_idx, std::int64_t batch,
                                 std::int64_t length);

// c_i, of any stride.
[[nodiscard]] std::int64_t sequence_offset(const Tensor& cu_seqlens, std::int64_t i);
// c'_i = c_S - c_{S-i}: the offsets of the same sequences counted from the other end, the last sequence first. The
// tensor's memory is `storage`.
[[nodiscard]] Tensor mirrored_offsets(const Tensor& cu_seqlens, std::vector<std::int32_t>& storage);

}  // namespace mambasdk
