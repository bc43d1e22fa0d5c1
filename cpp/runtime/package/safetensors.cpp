// safetensors reading and writing. Format: https://github.com/huggingface/safetensors (README, "Format").
#include "runtime/package/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/dtype_info.hpp"
#include "core/error.hpp"
#include "runtime/package/atomic_write.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/safetensors_header.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr std::size_t kLengthBytes = 8;

std::uint64_t read_u64_le(const std::byte* bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// Bytes of a tensor, or an error where that does not fit 63 bits or cuts a block in two.
std::uint64_t byte_size(const std::vector<std::int64_t>& shape, const DTypeInfo& type, const std::string& where) {
  auto size = static_cast<std::uint64_t>(type.bytes);  // of blocks, as if each element were one
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
  if (empty) return 0;
  if (type.block != 1 && (shape.empty() || shape.back() % type.block != 0)) {
    fail(ErrorCode::corrupt, where, ": the last dim of ", type.name, " must be a multiple of ", type.block);
  }
  return size / static_cast<std::uint64_t>(type.block);
}

bool is_aligned(const std::byte* data, std::int64_t alignment) {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(alignment) == 0;
}

}  // namespace

Safetensors Safetensors::open(const std::filesystem::path& path) {
  MappedFile file = MappedFile::weights(path);
  Safetensors result = from_bytes(file.bytes(), path.string());
  result.file_ = std::move(file);  // moving a mapping does not move its bytes
  return result;
}

Safetensors Safetensors::from_bytes(std::span<const std::byte> bytes, std::string_view source) {
  if (bytes.size() < kLengthBytes) {
    fail(ErrorCode::corrupt, source, ": ", bytes.size(), " bytes are too few for a safetensors file");
  }
  const std::uint64_t header_size = read_u64_le(bytes.data());
  if (header_size > kMaxSafetensorsHeader || header_size > bytes.size() - kLengthBytes) {
    fail(ErrorCode::corrupt, source, ": the header claims ", header_size, " bytes, the file has ",
         bytes.size() - kLengthBytes, " after the length (limit ", kMaxSafetensorsHeader, ")");
  }
  const auto header_length = static_cast<std::size_t>(header_size);
  const std::string_view header_text(reinterpret_cast<const char*>(bytes.data() + kLengthBytes), header_length);
  if (!header_text.starts_with('{')) fail(ErrorCode::corrupt, source, ": the header does not start with '{'");
  const std::span<const std::byte> buffer = bytes.subspan(kLengthBytes + header_length);
  SafetensorsHeader header = parse_safetensors_header(header_text, source);

  // The tensors must tile the buffer: no overlap, no hole, nothing after the last.
  std::sort(header.entries.begin(), header.entries.end(),
            [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  Safetensors result;
  result.source_ = source;
  result.metadata_ = std::move(header.metadata);
  result.tensors_.reserve(header.entries.size());
  std::uint64_t at = 0;
  for (SafetensorsEntry& entry : header.entries) {
    const std::string where = concat(source, ": tensor ", printable(entry.name));
    const DTypeInfo* type = find_dtype_stored_as(entry.dtype);
    if (type == nullptr) {
      fail(ErrorCode::unsupported, where, ": dtype ", printable(entry.dtype), " is unknown to this build of mambasdk");
    }
    if (entry.end < entry.begin || entry.end > buffer.size()) {
      fail(ErrorCode::corrupt, where, ".data_offsets: [", entry.begin, ", ", entry.end, "] does not lie in the file's ",
           buffer.size(), " bytes of tensors; the file is truncated or damaged");
    }
    const std::uint64_t expected = byte_size(entry.shape, *type, where);
    if (expected != entry.end - entry.begin) {
      fail(ErrorCode::corrupt, where, ": shape and dtype need ", expected, " bytes, data_offsets hold ",
           entry.end - entry.begin);
    }
    if (entry.begin != at) {
      fail(ErrorCode::corrupt, where, " starts at byte ", entry.begin, ", expected ", at,
           " (tensors may neither overlap nor leave holes)");
    }
    at = entry.end;
    StoredTensor tensor{std::move(entry.name), std::move(entry.dtype), std::move(entry.shape),
                        buffer.data() + entry.begin, static_cast<std::size_t>(expected)};
    if (tensor.size != 0 && !is_aligned(tensor.data, type->alignment())) {
      auto copy = std::make_unique<std::byte[]>(tensor.size);
      std::memcpy(copy.get(), tensor.data, tensor.size);
      tensor.data = copy.get();
      result.copies_.push_back(std::move(copy));
    }
    if (!result.index_.emplace(tensor.name, result.tensors_.size()).second) {
      fail(ErrorCode::corrupt, where, " is there twice");
    }
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

namespace {

std::string strict_json(std::string_view text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    fail(ErrorCode::invalid_argument, "write_safetensors: a tensor name or metadata text is not valid UTF-8");
  }
}

}  // namespace

std::vector<std::byte> serialize_safetensors(std::span<const StoredTensor> tensors,
                                             const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<const StoredTensor*, std::int64_t>> order;  // with the alignment of its elements
  for (const StoredTensor& tensor : tensors) {
    const std::string where = concat("write_safetensors: tensor ", printable(tensor.name));
    const DTypeInfo* type = find_dtype_stored_as(tensor.dtype);
    if (type == nullptr) fail(ErrorCode::invalid_argument, where, ": unknown dtype ", printable(tensor.dtype));
    if (tensor.name == "__metadata__") fail(ErrorCode::invalid_argument, where, ": this name is reserved");
    if (std::any_of(tensor.shape.begin(), tensor.shape.end(), [](std::int64_t dim) { return dim < 0; })) {
      fail(ErrorCode::invalid_argument, where, ": negative dimension");
    }
    const std::uint64_t expected = byte_size(tensor.shape, *type, where);
    if (expected != tensor.size) {
      fail(ErrorCode::invalid_argument, where, ": shape and dtype need ", expected, " bytes, got ", tensor.size);
    }
    order.emplace_back(&tensor, type->alignment());
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first->name < b.first->name;
  });
  std::map<std::string_view, std::string> entries;  // in the order of names; text, which goes without asking for memory
  std::size_t at = 0;
  for (const auto& [tensor, alignment] : order) {
    plugin::JsonWriter entry;
    entry.open('{').key("data_offsets").open('[').number(at).number(at + tensor->size).close(']');
    entry.key("dtype").string(tensor->dtype).key("shape").open('[');
    for (const std::int64_t extent : tensor->shape) entry.number(extent);
    if (!entries.emplace(tensor->name, entry.close(']').close('}').take()).second) {
      fail(ErrorCode::invalid_argument, "write_safetensors: two tensors are named ", printable(tensor->name));
    }
    at += tensor->size;
  }
  if (!metadata.empty()) {
    plugin::JsonWriter entry;
    entry.open('{');
    for (const auto& [key, value] : metadata) entry.json(strict_json(key) + ':' + strict_json(value));
    entries.emplace("__metadata__", entry.close('}').take());
  }
  plugin::JsonWriter header;
  header.open('{');
  for (const auto& [name, entry] : entries) header.json(strict_json(name) + ':' + entry);
  std::string text = header.close('}').take();
  text.append((8 - text.size() % 8) % 8, ' ');  // keeps the buffer aligned to 8 bytes

  std::vector<std::byte> bytes(kLengthBytes + text.size() + at);
  for (std::size_t i = 0; i < 8; ++i)
    bytes[i] = static_cast<std::byte>(static_cast<std::uint64_t>(text.size()) >> (8 * i));
  std::memcpy(bytes.data() + kLengthBytes, text.data(), text.size());
  std::byte* out = bytes.data() + kLengthBytes + text.size();
  for (const auto& [tensor, alignment] : order) {
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
