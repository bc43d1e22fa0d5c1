# mambasdk_operation_families(OUT FOLDER): every folder NAME of FOLDER with a NAME.cpp is a family of operations, and has
# register_NAME(). Writes ops/families.hpp, which lists them for cpp/ops/builtin.cpp, below the folder that OUT names.
function(mambasdk_operation_families out folder)
  file(GLOB sources RELATIVE ${folder} CONFIGURE_DEPENDS ${folder}/*/*.cpp)
  set(families)
  foreach(source IN LISTS sources)
    if(source MATCHES "^([a-z0-9_]+)/([a-z0-9_]+)\\.cpp$" AND CMAKE_MATCH_1 STREQUAL CMAKE_MATCH_2)
      string(APPEND families " X(${CMAKE_MATCH_1})")
    endif()
  endforeach()
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
  file(CONFIGURE OUTPUT ${generated}/ops/families.hpp CONTENT "#define MAMBASDK_OPERATION_FAMILIES(X)${families}\n")
  set(${out} ${generated} PARENT_SCOPE)
endfunction()
