#include "label_map.hpp"

#include <algorithm>
#include <cmath>

#include "transposed.hpp"

namespace mambasdk::medical {

namespace {

constexpr std::int64_t kPiece = 1 << 16;
constexpr std::int64_t kMostExtent = INT32_MAX;

template <class T>
std::span<const T> values_of(const plugin::Inputs& inputs, std::string_view name, std::size_t count) {
  const auto values = inputs[name].data<T>();
  if (values.size() != count) {
    plugin::invalid("medical_segmentation: " + std::string(name) + ": expected " + std::to_string(count) +
                    " numbers, as the processor medical_image makes them, got " + std::to_string(values.size()));
  }
  return values;
}

[[noreturn]] void bad(const std::string& what) {
  plugin::invalid("medical_segmentation: " + what + ", expected what the processor medical_image makes");
}

// Channel k of logits on the grid of the box.
void finer(const mambasdk_context& context, const Volume& logits, std::size_t k, const Grid& grid,
           std::span<float> out) {
  const std::size_t size = count_of(logits.shape);
  resample(context, std::span(logits.values).subspan(k * size, size), 1, logits.shape, grid.box.shape(), grid.back,
           out);
}

template <class F>
void for_voxels(const mambasdk_context& context, std::size_t size, F&& f) {
  for_ranges(context, static_cast<std::int64_t>(size), kPiece, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) f(i);
  });
}

}  // namespace

Grid Grid::of(const plugin::Inputs& inputs) {
  Grid grid;
  const auto full = values_of<std::int64_t>(inputs, "volume.full_shape", 3);
  const auto ends = values_of<std::int64_t>(inputs, "volume.crop", 6);
  const auto mm = values_of<double>(inputs, "volume.spacing", 3);
  const auto order = values_of<std::int64_t>(inputs, "volume.transpose", 3);
  const std::int64_t axis = values_of<std::int64_t>(inputs, "volume.axis", 1)[0];
  const std::int64_t axis_order = values_of<std::int64_t>(inputs, "volume.axis_order", 1)[0];
  if (axis < -1 || axis > 2) bad("volume.axis is " + std::to_string(axis));
  if (axis_order != 0 && axis_order != 1 && axis_order != 3) bad("volume.axis_order is " + std::to_string(axis_order));
  std::array<bool, 3> seen{};
  for (std::size_t a = 0; a < 3; ++a) {
    grid.full[a] = full[a];
    grid.box.begin[a] = ends[2 * a], grid.box.end[a] = ends[2 * a + 1];
    grid.spacing[a] = mm[a];
    if (order[a] < 0 || order[a] > 2 || seen[static_cast<std::size_t>(order[a])]) bad("volume.transpose is no order");
    grid.transpose[a] = static_cast<std::size_t>(order[a]);
    seen[grid.transpose[a]] = true;
    if (full[a] > kMostExtent || ends[2 * a] < 0 || ends[2 * a] >= ends[2 * a + 1] || ends[2 * a + 1] > full[a]) {
      bad("volume.crop is no box in volume.full_shape");
    }
  }
  (void)checked_count(grid.full, kMostExtent, "medical_segmentation: volume.full_shape");
  grid.back = {1, static_cast<int>(axis), static_cast<int>(axis_order), false};
  const auto header = inputs["volume.header"].data<std::uint8_t>();
  grid.header.assign(header.begin(), header.end());
  return grid;
}

Shape Grid::file_shape() const {
  return Transposed(full, inverse(transpose)).shape();
}

Spacing Grid::file_spacing() const {
  Spacing out{};
  for (std::size_t a = 0; a < 3; ++a) out[transpose[a]] = spacing[a];
  return out;
}

template <class T>
std::vector<T> Grid::place(std::span<const T> values, T fill) const {
  std::vector<T> whole(count_of(full), fill);
  const Shape size = box.shape();
  auto from = values.begin();
  for (std::int64_t z = box.begin[0]; z < box.end[0]; ++z) {
    for (std::int64_t y = box.begin[1]; y < box.end[1]; ++y) {
      std::copy_n(from, size[2], whole.begin() + (z * full[1] + y) * full[2] + box.begin[2]);
      from += size[2];
    }
  }
  if (transpose == std::array<std::size_t, 3>{0, 1, 2}) return whole;
  std::vector<T> out;
  out.reserve(whole.size());
  Transposed(full, inverse(transpose)).for_each([&](std::size_t i) { out.push_back(whole[i]); });
  return out;
}

template std::vector<std::uint8_t> Grid::place(std::span<const std::uint8_t>, std::uint8_t) const;
template std::vector<std::uint16_t> Grid::place(std::span<const std::uint16_t>, std::uint16_t) const;
template std::vector<float> Grid::place(std::span<const float>, float) const;

std::vector<std::uint16_t> decide(const mambasdk_context& context, const Volume& logits, const Grid& grid,
                                  std::span<const std::int64_t> regions) {
  const std::size_t size = count_of(grid.box.shape());
  std::vector<std::uint16_t> map(size, 0);
  std::vector<float> scores(size), best;
  for (std::size_t k = 0; k < static_cast<std::size_t>(logits.channels); ++k) {
    finer(context, logits, k, grid, scores);
    if (!regions.empty()) {
      const auto value = static_cast<std::uint16_t>(regions[k]);
      for_voxels(context, size, [&](std::size_t i) {
        if (scores[i] > 0) map[i] = value;
      });
    } else if (k == 0) {
      best = scores;
    } else {
      for_voxels(context, size, [&](std::size_t i) {
        if (scores[i] > best[i]) best[i] = scores[i], map[i] = static_cast<std::uint16_t>(k);
      });
    }
  }
  return map;
}

std::vector<float> probabilities(const mambasdk_context& context, const Volume& logits, const Grid& grid,
                                 bool regions) {
  const std::size_t size = count_of(grid.box.shape()), classes = static_cast<std::size_t>(logits.channels);
  std::vector<float> fine(classes * size);
  for (std::size_t k = 0; k < classes; ++k) finer(context, logits, k, grid, std::span(fine).subspan(k * size, size));
  for_voxels(context, size, [&](std::size_t i) {
    if (regions) {
      for (std::size_t k = 0; k < classes; ++k) fine[k * size + i] = 1.0F / (1.0F + std::exp(-fine[k * size + i]));
      return;
    }
    float most = fine[i], sum = 0;
    for (std::size_t k = 1; k < classes; ++k) most = std::max(most, fine[k * size + i]);
    for (std::size_t k = 0; k < classes; ++k) sum += fine[k * size + i] = std::exp(fine[k * size + i] - most);
    for (std::size_t k = 0; k < classes; ++k) fine[k * size + i] /= sum;
  });
  std::vector<float> out;
  out.reserve(classes * count_of(grid.full));
  for (std::size_t k = 0; k < classes; ++k) {
    const auto one =
        grid.place<float>(std::span<const float>(fine).subspan(k * size, size), k == 0 && !regions ? 1.0F : 0.0F);
    out.insert(out.end(), one.begin(), one.end());
  }
  return out;
}

}  // namespace mambasdk::medical
