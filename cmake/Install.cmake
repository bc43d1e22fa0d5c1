# Installation, the same from `cmake --install` and inside the wheel, whose package folder is an ordinary prefix:
# lib/, include/, bin/, lib/cmake/mambasdk/. Every path is relative, so the prefix may be moved.
include(CMakePackageConfigHelpers)
if(SKBUILD)
  set(CMAKE_INSTALL_LIBDIR lib)
  set(_namelink NAMELINK_SKIP) # a wheel holds no symbolic links
else()
  set(_namelink)
endif()
set(_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mambasdk)

install(
  TARGETS mambasdk mambasdk_headers
  EXPORT mambasdk-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ${_namelink}
)
install(
  DIRECTORY cpp/include/mambasdk
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING
  PATTERN "*.h"
  PATTERN "*.hpp"
)
if(MAMBASDK_TORCH)
  install(TARGETS mambasdk_torch mambasdk_aoti LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(MAMBASDK_TOOLS)
  install(TARGETS mambasdk_run RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(MAMBASDK_PYTHON AND SKBUILD)
  install(TARGETS mambasdk_core LIBRARY DESTINATION .)
endif()

install(EXPORT mambasdk-targets NAMESPACE mambasdk:: DESTINATION ${_cmake_dir})
configure_package_config_file(
  cmake/mambasdk-config.cmake.in
  mambasdk-config.cmake
  INSTALL_DESTINATION ${_cmake_dir}
  PATH_VARS CMAKE_INSTALL_BINDIR
  NO_CHECK_REQUIRED_COMPONENTS_MACRO
)
write_basic_package_version_file(mambasdk-config-version.cmake COMPATIBILITY SameMajorVersion)
install(
  FILES
    ${PROJECT_BINARY_DIR}/mambasdk-config.cmake
    ${PROJECT_BINARY_DIR}/mambasdk-config-version.cmake
    ${PROJECT_SOURCE_DIR}/cmake/BillOfMaterials.cmake
    ${PROJECT_SOURCE_DIR}/cmake/MambasdkPlugin.cmake
    ${PROJECT_SOURCE_DIR}/cmake/NlohmannJson.cmake
  DESTINATION ${_cmake_dir}
)

# pkg-config. The library by its path: a wheel has no libmambasdk.so for -lmambasdk to find.
set(_pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH _pc_to_prefix /prefix/${_pc_dir} /prefix)
string(REGEX REPLACE "/$" "" _pc_to_prefix "${_pc_to_prefix}")
get_target_property(_pc_soversion mambasdk SOVERSION)
if(APPLE)
  set(_pc_library libmambasdk.${_pc_soversion}.dylib)
else()
  set(_pc_library libmambasdk.so.${_pc_soversion})
endif()
configure_file(cmake/mambasdk.pc.in mambasdk.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mambasdk.pc DESTINATION ${_pc_dir})

# What a wheel or an installation needs, without tests and benchmarks.
add_custom_target(mambasdk_shipped DEPENDS mambasdk)
foreach(_target mambasdk_torch mambasdk_aoti mambasdk_run mambasdk_core)
  if(TARGET ${_target})
    add_dependencies(mambasdk_shipped ${_target})
  endif()
endforeach()
