# What a binary contains of others, as a CycloneDX bill of materials (PEP 770 in a wheel). For mambasdk itself and, through
# mambasdk_add_plugin(), for plugins.

# mambasdk_sbom_component(LIST NAME VERSION LICENSE PURL SCOPE): adds a component. LICENSE is an SPDX identifier or
# expression; SCOPE is required (it is in the binaries) or excluded (it was needed to build them).
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
  if(license MATCHES " ")
    string(APPEND _json ", \"licenses\": [{\"expression\": \"${license}\"}]}")
  else()
    string(APPEND _json ", \"licenses\": [{\"license\": {\"id\": \"${license}\"}}]}")
  endif()
  set(${list} ${${list}} "${_json}" PARENT_SCOPE)
endfunction()

# mambasdk_write_sbom(FILE NAME VERSION COMPONENT…): the file, about the distribution NAME. In a build by
# scikit-build-core it goes into the wheel's dist-info, whose METADATA names the distribution's own licence.
function(mambasdk_write_sbom file name version)
  list(JOIN ARGN ",\n    " _components)
  file(
    CONFIGURE
    OUTPUT "${file}"
    CONTENT
      "{
  \"bomFormat\": \"CycloneDX\",
  \"specVersion\": \"1.6\",
  \"version\": 1,
  \"metadata\": {
    \"component\": {
      \"type\": \"library\", \"name\": \"@name@\", \"version\": \"@version@\", \"purl\": \"pkg:pypi/@name@@@version@\"
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
    # The folder is gone after pip's build, when this tree may be installed again.
    install(
      CODE
        "if(IS_DIRECTORY \"${SKBUILD_METADATA_DIR}\")
  file(INSTALL \"${file}\" DESTINATION \"${SKBUILD_METADATA_DIR}/sboms\")
endif()"
    )
  endif()
endfunction()
