# What the shipped binaries contain of others, as a CycloneDX bill of materials with the versions that were compiled in,
# and the licences. In a wheel they lie in its dist-info (PEP 639, PEP 770), else in share/doc/mambasdk.

# mambasdk_sbom_component(LIST NAME VERSION LICENSE PURL SCOPE): adds a component; SCOPE is required (it is in the
# binaries) or excluded (it was needed to build them).
function(
  mambasdk_sbom_component
  list
  name
  version
  license
  purl
  scope
)
  set(_json "{\"type\": \"library\", \"name\": \"${name}\", \"scope\": \"${scope}\", \"purl\": \"${purl}\"")
  if(version)
    string(APPEND _json ", \"version\": \"${version}\"")
  endif()
  string(APPEND _json ", \"licenses\": [{\"license\": {\"id\": \"${license}\"}}]}")
  set(${list} ${${list}} "${_json}" PARENT_SCOPE)
endfunction()

# The version in a header that defines <PREFIX>_MAJOR, _MINOR and _PATCH.
function(mambasdk_header_version out header prefix)
  file(STRINGS "${header}" _lines REGEX "define ${prefix}_(MAJOR|MINOR|PATCH)")
  string(REGEX MATCHALL "[0-9]+( |;|$)" _numbers "${_lines};")
  string(REGEX REPLACE "[ ;]+" "." _version "${_numbers}")
  string(REGEX REPLACE "\\.$" "" _version "${_version}")
  set(${out} "${_version}" PARENT_SCOPE)
endfunction()

get_target_property(_json_includes nlohmann_json::nlohmann_json INTERFACE_INCLUDE_DIRECTORIES)
string(REGEX REPLACE "\\$<BUILD_INTERFACE:([^>]*)>" "\\1" _json_includes "${_json_includes}")
find_file(
  MAMBASDK_JSON_VERSION_HEADER
  nlohmann/detail/abi_macros.hpp
  PATHS ${_json_includes}
  NO_DEFAULT_PATH
  NO_CMAKE_FIND_ROOT_PATH
)
mark_as_advanced(MAMBASDK_JSON_VERSION_HEADER)
set(_json_version "${nlohmann_json_VERSION}")
if(MAMBASDK_JSON_VERSION_HEADER)
  mambasdk_header_version(_json_version "${MAMBASDK_JSON_VERSION_HEADER}" NLOHMANN_JSON_VERSION)
endif()

set(_components)
mambasdk_sbom_component(
  _components
  nlohmann_json
  "${_json_version}"
  MIT
  "pkg:github/nlohmann/json@v${_json_version}"
  required
)
mambasdk_sbom_component(
  _components
  unicode-character-database
  ""
  Unicode-3.0
  "pkg:generic/unicode-character-database"
  required
)
if(MAMBASDK_PYTHON)
  mambasdk_sbom_component(
    _components
    pybind11
    "${pybind11_VERSION}"
    BSD-3-Clause
    "pkg:pypi/pybind11@${pybind11_VERSION}"
    required
  )
endif()
if(MAMBASDK_TORCH)
  mambasdk_header_version(_torch_version "${MAMBASDK_TORCH_INCLUDE}/torch/headeronly/version.h" TORCH_VERSION)
  mambasdk_sbom_component(
    _components
    torch
    "${_torch_version}"
    BSD-3-Clause
    "pkg:pypi/torch@${_torch_version}"
    excluded
  )
endif()
list(JOIN _components ",\n    " _components)
set(_sbom "${PROJECT_BINARY_DIR}/mambasdk.cdx.json")
file(
  CONFIGURE
  OUTPUT "${_sbom}"
  CONTENT
    "{
  \"bomFormat\": \"CycloneDX\",
  \"specVersion\": \"1.6\",
  \"version\": 1,
  \"metadata\": {
    \"component\": {
      \"type\": \"library\", \"name\": \"mambasdk\", \"version\": \"@PROJECT_VERSION@\",
      \"purl\": \"pkg:pypi/mambasdk@@PROJECT_VERSION@\", \"licenses\": [{\"license\": {\"id\": \"Apache-2.0\"}}]
    }
  },
  \"components\": [
    @_components@
  ]
}
"
  @ONLY
)
if(SKBUILD)
  # The licences go there by pyproject.toml. The folder is gone after pip's build, when this tree may be installed again.
  install(
    CODE
      "if(IS_DIRECTORY \"${SKBUILD_METADATA_DIR}\")
  file(INSTALL \"${_sbom}\" DESTINATION \"${SKBUILD_METADATA_DIR}/sboms\")
endif()"
  )
elseif(PROJECT_IS_TOP_LEVEL)
  install(FILES "${_sbom}" LICENSE NOTICE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
  install(DIRECTORY licenses DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endif()
