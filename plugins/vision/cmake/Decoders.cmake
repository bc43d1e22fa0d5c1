# vision_decoders: libspng with zlib, and libjpeg-turbo, as static libraries. libspng is one file, built here: no
# distribution has it as a static library. The other two come from the distribution where it has them, else from source.
include(FetchContent)
FetchContent_Declare(
  spng
  URL
    https://github.com/randy408/libspng/archive/refs/tags/v0.7.4.tar.gz
    http://deb.debian.org/debian/pool/main/libs/libspng/libspng_0.7.4.orig.tar.gz
  URL_HASH SHA256=47ec02be6c0a6323044600a9221b049f63e1953faf816903e7383d4dc4234487
  SOURCE_SUBDIR none # its own build makes a shared library as well
)
FetchContent_MakeAvailable(spng)

set(ZLIB_USE_STATIC_LIBS ON)
find_package(ZLIB)
if(NOT ZLIB_FOUND)
  set(ZLIB_USE_STATIC_LIBS OFF)
  find_package(ZLIB REQUIRED)
endif()

add_library(vision_spng STATIC ${spng_SOURCE_DIR}/spng/spng.c)
target_include_directories(vision_spng SYSTEM PUBLIC ${spng_SOURCE_DIR}/spng)
target_compile_definitions(vision_spng PUBLIC SPNG_STATIC)
target_link_libraries(vision_spng PUBLIC ZLIB::ZLIB)
set_target_properties(vision_spng PROPERTIES C_VISIBILITY_PRESET hidden)

find_library(VISION_JPEG_LIBRARY NAMES libjpeg.a)
find_path(VISION_JPEG_INCLUDE NAMES jpeglib.h)
if(VISION_JPEG_LIBRARY AND VISION_JPEG_INCLUDE)
  add_library(vision_jpeg INTERFACE)
  target_link_libraries(vision_jpeg INTERFACE ${VISION_JPEG_LIBRARY})
  target_include_directories(vision_jpeg SYSTEM INTERFACE ${VISION_JPEG_INCLUDE})
else()
  include(ExternalProject) # libjpeg-turbo refuses to be a part of another project
  set(_jpeg ${CMAKE_CURRENT_BINARY_DIR}/libjpeg-turbo)
  ExternalProject_Add(
    libjpeg_turbo
    URL
      https://github.com/libjpeg-turbo/libjpeg-turbo/archive/refs/tags/2.1.5.1.tar.gz
      http://deb.debian.org/debian/pool/main/libj/libjpeg-turbo/libjpeg-turbo_2.1.5.orig.tar.gz
    PREFIX ${_jpeg}
    CMAKE_ARGS
      -DCMAKE_BUILD_TYPE=Release -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=OFF
      -DCMAKE_INSTALL_PREFIX=${_jpeg} -DCMAKE_INSTALL_LIBDIR=lib
      -DCMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER}
    BUILD_BYPRODUCTS ${_jpeg}/lib/libjpeg.a
  )
  file(MAKE_DIRECTORY ${_jpeg}/include)
  add_library(vision_jpeg INTERFACE)
  add_dependencies(vision_jpeg libjpeg_turbo)
  target_link_libraries(vision_jpeg INTERFACE ${_jpeg}/lib/libjpeg.a)
  target_include_directories(vision_jpeg SYSTEM INTERFACE ${_jpeg}/include)
endif()

add_library(vision_decoders INTERFACE)
target_link_libraries(vision_decoders INTERFACE vision_spng vision_jpeg)
