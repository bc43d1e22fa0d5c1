// Any bytes as options, options of a run, boxes and scores of the detection head: an Error, or detections in order that
// its JSON repeats; and suppression that keeps what comparing all boxes with each other keeps.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "detection_head.hpp"
#include "kept_boxes.hpp"
#include "nms.hpp"
#include "seeds.hpp"

namespace vision = mambasdk::vision;
namespace plugin = mambasdk::plugin;

namespace {

// What is left of the input, read from its front; zeros behind its end.
class Bytes {
 public:
  explicit Bytes(std::string_view left) : left_(left) {}
  [[nodiscard]] std::string_view line() {
    const std::string_view found = left_.substr(0, left_.find('\n'));
    left_.remove_prefix(std::min(found.size() + 1, left_.size()));
    return found;
  }
  template <class T>
  [[nodiscard]] T value() {
    T found{};
    const std::size_t count = std::min(sizeof(T), left_.size());
    std::memcpy(&found, left_.data(), count);
    left_.remove_prefix(count);
    return found;
  }
  // Mostly small numbers, so that boxes meet and scores tie; now and then any bits.
  [[nodiscard]] float number() {
    const auto small = value<std::int8_t>();
    return small == 127 ? value<float>() : static_cast<float>(small) / 4.0F;
  }

 private:
  std::string_view left_;
};

// An input by name, which owns its elements.
struct Input {
  template <class T>
  Input(std::string_view name, std::vector<T> values, std::vector<std::int64_t> shape)
      : name(name), tensor(plugin::make_tensor(std::move(values), std::move(shape))) {}
  std::string_view name;
  mambasdk::Tensor tensor;
};

template <class T>
std::vector<T> filled(std::size_t count, T (*next)(Bytes&), Bytes& from) {
  std::vector<T> values(count);
  for (T& value : values) value = next(from);
  return values;
}

std::vector<Input> inputs_of(Bytes& bytes, std::string_view options) {
  const auto form = bytes.value<std::uint8_t>();
  const std::int64_t n = bytes.value<std::uint8_t>() % 40;
  const std::int64_t columns = bytes.value<std::uint8_t>() % 5;
  const std::int64_t scored = n + (bytes.value<std::uint8_t>() == 255 ? 1 : 0);  // now and then another number
  const auto number = [](Bytes& b) { return b.number(); };
  std::vector<std::int64_t> boxes{n, 4}, scores{scored, columns};
  if ((form & 1) != 0) boxes.insert(boxes.begin(), 1), scores.insert(scores.begin(), 1);
  std::vector<Input> made;
  made.emplace_back("boxes", filled<float>(static_cast<std::size_t>(4 * n), number, bytes), std::move(boxes));
  if ((form & 2) != 0) {
    made.emplace_back("scores", filled<float>(static_cast<std::size_t>(scored), number, bytes), std::vector{scored});
    const auto id = [](Bytes& b) { return static_cast<std::int64_t>(b.value<std::int8_t>()); };
    made.emplace_back("classes", filled<std::int64_t>(static_cast<std::size_t>(n), id, bytes), std::vector{n});
  } else {
    const auto count = static_cast<std::size_t>(scored * columns);
    made.emplace_back("scores", filled<float>(count, number, bytes), std::move(scores));
  }
  if ((form & 4) != 0) {
    const auto side = [](Bytes& b) { return static_cast<std::int64_t>(b.value<std::int16_t>()); };
    made.emplace_back("image_size", filled<std::int64_t>(2, side, bytes), std::vector<std::int64_t>{2});
    const auto place = [](Bytes& b) { return static_cast<double>(b.number()); };
    made.emplace_back("image_transform", filled<double>(4, place, bytes), std::vector<std::int64_t>{4});
  }
  if (!options.empty()) {
    made.emplace_back("options", std::vector<std::uint8_t>(options.begin(), options.end()),
                      std::vector{static_cast<std::int64_t>(options.size())});
  }
  return made;
}

using Outputs = std::map<std::string, mambasdk::Tensor>;

Outputs run(vision::ObjectDetection& head, const std::vector<Input>& given) {
  std::vector<mambasdk_named_tensor> named;
  for (const Input& input : given) named.push_back({mambasdk::to_c(input.name), &input.tensor.get()->tensor});
  const mambasdk_context context{};  // the head asks nothing of it
  Outputs made;
  plugin::Emitter emit(
      [](void* user, mambasdk_string name, mambasdk_managed_tensor* tensor) -> mambasdk_status* {
        static_cast<Outputs*>(user)->try_emplace(std::string(mambasdk::to_cpp(name)), tensor);
        return nullptr;
      },
      &made);
  head.run(plugin::Inputs(named.data(), named.size(), context), emit);
  return made;
}

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const Outputs& made) {
  const auto boxes = made.at("boxes").data<float>();
  const auto scores = made.at("scores").data<float>();
  const auto classes = made.at("classes").data<std::int64_t>();
  require(boxes.size() == 4 * scores.size() && classes.size() == scores.size());
  const auto text = made.at("json").data<std::uint8_t>();
  const nlohmann::json said = nlohmann::json::parse(text.begin(), text.end());
  require(said.at("detections").size() == scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    require(i == 0 || scores[i] <= scores[i - 1]);
    require(std::isfinite(boxes[4 * i]) && boxes[4 * i + 2] > boxes[4 * i] && boxes[4 * i + 3] > boxes[4 * i + 1]);
    require(said["detections"][i].at("index").get<std::int64_t>() == classes[i]);
  }
}

// Suppression against one that compares a box with all that were kept.
void suppress(Bytes& bytes) {
  const std::size_t n = 2 * bytes.value<std::uint8_t>();  // so many that there are grids
  const double threshold = static_cast<double>(bytes.value<std::uint8_t>()) / 255.0;
  const float unit = std::ldexp(1.0F, bytes.value<std::int8_t>() / 2);
  std::vector<float> boxes, scores;
  std::vector<std::int64_t> classes;
  for (std::size_t i = 0; i < n; ++i) {
    const float x = unit * bytes.number(), y = unit * bytes.number();
    const float sides[2] = {unit * std::fabs(bytes.number()), unit * std::fabs(bytes.number())};
    const std::array<float, 4> box{x, y, x + sides[0], y + sides[1]};
    if (!std::all_of(box.begin(), box.end(), [](float v) { return std::isfinite(v); })) continue;  // never candidates
    boxes.insert(boxes.end(), box.begin(), box.end());
    scores.push_back(static_cast<float>(bytes.value<std::uint8_t>() % 16));
    classes.push_back(bytes.value<std::uint8_t>() % 3);
  }
  std::vector<std::size_t> order(scores.size()), expected;
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  for (const std::size_t i : order) {
    const bool covered = std::any_of(expected.begin(), expected.end(), [&](std::size_t k) {
      return classes[k] == classes[i] &&
             vision::iou(vision::box_at(&boxes[4 * k]), vision::box_at(&boxes[4 * i])) > threshold;
    });
    if (!covered) expected.push_back(i);
  }
  require(vision::non_maximum_suppression(boxes, scores, classes, threshold, scores.size()) == expected);
}

// Options on a line, those of a run on the next, then the numbers.
std::string seed(const std::string& options, const std::string& of_run, std::uint8_t form, int boxes, int columns) {
  std::string text = options + "\n" + of_run + "\n";
  for (const int byte : {static_cast<int>(form), boxes, columns, 0}) text += static_cast<char>(byte);
  for (int i = 0; i < boxes; ++i) {
    for (const int value : {i % 7, i % 5, 40 + i % 3, 50}) text += static_cast<char>(value);
  }
  for (int i = 0; i < boxes * (columns + 1); ++i) text += static_cast<char>(1 + i % 4);
  return text + std::string(4, '\x01') + std::string(600, '\x05');
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {seed(R"({"kind": "object_detection"})", "", 0, 20, 3),
       seed(R"({"box_format": "cxcywh", "normalized": true, "input_size": [32, 64], "activation": "sigmoid"})",
            R"({"score_threshold": 0.5, "iou_threshold": 0.9, "max_detections": 5, "agnostic": true})", 5, 30, 2),
       seed(R"({"box_format": "xywh", "activation": "softmax", "background": 0, "labels": ["a", "\"b"]})",
            R"({"multi_label": false, "only_classes": [1, 2], "max_candidates": 7})", 4, 12, 4),
       seed("", R"({"iou_threshold": 2})", 6, 9, 1), seed(R"({"boxes": "scores", "scores": "boxes"})", "", 3, 4, 4)});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes({reinterpret_cast<const char*>(data), size});
  try {
    const std::string_view config = bytes.line(), options = bytes.line();
    vision::ObjectDetection head(
        plugin::Config(config, vision::ObjectDetection::kind, std::span(vision::ObjectDetection::options)));
    Bytes numbers = bytes;
    check(run(head, inputs_of(numbers, options)));
  } catch (const mambasdk::Error& error) {
    require(std::string(error.what()).size() <= 600);  // messages name all options, and dump nothing
  }
  suppress(bytes);
  return 0;
}
