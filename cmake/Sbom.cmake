# What the shipped binaries contain of others, as a CycloneDX bill of materials with the versions that were compiled in,
# and the licences. In a wheel they lie in its dist-info (PEP 639, PEP 770), else in share/doc/mambasdk.

include(BillOfMaterials)

set(_components)
mambasdk_sbom_component(
  _components
  nlohmann_json
  "${MAMBASDK_JSON_VERSION}"
  MIT
  "pkg:github/nlohmann/json@v${MAMBASDK_JSON_VERSION}"
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
set(_sbom "${PROJECT_BINARY_DIR}/mambasdk.cdx.json")
mambasdk_write_sbom("${_sbom}" mambasdk "${PROJECT_VERSION}" ${_components})
if(NOT SKBUILD AND PROJECT_IS_TOP_LEVEL) # into a wheel the licences go by pyproject.toml
  install(FILES "${_sbom}" LICENSE NOTICE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
  install(DIRECTORY licenses DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endif()
