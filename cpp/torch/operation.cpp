// Turns op_describe's JSON into a torch schema.
#include "operation.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace mambasdk::torch_adapter {

namespace {

using Json = nlohmann::json;

std::string shortest(double value) {
  std::array<char, 40> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  std::string out(text.data(), end);
  // "1" would be read as an int.
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

// JSON has no infinity: it comes as a string, or as null.
double real_default(const Json& value) {
  if (value.is_number()) return value.get<double>();
  const bool negative = value.is_string() && value.get_ref<const std::string&>().starts_with('-');
  return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
}

bool is_defaulted(const Json& argument) {
  return argument.value("optional", false) || argument.contains("default");
}

// What follows a parameter's "="; notes an infinite default.
std::string default_text(const Json& argument, Parameter& parameter) {
  if (parameter.optional) return "None";
  const Json& value = argument.at("default");
  if (parameter.kind == MAMBASDK_VALUE_BOOL) return value.get<bool>() ? "True" : "False";
  if (parameter.kind == MAMBASDK_VALUE_INT) return std::to_string(value.get<std::int64_t>());
  double real = real_default(value);
  if (std::isinf(real)) {
    parameter.infinite = true;
    real = std::copysign(std::numeric_limits<double>::max(), real);
  }
  return shortest(real);
}

struct Kind {
  std::string_view name;
  std::int32_t value;
  std::string_view schema;
};
constexpr std::array<Kind, 4> kinds{{{"tensor", MAMBASDK_VALUE_TENSOR, "Tensor"},
                                     {"bool", MAMBASDK_VALUE_BOOL, "bool"},
                                     {"int", MAMBASDK_VALUE_INT, "int"},
                                     {"float", MAMBASDK_VALUE_FLOAT, "float"}}};

const Kind& kind_of(const std::string& name) {
  for (const Kind& kind : kinds) {
    if (kind.name == name) return kind;
  }
  throw std::runtime_error("an argument is of the unknown kind \"" + name + "\"");
}

}  // namespace

std::vector<std::int32_t> kernel_device_types(const char* description) {
  return Json::parse(description).at("device_types").get<std::vector<std::int32_t>>();
}

Operation parse_operation(const mambasdk_op* op, const char* description) {
  const Json json = Json::parse(description);
  Operation out;
  out.op = op;
  out.name = json.at("name").get<std::string>();
  const Json& inputs = json.at("inputs");
  // torch wants a default on everything that follows a default: earlier ones are left out.
  std::size_t first_default = inputs.size();
  while (first_default > 0 && is_defaulted(inputs[first_default - 1])) --first_default;
  out.schema = out.name + "(";
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Kind& kind = kind_of(inputs[i].at("kind").get<std::string>());
    Parameter parameter;
    parameter.name = inputs[i].at("name").get<std::string>();
    parameter.kind = kind.value;
    parameter.optional = inputs[i].value("optional", false);
    if (i > 0) out.schema += ", ";
    out.schema += kind.schema;
    out.schema += parameter.optional ? "? " : " ";
    out.schema += parameter.name;
    if (i >= first_default) {
      out.schema += '=';
      out.schema += default_text(inputs[i], parameter);
    }
    out.inputs.push_back(std::move(parameter));
  }
  out.schema += ") -> (";
  for (const Json& output : json.at("outputs")) {
    if (out.output_count++ > 0) out.schema += ", ";
    out.schema += "Tensor " + output.at("name").get<std::string>();
  }
  out.schema += ")";
  out.description = description;
  return out;
}

}  // namespace mambasdk::torch_adapter
