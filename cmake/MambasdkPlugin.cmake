# mambasdk_add_plugin(): a native plugin as a module that links to nothing of mambasdk; only headers are used.
#
#   mambasdk_add_plugin(NAME my_ops SOURCES ops.cpp [CUDA ops.cu] [JSON] [LIBRARIES png_static …]
#                       [COMPONENTS "libpng 1.6.39 libpng-2.0" …] [PACKAGE my_package])
#
# NAME       the target; the file is libNAME.so (on macOS libNAME.so too: that is what CMake calls a module)
# SOURCES    C and C++20 sources; one of them has MAMBASDK_PLUGIN_MAIN or exports mambasdk_plugin
# CUDA       sources for nvcc; left out, and MAMBASDK_PLUGIN_CUDA undefined, where there is no CUDA compiler
# JSON       with nlohmann_json, which the headers of mambasdk/plugin/ need
# LIBRARIES  what else it links, best as static libraries: nothing of them is exported
# COMPONENTS what they are, for the wheel's bill of materials: each "NAME VERSION LICENSE", LICENSE an SPDX expression
# PACKAGE    the folder that `cmake --install` (and so scikit-build-core) puts it in: the Python package's
#
# MAMBASDK_PLUGIN_VERSION is defined for the sources: the version in pyproject.toml, else that of project(). A build
# without a type is a Release.
include("${CMAKE_CURRENT_LIST_DIR}/BillOfMaterials.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/NlohmannJson.cmake")

function(mambasdk_add_plugin)
  cmake_parse_arguments(PARSE_ARGV 0 arg "JSON" "NAME;PACKAGE" "SOURCES;CUDA;LIBRARIES;COMPONENTS")
  if(NOT arg_NAME OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(
      FATAL_ERROR
      "mambasdk_add_plugin(NAME name SOURCES file… [CUDA file…] [JSON] [LIBRARIES target…] [COMPONENTS text…] "
      "[PACKAGE folder]); got: ${ARGV}"
    )
  endif()
  get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
  endif()
  set(version "${PROJECT_VERSION}")
  if(SKBUILD_PROJECT_VERSION)
    set(version "${SKBUILD_PROJECT_VERSION}")
  endif()
  if(NOT version)
    set(version 0.0.0)
  endif()
  if(arg_CUDA)
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      set(cuda ${arg_CUDA})
    else()
      message(STATUS "${arg_NAME}: no CUDA compiler, built without ${arg_CUDA}")
    endif()
  endif()

  add_library(${arg_NAME} MODULE ${arg_SOURCES} ${cuda})
  target_link_libraries(${arg_NAME} PRIVATE mambasdk::headers ${arg_LIBRARIES})
  target_compile_features(${arg_NAME} PRIVATE cxx_std_20)
  target_compile_definitions(${arg_NAME} PRIVATE MAMBASDK_PLUGIN=1 MAMBASDK_PLUGIN_VERSION="${version}")
  set_target_properties(
    ${arg_NAME}
    PROPERTIES
      PREFIX lib
      C_VISIBILITY_PRESET hidden
      CXX_VISIBILITY_PRESET hidden
      VISIBILITY_INLINES_HIDDEN ON
      POSITION_INDEPENDENT_CODE ON
  )
  if(cuda)
    target_compile_definitions(${arg_NAME} PRIVATE MAMBASDK_PLUGIN_CUDA=1)
    set_target_properties(${arg_NAME} PROPERTIES CUDA_VISIBILITY_PRESET hidden CUDA_RUNTIME_LIBRARY Static)
  endif()
  if(APPLE)
    target_link_options(${arg_NAME} PRIVATE LINKER:-exported_symbol,_mambasdk_plugin)
  elseif(UNIX)
    # One symbol goes out, also when static libraries or the C++ library's templates bring others; none is left open.
    set(map ${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.map)
    file(CONFIGURE OUTPUT ${map} CONTENT "{ global: mambasdk_plugin; local: *; };\n")
    target_link_options(${arg_NAME} PRIVATE LINKER:--version-script=${map})
    if(NOT MAMBASDK_SANITIZE) # whose runtime is undefined until the program links
      target_link_options(${arg_NAME} PRIVATE LINKER:--no-undefined)
    endif()
    set_target_properties(${arg_NAME} PROPERTIES LINK_DEPENDS ${map})
  endif()
  set(components)
  if(NOT mambasdk_VERSION) # inside mambasdk's own build
    set(mambasdk_VERSION "${MAMBASDK_VERSION}")
  endif()
  mambasdk_sbom_component(
    components
    mambasdk
    "${mambasdk_VERSION}"
    Apache-2.0
    "pkg:pypi/mambasdk@${mambasdk_VERSION}"
    required
  )
  if(arg_JSON)
    mambasdk_find_nlohmann_json(json_version)
    target_link_libraries(${arg_NAME} PRIVATE nlohmann_json::nlohmann_json)
    mambasdk_sbom_component(
      components
      nlohmann_json
      "${json_version}"
      MIT
      "pkg:github/nlohmann/json@v${json_version}"
      required
    )
  endif()
  foreach(component ${arg_COMPONENTS})
    if(NOT component MATCHES "^([^ ]+) ([^ ]+) (.+)$")
      message(FATAL_ERROR "mambasdk_add_plugin: COMPONENTS: expected \"NAME VERSION LICENSE\", got \"${component}\"")
    endif()
    mambasdk_sbom_component(
      components
      "${CMAKE_MATCH_1}"
      "${CMAKE_MATCH_2}"
      "${CMAKE_MATCH_3}"
      "pkg:generic/${CMAKE_MATCH_1}@${CMAKE_MATCH_2}"
      required
    )
  endforeach()
  if(SKBUILD AND arg_PACKAGE)
    string(REPLACE "_" "-" distribution "${SKBUILD_PROJECT_NAME}")
    mambasdk_write_sbom("${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.cdx.json" "${distribution}" "${version}" ${components})
  endif()
  if(arg_PACKAGE)
    install(TARGETS ${arg_NAME} LIBRARY DESTINATION ${arg_PACKAGE})
  endif()
endfunction()
