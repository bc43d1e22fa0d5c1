// linear with few rows, as in decoding, against the bandwidth of reading its weights; with many, as in prefill, against
// as many multiply-adds in registers: of float32, or of pairs or tiles where weights and rounded x are bfloat16.
// Arguments: rows of x, in features, out features, bits of W, threads.
#include "arithmetic_limit.hpp"
#include "kernels/pairs.hpp"
#include "ops/linear/linear.hpp"

namespace mambasdk {
namespace {

// What a benchmark's arguments say, and a call of it.
class Product {
 public:
  explicit Product(const benchmark::State& state)
      : rows_(state.range(0)), in_(state.range(1)), out_(state.range(2)), threads_(static_cast<int>(state.range(4))) {
    register_linear(ops_);
    x_ = tensors_.make(dtype::f32, {rows_, in_});
    weight_ = tensors_.make(state.range(3) == 32 ? dtype::f32 : dtype::bf16, {out_, in_});
    y_ = tensors_.make(dtype::f32, {rows_, out_});
  }
  void operator()() const {
    const Value inputs[] = {{.tensor = x_}, {.tensor = weight_}, {.tensor = nullptr}, {.flag = true}};
    ops_.get("linear").call(default_context(), inputs, {y_, 1});
  }
  [[nodiscard]] std::int64_t weight_bytes() const { return weight_->nbytes(); }
  [[nodiscard]] double multiply_adds() const { return static_cast<double>(rows_ * in_ * out_); }

 private:
  std::int64_t rows_, in_, out_;
  bench::Threads threads_;
  bench::Tensors tensors_;
  Registry ops_;
  const Tensor *x_, *weight_, *y_;
};

void linear(benchmark::State& state) {
  const Product product(state);
  bench::run(state, 1, 0, product.weight_bytes(), product);
}

void linear_rows(benchmark::State& state) {
  const Product product(state);
  const PairProducts products = state.range(3) == 16 ? pair_products() : PairProducts::none;
  bench::run_arithmetic(state, product.multiply_adds(), product,
                        products == PairProducts::tiles     ? bench::Arithmetic::tiles
                        : products == PairProducts::vectors ? bench::Arithmetic::pairs
                                                            : bench::Arithmetic::float32);
}

// The same of bfloat16 with other instructions than this processor's.
void linear_rows_as(benchmark::State& state, PairProducts products) {
  if (active_isa() < Isa::avx512_bf16) return state.SkipWithError("this processor has no pairs of bfloat16");
  set_pair_products(static_cast<int>(products));
  linear_rows(state);
  set_pair_products(-1);
}
void linear_rows_floats(benchmark::State& state) {
  linear_rows_as(state, PairProducts::none);
}
void linear_rows_vectors(benchmark::State& state) {
  linear_rows_as(state, PairProducts::vectors);
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int threads : {1, 2}) b->Args({1, 768, 50280, bits, threads});  // the language model's head
    b->Args({1, 768, 3072, bits, 2})->Args({1, 1536, 768, bits, 2})->Args({4, 768, 50280, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(linear)->Apply(shapes);

// Those of mamba-130m with 512 tokens, and fewer tokens of one of them.
void long_shapes(benchmark::internal::Benchmark* b) {
  for (const int bits : {32, 16}) {
    for (const int threads : {1, 2}) b->Args({512, 768, 3072, bits, threads});
    b->Args({512, 1536, 768, bits, 2})->Args({512, 1536, 80, bits, 2})->Args({512, 48, 1536, bits, 2});
    for (const int rows : {9, 16, 32, 64, 96, 128}) b->Args({rows, 768, 3072, bits, 2});
  }
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(linear_rows)->Apply(long_shapes);
void bfloat16_shapes(benchmark::internal::Benchmark* b) {
  b->Args({512, 768, 3072, 16, 1})->Args({512, 768, 3072, 16, 2})->Args({512, 1536, 768, 16, 2});
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);
}
BENCHMARK(linear_rows_floats)->Apply(bfloat16_shapes);
BENCHMARK(linear_rows_vectors)->Apply(bfloat16_shapes);

}  // namespace
}  // namespace mambasdk
