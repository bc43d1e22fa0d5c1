# libmambasdk_aoti: the engine `aoti`, a native plugin. Like the adapter it takes headers of torch and links nothing of
# it; the few objects of the runtime that it needs are linked in, for only the C ABI crosses a library's boundary.
add_library(
  mambasdk_aoti
  SHARED
  cpp/aoti/archive.cpp
  cpp/aoti/compiled_model.cpp
  cpp/aoti/libtorch.cpp
  cpp/aoti/model.cpp
  cpp/aoti/plugin.cpp
  $<TARGET_OBJECTS:mambasdk_package_objects>
)
target_include_directories(mambasdk_aoti PRIVATE cpp cpp/include)
target_include_directories(mambasdk_aoti SYSTEM PRIVATE ${MAMBASDK_TORCH_INCLUDE})
target_compile_definitions(
  mambasdk_aoti
  PRIVATE MAMBASDK_VERSION="${PROJECT_VERSION}" TORCH_TARGET_VERSION=0x020a000000000000
)
target_link_libraries(mambasdk_aoti PRIVATE mambasdk_compile nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})
if(UNIX AND NOT APPLE)
  target_link_options(mambasdk_aoti PRIVATE -Wl,-z,now)
  if(NOT MAMBASDK_SANITIZE)
    target_link_options(mambasdk_aoti PRIVATE -Wl,--no-undefined)
  endif()
endif()
mambasdk_export_only(mambasdk_aoti mambasdk_plugin mambasdk_aoti_torch)
