# Compiler settings that every target shares. No -march here: instruction sets are chosen at run time (IsaSources).
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

add_library(mambasdk_compile INTERFACE)
target_compile_options(
  mambasdk_compile
  INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wno-psabi>"
    $<$<AND:$<BOOL:${MAMBASDK_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>
)
if(MAMBASDK_SANITIZE)
  add_compile_options(-fsanitize=${MAMBASDK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MAMBASDK_SANITIZE})
  foreach(_kind address thread)
    if(MAMBASDK_SANITIZE MATCHES "${_kind}")
      string(TOUPPER "MAMBASDK_SANITIZES_${_kind}" _definition) # every compiler says it in another way
      add_compile_definitions(${_definition})
    endif()
  endforeach()
endif()

# mambasdk_relative_rpath(TARGET FOLDER): once installed, the target finds libmambasdk in FOLDER relative to itself.
function(mambasdk_relative_rpath target folder)
  if(APPLE)
    set(_origin "@loader_path")
  else()
    set(_origin "$ORIGIN")
  endif()
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "${_origin}/${folder}" INSTALL_RPATH_USE_LINK_PATH OFF)
endfunction()

# mambasdk_export_only(TARGET PATTERN…): hides every other symbol, those that the C++ library's templates bring included.
function(mambasdk_export_only target)
  if(UNIX AND NOT APPLE)
    set(_map ${PROJECT_BINARY_DIR}/${target}.map)
    list(JOIN ARGN "; " _patterns)
    file(CONFIGURE OUTPUT ${_map} CONTENT "{ global: ${_patterns}; local: *; };\n")
    target_link_options(${target} PRIVATE -Wl,--version-script=${_map})
    set_target_properties(${target} PROPERTIES LINK_DEPENDS ${_map})
  endif()
endfunction()
