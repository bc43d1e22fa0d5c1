// The `prepare` part of a program: weights that are made from other weights, once, when a package is loaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/engine/owned_tensor.hpp"
#include "runtime/engine/program.hpp"
#include "runtime/engine/work.hpp"

namespace mambasdk::runtime {

struct PrepareLimits {
  std::uint64_t memory;  // bytes of what is made and held at one time
  WorkBudget work;
  Extent memory_used{};
};

// Runs `prepare`: fills the weights that are made from other weights; returns the memory that holds them. What neither
// a later step nor the program's nodes read is let go on the way: what was made is freed and without data afterwards,
// `unused` is told of what is stored.
[[nodiscard]] std::vector<OwnedTensor> run_prepare(const Program& program, std::vector<Tensor>& weights,
                                                   const Context& context, PrepareLimits limits,
                                                   const std::function<void(std::size_t weight)>& unused);

}  // namespace mambasdk::runtime
