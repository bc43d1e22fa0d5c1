# mambasdk_add_plugin(): a native plugin as a module that links to nothing of mambasdk; only headers are used.
#
#   mambasdk_add_plugin(NAME my_ops SOURCES ops.cpp [CUDA ops.cu] [LIBRARIES png_static …] [PACKAGE my_package])
#
# NAME       the target; the file is libNAME.so (on macOS libNAME.so too: that is what CMake calls a module)
# SOURCES    C and C++20 sources; one of them has MAMBASDK_PLUGIN_MAIN or exports mambasdk_plugin
# CUDA       sources for nvcc; left out, and MAMBASDK_PLUGIN_CUDA undefined, where there is no CUDA compiler
# LIBRARIES  what else it links, best as static libraries: nothing of them is exported
# PACKAGE    the folder that `cmake --install` (and so scikit-build-core) puts it in: the Python package's
function(mambasdk_add_plugin)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;PACKAGE" "SOURCES;CUDA;LIBRARIES")
  if(NOT arg_NAME OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
    message(
      FATAL_ERROR
      "mambasdk_add_plugin(NAME name SOURCES file… [CUDA file…] [LIBRARIES target…] [PACKAGE folder]); got: ${ARGV}"
    )
  endif()
  set(cuda)
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
  target_compile_definitions(${arg_NAME} PRIVATE MAMBASDK_PLUGIN=1)
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
    target_link_options(${arg_NAME} PRIVATE LINKER:--version-script=${map} LINKER:--no-undefined)
    set_target_properties(${arg_NAME} PROPERTIES LINK_DEPENDS ${map})
  endif()
  if(arg_PACKAGE)
    install(TARGETS ${arg_NAME} LIBRARY DESTINATION ${arg_PACKAGE})
  endif()
endfunction()
