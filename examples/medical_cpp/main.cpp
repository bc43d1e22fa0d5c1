// A case of a medical scan to its label file, from C++ and without Python.
//
//   medical_cpp PACKAGE FILE… --out LABELS [--plugin libmambasdk_medical.so] [--no-mirror] [--step S] [--threads N]
//               [--probabilities FILE]
//
// FILE…: .nii, .nii.gz or .png, one for each channel. LABELS has the grid and the orientation of the first.
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

template <class T>
static void write_file(const std::string& path, std::span<const T> values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
  if (!file.flush()) throw std::runtime_error(path + " cannot be written");
}

int main(int argc, char** argv) {
  std::vector<std::string> arguments;
  std::string out, probabilities, step;
  bool mirror = true;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      const bool has_value = i + 1 < argc;
      if (argument == "--plugin" && has_value) {
        mambasdk::load_plugin(argv[++i]);
      } else if (argument == "--out" && has_value) {
        out = argv[++i];
      } else if (argument == "--probabilities" && has_value) {
        probabilities = argv[++i];
      } else if (argument == "--step" && has_value) {
        step = std::to_string(std::stod(argv[++i]));
      } else if (argument == "--threads" && has_value) {
        mambasdk::check(mambasdk::api().set_num_threads(std::stoi(argv[++i])));
      } else if (argument == "--no-mirror") {
        mirror = false;
      } else {
        arguments.push_back(argument);
      }
    }
    if (arguments.size() < 2 || out.empty()) {
      std::cerr << "usage: medical_cpp PACKAGE FILE... --out LABELS [--plugin LIBRARY] [--no-mirror] [--step S]\n"
                   "                   [--threads N] [--probabilities FILE]\n";
      return 2;
    }
    const mambasdk::Model model(arguments[0]);
    mambasdk::Pipeline pipeline(model);
    std::vector<std::string> names, files;
    for (std::size_t i = 1; i < arguments.size(); ++i) {
      names.push_back(i == 1 ? "image" : "image." + std::to_string(i - 1));
      files.push_back(read_file(arguments[i]));
    }
    std::vector<mambasdk::Named> inputs;
    for (std::size_t i = 0; i < files.size(); ++i) inputs.push_back({names[i], mambasdk::TensorRef::bytes(files[i])});
    mambasdk::PipelineOptions options;
    options.json = std::string("{\"compress\": ") + (out.ends_with(".gz") ? "true" : "false");
    if (!mirror) options.json += ", \"mirror\": false";
    if (!step.empty()) options.json += ", \"step\": " + step;
    if (!probabilities.empty()) options.json += ", \"probabilities\": true";
    options.json += "}";
    const mambasdk::Result result = pipeline.run(inputs, options);
    write_file(out, result["label_file"].data<std::uint8_t>());
    if (!probabilities.empty()) write_file(probabilities, result["probabilities"].data<float>());
    std::cout << result.json() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "medical_cpp: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
