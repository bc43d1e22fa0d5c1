// grouped_linear: a dense product whose weights each row chooses, one of several sets. Rows are sorted by their group,
// and each group is one product of ops/linear over contiguous rows.
#include <cstring>
#include <vector>

#include "core/element.hpp"
#include "core/extent.hpp"
#include "core/registry.hpp"
#include "ops/linear/linear.hpp"
#include "ops/rows.hpp"

namespace mambasdk {
namespace grouped_linear {
namespace {

constexpr Declaration kForward =
    "grouped_linear(x: T[*,I], weight: W[G,O,I], group: i32[*], bias: W[G,O]?) -> (y: T[*,O])";
constexpr Declaration kBackward = kForward.derivative();
using Inputs = InputsOf<kForward>;
using Places = std::vector<std::int64_t>;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// The groups of all rows, in order.
std::vector<std::int32_t> groups_of(const Tensor& group) {
  std::vector<std::int32_t> out(at(group.numel()));
  const auto* data = group.ptr<const std::int32_t>();
  for (std::size_t r = 0; r < out.size(); ++r) {
    std::int64_t offset = 0, i = static_cast<std::int64_t>(r);
    for (int d = group.ndim - 1; d >= 0; i /= group.size(d--)) offset += i % group.size(d) * group.stride(d);
    out[r] = data[offset];
  }
  return out;
}

void check(const Inputs& c) {
  const Tensor& group = c.tensor<"group">();
  if (group.data == nullptr || group.device != Device::cpu) return;
  const std::int64_t groups = c.dim<"G">();
  const std::vector<std::int32_t> all = groups_of(group);
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r] >= 0 && all[r] < groups) continue;
    fail(ErrorCode::invalid_argument, c.operation(), ": element ", r, " of group is ", all[r], ", expected 0 to ",
         groups - 1, ": weight has ", groups, " groups");
  }
}

// ---- reference ----

double element(const Tensor& t, std::int64_t offset) {
  return load_element(t.data, t.dtype, offset);
}

void reference_forward(const CallOf<kForward>& c) {
  const Tensor &x = c.tensor<"x">(), &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const Tensor* bias = c.optional<"bias">();
  const std::vector<std::int32_t> group = groups_of(c.tensor<"group">());
  const std::int64_t in = c.dim<"I">(), out = c.dim<"O">();
  for (std::size_t r = 0; out > 0 && r < group.size(); ++r) {
    const std::int64_t g = group[r], row = static_cast<std::int64_t>(r), first = row_offset(x, row);
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = bias != nullptr ? element(*bias, g * bias->stride(0) + o * bias->stride(1)) : 0.0;
      for (std::int64_t i = 0; i < in; ++i) {
        sum += element(x, first + i * x.stride(-1)) *
               element(weight, g * weight.stride(0) + o * weight.stride(1) + i * weight.stride(2));
      }
      store_element(y.data, y.dtype, row * out + o, sum);
    }
  }
}

void reference_backward(const CallOf<kBackward>& c) {
  const Tensor &grad_y = c.tensor<"grad_y">(), &x = c.tensor<"x">(), &weight = c.tensor<"weight">();
  const Tensor &grad_x = c.output<"grad_x">(), &grad_weight = c.output<"grad_weight">();
  const std::vector<std::int32_t> group = groups_of(c.tensor<"group">());
  const std::int64_t in = c.dim<"I">(), out = c.dim<"O">();
  std::vector<double> sums(at(grad_weight.numel())), bias_sums(at(c.dim<"G">() * out));
  for (std::size_t r = 0; (in > 0 || out > 0) && r < group.size(); ++r) {
    const std::int64_t g = group[r], row = static_cast<std::int64_t>(r);
    const std::int64_t x_first = row_offset(x, row), y_first = row_offset(grad_y, row);
    for (std::int64_t i = 0; i < in; ++i) {
      double sum = 0.0;
      for (std::int64_t o = 0; o < out; ++o) {
        const double dy = element(grad_y, y_first + o * grad_y.stride(-1));
        sum += dy * element(weight, g * weight.stride(0) + o * weight.stride(1) + i * weight.stride(2));
        sums[at((g * out + o) * in + i)] += dy * element(x, x_first + i * x.stride(-1));
      }
      store_element(grad_x.data, grad_x.dtype, row * in + i, sum);
    }
    for (std::int64_t o = 0; o < out; ++o)
      bias_sums[at(g * out + o)] += element(grad_y, y_first + o * grad_y.stride(-1));
  }
  const auto store = [](const Tensor& to, const std::vector<double>& from) {
    for (std::size_t i = 0; i < from.size(); ++i)
      store_element(to.data, to.dtype, static_cast<std::int64_t>(i), from[i]);
  };
  store(grad_weight, sums);
  if (c.has<"bias">()) store(c.output<"grad_bias">(), bias_sums);
}

// ---- vector kernels ----

// The rows sorted by group, those of a group in their order.
struct Order {
  std::vector<std::int64_t> begin;  // (G+1): where each group begins among the sorted rows
  Places row;                       // (rows): the row at each sorted place
  std::int64_t only = -1;           // the group of all rows, where there is but one

  Order(const std::vector<std::int32_t>& group, std::int64_t groups) : begin(at(groups + 1)), row(group.size()) {
    for (const std::int32_t g : group) ++begin[at(g) + 1];
    for (std::size_t g = 1; g < begin.size(); ++g) begin[g] += begin[g - 1];
    Places next(begin.begin(), begin.end() - 1);
    for (std::size_t r = 0; r < group.size(); ++r) row[at(next[at(group[r])]++)] = static_cast<std::int64_t>(r);
    if (!group.empty() && rows_of(group.front()) == static_cast<std::int64_t>(group.size())) only = group.front();
  }
  [[nodiscard]] std::int64_t rows() const { return static_cast<std::int64_t>(row.size()); }
  [[nodiscard]] std::int64_t first_of(std::int64_t g) const { return begin[at(g)]; }
  [[nodiscard]] std::int64_t rows_of(std::int64_t g) const { return begin[at(g) + 1] - begin[at(g)]; }
};

std::int64_t grain(std::int64_t columns) {
  return columns > 0 && columns < 16384 ? 16384 / columns : 1;
}

// A matrix of a batch of them: rows `row` apart, elements `column` apart.
Rows matrix(const Tensor& t, std::int64_t index, int row, int column) {
  const auto* data = t.ptr<const std::byte>() + index * t.stride(0) * (t.dtype.bits / 8);
  return {data, nullptr, t.stride(row), t.stride(column), t.dtype};
}

const void* row_at(const void* data, DType type, std::int64_t columns, std::int64_t row) {
  return static_cast<const std::byte*>(data) + row * columns * (type.bits / 8);
}
void* row_at(void* data, DType type, std::int64_t columns, std::int64_t row) {
  return static_cast<std::byte*>(data) + row * columns * (type.bits / 8);
}

// The rows of a tensor in the order of their groups, one stride apart: themselves where all are in one, else a copy.
class Sorted {
 public:
  Sorted(const Tensor& t, const Order& order, const Context& context) : copy_(nullptr, {}), columns_(t.size(-1)) {
    rows_ = rows_view(&t, offsets_);
    if (columns_ == 0 || (order.only >= 0 && rows_.offset == nullptr)) return;
    copy_ = context.workspace((Extent(order.rows()) * columns_ * (t.dtype.bits / 8)).bytes());
    const Rows from = rows_;
    rows_ = {copy_.get(), nullptr, columns_, 1, t.dtype};
    Places taken(order.row);
    for (std::int64_t& place : taken) place = from.offset != nullptr ? from.offset[place] : place * from.stride;
    if (from.element_stride != 1) {
      const Rows apart{from.data, taken.data(), 0, from.element_stride, t.dtype};
      MAMBASDK_PICK(copy_rows)(apart, order.rows(), columns_, copy_.get(), context.parallel());
      return;
    }
    const std::int64_t bytes = columns_ * (t.dtype.bits / 8);
    context.parallel()(order.rows(), grain(columns_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        std::memcpy(copy_.get() + r * bytes, row_at(from.data, t.dtype, 1, taken[at(r)]), at(bytes));
    });
  }
  Sorted(const Sorted&) = delete;
  Sorted& operator=(const Sorted&) = delete;

  // Rows from the sorted place `first` on.
  [[nodiscard]] Rows from(std::int64_t first) const {
    Rows rows = rows_;
    if (first > 0) rows.data = row_at(rows.data, rows.type, rows.stride, first);
    return rows;
  }

 private:
  Context::Workspace copy_;
  std::int64_t columns_;
  Places offsets_;
  Rows rows_;
};

// Rows of results: written in the order of the groups, and put where they belong by `scatter`.
class Results {
 public:
  Results(const Tensor& y, const Order& order, const Context& context)
      : y_(y), order_(order), context_(context), sorted_(nullptr, {}), columns_(y.size(-1)) {
    if (order.only >= 0 || columns_ == 0) return;
    sorted_ = context.workspace((Extent(order.rows()) * columns_ * (y.dtype.bits / 8)).bytes());
  }
  [[nodiscard]] void* from(std::int64_t first) const {
    return row_at(sorted_ == nullptr ? y_.data : static_cast<void*>(sorted_.get()), y_.dtype, columns_, first);
  }
  void scatter() const {
    if (sorted_ == nullptr) return;
    const std::size_t bytes = at(columns_ * (y_.dtype.bits / 8));
    context_.parallel()(order_.rows(), grain(columns_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        std::memcpy(row_at(y_.data, y_.dtype, columns_, order_.row[at(r)]), from(r), bytes);
    });
  }

 private:
  const Tensor& y_;
  const Order& order_;
  const Context& context_;
  Context::Workspace sorted_;
  std::int64_t columns_;
};

void vector_forward(const CallOf<kForward>& c) {
  const Tensor &weight = c.tensor<"weight">(), &y = c.output<"y">();
  const Tensor* bias = c.optional<"bias">();
  const std::int64_t groups = c.dim<"G">(), in = c.dim<"I">(), out = c.dim<"O">();
  if (out == 0) return;
  const Order order(groups_of(c.tensor<"group">()), groups);
  const Sorted x(c.tensor<"x">(), order, c.context());
  const Results results(y, order, c.context());
  for (std::int64_t g = 0; g < groups; ++g) {
    linear::multiply({.rows = order.rows_of(g),
                      .in_features = in,
                      .out_features = out,
                      .x = x.from(order.first_of(g)),
                      .weight = matrix(weight, g, 1, 2),
                      .bias = bias == nullptr ? Rows{} : matrix(*bias, g, 0, 1),
                      .y = results.from(order.first_of(g)),
                      .y_type = y.dtype},
                     c.context(), c.operation());
  }
  results.scatter();
}

// grad_weight (O, I) of a group and, where wanted, grad_bias (O): sums over its rows, the inner dim of these products.
void sum_over_rows(const CallOf<kBackward>& c, std::int64_t g, std::int64_t rows, const Rows& grad_y, const Rows& x) {
  const Tensor& grad_weight = c.output<"grad_weight">();
  const std::int64_t in = c.dim<"I">(), out = c.dim<"O">();
  const Context& context = c.context();
  const Context::Workspace turned = context.workspace((Extent(out + 1) * (rows + 1) * sizeof(float)).bytes());
  auto* columns = reinterpret_cast<float*>(turned.get());  // (O, rows), then a row of ones
  const Rows transposed{grad_y.data, nullptr, grad_y.element_stride, grad_y.stride, grad_y.type};
  MAMBASDK_PICK(linear_widen)({transposed, out, rows, columns}, context.parallel());
  const Rows gradients{columns, nullptr, rows, 1, dtype::f32};
  linear::multiply({.rows = out,
                    .in_features = rows,
                    .out_features = in,
                    .x = gradients,
                    .weight = {x.data, nullptr, x.element_stride, x.stride, x.type},
                    .y = row_at(grad_weight.data, grad_weight.dtype, in, g * out),
                    .y_type = grad_weight.dtype},
                   context, c.operation());
  if (!c.has<"bias">()) return;
  const Tensor& grad_bias = c.output<"grad_bias">();
  float* ones = columns + out * rows;
  for (std::int64_t r = 0; r < rows; ++r) ones[r] = 1.0F;
  linear::multiply({.rows = 1,
                    .in_features = rows,
                    .out_features = out,
                    .x = {ones, nullptr, rows, 1, dtype::f32},
                    .weight = gradients,
                    .y = row_at(grad_bias.data, grad_bias.dtype, out, g),
                    .y_type = grad_bias.dtype},
                   context, c.operation());
}

void vector_backward(const CallOf<kBackward>& c) {
  const Tensor &weight = c.tensor<"weight">(), &grad_x = c.output<"grad_x">();
  const std::int64_t groups = c.dim<"G">(), in = c.dim<"I">(), out = c.dim<"O">();
  for (const Tensor* sums : {&c.output<"grad_weight">(), &c.output<"grad_bias">()})
    if (sums->numel() > 0) std::memset(sums->data, 0, at(sums->nbytes()));  // of groups without rows
  if (in == 0 && out == 0) return;
  const Order order(groups_of(c.tensor<"group">()), groups);
  if (order.rows() == 0) return;
  const Sorted grad_y(c.tensor<"grad_y">(), order, c.context()), x(c.tensor<"x">(), order, c.context());
  const Results results(grad_x, order, c.context());
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t rows = order.rows_of(g), first = order.first_of(g);
    if (rows == 0) continue;
    linear::multiply({.rows = rows,
                      .in_features = out,
                      .out_features = in,
                      .x = grad_y.from(first),
                      .weight = matrix(weight, g, 2, 1),
                      .y = results.from(first),
                      .y_type = grad_x.dtype},
                     c.context(), c.operation());
    sum_over_rows(c, g, rows, grad_y.from(first), x.from(first));
  }
  results.scatter();
}

}  // namespace
}  // namespace grouped_linear

void register_grouped_linear(Registry& registry) {
  using namespace grouped_linear;
  registry.define<kForward>({
      .doc = "y[r] = weight[group[r]] x[r] + bias[group[r]], accumulated in float32: a dense layer whose weights each "
             "row chooses, as the experts of a mixture (arXiv 1701.06538) and the modalities of Mixture-of-Mamba "
             "(arXiv 2501.16295). The rows of a group are one product, and a group without rows costs nothing. A group "
             "outside of 0 to G - 1 is an error.",
      .check = [](const CallOf<kForward>& c) { check(c.inputs_of<kForward>()); },
      .reference = reference_forward,
      .cpu = vector_forward,
  });
  registry.define<kBackward>({
      .doc = "Derivative of grouped_linear.",
      .check = [](const CallOf<kBackward>& c) { check(c.inputs_of<kForward>()); },
      .reference = reference_backward,
      .cpu = vector_backward,
  });
}

}  // namespace mambasdk
