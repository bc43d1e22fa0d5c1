# One GoogleTest program over every *_test.cpp in cpp/, linked against the static library so that internals are visible.
include(GoogleTest)
file(
  GLOB_RECURSE _tests
  CONFIGURE_DEPENDS
  cpp/core/*_test.cpp
  cpp/ops/*_test.cpp
  cpp/runtime/*_test.cpp
  cpp/abi/*_test.cpp
  cpp/aoti/*_test.cpp
)
add_executable(mambasdk_tests ${_tests} cpp/aoti/archive.cpp)
target_link_libraries(mambasdk_tests PRIVATE mambasdk_static mambasdk_compile GTest::gtest_main)
set_target_properties(mambasdk_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
gtest_discover_tests(mambasdk_tests DISCOVERY_TIMEOUT 60)
