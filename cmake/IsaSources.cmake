# mambasdk_isa_objects(OUT PREFIX file…): compiles each *.isa.cpp once per instruction set, in targets PREFIX_<set>, with
# MAMBASDK_ISA naming the namespace, and puts the objects' generator expressions in OUT. Only files in MAMBASDK_AMX_SOURCES
# have an avx512_amx variant.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(
    _all_isas
    baseline
    avx2
    avx512
    avx512_bf16
    avx512_amx
  )
else()
  set(_all_isas baseline)
endif()
# Fewer build faster: -DMAMBASDK_ISAS="baseline;avx2", or native, which is baseline, optimised less, and the best of this
# machine. What ships has all.
set(
  MAMBASDK_ISAS
  all
  CACHE STRING
  "Instruction sets that kernels are compiled for: all, native, or a list with baseline"
)

# mambasdk_native_isas(OUT): baseline and the best set that this machine runs; all of them where Linux does not say.
function(mambasdk_native_isas out)
  set(${out} ${_all_isas} PARENT_SCOPE)
  if(NOT EXISTS /proc/cpuinfo OR CMAKE_CROSSCOMPILING)
    return()
  endif()
  file(STRINGS /proc/cpuinfo flags REGEX "^flags" LIMIT_COUNT 1)
  string(REGEX REPLACE "[ \t]+" ";" flags "${flags}")
  set(
    _needs_avx2
    avx2
    fma
    f16c
    bmi1
    bmi2
  )
  set(_needs_avx512 avx512f avx512bw avx512dq avx512vl)
  set(_needs_avx512_bf16 avx512_bf16)
  set(_needs_avx512_amx amx_tile amx_bf16)
  set(best baseline)
  foreach(isa IN LISTS _all_isas)
    foreach(flag IN LISTS _needs_${isa})
      if(NOT flag IN_LIST flags)
        list(REMOVE_DUPLICATES best)
        set(${out} ${best} PARENT_SCOPE)
        return()
      endif()
    endforeach()
    # avx512_amx stands on avx512_bf16: only a few files have it.
    if(isa STREQUAL "avx512_amx")
      list(APPEND best avx512_amx)
    else()
      set(best baseline ${isa})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES best)
  set(${out} ${best} PARENT_SCOPE)
endfunction()
if(MAMBASDK_ISAS STREQUAL "all")
  set(MAMBASDK_ISAS ${_all_isas})
elseif(MAMBASDK_ISAS STREQUAL "native")
  mambasdk_native_isas(MAMBASDK_ISAS)
  list(LENGTH MAMBASDK_ISAS _count)
  if(_count GREATER 1) # this machine runs the other one: half of the minute that baseline takes is enough for it
    set(_isa_optimization_baseline -O1)
  endif()
endif()
foreach(isa IN LISTS MAMBASDK_ISAS)
  if(NOT isa IN_LIST _all_isas)
    message(FATAL_ERROR "MAMBASDK_ISAS names ${isa}; this processor family has: ${_all_isas}")
  endif()
endforeach()
if(NOT "baseline" IN_LIST MAMBASDK_ISAS)
  message(FATAL_ERROR "MAMBASDK_ISAS is ${MAMBASDK_ISAS}; it must name baseline")
endif()
foreach(isa IN LISTS _all_isas)
  if(NOT isa IN_LIST MAMBASDK_ISAS)
    string(TOUPPER "${isa}" _name)
    list(APPEND MAMBASDK_ISA_DEFINITIONS MAMBASDK_WITHOUT_${_name}) # for those who choose, not for kernels
  endif()
endforeach()
set(_isa_flags_baseline "")
set(
  _isa_flags_avx2
  -mavx2
  -mfma
  -mf16c
  -mbmi
  -mbmi2
)
set(
  _isa_flags_avx512
  ${_isa_flags_avx2}
  -mavx512f
  -mavx512bw
  -mavx512dq
  -mavx512vl
  -mprefer-vector-width=512
)
set(_isa_flags_avx512_bf16 ${_isa_flags_avx512} -mavx512bf16)
set(_isa_flags_avx512_amx ${_isa_flags_avx512_bf16} -mamx-tile -mamx-bf16)

if(MAMBASDK_SANITIZE AND CMAKE_CXX_COMPILER_ID MATCHES "Clang") # instrumented vector code takes it minutes a file
  set(_isa_optimization -O0)
elseif(MAMBASDK_SANITIZE)
  set(_isa_optimization -O1)
else()
  set(_isa_optimization -O3)
endif()
foreach(isa IN LISTS _all_isas)
  if(NOT DEFINED _isa_optimization_${isa})
    set(_isa_optimization_${isa} ${_isa_optimization})
  endif()
endforeach()

function(mambasdk_isa_objects out prefix)
  set(objects)
  foreach(isa IN LISTS MAMBASDK_ISAS)
    set(sources ${ARGN})
    if(isa STREQUAL "avx512_amx")
      list(FILTER sources INCLUDE REGEX "${MAMBASDK_AMX_SOURCES}")
      if(NOT sources)
        continue()
      endif()
    endif()
    add_library(${prefix}_${isa} OBJECT EXCLUDE_FROM_ALL ${sources})
    target_include_directories(${prefix}_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/cpp)
    target_compile_definitions(${prefix}_${isa} PRIVATE MAMBASDK_ISA=${isa})
    if(isa MATCHES "^avx512_" AND NOT "avx512" IN_LIST MAMBASDK_ISAS)
      # What they would leave to avx512, they compile themselves (core/simd_types.hpp).
      target_compile_definitions(${prefix}_${isa} PRIVATE MAMBASDK_WITHOUT_AVX512)
    endif()
    # No exceptions or errno in kernels; contraction of a*b+c to FMA is part of their contract.
    target_compile_options(
      ${prefix}_${isa}
      PRIVATE
        ${_isa_flags_${isa}}
        ${_isa_optimization_${isa}}
        -ffp-contract=fast
        -fno-math-errno
        -fno-trapping-math
        -fno-exceptions
        -Wno-pedantic
        -Wno-ignored-attributes
    )
    target_link_libraries(${prefix}_${isa} PRIVATE mambasdk_compile)
    list(APPEND objects $<TARGET_OBJECTS:${prefix}_${isa}>)
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()
