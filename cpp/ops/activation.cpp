#include "ops/activation.hpp"

#include "core/error.hpp"
#include "ops/elementwise/functions.hpp"

namespace mambasdk {
namespace {

#define MAMBASDK_ACTIVATION_TEXT(name, ...) #name,
constexpr std::string_view kNames[] = {MAMBASDK_ACTIVATIONS(MAMBASDK_ACTIVATION_TEXT)};
#undef MAMBASDK_ACTIVATION_TEXT

}  // namespace

namespace elementwise::scalar {
namespace {

double activated(Activation activation, Number x, [[maybe_unused]] Parameter p) {
  switch (activation) {
#define MAMBASDK_ACTIVATION_CASE(name, value) \
  case Activation::name:                      \
    return value;
    MAMBASDK_ACTIVATIONS(MAMBASDK_ACTIVATION_CASE)
#undef MAMBASDK_ACTIVATION_CASE
  }
  return x;
}

}  // namespace
}  // namespace elementwise::scalar

Activation activation_of(std::string_view operation, std::int64_t number) {
  if (number < 0 || number >= static_cast<std::int64_t>(std::size(kNames))) {
    fail(ErrorCode::invalid_argument, operation, ": activation is ", number, ", expected one of ", activation_list());
  }
  return static_cast<Activation>(number);
}

std::string activation_list() {
  std::string list;
  for (std::size_t i = 0; i < std::size(kNames); ++i) list += concat(i > 0 ? ", " : "", i, " ", kNames[i]);
  return list;
}

double activated(Activation activation, double x, double slope) {
  return elementwise::scalar::activated(activation, x, slope);
}

}  // namespace mambasdk
