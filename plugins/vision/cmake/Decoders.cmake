# vision_decoders: libpng (shared: Debian's static one is not position-independent; `make wheels` puts it into the wheel) and
# libjpeg-turbo, static where the distribution has it so. Debian: libpng-dev, libjpeg62-turbo-dev.
find_package(PNG REQUIRED)
set(CMAKE_FIND_LIBRARY_SUFFIXES .a ${CMAKE_FIND_LIBRARY_SUFFIXES})
find_package(JPEG REQUIRED)

add_library(vision_decoders INTERFACE)
target_link_libraries(vision_decoders INTERFACE PNG::PNG JPEG::JPEG)

# What they are, for the bill of materials. jconfig.h may lie in a folder of the architecture's.
find_path(VISION_JCONFIG_DIR jconfig.h HINTS ${JPEG_INCLUDE_DIRS} REQUIRED)
mark_as_advanced(VISION_JCONFIG_DIR)
file(STRINGS "${VISION_JCONFIG_DIR}/jconfig.h" _line REGEX "define LIBJPEG_TURBO_VERSION +[0-9.]+")
if(NOT _line MATCHES "([0-9]+\\.[0-9.]+)")
  message(FATAL_ERROR "${VISION_JCONFIG_DIR}/jconfig.h is not libjpeg-turbo's")
endif()
set(
  VISION_DECODER_COMPONENTS
  "libjpeg-turbo ${CMAKE_MATCH_1} IJG AND BSD-3-Clause AND Zlib"
  "libpng ${PNG_VERSION_STRING} libpng-2.0"
)
