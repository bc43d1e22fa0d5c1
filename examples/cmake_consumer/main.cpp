// cmake_consumer: calls one operation by name, add(x, y), and prints the library's version and what it gave.
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <mambasdk/mambasdk.hpp>
#include <span>
#include <string>

namespace {

mambasdk_value tensor_value(const mambasdk_tensor& tensor) {
  mambasdk_value value{};
  value.kind = MAMBASDK_VALUE_TENSOR;
  value.as.tensor = &tensor;
  return value;
}

int run() {
  const mambasdk_api& api = mambasdk::api();
  const mambasdk_op* add = api.op_find(mambasdk::to_c("add"));
  if (add == nullptr) {
    std::fprintf(stderr, "cmake_consumer: the library has no operation add\n");
    return 1;
  }
  std::array<float, 3> x{1, 2, 3}, y{10, 20, 30}, sum{};  // (3)
  const mambasdk::TensorRef x_ref(std::span<float>(x), {3}), y_ref(std::span<float>(y), {3});
  const mambasdk::TensorRef sum_ref(std::span<float>(sum), {3});
  const mambasdk_tensor x_tensor = x_ref.tensor(), y_tensor = y_ref.tensor(), sum_tensor = sum_ref.tensor();
  const std::array<mambasdk_value, 2> inputs{tensor_value(x_tensor), tensor_value(y_tensor)};
  mambasdk::check(api.op_call(add, nullptr, inputs.data(), inputs.size(), &sum_tensor, 1, MAMBASDK_KERNEL_AUTOMATIC));
  std::printf("mambasdk %s: %g %g %g\n", std::string(mambasdk::to_cpp(api.version())).c_str(), sum[0], sum[1], sum[2]);
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cmake_consumer: %s\n", error.what());
    return 1;
  }
}
