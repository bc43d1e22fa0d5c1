# medical_zlib: zlib, static where the distribution has it so, which Debian's zlib1g-dev does; what reads compressed
# volumes and PNG.
set(_medical_suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
set(CMAKE_FIND_LIBRARY_SUFFIXES .a ${CMAKE_FIND_LIBRARY_SUFFIXES})
find_package(ZLIB REQUIRED)
set(CMAKE_FIND_LIBRARY_SUFFIXES ${_medical_suffixes})

add_library(medical_zlib INTERFACE)
target_link_libraries(medical_zlib INTERFACE ZLIB::ZLIB)

# For the bill of materials.
set(MEDICAL_ZLIB_COMPONENT "zlib ${ZLIB_VERSION_STRING} Zlib")
