// Every elementwise operation with its derivative: one entry here is all there is to add.
//
// MAMBASDK_ELEMENTWISE(UNARY, BINARY, TERNARY) expands to
//   UNARY(name, arguments, doc, value, gradient)
//   BINARY(name, arguments, doc, value, gradient of the first argument, gradient of the second)
//   TERNARY(name, arguments, doc, value, gradients of the three arguments)
// value is an expression of the tensors x, y and z (the first, the second, the third, whatever their names) and the
// float arguments p and q (the first, the second); a gradient also of g, the gradient of the output. Both the scalar
// and the vector kernels are made of these expressions: they may use + - * / and comparisons, select(condition, yes,
// no), number(constant), zero(), one(), everywhere(a parameter) and the functions of formulas.hpp.
#pragma once

#define MAMBASDK_ELEMENTWISE_SAME "(x: T[*]) -> (y: T[*])"
#define MAMBASDK_ELEMENTWISE_TWO "(x: T[*], y: T[*]) -> (out: T[*])"

// clang-format off
#define MAMBASDK_ELEMENTWISE(UNARY, BINARY, TERNARY)                                                                   \
  BINARY(add, MAMBASDK_ELEMENTWISE_TWO, "x + y", x + y, g, g)                                                          \
  BINARY(subtract, MAMBASDK_ELEMENTWISE_TWO, "x - y", x - y, g, -g)                                                    \
  BINARY(multiply, MAMBASDK_ELEMENTWISE_TWO, "x * y", x * y, g * y, g * x)                                             \
  BINARY(divide, MAMBASDK_ELEMENTWISE_TWO, "x / y", x / y, g / y, -g * (x / y / y))                                    \
  BINARY(power, MAMBASDK_ELEMENTWISE_TWO, "x to the power y; NaN where x < 0 and y is no integer", power(x, y),        \
         select(y == zero(), zero(), g * y * power(x, y - number(1))), g * power_slope(x, y))                          \
  BINARY(maximum, MAMBASDK_ELEMENTWISE_TWO, "The larger of x and y, NaN where one is; half the gradient to each where " \
         "they are equal", maximum(x, y), larger_share(g, x, y), larger_share(g, y, x))                                            \
  BINARY(minimum, MAMBASDK_ELEMENTWISE_TWO, "The smaller of x and y, NaN where one is; half the gradient to each "     \
         "where they are equal", minimum(x, y), larger_share(g, y, x), larger_share(g, x, y))                                      \
  BINARY(remainder, MAMBASDK_ELEMENTWISE_TWO, "x - y floor(x / y), exactly, with the sign of y",                       \
         floored_remainder(x, y), g, -g * floored_quotient(x, y))                                                      \
  BINARY(floor_divide, MAMBASDK_ELEMENTWISE_TWO, "floor(x / y) of the exact quotient", floored_quotient(x, y), zero(), \
         zero())                                                                                                       \
  BINARY(equal, MAMBASDK_ELEMENTWISE_TWO, "1 where x = y, else 0", truth(x == y), zero(), zero())                      \
  BINARY(not_equal, MAMBASDK_ELEMENTWISE_TWO, "1 where x != y, else 0", truth(x != y), zero(), zero())                 \
  BINARY(less, MAMBASDK_ELEMENTWISE_TWO, "1 where x < y, else 0", truth(x < y), zero(), zero())                        \
  BINARY(less_equal, MAMBASDK_ELEMENTWISE_TWO, "1 where x <= y, else 0", truth(x <= y), zero(), zero())                \
  BINARY(greater, MAMBASDK_ELEMENTWISE_TWO, "1 where x > y, else 0", truth(x > y), zero(), zero())                     \
  BINARY(greater_equal, MAMBASDK_ELEMENTWISE_TWO, "1 where x >= y, else 0", truth(x >= y), zero(), zero())             \
  BINARY(logical_and, MAMBASDK_ELEMENTWISE_TWO, "1 where neither x nor y is 0, else 0",                                \
         select(x == zero(), zero(), truth(y != zero())), zero(), zero())                                              \
  BINARY(logical_or, MAMBASDK_ELEMENTWISE_TWO, "0 where both x and y are 0, else 1",                                   \
         select(x == zero(), truth(y != zero()), one()), zero(), zero())                                               \
  BINARY(silu_mul, "(gate: T[*], x: T[*]) -> (y: T[*])", "gate * sigmoid(gate) * x",                                   \
         silu(x) * y, g * y * silu_slope(x), g * silu(x))                                                              \
  TERNARY(where, "(condition: T[*], x: T[*], y: T[*]) -> (out: T[*])", "x where condition is not 0, y where it is",    \
         select(x != zero(), y, z), zero(), select(x != zero(), g, zero()), select(x != zero(), zero(), g))            \
  UNARY(scale, "(x: T[*], factor: float) -> (y: T[*])", "factor * x.", p * x, p * g)                                   \
  UNARY(logical_not, MAMBASDK_ELEMENTWISE_SAME, "1 where x is 0, else 0.", truth(x == zero()), zero())                 \
  UNARY(negate, MAMBASDK_ELEMENTWISE_SAME, "-x.", -x, -g)                                                              \
  UNARY(absolute, MAMBASDK_ELEMENTWISE_SAME, "|x|.", absolute(x), g * sign(x))                                         \
  UNARY(sign, MAMBASDK_ELEMENTWISE_SAME, "1 where x > 0, -1 where x < 0, else 0.", sign(x), zero())                    \
  UNARY(floor, MAMBASDK_ELEMENTWISE_SAME, "The largest integer that is not above x.", floor(x), zero())                \
  UNARY(ceil, MAMBASDK_ELEMENTWISE_SAME, "The smallest integer that is not below x.", -floor(-x), zero())              \
  UNARY(round, MAMBASDK_ELEMENTWISE_SAME, "The integer nearest to x, the even one of two.", nearest(x), zero())        \
  UNARY(clamp, "(x: T[*], min: float = -inf, max: float = inf) -> (y: T[*])",                                          \
        "x, but at least `min` and at most `max`; `max` where they contradict.",                                       \
        limited(x, everywhere(p), everywhere(q)), select(x >= p, select(x <= q, g, zero()), zero()))                     \
  UNARY(square, MAMBASDK_ELEMENTWISE_SAME, "x^2.", x * x, number(2) * x * g)                                           \
  UNARY(sqrt, MAMBASDK_ELEMENTWISE_SAME, "The square root of x.", sqrt(x), number(0.5) * g / sqrt(x))    \
  UNARY(rsqrt, MAMBASDK_ELEMENTWISE_SAME, "1 / sqrt(x).", number(1) / sqrt(x),                                  \
        number(-0.5) * g / (x * sqrt(x)))                                                                       \
  UNARY(reciprocal, MAMBASDK_ELEMENTWISE_SAME, "1 / x.", number(1) / x, -g / (x * x))                                  \
  UNARY(exp, MAMBASDK_ELEMENTWISE_SAME, "e^x.", exp(x), g * exp(x))                                                    \
  UNARY(log, MAMBASDK_ELEMENTWISE_SAME, "The natural logarithm of x.", natural_log(x), g / x)                          \
  UNARY(log1p, MAMBASDK_ELEMENTWISE_SAME, "ln(1 + x), also where x is small.", natural_log1p(x), g / (number(1) + x))  \
  UNARY(sin, MAMBASDK_ELEMENTWISE_SAME, "The sine of x in radians.", sin(x), g * cos(x))                               \
  UNARY(cos, MAMBASDK_ELEMENTWISE_SAME, "The cosine of x in radians.", cos(x), -g * sin(x))                            \
  UNARY(erf, MAMBASDK_ELEMENTWISE_SAME, "The error function of x.", error_function(x),                                 \
        g * number(1.1283791670955126) * exp(-x * x))                                                                  \
  UNARY(relu, MAMBASDK_ELEMENTWISE_SAME, "max(x, 0).", select(x < zero(), zero(), x), select(x > zero(), g, zero()))   \
  UNARY(leaky_relu, "(x: T[*], slope: float = 0.01) -> (y: T[*])", "x where x >= 0, slope * x elsewhere.",             \
        select(x < zero(), p * x, x), select(x < zero(), p * g, g))                                                    \
  UNARY(squared_relu, MAMBASDK_ELEMENTWISE_SAME, "max(x, 0)^2 (arXiv 2109.08668).",                                    \
        select(x < zero(), zero(), x * x), select(x > zero(), number(2) * x * g, zero()))                              \
  UNARY(elu, "(x: T[*], alpha: float = 1) -> (y: T[*])",                                                               \
        "x where x > 0, alpha * (exp(x) - 1) elsewhere (arXiv 1511.07289).",                                           \
        select(x > zero(), x, p * exp_minus_1(x)), select(x > zero(), g, p * g * exp(x)))                              \
  UNARY(sigmoid, MAMBASDK_ELEMENTWISE_SAME, "1 / (1 + exp(-x)).", sigmoid(x), g * sigmoid_slope(x))                    \
  UNARY(log_sigmoid, MAMBASDK_ELEMENTWISE_SAME, "ln(sigmoid(x)).", -softplus(-x), g * sigmoid(-x))                     \
  UNARY(hardsigmoid, MAMBASDK_ELEMENTWISE_SAME, "min(max(x + 3, 0), 6) / 6 (arXiv 1905.02244).",                       \
        six_steps(x) / number(6), select(absolute(x) < number(3), g / number(6), zero()))                              \
  UNARY(hardswish, MAMBASDK_ELEMENTWISE_SAME, "x * min(max(x + 3, 0), 6) / 6 (arXiv 1905.02244).",                     \
        x * six_steps(x) / number(6),                                                                                  \
        select(x <= number(-3), zero(), select(x < number(3), g * (x / number(3) + number(0.5)), g)))                  \
  UNARY(silu, MAMBASDK_ELEMENTWISE_SAME, "x * sigmoid(x) (arXiv 1702.03118).", silu(x), g * silu_slope(x))             \
  UNARY(mish, MAMBASDK_ELEMENTWISE_SAME, "x * tanh(ln(1 + exp(x))) (arXiv 1908.08681).", x * mish_gate(x),             \
        g * mish_slope(x))                                                                                             \
  UNARY(tanh, MAMBASDK_ELEMENTWISE_SAME, "The hyperbolic tangent of x.", tanh(x), g * tanh_slope(x))                   \
  UNARY(softplus, MAMBASDK_ELEMENTWISE_SAME, "ln(1 + exp(x)); x itself above 20.", softplus(x), g * softplus_slope(x)) \
  UNARY(gelu, MAMBASDK_ELEMENTWISE_SAME,                                                                               \
        "x times the standard normal distribution function of x: the exact form (arXiv 1606.08415), not the one with " \
        "tanh.", gelu(x), g * gelu_slope(x))                                                                           \
  UNARY(gelu_tanh, MAMBASDK_ELEMENTWISE_SAME,                                                                          \
        "x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): the approximate form of gelu (arXiv 1606.08415).",       \
        gelu_tanh(x), g * gelu_tanh_slope(x))                                                                          \
  UNARY(widen, "(x: W[*]) -> (y: f32[*])", "x in float32.", x, g)                                                      \
  UNARY(neg_exp, "(x: W[*]) -> (y: f32[*])", "-exp(x) in float32: A from A_log.", -exp(x), -g * exp(x))
// clang-format on
