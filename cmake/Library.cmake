# libmambasdk: core, operations and runtime behind one C entry point. Also a static twin with every symbol, for tests.
include(OperationFamilies)
file(
  GLOB_RECURSE _sources
  CONFIGURE_DEPENDS
  cpp/core/*.cpp
  cpp/kernels/*.cpp
  cpp/ops/*.cpp
  cpp/runtime/*.cpp
  cpp/abi/*.cpp
)
set(_isa_sources ${_sources})
list(FILTER _isa_sources INCLUDE REGEX "\\.isa\\.cpp$")
list(FILTER _sources EXCLUDE REGEX "(\\.isa|_test|_bench)\\.cpp$")
# What only checks the vectors stays out of what ships.
set(_checking_sources ${_isa_sources})
list(FILTER _checking_sources INCLUDE REGEX "core/simd_check")
list(REMOVE_ITEM _isa_sources ${_checking_sources})
set(MAMBASDK_AMX_SOURCES "ops/ssd/ssd_(forward|backward)\\.isa|ops/linear/linear_tiles\\.isa") # products of bfloat16 (core/isa.hpp)
mambasdk_isa_objects(_isa_objects mambasdk_isa ${_isa_sources})
mambasdk_isa_objects(_checking_objects mambasdk_checking ${_checking_sources})

mambasdk_operation_families(_generated ${PROJECT_SOURCE_DIR}/cpp/ops)
# Compiled once for the library and for the engine aoti, which has a copy of its own (AotiEngine).
set(
  _package_sources
  cpp/core/device.cpp
  cpp/core/dtype_info.cpp
  cpp/core/tensor.cpp
  cpp/runtime/engine/growing_memory.cpp
  cpp/runtime/engine/identity.cpp
  cpp/runtime/engine/memory_limit.cpp
  cpp/runtime/engine/owned_tensor.cpp
  cpp/runtime/engine/shapes.cpp
  cpp/runtime/engine/states.cpp
  cpp/runtime/engine/transfer.cpp
  cpp/runtime/engine/views.cpp
  cpp/runtime/package/json.cpp
  cpp/runtime/package/manifest.cpp
  cpp/runtime/package/atomic_write.cpp
  cpp/runtime/package/hash_cache.cpp
  cpp/runtime/package/mapped_file.cpp
  cpp/runtime/package/package.cpp
  cpp/runtime/package/safetensors.cpp
  cpp/runtime/package/safetensors_header.cpp
  cpp/runtime/package/sha256.cpp
)
list(TRANSFORM _package_sources PREPEND ${PROJECT_SOURCE_DIR}/)
list(REMOVE_ITEM _sources ${_package_sources})
add_library(mambasdk_package_objects OBJECT ${_package_sources})
add_library(mambasdk_objects OBJECT ${_sources})
# The types of the interface, for abidiff (tests/abi); installation strips them.
set_source_files_properties(cpp/abi/entry.cpp PROPERTIES COMPILE_OPTIONS -g)
# A file of the runtime or the ABI costs most for reading the same headers, json.hpp before all: they are compiled by
# eights in 40 % of the time. So their anonymous namespaces must not use a name twice. Operations are files of their own.
option(MAMBASDK_UNITY "Compile several files of the runtime at once" ON)
set(_alone ${_sources} ${_package_sources})
list(FILTER _alone INCLUDE REGEX "/cpp/(core|kernels|ops)/")
set_source_files_properties(${_alone} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
foreach(_target IN ITEMS mambasdk_package_objects mambasdk_objects)
  set_target_properties(${_target} PROPERTIES UNITY_BUILD ${MAMBASDK_UNITY} UNITY_BUILD_BATCH_SIZE 8)
  target_include_directories(${_target} PUBLIC ${PROJECT_SOURCE_DIR}/cpp ${PROJECT_SOURCE_DIR}/cpp/include)
  target_compile_definitions(${_target} PRIVATE MAMBASDK_VERSION="${PROJECT_VERSION}" ${MAMBASDK_ISA_DEFINITIONS})
  target_link_libraries(${_target} PRIVATE mambasdk_compile nlohmann_json::nlohmann_json PUBLIC Threads::Threads)
endforeach()
target_include_directories(mambasdk_objects PRIVATE ${_generated})

# The headers alone: all that a plugin is built with.
add_library(mambasdk_headers INTERFACE)
add_library(mambasdk::headers ALIAS mambasdk_headers)
set_target_properties(mambasdk_headers PROPERTIES EXPORT_NAME headers)
target_include_directories(
  mambasdk_headers
  INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
)

add_library(
  mambasdk
  SHARED
  $<TARGET_OBJECTS:mambasdk_objects>
  $<TARGET_OBJECTS:mambasdk_package_objects>
  ${_isa_objects}
)
add_library(mambasdk::mambasdk ALIAS mambasdk)
target_include_directories(
  mambasdk
  INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cpp/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
)
target_compile_features(mambasdk INTERFACE cxx_std_20)
target_link_libraries(mambasdk PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(mambasdk PROPERTIES SOVERSION 1) # no VERSION: libmambasdk.so.1 is the file itself, as a wheel needs it
if(UNIX AND NOT APPLE)
  set(_map "${PROJECT_SOURCE_DIR}/cmake/mambasdk.map")
  target_link_options(mambasdk PRIVATE -Wl,--version-script=${_map} -Wl,--no-undefined -Wl,-z,now)
  set_target_properties(mambasdk PROPERTIES LINK_DEPENDS ${_map})
endif()
if(MAMBASDK_SANITIZE)
  set_property(TARGET mambasdk PROPERTY LINK_OPTIONS "") # sanitizer runtimes are undefined until the program links
endif()

add_library(
  mambasdk_static
  STATIC
  EXCLUDE_FROM_ALL
  $<TARGET_OBJECTS:mambasdk_objects>
  $<TARGET_OBJECTS:mambasdk_package_objects>
  ${_isa_objects}
  ${_checking_objects}
)
target_compile_definitions(mambasdk_static PUBLIC ${MAMBASDK_ISA_DEFINITIONS})
target_include_directories(mambasdk_static PUBLIC ${PROJECT_SOURCE_DIR}/cpp ${PROJECT_SOURCE_DIR}/cpp/include)
target_link_libraries(mambasdk_static PUBLIC Threads::Threads nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})
