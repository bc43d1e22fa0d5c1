// What must not compile: arguments that a declaration does not have, for kernels of the library and of plugins. CASE
// picks one; cmake/CppTests.cmake says what the compiler has to answer.
#include "mambasdk/plugin.hpp"

struct Halve {
  static constexpr std::string_view signature = "halve(x: T[N], by: float = 2, pool: bool = false) -> (y: T[N])";
  static double read(const mambasdk::plugin::CallOf<Halve>& call) {
#if CASE == 0  // compiles
    return call.number<"by">() + static_cast<double>(call.input<"x">().size());
#elif CASE == 1
    return call.number<"times">();
#elif CASE == 2
    return call.number<"x">();
#elif CASE == 3
    return static_cast<double>(call.dim<"M">());
#elif CASE == 4
    return static_cast<double>(call.output<"z">().ndim);
#endif
  }
};

#if CASE == 5
constexpr mambasdk::Declaration kBroken = "halve(x: T[N) -> (y: T[N])";
#endif
