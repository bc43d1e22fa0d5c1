# One GoogleTest program over every *_test.cpp in cpp/, linked against the static library so that internals are visible.
include(GoogleTest)
file(
  GLOB_RECURSE _tests
  CONFIGURE_DEPENDS
  cpp/core/*_test.cpp
  cpp/kernels/*_test.cpp
  cpp/ops/*_test.cpp
  cpp/runtime/*_test.cpp
  cpp/abi/*_test.cpp
  cpp/aoti/*_test.cpp
)
add_executable(mambasdk_tests ${_tests} cpp/aoti/archive.cpp)
target_link_libraries(mambasdk_tests PRIVATE mambasdk_static mambasdk_compile GTest::gtest_main)
set_target_properties(mambasdk_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
gtest_discover_tests(mambasdk_tests DISCOVERY_TIMEOUT 60)

# A device of a plugin (tests/devices), which the tests load.
add_library(fake_device MODULE tests/devices/fake_device.cpp)
target_link_libraries(fake_device PRIVATE mambasdk_headers mambasdk_compile)
set_target_properties(fake_device PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
add_dependencies(mambasdk_tests fake_device)
set_source_files_properties(
  cpp/runtime/engine/device_test.cpp
  PROPERTIES COMPILE_DEFINITIONS MAMBASDK_FAKE_DEVICE="$<TARGET_FILE:fake_device>"
)

# CUDA kernels on an emulated block of threads (docs/cuda.md). Its threads change stacks behind a sanitizer's back.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT MAMBASDK_SANITIZE)
  file(GLOB _cuda_tests CONFIGURE_DEPENDS tests/cuda/*_test.cpp tests/cuda/emulation/*.cpp)
  add_executable(mambasdk_cuda_tests ${_cuda_tests})
  target_include_directories(mambasdk_cuda_tests PRIVATE tests/cuda)
  target_link_libraries(mambasdk_cuda_tests PRIVATE mambasdk_static mambasdk_compile GTest::gtest_main)
  set_target_properties(mambasdk_cuda_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  gtest_discover_tests(mambasdk_cuda_tests DISCOVERY_TIMEOUT 60)
  add_dependencies(mambasdk_tests mambasdk_cuda_tests) # whoever builds those expects these in ctest
endif()

# Plugins against hosts of other minors (tests/abi): today's plugin on a host of ABI 1.0, and plugins of every released minor,
# whose binaries are kept, on today's host and on one with more slots.
mambasdk_add_plugin(NAME abitest SOURCES tests/abi/plugins/cpp/plugin.cpp)
add_executable(mambasdk_abi_host tests/abi/host/forged_host.cpp)
target_link_libraries(mambasdk_abi_host PRIVATE mambasdk_static mambasdk_compile)
set_target_properties(
  abitest
  mambasdk_abi_host
  PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests
)
add_dependencies(mambasdk_tests mambasdk_abi_host abitest)

set(_brings abitest_upper abitest_length abitest_sums)
set(_brings_not -abitest_upper -abitest_length -abitest_sums)
add_test(
  NAME abi.today_on_1.0
  COMMAND mambasdk_abi_host $<TARGET_FILE:abitest> abitest_halve 0.5 1.0 ${_brings_not}
)
foreach(_host today newer)
  add_test(
    NAME abi.today_on_${_host}
    COMMAND mambasdk_abi_host $<TARGET_FILE:abitest> abitest_halve 0.5 ${_host} ${_brings}
  )
endforeach()
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  foreach(_host 1.0 today newer)
    add_test(
      NAME abi.1.0_on_${_host}
      COMMAND
        mambasdk_abi_host ${PROJECT_SOURCE_DIR}/tests/abi/plugins/1.0/libabi10-x86_64.so abi10_scale 2 ${_host}
        abi10_scale
    )
  endforeach()
endif()
# A wrong name in a kernel does not compile, and the compiler says why.
set(
  _misnamed
  ""
  "has no argument of this name"
  "gives this argument another kind"
  "has no dim of this name"
  "has no output of this name"
  "constant expression"
)
foreach(_case RANGE 5)
  add_test(
    NAME declaration.misnamed_${_case}
    COMMAND
      ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only -DCASE=${_case} -I${PROJECT_SOURCE_DIR}/cpp/include
      ${PROJECT_SOURCE_DIR}/tests/ops/misnamed_arguments.cpp
  )
  if(_case GREATER 0)
    list(GET _misnamed ${_case} _message)
    set_tests_properties(declaration.misnamed_${_case} PROPERTIES PASS_REGULAR_EXPRESSION "${_message}")
  endif()
endforeach()

if(MAMBASDK_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU") # gcc 12 sees uninitialised members in an instrumented <regex>
  set_source_files_properties(cpp/runtime/text/pattern_test.cpp PROPERTIES COMPILE_OPTIONS -Wno-maybe-uninitialized)
endif()
