// Operations on maps beside the traffic of their tensors. Arguments: channels, height and width, threads.
#include <random>

#include "bandwidth_limit.hpp"
#include "core/registry.hpp"
#include "ops/group_norm/group_norm.hpp"
#include "ops/norm/norm.hpp"
#include "ops/pooling/pooling.hpp"
#include "ops/resize/resize.hpp"
#include "ops/sampling/sampling.hpp"

namespace mambasdk {
namespace {

class Problem {
 public:
  explicit Problem(const benchmark::State& state)
      : channels(state.range(0)), side(state.range(1)), threads_(static_cast<int>(state.range(2))) {
    register_pooling(ops_);
    register_resize(ops_);
    register_sampling(ops_);
    register_group_norm(ops_);
    register_norm(ops_);
  }
  Tensor tensor(const std::vector<std::int64_t>& shape, float low = -1.0f, float high = 1.0f) {
    Tensor t = Tensor::contiguous(nullptr, dtype::f32, shape.data(), static_cast<int>(shape.size()));
    bench::Array<float>& memory = memory_.emplace_back(static_cast<std::size_t>(t.numel()));
    std::uniform_real_distribution<float> value(low, high);
    for (float& v : memory) v = value(random_);
    t.data = memory.data();
    return t;
  }
  Tensor map() { return tensor({1, 1, side, side, channels}); }

  // Measured beside reading `inputs` arrays and writing one, all of a size that makes it the tensors' traffic.
  void run(benchmark::State& state, const char* name, const std::vector<Value>& inputs, int reads = 1) {
    const Op& op = ops_.get(name);
    std::vector<Tensor> outputs = op.plan(inputs).outputs;
    std::int64_t bytes = 0;
    for (Tensor& y : outputs) {
      if (y.numel() == 0) continue;
      y.data = memory_.emplace_back(static_cast<std::size_t>(y.numel())).data();
      bytes += y.nbytes();
    }
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (op.signature.inputs[i].kind == Argument::Kind::tensor && inputs[i].tensor != nullptr)
        bytes += inputs[i].tensor->nbytes() * (i == 0 ? reads : 1);
    bench::run(state, reads, 1, bytes / (reads + 1), [&] { op.call(default_context(), inputs, outputs); });
  }

  std::int64_t channels, side;

 private:
  bench::Threads threads_;
  Registry ops_;
  std::mt19937 random_{0};
  std::vector<bench::Array<float>> memory_;
};

Value arg(const Tensor& t) {
  return {.tensor = &t};
}
Value arg(std::int64_t n) {
  return {.integer = n};
}
Value arg(bool b) {
  return {.flag = b};
}
Value arg(double x) {
  return {.real = x};
}
constexpr Value kAbsent{.tensor = nullptr};

// kernel x kernel windows; with `max` the largest, else the average.
void pool(benchmark::State& state, bool max, std::int64_t kernel, std::int64_t stride) {
  Problem p(state);
  const Tensor x = p.map();
  const std::int64_t pad = (kernel - 1) / 2;
  std::vector<Value> inputs = {arg(x)};
  for (const std::int64_t n : {std::int64_t{1}, kernel, kernel, std::int64_t{1}, stride, stride, std::int64_t{0}, pad,
                               pad, std::int64_t{0}, pad, pad})
    inputs.push_back(arg(n));
  if (max) {
    for (int i = 0; i < 3; ++i) inputs.push_back(arg(std::int64_t{1}));
  } else {
    inputs.push_back(arg(true));
    inputs.push_back(arg(std::int64_t{0}));
  }
  p.run(state, max ? "max_pool" : "average_pool", inputs);
}

void global_average(benchmark::State& state) {
  Problem p(state);
  const Tensor x = p.map();
  const std::int64_t one = 1;
  p.run(state, "adaptive_average_pool", {arg(x), arg(one), arg(one), arg(one)});
}

void resize_twice(benchmark::State& state, std::int64_t mode) {
  Problem p(state);
  const Tensor x = p.map();
  p.run(state, "resize",
        {arg(x), arg(std::int64_t{1}), arg(2 * p.side), arg(2 * p.side), arg(mode), arg(false), arg(0.0), arg(0.0),
         arg(0.0)});
}

// Positions a pixel or so away from their own.
void sample(benchmark::State& state, std::int64_t mode) {
  Problem p(state);
  const Tensor x = p.map();
  const float pixel = 2.0f / static_cast<float>(p.side);
  const Tensor grid = p.tensor({1, 1, p.side, p.side, 2}, -pixel, pixel);
  for (std::int64_t i = 0; i < p.side * p.side; ++i) {
    grid.ptr<float>()[2 * i] += (static_cast<float>(i % p.side) + 0.5f) * pixel - 1.0f;
    grid.ptr<float>()[2 * i + 1] += (static_cast<float>(i / p.side) + 0.5f) * pixel - 1.0f;
  }
  p.run(state, "grid_sample", {arg(x), arg(grid), arg(mode), arg(std::int64_t{0}), arg(false)});
}

// Offsets within an element; `backward` the derivative, which reads x and the gradient and writes both gradients.
void deformable(benchmark::State& state, bool backward) {
  Problem p(state);
  const std::int64_t groups = p.channels / 16;
  const Tensor x = p.tensor({1, p.side, p.side, p.channels}), grad = p.tensor({1, p.side, p.side, p.channels});
  const Tensor offset_mask = p.tensor({1, p.side, p.side, (27 * groups + 7) / 8 * 8});
  std::vector<Value> inputs = {arg(x), arg(offset_mask), arg(groups)};
  if (backward) inputs.insert(inputs.begin(), arg(grad));
  for (const std::int64_t n : {3, 3, 1, 1, 1, 1, 1, 1}) inputs.push_back(arg(n));
  inputs.push_back(arg(1.0));
  p.run(state, backward ? "deformable_sample_backward" : "deformable_sample", inputs);
}

void group_norm(benchmark::State& state) {
  Problem p(state);
  const Tensor x = p.tensor({1, p.side * p.side, p.channels}), weight = p.tensor({p.channels});
  p.run(state, "group_norm", {arg(x), arg(weight), arg(weight), arg(std::int64_t{1}), arg(1e-5)}, 2);
}

void scale_shift(benchmark::State& state) {
  Problem p(state);
  const Tensor x = p.tensor({1, p.side * p.side, p.channels}), weight = p.tensor({p.channels});
  p.run(state, "scale_shift", {arg(x), arg(weight), arg(weight)});
}

// The norm over the channels of channel-first memory.
void layer_norm_permuted(benchmark::State& state) {
  Problem p(state);
  Tensor x = p.tensor({p.side * p.side, p.channels});
  const Tensor weight = p.tensor({p.channels});
  x.strides[0] = 1;
  x.strides[1] = p.side * p.side;
  p.run(state, "layer_norm",
        {arg(x), arg(weight), arg(weight), kAbsent, kAbsent, arg(1e-5), arg(std::int64_t{0}), arg(true), arg(false)});
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"C", "side", "threads"});
  b->Args({64, 112, 1})->Args({64, 112, 2})->Args({256, 28, 2})->Args({3, 224, 2})->Args({24, 80, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.1);
}
void deformable_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"C", "side", "threads"});
  b->Args({64, 64, 1})->Args({64, 64, 2})->Args({160, 28, 2})->Args({320, 14, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.1);
}
BENCHMARK_CAPTURE(pool, max_3_stride_2, true, 3, 2)->Apply(shapes);
BENCHMARK_CAPTURE(pool, max_5_stride_1, true, 5, 1)->Apply(shapes);
BENCHMARK_CAPTURE(pool, average_2_stride_2, false, 2, 2)->Apply(shapes);
BENCHMARK(global_average)->Apply(shapes);
BENCHMARK_CAPTURE(resize_twice, nearest, 0)->Apply(shapes);
BENCHMARK_CAPTURE(resize_twice, linear, 2)->Apply(shapes);
BENCHMARK_CAPTURE(resize_twice, cubic, 3)->Apply(shapes);
BENCHMARK_CAPTURE(sample, linear, 0)->Apply(shapes);
BENCHMARK_CAPTURE(sample, nearest, 1)->Apply(shapes);
BENCHMARK_CAPTURE(sample, cubic, 2)->Apply(shapes);
BENCHMARK_CAPTURE(deformable, forward, false)->Apply(deformable_shapes);
BENCHMARK_CAPTURE(deformable, backward, true)->Apply(deformable_shapes);
BENCHMARK(group_norm)->Apply(shapes);
BENCHMARK(scale_shift)->Apply(shapes);
BENCHMARK(layer_norm_permuted)->Apply(shapes);

}  // namespace
}  // namespace mambasdk
