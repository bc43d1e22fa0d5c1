// A checked call whose arguments are read by the names that its declaration gives them: c.tensor<"u">(). A name that
// the declaration does not have, or one of another kind, does not compile.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/op.hpp"
#include "core/signature.hpp"
#include "mambasdk/declaration.hpp"

namespace mambasdk {

// A tensor argument with what a check needs to say why it refuses it. Absent: null.
struct NamedTensor {
  std::string_view operation, name;
  const Tensor* tensor;
};

// The inputs of a call by the names of kOp, which is the operation called or one whose derivative is called. What the
// derivative does not take reads as absent, false and 0.
template <const Declaration& kOp>
class InputsOf {
 public:
  explicit InputsOf(const OpCall& call) : InputsOf(call, nullptr, nullptr) {}

  [[nodiscard]] const Context& context() const { return call_->context; }
  [[nodiscard]] const std::string& operation() const { return call_->signature.name; }

  template <Name kName>
  [[nodiscard]] bool has() const {
    return optional<kName>() != nullptr;
  }
  // One that is there: required, or has<kName>().
  template <Name kName>
  [[nodiscard]] const Tensor& tensor() const {
    return *optional<kName>();
  }
  // Null where it is absent.
  template <Name kName>
  [[nodiscard]] const Tensor* optional() const {
    return value(input<kName, Declaration::Kind::tensor>()).tensor;
  }
  // A copy of the view, with data == nullptr where it is absent.
  template <Name kName>
  [[nodiscard]] Tensor tensor_or_null() const {
    const Tensor* t = optional<kName>();
    return t != nullptr ? *t : Tensor{};
  }
  template <Name kName>
  [[nodiscard]] NamedTensor named() const {
    constexpr std::string_view name =
        DeclarationText<kOp>::part(kOp.input_name(input<kName, Declaration::Kind::tensor>()));
    return {operation(), name, optional<kName>()};
  }
  template <Name kName>
  [[nodiscard]] bool flag() const {
    return value(input<kName, Declaration::Kind::boolean>()).flag;
  }
  template <Name kName>
  [[nodiscard]] std::int64_t integer() const {
    return value(input<kName, Declaration::Kind::integer>()).integer;
  }
  template <Name kName>
  [[nodiscard]] double number() const {
    return value(input<kName, Declaration::Kind::real>()).real;
  }
  template <Name kName>
  [[nodiscard]] std::int64_t dim() const {
    constexpr int i = kOp.dim(kName);
    static_assert(i >= 0, "the operation's declaration has no dim of this name");
    return call_->dims[static_cast<std::size_t>(dims_ != nullptr ? dims_[i] : i)];
  }

 protected:
  // Where each input and dim of kOp stands in the call, -1: nowhere; null: at its own place.
  InputsOf(const OpCall& call, const std::int8_t* inputs, const std::int8_t* dims)
      : call_(&call), inputs_(inputs), dims_(dims) {}
  template <const Declaration&>
  friend class CallOf;

  const OpCall* call_;

 private:
  template <Name kName, Declaration::Kind kKind>
  static consteval std::size_t input() {
    constexpr int i = kOp.input(kName);
    static_assert(i >= 0, "the operation's declaration has no argument of this name");
    static_assert(i < 0 || kOp.input_kind(static_cast<std::size_t>(i)) == kKind,
                  "the operation's declaration gives this argument another kind");
    return static_cast<std::size_t>(i);
  }
  [[nodiscard]] const Value& value(std::size_t i) const {
    static constexpr Value kAbsent{};
    if (inputs_ == nullptr) return call_->inputs[i];
    return inputs_[i] < 0 ? kAbsent : call_->inputs[static_cast<std::size_t>(inputs_[i])];
  }

  const std::int8_t* inputs_;
  const std::int8_t* dims_;
};

// A call of kOp.
template <const Declaration& kOp>
class CallOf : public InputsOf<kOp> {
 public:
  explicit CallOf(const OpCall& call) : InputsOf<kOp>(call) {}

  // One that its `if` switches off has data == nullptr and no elements.
  template <Name kName>
  [[nodiscard]] const Tensor& output() const {
    constexpr int i = kOp.output(kName);
    static_assert(i >= 0, "the operation's declaration has no output of this name");
    return this->call_->outputs[static_cast<std::size_t>(i)];
  }
  // The inputs by the names of kForward, of which kOp is the derivative.
  template <const Declaration& kForward>
  [[nodiscard]] InputsOf<kForward> inputs_of() const {
    static constexpr Places<kForward> kPlaces;
    return {*this->call_, kPlaces.inputs.data(), kPlaces.dims.data()};
  }

 private:
  template <const Declaration& kForward>
  struct Places {
    std::array<std::int8_t, kForward.input_count()> inputs{};
    std::array<std::int8_t, kForward.dim_count()> dims{};
    consteval Places() {
      for (std::size_t i = 0; i < inputs.size(); ++i)
        inputs[i] = static_cast<std::int8_t>(kOp.input(kForward.input_name(i)));
      for (std::size_t i = 0; i < dims.size(); ++i) {
        dims[i] = static_cast<std::int8_t>(kOp.dim(kForward.dim_name(i)));
        if (dims[i] < 0) throw "the derivative has every dim of its operation";
      }
    }
  };
};

// What an operation's author writes beside its declaration; see OpDefinition.
template <const Declaration& kOp>
struct DefinitionOf {
  std::string_view doc;
  void (*check)(const CallOf<kOp>&) = nullptr;
  void (*reference)(const CallOf<kOp>&) = nullptr;
  void (*cpu)(const CallOf<kOp>&) = nullptr;
};

}  // namespace mambasdk
