# Third-party C++: a distribution's package where there is one, else a download.
include(FetchContent)
find_package(Threads REQUIRED)
include(NlohmannJson)
mambasdk_find_nlohmann_json(MAMBASDK_JSON_VERSION)
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
