// The JSON options of a processor or a head, read with every value checked. Needs mambasdk_add_plugin(JSON).
//
//   struct Gain {
//     static constexpr std::string_view kind = "gain";
//     static constexpr std::string_view doc = "Samples times a factor.";
//     static constexpr std::string_view options[] = {"factor"};  // one of another name is an error
//     explicit Gain(const Config& config) : factor_(config.number("factor", 1.0, 0.0, 1000.0)) {}
//     void run(const Inputs& inputs, Emitter& emit);
//   };
//   registrar.processor<Configured<Gain>>();
//
// The options of a run are read the same: Config(inputs["options"].bytes(), kind, {"factor"}).
#ifndef MAMBASDK_PLUGIN_CONFIG_HPP_
#define MAMBASDK_PLUGIN_CONFIG_HPP_

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mambasdk/base.hpp"
#include "mambasdk/plugin/json.hpp"

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

// A number as short as it can be read back; JSON has none for what is not finite.
[[nodiscard]] inline nlohmann::json json_number(float value) {
  return std::isfinite(value) ? nlohmann::json(static_cast<double>(value)) : nlohmann::json(nullptr);
}

class Config {
 public:
  // where: the kind, for errors. `known`: the options that there are; "kind" always is one. Empty text: no options.
  Config(std::string_view text, std::string_view where, std::initializer_list<std::string_view> known)
      : Config(text, where, std::span(known.begin(), known.size())) {}
  Config(std::string_view text, std::string_view where, std::span<const std::string_view> known) : where_(where) {
    JsonDocument document;
    if (const auto fault = read_json(text.empty() ? std::string_view("{}") : text, kLimits, document)) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, where_,
                  where_ + ": its options are no JSON at byte " + std::to_string(fault->at) + ": " + fault->reason);
    }
    document_ = std::make_shared<const JsonDocument>(std::move(document));
    if (!value().is_object()) bad("its options", "a JSON object");
    for (const auto& [name, unused] : value().items()) {
      if (name == "kind" || std::find(known.begin(), known.end(), name) != known.end()) continue;
      std::string names;
      for (const std::string_view k : known) names += (names.empty() ? "" : ", ") + std::string(k);
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, where_,
                  where_ + " has no option \"" + quoted(std::string_view(name)) + "\"; it has " +
                      (names.empty() ? "none" : names));
    }
  }

  // The kind.
  [[nodiscard]] const std::string& where() const { return where_; }
  [[nodiscard]] bool has(const char* name) const { return value().contains(name); }

  [[nodiscard]] double number(const char* name, double otherwise, double least, double most) const {
    if (!has(name)) return otherwise;
    const nlohmann::json& v = value()[name];
    if (!v.is_number()) bad(name, "a number");
    return within(name, v.get<double>(), least, most);
  }

  [[nodiscard]] std::int64_t integer(const char* name, std::int64_t otherwise, std::int64_t least,
                                     std::int64_t most) const {
    if (!has(name)) return otherwise;
    return integer_of(name, value()[name], least, most);
  }

  // One integer, or as many as `otherwise` has; one stands for all.
  [[nodiscard]] std::vector<std::int64_t> integers(const char* name, std::vector<std::int64_t> otherwise,
                                                   std::int64_t least, std::int64_t most) const {
    if (!has(name)) return otherwise;
    const nlohmann::json& v = value()[name];
    if (!v.is_array()) return std::vector<std::int64_t>(otherwise.size(), integer_of(name, v, least, most));
    if (v.size() != otherwise.size()) bad(name, std::to_string(otherwise.size()) + " integers");
    std::vector<std::int64_t> out;
    for (const nlohmann::json& item : v) out.push_back(integer_of(name, item, least, most));
    return out;
  }

  // One number, or as many as `otherwise` has; one stands for all.
  [[nodiscard]] std::vector<double> numbers(const char* name, std::vector<double> otherwise, double least,
                                            double most) const {
    if (!has(name)) return otherwise;
    const nlohmann::json& v = value()[name];
    if (v.is_number()) return std::vector<double>(otherwise.size(), within(name, v.get<double>(), least, most));
    if (!v.is_array() || v.size() != otherwise.size()) bad(name, std::to_string(otherwise.size()) + " numbers");
    std::vector<double> out;
    for (const nlohmann::json& item : v) {
      if (!item.is_number()) bad(name, "numbers");
      out.push_back(within(name, item.get<double>(), least, most));
    }
    return out;
  }

  // A list of integers, however many.
  [[nodiscard]] std::vector<std::int64_t> integer_list(const char* name, std::int64_t least, std::int64_t most) const {
    std::vector<std::int64_t> out;
    if (!has(name)) return out;
    if (!value()[name].is_array()) bad(name, "a list of integers");
    for (const nlohmann::json& item : value()[name]) out.push_back(integer_of(name, item, least, most));
    return out;
  }

  [[nodiscard]] bool flag(const char* name, bool otherwise) const {
    if (!has(name)) return otherwise;
    if (!value()[name].is_boolean()) bad(name, "true or false");
    return value()[name].get<bool>();
  }

  [[nodiscard]] std::string text(const char* name, std::string_view otherwise) const {
    if (!has(name)) return std::string(otherwise);
    if (!value()[name].is_string()) bad(name, "a string");
    return value()[name].get<std::string>();
  }

  // One of `choices`; the first is taken where the option is absent.
  [[nodiscard]] std::string choice(const char* name, std::initializer_list<std::string_view> choices) const {
    const std::string chosen = text(name, *choices.begin());
    if (std::find(choices.begin(), choices.end(), chosen) == choices.end()) {
      std::string names;
      for (const std::string_view c : choices) names += (names.empty() ? "" : ", ") + std::string(c);
      bad(name, "one of " + names);
    }
    return chosen;
  }

  [[nodiscard]] std::vector<std::string> strings(const char* name) const {
    std::vector<std::string> out;
    if (!has(name)) return out;
    if (!value()[name].is_array()) bad(name, "a list of strings");
    for (const nlohmann::json& item : value()[name]) {
      if (!item.is_string()) bad(name, "a list of strings");
      out.push_back(item.get<std::string>());
    }
    return out;
  }

  // A list of pairs of integers, such as [[1, 2], [3, 4]].
  [[nodiscard]] std::vector<std::array<std::int64_t, 2>> pairs(const char* name, std::int64_t least,
                                                               std::int64_t most) const {
    std::vector<std::array<std::int64_t, 2>> out;
    if (!has(name)) return out;
    if (!value()[name].is_array()) bad(name, "a list of pairs of integers");
    for (const nlohmann::json& item : value()[name]) {
      if (!item.is_array() || item.size() != 2) bad(name, "a list of pairs of integers");
      out.push_back({integer_of(name, item[0], least, most), integer_of(name, item[1], least, most)});
    }
    return out;
  }

 private:
  [[nodiscard]] const nlohmann::json& value() const { return **document_; }

  [[noreturn]] void bad(const std::string& name, const std::string& expected) const {
    const bool given = value().is_object() && value().contains(name);
    const std::string got = quoted(given ? value()[name] : value());
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, where_,
                where_ + ": " + name + ": expected " + expected + ", got " + got);
  }

  [[nodiscard]] double within(const char* name, double value, double least, double most) const {
    if (!(value >= least && value <= most)) {
      bad(name, "a number from " + nlohmann::json(least).dump() + " to " + nlohmann::json(most).dump());
    }
    return value;
  }

  [[nodiscard]] std::int64_t integer_of(const char* name, const nlohmann::json& v, std::int64_t least,
                                        std::int64_t most) const {
    const bool fits = v.is_number_integer() && !(v.is_number_unsigned() && v.get<std::uint64_t>() > INT64_MAX);
    if (!fits || v.get<std::int64_t>() < least || v.get<std::int64_t>() > most) {
      bad(name, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
    }
    return v.get<std::int64_t>();
  }

  // Labels of some 100,000 classes are far below.
  static constexpr JsonLimits kLimits{.max_bytes = std::size_t{16} << 20, .max_depth = 16, .max_values = 1 << 20};

  std::string where_;
  std::shared_ptr<const JsonDocument> document_;
};

// T, which is made of a Config, as the Registrar takes it.
template <class T>
class Configured : public T {
 public:
  Configured(std::string_view text, std::string_view) : T(Config(text, T::kind, std::span(T::options))) {}
};

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_CONFIG_HPP_
