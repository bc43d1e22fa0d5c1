// Seed corpora made by the fuzz targets themselves: `fuzz_NAME -make-seeds=DIR` writes a few valid inputs and ends.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::fuzz {

// Called from LLVMFuzzerInitialize.
inline void make_seeds(int argc, char** argv, const std::vector<std::string>& seeds) {
  constexpr std::string_view option = "-make-seeds=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (!arg.starts_with(option)) continue;
    const std::filesystem::path folder = arg.substr(option.size());
    std::filesystem::create_directories(folder);
    for (std::size_t s = 0; s < seeds.size(); ++s) {
      std::ofstream(folder / ("seed" + std::to_string(s)), std::ios::binary) << seeds[s];
    }
    std::printf("%zu seeds in %s\n", seeds.size(), folder.c_str());
    std::exit(0);
  }
}

}  // namespace mambasdk::fuzz
