#include "segmentation_head.hpp"

#include <atomic>
#include <cmath>
#include <numeric>
#include <utility>

#include "image.hpp"

namespace mambasdk::vision {

namespace {

constexpr std::int64_t kMaxClasses = 1 << 20;

[[noreturn]] void bad(const std::string& what, const std::string& expected, const std::string& got) {
  plugin::invalid("semantic_segmentation: " + what + ": expected " + expected + ", got " + got);
}

[[noreturn]] void bad_shape(const std::string& name, const char* expected, std::span<const std::int64_t> shape) {
  bad(name, expected, plugin::to_text(shape));
}

Colour parse_colour(const std::string& text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  Colour colour{};
  bool good = text.size() == 7 && text[0] == '#';
  for (std::size_t i = 0; good && i < 3; ++i) {
    const int high = digit(text[1 + 2 * i]);
    const int low = digit(text[2 + 2 * i]);
    good = high >= 0 && low >= 0;
    if (good) colour[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  if (!good) bad("palette", "colours as \"#ff8000\"", plugin::quoted(std::string_view(text)));
  return colour;
}

// PASCAL VOC's colours: the bits of the index, three at a time, from the highest bit of red, green and blue down.
Colour voc_colour(std::size_t index) {
  Colour colour{};
  for (int bit = 7; bit >= 0 && index != 0; --bit, index >>= 3) {
    for (std::size_t c = 0; c < 3; ++c) colour[c] |= static_cast<std::uint8_t>((index >> c & 1) << bit);
  }
  return colour;
}

std::string hex(const Colour& colour) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text = "#";
  for (const std::uint8_t v : colour) {
    text += digits[v >> 4];
    text += digits[v & 15];
  }
  return text;
}

// The two cells beside a place among `count` cells, and the weight of the second; none where it is outside them.
struct Between {
  std::int64_t first = -1, second = -1;
  float weight = 0;
};

Between between(std::int64_t pixel, double scale, double offset, std::int64_t count) {
  const double place = static_cast<double>(pixel) * scale + offset;  // 0 is the centre of the first cell
  if (!(place >= -0.5 && place <= static_cast<double>(count) - 0.5)) return {};
  const double inside = std::clamp(place, 0.0, static_cast<double>(count - 1));
  const auto first = static_cast<std::int64_t>(inside);
  return {first, std::min(first + 1, count - 1), static_cast<float>(inside - static_cast<double>(first))};
}

// The classes of a row: cells f32 (w, C), already interpolated between rows of logits.
template <class Index>
void classify_row(const std::vector<float>& cells, std::size_t classes, const std::vector<Between>& columns,
                  Index ignore, Index* out) {
  for (std::size_t x = 0; x < columns.size(); ++x) {
    out[x] = ignore;
    if (columns[x].first < 0) continue;
    const float* a = &cells[static_cast<std::size_t>(columns[x].first) * classes];
    const float* b = &cells[static_cast<std::size_t>(columns[x].second) * classes];
    const float w = columns[x].weight;
    float best = -HUGE_VALF;
    for (std::size_t c = 0; c < classes; ++c) {
      const float v = a[c] + (b[c] - a[c]) * w;
      if (v > best) best = v, out[x] = static_cast<Index>(c);
    }
  }
}

struct Logits {
  std::span<const float> values;  // (classes, height, width)
  std::int64_t classes, height, width;
};

// Rows are independent, and a thread holds one row of cells at a time.
template <class Index>
std::vector<Index> classify(const mambasdk_context& context, const Logits& logits, const std::vector<Between>& rows,
                            const std::vector<Between>& columns, Index ignore) {
  const std::size_t width = columns.size();
  const auto classes = static_cast<std::size_t>(logits.classes);
  const auto w = static_cast<std::size_t>(logits.width);
  const std::size_t plane = w * static_cast<std::size_t>(logits.height);
  std::vector<Index> map(rows.size() * width, ignore);
  std::atomic<bool> out_of_memory = false;
  plugin::parallel_for(context, static_cast<std::int64_t>(rows.size()), 8,
                       [&](std::int64_t begin, std::int64_t end) noexcept {
                         try {
                           std::vector<float> cells(w * classes);  // (w, C)
                           for (auto y = static_cast<std::size_t>(begin); y < static_cast<std::size_t>(end); ++y) {
                             if (rows[y].first < 0) continue;
                             const float* a = logits.values.data() + static_cast<std::size_t>(rows[y].first) * w;
                             const float* b = logits.values.data() + static_cast<std::size_t>(rows[y].second) * w;
                             for (std::size_t c = 0; c < classes; ++c, a += plane, b += plane) {
                               for (std::size_t x = 0; x < w; ++x)
                                 cells[x * classes + c] = a[x] + (b[x] - a[x]) * rows[y].weight;
                             }
                             classify_row(cells, classes, columns, ignore, &map[y * width]);
                           }
                         } catch (const std::bad_alloc&) {
                           out_of_memory = true;
                         }
                       });
  if (out_of_memory) throw std::bad_alloc();
  return map;
}

template <class Index>
std::vector<std::int64_t> counts_of(const std::vector<Index>& map, std::int64_t classes) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(classes));
  for (const Index index : map) {
    const auto i = static_cast<std::int64_t>(index);
    if (i >= 0 && i < classes) ++counts[static_cast<std::size_t>(i)];
  }
  return counts;
}

template <class Index>
void write_runs(plugin::JsonWriter& json, const std::vector<Index>& map) {
  json.key("runs").open('[');
  for (std::size_t begin = 0, end = 0; begin < map.size(); begin = end) {
    while (end < map.size() && map[end] == map[begin]) ++end;
    json.open('[').number(static_cast<std::int64_t>(map[begin]));
    json.number(static_cast<std::int64_t>(end - begin)).close(']');
  }
  json.close(']');
}

}  // namespace

SemanticSegmentation::SemanticSegmentation(const plugin::Config& config) {
  labels_ = config.strings("labels");
  for (const std::string& text : config.strings("palette")) palette_.push_back(parse_colour(text));
  has_ignore_ = config.has("ignore");
  ignore_ = config.integer("ignore", 255, INT32_MIN, INT32_MAX);
  runs_ = config.flag("runs", false);
  max_pixels_ = config.integer("max_pixels", std::int64_t{1} << 26, 1, std::int64_t{1} << 32);
  input_ = config.text("input", "logits");
  image_ = config.text("image", "image");
}

std::int64_t SemanticSegmentation::ignored(std::int64_t classes) const {
  const std::int64_t ignore = has_ignore_ || classes <= 255 ? ignore_ : -1;
  if (ignore >= 0 && ignore < classes) {
    bad("ignore", "no index of the " + std::to_string(classes) + " classes", std::to_string(ignore));
  }
  return ignore;
}

SemanticSegmentation::Grid SemanticSegmentation::grid(const plugin::Inputs& inputs, std::int64_t height,
                                                      std::int64_t width) const {
  Grid g;
  g.height = height, g.width = width;
  if (inputs.has("image_size")) {
    const auto v = inputs["image_size"].data<std::int64_t>();
    if (v.size() != 2) bad_shape("image_size", "(2)", inputs["image_size"].shape());
    g.height = v[0], g.width = v[1];
  }
  if (g.height < 1 || g.width < 1 || g.height > kMaxSide || g.width > kMaxSide || g.height * g.width > max_pixels_) {
    bad("image_size", "height and width of 1 or more, of at most " + std::to_string(max_pixels_) + " pixels",
        std::to_string(g.height) + " x " + std::to_string(g.width));
  }
  const auto h = static_cast<double>(height);
  const auto w = static_cast<double>(width);
  // In cells from the edge: edge = scale * (pixel + 0.5) + offset.
  g.scale_y = h / static_cast<double>(g.height), g.scale_x = w / static_cast<double>(g.width);
  if (inputs.has("image_transform")) {
    const auto v = inputs["image_transform"].data<double>();  // scale_x, scale_y, offset_x, offset_y
    if (v.size() != 4) bad_shape("image_transform", "(4)", inputs["image_transform"].shape());
    for (std::size_t i = 0; i < 4; ++i) {
      if (!std::isfinite(v[i]) || (i < 2 && !(v[i] > 0))) {
        bad("image_transform", "positive scales and finite offsets", "scale or offset " + std::to_string(v[i]));
      }
    }
    const auto shape = inputs[image_].shape();
    if (shape.size() != 4 || shape[2] < 1 || shape[3] < 1)
      bad_shape(image_, "(1, 3, H, W), as the model saw it", shape);
    const double cells_y = h / static_cast<double>(shape[2]);
    const double cells_x = w / static_cast<double>(shape[3]);
    g.scale_x = cells_x / v[0], g.scale_y = cells_y / v[1];
    g.offset_x = -cells_x * v[2] / v[0], g.offset_y = -cells_y * v[3] / v[1];
  }
  g.offset_y += g.scale_y * 0.5 - 0.5, g.offset_x += g.scale_x * 0.5 - 0.5;
  return g;
}

void SemanticSegmentation::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  bool runs = runs_;
  if (inputs.has("options")) {
    runs = plugin::Config(inputs["options"].bytes(), kind, {"runs"}).flag("runs", runs);
  }
  const TensorView view = inputs[input_];
  auto shape = view.shape();
  if (shape.size() == 4 && shape[0] == 1) shape = shape.subspan(1);
  if (shape.size() != 3 || view.size() == 0 || shape[0] > kMaxClasses || shape[1] > kMaxSide || shape[2] > kMaxSide) {
    bad_shape(input_, "f32 (1, C, h, w) or (C, h, w), with elements", view.shape());
  }
  const Logits logits{view.data<float>(), shape[0], shape[1], shape[2]};
  for (const auto& [name, count] : {std::pair("labels", labels_.size()), std::pair("palette", palette_.size())}) {
    if (count != 0 && static_cast<std::int64_t>(count) != logits.classes) {
      bad(name, "one for each of " + std::to_string(logits.classes) + " classes", std::to_string(count));
    }
  }
  const std::int64_t ignore = ignored(logits.classes);
  const Grid g = grid(inputs, logits.height, logits.width);
  std::vector<Between> rows(static_cast<std::size_t>(g.height));
  std::vector<Between> columns(static_cast<std::size_t>(g.width));
  for (std::int64_t y = 0; y < g.height; ++y) {
    rows[static_cast<std::size_t>(y)] = between(y, g.scale_y, g.offset_y, logits.height);
  }
  for (std::int64_t x = 0; x < g.width; ++x) {
    columns[static_cast<std::size_t>(x)] = between(x, g.scale_x, g.offset_x, logits.width);
  }

  std::vector<Colour> palette = palette_;
  for (std::size_t c = palette.size(); c < static_cast<std::size_t>(logits.classes); ++c) {
    palette.push_back(voc_colour(c));
  }
  plugin::JsonWriter json;
  json.open('{').key("height").number(g.height).key("width").number(g.width);
  const auto finish = [&](auto map) {
    const std::vector<std::int64_t> counts = counts_of(map, logits.classes);
    const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    std::vector<std::size_t> order;
    for (std::size_t c = 0; c < counts.size(); ++c) {
      if (counts[c] != 0) order.push_back(c);
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return counts[a] > counts[b]; });
    json.key("classes").open('[');
    for (const std::size_t c : order) {
      json.open('{').key("label").string(c < labels_.size() ? labels_[c] : std::to_string(c));
      json.key("index").number(static_cast<std::int64_t>(c));
      json.key("share").number(static_cast<double>(counts[c]) / static_cast<double>(total));
      json.key("pixels").number(counts[c]);
      json.key("color").string(hex(palette[c])).close('}');
    }
    json.close(']');
    if (runs) write_runs(json, map);
    emit.json(json.close('}').text());
    emit("class_map", std::move(map), {g.height, g.width});
  };
  if (logits.classes <= 255 && ignore >= 0 && ignore <= 255) {
    finish(classify(inputs.context(), logits, rows, columns, static_cast<std::uint8_t>(ignore)));
  } else {
    finish(classify(inputs.context(), logits, rows, columns, static_cast<std::int32_t>(ignore)));
  }
  std::vector<std::uint8_t> colours;
  for (const Colour& colour : palette) colours.insert(colours.end(), colour.begin(), colour.end());
  emit("palette", std::move(colours), {logits.classes, 3});
}

}  // namespace mambasdk::vision
