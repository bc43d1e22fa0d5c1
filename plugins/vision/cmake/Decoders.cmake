# vision_decoders: libpng (shared: Debian's static one is not position-independent; `make wheels` puts it into the wheel) and
# libjpeg-turbo, static where the distribution has it so. Debian: libpng-dev, libjpeg62-turbo-dev.
find_package(PNG REQUIRED)
set(CMAKE_FIND_LIBRARY_SUFFIXES .a ${CMAKE_FIND_LIBRARY_SUFFIXES})
find_package(JPEG REQUIRED)

add_library(vision_decoders INTERFACE)
target_link_libraries(vision_decoders INTERFACE PNG::PNG JPEG::JPEG)
