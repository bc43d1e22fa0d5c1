// Two heads that run their model themselves, by the C++ helpers. heads.c and test_heads.py have the same ones.
#include <mambasdk/plugin.hpp>

namespace {

namespace plugin = mambasdk::plugin;
using mambasdk::TensorRef;

bool wants_failure(const plugin::Inputs& inputs) {
  return inputs.has("options") && inputs["options"].bytes().find("fail") != std::string_view::npos;
}

// The model three times, each on what it made before; x and y are f32 (1, L, C). With the option `fail` it gives up
// after the second.
class Thrice {
 public:
  static constexpr std::string_view kind = "abiheads_cpp_thrice";
  static constexpr std::string_view doc = "The model three times.";
  Thrice(std::string_view, std::string_view) {}
  void run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit) {
    plugin::StateChange change(calls_);
    ++*change;
    const auto shape = inputs["x"].shape();
    const auto x = inputs["x"].data<float>();
    std::vector<float> y(x.begin(), x.end());
    for (int i = 0; i < 3; ++i) {
      if (i == 2 && wants_failure(inputs)) plugin::invalid("gave up after the second run");
      const auto made = model.run({{"x", TensorRef(std::span(y), {shape.begin(), shape.end()})}}, {"y"});
      const auto values = made[0].data<float>();
      y.assign(values.begin(), values.end());
    }
    emit("y", std::move(y), {shape.begin(), shape.end()});
    emit.json("{\"calls\": " + std::to_string(*change) + "}");
    change.commit();
  }
  void reset() { calls_ = 0; }

 private:
  std::int64_t calls_ = 0;
};

// Windows of 4 every 2 steps, each from a zero state; where they overlap, the mean. The state is what it was.
struct Windows {
  static constexpr std::string_view kind = "abiheads_cpp_windows";
  static constexpr std::string_view doc = "The model on windows.";
  Windows(std::string_view, std::string_view) {}
  void attach(plugin::Model& model) {
    const auto inputs = model.inputs();
    if (inputs.size() != 1 || mambasdk::to_cpp(inputs[0].name) != "x" || inputs[0].ndim != 3) {
      plugin::fail(MAMBASDK_ERROR_UNSUPPORTED, "abiheads: another model");
    }
  }
  void run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit) {
    const auto shape = inputs["x"].shape();
    const auto x = inputs["x"].data<float>();
    const std::int64_t channels = shape[2];
    const std::vector<std::byte> before = model.save();
    std::vector<float> mean(x.size()), count(x.size());
    for (std::int64_t start = 0; start + 4 <= shape[1]; start += 2) {
      const auto at = static_cast<std::size_t>(start * channels);
      const auto size = static_cast<std::size_t>(4 * channels);
      model.reset();
      const auto made = model.run({{"x", TensorRef(x.subspan(at, size), {1, 4, channels})}}, {"y"});
      const auto y = made[0].data<float>();
      for (std::size_t i = 0; i < size; ++i) {
        mean[at + i] += y[i];
        count[at + i] += 1;
      }
    }
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] /= count[i];
    model.restore(before);
    emit("y", std::move(mean), {shape.begin(), shape.end()});
  }
};

}  // namespace

MAMBASDK_PLUGIN_MAIN("mambasdk-abiheads-cpp", "1.0.0", {}, [](plugin::Registrar& r) {
  r.head<Thrice>();
  r.head<Windows>();
});
