// Products of pairs of bfloat16, which AVX512_BF16 has: whether they are worth it on this processor.
#pragma once

namespace mambasdk {

// Some processors take a vector of pairs in the time of a vector of float32 (Zen 4), others in the time of four
// (Sapphire and Emerald Rapids, whose pairs are for AMX), so that rounded values are multiplied faster as float32. A
// fixed property of the processor, not measured when a program runs: bits must be the same from run to run.
[[nodiscard]] bool pairs_are_fast() noexcept;

// For tests and benchmarks: as if it were so, or not; -1 asks the processor again.
void set_pairs_are_fast(int answer) noexcept;

}  // namespace mambasdk
