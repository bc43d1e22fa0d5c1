# _core: the Python module over the C ABI. Includes no torch header.
set(PYBIND11_FINDPYTHON ON)
find_package(Python 3.10 COMPONENTS Interpreter Development.Module REQUIRED)
if(NOT pybind11_DIR)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_DIR
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET
  )
endif()
find_package(pybind11 2.13 CONFIG REQUIRED)

file(GLOB _core_sources CONFIGURE_DEPENDS python/src/*.cpp)
pybind11_add_module(mambasdk_core MODULE NO_EXTRAS ${_core_sources})
target_include_directories(mambasdk_core PRIVATE ${PROJECT_SOURCE_DIR}/cpp) # tables alone, no code of the library
# Nothing here is slow but the compiler: the same templates of pybind11 in each file.
target_compile_options(mambasdk_core PRIVATE -Os)
set_target_properties(mambasdk_core PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 3)
target_link_libraries(mambasdk_core PRIVATE mambasdk mambasdk_compile nlohmann_json::nlohmann_json)
set_target_properties(mambasdk_core PROPERTIES OUTPUT_NAME _core)
mambasdk_relative_rpath(mambasdk_core lib)
mambasdk_export_only(mambasdk_core PyInit__core)
