#include "segmentation_head.hpp"

#include <algorithm>
#include <numeric>

#include "label_map.hpp"
#include "nifti.hpp"
#include "options.hpp"
#include "png.hpp"

namespace mambasdk::medical {

namespace {

constexpr std::string_view kOptions[] = {"patch_size", "labels",        "regions_class_order",
                                         "step",       "mirror_axes",   "mirror",
                                         "gaussian",   "probabilities", "compress",
                                         "input",      "output",        "configuration",
                                         "dataset"};
constexpr std::int64_t kMostExtent = 1 << 20;
constexpr std::int64_t kMostValue = 65535;

[[noreturn]] void bad(const std::string& what, const std::string& expected, const std::string& got) {
  plugin::invalid("medical_segmentation: " + what + ": expected " + expected + ", got " + got);
}

std::span<const std::int64_t> shape_of(const mambasdk_tensor_spec& spec) {
  return {spec.shape, static_cast<std::size_t>(spec.ndim)};
}

const mambasdk_tensor_spec& find(std::span<const mambasdk_tensor_spec> specs, const std::string& name,
                                 const char* what) {
  const auto found = std::find_if(specs.begin(), specs.end(), [&](const auto& s) { return to_cpp(s.name) == name; });
  if (found == specs.end()) plugin::invalid("medical_segmentation: the model has no " + std::string(what) + " " + name);
  return *found;
}

// Every set of the axes, the empty one first, then by size.
std::vector<std::vector<std::size_t>> subsets(const std::vector<std::size_t>& axes) {
  std::vector<std::vector<std::size_t>> sets(std::size_t{1} << axes.size());
  for (std::size_t bits = 0; bits < sets.size(); ++bits) {
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if ((bits >> i & 1) != 0) sets[bits].push_back(axes[i]);
    }
  }
  std::stable_sort(sets.begin(), sets.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  return sets;
}

}  // namespace

MedicalSegmentation::MedicalSegmentation(std::string_view text, std::string_view) {
  ListSizes sizes;
  const plugin::Config config(without_empty_lists(text, kind, sizes), kind, kOptions);
  patch_ = config.integer_list("patch_size", 1, kMostExtent);
  if (!patch_.empty() && patch_.size() != 2 && patch_.size() != 3) {
    bad("patch_size", "(H, W) or (D, H, W)", plugin::to_text(patch_));
  }
  labels_ = config.strings("labels");
  regions_ = config.integer_list("regions_class_order", 0, kMostValue);
  window_.step = config.number("step", 0.5, 1e-3, 1);
  mirror_axes_ = config.integer_list("mirror_axes", 0, 2);
  auto sorted = mirror_axes_;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    bad("mirror_axes", "each axis once", plugin::to_text(mirror_axes_));
  }
  mirror_ = config.flag("mirror", true);
  window_.gaussian = config.flag("gaussian", true);
  probabilities_ = config.flag("probabilities", false);
  compress_ = config.flag("compress", true);
  window_.input = config.text("input", "image");
  window_.output = config.text("output", "logits");
}

void MedicalSegmentation::attach(plugin::Model& model) {
  const auto input = shape_of(find(model.inputs(), window_.input, "input"));
  (void)find(model.outputs(), window_.output, "output");
  if (input.size() != 4 && input.size() != 5) {
    bad("the model's " + window_.input, "(1, C, H, W) or (1, C, D, H, W)", plugin::to_text(input));
  }
  const auto extents = input.subspan(2);
  if (patch_.empty()) patch_.assign(extents.begin(), extents.end());
  bool fits = patch_.size() == extents.size();
  for (std::size_t a = 0; fits && a < patch_.size(); ++a) {
    fits = patch_[a] >= 1 && patch_[a] <= kMostExtent && (extents[a] == patch_[a] || extents[a] == -1);
  }
  if (!fits) {
    bad("patch_size", "that of the model's " + window_.input + " " + plugin::to_text(input), plugin::to_text(patch_));
  }
  window_.planes = patch_.size() == 2;
  window_.tile = window_.planes ? Shape{1, patch_[0], patch_[1]} : Shape{patch_[0], patch_[1], patch_[2]};
  (void)checked_count(window_.tile, kMaxVoxels, "medical_segmentation: patch_size");
  for (const std::int64_t axis : mirror_axes_) {
    if (axis >= static_cast<std::int64_t>(patch_.size())) {
      bad("mirror_axes", "axes of the patch " + plugin::to_text(patch_), plugin::to_text(mirror_axes_));
    }
  }
}

MedicalSegmentation::Run MedicalSegmentation::settings(const plugin::Inputs& inputs) const {
  Run run{window_, probabilities_, compress_};
  bool mirror = mirror_;
  if (inputs.has("options")) {
    const plugin::Config options(inputs["options"].bytes(), kind, {"step", "mirror", "probabilities", "compress"});
    run.window.step = options.number("step", run.window.step, 1e-3, 1);
    mirror = options.flag("mirror", mirror);
    run.probabilities = options.flag("probabilities", run.probabilities);
    run.compress = options.flag("compress", run.compress);
  }
  if (mirror) {
    std::vector<std::size_t> axes;
    for (const std::int64_t axis : mirror_axes_)
      axes.push_back(static_cast<std::size_t>(axis) + (window_.planes ? 1 : 0));
    run.window.mirrors = subsets(axes);
  }
  return run;
}

template <class T>
void MedicalSegmentation::finish(std::vector<T> map, const Grid& grid, const Run& run, plugin::Emitter& emit) const {
  const Shape shape = grid.file_shape();
  const Spacing spacing = grid.file_spacing();
  // Without names, whatever values there are.
  const std::size_t channels = !regions_.empty() ? regions_.size()
                               : labels_.empty() ? std::size_t{kMostValue} + 1
                                                 : labels_.size();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(kMostValue) + 1, 0);
  for (const T value : map) ++counts[value];
  plugin::JsonWriter json;
  json.open('{').key("shape").open('[');
  for (const std::int64_t n : shape) json.number(n);
  json.close(']').key("spacing").open('[');
  for (const double mm : spacing) json.number(mm);
  json.close(']').key("labels").open('[');
  for (std::size_t k = regions_.empty() ? 1 : 0; k < channels; ++k) {
    const std::size_t value = regions_.empty() ? k : static_cast<std::size_t>(regions_[k]);
    if (labels_.empty() && counts[value] == 0) continue;
    const auto voxels = counts[value];
    json.open('{').key("label").string(k < labels_.size() ? labels_[k] : std::to_string(value));
    json.key("value").number(static_cast<std::int64_t>(value)).key("voxels").number(voxels);
    json.key("share").number(static_cast<double>(voxels) / static_cast<double>(map.size()));
    if (!grid.header.empty()) {
      json.key("volume_ml").number(static_cast<double>(voxels) * spacing[0] * spacing[1] * spacing[2] / 1000);
    }
    json.close('}');
  }
  emit.json(json.close(']').close('}').text());
  std::vector<std::uint8_t> file;
  const std::span<const T> values(map);
  if (!grid.header.empty()) {
    file = write_nifti<T>(NiftiHeader::parse(grid.header), shape, values, run.compress);
  } else if (shape[0] == 1) {
    file = write_png<T>(shape[1], shape[2], values);
  } else {  // an array without a file: its spacing is all there is to say
    file = write_nifti<T>(NiftiHeader(shape, spacing, {}), shape, values, run.compress);
  }
  const auto size = static_cast<std::int64_t>(file.size());
  emit("label_map", std::move(map), {shape[0], shape[1], shape[2]});
  emit("label_file", std::move(file), {size});
}

void MedicalSegmentation::run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit) {
  const mambasdk_context& context = inputs.context();
  const Run run = settings(inputs);
  const TensorView view = inputs["volume"];
  const auto shape = view.shape();
  if (shape.size() != 4 || *std::min_element(shape.begin(), shape.end()) < 1) {
    bad("volume", "f32 (C, D, H, W)", plugin::to_text(shape));
  }
  const Grid grid = Grid::of(inputs);
  const auto model_channels = shape_of(find(model.inputs(), window_.input, "input"))[1];
  if (model_channels != -1 && model_channels != shape[0]) {
    bad("the image", std::to_string(model_channels) + " channels, which the model takes", std::to_string(shape[0]));
  }
  Volume logits = predict(context, model, view.data<float>(), shape[0], {shape[1], shape[2], shape[3]}, run.window);
  if (logits.channels > kMostValue) bad(window_.output, "at most 65535 channels", std::to_string(logits.channels));
  for (const auto& [name, count] :
       {std::pair("labels", labels_.size()), std::pair("regions_class_order", regions_.size())}) {
    if (count != 0 && static_cast<std::int64_t>(count) != logits.channels) {
      bad(name, "one for each of " + std::to_string(logits.channels) + " channels", std::to_string(count));
    }
  }
  const std::vector<std::uint16_t> map = decide(context, logits, grid, regions_);
  if (run.probabilities) {
    const Shape full = grid.file_shape();
    emit("probabilities", probabilities(context, logits, grid, !regions_.empty()),
         {logits.channels, full[0], full[1], full[2]});
  }
  const std::int64_t largest =
      regions_.empty() ? logits.channels - 1 : *std::max_element(regions_.begin(), regions_.end());
  logits = {};
  if (largest > 255) return finish(grid.place<std::uint16_t>(map, 0), grid, run, emit);
  const std::vector<std::uint8_t> small(map.begin(), map.end());
  finish(grid.place<std::uint8_t>(small, 0), grid, run, emit);
}

}  // namespace mambasdk::medical
