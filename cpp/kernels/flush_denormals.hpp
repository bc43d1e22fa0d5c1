// Numbers too small for a normal exponent count as zero while this stands, on this thread.
//
// Recurrences whose decays are strong are full of them, and a processor computes each in microcode: state space duality
// took up to eight times as long (docs/decisions.md). What is lost is below 1.2e-38. For *.isa.cpp only.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace mambasdk::MAMBASDK_ISA {

class FlushDenormals {
 public:
  FlushDenormals() : before_(read()) { write(before_ | kFlush); }
  ~FlushDenormals() { write(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__x86_64__) || defined(__i386__)
  using Control = unsigned int;
  static constexpr Control kFlush = 0x8040;  // results to zero, operands as zero
  static Control read() { return _mm_getcsr(); }
  static void write(Control control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
  using Control = std::uint64_t;
  static constexpr Control kFlush = Control{1} << 24;
  static Control read() {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void write(Control control) { asm volatile("msr fpcr, %0" : : "r"(control)); }
#else
  using Control = int;
  static constexpr Control kFlush = 0;
  static Control read() { return 0; }
  static void write(Control) {}
#endif
  Control before_;
};

}  // namespace mambasdk::MAMBASDK_ISA
