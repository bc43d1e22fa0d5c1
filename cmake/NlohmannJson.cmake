# nlohmann_json::nlohmann_json, header-only: a distribution's package where there is one (Debian: nlohmann-json3-dev), else
# a download. For mambasdk itself and, with mambasdk_add_plugin(JSON), for plugins.
include(FetchContent)

# mambasdk_find_nlohmann_json(VERSION): makes the target; VERSION is what its headers say.
function(mambasdk_find_nlohmann_json version)
  FetchContent_Declare(
    nlohmann_json
    URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
    FIND_PACKAGE_ARGS 3.10 NAMES nlohmann_json
  )
  FetchContent_MakeAvailable(nlohmann_json)
  get_target_property(_includes nlohmann_json::nlohmann_json INTERFACE_INCLUDE_DIRECTORIES)
  string(REGEX REPLACE "\\$<BUILD_INTERFACE:([^>]*)>" "\\1" _includes "${_includes}")
  find_file(
    MAMBASDK_JSON_VERSION_HEADER
    nlohmann/detail/abi_macros.hpp
    PATHS ${_includes}
    NO_DEFAULT_PATH
    NO_CMAKE_FIND_ROOT_PATH
  )
  mark_as_advanced(MAMBASDK_JSON_VERSION_HEADER)
  set(_version "${nlohmann_json_VERSION}") # of releases that have no such header
  if(MAMBASDK_JSON_VERSION_HEADER)
    mambasdk_header_version(_version "${MAMBASDK_JSON_VERSION_HEADER}" NLOHMANN_JSON_VERSION)
  endif()
  set(${version} "${_version}" PARENT_SCOPE)
endfunction()

# The version in a header that defines <PREFIX>_MAJOR, _MINOR and _PATCH.
function(mambasdk_header_version out header prefix)
  file(STRINGS "${header}" _lines REGEX "define ${prefix}_(MAJOR|MINOR|PATCH)")
  string(REGEX MATCHALL "[0-9]+( |;|$)" _numbers "${_lines};")
  string(REGEX REPLACE "[ ;]+" "." _version "${_numbers}")
  string(REGEX REPLACE "\\.$" "" _version "${_version}")
  set(${out} "${_version}" PARENT_SCOPE)
endfunction()
