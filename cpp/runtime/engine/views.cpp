#include "runtime/engine/views.hpp"

#include <cstring>

#include "core/extent.hpp"

namespace mambasdk::runtime {

namespace {
std::size_t dim_index(const Tensor& t, std::int64_t dim, const char* what) {
  const std::int64_t d = dim < 0 ? dim + t.ndim : dim;
  if (d < 0 || d >= t.ndim) {
    fail(ErrorCode::invalid_argument, what, ": dim ", dim, " of a tensor with ", t.ndim, " dims");
  }
  return static_cast<std::size_t>(d);
}

// How many extents are 0, and the product of the others.
struct EmptyShape {
  std::int64_t empty = 0;
  Extent rest = 1;

  void add(std::int64_t extent) {
    if (extent == 0) {
      ++empty;
    } else {
      rest *= extent;
    }
  }
};

// The extent of -1 beside empty dims, which any would fit: 0 where t has more empty dims than are named, else what it
// would be without the empty ones, so that (0, L, D) as (0, 1, -1, D) has L.
std::int64_t inferred_of_empty(const Tensor& t, std::span<const std::int64_t> shape) {
  EmptyShape have, named;
  for (int d = 0; d < t.ndim; ++d) have.add(t.size(d));
  for (const std::int64_t extent : shape) {
    if (extent >= 0) named.add(extent);
  }
  if (have.empty > named.empty) return 0;
  if (have.empty < named.empty || have.rest.value() % named.rest.value() != 0) {
    fail(ErrorCode::invalid_argument, "reshape: ", t.shape_text(), " does not divide by ", named.rest.value());
  }
  return have.rest.value() / named.rest.value();
}
}  // namespace

Tensor slice_view(const Tensor& t, std::int64_t dim, std::int64_t start, std::int64_t length, std::int64_t step) {
  const std::size_t d = dim_index(t, dim, "slice");
  const std::int64_t extent = t.shape[d];
  const std::int64_t first = start < 0 ? start + extent : start;
  const bool inside = first >= 0 && first <= extent && length >= 0 && step > 0 &&
                      (length == 0 || (first < extent && length - 1 <= (extent - 1 - first) / step));
  if (!inside) {
    fail(ErrorCode::invalid_argument, "slice: [", start, ", +", length, step != 1 ? concat(" by ", step) : "",
         ") is outside extent ", extent, " of dim ", d, " of ", t.shape_text());
  }
  Tensor out = t;
  out.shape[d] = length;
  if (out.data != nullptr) {
    out.data = static_cast<std::byte*>(t.data) + (Extent(first) * t.strides[d] * element_bytes(t.dtype)).value();
  }
  if (length > 1) out.strides[d] = (Extent(t.strides[d]) * step).value();
  return out;
}

Tensor permute_view(const Tensor& t, std::span<const std::int64_t> dims) {
  if (static_cast<int>(dims.size()) != t.ndim) {
    fail(ErrorCode::invalid_argument, "permute: ", dims.size(), " dims named for ", t.shape_text());
  }
  Tensor out = t;
  std::array<bool, kMaxDims> used{};
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const std::size_t d = dim_index(t, dims[i], "permute");
    if (used[d]) fail(ErrorCode::invalid_argument, "permute: dim ", d, " is named twice");
    used[d] = true;
    out.shape[i] = t.shape[d];
    out.strides[i] = t.strides[d];
  }
  return out;
}

Tensor reshape_view(const Tensor& t, std::span<const std::int64_t> shape) {
  if (shape.size() > kMaxDims) fail(ErrorCode::invalid_argument, "reshape: more than ", kMaxDims, " dims");
  Tensor out = t;
  out.ndim = static_cast<int>(shape.size());
  const std::int64_t count = t.numel();
  Extent named = 1;
  int inferred = -1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1 && inferred < 0) {
      inferred = static_cast<int>(i);
    } else if (shape[i] < 0) {
      fail(ErrorCode::invalid_argument, "reshape: extent ", shape[i], " at ", i);
    } else {
      named *= shape[i];
    }
    out.shape[i] = shape[i];
  }
  const std::int64_t known = named.value();
  if (inferred >= 0 && known == 0) {
    out.shape[static_cast<std::size_t>(inferred)] = inferred_of_empty(t, shape);
  } else if (inferred >= 0) {
    if (count % known != 0) {
      fail(ErrorCode::invalid_argument, "reshape: ", t.shape_text(), " does not divide by ", known);
    }
    out.shape[static_cast<std::size_t>(inferred)] = count / known;
  } else if (known != count) {
    fail(ErrorCode::invalid_argument, "reshape: ", t.shape_text(), " has ", count, " elements, the new shape ", known);
  }
  if (count == 0) {
    out.strides = Tensor::contiguous(nullptr, t.dtype, out.shape.data(), out.ndim).strides;
    return out;
  }

  // Walk old dims from the last: each run of dims that lies in one arithmetic progression may be split anew.
  int to = out.ndim - 1;
  int from = t.ndim - 1;
  while (from >= 0) {
    if (t.size(from) == 1) {
      --from;
      continue;
    }
    Extent run = t.size(from);
    const Extent base = t.stride(from);
    while (from > 0 && (t.size(from - 1) == 1 || Extent(t.stride(from - 1)) == run * base)) {
      run *= t.size(from - 1);
      --from;
    }
    Extent made = 1;
    while (to >= 0 && made < run) {
      out.strides[static_cast<std::size_t>(to)] = (base * made).value();
      made *= out.size(to);
      --to;
    }
    if (made != run) {
      fail(ErrorCode::invalid_argument, "reshape: the strides of ", t.shape_text(),
           " do not allow this as a view; reshape before slicing or permuting");
    }
    --from;
  }
  for (; to >= 0; --to) out.strides[static_cast<std::size_t>(to)] = 1;  // only extents of 1 are left
  return out;
}

Tensor expand_view(const Tensor& t, std::span<const std::int64_t> shape) {
  const int added = static_cast<int>(shape.size()) - t.ndim;
  if (shape.size() > kMaxDims || added < 0) {
    fail(ErrorCode::invalid_argument, "expand: ", shape.size(), " extents for ", t.shape_text(), ", expected ", t.ndim,
         " to ", kMaxDims);
  }
  Tensor out = t;
  out.ndim = static_cast<int>(shape.size());
  Extent count = 1;
  for (int d = 0; d < out.ndim; ++d) {
    const auto i = static_cast<std::size_t>(d);
    const bool is_new = d < added;
    const std::int64_t own = is_new ? 1 : t.size(d - added);
    const std::int64_t extent = shape[i] == -1 && !is_new ? own : shape[i];
    if (extent < 0 || (own != 1 && extent != own)) {
      fail(ErrorCode::invalid_argument, "expand: extent ", shape[i], " at ", d, " of ", t.shape_text(),
           is_new ? ", expected at least 0 for a new dim" : ", expected the dim's own extent, or any where that is 1");
    }
    out.shape[i] = extent;
    out.strides[i] = is_new || (own == 1 && extent != 1) ? 0 : t.stride(d - added);
    if (extent > 0 && count.value() > kMostElements / extent) {
      fail(ErrorCode::invalid_argument, "expand: ", t.shape_text(), " to more than ", kMostElements, " elements");
    }
    if (extent > 0) count *= extent;
  }
  return out;
}

void copy_strided(const Tensor& from, void* to) {
  if (from.numel() == 0) return;
  if (from.is_contiguous()) {
    std::memcpy(to, from.data, static_cast<std::size_t>(from.nbytes()));
    return;
  }
  const std::int64_t size = element_bytes(from.dtype);
  std::array<std::int64_t, kMaxDims> at{};
  auto* out = static_cast<std::byte*>(to);
  for (std::int64_t n = from.numel(); n > 0; --n, out += size) {
    std::int64_t offset = 0;
    for (int d = 0; d < from.ndim; ++d) offset += at[static_cast<std::size_t>(d)] * from.stride(d);
    std::memcpy(out, static_cast<const std::byte*>(from.data) + offset * size, static_cast<std::size_t>(size));
    for (int d = from.ndim - 1; d >= 0 && ++at[static_cast<std::size_t>(d)] == from.size(d); --d) {
      at[static_cast<std::size_t>(d)] = 0;
    }
  }
}

}  // namespace mambasdk::runtime
