// mambasdk.json, the manifest of a model package (docs/architecture.md, "The model package").
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mambasdk::runtime {

inline constexpr std::string_view kManifestFile = "mambasdk.json";
inline constexpr int kPackageFormatMajor = 1;  // newest package format this build reads
inline constexpr int kPackageFormatMinor = 2;

struct Version {
  int major = 0;
  int minor = 0;
};

struct Dimension {
  std::string symbol;     // "B", "L"; empty for a fixed size
  std::int64_t size = 0;  // where symbol is empty
};

struct TensorSpec {
  std::string name;
  std::string dtype;
  std::vector<Dimension> shape;
};

struct TextProcessor {
  std::string kind;                         // "bytes" and "tokenizer" are known here; a plugin may have others
  std::string file;                         // for "tokenizer"
  std::vector<std::int32_t> eos_token_ids;  // any of them ends a text; ascending
  std::optional<std::int64_t> bos_token_id;
  std::string mask_token;  // how a text spells a place to fill in; empty: it has none
};

struct PluginRequirement {
  std::string name;
  std::string version;  // may be empty
};

struct FileRecord {
  std::string sha256;  // 64 lower-case hexadecimal digits
  std::uint64_t size = 0;
};

struct Manifest {
  Version format;
  std::string family;
  std::string variant;
  std::string head;
  std::string head_options_json = "{}";  // since format 1.1: the head's configuration, as JSON text
  std::string config_json;               // the model's configuration, as JSON text
  std::string engine;                    // "native", "aoti"
  std::string program;                   // file of the native program; empty for other engines
  std::string constants;                 // file of tensors that are no weights of the model; empty: none
  bool executes_code = false;            // of the package: what the engine says, and always for aoti
  std::vector<TensorSpec> states;        // what sessions carry, for other engines; native: in the program
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::optional<TextProcessor> text;
  std::map<std::string, std::string> processors_json;  // every processor by name, as JSON text
  std::optional<Version> requires_abi;
  std::vector<PluginRequirement> requires_plugins;
  std::map<std::string, FileRecord> files;
  // What the package uses besides model.safetensors: place in the manifest -> file, for every program, archive and
  // processor.
  std::map<std::string, std::string> references;
};

// Unknown members are ignored. Errors: corrupt (with the place), version (a newer major format).
[[nodiscard]] Manifest parse_manifest(std::string_view text, std::string_view source = kManifestFile);

// A plain relative file name: '/' between parts, no part empty, "." or "..", nothing that means more than a name on any
// system. Error: corrupt, naming `where`.
void check_package_file_name(std::string_view name, std::string_view where);

}  // namespace mambasdk::runtime
