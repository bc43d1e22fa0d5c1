#include "runtime/pipeline/processor.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "runtime/package/json.hpp"
#include "runtime/pipeline/text.hpp"

namespace mambasdk::runtime {

void Result::add(std::string name, OwnedTensor tensor) {
  if (name.empty()) fail(ErrorCode::invalid_argument, "a tensor was emitted without a name");
  if (find(name) != nullptr) fail(ErrorCode::invalid_argument, "the tensor ", printable(name), " was emitted twice");
  items_.push_back({std::move(name), std::move(tensor)});
}

void Result::add_text(std::string name, std::string_view text) {
  const auto size = static_cast<std::int64_t>(text.size());
  OwnedTensor owned = OwnedTensor::allocate(dtype::u8, &size, 1);
  std::copy(text.begin(), text.end(), owned.view.ptr<char>());
  add(std::move(name), std::move(owned));
}

const OwnedTensor* Result::find(std::string_view name) const noexcept {
  const auto found = std::find_if(items_.begin(), items_.end(), [&](const NamedOutput& o) { return o.name == name; });
  return found == items_.end() ? nullptr : &found->tensor;
}

std::string_view Result::json() const noexcept {
  const OwnedTensor* text = find("json");
  if (text == nullptr || text->view.dtype != dtype::u8 || text->view.device != Device::cpu) return {};
  return {text->view.ptr<const char>(), static_cast<std::size_t>(text->view.numel())};
}

Tensor text_view(std::string_view text) {
  const auto size = static_cast<std::int64_t>(text.size());
  return Tensor::contiguous(const_cast<char*>(text.data()), dtype::u8, &size, 1);
}

std::string_view bytes_of(const Tensor& tensor, std::string_view name) {
  if (tensor.dtype != dtype::u8 || tensor.ndim != 1 || !tensor.is_contiguous() || tensor.device != Device::cpu) {
    fail(ErrorCode::invalid_argument, name, " is ", dtype_name(tensor.dtype), " ", tensor.shape_text(),
         ", expected a contiguous u8 vector on the CPU: bytes, or text as UTF-8");
  }
  return {tensor.ptr<const char>(), static_cast<std::size_t>(tensor.numel())};
}

std::string_view role_name(Role role) noexcept {
  return role == Role::processor ? "processor" : "head";
}

namespace {

struct Kinds {
  std::mutex mutex;
  std::map<std::pair<Role, std::string>, ProcessorKind> table;
};

Kinds& kinds() {
  static auto* made = [] {
    auto* k = new Kinds;
    for (ProcessorKind& kind : text_kinds()) {
      auto key = std::pair(kind.role, kind.kind);
      k->table.emplace(std::move(key), std::move(kind));
    }
    return k;
  }();
  return *made;
}

}  // namespace

const ProcessorKind* find_processor(Role role, std::string_view kind) {
  Kinds& k = kinds();
  const std::lock_guard lock(k.mutex);
  const auto found = k.table.find({role, std::string(kind)});
  return found == k.table.end() ? nullptr : &found->second;
}

std::vector<const ProcessorKind*> list_processors(Role role) {
  Kinds& k = kinds();
  const std::lock_guard lock(k.mutex);
  std::vector<const ProcessorKind*> out;
  for (const auto& [key, kind] : k.table) {
    if (key.first == role) out.push_back(&kind);
  }
  return out;
}

void add_processor(ProcessorKind kind) {
  Kinds& k = kinds();
  const std::lock_guard lock(k.mutex);
  auto key = std::pair(kind.role, kind.kind);
  if (const auto found = k.table.find(key); found != k.table.end()) {
    fail(ErrorCode::invalid_argument, role_name(kind.role), " ", kind.kind, " is already registered by ",
         found->second.origin, "; choose another name");
  }
  k.table.emplace(std::move(key), std::move(kind));
}

std::unique_ptr<Processor> create_processor(Role role, std::string_view kind, std::string_view config,
                                            std::string_view directory, std::string_view hint) {
  const ProcessorKind* known = find_processor(role, kind);
  if (known == nullptr) {
    std::string names;
    for (const ProcessorKind* other : list_processors(role)) names += (names.empty() ? "" : ", ") + other->kind;
    fail(ErrorCode::not_found, "there is no ", role_name(role), " of kind \"", printable(kind),
         "\" here (there is: ", names, "); ", hint.empty() ? std::string_view("load the plugin that brings it") : hint);
  }
  return known->create(config, directory);
}

}  // namespace mambasdk::runtime
