// From pictures to tracks, from C++ and without Python: a detector package on every frame, a tracker on what it finds.
//
//   track_cpp DETECTOR FRAME… --plugin libmambasdk_vision.so --plugin libmambasdk_tracking.so
//             [--motion PACKAGE] [--conf SCORE] [--every N]
//
// FRAME: PNG and JPEG files of one size, in order. Writes MOTChallenge's result lines to stdout, the same as
// `mambasdk track FOLDER --detector DETECTOR` does. --motion: a mambatrack package; without it a Kalman filter.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mambasdk/mambasdk.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using mambasdk::Processor;
using mambasdk::Result;
using mambasdk::TensorRef;

struct Arguments {
  std::vector<std::string> names;  // the detector, then the frames
  std::string motion;
  std::string conf;
  std::int64_t every = 1;
};

Arguments parse(int argc, char** argv) {
  Arguments found;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name.rfind("--", 0) != 0) {
      found.names.push_back(name);
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument(name + " needs a value");
    const std::string value = argv[++i];
    if (name == "--plugin") {
      mambasdk::load_plugin(value);
    } else if (name == "--motion") {
      found.motion = value;
    } else if (name == "--conf") {
      found.conf = std::to_string(std::stod(value));
    } else if (name == "--every") {
      found.every = std::stoll(value);
    } else {
      throw std::invalid_argument("no such option: " + name);
    }
  }
  if (found.every < 1) throw std::invalid_argument("--every: expected 1 or more");
  return found;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A Kalman filter, or the model of `package`, whose predictions are fractions of the image: it needs the image's size.
Processor make_tracker(const std::string& package, const std::string& first_frame) {
  if (package.empty()) return Processor("tracker", "{}", "", mambasdk::Role::head);
  Processor image("image", R"({"size": 1, "resize": "exact"})");
  const Result made = image.run({{"image", TensorRef::bytes(first_frame)}});
  const auto size = made["image_size"].data<std::int64_t>();  // height, width
  return Processor::head_of(
      mambasdk::Model(package), "tracker",
      R"({"motion": "model", "image_size": [)" + std::to_string(size[1]) + ", " + std::to_string(size[0]) + "]}");
}

// f32 (n, 6): x1, y1, x2, y2, score, class; from what the head `object_detection` emits.
std::vector<float> rows_of(const Result& found) {
  const auto boxes = found["boxes"].data<float>();             // (n, 4)
  const auto scores = found["scores"].data<float>();           // (n)
  const auto classes = found["classes"].data<std::int64_t>();  // (n)
  std::vector<float> rows;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    rows.insert(rows.end(), &boxes[4 * i], &boxes[4 * i] + 4);
    rows.push_back(scores[i]);
    rows.push_back(static_cast<float>(classes[i]));
  }
  return rows;
}

// Frame, id, left, top, width, height, score of every track that was matched.
void print(const Result& tracks) {
  const auto ids = tracks["ids"].data<std::int64_t>();        // (m)
  const auto frames = tracks["frames"].data<std::int64_t>();  // (m)
  const auto boxes = tracks["boxes"].data<float>();           // (m, 4), x1 y1 x2 y2
  const auto scores = tracks["scores"].data<float>();         // (m)
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double x1 = boxes[4 * i], y1 = boxes[4 * i + 1], x2 = boxes[4 * i + 2], y2 = boxes[4 * i + 3];
    std::printf("%lld,%lld,%.2f,%.2f,%.2f,%.2f,%.4g,-1,-1,-1\n", static_cast<long long>(frames[i]),
                static_cast<long long>(ids[i]), x1, y1, x2 - x1, y2 - y1, static_cast<double>(scores[i]));
  }
}

void track(const Arguments& arguments) {
  const mambasdk::Model model(arguments.names[0]);
  mambasdk::Pipeline detector(model);
  const std::string options = arguments.conf.empty() ? "" : R"({"score_threshold": )" + arguments.conf + "}";
  std::optional<Processor> tracker;
  std::int64_t before = 0;  // frames since the last that was looked at
  for (std::size_t number = 1; number < arguments.names.size(); ++number) {
    if ((number - 1) % static_cast<std::size_t>(arguments.every) != 0) continue;
    const std::string frame = read_file(arguments.names[number]);
    if (!tracker) tracker = make_tracker(arguments.motion, frame);
    std::vector<float> rows;
    try {
      rows = rows_of(detector.run({{"image", TensorRef::bytes(frame)}}, {.json = options}));
    } catch (const std::exception& error) {
      throw std::runtime_error(arguments.names[number] + ": " + error.what());
    }
    const auto count = static_cast<std::int64_t>(rows.size() / 6);
    std::vector<std::int64_t> frames(static_cast<std::size_t>(count), before);  // each detection's, from 0
    std::vector<std::int64_t> frame_count{before + 1};
    print(tracker->run({{"detections", TensorRef(std::span(rows), {count, 6})},
                        {"frames", TensorRef(std::span(frames), {count})},
                        {"frame_count", TensorRef(std::span(frame_count), {1})}}));
    before = arguments.every - 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    if (arguments.names.size() < 2) {
      std::cerr << "usage: track_cpp DETECTOR FRAME... --plugin LIBRARY... [--motion PACKAGE] [--conf SCORE] "
                   "[--every N]\n";
      return 2;
    }
    track(arguments);
  } catch (const std::exception& error) {
    std::cerr << "track_cpp: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
