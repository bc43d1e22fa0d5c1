# mambasdk_isa_objects(OUT PREFIX file…): compiles each *.isa.cpp once per instruction set, in targets PREFIX_<set>, with
# MAMBASDK_ISA naming the namespace, and puts the objects' generator expressions in OUT. Only files in MAMBASDK_AMX_SOURCES
# have an avx512_amx variant.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(
    MAMBASDK_ISAS
    baseline
    avx2
    avx512
    avx512_bf16
    avx512_amx
  )
else()
  set(MAMBASDK_ISAS baseline)
endif()
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

if(MAMBASDK_SANITIZE) # instrumented vector code takes minutes a file at -O3
  set(_isa_optimization -O1)
else()
  set(_isa_optimization -O3)
endif()

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
    # No exceptions or errno in kernels; contraction of a*b+c to FMA is part of their contract.
    target_compile_options(
      ${prefix}_${isa}
      PRIVATE
        ${_isa_flags_${isa}}
        ${_isa_optimization}
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
