// safetensors reading and writing. Format: https://github.com/huggingface/safetensors (README, "Format").
#include "runtime/package/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct ElementType {
  std::string_view name;
  std::size_t size;
};
constexpr std::array<ElementType, 17> kElementTypes = {{{"F64", 8},
                                                        {"I64", 8},
                                                        {"U64", 8},
                                                        {"C64", 8},
                                                        {"F32", 4},
                                                        {"I32", 4},
                                                        {"U32", 4},
                                                        {"F16", 2},
                                                        {"BF16", 2},
                                                        {"I16", 2},
                                                        {"U16", 2},
                                                        {"I8", 1},
                                                        {"U8", 1},
                                                        {"BOOL", 1},
                                                        {"F8_E4M3", 1},
                                                        {"F8_E5M2", 1},
                                                        {"F8_E8M0", 1}}};

struct Range {
  std::uint64_t begin;
  std::uint64_t end;
};

std::uint64_t read_u64_le(const std::byte* bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

std::vector<std::int64_t> read_shape(const json& value, const std::string& where) {
  std::vector<std::int64_t> shape;
  for (const json& dim : json_array(value, where)) {
    const std::int64_t size = json_int(dim, where);
    if (size < 0) fail(ErrorCode::corrupt, where, ": dimension ", size, " is negative");
    shape.push_back(size);
  }
  return shape;
}

// Bytes of a tensor, or an error where that does not fit 63 bits.
std::uint64_t byte_size(const std::vector<std::int64_t>& shape, std::size_t element_size, const std::string& where) {
  std::uint64_t size = element_size;
  // A zero anywhere makes the tensor empty, but the other dimensions may still not overflow the product.
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim == 0) {
      empty = true;
      continue;
    }
    const auto factor = static_cast<std::uint64_t>(dim);
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / factor) {
      fail(ErrorCode::corrupt, where, ": the shape has more bytes than 63 bits can count");
    }
    size *= factor;
  }
  return empty ? 0 : size;
}

Range read_range(const json& value, std::uint64_t buffer_size, const std::string& where) {
  json_array(value, where);
  if (value.size() != 2) fail(ErrorCode::corrupt, where, ": expected [begin, end], got ", value.size(), " numbers");
  const std::int64_t begin = json_int(value[0], where);
  const std::int64_t end = json_int(value[1], where);
  if (begin < 0 || end < begin || static_cast<std::uint64_t>(end) > buffer_size) {
    fail(ErrorCode::corrupt, where, ": [", begin, ", ", end, "] does not lie in the file's ", buffer_size,
         " bytes of tensors; the file is truncated or damaged");
  }
  return {static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end)};
}

bool is_aligned(const std::byte* data, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(data) % alignment == 0;
}

}  // namespace

std::size_t safetensors_element_size(std::string_view dtype) noexcept {
  for (const ElementType& type : kElementTypes) {
    if (type.name == dtype) return type.size;
  }
  return 0;
}

Safetensors Safetensors::open(const std::filesystem::path& path) {
  MappedFile file = MappedFile::open(path);
  Safetensors result = from_bytes(file.bytes(), path.string());
  result.file_ = std::move(file);  // moving a mapping does not move its bytes
  return result;
}

Safetensors Safetensors::from_bytes(std::span<const std::byte> bytes, std::string_view source) {
  if (bytes.size() < kLengthBytes) {
    fail(ErrorCode::corrupt, source, ": ", bytes.size(), " bytes are too few for a safetensors file");
  }
  const std::uint64_t header_size = read_u64_le(bytes.data());
  if (header_size > kMaxHeaderBytes || header_size > bytes.size() - kLengthBytes) {
    fail(ErrorCode::corrupt, source, ": the header claims ", header_size, " bytes, the file has ",
         bytes.size() - kLengthBytes, " after the length (limit ", kMaxHeaderBytes, ")");
  }
  const auto header_length = static_cast<std::size_t>(header_size);
  const std::string_view header_text(reinterpret_cast<const char*>(bytes.data() + kLengthBytes), header_length);
  if (!header_text.starts_with('{')) fail(ErrorCode::corrupt, source, ": the header does not start with '{'");
  const std::span<const std::byte> buffer = bytes.subspan(kLengthBytes + header_length);
  const json header = parse_json(header_text, source, {.max_bytes = kMaxHeaderBytes, .max_depth = 4});

  Safetensors result;
  result.source_ = source;
  std::vector<std::pair<Range, StoredTensor>> entries;
  entries.reserve(header.size());
  for (const auto& [name, value] : header.items()) {
    const std::string where = concat(source, ": tensor ", printable(name));
    if (name == "__metadata__") {
      for (const auto& [key, text] : json_object(value, concat(source, ": __metadata__")).items()) {
        result.metadata_.emplace(key, json_string(text, concat(source, ": __metadata__.", printable(key))));
      }
      continue;
    }
    StoredTensor tensor;
    tensor.name = name;
    tensor.dtype = json_string(json_at(value, "dtype", where), where);
    const std::size_t element_size = safetensors_element_size(tensor.dtype);
    if (element_size == 0) {
      fail(ErrorCode::unsupported, where, ": dtype ", printable(tensor.dtype), " is unknown to this build of mambasdk");
    }
    tensor.shape = read_shape(json_at(value, "shape", where), concat(where, ".shape"));
    const Range range =
        read_range(json_at(value, "data_offsets", where), buffer.size(), concat(where, ".data_offsets"));
    const std::uint64_t expected = byte_size(tensor.shape, element_size, where);
    if (expected != range.end - range.begin) {
      fail(ErrorCode::corrupt, where, ": shape and dtype need ", expected, " bytes, data_offsets hold ",
           range.end - range.begin);
    }
    tensor.data = buffer.data() + range.begin;
    tensor.size = static_cast<std::size_t>(expected);
    entries.emplace_back(range, std::move(tensor));
  }

  // The tensors must tile the buffer: no overlap, no hole, nothing after the last.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  std::uint64_t at = 0;
  for (auto& [range, tensor] : entries) {
    if (range.begin != at) {
      fail(ErrorCode::corrupt, source, ": tensor ", printable(tensor.name), " starts at byte ", range.begin,
           ", expected ", at, " (tensors may neither overlap nor leave holes)");
    }
    at = range.end;
    const std::size_t element_size = safetensors_element_size(tensor.dtype);
    if (tensor.size != 0 && !is_aligned(tensor.data, element_size)) {
      auto copy = std::make_unique<std::byte[]>(tensor.size);
      std::memcpy(copy.get(), tensor.data, tensor.size);
      tensor.data = copy.get();
      result.copies_.push_back(std::move(copy));
    }
    result.index_.emplace(tensor.name, result.tensors_.size());
    result.tensors_.push_back(std::move(tensor));
  }
  if (at != buffer.size()) {
    fail(ErrorCode::corrupt, source, ": ", buffer.size() - at, " bytes after the last tensor belong to none");
  }
  return result;
}

const StoredTensor* Safetensors::find(std::string_view name) const {
  const auto place = index_.find(std::string(name));
  return place == index_.end() ? nullptr : &tensors_[place->second];
}

const StoredTensor& Safetensors::at(std::string_view name) const {
  const StoredTensor* tensor = find(name);
  if (tensor == nullptr) {
    fail(ErrorCode::not_found, source_, ": no tensor named ", printable(name), " among its ", tensors_.size());
  }
  return *tensor;
}

std::vector<std::byte> serialize_safetensors(std::span<const StoredTensor> tensors,
                                             const std::map<std::string, std::string>& metadata) {
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& tensor : tensors) {
    const std::string where = concat("write_safetensors: tensor ", printable(tensor.name));
    const std::size_t element_size = safetensors_element_size(tensor.dtype);
    if (element_size == 0) fail(ErrorCode::invalid_argument, where, ": unknown dtype ", printable(tensor.dtype));
    if (tensor.name == "__metadata__") fail(ErrorCode::invalid_argument, where, ": this name is reserved");
    if (std::any_of(tensor.shape.begin(), tensor.shape.end(), [](std::int64_t dim) { return dim < 0; })) {
      fail(ErrorCode::invalid_argument, where, ": negative dimension");
    }
    const std::uint64_t expected = byte_size(tensor.shape, element_size, where);
    if (expected != tensor.size) {
      fail(ErrorCode::invalid_argument, where, ": shape and dtype need ", expected, " bytes, got ", tensor.size);
    }
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    const std::size_t size_a = safetensors_element_size(a->dtype);
    const std::size_t size_b = safetensors_element_size(b->dtype);
    return size_a != size_b ? size_a > size_b : a->name < b->name;
  });
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t at = 0;
  for (const StoredTensor* tensor : order) {
    json entry = {{"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {at, at + tensor->size}}};
    if (!header.emplace(tensor->name, std::move(entry)).second) {
      fail(ErrorCode::invalid_argument, "write_safetensors: two tensors are named ", printable(tensor->name));
    }
    at += tensor->size;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    fail(ErrorCode::invalid_argument, "write_safetensors: a tensor name or metadata text is not valid UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // keeps the buffer aligned to 8 bytes

  std::vector<std::byte> bytes(kLengthBytes + text.size() + at);
  for (std::size_t i = 0; i < 8; ++i)
    bytes[i] = static_cast<std::byte>(static_cast<std::uint64_t>(text.size()) >> (8 * i));
  std::memcpy(bytes.data() + kLengthBytes, text.data(), text.size());
  std::byte* out = bytes.data() + kLengthBytes + text.size();
  for (const StoredTensor* tensor : order) {
    if (tensor->size != 0) std::memcpy(out, tensor->data, tensor->size);
    out += tensor->size;
  }
  return bytes;
}

void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_file_atomically(path, serialize_safetensors(tensors, metadata));
}

}  // namespace mambasdk::runtime
