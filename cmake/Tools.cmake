# Command-line programs over the C++ face of the C ABI; no Python.
add_executable(mambasdk_run cpp/tools/mambasdk_run.cpp cpp/runtime/package/atomic_write.cpp)
target_include_directories(mambasdk_run PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cpp)
target_link_libraries(mambasdk_run PRIVATE mambasdk mambasdk_compile nlohmann_json::nlohmann_json)
set_target_properties(mambasdk_run PROPERTIES OUTPUT_NAME mambasdk-run)
mambasdk_relative_rpath(mambasdk_run ../${CMAKE_INSTALL_LIBDIR})

if(MAMBASDK_TESTS)
  add_executable(mambasdk_tokenize cpp/tools/mambasdk_tokenize.cpp) # for the tests; not installed
  target_link_libraries(mambasdk_tokenize PRIVATE mambasdk_static mambasdk_compile)
  set_target_properties(mambasdk_tokenize PROPERTIES OUTPUT_NAME mambasdk-tokenize)
endif()
