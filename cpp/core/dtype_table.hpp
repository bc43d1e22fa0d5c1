// The element types, one line each. Everything that depends on an element's type is made from this table: its names in
// signatures, files, torch and NumPy, its size, the code that reads one element. Macros alone; safe to include from
// *.isa.cpp.
#pragma once

// X(id, name, code, bits, block, bytes, stored, array, use, type)
//   id            in C++: dtype::id
//   name          in signatures, manifests, programs and errors
//   code, bits    DLPack's; codes from 128 on are free for types that DLPack lacks
//   block, bytes  `bytes` bytes of memory hold `block` neighbours of the last dim: 1 and bits/8 where every element has
//                 an address, 2 and 1 for four bits, more where a block has a scale of its own
//   stored        in safetensors files, "" where the format lacks it
//   array         in torch and NumPy
//   use           computed: operations take it; held: files and arrays may have it, no operation does
//   type          in C++, void where no code reads a single element
#define MAMBASDK_ARRAY_DTYPES(X)                                             \
  X(f64, "f64", 2, 64, 1, 8, "F64", float64, computed, double)               \
  X(f32, "f32", 2, 32, 1, 4, "F32", float32, computed, float)                \
  X(bf16, "bf16", 4, 16, 1, 2, "BF16", bfloat16, computed, ::mambasdk::bf16) \
  X(f16, "f16", 2, 16, 1, 2, "F16", float16, computed, ::mambasdk::f16)      \
  X(c64, "c64", 5, 64, 1, 8, "C64", complex64, computed, void)               \
  X(c128, "c128", 5, 128, 1, 16, "", complex128, computed, void)             \
  X(i64, "i64", 0, 64, 1, 8, "I64", int64, computed, void)                   \
  X(i32, "i32", 0, 32, 1, 4, "I32", int32, computed, void)                   \
  X(u8, "u8", 1, 8, 1, 1, "U8", uint8, computed, void)                       \
  X(boolean, "bool", 6, 8, 1, 1, "BOOL", bool, computed, void)               \
  X(i16, "i16", 0, 16, 1, 2, "I16", int16, held, void)                       \
  X(i8, "i8", 0, 8, 1, 1, "I8", int8, held, void)                            \
  X(u16, "u16", 1, 16, 1, 2, "U16", uint16, held, void)                      \
  X(u32, "u32", 1, 32, 1, 4, "U32", uint32, held, void)                      \
  X(u64, "u64", 1, 64, 1, 8, "U64", uint64, held, void)                      \
  X(f8_e4m3, "f8_e4m3", 10, 8, 1, 1, "F8_E4M3", float8_e4m3fn, held, void)   \
  X(f8_e5m2, "f8_e5m2", 12, 8, 1, 1, "F8_E5M2", float8_e5m2, held, void)
// Files alone have these: not every torch that we support knows them.
#define MAMBASDK_FILE_DTYPES(X) X(f8_e8m0, "f8_e8m0", 14, 8, 1, 1, "F8_E8M0", , held, void)

#define MAMBASDK_DTYPES(X) \
  MAMBASDK_ARRAY_DTYPES(X) \
  MAMBASDK_FILE_DTYPES(X)
