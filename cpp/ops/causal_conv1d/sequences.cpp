// Where the sequences of a call lie.
#include "ops/sequences.hpp"

#include <cstring>

#include "ops/causal_conv1d/call.hpp"

namespace mambasdk::causal_conv1d {

Runs runs_of(const Tensor& seq_idx) {
  Runs runs;
  const std::int64_t length = seq_idx.size(1);
  for (std::int64_t b = 0; b < seq_idx.size(0); ++b) {
    const auto* row = seq_idx.ptr<const std::int32_t>() + b * seq_idx.stride(0);
    const auto id = [&](std::int64_t t) { return row[t * seq_idx.stride(1)]; };
    const std::size_t before = runs.sequences.size();
    for (std::int64_t first = 0, last = 0; first < length; first = last) {
      while (last < length && id(last) == id(first)) ++last;
      (id(first) == -1 ? runs.padding : runs.sequences).push_back({b, first, last, -1, -1});
    }
    // A row of nothing but padding passes its state on.
    if (runs.sequences.size() == before) runs.sequences.push_back({b, 0, 0, -1, -1});
    runs.sequences[before].initial = b;
    runs.sequences.back().final = b;
  }
  return runs;
}

Span sequence_span(const Call& call, std::int64_t sequence) {
  if (call.runs != nullptr) return call.runs->sequences[static_cast<std::size_t>(sequence)];
  if (call.cu_seqlens == nullptr) return {sequence, 0, call.length, sequence, sequence};
  return {0, sequence_offset(*call.cu_seqlens, sequence), sequence_offset(*call.cu_seqlens, sequence + 1), sequence,
          sequence};
}

void clear_padding(const Call& call, const Tensor& y) {
  if (call.runs == nullptr) return;
  const std::int64_t size = y.dtype.bits / 8;
  for (const Span& span : call.runs->padding) {
    for (std::int64_t t = span.first; t < span.last; ++t) {
      std::memset(y.ptr<std::byte>() + (span.batch * y.stride(0) + t * y.stride(1)) * size, 0,
                  static_cast<std::size_t>(call.channels * size));
    }
  }
}

}  // namespace mambasdk::causal_conv1d
