// Parsing of the package manifest.
#include "runtime/package/manifest.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr JsonLimits kManifestLimits{.max_bytes = std::size_t{16} << 20, .max_depth = 64, .max_values = 400'000};

Version read_version(const json& value, const std::string& where) {
  json_array(value, where);
  if (value.size() != 2) fail(ErrorCode::corrupt, where, ": expected [major, minor], got ", value.size(), " numbers");
  const std::int64_t major = json_int(value[0], where);
  const std::int64_t minor = json_int(value[1], where);
  constexpr std::int64_t max = std::numeric_limits<int>::max();
  if (major < 0 || minor < 0 || major > max || minor > max) {
    fail(ErrorCode::corrupt, where, ": [", major, ", ", minor, "] is no version");
  }
  return {static_cast<int>(major), static_cast<int>(minor)};
}

void check_format(const Version& format, std::string_view source) {
  if (format.major == kPackageFormatMajor) return;
  if (format.major > kPackageFormatMajor) {
    fail(ErrorCode::version, source, ": the package has format ", format.major, ".", format.minor,
         "; this build of mambasdk reads format ", kPackageFormatMajor, ".x: upgrade mambasdk");
  }
  fail(ErrorCode::version, source, ": the package has format ", format.major, ".", format.minor,
       ", which this build (format ", kPackageFormatMajor, ".x) does not read: export the model again");
}

std::vector<TensorSpec> read_tensor_specs(const json& manifest, std::string_view key, std::string_view source) {
  std::vector<TensorSpec> specs;
  const json* list = json_find(manifest, key);
  if (list == nullptr) return specs;
  const std::string where = concat(source, ": ", key);
  for (const json& item : json_array(*list, where)) {
    TensorSpec spec;
    spec.name = json_string_at(item, "name", where);
    spec.dtype = json_string_at(item, "dtype", where);
    const std::string shape_where = concat(where, ".", printable(spec.name), ".shape");
    for (const json& dim : json_array(json_at(item, "shape", where), shape_where)) {
      Dimension dimension;
      if (dim.is_string()) {
        dimension.symbol = dim.get<std::string>();
        if (dimension.symbol.empty()) fail(ErrorCode::corrupt, shape_where, ": a dimension's name is empty");
      } else {
        dimension.size = json_int(dim, shape_where);
        if (dimension.size < 0) fail(ErrorCode::corrupt, shape_where, ": dimension ", dimension.size, " is negative");
      }
      spec.shape.push_back(std::move(dimension));
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

std::int32_t token_id(const json& value, const std::string& where) {
  const std::int64_t id = json_int(value, where);
  if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) {
    fail(ErrorCode::corrupt, where, ": ", id, " is no token id; leave it out where there is none");
  }
  return static_cast<std::int32_t>(id);
}

// One id, or a list of them.
std::vector<std::int32_t> read_token_ids(const json& processor, std::string_view key, const std::string& where) {
  std::vector<std::int32_t> ids;
  const json* value = json_find(json_object(processor, where), key);
  if (value == nullptr) return ids;
  const std::string place = concat(where, ".", key);
  if (value->is_array()) {
    for (const json& item : *value) ids.push_back(token_id(item, place));
  } else {
    ids.push_back(token_id(*value, place));
  }
  std::ranges::sort(ids);
  return ids;
}

TextProcessor read_text_processor(const json& value, const std::string& where) {
  TextProcessor text;
  text.kind = json_string_at(value, "kind", where);
  if (text.kind == "tokenizer") {
    text.file = json_string_at(value, "file", where);
    check_package_file_name(text.file, concat(where, ".file"));
  }  // another kind is somebody else's processor: the model runs, and whoever asks for its text is told
  text.eos_token_ids = read_token_ids(value, "eos_token_id", where);
  if (const json* begin = json_find(value, "bos_token_id")) {
    text.bos_token_id = token_id(*begin, concat(where, ".bos_token_id"));
  }
  text.mask_token = json_string_or(value, "mask_token", "", where);
  return text;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void read_files(const json& value, std::string_view source, std::map<std::string, FileRecord>& files) {
  const std::string where = concat(source, ": files");
  for (const auto& [name, record] : json_object(value, where).items()) {
    check_package_file_name(name, where);
    const std::string file_where = concat(where, ".", printable(name));
    FileRecord out;
    out.sha256 = json_string_at(record, "sha256", file_where);
    if (!is_sha256(out.sha256)) {
      fail(ErrorCode::corrupt, file_where, ".sha256: expected 64 lower-case hexadecimal digits, got ",
           printable(out.sha256));
    }
    const std::int64_t size = json_int(json_at(record, "size", file_where), concat(file_where, ".size"));
    if (size < 0) fail(ErrorCode::corrupt, file_where, ".size: ", size, " is negative");
    out.size = static_cast<std::uint64_t>(size);
    files.emplace(name, std::move(out));
  }
}

void read_requirements(const json& value, std::string_view source, Manifest& manifest) {
  const std::string where = concat(source, ": requires");
  if (const json* abi = json_find(json_object(value, where), "mambasdk_abi")) {
    manifest.requires_abi = read_version(*abi, concat(where, ".mambasdk_abi"));
  }
  if (const json* plugins = json_find(value, "plugins")) {
    const std::string list_where = concat(where, ".plugins");
    for (const json& plugin : json_array(*plugins, list_where)) {
      manifest.requires_plugins.push_back(
          {json_string_at(plugin, "name", list_where), json_string_or(plugin, "version", "", list_where)});
    }
  }
}

void add_reference(Manifest& manifest, std::string place, const json* name, std::string_view source) {
  if (name == nullptr) return;
  const std::string where = concat(source, ": ", place);
  const std::string& file = json_string(*name, where);
  if (file.empty() && place == "engine.program") return;  // says that there is none
  check_package_file_name(file, where);
  manifest.references.emplace(std::move(place), file);
}

}  // namespace

void check_package_file_name(std::string_view name, std::string_view where) {
  const auto refuse = [&](std::string_view reason) {
    fail(ErrorCode::corrupt, where, ": file name \"", printable(name), "\" ", reason,
         "; a package names its files by plain relative paths");
  };
  if (name.empty()) refuse("is empty");
  if (name.size() > 1024) refuse("is too long");
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) refuse("has a control character");
    if (c == '\\' || c == ':') refuse("has a backslash or colon");
  }
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty()) refuse("is absolute or has an empty part");
    if (part == "." || part == "..") refuse("leaves the package or has a \".\" part");
    begin = end + 1;
  }
}

Manifest parse_manifest(std::string_view text, std::string_view source) {
  const JsonDocument document = parse_json(text, source, kManifestLimits);
  const json& root = *document;
  const std::string where(source);
  json_object(root, where);

  Manifest manifest;
  manifest.format = read_version(json_at(root, "format", where), concat(source, ": format"));
  check_format(manifest.format, source);
  manifest.family = json_string_at(root, "family", where);
  manifest.variant = json_string_or(root, "variant", "", where);
  manifest.head = json_string_or(root, "head", "", where);
  if (const json* options = json_find(root, "head_options")) {
    manifest.head_options_json = json_object(*options, concat(source, ": head_options")).dump();
  }
  const json* config = json_find(root, "config");
  manifest.config_json = config == nullptr ? "{}" : json_object(*config, concat(source, ": config")).dump();

  const json& engine = json_at(root, "engine", where);
  const std::string engine_where = concat(source, ": engine");
  manifest.engine = json_string_at(engine, "name", engine_where);
  manifest.program = json_string_or(engine, "program", "", engine_where);
  if (!manifest.program.empty()) check_package_file_name(manifest.program, concat(engine_where, ".program"));
  manifest.constants = json_string_or(engine, "constants", "", engine_where);
  if (!manifest.constants.empty()) check_package_file_name(manifest.constants, concat(engine_where, ".constants"));
  if (manifest.engine == "native" && manifest.program.empty()) {
    fail(ErrorCode::corrupt, engine_where, ": the native engine needs \"program\"");
  }

  manifest.executes_code = manifest.engine == "aoti" || json_bool_or(engine, "executes_code", false, engine_where);
  for (const char* key : {"program", "file", "constants"}) {
    add_reference(manifest, concat("engine.", key), json_find(engine, key), source);
  }

  manifest.states = read_tensor_specs(engine, "states", engine_where);
  manifest.inputs = read_tensor_specs(root, "inputs", source);
  manifest.outputs = read_tensor_specs(root, "outputs", source);
  if (const json* processors = json_find(root, "processors")) {
    for (const auto& [name, value] : json_object(*processors, concat(source, ": processors")).items()) {
      if (value.is_null()) continue;
      const std::string slot = concat("processors.", printable(name));
      add_reference(manifest, concat(slot, ".file"), json_find(json_object(value, concat(source, ": ", slot)), "file"),
                    source);
      manifest.processors_json.emplace(name, value.dump());
      if (name == "text") {
        manifest.text = read_text_processor(value, concat(source, ": processors.text"));
      }
    }
  }
  if (const json* needs = json_find(root, "requires")) read_requirements(*needs, source, manifest);
  if (const json* files = json_find(root, "files")) read_files(*files, source, manifest.files);
  return manifest;
}

}  // namespace mambasdk::runtime
