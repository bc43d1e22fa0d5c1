// convolution_packed and linear_packed against their multiply-adds done in registers.
// Arguments of a convolution: channels, height and width, features, kernel, stride, depth (1 is a plane; else the
// kernel reaches along it too), threads. Of a product: rows, in features, out features, threads.
#include "arithmetic_limit.hpp"
#include "core/registry.hpp"
#include "ops/convolution/convolution.hpp"

namespace mambasdk {
namespace {

const Registry& ops() {
  static const Registry* table = [] {
    auto* made = new Registry;
    register_packed(*made);
    register_convolution(*made);
    return made;
  }();
  return *table;
}

// A tensor and its memory.
struct Array {
  explicit Array(std::initializer_list<std::int64_t> shape)
      : tensor(Tensor::contiguous(nullptr, dtype::f32, shape.begin(), static_cast<int>(shape.size()))),
        memory(static_cast<std::size_t>(tensor.numel()), 0.25f) {
    tensor.data = memory.data();
  }
  Tensor tensor;
  bench::Array<float> memory;
};

void convolution(benchmark::State& state) {
  const std::int64_t channels = state.range(0), side = state.range(1), features = state.range(2);
  const std::int64_t kernel = state.range(3), stride = state.range(4), depth = state.range(5);
  const std::int64_t kernel_d = depth == 1 ? 1 : kernel, stride_d = depth == 1 ? 1 : stride;
  const bench::Threads threads(static_cast<int>(state.range(6)));
  const std::int64_t taps = kernel_d * kernel * kernel, panels = packed::panel_count(features);
  const Array x({1, depth, side, side, channels}), weight({panels, taps * channels, kPackedColumns}), bias({features});
  const std::int64_t sizes[] = {features, kernel_d,     kernel,     kernel,     stride_d, stride,
                                stride,   kernel_d / 2, kernel / 2, kernel / 2, 1,        1,
                                1,        kernel_d / 2, kernel / 2, kernel / 2};
  std::vector<Value> inputs = {{.tensor = &x.tensor}, {.tensor = &weight.tensor}, {.tensor = &bias.tensor}};
  for (const std::int64_t size : sizes) inputs.push_back({.integer = size});
  inputs.push_back({.tensor = nullptr});
  inputs.push_back({.integer = 1});  // relu
  inputs.push_back({.real = 0.0});
  inputs.push_back({.flag = false});
  const Op& op = ops().get("convolution_packed");
  Tensor y = op.plan(inputs).outputs[0];
  bench::Array<float> memory(static_cast<std::size_t>(y.numel()));
  y.data = memory.data();
  const double multiply_adds = static_cast<double>(y.numel()) * static_cast<double>(taps * channels);
  bench::run_arithmetic(state, multiply_adds, [&] { op.call(default_context(), inputs, {&y, 1}); });
}

void product(benchmark::State& state) {
  const std::int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const bench::Threads threads(static_cast<int>(state.range(3)));
  const Array x({rows, in}), weight({packed::panel_count(out), in, kPackedColumns}), bias({out}), y({rows, out});
  const Value inputs[] = {{.tensor = &x.tensor},
                          {.tensor = &weight.tensor},
                          {.tensor = &bias.tensor},
                          {.tensor = nullptr},
                          {.integer = out},
                          {.integer = 0},
                          {.real = 0.0},
                          {.flag = false},
                          {.flag = false}};
  const Op& op = ops().get("linear_packed");
  bench::run_arithmetic(state, static_cast<double>(rows * in) * static_cast<double>(out),
                        [&] { op.call(default_context(), inputs, {&y.tensor, 1}); });
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2}) b->Args({64, 56, 64, 3, 1, 1, threads});
  b->Args({3, 224, 64, 7, 2, 1, 2})->Args({64, 56, 256, 1, 1, 1, 2})->Args({128, 28, 128, 3, 1, 1, 2});
  b->Args({256, 14, 256, 3, 1, 1, 2})->Args({512, 7, 512, 3, 1, 1, 2});                                   // ResNet-50
  b->Args({32, 256, 32, 3, 1, 1, 2})->Args({64, 128, 64, 3, 1, 1, 2})->Args({512, 16, 512, 3, 1, 1, 2});  // U-Net
  b->Args({3, 640, 16, 3, 2, 1, 2})->Args({64, 80, 80, 3, 1, 1, 2});                                      // YOLOv8n
  b->Args({16, 64, 16, 3, 1, 64, 2})->Args({64, 16, 64, 3, 1, 16, 2});                                    // 3-D U-Net
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(convolution)->Apply(shapes);

void products(benchmark::internal::Benchmark* b) {
  b->Args({197, 384, 1536, 2})->Args({512, 768, 3072, 2})->Args({512, 3072, 768, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(product)->Apply(products);

}  // namespace
}  // namespace mambasdk
