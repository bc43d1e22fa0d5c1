# libmambasdk_torch: headers of torch only. Nothing of torch is linked (cpp/torch/shim.hpp), so the library loads into any
# torch from 2.10 on.
set(MAMBASDK_TORCH_INCLUDE "" CACHE PATH "torch's include directory; found through Python when empty")
if(NOT MAMBASDK_TORCH_INCLUDE)
  find_package(Python COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND
      ${Python_EXECUTABLE} -c
      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '', end='')"
    OUTPUT_VARIABLE _torch
    RESULT_VARIABLE _failed
    ERROR_QUIET
  )
  if(_failed OR NOT _torch)
    message(
      FATAL_ERROR
      "torch's headers: ${Python_EXECUTABLE} has no torch; pip install 'torch>=2.10' there, or pass "
      "-DMAMBASDK_TORCH_INCLUDE=<site-packages>/torch/include, or build the runtime alone with -DMAMBASDK_TORCH=OFF"
    )
  endif()
  set(MAMBASDK_TORCH_INCLUDE "${_torch}/include" CACHE PATH "" FORCE)
endif()
if(NOT EXISTS "${MAMBASDK_TORCH_INCLUDE}/torch/csrc/stable/c/shim.h")
  message(
    FATAL_ERROR
    "torch's headers: ${MAMBASDK_TORCH_INCLUDE} has no torch/csrc/stable/c/shim.h; expected torch 2.10 "
    "or newer, or -DMAMBASDK_TORCH=OFF"
  )
endif()

add_library(
  mambasdk_torch
  SHARED
  cpp/torch/adapter.cpp
  cpp/torch/devices.cpp
  cpp/torch/dtypes.cpp
  cpp/torch/operation.cpp
  cpp/torch/pages.cpp
  cpp/torch/shim.cpp
)
target_include_directories(mambasdk_torch PRIVATE ${PROJECT_SOURCE_DIR}/cpp) # tables alone, no code of the library
target_include_directories(mambasdk_torch SYSTEM PRIVATE ${MAMBASDK_TORCH_INCLUDE})
target_compile_definitions(mambasdk_torch PRIVATE TORCH_TARGET_VERSION=0x020a000000000000)
target_link_libraries(mambasdk_torch PRIVATE mambasdk mambasdk_compile nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})
set_target_properties(mambasdk_torch PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
if(APPLE)
  set_target_properties(mambasdk_torch PROPERTIES INSTALL_RPATH "@loader_path")
else()
  set_target_properties(mambasdk_torch PROPERTIES INSTALL_RPATH "$ORIGIN")
  target_link_options(mambasdk_torch PRIVATE -Wl,-z,now)
  if(NOT MAMBASDK_SANITIZE)
    target_link_options(mambasdk_torch PRIVATE -Wl,--no-undefined)
  endif()
endif()
mambasdk_export_only(mambasdk_torch "mambasdk_torch_*")
