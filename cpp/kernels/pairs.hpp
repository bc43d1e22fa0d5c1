// Products of bfloat16 in pairs of neighbours along the summed dim: with which instructions, if any.
#pragma once

namespace mambasdk {

enum class PairProducts : int {
  none,     // rounded values are multiplied as float32
  vectors,  // AVX512_BF16
  tiles,    // AMX
};

// What is fastest on this processor: tiles where there are any. Some processors take a vector of pairs in the time of a
// vector of float32 (Zen 4), others in the time of four (Sapphire and Emerald Rapids). A fixed property of the
// processor and its instruction set, not measured when a program runs: bits must be the same from run to run.
[[nodiscard]] PairProducts pair_products() noexcept;

// For tests and benchmarks: as if it were so, where the active instruction set has them; -1 asks the processor again.
void set_pair_products(int answer) noexcept;

}  // namespace mambasdk
