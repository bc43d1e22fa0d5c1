// A package's pipeline on files, from C++ and without Python: image, sound or detections in, JSON out.
//
//   predict_cpp PACKAGE SLOT FILE… [--plugin libmambasdk_vision.so]… [--allow-code]
//
// SLOT is the processor's name in the package's manifest; each file's result is one line. --allow-code lets a compiled
// package execute the machine code that comes with it.
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include <mambasdk/mambasdk.hpp>

static std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int main(int argc, char** argv) {
  std::vector<std::string> arguments;
  mambasdk::LoadOptions options;
  try {
    for (int i = 1; i < argc; ++i) {
      if (std::string(argv[i]) == "--plugin" && i + 1 < argc) {
        mambasdk::load_plugin(argv[++i]);
      } else if (std::string(argv[i]) == "--allow-code") {
        options.allow_code = true;
      } else {
        arguments.emplace_back(argv[i]);
      }
    }
    if (arguments.size() < 3) {
      std::cerr << "usage: predict_cpp PACKAGE SLOT FILE... [--plugin LIBRARY]... [--allow-code]\n";
      return 2;
    }
    const mambasdk::Model model(arguments[0], options);
    mambasdk::Pipeline pipeline(model);
    for (std::size_t i = 2; i < arguments.size(); ++i) {
      const std::string bytes = read_file(arguments[i]);
      pipeline.reset();
      const mambasdk::Result result = pipeline.run({{arguments[1], mambasdk::TensorRef::bytes(bytes)}});
      std::cout << result.json() << "\n";
    }
  } catch (const std::exception& error) {
    std::cerr << "predict_cpp: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
