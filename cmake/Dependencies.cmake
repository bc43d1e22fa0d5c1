# Third-party C++: a distribution's package where there is one, else a download.
include(FetchContent)
find_package(Threads REQUIRED)
FetchContent_Declare(
  nlohmann_json
  URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
  FIND_PACKAGE_ARGS 3.10 NAMES nlohmann_json
)
FetchContent_MakeAvailable(nlohmann_json)
if(MAMBASDK_TESTS)
  set(INSTALL_GTEST OFF CACHE BOOL "") # where it is built here, it stays here
  FetchContent_Declare(
    googletest
    URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    FIND_PACKAGE_ARGS NAMES GTest
  )
  FetchContent_MakeAvailable(googletest)
endif()
if(MAMBASDK_BENCHMARKS)
  FetchContent_Declare(
    benchmark
    URL https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
    FIND_PACKAGE_ARGS NAMES benchmark
  )
  FetchContent_MakeAvailable(benchmark)
endif()
