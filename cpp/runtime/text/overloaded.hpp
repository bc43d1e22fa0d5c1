// std::visit with one lambda per alternative.
#pragma once

namespace mambasdk::runtime {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;  // implicit in C++20, which clang before 17 lacks

}  // namespace mambasdk::runtime
