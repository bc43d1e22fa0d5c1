// Where the sequences of a call lie.
#include "ops/sequences.hpp"

#include "ops/ssd/call.hpp"

namespace mambasdk::ssd {

std::vector<SsdSequence> sequences_of(const Call& call) {
  std::vector<SsdSequence> list;
  std::int64_t chunks = 0;
  const auto add = [&](std::int64_t batch, std::int64_t begin, std::int64_t length) {
    list.push_back({batch, begin, length, chunks});
    chunks += (length + kSsdChunk - 1) / kSsdChunk;
  };
  if (call.cu_seqlens.data == nullptr) {
    for (std::int64_t b = 0; b < call.batch; ++b) add(b, 0, call.length);
    return list;
  }
  for (std::int64_t s = 0; s < call.sequences; ++s) {
    const std::int64_t begin = sequence_offset(call.cu_seqlens, s);
    add(0, begin, sequence_offset(call.cu_seqlens, s + 1) - begin);
  }
  return list;
}

std::int64_t chunk_count(const std::vector<SsdSequence>& sequences) {
  if (sequences.empty()) return 0;
  return sequences.back().first_chunk + (sequences.back().length + kSsdChunk - 1) / kSsdChunk;
}

std::vector<std::int32_t> run_starts_of(const Call& call) {
  if (call.seq_idx.data == nullptr) return {};
  std::vector<std::int32_t> starts(static_cast<std::size_t>(call.batch * call.length));
  const auto* index = call.seq_idx.ptr<const std::int32_t>();
  for (std::int64_t b = 0; b < call.batch; ++b) {
    std::int32_t start = 0, previous = 0;
    for (std::int64_t i = 0; i < call.length; ++i) {
      const std::int64_t t = call.reverse ? call.length - 1 - i : i;
      const std::int32_t id = index[b * call.seq_idx.stride(0) + t * call.seq_idx.stride(1)];
      if (i > 0 && id != previous) start = static_cast<std::int32_t>(i);
      previous = id;
      starts[static_cast<std::size_t>(b * call.length + i)] = start;
    }
  }
  return starts;
}

}  // namespace mambasdk::ssd
