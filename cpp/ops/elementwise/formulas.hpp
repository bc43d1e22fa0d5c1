// The formulas of table.hpp as types, and the functions in them that the scalar and the vector kernels share. Included
// inside a namespace, once with `Number` as double and once as vf (hence no guard), by functions.hpp and
// functions_simd.hpp, which have the functions that differ.

MAMBASDK_FORMULA Number truth(Condition condition) {
  return select(condition, one(), zero());
}
MAMBASDK_FORMULA Number sign(Number x) {
  return select(x > zero(), one(), select(x < zero(), -one(), zero()));
}
// NaN where one of them is.
MAMBASDK_FORMULA Number maximum(Number x, Number y) {
  return select(x > y, x, select(x == x, y, x));
}
MAMBASDK_FORMULA Number minimum(Number x, Number y) {
  return select(x < y, x, select(x == x, y, x));
}
MAMBASDK_FORMULA Number limited(Number x, Number least, Number most) {
  return minimum(maximum(x, least), most);
}
// What of the gradient g goes to x where the larger of x and y goes on: half where they are equal.
MAMBASDK_FORMULA Number larger_share(Number g, Number x, Number y) {
  return select(x == y, g * number(0.5), select(x < y, zero(), g));
}
// Whether the quotient x / y that was rounded towards 0, and left `part`, is above its floor.
MAMBASDK_FORMULA Condition is_above_floor(Number part, Number y) {
  return select(part == zero(), zero(), truth(part < zero()) - truth(y < zero())) != zero();
}
MAMBASDK_FORMULA Number floored_remainder(Number x, Number y) {
  const Number part = exact_remainder(x, y);
  return select(is_above_floor(part, y), part + y, part);
}
MAMBASDK_FORMULA Number floored_quotient(Number x, Number y) {
  const Number part = exact_remainder(x, y);
  const Number quotient = nearest((x - part) / y) - truth(is_above_floor(part, y));
  return select(y == zero(), x / y, quotient);
}
// d(x^y) / dy; at x = 0 that of the powers that are 0 there.
MAMBASDK_FORMULA Number power_slope(Number x, Number y) {
  return select(x == zero(), select(y >= zero(), zero(), power(x, y) * natural_log(x)), power(x, y) * natural_log(x));
}
// min(max(x + 3, 0), 6).
MAMBASDK_FORMULA Number six_steps(Number x) {
  return limited(x + number(3), zero(), one() * number(6));
}
MAMBASDK_FORMULA Number sigmoid_slope(Number x) {
  return sigmoid(x) * sigmoid(-x);
}
MAMBASDK_FORMULA Number silu_slope(Number x) {
  return sigmoid(x) * (number(1) + x * sigmoid(-x));
}
// With e = exp(x): tanh(ln(1 + e)) = n / (n + 2), where n = e^2 + 2 e. Above 20 it is 1.
MAMBASDK_FORMULA Number mish_n(Number x) {
  const Number e = exp(minimum(x, one() * number(20)));
  return e * (e + number(2));
}
MAMBASDK_FORMULA Number mish_gate(Number x) {
  const Number n = mish_n(x);
  return n / (n + number(2));
}
MAMBASDK_FORMULA Number mish_slope(Number x) {
  const Number n = mish_n(x);
  const Number d = number(1) / (n + number(2));
  return n * d + x * sigmoid(x) * number(4) * ((n + number(1)) * d) * d;
}
MAMBASDK_FORMULA Number tanh_slope(Number x) {
  return number(1) - tanh(x) * tanh(x);
}
MAMBASDK_FORMULA Number gelu_slope(Number x) {
  return normal_distribution(x) + x * number(0.3989422804014327) * exp(number(-0.5) * x * x);
}
// gelu_tanh(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), as 1 + tanh(u) = 2 sigmoid(2 u).
MAMBASDK_FORMULA Number gelu_tanh_exponent(Number x) {
  return number(1.5957691216057308) * x * (number(1) + number(0.044715) * x * x);
}
MAMBASDK_FORMULA Number gelu_tanh(Number x) {
  return x * sigmoid(gelu_tanh_exponent(x));
}
MAMBASDK_FORMULA Number gelu_tanh_slope(Number x) {
  const Number u = gelu_tanh_exponent(x);
  return sigmoid(u) + x * sigmoid_slope(u) * number(1.5957691216057308) * (number(1) + number(0.134145) * x * x);
}

// `<name>_function`: value(x, y, z, p, q), and gradient(g, x, y, z, p, q, out), out being the gradients of x, y and z.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"  // not every formula has every variable
#define MAMBASDK_ELEMENTWISE_TYPE(name, count, formula, ...)                                                  \
  struct name##_function {                                                                                    \
    static constexpr int kTensors = count;                                                                    \
    MAMBASDK_FORMULA Number value(Number x, Number y, Number z, Parameter p, Parameter q) { return formula; } \
    MAMBASDK_FORMULA void gradient(Number g, Number x, Number y, Number z, Parameter p, Parameter q,          \
                                   Number (&out)[3]) {                                                        \
      const Number slopes[] = {__VA_ARGS__};                                                                  \
      for (int i = 0; i < count; ++i) out[i] = slopes[i];                                                     \
    }                                                                                                         \
  };
#define MAMBASDK_ELEMENTWISE_UNARY(name, arguments, doc, ...) MAMBASDK_ELEMENTWISE_TYPE(name, 1, __VA_ARGS__)
#define MAMBASDK_ELEMENTWISE_BINARY(name, arguments, doc, ...) MAMBASDK_ELEMENTWISE_TYPE(name, 2, __VA_ARGS__)
#define MAMBASDK_ELEMENTWISE_TERNARY(name, arguments, doc, ...) MAMBASDK_ELEMENTWISE_TYPE(name, 3, __VA_ARGS__)
MAMBASDK_ELEMENTWISE(MAMBASDK_ELEMENTWISE_UNARY, MAMBASDK_ELEMENTWISE_BINARY, MAMBASDK_ELEMENTWISE_TERNARY)
#undef MAMBASDK_ELEMENTWISE_UNARY
#undef MAMBASDK_ELEMENTWISE_BINARY
#undef MAMBASDK_ELEMENTWISE_TERNARY
#undef MAMBASDK_ELEMENTWISE_TYPE
#pragma GCC diagnostic pop
