#include "sliding_window.hpp"

#include <algorithm>
#include <cmath>

#include "tiles.hpp"

namespace mambasdk::medical {

namespace {

constexpr std::int64_t kPlanes = 4;  // of a tile that a thread takes at a time

// Mirrors (count, *shape) over some axes, in place.
void flip(std::vector<float>& values, std::size_t count, const Shape& shape, const std::vector<std::size_t>& axes) {
  for (const std::size_t a : axes) {
    std::size_t outer = count, inner = 1;
    for (std::size_t b = 0; b < 3; ++b) {
      if (b != a) (b < a ? outer : inner) *= static_cast<std::size_t>(shape[b]);
    }
    const auto n = static_cast<std::size_t>(shape[a]);
    for (std::size_t o = 0; o < outer; ++o) {
      float* block = values.data() + o * n * inner;
      for (std::size_t i = 0; i < n / 2; ++i) {
        std::swap_ranges(block + i * inner, block + (i + 1) * inner, block + (n - 1 - i) * inner);
      }
    }
  }
}

// f(offset in the tile, offset in the volume, length) for each row of a tile that meets the volume, in planes [from,
// to).
template <class F>
void for_rows(const Shape& tile, const Shape& shape, const Shape& begin, std::int64_t from, std::int64_t to, F&& f) {
  const std::int64_t x0 = std::max<std::int64_t>(0, -begin[2]), x1 = std::min(tile[2], shape[2] - begin[2]);
  if (x0 >= x1) return;
  for (std::int64_t z = from; z < to; ++z) {
    if (z + begin[0] < 0 || z + begin[0] >= shape[0]) continue;
    for (std::int64_t y = 0; y < tile[1]; ++y) {
      if (y + begin[1] < 0 || y + begin[1] >= shape[1]) continue;
      const std::int64_t there = ((z + begin[0]) * shape[1] + y + begin[1]) * shape[2] + begin[2];
      f(static_cast<std::size_t>((z * tile[1] + y) * tile[2] + x0), static_cast<std::size_t>(there + x0),
        static_cast<std::size_t>(x1 - x0));
    }
  }
}

std::vector<Shape> places_of(const Shape& shape, const Window& w) {
  std::array<std::vector<std::int64_t>, 3> starts;
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t missing = std::max<std::int64_t>(0, w.tile[a] - shape[a]);
    // Along one sample every sample is a tile.
    starts[a] = tile_starts(shape[a] + missing, w.tile[a], w.tile[a] == 1 ? 1.0 : w.step);
    for (std::int64_t& start : starts[a]) start -= missing / 2;
  }
  std::vector<Shape> places;
  for (const std::int64_t z : starts[0]) {
    for (const std::int64_t y : starts[1]) {
      for (const std::int64_t x : starts[2]) places.push_back({z, y, x});
    }
  }
  return places;
}

// The mean logits (K, *tile) of a tile (C, *tile) and its mirror images.
class TileModel {
 public:
  TileModel(plugin::Model& model, std::int64_t channels, const Window& window)
      : model_(model), window_(window), channels_(channels) {
    const Shape& tile = window.tile;
    input_shape_ = {1, channels, tile[0], tile[1], tile[2]};
    if (window.planes) input_shape_.erase(input_shape_.begin() + 2);
  }
  [[nodiscard]] std::int64_t classes() const { return classes_; }

  [[nodiscard]] const std::vector<float>& run(std::vector<float>& tile) {
    bool first = true;
    for (const auto& axes : window_.mirrors) {
      flip(tile, static_cast<std::size_t>(channels_), window_.tile, axes);
      const std::vector<Tensor> made =
          model_.run({{window_.input, TensorRef(std::span(tile), input_shape_)}}, {window_.output});
      flip(tile, static_cast<std::size_t>(channels_), window_.tile, axes);
      const auto logits = checked(made[0]);
      one_.assign(logits.begin(), logits.end());
      flip(one_, static_cast<std::size_t>(classes_), window_.tile, axes);
      if (first) {
        mean_ = one_;
      } else {
        for (std::size_t i = 0; i < mean_.size(); ++i) mean_[i] += one_[i];
      }
      first = false;
    }
    const auto count = static_cast<float>(window_.mirrors.size());
    if (count > 1) {
      for (float& v : mean_) v /= count;
    }
    return mean_;
  }

 private:
  [[nodiscard]] std::span<const float> checked(const Tensor& made) {
    const auto shape = made.shape();
    bool fits = shape.size() == input_shape_.size() && shape[0] == 1 && shape[1] >= 1;
    for (std::size_t i = 2; fits && i < shape.size(); ++i) fits = shape[i] == input_shape_[i];
    if (!fits || (classes_ != 0 && shape[1] != classes_)) {
      plugin::invalid("medical_segmentation: " + window_.output + ": expected f32 (1, K, tile) of the tile " +
                      plugin::to_text(window_.tile) + ", got " + plugin::to_text(shape));
    }
    classes_ = shape[1];
    const auto values = made.data<float>();
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
      plugin::invalid("medical_segmentation: " + window_.output +
                      ": not all of the model's logits are finite; look at its weights and at the image's intensities");
    }
    return values;
  }

  plugin::Model& model_;
  const Window& window_;
  std::int64_t channels_;
  std::int64_t classes_ = 0;
  std::vector<std::int64_t> input_shape_;
  std::vector<float> one_, mean_;
};

}  // namespace

Volume predict(const mambasdk_context& context, plugin::Model& model, std::span<const float> volume,
               std::int64_t channels, const Shape& shape, const Window& window) {
  const Shape& tile = window.tile;
  const std::size_t size = count_of(shape), tile_size = count_of(tile);
  const std::vector<float> weights =
      window.gaussian ? gaussian_map(tile, kSigmaScale) : std::vector<float>(tile_size, 1.0F);
  TileModel tiles(model, channels, window);
  Volume out{0, shape, {}};
  std::vector<float> seen(size, 0.0F);
  std::vector<float> piece(static_cast<std::size_t>(channels) * tile_size);
  for (const Shape& begin : places_of(shape, window)) {
    std::fill(piece.begin(), piece.end(), 0.0F);
    for_rows(tile, shape, begin, 0, tile[0], [&](std::size_t in_tile, std::size_t there, std::size_t length) {
      for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
        std::copy_n(&volume[c * size + there], length, &piece[c * tile_size + in_tile]);
      }
    });
    const std::vector<float>& logits = tiles.run(piece);
    if (out.channels == 0) {
      out.channels = tiles.classes();
      const std::int64_t extents[] = {out.channels, shape[0], shape[1], shape[2]};
      out.values.resize(
          static_cast<std::size_t>(checked_count(extents, INT64_MAX, "medical_segmentation: the logits")));
    }
    const auto classes = static_cast<std::size_t>(out.channels);
    for_ranges(context, tile[0], kPlanes, [&](std::int64_t from, std::int64_t to) {
      for_rows(tile, shape, begin, from, to, [&](std::size_t in_tile, std::size_t there, std::size_t length) {
        const float* w = &weights[in_tile];
        for (std::size_t k = 0; k < classes; ++k) {
          const float* made = &logits[k * tile_size + in_tile];
          float* sum = &out.values[k * size + there];
          for (std::size_t i = 0; i < length; ++i) sum[i] += made[i] * w[i];
        }
        for (std::size_t i = 0; i < length; ++i) seen[there + i] += w[i];
      });
    });
  }
  for_ranges(context, static_cast<std::int64_t>(size), 1 << 16, [&](std::int64_t from, std::int64_t to) {
    for (std::size_t k = 0; k < static_cast<std::size_t>(out.channels); ++k) {
      for (auto i = static_cast<std::size_t>(from); i < static_cast<std::size_t>(to); ++i)
        out.values[k * size + i] /= seen[i];
    }
  });
  return out;
}

}  // namespace mambasdk::medical
