#include "runtime/engine/profile.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "runtime/engine/nodes.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {

std::unique_ptr<Profile> Profile::wanted(std::string part) {
  const char* path = std::getenv("MAMBASDK_PROFILE");
  return path == nullptr || *path == '\0' ? nullptr : std::make_unique<Profile>(path, std::move(part));
}

Profile::~Profile() {
  try {
    std::ofstream(path_, std::ios::app) << line() + '\n';
  } catch (...) {  // a plan that was measured is not worth a process that ends
  }
}

std::size_t Profile::add(const Node& node, std::size_t index, std::span<const Value> inputs,
                         std::span<const Tensor> outputs) {
  std::string shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool is_tensor = node.op->signature.inputs[i].kind == Argument::Kind::tensor;
    if (is_tensor && inputs[i].tensor != nullptr) shapes += concat(inputs[i].tensor->shape_text(), " ");
  }
  shapes += "->";
  for (const Tensor& t : outputs) shapes += concat(" ", t.shape_text());
  entries_.push_back({.node = index, .operation = describe(node), .shapes = std::move(shapes)});
  return entries_.size() - 1;
}

void Profile::end(std::size_t index) {
  const Clock::duration taken = Clock::now() - start_;
  Entry& entry = entries_[index];
  ++entry.runs;
  entry.whole += taken;
  entry.least = std::min(entry.least, taken);
}

std::string Profile::line() const {
  const auto microseconds = [](Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count();
  };
  plugin::JsonWriter text;
  text.open('{').key(part_).open('[');
  for (const Entry& entry : entries_) {
    text.open('{').key("node").number(entry.node).key("op").string(entry.operation);
    text.key("shapes").string(entry.shapes).key("runs").number(entry.runs);
    text.key("least_us").number(microseconds(entry.least)).key("whole_us").number(microseconds(entry.whole)).close('}');
  }
  return text.close(']').close('}').take();
}

}  // namespace mambasdk::runtime
