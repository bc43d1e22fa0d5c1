#include "runtime/pipeline/kinds.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/pipeline/causal_lm.hpp"
#include "runtime/pipeline/fill_mask.hpp"
#include "runtime/pipeline/text.hpp"
#include "runtime/pipeline/text_labels.hpp"

namespace mambasdk::runtime {

namespace {

struct Kinds {
  std::mutex mutex;
  std::map<std::pair<Role, std::string>, ProcessorKind> table;
};

Kinds& kinds() {
  static auto* made = [] {
    auto k = std::make_unique<Kinds>();  // until it is whole
    std::vector<ProcessorKind> built_in = text_processors();
    for (auto head : {causal_lm_head, fill_mask_head, text_classification_head, text_regression_head}) {
      built_in.push_back(head());
    }
    for (ProcessorKind& kind : built_in) {
      auto key = std::pair(kind.role, kind.kind);
      k->table.emplace(std::move(key), std::move(kind));
    }
    return k.release();
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

namespace {

const ProcessorKind& known_kind(Role role, std::string_view kind, std::string_view hint) {
  const ProcessorKind* known = find_processor(role, kind);
  if (known == nullptr) {
    std::string names;
    for (const ProcessorKind* other : list_processors(role)) names += (names.empty() ? "" : ", ") + other->kind;
    fail(ErrorCode::not_found, "there is no ", role_name(role), " of kind \"", printable(kind),
         "\" here (there is: ", names, "); ", hint.empty() ? std::string_view("load the plugin that brings it") : hint);
  }
  return *known;
}

}  // namespace

std::unique_ptr<Processor> create_processor(std::string_view kind, std::string_view config, std::string_view directory,
                                            std::string_view hint) {
  return known_kind(Role::processor, kind, hint).create(config, directory);
}

std::unique_ptr<Head> create_head(std::string_view kind, std::string_view config, std::string_view directory,
                                  std::string_view hint) {
  return known_kind(Role::head, kind, hint).create_head(config, directory);
}

}  // namespace mambasdk::runtime
