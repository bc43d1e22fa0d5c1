#include "runtime/pipeline/processor.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

void Result::add(std::string name, OwnedTensor tensor) {
  if (name.empty()) fail(ErrorCode::invalid_argument, "a tensor was emitted without a name");
  if (find(name) != nullptr) fail(ErrorCode::invalid_argument, "the tensor ", printable(name), " was emitted twice");
  const auto added = index_.emplace(name, items_.size()).first;
  try {
    items_.push_back({std::move(name), std::move(tensor)});
  } catch (...) {
    index_.erase(added);
    throw;
  }
}

void Result::add_text(std::string name, std::string_view text) {
  const auto size = static_cast<std::int64_t>(text.size());
  OwnedTensor owned = OwnedTensor::allocate(dtype::u8, &size, 1);
  std::copy(text.begin(), text.end(), owned.view.ptr<char>());
  add(std::move(name), std::move(owned));
}

const OwnedTensor* Result::find(std::string_view name) const noexcept {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &items_[found->second].tensor;
}

std::string_view Result::json() const noexcept {
  const OwnedTensor* text = find("json");
  if (text == nullptr || text->view.dtype != dtype::u8 || text->view.ndim != 1 || text->view.device != Device::cpu) {
    return {};
  }
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

}  // namespace mambasdk::runtime
