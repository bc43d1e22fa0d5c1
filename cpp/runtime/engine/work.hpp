// How much work a program asks for, counted before it is done.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/registry.hpp"

namespace mambasdk::runtime {

// A bound on an operation's multiply-adds: the product of every dim of its signature, or the elements of all its
// tensors where these are more. At most 2^62.
[[nodiscard]] std::uint64_t operation_work(const Op& op, std::span<const Value> inputs, std::span<const Tensor> outputs,
                                           std::span<const std::int64_t> dims);

inline constexpr std::uint64_t kUnlimitedWork = UINT64_MAX;

// What is left of a budget.
class WorkBudget {
 public:
  explicit WorkBudget(std::uint64_t most) : most_(most), left_(most) {}
  // Error(unsupported) where `what` takes more than is left.
  void spend(std::uint64_t work, std::string_view what);

 private:
  std::uint64_t most_;
  std::uint64_t left_;
};

// `prepare` may do this much for each stored byte of weights: enough for products of factors (LoRA) of ordinary ranks.
inline constexpr std::uint64_t kPrepareWorkPerByte = 256;
inline constexpr std::uint64_t kPrepareFreeBytes = std::uint64_t{1} << 20;  // what every package has, beside its own

}  // namespace mambasdk::runtime
