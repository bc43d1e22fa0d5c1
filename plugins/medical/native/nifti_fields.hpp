// Where the members of a NIfTI-1 header are, its numbers, and its errors; for nifti.cpp and nifti_header.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::medical::nifti_fields {

inline constexpr std::size_t kDim = 40, kDatatype = 70, kBitpix = 72, kPixdim = 76, kVoxOffset = 108, kSlope = 112,
                             kInter = 116, kUnits = 123, kCalMax = 124, kCalMin = 128, kQformCode = 252,
                             kSformCode = 254, kSrow = 280, kMagic = 344;

[[noreturn]] inline void refuse(std::int32_t code, const std::string& what) {
  throw Error(code, "nifti", "the NIfTI file " + what);
}
[[noreturn]] inline void corrupt(const std::string& what) {
  refuse(MAMBASDK_ERROR_CORRUPT, "is damaged: " + what);
}

template <class Bits>
Bits little(const std::uint8_t* from) {
  Bits value = 0;
  for (std::size_t i = sizeof(Bits); i-- > 0;) value = static_cast<Bits>(value << 8 | from[i]);
  return value;
}

template <class Bits>
void put_little(std::uint8_t* to, Bits value) {
  for (std::size_t i = 0; i < sizeof(Bits); ++i) to[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

}  // namespace mambasdk::medical::nifti_fields
